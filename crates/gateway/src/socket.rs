//! A WebSocket, from its handshake to its end: money is held turn by turn. Nothing is spent before the hold, nothing is
//! finished before the charge: an event's last byte waits for either.

mod audio;
mod ids;
mod parting;
mod turn;
mod turns;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use ledger::{AccessToken, Catalog, UpstreamKeyId};
use meter::{ClientSocket, ClientStep, Reading, Speech, UpstreamSocket, UpstreamStep};
use proxy::{
    Answer, Gate,
    socket::{Look, SocketEnd, Watcher},
};
use tokio::{sync::Notify, time::sleep_until};
use tracing::{error, warn};

use self::{
    parting::Parting,
    turn::{Turn, Wanted},
    turns::{Listening, Need, Turns, Wait},
};
use crate::{
    admission, gateway::Entry, places::Place, record::Record, refusal::Refusal, telemetry::Trace,
    worker::Worker,
};

/// How often it is looked whether the access token still holds, and whether the program must end.
const CHECK_EVERY: Duration = Duration::from_secs(2);

/// What all turns of a socket have in common.
pub(crate) struct Session {
    worker: Worker,
    peer: IpAddr,
    endpoint: &'static str,
    digest: [u8; 32],
    /// As it was when the socket was opened.
    opened_with: Arc<AccessToken>,
    place: Arc<Place>,
    is_only: bool,
    upstream_key: Option<UpstreamKeyId>,
    entry: Entry,
    /// Whose trace its turns belong to.
    trace: Option<Box<Trace>>,
    turns: Mutex<Turns>,
    changed: Notify,
    /// When a byte last passed.
    active: Mutex<Instant>,
    /// Since when the end waits for open turns.
    ending: Mutex<Option<Instant>>,
}

/// What a [`Session`] is made of.
pub(crate) struct Opened {
    pub(crate) worker: Worker,
    pub(crate) peer: IpAddr,
    pub(crate) endpoint: &'static str,
    pub(crate) digest: [u8; 32],
    pub(crate) token: Arc<AccessToken>,
    pub(crate) place: Arc<Place>,
    pub(crate) is_only: bool,
    pub(crate) upstream_key: Option<UpstreamKeyId>,
    pub(crate) entry: Entry,
    pub(crate) speech: Speech,
    pub(crate) model: Option<String>,
    pub(crate) transcribes_only: bool,
    pub(crate) trace: Option<Box<Trace>>,
}

/// Both ends of a socket, once the handshake is through.
pub(crate) struct Ends {
    pub(crate) client: OnUpgrade,
    pub(crate) upstream: OnUpgrade,
    /// Keeps the place among the upstream's connections.
    pub(crate) answer: Answer,
}

/// Milliseconds since the epoch.
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Relays a socket to its end and settles what it leaves open.
pub(crate) async fn run(opened: Opened, ends: Ends, mut record: Record) {
    let speech = opened.speech;
    let session = Arc::new(Session {
        worker: opened.worker,
        peer: opened.peer,
        endpoint: opened.endpoint,
        digest: opened.digest,
        opened_with: opened.token,
        place: opened.place,
        is_only: opened.is_only,
        upstream_key: opened.upstream_key,
        entry: opened.entry,
        trace: opened.trace,
        turns: Mutex::new(Turns::new(speech, opened.model, opened.transcribes_only)),
        changed: Notify::new(),
        active: Mutex::new(Instant::now()),
        ending: Mutex::new(None),
    });
    let Ends {
        client,
        upstream,
        answer,
    } = ends;
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok(both) => both,
        Err(error) => {
            warn!(exchange = %record.id, %error, "socket.not_opened: a peer left during the handshake");
            return;
        }
    };
    let mut up = Up {
        session: Arc::clone(&session),
        reader: ClientSocket::new(speech),
        need: None,
    };
    let mut down = Down {
        session: Arc::clone(&session),
        reader: UpstreamSocket::default(),
        wait: None,
        checked: Instant::now(),
        bytes: 0,
    };
    let end = proxy::socket::relay(
        TokioIo::new(client),
        TokioIo::new(upstream),
        &mut up,
        &mut down,
        session.idle(),
    )
    .await;
    record.answer_bytes = down.bytes;
    let (settling, parting) = {
        let mut turns = lock(&session.turns);
        (turns.finish(&session), turns.parting.take())
    };
    record.end = match (end, &parting) {
        (_, Some(parting)) => {
            warn!(exchange = %record.id, reason = parting.name(), "socket.ended: by this gateway");
            "parted"
        }
        (SocketEnd::Shut, None) => "failed",
        (SocketEnd::Upstream | SocketEnd::Parted, None) => "complete",
    };
    for settled in join_all(settling).await {
        if let Err(error) = settled {
            error!(exchange = %record.id, %error, "charge.not_durable: a turn of this socket");
        }
    }
    drop(answer);
}

