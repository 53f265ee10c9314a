//! What processes that died have left: their journals are replayed, their open exchanges settled, their leases given back.
//!
//! On this machine at the start, from the black boxes under the data directory: exact, since the flight recorder says which
//! exchanges were open and how far they were. And by any process, from the rows in Postgres, once the dead one has been
//! silent for longer than its leases last.

use std::{
    borrow::Cow,
    collections::HashSet,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tariff::{Amount, Buckets, Flags, PriceId};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tokio_postgres::{Row, types::Type};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    AccountId, Charge, End, InstanceId, LedgerError, Mark, Means, TokenId, UpstreamId,
    UpstreamKeyId,
    blackbox::{BlackBox, Orphan},
    ledger::Shared,
    recorder::Left,
    settle::{Chain, Job, Sender, replay_all, settle_all, tell_damage},
};

/// What becomes of the open exchanges of a process that died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orphans {
    /// They are charged what is known to have been used, marked `interrupted`.
    #[default]
    Charge,
    /// They cost nothing.
    Void,
}

/// Settles what dead processes of this machine have left under `data_dir`.
///
/// # Errors
/// When Postgres does not answer: what is left stays for the next start.
pub(crate) async fn from_disk(
    data_dir: &Path,
    orphans: Orphans,
    shared: &Shared,
    sender: &mut Sender,
) -> Result<(), LedgerError> {
    let dir = data_dir.to_owned();
    let found = spawn_blocking(move || BlackBox::orphans(&dir)).await;
    let found = match found {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            return Err(
                LedgerError::config("what earlier processes left cannot be read").because(error),
            );
        }
        Err(error) => {
            return Err(
                LedgerError::unavailable("reading the data directory failed").because(error),
            );
        }
    };
    for orphan in found {
        match orphan {
            Ok(orphan) => {
                if let Err(error) = settle_orphan(orphan, orphans, shared, sender).await {
                    // Its box stays for the next start, and the reaper has its rows.
                    tracing::error!(error = %Chain(&error), "ledger.recover.failed");
                }
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "ledger.blackbox.unreadable: what a dead process left stays where it is");
            }
        }
    }
    Ok(())
}

async fn settle_orphan(
    mut orphan: Orphan,
    orphans: Orphans,
    shared: &Shared,
    sender: &mut Sender,
) -> Result<(), LedgerError> {
    tell_damage(&orphan.damage);
    let replayed = replay_all(&mut orphan.journal, sender).await?;
    let corrupt = orphan.remains.corrupt;
    if corrupt > 0 {
        tracing::error!(
            slots = corrupt,
            "ledger.recorder.damaged: open exchanges of a dead process cannot be read; their holds in Postgres are settled instead"
        );
    }
    let Some(instance) = orphan.instance else {
        // It died before it was known to Postgres, so nothing was ever leased to it.
        return remove(orphan).await;
    };
    let open = orphan.remains.left.len();
    let mut refused = Vec::new();
    let parked = parked(
        instance,
        orphan.remains.left.iter().map(|left| left.opening.exchange),
        shared,
    )
    .await?;
    if orphans == Orphans::Charge {
        let left = orphan.remains.left.iter();
        let left = left.filter(|left| !parked.contains(&left.opening.exchange));
        let jobs = left.map(|left| interrupted(instance, left)).collect();
        refused = settle_all(jobs, sender).await?;
        shared
            .gauges
            .interrupted
            .fetch_add(u64::try_from(open).unwrap_or(u64::MAX), Relaxed);
    }
    // Whatever else Postgres has of it was over: the recorder has every exchange that was not. But a machine that lost its power
    // lost what of the recorder was not yet on its disk.
    if corrupt == 0 && orphan.is_of_this_boot {
        shared
            .execute(
                FORGET,
                &[(&instance.0, Type::INT8), (&refused, Type::UUID_ARRAY)],
            )
            .await?;
    } else {
        settle_rows(instance, orphans, shared, sender).await?;
    }
    shared.execute(BURY, &[(&instance.0, Type::INT8)]).await?;
    tracing::warn!(%instance, replayed, open, ?orphans, "ledger.recovered: a process died here; its journal is replayed, its open exchanges are settled, its leases returned");
    remove(orphan).await
}

