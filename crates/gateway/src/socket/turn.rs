//! One turn of a socket: an exchange of its own, from its hold to its charge.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ledger::{End, Evidence, Hold, Mark, Settling};
use meter::{Api, Reading, RequestFacts, What};
use tariff::{Buckets, Line, Units, Usage};
use tracing::error;

use super::{Session, lock};
use crate::{
    admission,
    endpoint::{BodyKind, BoundBy, Kind, Metered},
    exchange::objects,
    limits,
    reckon::{Admitted, Keeps, Passage, reckon},
    record::Record,
    refusal::Refusal,
};

/// Milliseconds of audio that a token stands for, heard and spoken (OpenAI).
pub(super) const MS_PER_TOKEN_HEARD: u64 = 100;
const MS_PER_TOKEN_SPOKEN: u64 = 50;
/// Bytes of text that a token stands for.
const BYTES_PER_TOKEN: u64 = 4;
/// Bytes of spoken audio in a millisecond: PCM of 16 bits at 24 kHz.
const BYTES_PER_MS: u64 = 48;
/// Upper bound of what a second of audio takes to be heard, in tokens.
const TOKENS_PER_SECOND_MAX: u64 = 20;
/// What is heard beside the audio: a prompt for the transcription.
const PROMPT_TOKENS_MAX: u64 = 2_048;
/// What [`BoundBy::Time`] takes for a second of sound.
const FILE_BYTES_PER_SECOND: u64 = 750;

/// What a turn is asked for.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// A response of a session: its input is the conversation, whose length only the provider knows.
    Response { output_limit: Option<u64> },
    /// A response whose request stands in its event.
    Request(Box<RequestFacts>),
    /// So much audio, written down or translated.
    Listening { ms: u64 },
}

/// What is known of a turn's input before its usage is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    pub(super) text_bytes: u64,
    pub(super) audio_ms: u64,
}

/// An open turn.
pub(super) struct Turn {
    hold: Hold,
    admitted: Admitted,
    record: Record,
    heard: Heard,
    /// The lane it was asked for in.
    pub(super) lane: Option<String>,
    /// The client's event that asked for it.
    pub(super) event_id: Option<String>,
    /// When an error came that may have been about it.
    pub(super) doubted_at: Option<Instant>,
    /// One that was asked for later has begun.
    pub(super) is_passed_by: bool,
    first_byte_after_ms: Option<u32>,
    text_bytes: u64,
    audio_bytes: u64,
}

impl Turn {
    /// Prices a turn and holds the most it can cost.
    ///
    /// # Errors
    /// As for any request, and 401 once the access token is not valid any more.
    pub(super) async fn open(
        session: &Session,
        model: &str,
        wanted: Wanted,
        heard: Heard,
    ) -> Result<Self, Refusal> {
        let gateway = &session.worker.gateway;
        let mut record = Record::start(
            Arc::clone(&gateway.metrics),
            session.peer,
            http::Method::GET,
            session.endpoint,
        );
        record.trace = session.trace.as_ref().map(|trace| trace.again());
        let opened = Self::admit(session, model, wanted, heard, &mut record).await;
        match opened {
            Ok((hold, admitted)) => Ok(Self {
                hold,
                admitted,
                record,
                heard,
                lane: None,
                event_id: None,
                doubted_at: None,
                is_passed_by: false,
                first_byte_after_ms: None,
                text_bytes: 0,
                audio_bytes: 0,
            }),
            Err(refusal) => {
                record.refused(&refusal);
                Err(refusal)
            }
        }
    }

