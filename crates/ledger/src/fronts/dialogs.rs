//! Dialogs: who has the turn, and what was said.
//!
//! Turns of one dialog follow one another. What a turn needs between its two statements is not a lock, which would keep a
//! connection for as long as a model thinks, but a lease that says until when the dialog is taken. Who has it says so
//! again while he works; of one who died nothing is heard, and the next turn takes over.

use std::time::Duration;

use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::Payer;
use crate::{AccountId, Ledger, LedgerError, TokenId};

/// Names a dialog: its door, and the SHA-256 of what its caller calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DialogName {
    /// `resale` or `chatbot`.
    pub door: &'static str,
    /// The digest.
    pub digest: [u8; 32],
}

/// A turn that has its dialog.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The dialog's row.
    pub dialog: i64,
    /// This turn.
    pub id: Uuid,
    /// Who pays: the dialog's access token.
    pub payer: Payer,
    /// What was said so far; `None` in a new dialog.
    pub content: Option<Vec<u8>>,
}

/// What asking for a turn came to.
#[derive(Clone, Debug)]
pub enum TurnStart {
    /// It has the dialog.
    Begun(Turn),
    /// Another turn has it.
    Busy,
    /// There is no such dialog.
    Absent,
}

impl Ledger {
    /// Asks for a turn in a token's dialog, which begins with it if there is none.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn begin_or_make(
        &self,
        token: TokenId,
        name: DialogName,
        lease: Duration,
    ) -> Result<TurnStart, LedgerError> {
        let id = Uuid::now_v7();
        let rows = self
            .query(
                BEGIN_OR_MAKE,
                &[
                    (&token.0, Type::INT8),
                    (&name.door, Type::TEXT),
                    (&name.digest.as_slice(), Type::BYTEA),
                    (&id, Type::UUID),
                    (&millis(lease), Type::INT8),
                ],
            )
            .await?;
        match rows.first() {
            Some(row) => Ok(TurnStart::Begun(begun(row, id)?)),
            None => Ok(TurnStart::Busy),
        }
    }

    /// Asks for a turn in a dialog that is there and was used within `idle`, whosever it is: its name is a secret.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn begin(
        &self,
        name: DialogName,
        idle: Duration,
        lease: Duration,
    ) -> Result<TurnStart, LedgerError> {
        let id = Uuid::now_v7();
        let rows = self
            .query(
                BEGIN,
                &[
                    (&name.door, Type::TEXT),
                    (&name.digest.as_slice(), Type::BYTEA),
                    (&id, Type::UUID),
                    (&millis(lease), Type::INT8),
                    (&millis(idle), Type::INT8),
                ],
            )
            .await?;
        let Some(row) = rows.first() else {
            return Ok(TurnStart::Absent);
        };
        // The row that was found is there with or without the turn: Postgres says which.
        if row.try_get::<_, bool>(5)? {
            Ok(TurnStart::Begun(begun(row, id)?))
        } else {
            Ok(TurnStart::Busy)
        }
    }

    /// Says that a turn is still under way. `false`: another has taken the dialog, or it is gone.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn keep_turn(
        &self,
        dialog: i64,
        turn: Uuid,
        lease: Duration,
    ) -> Result<bool, LedgerError> {
        let rows = self
            .query(
                KEEP,
                &[
                    (&dialog, Type::INT8),
                    (&turn, Type::UUID),
                    (&millis(lease), Type::INT8),
                ],
            )
            .await?;
        Ok(!rows.is_empty())
    }

    /// Ends a turn with what has now been said. `false`: it no longer had the dialog, and nothing was kept.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn end_turn(
        &self,
        dialog: i64,
        turn: Uuid,
        content: &[u8],
    ) -> Result<bool, LedgerError> {
        let rows = self
            .query(
                END,
                &[
                    (&dialog, Type::INT8),
                    (&turn, Type::UUID),
                    (&content, Type::BYTEA),
                ],
            )
            .await?;
        Ok(!rows.is_empty())
    }

    /// Ends a turn that failed: the dialog is as it was, and one that began with it is gone.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn abandon_turn(&self, dialog: i64, turn: Uuid) -> Result<(), LedgerError> {
        self.query(ABANDON, &[(&dialog, Type::INT8), (&turn, Type::UUID)])
            .await
            .map(drop)
    }

    /// What was said in a token's dialog.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn dialog(
        &self,
        token: TokenId,
        name: DialogName,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let rows = self
            .query(
                READ,
                &[
                    (&token.0, Type::INT8),
                    (&name.door, Type::TEXT),
                    (&name.digest.as_slice(), Type::BYTEA),
                ],
            )
            .await?;
        match rows.first() {
            Some(row) => Ok(row.try_get(0)?),
            None => Ok(None),
        }
    }

    /// Makes a dialog, unless the token has `most` already that were used within `idle`. Returns whether it did.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn make_dialog(
        &self,
        token: TokenId,
        name: DialogName,
        content: &[u8],
        most: i64,
        idle: Duration,
    ) -> Result<bool, LedgerError> {
        let rows = self
            .query(
                MAKE,
                &[
                    (&token.0, Type::INT8),
                    (&name.door, Type::TEXT),
                    (&name.digest.as_slice(), Type::BYTEA),
                    (&content, Type::BYTEA),
                    (&most, Type::INT8),
                    (&millis(idle), Type::INT8),
                ],
            )
            .await?;
        Ok(rows.first().ok_or_else(LedgerError::row)?.try_get(0)?)
    }

    /// Deletes a dialog, whosever it is unless `token` says; returns whether there was one.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn delete_dialog(
        &self,
        token: Option<TokenId>,
        name: DialogName,
        idle: Duration,
    ) -> Result<bool, LedgerError> {
        let rows = self
            .query(
                DELETE,
                &[
                    (&token.map(|token| token.0), Type::INT8),
                    (&name.door, Type::TEXT),
                    (&name.digest.as_slice(), Type::BYTEA),
                    (&millis(idle), Type::INT8),
                ],
            )
            .await?;
        Ok(!rows.is_empty())
    }

    /// Deletes what was not used for so long, or belongs to a token that has expired; returns how many dialogs that were.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn sweep_dialogs(&self, door: &str, retention: Duration) -> Result<u64, LedgerError> {
        let rows = self
            .query(
                SWEEP,
                &[(&door, Type::TEXT), (&millis(retention), Type::INT8)],
            )
            .await?;
        Ok(rows.len() as u64)
    }

    /// Starts a token's cooldown, unless one is running: then its milliseconds left.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn start_cooldown(
        &self,
        token: TokenId,
        version: i16,
        cooldown: Duration,
    ) -> Result<Option<u64>, LedgerError> {
        let rows = self
            .query(
                COOL,
                &[
                    (&token.0, Type::INT8),
                    (&version, Type::INT2),
                    (&millis(cooldown), Type::INT8),
                ],
            )
            .await?;
        let row = rows.first().ok_or_else(LedgerError::row)?;
        Ok(row
            .try_get::<_, Option<i64>>(0)?
            .map(|left| u64::try_from(left).unwrap_or(0)))
    }

    /// Takes a cooldown back: the call it was for has failed.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn end_cooldown(&self, token: TokenId, version: i16) -> Result<(), LedgerError> {
        self.query(WARM, &[(&token.0, Type::INT8), (&version, Type::INT2)])
            .await
            .map(drop)
    }
}

