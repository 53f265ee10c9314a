//! Where requests go: upstream rows resolved to addresses and keys, once per catalog.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use http::HeaderName;
use ledger::{Catalog, CostBy, Dialect, SecretSource, Upstream, UpstreamId, UpstreamKeyId};
use proxy::{Egress, Target, headers::Credential};
use tokio::sync::mpsc;

use crate::{
    health::{self, Alarm, Health},
    refusal::Refusal,
    settings::{self, Secret},
};

/// A place a request can go to, with the credential for it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) id: Option<UpstreamId>,
    pub(crate) key_id: Option<UpstreamKeyId>,
    pub(crate) name: String,
    pub(crate) target: Target,
    pub(crate) egress: Egress,
    pub(crate) credential: Option<Credential>,
    /// Put before the client's own: an API's version, say.
    pub(crate) query: Option<String>,
    pub(crate) dialect: Dialect,
    /// Whose figure is charged for what it answers.
    pub(crate) cost: CostBy,
    /// How requests with this credential fare.
    pub(crate) health: Arc<Health>,
}

/// Every place, kept in step with the catalog.
pub(crate) struct Places {
    /// Serves while table `upstream` is empty: what `OPENAI_URL` names, or the sandbox.
    fallback: Arc<Place>,
    /// Serves one model in the fallback's stead.
    second: Option<(&'static str, Arc<Place>)>,
    resolved: ArcSwap<Resolved>,
    /// Outlives catalogs: a new price is no reason to ask a refused key again.
    health: Healths,
    /// What is told when a key begins to rest, until somebody listens.
    alarms: Mutex<Option<mpsc::Receiver<Alarm>>>,
}

/// Whose health: an upstream's key, or the upstream without one.
type Key = (UpstreamId, Option<UpstreamKeyId>);

/// The health of every key that was ever resolved; there are as many as rows.
struct Healths {
    all: Mutex<HashMap<Key, Arc<Health>>>,
    alarms: mpsc::Sender<Alarm>,
}

/// The upstreams of one catalog.
#[derive(Default)]
struct Resolved {
    generation: u64,
    /// `None`: the row cannot be used; the log says why.
    upstreams: HashMap<UpstreamId, Option<Keys>>,
}

/// One upstream's keys, to take turns among.
struct Keys {
    /// A place per key, as often as its weight says.
    turns: Vec<Arc<Place>>,
    next: AtomicUsize,
}

/// Whose turn it is.
struct Turn {
    place: Arc<Place>,
    /// It should be left alone, and so should all its upstream's others.
    rests: bool,
}

/// How one key stands.
pub(crate) struct Standing {
    pub(crate) upstream: String,
    pub(crate) key: Option<UpstreamKeyId>,
    pub(crate) rests: bool,
    /// What came of requests with it, and how often.
    pub(crate) outcomes: [(&'static str, u64); 4],
}

impl Standing {
    fn of(upstream: &str, key: Option<UpstreamKeyId>, health: &Health, now_ms: u64) -> Self {
        Self {
            upstream: upstream.to_owned(),
            key,
            rests: health.rests_until_ms() > now_ms,
            outcomes: health.outcomes(),
        }
    }

    /// The key's number, or `none`.
    pub(crate) fn key_name(&self) -> String {
        self.key
            .map_or_else(|| "none".to_owned(), |id| id.to_string())
    }
}

/// Alarms nobody has heard yet; beyond it they are not told, since the same is told again.
const ALARMS_MAX: usize = 64;
/// Most turns of one upstream's cycle: beyond it weights are cut.
const TURNS_MAX: usize = 1_000;

impl Places {
    /// Places that begin with the fallback alone.
    pub(crate) fn new(fallback: Place) -> Self {
        let (told, alarms) = mpsc::channel(ALARMS_MAX);
        Self {
            fallback: Arc::new(fallback),
            second: None,
            resolved: ArcSwap::default(),
            health: Healths {
                all: Mutex::default(),
                alarms: told,
            },
            alarms: Mutex::new(Some(alarms)),
        }
    }

    /// What is told when a key begins to rest. For whoever asks first.
    pub(crate) fn alarms(&self) -> Option<mpsc::Receiver<Alarm>> {
        self.alarms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The same with a place for one model.
    pub(crate) fn with_second(mut self, second: Option<(&'static str, Place)>) -> Self {
        self.second = second.map(|(model, place)| (model, Arc::new(place)));
        self
    }

    /// The one place every model goes to, if there is just one: then bytes may flow before the model is known.
    ///
    /// # Errors
    /// 503 when the only upstream's row cannot be used.
    pub(crate) fn only(&self, catalog: &Catalog) -> Result<Option<Arc<Place>>, Refusal> {
        if catalog.upstreams().is_empty() {
            let is_only = self.second.is_none();
            return Ok(is_only.then(|| Arc::clone(&self.fallback)));
        }
        catalog
            .only_upstream()
            .map(|upstream| self.place(catalog, upstream.id))
            .transpose()
    }

    /// Where this model goes: the first of its upstreams that has a key which is not resting, else the first of all.
    ///
    /// # Errors
    /// 404 when no upstream serves it, 503 when the upstream's row cannot be used.
    pub(crate) fn for_model(&self, catalog: &Catalog, model: &str) -> Result<Arc<Place>, Refusal> {
        let candidates = catalog.candidates(model);
        if candidates.len() > 1 {
            let well = candidates.iter().find_map(|upstream| {
                let turn = self.turn(catalog, upstream.id).ok()?;
                (!turn.rests).then_some(turn.place)
            });
            if let Some(place) = well {
                return Ok(place);
            }
        }
        match candidates.first() {
            Some(upstream) => self.place(catalog, upstream.id),
            None if catalog.upstreams().is_empty() => Ok(match &self.second {
                Some((second, place)) if *second == model => Arc::clone(place),
                _ => Arc::clone(&self.fallback),
            }),
            None => Err(Refusal::ModelNotFound {
                model: model.to_owned(),
            }),
        }
    }

    /// Where a request that got no connection may go instead: the model's next upstream that is spoken to alike.
    pub(crate) fn instead_of(
        &self,
        catalog: &Catalog,
        model: &str,
        tried: &[Option<UpstreamId>],
        dialect: Dialect,
    ) -> Option<Arc<Place>> {
        catalog
            .candidates(model)
            .into_iter()
            .filter(|upstream| upstream.dialect == dialect && !tried.contains(&Some(upstream.id)))
            .find_map(|upstream| self.place(catalog, upstream.id).ok())
    }

    /// The first upstream by priority.
    ///
    /// # Errors
    /// 503 when its row cannot be used.
    fn first(&self, catalog: &Catalog) -> Result<Arc<Place>, Refusal> {
        match catalog.upstreams().first() {
            Some(upstream) => self.place(catalog, upstream.id),
            None => Ok(Arc::clone(&self.fallback)),
        }
    }

    /// Where a request goes that names no model, at an endpoint of this dialect: the first upstream that speaks it, else the first.
    ///
    /// # Errors
    /// 503 when that upstream's row cannot be used.
    pub(crate) fn first_of(
        &self,
        catalog: &Catalog,
        dialect: Dialect,
    ) -> Result<Arc<Place>, Refusal> {
        let mut upstreams = catalog.upstreams().iter();
        match upstreams.find(|upstream| upstream.dialect == dialect) {
            Some(upstream) => self.place(catalog, upstream.id),
            None => self.first(catalog),
        }
    }

    fn place(&self, catalog: &Catalog, upstream: UpstreamId) -> Result<Arc<Place>, Refusal> {
        self.turn(catalog, upstream).map(|turn| turn.place)
    }

    /// Where what a provider keeps can be asked for: the upstream that has it, with the key it was made with. One that was replaced since
    /// is taken to be of the same account.
    ///
    /// # Errors
    /// 503 when the upstream's row is gone or cannot be used.
    pub(crate) fn home(
        &self,
        catalog: &Catalog,
        upstream: Option<UpstreamId>,
        key: Option<UpstreamKeyId>,
    ) -> Result<Arc<Place>, Refusal> {
        let Some(upstream) = upstream else {
            return Ok(Arc::clone(&self.fallback));
        };
        let turn = self.turn(catalog, upstream)?;
        let resolved = self.resolved.load();
        let keys = resolved.upstreams.get(&upstream).and_then(Option::as_ref);
        let same = keys.and_then(|keys| keys.turns.iter().find(|place| place.key_id == key));
        Ok(same.map_or(turn.place, Arc::clone))
    }

    /// Every key in use, and whether it rests.
    pub(crate) fn standing(&self, catalog: &Catalog) -> Vec<Standing> {
        let now_ms = health::now_ms();
        let all = catalog.upstreams().iter().flat_map(|upstream| {
            let keys = upstream.keys.iter().map(|key| Some(key.id));
            let none = upstream.keys.is_empty().then_some(None);
            keys.chain(none).map(|key| {
                let health = self.health.of((upstream.id, key));
                Standing::of(&upstream.name, key, &health, now_ms)
            })
        });
        let all: Vec<_> = all.collect();
        if !all.is_empty() {
            return all;
        }
        let second = self.second.as_ref().map(|(_, place)| place);
        let places = [&self.fallback].into_iter().chain(second);
        places
            .map(|place| Standing::of(&place.name, None, &place.health, now_ms))
            .collect()
    }

    fn turn(&self, catalog: &Catalog, upstream: UpstreamId) -> Result<Turn, Refusal> {
        let mut resolved = self.resolved.load();
        if resolved.generation != catalog.generation() {
            // Two workers may both resolve; they come to the same result.
            self.resolved
                .store(Arc::new(Resolved::of(catalog, &self.health)));
            resolved = self.resolved.load();
        }
        match resolved.upstreams.get(&upstream) {
            Some(Some(keys)) => Ok(keys.take_turn()),
            _ => Err(Refusal::Unavailable {
                reason: "its upstream is not set up properly",
            }),
        }
    }
}

impl Resolved {
    fn of(catalog: &Catalog, health: &Healths) -> Self {
        let upstreams = catalog.upstreams().iter().map(|upstream| {
            let keys = resolve(upstream, health).map_err(|error| {
                tracing::error!(upstream = upstream.name, "upstream.unusable: {error}")
            });
            (upstream.id, keys.ok())
        });
        Self {
            generation: catalog.generation(),
            upstreams: upstreams.collect(),
        }
    }
}

impl Keys {
    /// The next key in turn that is not resting; where all are, the one whose rest ends first.
    fn take_turn(&self) -> Turn {
        let now_ms = health::now_ms();
        let first = self
            .next
            .fetch_add(1, Ordering::Relaxed)
            .checked_rem(self.turns.len())
            .unwrap_or(0);
        let (before, from) = self.turns.split_at(first);
        let mut in_turn = from.iter().chain(before);
        let well = in_turn.find(|place| place.health.is_available(now_ms));
        let soonest = || {
            self.turns
                .iter()
                .min_by_key(|place| place.health.rests_until_ms())
        };
        Turn {
            rests: well.is_none(),
            place: Arc::clone(well.or_else(soonest).unwrap_or(&self.turns[0])),
        }
    }
}

impl Healths {
    fn of(&self, key: Key) -> Arc<Health> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Health::told(key, self.alarms.clone()));
        Arc::clone(all.entry(key).or_insert_with(new))
    }
}

/// One upstream's places. Never empty: without a key there is one place that sends none.
fn resolve(upstream: &Upstream, health: &Healths) -> Result<Keys, String> {
    let mut turns = Vec::new();
    for (weight, place) in each_key(upstream)? {
        let mut place = place?;
        place.health = health.of((upstream.id, place.key_id));
        let keyed = Arc::new(place);
        turns.extend(std::iter::repeat_n(keyed, weight as usize).take(TURNS_MAX));
    }
    Ok(Keys {
        turns,
        next: AtomicUsize::new(0),
    })
}

/// A key's weight, and its place or why it has none.
type Weighted = (u32, Result<Place, String>);

/// One place for each of an upstream's keys; without a key one that sends none.
///
/// # Errors
/// When the upstream itself cannot be used: its address, its proxy.
pub(crate) fn each_key(upstream: &Upstream) -> Result<Vec<Weighted>, String> {
    let say = |what: &str, why: &dyn fmt::Display| format!("its {what} cannot be used: {why}");
    let target = Target::parse(&upstream.base_url).map_err(|error| say("base_url", &error))?;
    let egress = match &upstream.proxy {
        Some(proxy) => Egress::parse(proxy).map_err(|error| say("proxy", &error))?,
        None => Egress::Direct,
    };
    let place = |key_id, credential| Place {
        id: Some(upstream.id),
        key_id,
        name: upstream.name.clone(),
        target: target.clone(),
        egress: egress.clone(),
        credential,
        query: None,
        dialect: upstream.dialect,
        cost: upstream.cost,
        health: Arc::default(),
    };
    if upstream.keys.is_empty() {
        return Ok(vec![(1, Ok(place(None, None)))]);
    }
    let keyed = upstream.keys.iter().map(|key| {
        let credential = credential(&key.secret, upstream.dialect);
        let place = credential
            .map(|credential| place(Some(key.id), Some(credential)))
            .map_err(|error| say("key", &error));
        (key.weight, place)
    });
    Ok(keyed.collect())
}

/// What to show an upstream for this secret.
///
/// # Errors
/// A sentence that names the variable or file, never the secret.
pub(crate) fn credential(source: &SecretSource, dialect: Dialect) -> Result<Credential, String> {
    let secret = reveal(source)?;
    let key = secret.expose();
    let named = |name| Credential::named(HeaderName::from_static(name), key);
    match dialect {
        Dialect::OpenAi => Credential::bearer(key),
        Dialect::Azure => named("api-key"),
        Dialect::Anthropic => named("x-api-key"),
    }
    .map_err(|_| "it has characters that a header cannot carry".to_owned())
}

/// The secret itself, from where the row says it stands.
pub(crate) fn reveal(source: &SecretSource) -> Result<Secret, String> {
    match source {
        SecretSource::Literal(secret) => Ok(Secret::from(secret.expose().to_owned())),
        SecretSource::Env(name) => {
            settings::secret(name).ok_or_else(|| format!("environment variable {name} is not set"))
        }
        SecretSource::File(path) => read_secret(path),
    }
}

fn read_secret(path: &Path) -> Result<Secret, String> {
    std::fs::read_to_string(path)
        .map(|text| Secret::from(text.trim_end_matches(['\r', '\n']).to_owned()))
        .map_err(|error| format!("file {} cannot be read: {error}", path.display()))
}
