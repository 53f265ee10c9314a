//! The answer on its way down: metered as it passes, its tail withheld until the charge is durable.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use ledger::{End as Ended, Hold, OpenJob, Settling};
use meter::{AnswerMeter, Progress, UsageFrameFilter};
use proxy::{Answer, End, Gate, Observer, Split};
use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::{
    gateway::Entry,
    jobs::{self, Background},
    reckon::{Admitted, Passage, reckon},
    record::Record,
};

/// Watches one answer and settles its exchange at the terminal event, wherever the answer ends up:
/// with the client, or with the drain after the client has left.
pub(crate) struct Till {
    meter: AnswerMeter,
    /// Drops the frame that was asked for in the client's name.
    filter: Option<UsageFrameFilter>,
    /// What is settled, once.
    open: Option<Open>,
    /// It goes on when its request is over.
    background: Option<Background>,
    /// What became of it there.
    parked: Option<Parked>,
    settling: Option<Settling>,
    settling_since: Option<Instant>,
    passage: Passage,
    client_left: bool,
    record: Record,
    /// Held for as long as the exchange is open.
    entry: Entry,
}

/// The hold, and what its charge is reckoned from.
struct Open {
    hold: Hold,
    admitted: Admitted,
}

/// Work that goes on when its request is over, as soon as its id is known.
struct Parked {
    job: OpenJob,
    parking: Settling,
    admitted: Admitted,
}

/// What a [`Till`] is made of.
pub(crate) struct Parts {
    pub(crate) meter: AnswerMeter,
    pub(crate) filter: Option<UsageFrameFilter>,
    pub(crate) hold: Hold,
    pub(crate) admitted: Admitted,
    pub(crate) background: Option<Background>,
    pub(crate) status: StatusCode,
    pub(crate) record: Record,
    pub(crate) entry: Entry,
}

impl Till {
    /// A till for an answer whose head has just come.
    pub(crate) fn new(parts: Parts) -> Self {
        let head_after_ms = millis(parts.record.started.elapsed());
        Self {
            meter: parts.meter,
            filter: parts.filter,
            open: Some(Open {
                hold: parts.hold,
                admitted: parts.admitted,
            }),
            background: parts.background,
            parked: None,
            settling: None,
            settling_since: None,
            passage: Passage {
                status: parts.status.as_u16(),
                end: Ended::Complete,
                head_after_ms,
                first_byte_after_ms: None,
                ended_after_ms: head_after_ms,
            },
            client_left: false,
            record: parts.record,
            entry: parts.entry,
        }
    }

    /// Whether the charge is on its way to Postgres, or nothing was to be charged, or whoever asks the provider later charges it.
    pub(crate) const fn is_settled(&self) -> bool {
        self.open.is_none()
    }

    /// Whether it goes on when its request is over.
    pub(crate) const fn is_background(&self) -> bool {
        self.background.is_some()
    }

    /// Makes it a job, as soon as its id is known: then it is settled whatever becomes of this answer.
    fn park(&mut self) {
        let (Some(background), Some(id)) = (&self.background, self.meter.response_id()) else {
            return;
        };
        let id = id.to_owned();
        if let Some(Open { hold, admitted }) = self.open.take() {
            let (job, parking) = background.park(hold, &admitted, id);
            self.parked = Some(Parked {
                job,
                parking,
                admitted,
            });
        }
    }

    /// Settles a job whose end this answer shows; else it stays one.
    fn settle_parked(&mut self, parked: Parked, end: Ended) {
        let Parked {
            job,
            parking,
            admitted,
        } = parked;
        self.passage.end = end;
        self.passage.ended_after_ms = millis(self.record.started.elapsed());
        self.record.end = end.as_str();
        self.settling_since = Some(Instant::now());
        let reading = self.meter.finish();
        let ledger = match &self.background {
            Some(background) if reading.finished => &background.ledger,
            _ => {
                self.settling = Some(parking);
                return;
            }
        };
        let charge = jobs::charge(&admitted, reading, &job, self.passage);
        if let Some(charge) = &charge {
            self.record.charged(charge);
            self.entry.used(charge.buckets.total());
        }
        let charges = charge.into_iter().collect();
        self.settling = Some(ledger.settle_parked(Some(parking), job, charges));
    }

    /// Hands the charge over. What the ledger has, nobody can take back: not a client that leaves, not this body's drop.
    pub(crate) fn settle(&mut self, end: Ended) {
        let end = if self.client_left {
            Ended::Abandoned
        } else {
            end
        };
        if let Some(parked) = self.parked.take() {
            return self.settle_parked(parked, end);
        }
        let Some(Open { hold, admitted }) = self.open.take() else {
            return;
        };
        self.passage.end = end;
        self.passage.ended_after_ms = millis(self.record.started.elapsed());
        self.record.end = end.as_str();
        let mut reading = self.meter.finish();
        // Nobody could ask how it ends: what it may cost is the one estimate that is not too small.
        reading.lost |= self.background.is_some() && reading.usage.is_none();
        let charge = reckon(&admitted, reading, hold.amount(), self.passage);
        if let Some(charge) = &charge {
            self.record.charged(charge);
            self.entry.used(charge.buckets.total());
        }
        self.settling_since = Some(Instant::now());
        self.settling = Some(match charge {
            Some(charge) => hold.settle(charge),
            None => hold.release(),
        });
    }

