//! Which turns of a socket are open, and what each event means for them. Without I/O: it says what must be awaited.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ledger::{End, Settling};
use meter::{ClientEvent, EventFacts, Reading, Speech, UpstreamEvent};

use super::{
    Session,
    audio::Audio,
    ids::Ids,
    parting::Parting,
    turn::{Heard, MS_PER_TOKEN_HEARD, Turn, Wanted},
};

/// Turns that may be open at once on a socket.
pub(super) const TURNS_MAX: usize = 32;
/// Ended responses that are remembered, so that none is charged twice and the next may follow on them.
const ENDED_MAX: usize = 256;
/// Audio that the hold of a transcription or translation covers at least.
pub(super) const COVER_MS_MIN: u64 = 60_000;
/// Audio of a translation that is charged at once.
const SLICE_MS: u64 = 30_000;
/// Bytes of a millisecond of audio: PCM of 16 bits at 24 kHz, or a telephone's.
const BYTES_PER_MS: u64 = 48;
const TELEPHONE_BYTES_PER_MS: u64 = 8;
/// How long a turn may still begin after an error that may have been about it.
const DOUBT_GRACE: Duration = Duration::from_secs(10);

/// What must be held before a client's event goes up.
#[derive(Debug)]
pub(super) enum Need {
    /// A turn that this event begins.
    Turn {
        model: String,
        wanted: Wanted,
        lane: Option<String>,
        event_id: Option<String>,
    },
    /// A turn on stand-by, and cover for what is written down or translated.
    Audio {
        spare: Option<String>,
        listening: Option<Cover>,
    },
}

/// A hold for audio that is written down or translated.
#[derive(Debug)]
pub(super) struct Cover {
    pub(super) model: String,
    pub(super) covers_ms: u64,
    /// Audio of the event that asks for it.
    new_ms: u64,
}

/// What must come about before an upstream's event goes down.
pub(super) enum Wait {
    /// A charge must be durable.
    Settled(Settling),
    /// An utterance must be charged, and what else was heard be held for before its hold goes.
    Written { reading: Box<Reading>, ms: u64 },
    /// The hold on stand-by was taken: another response may begin without the client's doing.
    Spare { model: String },
    /// A turn nobody asked for must be held, then perhaps be charged.
    Late {
        id: Option<String>,
        reading: Option<Box<Reading>>,
        is_transcription: bool,
    },
}

/// A hold for what is written down or translated.
pub(super) struct Listening {
    pub(super) turn: Turn,
    /// How much audio it covers.
    pub(super) covers_ms: u64,
    pub(super) model: String,
}

/// The turns of one socket.
pub(super) struct Turns {
    speech: Speech,
    /// The model the session was opened with.
    model: Option<String>,
    /// As the upstream calls it.
    answered: Option<String>,
    transcription: Option<String>,
    answers_by_itself: bool,
    bytes_per_ms: u64,
    /// Asked for and not yet begun.
    asked: VecDeque<Turn>,
    /// Begun, by their responses' ids.
    begun: Vec<(String, Turn)>,
    ended: VecDeque<String>,
    /// On stand-by for what audio leads to.
    spare: Option<Turn>,
    listening: Option<Listening>,
    audio: Audio,
    ids: Ids,
    /// The client has said nothing but what asks for responses.
    only_asks: bool,
    heard: Heard,
    pub(super) parting: Option<Parting>,
    pub(super) client_left: bool,
    pub(super) is_closing: bool,
}

impl Turns {
    pub(super) fn new(speech: Speech, model: Option<String>, transcribes_only: bool) -> Self {
        Self {
            speech,
            model,
            answered: None,
            transcription: None,
            // What a session does until it is told otherwise.
            answers_by_itself: speech == Speech::Realtime && !transcribes_only,
            bytes_per_ms: BYTES_PER_MS,
            asked: VecDeque::new(),
            begun: Vec::new(),
            ended: VecDeque::new(),
            spare: None,
            listening: None,
            audio: Audio::default(),
            ids: Ids::default(),
            only_asks: true,
            heard: Heard::default(),
            parting: None,
            client_left: false,
            is_closing: false,
        }
    }

