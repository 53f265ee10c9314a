//! How an upstream's keys fare: which is left alone for a while after the upstream refused or failed it, and when it is tried again.
//!
//! Only a preference comes of it, never a refusal: a key that rests is asked last, and asked all the same where all rest. So no client
//! can shut others out by drawing errors upon a key.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use ledger::{UpstreamId, UpstreamKeyId};
use tokio::sync::mpsc;

/// Failures in a row before a key rests: one alone says little.
const FAILURES_MAX: u32 = 3;
/// The first rest after that; each failure more doubles it.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// The first rest after a 429 that does not say how long; each one more doubles it.
const REST_AFTER_LIMIT: Duration = Duration::from_secs(1);
/// The first rest of a key that the upstream does not know (401); each one more doubles it.
const REST_AFTER_EJECTION: Duration = Duration::from_secs(60);
/// The longest rest, whatever the upstream says.
const REST_MAX: Duration = Duration::from_secs(10 * 60);
/// How long whoever tries a key after its rest has it for himself.
const TRIAL: Duration = Duration::from_secs(5);

/// The health of one key, in milliseconds of [`now_ms`].
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// It rests until then; 0 if it does not.
    until_ms: AtomicU64,
    /// Failures, limits and ejections in a row.
    in_row: AtomicU32,
    /// What came of requests so far, by [`Outcome::place`].
    counts: [AtomicU64; 4],
    /// Who is told that it rests, and what it is then called.
    told: Option<(UpstreamId, Option<UpstreamKeyId>, mpsc::Sender<Alarm>)>,
}

/// A key rests, or rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alarm {
    pub(crate) upstream: UpstreamId,
    /// `None`: the upstream is asked without one.
    pub(crate) key: Option<UpstreamKeyId>,
    /// The upstream does not know it.
    pub(crate) is_ejected: bool,
}

/// What an upstream did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It answered, be it with an error that is the client's.
    Well,
    /// 429, and when to come again if it said so.
    Limited(Option<Duration>),
    /// 401: it does not know the key.
    Ejected,
    /// A 5xx, or no answer.
    Failed,
}

impl Outcome {
    /// What an answer's head says.
    pub(crate) fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        match status.as_u16() {
            401 => Self::Ejected,
            429 => Self::Limited(retry_after(headers)),
            500..=599 => Self::Failed,
            _ => Self::Well,
        }
    }
}

impl Outcome {
    /// The names of what may come of a request, in their places.
    const NAMES: [&'static str; 4] = ["well", "limited", "ejected", "failed"];

    const fn place(self) -> usize {
        match self {
            Self::Well => 0,
            Self::Limited(_) => 1,
            Self::Ejected => 2,
            Self::Failed => 3,
        }
    }
}

/// What noting an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It rests from now on, or on.
    Rests(Duration),
    /// It is well again.
    Recovered,
    /// Nothing.
    None,
}

impl Health {
    /// That of this key, whose rests somebody wants to hear of.
    pub(crate) fn told(
        (upstream, key): (UpstreamId, Option<UpstreamKeyId>),
        to: mpsc::Sender<Alarm>,
    ) -> Self {
        Self {
            told: Some((upstream, key, to)),
            ..Self::default()
        }
    }

    /// Whether to ask with it now. After a rest one request at a time finds out.
    pub(crate) fn is_available(&self, now_ms: u64) -> bool {
        let until_ms = self.until_ms.load(Relaxed);
        if until_ms == 0 {
            return true;
        }
        let trial_ends_ms = now_ms.saturating_add(millis(TRIAL));
        now_ms >= until_ms
            && self
                .until_ms
                .compare_exchange(until_ms, trial_ends_ms, Relaxed, Relaxed)
                .is_ok()
    }

    /// Until when it rests; 0 if it does not.
    pub(crate) fn rests_until_ms(&self) -> u64 {
        self.until_ms.load(Relaxed)
    }