impl Session {
    fn idle(&self) -> Duration {
        Duration::from_secs(self.worker.gateway.settings.socket_idle_seconds.get())
    }

    /// The access token as it is now.
    async fn token(&self, now_ms: i64) -> Result<Arc<AccessToken>, Refusal> {
        let gateway = &self.worker.gateway;
        let token = admission::authenticate(gateway, self.digest, self.peer, now_ms).await?;
        if token.allows_endpoint(self.endpoint) {
            Ok(token)
        } else {
            Err(Refusal::EndpointNotAllowed)
        }
    }

    /// Whether a model has a price here and the token may use it.
    fn sells(&self, model: &str) -> Result<(), Parting> {
        let catalog = self.worker.gateway.ledger.catalog();
        let refusal = || Refusal::ModelNotFound {
            model: model.to_owned(),
        };
        if !self.opened_with.allows_model(model) {
            return Err(Parting::refused(&refusal()));
        }
        admission::quote(&catalog, model, now_ms())
            .map(drop)
            .map_err(|refusal| Parting::refused(&refusal))
    }

    /// Whether the upstream of this socket serves the model.
    fn is_served_here(&self, catalog: &Catalog, model: &str) -> Result<(), Refusal> {
        let is_here = self.is_only
            || catalog.upstreams().is_empty()
            || catalog
                .candidates(model)
                .iter()
                .any(|upstream| Some(upstream.id) == self.place.id);
        if is_here {
            Ok(())
        } else {
            Err(Refusal::ModelNotFound {
                model: model.to_owned(),
            })
        }
    }

    fn touch(&self) {
        *lock(&self.active) = Instant::now();
    }

    /// Ends the socket; the first reason stands.
    fn part(&self, parting: Parting) {
        lock(&self.turns).parting.get_or_insert(parting);
        self.changed.notify_waiters();
    }

    fn client_left(&self) {
        lock(&self.turns).client_left = true;
        self.changed.notify_waiters();
    }