    /// Whether a turn has begun, or was asked for, that has not ended.
    pub(super) fn are_open(&self) -> bool {
        !self.begun.is_empty()
            || self.asked.iter().any(|turn| turn.may_begin(DOUBT_GRACE))
            || (self.listening.is_some() && self.audio.is_writing())
    }

    /// Whether a response with this id has ended here.
    pub(super) fn has_ended(&self, id: &str) -> bool {
        self.ended.iter().any(|own| own == id)
    }

    pub(super) const fn heard(&self) -> Heard {
        self.heard
    }

    /// What a client's event needs. It has been read, and not yet gone up.
    ///
    /// # Errors
    /// When it cannot be let up at all.
    pub(super) fn said(
        &mut self,
        session: &Session,
        event: ClientEvent,
    ) -> Result<Option<Need>, Parting> {
        let ClientEvent { facts, request } = event;
        if self.asked.len().saturating_add(self.begun.len()) >= TURNS_MAX {
            return Err(Parting::too_many());
        }
        let is_audio = facts.kind.ends_with("input_audio_buffer.append");
        self.only_asks &= facts.kind == "response.create";
        if let Some(id) = &facts.event_id {
            let mut open = self.asked.iter().chain(self.begun.iter().map(|(_, it)| it));
            let is_open = open.any(|turn| turn.event_id.as_ref() == Some(id));
            if is_open || !self.ids.take(id, facts.kind == "response.create") {
                return Err(Parting::event_id_reused(id));
            }
        }
        if let Some(model) = &facts.model {
            let is_same = [&self.model, &self.answered]
                .into_iter()
                .any(|own| own.as_ref() == Some(model));
            if !is_same && self.model.is_some() {
                return Err(Parting::other_model(model));
            }
            self.model.get_or_insert_with(|| model.clone());
        }
        // On at once, off only once the upstream says so.
        if let Some(Some(model)) = &facts.transcription {
            session.sells(model)?;
            self.transcription = Some(model.clone());
        }
        // On at once, off only once the upstream says so.
        self.answers_by_itself |=
            facts.answers_by_itself == Some(true) && self.speech == Speech::Realtime;
        if facts.is_telephone == Some(true) {
            self.bytes_per_ms = TELEPHONE_BYTES_PER_MS;
        }
        if facts.kind == "input_audio_buffer.commit" {
            self.audio.commits();
        }
        if !is_audio {
            self.heard.text_bytes = self.heard.text_bytes.saturating_add(facts.bytes);
        }
        match (self.speech, facts.kind.as_str()) {
            (Speech::Responses, "response.create") => {
                let request = request.unwrap_or_default();
                Ok(Some(Need::Turn {
                    model: request.model.clone().unwrap_or_default(),
                    wanted: Wanted::Request(request),
                    lane: facts.stream_id,
                    event_id: facts.event_id,
                }))
            }
            (Speech::Responses, _) => Ok(None),
            (Speech::Realtime, "response.create") => self.asks(facts).map(Some),
            _ if is_audio => self.listens(&facts),
            // What was said before somebody was told to write it down may be written down now.
            (
                Speech::Realtime,
                "session.update" | "transcription_session.update" | "input_audio_buffer.commit",
            ) => self.covers(0),
            (
                _,
                "session.update"
                | "transcription_session.update"
                | "session.close"
                | "input_audio_buffer.commit"
                | "input_audio_buffer.clear"
                | "conversation.item.create"
                | "conversation.item.delete"
                | "conversation.item.retrieve"
                | "conversation.item.truncate"
                | "response.cancel"
                | "output_audio_buffer.clear",
            ) => Ok(None),
            // What an event does that we do not know is not known: it may begin a turn.
            (Speech::Realtime, _) => Ok(self.stands_by()?.map(|model| Need::Audio {
                spare: Some(model),
                listening: None,
            })),
            (Speech::Translations, kind) => Err(Parting::unknown_event(kind)),
        }
    }

    fn asks(&mut self, facts: EventFacts) -> Result<Need, Parting> {
        Ok(Need::Turn {
            model: self.model.clone().ok_or_else(Parting::no_model)?,
            wanted: Wanted::Response {
                output_limit: facts.output_limit,
            },
            lane: None,
            event_id: facts.event_id,
        })
    }

    /// A hold on stand-by that must be taken, if none is.
    fn stands_by(&self) -> Result<Option<String>, Parting> {
        if self.spare.is_some() {
            return Ok(None);
        }
        self.model.clone().map(Some).ok_or_else(Parting::no_model)
    }