    /// Gives the hold back uncharged, as `DISCONNECT=void` says.
    pub(crate) fn void(&mut self) {
        if let Some(Open { hold, .. }) = self.open.take() {
            self.settling = Some(hold.release());
        }
    }

    /// What the exchange was admitted with, until it is settled.
    pub(crate) fn admitted(&self) -> Option<&Admitted> {
        self.open.as_ref().map(|open| &open.admitted)
    }

    /// Whether the charge is durable; shut when it never will be.
    fn poll_durable(&mut self, cx: &mut Context<'_>) -> Poll<Gate> {
        let Some(settling) = &mut self.settling else {
            // Nothing was handed over yet: an answer of a known length is all here, but its end is not. What is read
            // next settles it, and then the gate is asked again.
            return Poll::Pending;
        };
        let settled = ready!(Pin::new(settling).poll(cx));
        if let Some(since) = self.settling_since.take() {
            self.record.step("charge", since);
            self.record
                .metrics()
                .second_gate_seconds
                .observe(since.elapsed().as_secs_f64());
        }
        Poll::Ready(match settled {
            Ok(()) => Gate::Open,
            Err(error) => {
                error!(exchange = %self.record.id, %error, "charge.not_durable: the answer's tail is not released");
                Gate::Shut
            }
        })
    }

    /// Shows bytes of the answer to the meter; at the terminal event, settles. Returns where the tail begins.
    pub(crate) fn show(&mut self, data: &[u8]) -> Option<usize> {
        self.record.passed(data.len());
        self.passage
            .first_byte_after_ms
            .get_or_insert_with(|| millis(self.record.started.elapsed()));
        if self.is_settled() && self.parked.is_none() {
            return None;
        }
        let progress = self.meter.push(data);
        if self.background.is_some() {
            self.park();
        }
        if let Some(Open { hold, .. }) = &self.open {
            hold.progress(
                self.record.answer_bytes,
                self.meter.output_tokens_roughly(),
                self.passage.status,
            );
        }
        match progress {
            Progress::Open => None,
            Progress::Terminal { tail } => {
                self.settle(Ended::Complete);
                Some(tail)
            }
        }
    }
}

/// An answer without a client.
pub(crate) struct Left {
    pub(crate) till: Box<Till>,
    pub(crate) rest: Answer,
}

/// A till at its answer. Empty once the till has gone to the drain.
pub(crate) struct AtAnswer {
    till: Option<Box<Till>>,
    /// Where the rest of the answer goes when the client leaves.
    leave: mpsc::Sender<Left>,
}

impl AtAnswer {
    /// Puts the till where the answer passes.
    pub(crate) fn new(till: Till, leave: mpsc::Sender<Left>) -> Self {
        Self {
            till: Some(Box::new(till)),
            leave,
        }
    }

    /// The client has left: gives the rest of the answer, and the settling of it, to the drain.
    fn hand_over(&mut self, mut till: Box<Till>, rest: Answer) {
        till.client_left = true;
        // The channel has a place for every open exchange, so this fails only once the worker is gone; then
        // the till settles on what it has seen.
        if let Err(
            mpsc::error::TrySendError::Full(mut left) | mpsc::error::TrySendError::Closed(mut left),
        ) = self.leave.try_send(Left { till, rest })
        {
            left.till.settle(Ended::Abandoned);
        }
    }
}

impl Observer<Answer> for AtAnswer {
    fn frame(&mut self, data: Bytes) -> Split {
        let Some(till) = &mut self.till else {
            return Split::pass(data);
        };
        let tail = till.show(&data);
        match (tail, &mut till.filter) {
            (None, None) => Split::pass(data),
            (Some(tail), None) => Split::at(data, tail),
            (None, Some(filter)) => Split::pass(filter.push(data)),
            (Some(tail), Some(filter)) => {
                let Split { now, later } = Split::at(data, tail);
                Split {
                    now: filter.push(now),
                    later: filter.push(later),
                }
            }
        }
    }

    fn rest(&mut self) -> Bytes {
        let filter = self.till.as_mut().and_then(|till| till.filter.as_mut());
        filter.map(UsageFrameFilter::finish).unwrap_or_default()
    }

    fn end(&mut self, end: End<Answer>) {
        let Some(till) = &mut self.till else { return };
        match end {
            End::Complete => till.settle(Ended::Complete),
            End::Failed(error) => {
                warn!(exchange = %till.record.id, %error, "upstream.broke_off: the answer ended before its end");
                till.settle(Ended::Failed);
            }
            End::Abandoned(_) if till.is_settled() => {}
            End::Abandoned(rest) => {
                if let Some(till) = self.till.take() {
                    self.hand_over(till, rest);
                }
            }
        }
    }

    fn full(&mut self) {
        // Nothing more is read until the gate answers, and it must not wait for what is not read.
        if let Some(till) = &mut self.till {
            till.settle(Ended::Complete);
        }
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Gate> {
        match &mut self.till {
            Some(till) => till.poll_durable(cx),
            None => Poll::Ready(Gate::Shut),
        }
    }
}

/// Whole milliseconds, at most `u32::MAX` (49 days).
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
