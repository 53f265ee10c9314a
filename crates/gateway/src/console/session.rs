//! What a browser shows instead of the admin token: a cookie that says until when it counts, signed with a key made of the token. So
//! sessions outlive restarts, count at every replica, and end when the token is changed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use http::{HeaderMap, HeaderValue, header};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

/// How long a session lasts: a working day.
pub(super) const SESSION_SECONDS: u64 = 12 * 60 * 60;
/// Sessions that were ended early and are remembered; beyond it those that would end soonest are forgotten.
const ENDED_MAX: usize = 1024;

const COOKIE: &str = "turnpike_console";
/// So that no signature made for anything else counts here.
const PURPOSE: &[u8] = b"turnpike console session 1";
/// Bytes of a session's own name.
const NAME_BYTES: usize = 32;

/// Makes and knows sessions.
pub(super) struct Sessions {
    key: hmac::Key,
    random: SystemRandom,
    /// Names of sessions that were ended, and when they would have ended by themselves.
    ended: Mutex<HashMap<String, u64>>,
}

impl Sessions {
    pub(super) fn new(token: &[u8]) -> Self {
        let token = hmac::Key::new(hmac::HMAC_SHA256, token);
        let key = hmac::sign(&token, PURPOSE);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
            random: SystemRandom::new(),
            ended: Mutex::default(),
        }
    }

    /// A new session's cookie.
    pub(super) fn begin(&self, now_s: u64, is_tls: bool) -> HeaderValue {
        let mut name = [0; NAME_BYTES];
        self.random
            .fill(&mut name)
            .expect("the system has random bytes once it has started");
        let said = format!("{}.{}", now_s.saturating_add(SESSION_SECONDS), hex(&name));
        let signature = hex(hmac::sign(&self.key, said.as_bytes()).as_ref());
        cookie(&format!("{said}.{signature}"), SESSION_SECONDS, is_tls)
    }

    /// Whether the request shows a session that counts.
    pub(super) fn knows(&self, headers: &HeaderMap, now_s: u64) -> bool {
        self.shown(headers, now_s).is_some()
    }

    /// Ends the session that the request shows; the cookie that takes its place.
    pub(super) fn end(&self, headers: &HeaderMap, now_s: u64) -> HeaderValue {
        if let Some((until_s, name)) = self.shown(headers, now_s) {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.insert(name.to_owned(), until_s);
            ended.retain(|_, until_s| *until_s > now_s);
            while ended.len() > ENDED_MAX {
                let soonest = ended.iter().min_by_key(|(_, until_s)| **until_s);
                let Some(soonest) = soonest.map(|(name, _)| name.clone()) else {
                    break;
                };
                ended.remove(&soonest);
            }
        }
        cookie("", 0, false)
    }

    /// Until when the session counts, and its name.
    fn shown<'a>(&self, headers: &'a HeaderMap, now_s: u64) -> Option<(u64, &'a str)> {
        let lines = headers.get_all(header::COOKIE).iter();
        let pairs = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'));
        let mut named =
            pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        named.find_map(|value| self.read(value, now_s))
    }

    fn read<'a>(&self, value: &'a str, now_s: u64) -> Option<(u64, &'a str)> {
        let (said, signature) = value.rsplit_once('.')?;
        hmac::verify(&self.key, said.as_bytes(), &unhex(signature)?).ok()?;
        let (until_s, name) = said.split_once('.')?;
        let until_s = until_s.parse().ok().filter(|until_s| *until_s > now_s)?;
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        (!ended.contains_key(name)).then_some((until_s, name))
    }
}

fn cookie(value: &str, seconds: u64, is_tls: bool) -> HeaderValue {
    let secure = if is_tls { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).expect("digits, letters and dots are allowed in a header")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    if !digits.remainder().is_empty() {
        return None;
    }
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(cookie: &HeaderValue) -> HeaderMap {
        let text = cookie.to_str().unwrap().split(';').next().unwrap();
        let mut headers = HeaderMap::new();
        let line = format!("other=1; {text}; more=2");
        headers.insert(header::COOKIE, line.parse().unwrap());
        headers
    }

    #[test]
    fn a_session_counts_at_every_replica_until_it_is_over() {
        let here = Sessions::new(b"token");
        let headers = shows(&here.begin(1_000, false));
        for sessions in [&here, &Sessions::new(b"token")] {
            assert!(sessions.knows(&headers, 1_000));
            assert!(sessions.knows(&headers, 1_000 + SESSION_SECONDS - 1));
            assert!(!sessions.knows(&headers, 1_000 + SESSION_SECONDS));
        }
        assert!(!Sessions::new(b"another").knows(&headers, 1_000));
        assert!(!here.knows(&HeaderMap::new(), 1_000));
    }

    #[test]
    fn whoever_alters_a_letter_has_no_session() {
        let sessions = Sessions::new(b"token");
        let text = sessions.begin(1_000, false);
        let text = text.to_str().unwrap().split(';').next().unwrap().to_owned();
        let at = text.find('=').unwrap() + 1;
        for place in at..text.len() {
            let mut altered = text.clone().into_bytes();
            altered[place] = if altered[place] == b'1' { b'2' } else { b'1' };
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_bytes(&altered).unwrap());
            assert!(!sessions.knows(&headers, 1_000), "{place}");
        }
        for text in [
            "turnpike_console=",
            "turnpike_console=1.2.3",
            "turnpike_console=..é",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                header::COOKIE,
                HeaderValue::from_bytes(text.as_bytes()).unwrap(),
            );
            assert!(!sessions.knows(&headers, 0), "{text}");
        }
    }

    #[test]
    fn a_session_that_was_ended_counts_no_more_and_others_do() {
        let sessions = Sessions::new(b"token");
        let [one, other] = [1_000, 1_001].map(|now_s| shows(&sessions.begin(now_s, false)));
        assert!(
            sessions
                .end(&one, 1_002)
                .to_str()
                .unwrap()
                .contains("Max-Age=0")
        );
        assert!(!sessions.knows(&one, 1_002));
        assert!(sessions.knows(&other, 1_002));
    }

    #[test]
    fn only_so_many_ended_sessions_are_remembered() {
        let sessions = Sessions::new(b"token");
        for number in 0..ENDED_MAX as u64 + 10 {
            let headers = shows(&sessions.begin(number, false));
            sessions.end(&headers, number);
        }
        assert_eq!(sessions.ended.lock().unwrap().len(), ENDED_MAX);
    }

    #[test]
    fn the_cookie_is_for_this_site_alone_and_no_script_reads_it() {
        let sessions = Sessions::new(b"token");
        let text = sessions.begin(1_000, true);
        let text = text.to_str().unwrap();
        for part in [
            "HttpOnly",
            "SameSite=Strict",
            "Path=/",
            "Max-Age=43200",
            "Secure",
        ] {
            assert!(
                text.split("; ").any(|given| given == part),
                "{part}: {text}"
            );
        }
        assert!(
            !sessions
                .begin(1, false)
                .to_str()
                .unwrap()
                .contains("Secure")
        );
    }
}
