//! A hold: means set aside before an upstream is asked, and the two ways it ends.

use std::{
    borrow::Cow,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use tariff::{Amount, PriceId};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use uuid::Uuid;

use crate::{
    AccountId, Charge, LedgerError, Means, TokenId, UpstreamId, UpstreamKeyId,
    gauges::Gauges,
    purses::Entry,
    recorder,
    settle::{Job, Origin},
    trail::Trail,
};

/// What a hold is asked for.
#[derive(Clone, Debug)]
pub struct HoldRequest {
    /// The exchange: a `UUIDv7` made by the gateway. It is the idempotency key and says in which month the charge stands.
    pub exchange: Uuid,
    /// Whose caps it counts against.
    pub token: TokenId,
    /// Whose balance it counts against.
    pub account: AccountId,
    /// An upper bound of what the exchange can cost and use.
    pub means: Means,
    /// What a charge needs should this process die.
    pub evidence: Evidence,
}

/// What is known of an exchange when it is admitted: enough to charge it should this process die in the middle.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The model the client named.
    pub model: String,
    /// The endpoint's short name (`chat/completions`).
    pub endpoint: Cow<'static, str>,
    /// The price row in force.
    pub price: PriceId,
    /// Its rate for input text, nano-USD per 1,000,000 tokens.
    pub input_rate: i64,
    /// Its rate for output text, nano-USD per 1,000,000 tokens.
    pub output_rate: i64,
    /// Input tokens as estimated from the request.
    pub input_tokens: u64,
    /// Whoever is asked goes on whatever becomes of this process, and the rates do not tell what that costs: all that is held is charged.
    pub whole: bool,
    /// Whether a stream of events was asked for.
    pub stream: bool,
    /// When the request's head came, milliseconds since the epoch.
    pub started_at_ms: i64,
    /// Who is asked; `None` for the built-in sandbox model.
    pub upstream: Option<UpstreamId>,
    /// With which of its keys.
    pub upstream_key: Option<UpstreamKeyId>,
}

/// What did not cover a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The account's balance and credit limit.
    Account,
    /// The access token's budget.
    Budget(Period),
    /// The access token's cap on input tokens.
    PromptTokens(Period),
    /// The access token's cap on output tokens.
    CompletionTokens(Period),
}

/// For how long a cap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// The token's life.
    Life,
    /// A day, UTC.
    Day,
    /// A month, UTC.
    Month,
}

/// Why a hold was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TakeError {
    /// Money does not cover the hold.
    #[error("{available} USD available, less than the exchange can cost")]
    Insufficient {
        /// What is left, and not held already.
        available: Amount,
        /// Of which limit.
        by: Limit,
    },
    /// A cap on tokens does not cover the hold.
    #[error("{available} tokens available, less than the exchange can use")]
    OverQuota {
        /// What is left, and not held already.
        available: u64,
        /// Of which limit.
        by: Limit,
    },
    /// The access token was revoked, expired or deleted since it was looked up.
    #[error("the access token is no longer valid")]
    TokenGone,
    /// As many exchanges are open as the settle queue has places.
    #[error("too many exchanges are open")]
    Busy,
    /// The purse does not cover it and Postgres does not answer, or there is no durable place for its charge.
    #[error("the ledger cannot be reached")]
    Unavailable(#[source] LedgerError),
}

/// Means set aside for one exchange, with a reserved place in the settle queue.
///
/// Ends by [`Hold::settle`] or [`Hold::release`]. Dropped otherwise it is **not** given back: its evidence stays, and an
/// error is logged.
#[must_use = "a hold must be settled or released"]
pub struct Hold {
    request: HoldRequest,
    /// `None` once settled or released.
    open: Option<Open>,
    gauges: Arc<Gauges>,
}