    /// How often what came of requests, since the start.
    pub(crate) fn outcomes(&self) -> [(&'static str, u64); 4] {
        let mut counts = self.counts.iter();
        Outcome::NAMES.map(|name| (name, counts.next().map_or(0, |count| count.load(Relaxed))))
    }

    /// Takes note of what came of a request.
    pub(crate) fn note(&self, outcome: Outcome, now_ms: u64) -> Change {
        if let Some(count) = self.counts.get(outcome.place()) {
            count.fetch_add(1, Relaxed);
        }
        if outcome == Outcome::Well {
            self.in_row.store(0, Relaxed);
            let rested = self.until_ms.swap(0, Relaxed) != 0;
            return if rested {
                Change::Recovered
            } else {
                Change::None
            };
        }
        let before = self
            .in_row
            .fetch_update(Relaxed, Relaxed, |count| count.checked_add(1))
            .unwrap_or(u32::MAX);
        let rest = match outcome {
            Outcome::Limited(Some(told)) => told,
            Outcome::Limited(None) => doubled(REST_AFTER_LIMIT, before),
            Outcome::Ejected => doubled(REST_AFTER_EJECTION, before),
            _ => match before.saturating_add(1).checked_sub(FAILURES_MAX) {
                Some(more) => doubled(REST_AFTER_FAILURE, more),
                None => return Change::None,
            },
        };
        let rest = rest.min(REST_MAX);
        let until_ms = now_ms.saturating_add(millis(rest)).max(1);
        // Of several that end at once the longest rest counts.
        self.until_ms.fetch_max(until_ms, Relaxed);
        if let Some((upstream, key, to)) = &self.told {
            // Where nobody keeps up it is told again.
            let _ = to.try_send(Alarm {
                upstream: *upstream,
                key: *key,
                is_ejected: outcome == Outcome::Ejected,
            });
        }
        Change::Rests(rest)
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.min(16)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the program began to ask.
pub(crate) fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    millis(START.elapsed())
}

/// When to come again: `retry-after-ms`, else `retry-after` in seconds (whole or with a fraction) or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).map(HeaderValue::to_str)?.ok();
    if let Some(ms) = text("retry-after-ms").and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_millis(ms));
    }
    let text = text(header::RETRY_AFTER.as_str())?.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if let Ok(seconds) = whole.parse() {
        // A second more for any fraction: nothing hangs on it.
        let more = u64::from(fraction.bytes().any(|digit| digit != b'0'));
        return Some(Duration::from_secs(seconds).saturating_add(Duration::from_secs(more)));
    }
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let at = SystemTime::from(at);
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn a_limited_key_rests_as_long_as_the_upstream_says() {
        let key = Health::default();
        assert!(key.is_available(5));
        let told = Outcome::Limited(Some(Duration::from_secs(2)));
        assert_eq!(key.note(told, 1_000), Change::Rests(Duration::from_secs(2)));
        assert!(!key.is_available(2_999));
        assert!(key.is_available(3_000));
    }

    #[test]
    fn one_request_at_a_time_tries_a_key_after_its_rest() {
        let key = Health::default();
        key.note(Outcome::Ejected, 0);
        assert!(!key.is_available(59_999));
        assert!(key.is_available(60_000));
        assert!(!key.is_available(60_001), "another one is trying it");
        assert!(key.is_available(65_000), "the first never came back");
        assert_eq!(key.note(Outcome::Well, 65_001), Change::Recovered);
        assert!(key.is_available(65_002) && key.is_available(65_002));
    }

    #[test]
    fn a_trial_that_fails_doubles_the_rest_up_to_its_limit() {
        let key = Health::default();
        let mut now = 0;
        for minutes in [1, 2, 4, 8, 10, 10] {
            let rest = Duration::from_secs(minutes * 60);
            assert_eq!(key.note(Outcome::Ejected, now), Change::Rests(rest));
            now = key.rests_until_ms();
            assert!(key.is_available(now));
        }
        let forever = Outcome::Limited(Some(Duration::MAX));
        assert_eq!(key.note(forever, now), Change::Rests(REST_MAX));
    }

    #[test]
    fn a_failure_or_two_are_no_reason_to_rest() {
        let key = Health::default();
        assert_eq!(key.note(Outcome::Failed, 1), Change::None);
        assert_eq!(key.note(Outcome::Failed, 1), Change::None);
        assert_eq!(key.note(Outcome::Well, 1), Change::None);
        for _ in 0..2 {
            assert_eq!(key.note(Outcome::Failed, 1), Change::None);
        }
        assert_eq!(
            key.note(Outcome::Failed, 1),
            Change::Rests(REST_AFTER_FAILURE)
        );
    }

    #[test]
    fn only_what_is_the_key_s_fault_counts_against_it() {
        let none = HeaderMap::new();
        for (status, outcome) in [
            (200, Outcome::Well),
            (400, Outcome::Well),
            // A moderation's, or a model's that is not allowed: a client can draw it at will.
            (403, Outcome::Well),
            (404, Outcome::Well),
            (401, Outcome::Ejected),
            (429, Outcome::Limited(None)),
            (500, Outcome::Failed),
            (529, Outcome::Failed),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(Outcome::of(status, &none), outcome, "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_every_form() {
        for (name, value, expected) in [
            ("retry-after-ms", "1500", Some(1_500)),
            ("retry-after", "2", Some(2_000)),
            ("retry-after", "2.5", Some(3_000)),
            ("retry-after", "2.0", Some(2_000)),
            ("retry-after", "Fri, 01 Jan 2021 00:00:00 GMT", Some(0)),
            ("retry-after", "soon", None),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(retry_after(&headers(name, value)), expected, "{value}");
        }
        let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(100);
        let later = jiff::fmt::rfc2822::to_string(&later.to_zoned(jiff::tz::TimeZone::UTC));
        let rest = retry_after(&headers("retry-after", &later.unwrap())).unwrap();
        assert!(rest > Duration::from_secs(90) && rest <= Duration::from_secs(100));
    }
}