    async fn admit(
        session: &Session,
        model: &str,
        wanted: Wanted,
        heard: Heard,
        record: &mut Record,
    ) -> Result<(Hold, Admitted), Refusal> {
        let gateway = &session.worker.gateway;
        let token = session.token(record.started_at_ms).await?;
        record.token = Some(token.prefix.clone());
        record.upstream = Some(session.place.name.clone());
        // The socket itself has its place among those open at once.
        let mut rates = token.rates();
        rates.concurrent_exchanges = None;
        limits::admit_turn(&gateway.ledger, &token, &rates).await?;
        let catalog = gateway.ledger.catalog();
        let mut keeps = None;
        let (facts, bound, api) = match wanted {
            Wanted::Request(facts) if facts.background => {
                return Err(Refusal::InvalidBody {
                    message: "Responses over a socket cannot go on in the background: ask for this one by POST.".to_owned(),
                    param: Some("background".to_owned()),
                    code: "unsupported_parameter",
                });
            }
            Wanted::Request(mut facts) => {
                // What ended on this socket may be followed on it, even if the provider stores nothing.
                facts.named.retain(|named| {
                    named.what != What::Response || !lock(&session.turns).has_ended(&named.id)
                });
                objects::are_here(gateway, &token, &facts, &session.place).await?;
                keeps = (facts.stores != Some(false)).then_some(Keeps {
                    kind: Kind::Response,
                    only_parts: false,
                    account: token.account,
                    token: token.id,
                });
                (*facts, BoundBy::Tokens, Api::Responses)
            }
            Wanted::Response { output_limit } => {
                let facts = RequestFacts {
                    output_limit,
                    refers_outside: true,
                    ..session_facts(model)
                };
                (facts, BoundBy::Turn, Api::Responses)
            }
            Wanted::Listening { ms } => {
                let seconds = ms.div_ceil(1_000);
                let facts = RequestFacts {
                    file_bytes: seconds.saturating_mul(FILE_BYTES_PER_SECOND),
                    body_bytes: seconds
                        .saturating_mul(TOKENS_PER_SECOND_MAX)
                        .saturating_add(PROMPT_TOKENS_MAX),
                    ..session_facts(model)
                };
                (facts, BoundBy::Time, Api::Transcriptions)
            }
        };
        let model = admission::model(&token, api, &facts)?;
        record.model = Some(model.clone());
        session.is_served_here(&catalog, &model)?;
        let quote = admission::quote(&catalog, &model, record.started_at_ms)?;
        let (input_rate, output_rate) = quote.text_rates();
        let input_tokens = heard.tokens();
        let evidence = Evidence {
            model: model.clone(),
            endpoint: session.endpoint.into(),
            price: quote.default_price(),
            input_rate,
            output_rate,
            input_tokens,
            whole: false,
            stream: true,
            started_at_ms: record.started_at_ms,
            upstream: session.place.id,
            upstream_key: session.upstream_key,
        };
        let metered = Metered {
            api,
            body: BodyKind::Json,
            usage_on_request: false,
            bound,
            creates: None,
        };
        let hold = admission::hold(
            gateway, &token, record.id, &metered, &facts, &quote, evidence,
        );
        let hold = hold.await?;
        let admitted = Admitted {
            cost: session.place.cost,
            api: Api::Responses,
            catalog,
            quote,
            input_tokens_estimate: input_tokens,
            facts,
            model,
            endpoint: session.endpoint,
            file_ms: None,
            started_at_ms: record.started_at_ms,
            upstream: session.place.id,
            upstream_key: session.upstream_key,
            keeps,
        };
        Ok((hold, admitted))
    }

    /// Something of its answer has passed.
    pub(super) fn passed(&mut self, bytes: u64, text_bytes: u64, audio_bytes: u64) {
        self.record
            .passed(usize::try_from(bytes).unwrap_or(usize::MAX));
        let now = millis(self.record.started);
        self.first_byte_after_ms.get_or_insert(now);
        self.text_bytes = self.text_bytes.saturating_add(text_bytes);
        self.audio_bytes = self.audio_bytes.saturating_add(audio_bytes);
        let output = self.spoken();
        self.hold
            .progress(self.record.answer_bytes, output.output(), 200);
    }

    /// Its answer, by what passed of it.
    fn spoken(&self) -> Buckets {
        Buckets {
            out_text: self.text_bytes.div_ceil(BYTES_PER_TOKEN),
            out_audio: self
                .audio_bytes
                .div_ceil(BYTES_PER_MS.saturating_mul(MS_PER_TOKEN_SPOKEN)),
            ..Buckets::default()
        }
    }

    /// Whether its response will not come: nothing began this long after an error that may have been about it.
    pub(super) fn is_given_up(&self, grace: Duration) -> bool {
        self.doubted_at.is_some_and(|at| at.elapsed() >= grace)
    }

    /// Whether its response may yet begin.
    pub(super) fn may_begin(&self, grace: Duration) -> bool {
        match self.doubted_at {
            None => true,
            Some(_) => !self.is_passed_by && !self.is_given_up(grace),
        }
    }

    /// Whether the hold covers this as well as another would.
    pub(super) fn covers(&self, output_limit: Option<u64>) -> bool {
        self.admitted.facts.output_limit == output_limit
    }