/// What an open hold has of the ledger.
pub(crate) struct Open {
    /// Its place among those that may be open, and so in the settle queue.
    pub(crate) place: OwnedSemaphorePermit,
    pub(crate) jobs: mpsc::UnboundedSender<Job>,
    pub(crate) purse: Arc<Entry>,
    pub(crate) trail: Arc<Trail>,
    pub(crate) slot: Option<recorder::Slot>,
}

impl Hold {
    pub(crate) fn new(request: HoldRequest, open: Open, gauges: &Arc<Gauges>) -> Self {
        gauges.open.fetch_add(1, Relaxed);
        Self {
            request,
            open: Some(open),
            gauges: Arc::clone(gauges),
        }
    }

    /// What it was taken for.
    #[must_use]
    pub const fn request(&self) -> &HoldRequest {
        &self.request
    }

    /// The exchange it was taken for.
    #[must_use]
    pub const fn exchange(&self) -> Uuid {
        self.request.exchange
    }

    /// The money that is held.
    #[must_use]
    pub const fn amount(&self) -> Amount {
        self.request.means.money
    }

    /// Notes how far the answer is, so that it survives this process. A few stores to memory.
    pub fn progress(&self, answer_bytes: u64, output_tokens_seen: u64, status: u16) {
        if let Some(slot) = self.open.as_ref().and_then(|open| open.slot.as_ref()) {
            slot.progress(recorder::Progress {
                answer_bytes,
                output_tokens_seen,
                status,
            });
        }
    }

    /// What it is made of, for who ends it another way.
    pub(crate) fn take(&mut self) -> Option<(HoldRequest, Open)> {
        let open = self.open.take()?;
        Some((self.request.clone(), open))
    }

    /// It is not ended another way after all.
    pub(crate) fn put_back(&mut self, open: Open) {
        self.open = Some(open);
    }

    /// Hands the charge over. Never waits and never lacks room; the future says when it is durable.
    pub fn settle(mut self, charge: Charge) -> Settling {
        let (done, settled) = oneshot::channel();
        if let Some(open) = self.open.take() {
            // Counted before it is sent, so that whoever drains cannot miss it.
            self.gauges.settling_begins();
            let whose = (
                self.request.exchange,
                self.request.token,
                self.request.account,
            );
            let instance = open.purse.instance();
            let origin = Origin {
                purse: open.purse,
                trail: open.trail,
                slot: open.slot,
                place: open.place,
                done: Some(done),
            };
            let job = Job::new(
                instance,
                whose,
                self.request.means,
                Box::new(charge),
                Some(origin),
            );
            // The writer ends only once every sender is gone, and this is one.
            let _ = open.jobs.send(job);
        }
        Settling(settled)
    }

    /// Gives the whole hold back. Memory only: it counts at once.
    pub fn release(mut self) -> Settling {
        let (done, settled) = oneshot::channel();
        if let Some(open) = self.open.take() {
            if let Some(slot) = open.slot {
                slot.clear();
            }
            open.trail.ended(self.request.exchange);
            open.purse.back(self.request.means);
        }
        let _ = done.send(Ok(()));
        Settling(settled)
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hold")
            .field("exchange", &self.request.exchange)
            .field("means", &self.request.means)
            .finish_non_exhaustive()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gauges.open.fetch_sub(1, Relaxed);
        if self.open.is_some() {
            tracing::error!(
                exchange = %self.request.exchange,
                hold_usd = %self.request.means.money,
                "ledger.hold.lost: dropped neither settled nor released; its evidence stays in turnpike.hold"
            );
        }
    }
}

/// Resolves when the settlement is durable (in Postgres, or in the journal while Postgres is away), or refused for good.
///
/// Dropping it changes nothing about the settlement.
#[derive(Debug)]
pub struct Settling(oneshot::Receiver<Result<(), LedgerError>>);

impl Settling {
    pub(crate) const fn of(settled: oneshot::Receiver<Result<(), LedgerError>>) -> Self {
        Self(settled)
    }
}

impl Future for Settling {
    type Output = Result<(), LedgerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(answer.unwrap_or_else(|_| Err(LedgerError::closed())))
    }
}
