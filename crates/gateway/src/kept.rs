//! The observer of an answer about what a provider keeps: what must be noted of it is durable before its tail goes.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use ledger::{AccountId, End as Ended, Ledger, NewObject, OpenJob, Settling};
use meter::{AnswerMeter, Progress};
use proxy::{Answer, End, Gate, Observer, Split};
use tracing::error;

use crate::{
    gateway::Entry,
    jobs,
    reckon::{Admitted, Passage},
    record::Record,
};

/// What such an answer is watched for.
pub(crate) enum Purpose {
    /// Whose the object is that it names, but for its id.
    Record(Box<NewObject>),
    /// The object is no more.
    Forget(AccountId, String),
    /// It may show how a job has ended.
    Settle(Box<(OpenJob, Admitted)>),
}

/// Watches one answer.
pub(crate) struct AtKept {
    meter: AnswerMeter,
    /// Gone once it is seen to.
    purpose: Option<Purpose>,
    ledger: Ledger,
    settling: Option<Settling>,
    record: Record,
    entry: Entry,
}

impl AtKept {
    pub(crate) const fn new(
        meter: AnswerMeter,
        purpose: Purpose,
        ledger: Ledger,
        record: Record,
        entry: Entry,
    ) -> Self {
        Self {
            meter,
            purpose: Some(purpose),
            ledger,
            settling: None,
            record,
            entry,
        }
    }

    /// Does what is to be done, by what has passed.
    fn act(&mut self) {
        let Some(purpose) = self.purpose.take() else {
            return;
        };
        let reading = self.meter.finish();
        self.settling = match purpose {
            Purpose::Record(mut object) => reading.response_id.map(|id| {
                object.id = id;
                self.ledger.record_later(*object)
            }),
            Purpose::Forget(account, id) => Some(self.ledger.forget_later(account, id)),
            Purpose::Settle(settle) if reading.finished => {
                let (job, admitted) = *settle;
                let passage = Passage {
                    status: 200,
                    end: Ended::Complete,
                    ..jobs::passage(&job)
                };
                let charge = jobs::charge(&admitted, reading, &job, passage);
                if let Some(charge) = &charge {
                    self.record.charged(charge);
                    self.entry.used(charge.buckets.total());
                }
                let charges = charge.into_iter().collect();
                Some(self.ledger.settle_parked(None, job, charges))
            }
            Purpose::Settle(_) => None,
        };
    }
}

impl Observer<Answer> for AtKept {
    fn frame(&mut self, data: Bytes) -> Split {
        self.record.passed(data.len());
        if self.purpose.is_none() {
            return Split::pass(data);
        }
        match self.meter.push(&data) {
            Progress::Open => Split::pass(data),
            Progress::Terminal { tail } => {
                self.act();
                Split::at(data, tail)
            }
        }
    }

    fn end(&mut self, end: End<Answer>) {
        match end {
            End::Complete => self.act(),
            End::Failed(_) => {
                self.record.end = "failed";
                self.act();
            }
            End::Abandoned(_) => {
                self.record.end = "abandoned";
                self.act();
            }
        }
    }

    fn full(&mut self) {
        self.act();
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Gate> {
        if self.purpose.is_some() {
            // Its end is still to be read; then the gate is asked again.
            return Poll::Pending;
        }
        let Some(settling) = &mut self.settling else {
            return Poll::Ready(Gate::Open);
        };
        let settled = ready!(Pin::new(settling).poll(cx));
        self.settling = None;
        Poll::Ready(match settled {
            Ok(()) => Gate::Open,
            Err(error) => {
                error!(exchange = %self.record.id, %error, "object.not_durable: the answer's tail is not released");
                Gate::Shut
            }
        })
    }
}