async fn remove(orphan: Orphan) -> Result<(), LedgerError> {
    match spawn_blocking(move || orphan.remove()).await {
        Ok(Ok(())) => {}
        // The next start settles it again, which changes nothing.
        Ok(Err(error)) => {
            tracing::warn!(error = %Chain(&error), "ledger.blackbox.kept: what a dead process left is settled and could not be deleted");
        }
        Err(error) => tracing::warn!(%error, "ledger.blackbox.kept"),
    }
    Ok(())
}

/// Looks for the dead in Postgres, for as long as the ledger lives.
pub(crate) async fn reap(
    shared: Arc<Shared>,
    orphans: Orphans,
    lease: Duration,
    mut sender: Sender,
    gone: CancellationToken,
) {
    let mut look = interval(lease / 4);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = gone.cancelled() => return,
        }
        if !shared.purses.is_unbroken(lease) {
            continue;
        }
        if let Err(error) = bury_all(&shared, orphans, &mut sender).await {
            tracing::warn!(error = %Chain(&error), "ledger.reap.failed: the dead are looked for again");
        }
    }
}

async fn bury_all(
    shared: &Shared,
    orphans: Orphans,
    sender: &mut Sender,
) -> Result<(), LedgerError> {
    let caller = shared.purses.instance();
    for row in shared.query(DEAD, &[(&caller.0, Type::INT8)]).await? {
        let instance = InstanceId(row.try_get(0)?);
        let open = settle_rows(instance, orphans, shared, sender).await?;
        shared.execute(BURY, &[(&instance.0, Type::INT8)]).await?;
        tracing::warn!(%instance, open, ?orphans, "ledger.buried: a process is gone; its open exchanges are settled, its leases returned");
    }
    Ok(())
}

/// Settles what stands in `turnpike.hold`. Returns how many exchanges.
async fn settle_rows(
    instance: InstanceId,
    orphans: Orphans,
    shared: &Shared,
    sender: &mut Sender,
) -> Result<usize, LedgerError> {
    let (mut open, mut refused) = (0_usize, Vec::new());
    if orphans == Orphans::Charge {
        let rows = shared.query(HOLDS, &[(&instance.0, Type::INT8)]).await?;
        let mut jobs: Vec<_> = rows
            .iter()
            .map(|row| job_of(instance, row))
            .collect::<Result<_, _>>()?;
        let exchanges = jobs.iter().map(|job: &Job| job.exchange);
        let parked = parked(instance, exchanges, shared).await?;
        jobs.retain(|job| !parked.contains(&job.exchange));
        open = jobs.len();
        refused = settle_all(jobs, sender).await?;
        shared
            .gauges
            .interrupted
            .fetch_add(u64::try_from(open).unwrap_or(u64::MAX), Relaxed);
    }
    shared
        .execute(
            FORGET,
            &[(&instance.0, Type::INT8), (&refused, Type::UUID_ARRAY)],
        )
        .await?;
    Ok(open)
}

