//! A hold: money set aside before an upstream is asked, and the two ways it ends.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use tariff::Amount;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{AccountId, Charge, LedgerError, TokenId, gauges::Gauges, settle::Job};

/// What a hold is asked for.
#[derive(Clone, Debug)]
pub struct HoldRequest {
    /// The exchange: a `UUIDv7` made by the gateway. It is the idempotency key and says in which month the charge stands.
    pub exchange: Uuid,
    /// Whose cap it counts against.
    pub token: TokenId,
    /// Whose balance it counts against.
    pub account: AccountId,
    /// An upper bound of what the exchange can cost; not negative.
    pub amount: Amount,
    /// The model the client named, as evidence.
    pub model: String,
}

/// Whose money did not cover a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The account's balance and credit limit.
    Account,
    /// The access token's own budget.
    Token,
}

/// Why a hold was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TakeError {
    /// The hold does not fit.
    #[error("{available} USD available, less than the exchange can cost")]
    Insufficient {
        /// What is left, and not held already.
        available: Amount,
        /// Of which limit.
        by: Limit,
    },
    /// The access token was revoked, expired or deleted since it was looked up.
    #[error("the access token is no longer valid")]
    TokenGone,
    /// As many exchanges are open as the settle queue has places.
    #[error("too many exchanges are open")]
    Busy,
    /// Postgres does not answer. Whatever it took after all is given back as soon as it does.
    #[error("the ledger cannot be reached")]
    Unavailable(#[source] LedgerError),
}

/// Money set aside for one exchange, with a reserved place in the settle queue.
///
/// Ends by [`Hold::settle`] or [`Hold::release`]. Dropped otherwise it is **not** given back: its evidence stays in
/// `turnpike.hold`, and an error is logged.
#[derive(Debug)]
#[must_use = "a hold must be settled or released"]
pub struct Hold {
    request: HoldRequest,
    /// `None` once settled or released.
    place: Option<mpsc::OwnedPermit<Job>>,
    gauges: Arc<Gauges>,
}

impl Hold {
    pub(crate) fn new(
        request: HoldRequest,
        place: mpsc::OwnedPermit<Job>,
        gauges: &Arc<Gauges>,
    ) -> Self {
        gauges.open.fetch_add(1, Relaxed);
        Self {
            request,
            place: Some(place),
            gauges: Arc::clone(gauges),
        }
    }

    /// The exchange it was taken for.
    #[must_use]
    pub const fn exchange(&self) -> Uuid {
        self.request.exchange
    }

    /// What is held.
    #[must_use]
    pub const fn amount(&self) -> Amount {
        self.request.amount
    }

    /// Hands the charge over. Never waits and never lacks room; the future says when it is durable.
    pub fn settle(mut self, charge: Charge) -> Settling {
        self.finish(Some(Box::new(charge)))
    }

    /// Gives the whole hold back.
    pub fn release(mut self) -> Settling {
        self.finish(None)
    }

    fn finish(&mut self, charge: Option<Box<Charge>>) -> Settling {
        let (done, settled) = oneshot::channel();
        if let Some(place) = self.place.take() {
            // Counted before it is sent, so that whoever drains cannot miss it.
            self.gauges.settling_begins();
            place.send(Job {
                hold: self.request.clone(),
                charge,
                done,
            });
        }
        Settling(settled)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gauges.open.fetch_sub(1, Relaxed);
        if self.place.is_some() {
            tracing::error!(
                exchange = %self.request.exchange,
                hold_usd = %self.request.amount,
                "ledger.hold.lost: dropped neither settled nor released; its evidence stays in turnpike.hold"
            );
        }
    }
}

/// Resolves when the settlement is durable in Postgres, or refused by it for good.
///
/// Dropping it changes nothing about the settlement. While Postgres is away it stays pending.
#[derive(Debug)]
pub struct Settling(oneshot::Receiver<Result<(), LedgerError>>);

impl Future for Settling {
    type Output = Result<(), LedgerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(answer.unwrap_or_else(|_| Err(LedgerError::closed())))
    }
}
