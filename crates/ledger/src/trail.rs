//! The trail of open exchanges in `turnpike.hold`: written in the background, so that another process finds them should this
//! one and its disk be gone.
//!
//! One task writes and deletes, so that a row cannot come after its end. An exchange that is over within
//! [`WRITTEN_AFTER`] leaves no row at all, which spares Postgres most of them; on this disk it is in the flight recorder.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tariff::Amount;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::{
    HoldRequest, InstanceId, LedgerError, TokenId,
    link::{Backoff, Link},
    settle::{Chain, clean},
};

/// What is to be written. Bounded by the exchanges that may be open.
pub(crate) struct Trail {
    state: Mutex<State>,
    stirred: Notify,
}

#[derive(Default)]
struct State {
    fresh: HashMap<Uuid, Row>,
    written: HashSet<Uuid>,
    /// Those of `written` that are over.
    ended: Vec<Uuid>,
    /// Whose rows they are: this process, as it is registered now.
    instance: Option<InstanceId>,
    is_closing: bool,
}

/// A row of `turnpike.hold`.
struct Row {
    instance: InstanceId,
    request: HoldRequest,
    estimate: Amount,
}

impl Trail {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            stirred: Notify::new(),
        })
    }

    /// An exchange has begun.
    pub(crate) fn began(&self, instance: InstanceId, request: &HoldRequest) {
        let evidence = &request.evidence;
        let known = tariff::text_cost(
            (evidence.input_tokens, evidence.input_rate),
            (0, evidence.output_rate),
        );
        let held = request.means.money;
        let estimate = known.filter(|_| !evidence.whole).unwrap_or(held).min(held);
        let row = Row {
            instance,
            request: request.clone(),
            estimate,
        };
        let was_still = {
            let mut state = self.state();
            state.instance = Some(instance);
            state.fresh.insert(request.exchange, row);
            state.fresh.len() == 1
        };
        if was_still {
            self.stirred.notify_one();
        }
    }

    /// It is over.
    pub(crate) fn ended(&self, exchange: Uuid) {
        let mut state = self.state();
        if state.fresh.remove(&exchange).is_none() && state.written.remove(&exchange) {
            state.ended.push(exchange);
            let was_still = state.ended.len() == 1;
            drop(state);
            if was_still {
                self.stirred.notify_one();
            }
        }
    }

    /// What could not be written is to be written later, unless it is over.
    fn again(&self, rows: impl Iterator<Item = Row>) {
        let mut state = self.state();
        for row in rows {
            if state.written.remove(&row.request.exchange) {
                state.fresh.insert(row.request.exchange, row);
            }
        }
    }

    /// Whether an exchange's row stands for something that goes on here, or is about to be deleted anyway.
    fn knows(&self, exchange: &Uuid) -> bool {
        let state = self.state();
        state.written.contains(exchange) || state.ended.contains(exchange)
    }

    /// Writes what there is and ends.
    pub(crate) fn close(&self) {
        self.state().is_closing = true;
        self.stirred.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes until the trail is closed.
pub(crate) async fn run(trail: Arc<Trail>, mut link: Link) {
    let mut swept = Instant::now();
    loop {
        tokio::select! {
            () = trail.stirred.notified() => {}
            () = link.keep() => {}
            () = sleep_until(swept + SWEPT_EVERY) => {}
        }
        if swept.elapsed() >= SWEPT_EVERY {
            sweep(&trail, &mut link).await;
            swept = Instant::now();
        }
        sleep(WRITTEN_AFTER).await;
        loop {
            let (rows, ended, is_closing) = {
                let mut state = trail.state();
                let keys: Vec<_> = state.fresh.keys().take(GROUP_MAX).copied().collect();
                let mut rows = Vec::with_capacity(keys.len());
                for key in keys {
                    rows.extend(state.fresh.remove(&key));
                    state.written.insert(key);
                }
                (rows, mem::take(&mut state.ended), state.is_closing)
            };
            if rows.is_empty() && ended.is_empty() {
                if is_closing {
                    return;
                }
                break;
            }
            write(&trail, &mut link, rows).await;
            delete(&mut link, &ended).await;
        }
    }
}

/// Writes rows. Those of a token that somebody keeps locked (an edit left open in psql) wait, and keep nobody else waiting.
async fn write(trail: &Trail, link: &mut Link, rows: Vec<Row>) {
    let mut parts = vec![rows];
    while let Some(part) = parts.pop() {
        if part.is_empty() || insert(link, &part).await {
            continue;
        }
        let mut tokens: HashMap<TokenId, Vec<Row>> = HashMap::new();
        for row in part {
            tokens.entry(row.request.token).or_default().push(row);
        }
        if tokens.len() > 1 {
            parts.extend(tokens.into_values());
        } else {
            trail.again(tokens.into_values().flatten());
            sleep(WRITTEN_AFTER).await;
        }
    }
}

/// Whether they are written, or never will be; not while somebody keeps a token locked.
async fn insert(link: &mut Link, rows: &[Row]) -> bool {
    let each = |of: fn(&Row) -> i64| rows.iter().map(of).collect::<Vec<_>>();
    let exchanges: Vec<_> = rows.iter().map(|it| it.request.exchange).collect();
    let tokens = each(|it| it.request.token.0);
    let accounts = each(|it| it.request.account.0);
    let instances = each(|it| it.instance.0);
    let amounts = each(|it| it.request.means.money.nano());
    let prompts = each(|it| i64::try_from(it.request.means.prompt).unwrap_or(i64::MAX));
    let completions = each(|it| i64::try_from(it.request.means.completion).unwrap_or(i64::MAX));
    let estimates = each(|it| it.estimate.nano());
    let prices = each(|it| it.request.evidence.price.0);
    let started = each(|it| it.request.evidence.started_at_ms);
    let streams: Vec<_> = rows.iter().map(|it| it.request.evidence.stream).collect();
    let upstreams: Vec<_> = rows
        .iter()
        .map(|it| it.request.evidence.upstream.map(|it| it.0))
        .collect();
    let keys: Vec<_> = rows
        .iter()
        .map(|it| it.request.evidence.upstream_key.map(|it| it.0))
        .collect();
    let models: Vec<_> = rows
        .iter()
        .map(|it| clean(&it.request.evidence.model))
        .collect();
    let endpoints: Vec<_> = rows
        .iter()
        .map(|it| clean(&it.request.evidence.endpoint))
        .collect();
    persist(
        link,
        WRITE,
        &[
            (&exchanges, Type::UUID_ARRAY),
            (&tokens, Type::INT8_ARRAY),
            (&accounts, Type::INT8_ARRAY),
            (&instances, Type::INT8_ARRAY),
            (&amounts, Type::INT8_ARRAY),
            (&prompts, Type::INT8_ARRAY),
            (&completions, Type::INT8_ARRAY),
            (&estimates, Type::INT8_ARRAY),
            (&prices, Type::INT8_ARRAY),
            (&started, Type::INT8_ARRAY),
            (&streams, Type::BOOL_ARRAY),
            (&upstreams, Type::INT8_ARRAY),
            (&keys, Type::INT8_ARRAY),
            (&models, Type::TEXT_ARRAY),
            (&endpoints, Type::TEXT_ARRAY),
        ],
    )
    .await
}

async fn delete(link: &mut Link, ended: &[Uuid]) {
    if !ended.is_empty() {
        let _ = persist(link, DELETE, &[(&ended, Type::UUID_ARRAY)]).await;
    }
}

/// Deletes rows of this process that stand for nothing. Rows are deleted without waiting for the disk, so a crash of Postgres can bring
/// back the row of an exchange that was released; whoever took this process for dead later would charge for it.
async fn sweep(trail: &Trail, link: &mut Link) {
    let Some(instance) = trail.state().instance else {
        return;
    };
    // Nobody else writes rows of this process, and no row is written while this runs. Without an answer the next sweep asks again.
    let Ok(rows) = link.query(OURS, &[(&instance.0, Type::INT8)]).await else {
        return;
    };
    let all = rows.iter().filter_map(|row| row.try_get::<_, Uuid>(0).ok());
    let stale: Vec<_> = all.filter(|exchange| !trail.knows(exchange)).collect();
    if !stale.is_empty() {
        tracing::warn!(
            rows = stale.len(),
            "ledger.trail.swept: exchanges that are over had come back, as after a crash of Postgres"
        );
        delete(link, &stale).await;
    }
}

/// Both statements may be repeated. One that is refused for good is not worth stopping for: it is evidence, not money.
async fn persist(link: &mut Link, statement: &str, params: crate::connect::Params<'_>) -> bool {
    let mut wait = Backoff::default();
    loop {
        match link.query(statement, params).await {
            Ok(_) => return true,
            Err(error) if error.is_locked() => return false,
            Err(error) if error.is_unavailable() => wait.pause().await,
            Err(error) => {
                refused(&error);
                return true;
            }
        }
    }
}

fn refused(error: &LedgerError) {
    tracing::error!(error = %Chain(error), "ledger.trail.refused: open exchanges leave no evidence in Postgres");
}

// One that was charged meanwhile, by whoever took this process for dead, leaves no row.
const WRITE: &str = "
    with off as (select set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '200ms', true))
    insert into turnpike.hold (exchange_id, token_id, account_id, instance_id, amount, prompt, completion, estimate, price_id, started_at,
                               stream, upstream_id, upstream_key_id, model, endpoint)
    select w.exchange, w.token, w.account, w.instance, w.amount, w.prompt, w.completion, w.estimate, w.price, to_timestamp(w.started_ms * 0.001),
           w.stream, w.upstream, w.upstream_key, w.model, w.endpoint
      from off, unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
                  $10::bigint[], $11::boolean[], $12::bigint[], $13::bigint[], $14::text[], $15::text[])
           as w (exchange, token, account, instance, amount, prompt, completion, estimate, price, started_ms, stream, upstream, upstream_key, model, endpoint)
    on conflict on constraint hold_identified do nothing";
const OURS: &str = "select exchange_id from turnpike.hold where instance_id = $1";
const DELETE: &str = "
    with off as (select set_config('synchronous_commit', 'off', true))
    delete from turnpike.hold using off where exchange_id = any ($1)";

/// Exchanges that are over sooner leave no row.
const WRITTEN_AFTER: Duration = Duration::from_millis(50);
/// How often rows that stand for nothing are looked for.
const SWEPT_EVERY: Duration = Duration::from_secs(10);
/// Rows in one statement.
const GROUP_MAX: usize = 1024;
