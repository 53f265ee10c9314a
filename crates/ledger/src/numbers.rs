//! Gives charges their numbers (`charge_seq`), away from settling: one process at a time, whichever comes first.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::types::Type;

use crate::{LedgerError, ledger::Shared, link::Backoff, settle::Chain};

/// How often each process looks for charges without a number.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many charges get theirs in one transaction.
const AT_ONCE: i32 = 10_000;
/// How many of those transactions follow one another before others may run.
const ROUNDS_MAX: u32 = 100;

/// Gives numbers by the clock. Never returns.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wait = Backoff::default();
    loop {
        look.tick().await;
        match number(&shared).await {
            Ok(()) => wait = Backoff::default(),
            Err(error) => {
                tracing::debug!(error = %Chain(&error), "ledger.numbers.waiting");
                wait.pause().await;
            }
        }
    }
}

async fn number(shared: &Shared) -> Result<(), LedgerError> {
    for _ in 0..ROUNDS_MAX {
        if ask(shared, NUMBER).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Forgets the numbers of charges that were dropped.
pub(crate) async fn sweep(shared: &Shared) -> Result<(), LedgerError> {
    while ask(shared, SWEEP).await? == AT_ONCE {}
    Ok(())
}

async fn ask(shared: &Shared, statement: &str) -> Result<i32, LedgerError> {
    let rows = shared.query(statement, &[(&AT_ONCE, Type::INT4)]).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.try_get(0))?)
}

const NUMBER: &str = "select turnpike.number_charges($1)";
const SWEEP: &str = "select turnpike.sweep_charge_seq($1)";