    fn listens(&mut self, facts: &EventFacts) -> Result<Option<Need>, Parting> {
        let ms = facts.audio_bytes.div_ceil(self.bytes_per_ms);
        self.heard.audio_ms = self.heard.audio_ms.saturating_add(ms);
        self.audio.hears(ms);
        self.covers(ms)
    }

    /// What must be held for the audio that was heard, of which so much is new.
    fn covers(&self, new_ms: u64) -> Result<Option<Need>, Parting> {
        let spare = if self.answers_by_itself && new_ms > 0 {
            self.stands_by()?
        } else {
            None
        };
        let model = match self.speech {
            Speech::Translations => Some(self.model.clone().ok_or_else(Parting::no_model)?),
            _ => self.transcription.clone(),
        };
        let listened_ms = self.audio.listened_ms();
        let covered = self.listening.as_ref().map_or(0, |it| it.covers_ms);
        let is_slice_full = self.speech == Speech::Translations && listened_ms > SLICE_MS;
        let listening = model
            .filter(|_| covered < listened_ms || is_slice_full)
            .map(|model| Cover {
                model,
                covers_ms: covering(listened_ms),
                new_ms,
            });
        let is_needed = spare.is_some() || listening.is_some();
        Ok(is_needed.then_some(Need::Audio { spare, listening }))
    }

    /// An earlier hold that serves for this turn: one that an error may have been about.
    pub(super) fn doubtful(&mut self, wanted: &Wanted) -> Option<Turn> {
        let Wanted::Response { output_limit } = wanted else {
            return None;
        };
        let at = self
            .asked
            .iter()
            .position(|turn| turn.is_given_up(DOUBT_GRACE) && turn.covers(*output_limit))?;
        self.asked.remove(at)
    }

    pub(super) fn add(&mut self, turn: Turn) {
        self.asked.push_back(turn);
    }

    pub(super) fn add_spare(&mut self, turn: Turn) {
        if let Some(before) = self.spare.replace(turn) {
            before.release();
        }
    }

    /// A hold that covers what was heard. The one before it is charged (translations) or given back.
    pub(super) fn add_listening(
        &mut self,
        session: &Session,
        turn: Turn,
        cover: &Cover,
    ) -> Option<Settling> {
        let next = Listening {
            turn,
            covers_ms: cover.covers_ms,
            model: cover.model.clone(),
        };
        let before = self.listening.replace(next)?.turn;
        if self.speech != Speech::Translations {
            before.release();
            return None;
        }
        let ms = self.audio.listened_ms().saturating_sub(cover.new_ms);
        self.audio.charged_but(cover.new_ms);
        Some(before.settle_audio(session, ms, End::Complete, true))
    }

    /// What an upstream's event means. It has been read, and its last byte not yet gone down.
    pub(super) fn hears(&mut self, session: &Session, event: UpstreamEvent) -> Option<Wait> {
        let UpstreamEvent { facts, reading } = event;
        self.learn(session, &facts);
        let kind = facts.kind.as_str();
        if let Some(reading) = reading {
            return if facts.ends_transcription() {
                self.transcribed(reading, &facts)
            } else {
                self.ends(session, reading, &facts)
            };
        }
        match kind {
            "response.created" => self.begins(&facts),
            "error" => {
                self.errs(&facts);
                None
            }
            "input_audio_buffer.committed" => {
                self.audio.committed(self.listening.is_some());
                None
            }
            "input_audio_buffer.speech_stopped" | "input_audio_buffer.timeout_triggered" => {
                if let Some(at) = facts.audio_end_ms {
                    self.audio.speech_ends(at);
                }
                None
            }
            "conversation.item.input_audio_transcription.failed" => {
                self.audio.written(0);
                None
            }
            _ => {
                let is_audio = kind.ends_with("audio.delta");
                let at = match &facts.response_id {
                    Some(id) => self.begun.iter().position(|(own, _)| own == id),
                    None => (self.begun.len() == 1).then_some(0),
                };
                if let Some((_, turn)) = at.and_then(|at| self.begun.get_mut(at)) {
                    let (text, audio) = if is_audio {
                        (0, facts.audio_bytes)
                    } else {
                        (facts.delta_bytes, 0)
                    };
                    turn.passed(facts.bytes, text, audio);
                }
                None
            }
        }
    }