    /// Takes what an event needs.
    async fn meet(&self, need: Need) -> Result<(), Refusal> {
        match need {
            Need::Turn {
                model,
                wanted,
                lane,
                event_id,
            } => {
                let (earlier, heard) = {
                    let mut turns = lock(&self.turns);
                    (turns.doubtful(&wanted), turns.heard())
                };
                let heard = match &wanted {
                    Wanted::Request(facts) => turn::Heard {
                        text_bytes: facts.body_bytes,
                        audio_ms: 0,
                    },
                    _ => heard,
                };
                let mut turn = match earlier {
                    Some(turn) => turn,
                    None => Turn::open(self, &model, wanted, heard).await?,
                };
                turn.lane = lane;
                turn.event_id = event_id;
                turn.doubted_at = None;
                turn.is_passed_by = false;
                lock(&self.turns).add(turn);
            }
            Need::Audio { spare, listening } => {
                let heard = lock(&self.turns).heard();
                if let Some(model) = spare {
                    let wanted = Wanted::Response { output_limit: None };
                    let turn = Turn::open(self, &model, wanted, heard).await?;
                    lock(&self.turns).add_spare(turn);
                }
                if let Some(cover) = listening {
                    let wanted = Wanted::Listening {
                        ms: cover.covers_ms,
                    };
                    let turn =
                        Turn::open(self, &cover.model, wanted, turn::Heard::default()).await?;
                    let settling = lock(&self.turns).add_listening(self, turn, &cover);
                    if let Some(settling) = settling {
                        settling.await.map_err(|_| Refusal::Unavailable {
                            reason: "its database does not answer",
                        })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Holds, and where it has ended already charges, a turn nobody asked for.
    async fn meet_late(&self, wait: Wait) -> Result<(), Refusal> {
        let (id, reading, is_transcription) = match wait {
            Wait::Settled(settling) => {
                return settling.await.map_err(|error| {
                    error!(%error, "charge.not_durable: a turn's last event is not released");
                    Refusal::Unavailable {
                        reason: "its database does not answer",
                    }
                });
            }
            Wait::Written { reading, ms } => return self.written(*reading, ms).await,
            Wait::Spare { model } => {
                let heard = lock(&self.turns).heard();
                let wanted = Wanted::Response { output_limit: None };
                let turn = Turn::open(self, &model, wanted, heard).await?;
                lock(&self.turns).add_spare(turn);
                return Ok(());
            }
            Wait::Late {
                id,
                reading,
                is_transcription,
            } => (id, reading, is_transcription),
        };
        let (model, heard, answered) = {
            let turns = lock(&self.turns);
            let named = || reading.as_ref().and_then(|reading| reading.model.clone());
            let model = turns.late_model(is_transcription).or_else(named);
            (model, turns.heard(), turns.answered().map(str::to_owned))
        };
        let model = model.ok_or_else(admission::missing_model)?;
        let wanted = if is_transcription {
            Wanted::Listening {
                ms: heard.audio_ms.max(turns::COVER_MS_MIN),
            }
        } else {
            Wanted::Response { output_limit: None }
        };
        let turn = Turn::open(self, &model, wanted, heard).await?;
        match (reading, id) {
            (Some(reading), _) => {
                let answered = answered.as_deref().filter(|_| !is_transcription);
                let settling = turn.settle(self, *reading, answered);
                settling.await.map_err(|_| Refusal::Unavailable {
                    reason: "its database does not answer",
                })
            }
            (None, Some(id)) => {
                lock(&self.turns).begin(id, turn);
                Ok(())
            }
            (None, None) => {
                turn.release();
                Ok(())
            }
        }
    }

    /// Charges an utterance that is written down. What else was heard is held for before its hold goes.
    async fn written(&self, reading: Reading, ms: u64) -> Result<(), Refusal> {
        let mut next: Option<Listening> = None;
        let settling = loop {
            let (model, covers_ms) = {
                let mut turns = lock(&self.turns);
                let covered = next.as_ref().map_or(0, |it| it.covers_ms);
                match turns.uncovered(ms, covered) {
                    Some(cover) => cover,
                    None => break turns.written(self, reading, ms, next),
                }
            };
            let wanted = Wanted::Listening { ms: covers_ms };
            let opened = Turn::open(self, &model, wanted, turn::Heard::default()).await;
            // The client may have said more meanwhile than the last one covers.
            if let Some(before) = next.take() {
                before.turn.release();
            }
            next = Some(Listening {
                turn: opened?,
                covers_ms,
                model,
            });
        };
        let unavailable = || Refusal::Unavailable {
            reason: "its database does not answer",
        };
        let settling = settling.ok_or_else(unavailable)?;
        settling.await.map_err(|error| {
            error!(%error, "charge.not_durable: a transcription's last event is not released");
            unavailable()
        })
    }

    /// Looks whether anything but its peers ends the socket.
    async fn check(&self) {
        let gateway = &self.worker.gateway;
        if gateway.draining.load(Ordering::Relaxed) {
            self.part(Parting::shutdown());
        }
        match self.token(now_ms()).await {
            // While Postgres is away nobody can revoke either.
            Ok(_) | Err(Refusal::Unavailable { .. }) => {}
            Err(refusal) => self.part(Parting::refused(&refusal)),
        }
    }

    /// Whether the socket may end now, and with which reason.
    fn may_end(&self) -> Option<Option<Parting>> {
        let turns = lock(&self.turns);
        if turns.parting.is_none() && !turns.client_left {
            return None;
        }
        let since = *lock(&self.ending).get_or_insert_with(Instant::now);
        let is_at_once = turns
            .parting
            .as_ref()
            .is_some_and(|parting| parting.is_at_once);
        let is_over = is_at_once
            || !turns.are_open()
            || since.elapsed() >= self.worker.gateway.settings.drain();
        is_over.then(|| turns.parting.clone())
    }
}

/// Watches what the client says.
struct Up {
    session: Arc<Session>,
    reader: ClientSocket,
    /// `None` at a gate: it stays shut.
    need: Option<Need>,
}

impl Watcher for Up {
    fn look(&mut self, bytes: &[u8]) -> Look {
        let session = &self.session;
        session.touch();
        let mut at = 0_usize;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (ends, event) = match self.reader.read(rest) {
                Err(error) => {
                    session.part(Parting::invalid(&error));
                    return Look {
                        taken: bytes.len(),
                        held: rest.len(),
                    };
                }
                Ok(ClientStep::More) => break,
                Ok(ClientStep::Control { at: ends, is_close }) => {
                    lock(&session.turns).is_closing |= is_close;
                    at = at.saturating_add(ends);
                    continue;
                }
                Ok(ClientStep::Event { at, event }) => (at, event),
            };
            at = at.saturating_add(ends);
            let said = lock(&session.turns).said(session, *event);
            match said {
                Ok(None) => {}
                Ok(need) => {
                    self.need = need;
                    return Look { taken: at, held: 1 };
                }
                Err(parting) => {
                    session.part(parting);
                    return Look { taken: at, held: 1 };
                }
            }
        }
        Look {
            taken: bytes.len(),
            held: 0,
        }
    }

    async fn gate(&mut self) -> Gate {
        let Some(need) = self.need.take() else {
            return Gate::Shut;
        };
        match self.session.meet(need).await {
            Ok(()) => Gate::Open,
            Err(refusal) => {
                self.session.part(Parting::refused(&refusal));
                Gate::Shut
            }
        }
    }

    async fn ended(&mut self) {
        if lock(&self.session.turns).is_closing {
            return;
        }
        // Telling the upstream would end the turns that are open, and nobody would tell their usage.
        self.session.client_left();
        std::future::pending().await
    }

    fn unheard(&mut self) {}

    async fn parting(&mut self) -> Bytes {
        std::future::pending().await
    }
}

/// Watches what the upstream says.
struct Down {
    session: Arc<Session>,
    reader: UpstreamSocket,
    wait: Option<Wait>,
    checked: Instant,
    bytes: u64,
}

impl Watcher for Down {
    fn look(&mut self, bytes: &[u8]) -> Look {
        let session = &self.session;
        session.touch();
        let mut at = 0_usize;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.reader.read(rest) {
                UpstreamStep::More if self.reader.is_lost() => {
                    session.part(Parting::unreadable());
                    return Look {
                        taken: bytes.len(),
                        held: rest.len(),
                    };
                }
                UpstreamStep::More => break,
                UpstreamStep::Control { at: ends, is_close } => {
                    lock(&session.turns).is_closing |= is_close;
                    at = at.saturating_add(ends);
                }
                UpstreamStep::Event { at: ends, event } => {
                    at = at.saturating_add(ends);
                    let wait = lock(&session.turns).hears(session, *event);
                    if wait.is_some() {
                        self.wait = wait;
                        self.bytes = self.bytes.saturating_add(at as u64);
                        return Look { taken: at, held: 1 };
                    }
                }
            }
        }
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        Look {
            taken: bytes.len(),
            held: 0,
        }
    }

    async fn gate(&mut self) -> Gate {
        let Some(wait) = self.wait.take() else {
            return Gate::Shut;
        };
        // What only begins may be told of: the client hears why it goes no further.
        let is_beginning = matches!(&wait, Wait::Late { reading: None, .. });
        // What takes the hold on stand-by has its hold: it may end before the socket does.
        let is_held = matches!(&wait, Wait::Spare { .. });
        match self.session.meet_late(wait).await {
            Ok(()) => Gate::Open,
            Err(refusal) if is_held => {
                self.session.part(Parting::refused(&refusal));
                Gate::Open
            }
            Err(refusal) => {
                self.session.part(Parting::refused(&refusal).at_once());
                if is_beginning { Gate::Open } else { Gate::Shut }
            }
        }
    }

    async fn ended(&mut self) {}

    fn unheard(&mut self) {
        self.session.client_left();
    }

    async fn parting(&mut self) -> Bytes {
        let session = Arc::clone(&self.session);
        let gateway = &session.worker.gateway;
        loop {
            let mut changed = std::pin::pin!(session.changed.notified());
            changed.as_mut().enable();
            if let Some(parting) = session.may_end()
                && self.reader.is_between_frames()
            {
                let may_tell = !self.reader.is_in_message();
                return parting.map_or_else(Bytes::new, |parting| parting.frames(may_tell));
            }
            let active = *lock(&session.active);
            tokio::select! {
                () = &mut changed => {}
                () = gateway.hurry.cancelled() => {
                    session.part(Parting::shutdown().at_once());
                    if !self.reader.is_between_frames() {
                        return Bytes::new();
                    }
                    let parting = Parting::shutdown();
                    return parting.frames(!self.reader.is_in_message());
                }
                () = sleep_until((self.checked + CHECK_EVERY).into()) => {
                    self.checked = Instant::now();
                    if active.elapsed() >= session.idle() {
                        session.part(Parting::idle(session.idle().as_secs()).at_once());
                        if !self.reader.is_between_frames() {
                            return Bytes::new();
                        }
                    }
                    session.check().await;
                }
            }
        }
    }
}
