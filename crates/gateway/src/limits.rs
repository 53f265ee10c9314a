//! Requests, tokens and concurrent exchanges, per access token and per peer address; and the headers that tell of them.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use ledger::{AccessToken, Excess, Ledger, Pass, Rate, RateLimits, Standing, Subject};

use crate::{
    refusal::{Refusal, Who},
    settings,
};

/// `x-ratelimit-{limit,remaining,reset}-requests`, as OpenAI's clients read them.
const REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
/// The same of tokens.
const TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// What every peer may do. What an access token may do stands with the token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    peer: RateLimits,
}

impl Limits {
    /// The limits of peers that the operator set.
    pub(crate) fn new(settings: &settings::Rates) -> Self {
        Self {
            peer: RateLimits {
                requests_per_second: settings.address_requests_per_second.map(NonZeroU32::get),
                requests_per_minute: settings.address_requests_per_minute.map(NonZeroU32::get),
                requests_per_hour: settings.address_requests_per_hour.map(NonZeroU32::get),
                tokens_per_minute: settings.address_tokens_per_minute.map(Into::into),
                concurrent_exchanges: settings.address_concurrent_exchanges.map(NonZeroU32::get),
            },
        }
    }

    /// Counts one more request from this address, whoever makes it: before its token is looked up.
    ///
    /// # Errors
    /// 429 when it is one too many.
    pub(crate) async fn admit_peer(&self, ledger: &Ledger, peer: IpAddr) -> Result<Pass, Refusal> {
        let admitted = ledger.rates().admit(Subject::address(peer), &self.peer);
        admitted
            .await
            .map_err(|excess| refusal(excess, Who::Address))
    }
}

/// Counts one more request of this token. What it says goes into the answer, whichever it is.
pub(crate) async fn admit_token(
    ledger: &Ledger,
    token: &AccessToken,
) -> (Result<Pass, Refusal>, Standing) {
    match ledger
        .rates()
        .admit(Subject::Token(token.id), &token.rates())
        .await
    {
        Ok(pass) => {
            let standing = pass.standing();
            (Ok(pass), standing)
        }
        Err(excess) => (Err(refusal(excess, Who::Token)), excess.standing()),
    }
}

/// Counts one more turn of a socket, which has its place among those open at once already.
pub(crate) async fn admit_turn(
    ledger: &Ledger,
    token: &AccessToken,
    rates: &RateLimits,
) -> Result<(), Refusal> {
    let admitted = ledger.rates().admit(Subject::Token(token.id), rates).await;
    admitted
        .map(drop)
        .map_err(|excess| refusal(excess, Who::Token))
}

fn refusal(excess: Excess, who: Who) -> Refusal {
    match excess {
        Excess::Requests { wait, seconds, .. } => Refusal::TooManyRequests {
            who,
            window: match seconds {
                1 => "second",
                60 => "minute",
                _ => "hour",
            },
            retry_after_ms: millis(wait),
        },
        Excess::Tokens { wait, .. } => Refusal::TooManyTokens {
            who,
            retry_after_ms: millis(wait),
        },
        Excess::AtOnce { .. } => Refusal::TooManyAtOnce { who },
    }
}

/// Puts a token's own limits into an answer's head. Those it does not have are not told.
pub(crate) fn tell(headers: &mut HeaderMap, standing: &Standing) {
    for (names, rate) in [(REQUESTS, standing.requests), (TOKENS, standing.tokens)] {
        if let Some(Rate {
            limit,
            remaining,
            reset,
        }) = rate
        {
            let [limit_name, remaining_name, reset_name] = names;
            headers.insert(limit_name, HeaderValue::from(limit));
            headers.insert(remaining_name, HeaderValue::from(remaining));
            let reset = HeaderValue::from_str(&span(reset)).expect("digits and letters");
            headers.insert(reset_name, reset);
        }
    }
}

/// Whole milliseconds, rounded up: never too early, and at least one.
fn millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).unwrap_or(u64::MAX).max(1)
}

/// A span of time as OpenAI writes it: `120ms`, `8.64s`, `6m0s`, `1h0m0s`.
fn span(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    let (seconds, thousandths) = (millis / 1000, millis % 1000);
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 if thousandths == 0 => format!("{seconds}s"),
        1_000..60_000 => {
            let text = format!("{seconds}.{thousandths:03}");
            format!("{}s", text.trim_end_matches('0'))
        }
        _ => {
            let seconds = millis.div_ceil(1000);
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            if hours == 0 {
                format!("{minutes}m{seconds}s")
            } else {
                format!("{hours}h{minutes}m{seconds}s")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_openai_writes_them() {
        for (millis, text) in [
            (0, "0ms"),
            (120, "120ms"),
            (1_000, "1s"),
            (8_640, "8.64s"),
            (59_999, "59.999s"),
            (60_000, "1m0s"),
            (359_001, "6m0s"),
            (3_599_001, "1h0m0s"),
            (3_661_000, "1h1m1s"),
        ] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        assert_eq!(span(Duration::from_micros(1)), "1ms");
    }

    #[test]
    fn only_limits_there_are_are_told() {
        let mut headers = HeaderMap::new();
        tell(&mut headers, &Standing::default());
        assert!(headers.is_empty());
        let rate = Rate {
            limit: 5,
            remaining: 2,
            reset: Duration::from_secs(1),
        };
        tell(
            &mut headers,
            &Standing {
                requests: None,
                tokens: Some(rate),
            },
        );
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["x-ratelimit-limit-tokens"], "5");
        assert_eq!(headers["x-ratelimit-remaining-tokens"], "2");
        assert_eq!(headers["x-ratelimit-reset-tokens"], "1s");
    }
}