    /// What the upstream says of the session wins over what was asked for.
    fn learn(&mut self, session: &Session, facts: &EventFacts) {
        let is_session = matches!(
            facts.kind.as_str(),
            "session.created"
                | "session.updated"
                | "transcription_session.created"
                | "transcription_session.updated"
        );
        if !is_session {
            return;
        }
        if let Some(model) = &facts.model {
            self.answered = Some(model.clone());
            // A session without a model in its query has one of the upstream's choosing.
            if self.model.is_none() && session.sells(model).is_ok() {
                self.model = Some(model.clone());
            }
        }
        if let Some(transcription) = &facts.transcription {
            self.transcription.clone_from(transcription);
        }
        if let Some(answers) = facts.answers_by_itself
            && self.speech == Speech::Realtime
        {
            self.answers_by_itself = answers;
        }
        if let Some(is_telephone) = facts.is_telephone {
            self.bytes_per_ms = if is_telephone {
                TELEPHONE_BYTES_PER_MS
            } else {
                BYTES_PER_MS
            };
        }
    }

    /// The turn of a response that begins: the first asked for in its lane, before those that an error may have been
    /// about; else the one on stand-by.
    fn take_asked(&mut self, lane: Option<&str>) -> Option<Turn> {
        let is_lanes = |turn: &Turn| turn.lane.as_deref() == lane;
        let mut asked = self.asked.iter();
        let at = asked
            .position(|turn| is_lanes(turn) && turn.doubted_at.is_none())
            .or_else(|| self.asked.iter().position(is_lanes))
            .or((!self.asked.is_empty() && lane.is_none()).then_some(0));
        let Some(at) = at else {
            return self.spare.take();
        };
        let before = self.asked.iter_mut().take(at);
        for turn in before.filter(|turn| turn.lane.as_deref() == lane) {
            turn.is_passed_by = true;
        }
        self.asked.remove(at)
    }

    fn begins(&mut self, facts: &EventFacts) -> Option<Wait> {
        let id = facts.response_id.clone()?;
        if self.begun.iter().any(|(own, _)| *own == id) || self.ended.contains(&id) {
            return None;
        }
        let stood_by = self.spare.is_some();
        match self.take_asked(facts.stream_id.as_deref()) {
            Some(turn) => {
                self.begin(id, turn);
                let is_taken = stood_by && self.spare.is_none();
                let model = self.model.clone();
                model
                    .filter(|_| is_taken && self.answers_by_itself)
                    .map(|model| Wait::Spare { model })
            }
            None => Some(Wait::Late {
                id: Some(id),
                reading: None,
                is_transcription: false,
            }),
        }
    }

    pub(super) fn begin(&mut self, id: String, mut turn: Turn) {
        turn.passed(0, 0, 0);
        self.begun.push((id, turn));
    }

    fn ends(
        &mut self,
        session: &Session,
        mut reading: Box<Reading>,
        facts: &EventFacts,
    ) -> Option<Wait> {
        let id = facts.response_id.clone();
        if let Some(id) = &id
            && self.ended.contains(id)
        {
            return None;
        }
        bill_audio(&mut reading, facts);
        let at = self
            .begun
            .iter()
            .position(|(own, _)| Some(own) == id.as_ref());
        let turn = match at {
            Some(at) => Some(self.begun.swap_remove(at).1),
            None => self.take_asked(facts.stream_id.as_deref()),
        };
        if let Some(id) = &id {
            self.ended.truncate(ENDED_MAX);
            self.ended.push_front(id.clone());
        }
        Some(match turn {
            Some(turn) => Wait::Settled(turn.settle(session, *reading, self.answered.as_deref())),
            None => Wait::Late {
                id,
                reading: Some(reading),
                is_transcription: false,
            },
        })
    }

    fn transcribed(&mut self, mut reading: Box<Reading>, facts: &EventFacts) -> Option<Wait> {
        bill_audio(&mut reading, facts);
        let usage = reading.usage.as_ref()?;
        let total = usage.total();
        let tokens = total.in_audio.saturating_add(total.cr_audio);
        let by_tokens = tokens.saturating_mul(MS_PER_TOKEN_HEARD);
        let lines = usage.lines.iter().map(|line| line.units.audio_in_ms);
        let ms = lines.fold(by_tokens, u64::saturating_add);
        if self.listening.is_some() {
            return Some(Wait::Written { reading, ms });
        }
        self.audio.written(ms);
        Some(Wait::Late {
            id: None,
            reading: Some(reading),
            is_transcription: true,
        })
    }