fn begun(row: &Row, id: Uuid) -> Result<Turn, LedgerError> {
    Ok(Turn {
        dialog: row.try_get(0)?,
        id,
        payer: Payer {
            token: TokenId(row.try_get(1)?),
            account: AccountId(row.try_get(2)?),
            digest: row
                .try_get::<_, &[u8]>(3)?
                .try_into()
                .map_err(|_| LedgerError::row())?,
        },
        content: row.try_get(4)?,
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

const BEGIN_OR_MAKE: &str = "
    with taken as (
      insert into turnpike.dialog as d (token_id, door, name, turn, turn_until)
      values ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 ms')
      on conflict on constraint dialog_name_unique do update
         set turn = excluded.turn, turn_until = excluded.turn_until, touched_at = now()
       where d.turn_until is null or d.turn_until < clock_timestamp()
      returning d.id, d.token_id, d.content
    )
    select x.id, x.token_id, t.account_id, t.sha256, x.content
      from taken as x join turnpike.access_token as t on t.id = x.token_id";

// The lock makes the row current before it is judged: of two that ask at once one waits and then sees the other's turn.
const BEGIN: &str = "
    with found as (
      select d.id, d.token_id, d.content, (d.turn_until is null or d.turn_until < clock_timestamp()) as free
        from turnpike.dialog as d
       where d.door = $1 and d.name = $2 and d.touched_at > now() - $5 * interval '1 ms'
         for no key update
    ), taken as (
      update turnpike.dialog as d
         set turn = $3, turn_until = clock_timestamp() + $4 * interval '1 ms', touched_at = now()
        from found as f where d.id = f.id and f.free
    )
    select f.id, f.token_id, t.account_id, t.sha256, f.content, f.free
      from found as f join turnpike.access_token as t on t.id = f.token_id";

const KEEP: &str = "
    update turnpike.dialog set turn_until = clock_timestamp() + $3 * interval '1 ms', touched_at = now()
     where id = $1 and turn = $2 returning id";

const END: &str = "
    update turnpike.dialog set turn = null, turn_until = null, touched_at = now(), content = $3
     where id = $1 and turn = $2 returning id";

const ABANDON: &str = "
    with gone as (delete from turnpike.dialog where id = $1 and turn = $2 and content is null)
    update turnpike.dialog set turn = null, turn_until = null where id = $1 and turn = $2 and content is not null";

const READ: &str =
    "select content from turnpike.dialog where token_id = $1 and door = $2 and name = $3";

const MAKE: &str = "select turnpike.make_dialog($1, $2, $3, $4, $5, $6)";

const DELETE: &str = "
    delete from turnpike.dialog
     where door = $2 and name = $3 and ($1::bigint is null or token_id = $1) and touched_at > now() - $4 * interval '1 ms'
    returning id";

const SWEEP: &str = "
    delete from turnpike.dialog as d
     where d.door = $1
       and (d.turn_until is null or d.turn_until < now())
       and (d.touched_at < now() - $2 * interval '1 ms'
            or exists (select from turnpike.access_token as t where t.id = d.token_id and t.expires_at < now()))
    returning id";

const COOL: &str = "select turnpike.start_cooldown($1, $2, $3)";

const WARM: &str = "delete from turnpike.chatbot_cooldown where token_id = $1 and version = $2";