/// Which of a dead process' open exchanges are jobs by now, so that they are settled as such. Its row is marked first: whoever would still
/// park one of its exchanges then finds that it is dead.
async fn parked(
    instance: InstanceId,
    exchanges: impl Iterator<Item = Uuid>,
    shared: &Shared,
) -> Result<HashSet<Uuid>, LedgerError> {
    let exchanges: Vec<_> = exchanges.collect();
    if exchanges.is_empty() {
        return Ok(HashSet::new());
    }
    shared.execute(MARK, &[(&instance.0, Type::INT8)]).await?;
    let rows = shared
        .query(PARKED, &[(&exchanges, Type::UUID_ARRAY)])
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The charge for what a recorded exchange is known to have used.
fn interrupted(instance: InstanceId, left: &Left) -> Job {
    let opening = &left.opening;
    let held = Means {
        money: Amount::from_nano(opening.hold_nano.max(0)),
        prompt: opening.prompt_tokens_bound,
        completion: opening.completion_tokens_bound,
    };
    let (input, output) = (
        opening.input_tokens_estimate.min(held.prompt),
        left.progress.output_tokens_seen.min(held.completion),
    );
    let known = tariff::text_cost((input, opening.in_rate), (output, opening.out_rate));
    let amount = known
        .filter(|_| !opening.whole)
        .unwrap_or(held.money)
        .min(held.money);
    let charge = Charge {
        buckets: Buckets {
            in_text: input,
            out_text: output,
            ..Buckets::default()
        },
        upstream: opening.upstream.map(UpstreamId),
        upstream_key: opening.upstream_key.map(UpstreamKeyId),
        stream: opening.stream,
        status: left.progress.status,
        ..blank(
            amount,
            PriceId(opening.price),
            opening.model.to_string(),
            opening.endpoint.to_string(),
            opening.started_at_ms,
        )
    };
    let whose = (
        opening.exchange,
        TokenId(opening.token),
        AccountId(opening.account),
    );
    Job::new(instance, whose, held, Box::new(charge), None)
}

fn job_of(instance: InstanceId, row: &Row) -> Result<Job, LedgerError> {
    let count = |index| -> Result<u64, LedgerError> {
        Ok(u64::try_from(row.try_get::<_, i64>(index)?).unwrap_or_default())
    };
    let held = Means {
        money: Amount::from_nano(row.try_get(3)?),
        prompt: count(4)?,
        completion: count(5)?,
    };
    let charge = Charge {
        stream: row.try_get(11)?,
        upstream: row.try_get::<_, Option<i64>>(12)?.map(UpstreamId),
        upstream_key: row.try_get::<_, Option<i64>>(13)?.map(UpstreamKeyId),
        ..blank(
            Amount::from_nano(row.try_get(6)?),
            PriceId(row.try_get(7)?),
            row.try_get(8)?,
            row.try_get(9)?,
            row.try_get(10)?,
        )
    };
    let whose = (
        row.try_get(0)?,
        TokenId(row.try_get(1)?),
        AccountId(row.try_get(2)?),
    );
    Ok(Job::new(instance, whose, held, Box::new(charge), None))
}

/// A charge of which only the amount is known.
pub(crate) fn blank(
    amount: Amount,
    price: PriceId,
    model: String,
    endpoint: String,
    started_at_ms: i64,
) -> Charge {
    Charge {
        price,
        amount,
        mark: Mark::Interrupted,
        model_requested: model,
        model_answered: None,
        endpoint: Cow::Owned(endpoint),
        service_tier: None,
        stream: false,
        buckets: Buckets::default(),
        usage_raw: None,
        flags: Flags::default(),
        provider_cost: None,
        status: 0,
        end: End::Failed,
        upstream: None,
        upstream_key: None,
        response_id: None,
        key: None,
        object: None,
        started_at_ms,
        head_after_ms: None,
        first_byte_after_ms: None,
        ended_after_ms: 0,
    }
}

const MARK: &str =
    "update turnpike.instance set buried_at = coalesce(buried_at, now()) where id = $1";
const PARKED: &str = "select exchange_id from turnpike.job where exchange_id = any ($1)";
const DEAD: &str = "select instance from turnpike.find_dead($1)";
const BURY: &str = "select turnpike.bury_instance($1)";
// But for those whose charge Postgres refuses: they are left for people.
const FORGET: &str =
    "delete from turnpike.hold where instance_id = $1 and not exchange_id = any ($2)";
// Rows of a version that did not say the price cannot be charged.
const HOLDS: &str = "
    select exchange_id, token_id, account_id, amount, prompt, completion, estimate, price_id, model, endpoint,
           floor(extract(epoch from started_at) * 1000)::bigint, stream, upstream_id, upstream_key_id
      from turnpike.hold where instance_id = $1 and price_id is not null order by exchange_id";
