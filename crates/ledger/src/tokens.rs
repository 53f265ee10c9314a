//! Access tokens by digest: cached, each looked up once however many ask, and never older than what Postgres told us.

use std::{
    collections::HashMap,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use moka::{Expiry, future::Cache};
use tokio::time::timeout;
use tokio_postgres::{Row, types::Type};

use crate::{
    AccessToken, AccountId, Config, LedgerError, SecretSource, TokenId, connect::Connections,
};

type Digest = [u8; 32];

/// The cache.
///
/// Every word from Postgres about tokens gets a number, the epoch. An entry carries the epoch at which its lookup
/// *began*, and counts only if nothing was said about it since: so a lookup that was under way while its token was
/// revoked cannot bring the old state back, whenever it is stored.
pub(crate) struct Tokens {
    pool: Connections,
    cache: Cache<Digest, Entry>,
    epoch: AtomicU64,
    heard: RwLock<Heard>,
    listening: AtomicBool,
    /// What was last known of each token, for the time when Postgres does not answer: nobody can revoke one then either.
    last: RwLock<HashMap<Digest, Arc<AccessToken>>>,
}

#[derive(Clone)]
struct Entry {
    began: u64,
    looked_up: Instant,
    token: Option<Arc<AccessToken>>,
}

/// What was said about which token, as far as an entry that still lives may be concerned.
#[derive(Default)]
struct Heard {
    /// Everything looked up before this epoch is void.
    all: u64,
    one: HashMap<TokenId, (u64, Instant)>,
}

struct Lifetimes {
    known: Duration,
    unknown: Duration,
}

impl Expiry<Digest, Entry> for Lifetimes {
    fn expire_after_create(&self, _: &Digest, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(if entry.token.is_some() {
            self.known
        } else {
            self.unknown
        })
    }
}

impl Tokens {
    pub(crate) fn new(pool: Connections, config: &Config) -> Self {
        let lifetimes = Lifetimes {
            known: config.token_ttl,
            unknown: config.unknown_token_ttl,
        };
        Self {
            pool,
            cache: Cache::builder()
                .max_capacity(ENTRIES_MAX)
                .expire_after(lifetimes)
                .build(),
            epoch: AtomicU64::new(1),
            heard: RwLock::default(),
            listening: AtomicBool::new(false),
            last: RwLock::default(),
        }
    }

    pub(crate) async fn get(
        &self,
        digest: Digest,
    ) -> Result<Option<Arc<AccessToken>>, LedgerError> {
        let last = self.last_known(&digest);
        let Some(last) = last else {
            return self.find(digest).await;
        };
        // With something to fall back on nobody waits long.
        match timeout(LAST_KNOWN_AFTER, self.find(digest)).await {
            Ok(Err(error)) if !error.is_unavailable() => Err(error),
            Ok(Ok(token)) => Ok(token),
            // What was heard of it meanwhile has taken it out.
            Ok(Err(_)) | Err(_) => Ok(self.last_known(&digest).map(|_| last)),
        }
    }

    /// Whether it is known, or known to be unknown: then asking costs Postgres nothing, or is worth it.
    pub(crate) async fn has_heard_of(&self, digest: &Digest) -> bool {
        if self.last_known(digest).is_some() {
            return true;
        }
        let entry = self.cache.get(digest).await;
        entry.is_some_and(|entry| self.stands(&entry))
    }

    fn last_known(&self, digest: &Digest) -> Option<Arc<AccessToken>> {
        let last = self
            .last
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        last.get(digest).map(Arc::clone)
    }

    fn remember(&self, digest: Digest, token: Option<&Arc<AccessToken>>) {
        let mut last = self
            .last
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match token {
            Some(token) => {
                if last.len() >= LAST_KNOWN_MAX && !last.contains_key(&digest) {
                    last.clear();
                }
                last.insert(digest, Arc::clone(token));
            }
            None => {
                last.remove(&digest);
            }
        }
    }

    async fn find(&self, digest: Digest) -> Result<Option<Arc<AccessToken>>, LedgerError> {
        for _ in 0..ATTEMPTS {
            let entry = self
                .cache
                .try_get_with(digest, self.look_up(digest))
                .await
                .map_err(|error| LedgerError::clone(&error))?;
            if self.stands(&entry) {
                return Ok(entry.token);
            }
            self.cache.invalidate(&digest).await;
        }
        // Something about it is said all the time. What is asked for from here on is fresh enough for this request.
        Ok(self.look_up(digest).await?.token)
    }

    /// A token changed.
    pub(crate) fn changed(&self, id: TokenId) {
        self.last
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .retain(|_, token| token.id != id);
        let mut heard = self
            .heard
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let epoch = self.epoch.fetch_add(1, SeqCst).saturating_add(1);
        if heard.one.len() >= HEARD_MAX {
            let lifetime = self.cache.policy().time_to_live().unwrap_or(HEARD_LIFETIME);
            heard.one.retain(|_, (_, at)| at.elapsed() <= lifetime);
            if heard.one.len() >= HEARD_MAX {
                heard.one.clear();
                heard.all = epoch;
            }
        }
        heard.one.insert(id, (epoch, Instant::now()));
    }

    /// Any token may have changed.
    pub(crate) fn all_changed(&self) {
        let mut heard = self
            .heard
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        heard.all = self.epoch.fetch_add(1, SeqCst).saturating_add(1);
        heard.one.clear();
        self.cache.invalidate_all();
    }

    /// Whether changes are heard of. While they are not, nothing is believed for long.
    pub(crate) fn set_listening(&self, listening: bool) {
        self.listening.store(listening, SeqCst);
        self.all_changed();
    }

    fn stands(&self, entry: &Entry) -> bool {
        if !self.listening.load(SeqCst) && entry.looked_up.elapsed() > UNHEARD_LIFETIME {
            return false;
        }
        // The common case: nobody said anything since.
        if entry.began == self.epoch.load(SeqCst) {
            return true;
        }
        let Some(token) = &entry.token else {
            // Of an unknown token nobody can say that it is now known: any word may have been about it.
            return false;
        };
        let heard = self
            .heard
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        entry.began >= heard.all
            && heard
                .one
                .get(&token.id)
                .is_none_or(|(epoch, _)| entry.began >= *epoch)
    }

    async fn look_up(&self, digest: Digest) -> Result<Entry, LedgerError> {
        let began = self.epoch.load(SeqCst);
        let looked_up = Instant::now();
        let rows = self
            .pool
            .query(LOOK_UP, &[(&digest.as_slice(), Type::BYTEA)])
            .await?;
        let token = rows.first().map(read).transpose()?.map(Arc::new);
        if self.epoch.load(SeqCst) == began {
            self.remember(digest, token.as_ref());
        }
        Ok(Entry {
            began,
            looked_up,
            token,
        })
    }
}

const LOOK_UP: &str = "
    select id, account_id, prefix, label, revoked_at is not null,
           case when isfinite(expires_at) then floor(extract(epoch from expires_at) * 1000)::bigint
                when expires_at = '-infinity' then 0 end,
           models, endpoints, addresses::text[], requests_per_minute, concurrent_exchanges, upstream_key,
           requests_per_second, requests_per_hour, tokens_per_minute,
           num_nonnulls(budget, budget_day, budget_month, prompt_tokens, prompt_tokens_day, prompt_tokens_month,
                        completion_tokens, completion_tokens_day, completion_tokens_month) > 0
      from turnpike.access_token where sha256 = $1";

fn read(row: &Row) -> Result<AccessToken, LedgerError> {
    let positive = |index| {
        Ok::<_, LedgerError>(
            row.try_get::<_, Option<i32>>(index)?
                .and_then(|limit| u32::try_from(limit).ok()),
        )
    };
    let addresses = match row.try_get::<_, Option<Vec<String>>>(8)? {
        Some(texts) => Some(
            texts
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()
                .map_err(|error: ipnet::AddrParseError| LedgerError::row().because(error))?,
        ),
        None => None,
    };
    Ok(AccessToken {
        id: TokenId(row.try_get(0)?),
        account: AccountId(row.try_get(1)?),
        prefix: row.try_get(2)?,
        label: row.try_get(3)?,
        revoked: row.try_get(4)?,
        expires_at_ms: row.try_get(5)?,
        models: row
            .try_get::<_, Option<Vec<&str>>>(6)?
            .map(|patterns| patterns.into_iter().map(tariff::Pattern::new).collect()),
        endpoints: row.try_get(7)?,
        addresses,
        requests_per_second: positive(12)?,
        requests_per_minute: positive(9)?,
        requests_per_hour: positive(13)?,
        tokens_per_minute: row
            .try_get::<_, Option<i64>>(14)?
            .and_then(|limit| u64::try_from(limit).ok()),
        concurrent_exchanges: positive(10)?,
        upstream_key: row.try_get::<_, Option<&str>>(11)?.map(SecretSource::new),
        capped: row.try_get(15)?,
    })
}

/// Known and unknown tokens together.
const ENTRIES_MAX: u64 = 100_000;
/// Lookups of one token that may be overtaken before one is used without being kept.
const ATTEMPTS: usize = 3;
/// Tokens that are remembered for the time without Postgres.
const LAST_KNOWN_MAX: usize = 100_000;
/// How long a look-up may take before what was last known has to do.
const LAST_KNOWN_AFTER: Duration = Duration::from_millis(500);
/// How long an entry is believed while changes are not heard of.
const UNHEARD_LIFETIME: Duration = Duration::from_secs(1);
/// Changes remembered one by one; beyond it they concern everybody.
const HEARD_MAX: usize = 10_000;
const HEARD_LIFETIME: Duration = Duration::from_secs(600);