    /// What must be held for before the hold of an utterance goes, where a hold for so much stands ready.
    pub(super) fn uncovered(&self, ms: u64, covered: u64) -> Option<(String, u64)> {
        let left = self.audio.left_after(ms);
        let listening = self.listening.as_ref().filter(|_| left > covered)?;
        Some((listening.model.clone(), covering(left)))
    }

    /// An utterance is written down: it is charged, and this hold covers the rest.
    pub(super) fn written(
        &mut self,
        session: &Session,
        reading: Reading,
        ms: u64,
        next: Option<Listening>,
    ) -> Option<Settling> {
        let before = std::mem::replace(&mut self.listening, next)?.turn;
        self.audio.written(ms);
        Some(before.settle(session, reading, None))
    }

    /// The model that pays for a turn nobody asked for.
    pub(super) fn late_model(&self, is_transcription: bool) -> Option<String> {
        if is_transcription {
            return self.transcription.clone();
        }
        self.model.clone().or_else(|| self.answered.clone())
    }

    pub(super) fn answered(&self) -> Option<&str> {
        self.answered.as_deref()
    }

    /// An error: the turn it names will not begin. Where it names nothing, the next may be the one.
    fn errs(&mut self, facts: &EventFacts) {
        let lane = facts.stream_id.as_deref();
        let at = match &facts.about {
            Some(about) => {
                let mut asked = self.asked.iter();
                let at = asked.position(|turn| turn.event_id.as_ref() == Some(about));
                if !self.ids.has_forgotten() {
                    if let Some(turn) = at.and_then(|at| self.asked.remove(at)) {
                        turn.release();
                    }
                    return;
                }
                at
            }
            // There is nothing else that it could be about.
            None if self.only_asks && self.begun.is_empty() && self.asked.len() == 1 => {
                if let Some(turn) = self.asked.pop_front() {
                    turn.release();
                }
                return;
            }
            None => self
                .asked
                .iter()
                .position(|turn| turn.doubted_at.is_none() && turn.lane.as_deref() == lane),
        };
        if let Some(turn) = at.and_then(|at| self.asked.get_mut(at)) {
            turn.doubted_at.get_or_insert_with(Instant::now);
        }
    }

    /// The socket is over: what is open is charged by what is known of it.
    pub(super) fn finish(&mut self, session: &Session) -> Vec<Settling> {
        let end = if self.client_left || self.is_closing {
            End::Abandoned
        } else {
            End::Failed
        };
        let mut settling = Vec::new();
        if let Some(spare) = self.spare.take() {
            spare.release();
        }
        for turn in self.asked.drain(..) {
            if turn.may_begin(DOUBT_GRACE) {
                settling.push(turn.estimate(session, end));
            } else {
                turn.release();
            }
        }
        for (_, turn) in self.begun.drain(..) {
            settling.push(turn.estimate(session, end));
        }
        if let Some(Listening { turn, .. }) = self.listening.take() {
            let is_whole = self.speech == Speech::Translations;
            let ms = self.audio.listened_ms();
            if ms > 0 && (is_whole || self.audio.is_writing()) {
                settling.push(turn.settle_audio(session, ms, end, is_whole));
            } else {
                turn.release();
            }
        }
        settling
    }
}

/// So much audio a hold is taken for, where so much was heard.
fn covering(ms: u64) -> u64 {
    ms.saturating_mul(2).max(COVER_MS_MIN)
}

/// xAI bills audio by time, beside its usage.
fn bill_audio(reading: &mut Reading, facts: &EventFacts) {
    let Some(ms) = facts.billed_audio_ms else {
        return;
    };
    let usage = reading.usage.get_or_insert_with(|| tariff::Usage {
        lines: vec![tariff::Line::default()],
        ..tariff::Usage::default()
    });
    if let Some(line) = usage.lines.first_mut()
        && line.buckets.total() == 0
    {
        line.units.audio_out_ms = ms;
    }
}
