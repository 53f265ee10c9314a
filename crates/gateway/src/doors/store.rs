//! What front doors want kept, in the ledger.

use std::{sync::Arc, time::Duration};

use fronts::{Away, BoxFuture, Caller, Left, Store, Used};
use ledger::{AccountId, Ledger, LedgerError, TokenId};
use tracing::warn;
use uuid::Uuid;

use super::{Doorway, away};

type Told<'a, T> = BoxFuture<'a, Result<T, Away>>;

/// Waits for the ledger; that it does not answer is logged here.
fn told<'a, T: 'a>(asked: impl Future<Output = Result<T, LedgerError>> + Send + 'a) -> Told<'a, T> {
    Box::pin(async move { asked.await.map_err(|error| away(&error)) })
}

impl Doorway {
    fn ledger(&self) -> &Ledger {
        &self.worker.gateway.ledger
    }
}

impl Store for Doorway {
    fn used_of_late(&self, caller: Caller, days: i32, rows_max: i64) -> Told<'_, Vec<Used>> {
        told(async move {
            let token = TokenId(caller.token);
            let rows = self.ledger().used_of_late(token, days, rows_max).await?;
            let used = rows.into_iter().map(|row| Used {
                remote_id: row.remote_id,
                model: row.model,
                total_tokens: row.total_tokens,
                price: row.price.to_string(),
                timestamp: row.at_s,
            });
            Ok(used.collect())
        })
    }

    fn begin_or_make(
        &self,
        caller: Caller,
        name: fronts::DialogName,
        lease: Duration,
    ) -> Told<'_, fronts::TurnStart> {
        told(async move {
            let token = TokenId(caller.token);
            let start = self.ledger().begin_or_make(token, row(name), lease).await?;
            Ok(start_of(start))
        })
    }

    fn begin(
        &self,
        name: fronts::DialogName,
        idle: Duration,
        lease: Duration,
    ) -> Told<'_, fronts::TurnStart> {
        told(async move {
            let start = self.ledger().begin(row(name), idle, lease).await?;
            Ok(start_of(start))
        })
    }

    fn keep_turn(&self, dialog: i64, turn: u128, lease: Duration) -> Told<'_, bool> {
        told(
            self.ledger()
                .keep_turn(dialog, Uuid::from_u128(turn), lease),
        )
    }

    fn end_turn(&self, dialog: i64, turn: u128, content: Vec<u8>) -> Told<'_, bool> {
        told(async move {
            self.ledger()
                .end_turn(dialog, Uuid::from_u128(turn), &content)
                .await
        })
    }

    fn abandon_turn(&self, dialog: i64, turn: u128) -> Told<'_, ()> {
        told(self.ledger().abandon_turn(dialog, Uuid::from_u128(turn)))
    }

    fn abandon_turn_soon(&self, dialog: i64, turn: u128) {
        let gateway = Arc::clone(&self.worker.gateway);
        self.worker.gateway.control.spawn(async move {
            let abandoned = gateway.ledger.abandon_turn(dialog, Uuid::from_u128(turn));
            if let Err(error) = abandoned.await {
                warn!(%error, "dialog.not_abandoned: its next turn waits until this one's lease is over");
            }
        });
    }

    fn dialog(&self, caller: Caller, name: fronts::DialogName) -> Told<'_, Option<Vec<u8>>> {
        told(self.ledger().dialog(TokenId(caller.token), row(name)))
    }

    fn make_dialog(
        &self,
        caller: Caller,
        name: fronts::DialogName,
        content: Vec<u8>,
        most: i64,
        idle: Duration,
    ) -> Told<'_, bool> {
        told(async move {
            let token = TokenId(caller.token);
            let made = self
                .ledger()
                .make_dialog(token, row(name), &content, most, idle);
            made.await
        })
    }

    fn delete_dialog(
        &self,
        caller: Option<Caller>,
        name: fronts::DialogName,
        idle: Duration,
    ) -> Told<'_, bool> {
        let token = caller.map(|caller| TokenId(caller.token));
        told(self.ledger().delete_dialog(token, row(name), idle))
    }

    fn start_cooldown(
        &self,
        caller: Caller,
        version: i16,
        cooldown: Duration,
    ) -> Told<'_, Option<u64>> {
        let token = TokenId(caller.token);
        told(self.ledger().start_cooldown(token, version, cooldown))
    }

    fn end_cooldown(&self, caller: Caller, version: i16) -> Told<'_, ()> {
        told(self.ledger().end_cooldown(TokenId(caller.token), version))
    }

    fn is_admin(&self, caller: Caller) -> Told<'_, bool> {
        told(self.ledger().is_resale_admin(TokenId(caller.token)))
    }

    fn user<'a>(&'a self, caller: Caller, name: &'a str) -> Told<'a, Option<Caller>> {
        told(async move {
            let account = AccountId(caller.account);
            Ok(self
                .ledger()
                .resale_user(account, name)
                .await?
                .map(caller_of))
        })
    }

    fn left(&self, caller: Caller) -> Told<'_, Left> {
        told(async move {
            let budgets = self.ledger().budgets(TokenId(caller.token)).await?;
            let (prompt, completion) = budgets.left();
            Ok(Left { prompt, completion })
        })
    }

    fn issue_user<'a>(&'a self, admin: Caller, name: &'a str, left: Left) -> Told<'a, i64> {
        told(async move {
            let admin = TokenId(admin.token);
            let user = self
                .ledger()
                .issue_resale_user(admin, name, left.prompt, left.completion);
            Ok(user.await?.0)
        })
    }

    fn set_left<'a>(&'a self, admin: Caller, name: &'a str, left: Left) -> Told<'a, bool> {
        told(self.ledger().set_resale_left(
            TokenId(admin.token),
            name,
            left.prompt,
            left.completion,
        ))
    }
}

const fn row(name: fronts::DialogName) -> ledger::DialogName {
    ledger::DialogName {
        door: name.door,
        digest: name.digest,
    }
}

fn caller_of(payer: ledger::Payer) -> Caller {
    Caller {
        token: payer.token.0,
        account: payer.account.0,
        digest: payer.digest,
    }
}

fn start_of(start: ledger::TurnStart) -> fronts::TurnStart {
    match start {
        ledger::TurnStart::Begun(turn) => fronts::TurnStart::Begun(fronts::Turn {
            dialog: turn.dialog,
            id: turn.id.as_u128(),
            payer: caller_of(turn.payer),
            content: turn.content,
        }),
        ledger::TurnStart::Busy => fronts::TurnStart::Busy,
        ledger::TurnStart::Absent => fronts::TurnStart::Absent,
    }
}
