//! What a provider's error says about our account with it does not reach the client.
//!
//! Providers quote the key they were shown (`sk-proj-…abcd`) and name the organisation or project whose limit was reached. In
//! an error these words are written over, letter by letter; everything else in it passes as it came. Errors are short, so one is
//! read whole before its head goes on.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header, response};
use http_body_util::BodyExt as _;
use proxy::{Answer, headers::Credential};
use tokio::time::timeout;
use tracing::warn;

use crate::refusal::Refusal;

/// The longest error that is passed on.
pub(super) const ERROR_BYTES_MAX: usize = 256 * 1024;
/// How long it may take to come whole.
const ERROR_PATIENCE: Duration = Duration::from_secs(30);
/// How words begin that name an account of ours.
const ACCOUNTS: [&str; 4] = ["org-", "proj_", "sk-", "req_org"];
/// A name is written over from so many characters on; shorter ones are words of the language.
const NAME_CHARS_MIN: usize = 12;
/// How far before a bare UUID the word "organization" makes it one's name.
const NEAR_BYTES: usize = 24;

/// Reads an error whole. Its head is changed where its body is.
///
/// # Errors
/// 502 for one that is too long, too slow, cut off, or in a coding that nobody here can open.
pub(super) async fn hush(
    head: &mut response::Parts,
    answer: Answer,
    key: Option<Arc<Credential>>,
) -> Result<Bytes, Refusal> {
    let Ok(Some(body)) = timeout(ERROR_PATIENCE, whole(answer)).await else {
        warn!(
            status = head.status.as_u16(),
            "upstream.error_unreadable: too long, too slow, or cut off"
        );
        return Err(Refusal::UpstreamUnreachable { sent: true });
    };
    let coding = head
        .headers
        .get(header::CONTENT_ENCODING)
        .map(|value| value.to_str().unwrap_or("?"));
    let Some(plain) = meter::plain(coding, &body, ERROR_BYTES_MAX) else {
        warn!(coding, "upstream.error_unreadable: its coding");
        return Err(Refusal::UpstreamUnreachable { sent: true });
    };
    let Some(hushed) = written_over(&plain, key.as_deref()) else {
        return Ok(body);
    };
    head.headers.remove(header::CONTENT_ENCODING);
    if let header::Entry::Occupied(mut length) = head.headers.entry(header::CONTENT_LENGTH) {
        length.insert(HeaderValue::from(hushed.len()));
    }
    Ok(Bytes::from(hushed))
}

async fn whole(mut answer: Answer) -> Option<Bytes> {
    let mut body = BytesMut::new();
    while let Some(frame) = answer.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            if body.len().saturating_add(data.len()) > ERROR_BYTES_MAX {
                return None;
            }
            body.extend_from_slice(&data);
        }
    }
    Some(body.freeze())
}

/// The same with our names written over; `None` when there are none in it.
fn written_over(text: &[u8], key: Option<&Credential>) -> Option<Vec<u8>> {
    let mut over = text.to_vec();
    let mut is_changed = false;
    let mut at = 0;
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        let len = rest.iter().take_while(|byte| is_of_word(**byte)).count();
        if len == 0 {
            at = at.saturating_add(1);
            continue;
        }
        let word = rest.get(..len).unwrap_or_default();
        let before = text
            .get(at.saturating_sub(NEAR_BYTES)..at)
            .unwrap_or_default();
        if let Some(kept) = kept_of(word, before, key) {
            is_changed = true;
            let begin = at.saturating_add(kept);
            let end = at.saturating_add(len);
            if let Some(name) = over.get_mut(begin..end) {
                name.fill(b'*');
            }
        }
        at = at.saturating_add(len);
    }
    is_changed.then_some(over)
}

/// Letters, digits, and what keys and their masks have between them.
const fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*')
}

/// How much of a word's beginning may stay, where the rest must not.
fn kept_of(word: &[u8], before: &[u8], key: Option<&Credential>) -> Option<usize> {
    let word = std::str::from_utf8(word).ok()?;
    if key.is_some_and(|key| key.is_quoted_by(word)) {
        return Some(0);
    }
    let account = ACCOUNTS.iter().find(|name| word.starts_with(**name));
    if let Some(name) = account
        && word.len() >= NAME_CHARS_MIN
    {
        return Some(name.len());
    }
    let before = before.to_ascii_lowercase();
    let names_org = before.windows(3).any(|window| window == b"org");
    (is_uuid(word) && names_org).then_some(0)
}

fn is_uuid(word: &str) -> bool {
    word.len() == 36
        && word.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(text: &str) -> String {
        let key = Credential::bearer("sk-proj-abcdefghijklmnopWXYZ").unwrap();
        let over = written_over(text.as_bytes(), Some(&key));
        String::from_utf8(over.unwrap_or_else(|| text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn keys_and_accounts_are_written_over_letter_by_letter() {
        for (text, expected) in [
            (
                "key sk-proj-abcdefghijklmnopWXYZ.",
                "key ****************************.",
            ),
            ("key sk-proj-********WXYZ.", "key ********************."),
            (
                "in organization org-AbC123xyz on",
                "in organization org-********* on",
            ),
            ("project `proj_1234567`", "project `proj_*******`"),
            (
                "your organization (0191f2a4-5b6c-7d8e-9f00-112233445566)",
                "your organization (************************************)",
            ),
        ] {
            assert_eq!(over(text), expected);
            assert_eq!(text.len(), expected.len());
        }
    }

    #[test]
    fn everything_else_passes() {
        for text in [
            "the org-wide limit",
            "message 0191f2a4-5b6c-7d8e-9f00-112233445566 not found",
            r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error"}}"#,
            "sk-1",
            "",
        ] {
            assert_eq!(over(text), text);
        }
    }

    #[test]
    fn another_s_key_is_written_over_too() {
        assert_eq!(over("sk-other-key-1"), "sk-***********");
    }
}