    /// Charges what its usage says.
    pub(super) fn settle(
        mut self,
        session: &Session,
        mut reading: Reading,
        answered: Option<&str>,
    ) -> Settling {
        let now = millis(self.record.started);
        self.first_byte_after_ms.get_or_insert(now);
        if reading.model.is_none() {
            reading.model = answered.map(str::to_owned);
        }
        let is_unknown = reading.usage.is_none();
        let is_nothing = is_unknown && reading.is_error && self.spoken().total() == 0;
        if is_nothing {
            self.record.end = "complete";
            return self.hold.release();
        }
        if is_unknown {
            reading.usage = Some(self.estimated());
        }
        self.charge(session, reading, End::Complete, is_unknown)
    }

    /// Charges what is known of a turn whose usage will not come.
    pub(super) fn estimate(self, session: &Session, end: End) -> Settling {
        let reading = Reading {
            usage: Some(self.estimated()),
            complete: true,
            ..Reading::default()
        };
        self.charge(session, reading, end, true)
    }

    /// Charges so much audio, which no usage tells of. `is_whole` where the bytes that passed are all there is to know.
    pub(super) fn settle_audio(
        self,
        session: &Session,
        ms: u64,
        end: End,
        is_whole: bool,
    ) -> Settling {
        let by_time = Line {
            units: Units {
                audio_in_ms: ms,
                ..Units::default()
            },
            ..Line::default()
        };
        let is_by_time = self
            .admitted
            .quote
            .charge(&by_time, Usage::default().served())
            .is_ok();
        let line = if is_by_time {
            by_time
        } else {
            Line {
                buckets: Buckets {
                    in_audio: ms.div_ceil(MS_PER_TOKEN_HEARD),
                    ..Buckets::default()
                },
                ..Line::default()
            }
        };
        let reading = Reading {
            usage: Some(Usage {
                lines: vec![line],
                ..Usage::default()
            }),
            complete: true,
            ..Reading::default()
        };
        self.charge(session, reading, end, !(is_by_time && is_whole))
    }

    /// Gives the hold back: nothing was spent.
    pub(super) fn release(mut self) {
        self.record.end = "complete";
        // Memory only: it counts at once.
        drop(self.hold.release());
    }

    fn estimated(&self) -> Usage {
        let heard = self.heard;
        let buckets = Buckets {
            in_text: heard.text_bytes.div_ceil(BYTES_PER_TOKEN),
            in_audio: heard.audio_ms.div_ceil(MS_PER_TOKEN_HEARD),
            ..self.spoken()
        };
        Usage {
            lines: vec![Line {
                buckets,
                ..Line::default()
            }],
            ..Usage::default()
        }
    }

    fn charge(
        mut self,
        session: &Session,
        reading: Reading,
        end: End,
        is_estimate: bool,
    ) -> Settling {
        let now = millis(self.record.started);
        let passage = Passage {
            status: 101,
            end,
            head_after_ms: 0,
            first_byte_after_ms: self.first_byte_after_ms.or(Some(now)),
            ended_after_ms: now,
        };
        self.record.end = end.as_str();
        self.record.status = Some(http::StatusCode::SWITCHING_PROTOCOLS);
        let charge = reckon(&self.admitted, reading, self.hold.amount(), passage);
        match charge {
            None => self.hold.release(),
            Some(mut charge) => {
                if is_estimate && charge.mark == Mark::Measured {
                    charge.mark = Mark::Estimated;
                }
                if charge.mark == Mark::Bounded {
                    error!(exchange = %self.record.id, "socket.bounded: a turn cost more than its hold");
                }
                self.record.charged(&charge);
                session.entry.used(charge.buckets.total());
                self.hold.settle(charge)
            }
        }
    }
}

impl Heard {
    const fn tokens(self) -> u64 {
        self.text_bytes
            .div_ceil(BYTES_PER_TOKEN)
            .saturating_add(self.audio_ms.div_ceil(MS_PER_TOKEN_HEARD))
    }
}

fn session_facts(model: &str) -> RequestFacts {
    RequestFacts {
        model: Some(model.to_owned()),
        stream: true,
        choices: 1,
        inputs: 1,
        ..RequestFacts::default()
    }
}

/// Whole milliseconds since then, at most `u32::MAX`.
fn millis(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_millis()).unwrap_or(u32::MAX)
}
