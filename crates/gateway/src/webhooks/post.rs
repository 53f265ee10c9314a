//! Posts one event to one webhook, signed after Standard Webhooks.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use ledger::{Event, SecretSource, Told, WebhookForm};
use proxy::{Egress, Pool, Target};
use ring::hmac;
use tokio::time::timeout;

use super::message;
use crate::{fatal::chain, places};

/// How long a webhook gets to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// The lengths that Standard Webhooks allows a key, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Posts it. Only a 2xx counts; redirects are not followed, and what is answered is not read.
pub(crate) async fn post(
    pool: &Pool,
    url: &str,
    secret: &SecretSource,
    form: WebhookForm,
    event: &Event,
) -> Told {
    let (target, request) = match request(url, secret, form, event) {
        Ok(ready) => ready,
        Err(why) => return Told::Failed(why),
    };
    match timeout(PATIENCE, pool.send(&target, &Egress::Direct, request)).await {
        Ok(Ok(answer)) => match answer.status() {
            status if status.is_success() => Told::Delivered,
            status => Told::Failed(refused(status)),
        },
        Ok(Err(error)) => Told::Failed(chain(&error)),
        Err(_) => Told::Failed(format!(
            "it did not answer within {} seconds",
            PATIENCE.as_secs()
        )),
    }
}

fn refused(status: StatusCode) -> String {
    if status.is_redirection() {
        format!(
            "it answered {}, and redirects are not followed",
            status.as_u16()
        )
    } else {
        format!("it answered {}", status.as_u16())
    }
}

fn request(
    url: &str,
    secret: &SecretSource,
    form: WebhookForm,
    event: &Event,
) -> Result<(Target, Request<Full<Bytes>>), String> {
    let unusable = || "its URL cannot be used".to_owned();
    let uri: Uri = url.parse().map_err(|_| unusable())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(unusable());
    };
    let target = Target::parse(&format!("{scheme}://{authority}")).map_err(|_| unusable())?;
    let key = key(secret)?;
    let body = message::body(form, event);
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let timestamp = seconds.unwrap_or_default().as_secs().to_string();
    let id = event.id.to_string();
    let signature = signature(&key, &id, &timestamp, &body);
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str)
        .parse()
        .map_err(|_| unusable())?;
    let headers = request.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("turnpike/", env!("CARGO_PKG_VERSION"))),
    );
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", signature),
    ] {
        let value = HeaderValue::try_from(value).map_err(|_| unusable())?;
        headers.insert(name, value);
    }
    Ok((target, request))
}

/// `v1,` and the base64 of HMAC-SHA256 over id, timestamp and body with dots between.
fn signature(key: &[u8], id: &str, timestamp: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let signed = format!("{id}.{timestamp}.{body}");
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(tag.as_ref()))
}

/// The key that a secret stands for.
fn key(secret: &SecretSource) -> Result<Vec<u8>, String> {
    let secret =
        places::reveal(secret).map_err(|why| format!("its secret cannot be used: {why}"))?;
    let key = secret
        .expose()
        .trim()
        .strip_prefix(PREFIX)
        .and_then(|text| BASE64_STANDARD.decode(text).ok());
    key.filter(|key| KEY_BYTES.contains(&key.len()))
        .ok_or_else(|| {
            "its secret cannot be used: it is not whsec_ and the base64 of 24 to 64 bytes"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use ledger::Secret;

    use super::*;

    /// The example of the Standard Webhooks specification's own libraries.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let secret = SecretSource::Literal(Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
        let key = key(&secret).unwrap();
        let signed = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_none_is_told_without_telling_it() {
        for text in ["hunter2", "whsec_", "whsec_!!!", "whsec_c2hvcnQ="] {
            let error = key(&SecretSource::Literal(Secret::new(text))).unwrap_err();
            assert!(error.contains("whsec_ and the base64"), "{error}");
            assert!(!error.contains("hunter2"));
        }
    }
}
