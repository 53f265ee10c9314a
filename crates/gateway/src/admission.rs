//! What a request must pass before its last byte goes up: credential, limits, price, hold.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, header};
use ledger::{AccessToken, Catalog, Evidence, Hold, HoldRequest, Limit, Means, Period, TakeError};
use meter::{Api, RequestFacts};
use sha2::{Digest as _, Sha256};
use tariff::{Ask, BoundError, OutputLimit, Quote};
use uuid::Uuid;

use crate::{gateway::Gateway, refusal::Refusal};

/// The longest credential that is looked at.
pub(crate) const CREDENTIAL_BYTES_MAX: usize = 512;

/// The digest of the access token that these headers show.
///
/// # Errors
/// 401 for none, or two.
pub(crate) fn digest(headers: &HeaderMap) -> Result<[u8; 32], Refusal> {
    credential(headers).map(|credential| Sha256::digest(credential).into())
}

/// Whose request this is. Checks the token itself and from where it may be used.
///
/// # Errors
/// 401 for an unknown, expired or revoked token; 403 for an address; 503 while Postgres is away.
pub(crate) async fn authenticate(
    gateway: &Gateway,
    digest: [u8; 32],
    peer: IpAddr,
    now_ms: i64,
) -> Result<Arc<AccessToken>, Refusal> {
    let token = gateway.ledger.access_token(digest).await.map_err(|error| {
        tracing::warn!(%error, "token.lookup_failed");
        Refusal::Unavailable {
            reason: "its database does not answer",
        }
    })?;
    let token = token
        .filter(|token| token.is_valid(now_ms))
        .ok_or(Refusal::BadToken)?;
    if !token.allows_address(peer) {
        return Err(Refusal::AddressNotAllowed);
    }
    Ok(token)
}

/// The access token as the client shows it: `Authorization: Bearer`, else `api-key`, else `x-api-key`.
fn credential(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(Some(value.as_bytes())),
            (None, _) => Ok(None),
            // Two credentials can be read as either.
            (Some(_), Some(_)) => Err(Refusal::BadToken),
        }
    };
    let shown = match one(header::AUTHORIZATION.as_str())? {
        Some(value) => match value.split_at_checked("bearer ".len()) {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
            _ => return Err(Refusal::BadToken),
        },
        None => match one("api-key")? {
            Some(value) => value,
            None => one("x-api-key")?.ok_or(Refusal::NoToken)?,
        },
    };
    match shown.len() {
        0 => Err(Refusal::NoToken),
        1..=CREDENTIAL_BYTES_MAX => Ok(shown),
        _ => Err(Refusal::BadToken),
    }
}

/// Refuses a body that could be read otherwise than as plain JSON, before any of it is read.
///
/// # Errors
/// 400 for a content type that is not JSON, or any content coding.
pub(crate) fn check_content(headers: &HeaderMap) -> Result<(), Refusal> {
    let invalid = |message: &str, code| {
        Err(Refusal::InvalidBody {
            message: message.into(),
            param: None,
            code,
        })
    };
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let is_json = match (types.next().map(|value| value.as_bytes()), types.next()) {
        (None, _) => true,
        (Some(value), None) => {
            let essence = value
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or_default()
                .trim_ascii();
            essence.eq_ignore_ascii_case(b"application/json") && !contains_other_charset(value)
        }
        (Some(_), Some(_)) => false,
    };
    if !is_json {
        return invalid(
            "This endpoint takes a JSON body: send it with Content-Type: application/json, in UTF-8.",
            "unsupported_content_type",
        );
    }
    let is_plain = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if !is_plain {
        return invalid(
            "The body has a content-encoding, which this gateway does not open: send it without.",
            "unsupported_content_encoding",
        );
    }
    Ok(())
}

/// Whether a content type names a charset that is not UTF-8.
fn contains_other_charset(content_type: &[u8]) -> bool {
    content_type
        .split(|byte| *byte == b';')
        .skip(1)
        .any(|parameter| {
            let parameter = parameter.trim_ascii().to_ascii_lowercase();
            match parameter.strip_prefix(b"charset=") {
                Some(charset) => !matches!(charset.trim_ascii(), b"utf-8" | b"\"utf-8\"" | b"utf8"),
                None => false,
            }
        })
}

/// The model a body must name.
///
/// # Errors
/// 400 when it names none, or leaves the choice to the upstream; 404 when the token may not use it.
pub(crate) fn model(token: &AccessToken, facts: &RequestFacts) -> Result<String, Refusal> {
    let invalid = |message: &str, param: &str, code| Refusal::InvalidBody {
        message: message.into(),
        param: Some(param.into()),
        code,
    };
    let Some(model) = facts.model.clone() else {
        return Err(missing_model());
    };
    if facts.may_reroute {
        return Err(invalid(
            "'models', 'route' and 'preset' leave the choice of the model to the provider; name one 'model'.",
            "models",
            "unsupported_parameter",
        ));
    }
    if facts.background {
        return Err(invalid(
            "Background responses are not offered by this gateway: their usage comes later, where nobody would charge it. Send background: false.",
            "background",
            "unsupported_parameter",
        ));
    }
    if token.allows_model(&model) {
        Ok(model)
    } else {
        Err(Refusal::ModelNotFound { model })
    }
}

/// 400 for a body that names no model.
pub(crate) fn missing_model() -> Refusal {
    Refusal::InvalidBody {
        message: "You must provide a model parameter.".into(),
        param: Some("model".into()),
        code: "missing_model",
    }
}

/// 400 for a stream that does not ask for usage, where `STREAM_USAGE=require`.
pub(crate) fn usage_required() -> Refusal {
    Refusal::InvalidBody {
        message: "This gateway charges by the usage that streams report: add \"stream_options\": {\"include_usage\": true} to the request.".into(),
        param: Some("stream_options.include_usage".into()),
        code: "usage_required",
    }
}

/// 400 for a stream that does not ask for usage and whose input cannot be counted from its text, where `STREAM_USAGE=estimate`.
pub(crate) fn usage_not_countable() -> Refusal {
    Refusal::InvalidBody {
        message: "This stream refers to images, files, tools or earlier answers, whose tokens only the provider can count: add \"stream_options\": {\"include_usage\": true} to the request.".into(),
        param: Some("stream_options.include_usage".into()),
        code: "usage_required",
    }
}

/// What prices the model, in force when the request started.
///
/// # Errors
/// 404 when nothing does.
pub(crate) fn quote(catalog: &Catalog, model: &str, started_at_ms: i64) -> Result<Quote, Refusal> {
    catalog
        .book()
        .quote(model, started_at_ms)
        .ok_or_else(|| Refusal::ModelNotFound {
            model: model.to_owned(),
        })
}

/// Holds the most the request can cost.
///
/// # Errors
/// 429 when balance, budget or a cap on tokens does not cover it, 400 when it has no bound, 503 when nothing can be held.
pub(crate) async fn hold(
    gateway: &Gateway,
    token: &AccessToken,
    exchange: Uuid,
    api: Api,
    facts: &RequestFacts,
    quote: &Quote,
    evidence: Evidence,
) -> Result<Hold, Refusal> {
    let ask = Ask {
        body_bytes: facts.body_bytes,
        refers_outside: facts.refers_outside,
        output: match (api, facts.output_limit) {
            (Api::Embeddings, _) => OutputLimit::NoOutput,
            (_, Some(limit)) => OutputLimit::Tokens(limit),
            (_, None) => OutputLimit::Model,
        },
        choices: facts.choices,
        inputs: facts.inputs,
        service_tier: facts.service_tier.as_deref(),
        // A cap is kept by what is known, not by what is assumed.
        context_window_assumed: (!token.capped)
            .then(|| gateway.settings.context_window_assumed.get().into()),
        output_max_assumed: (!token.capped)
            .then(|| gateway.settings.output_max_assumed.get().into()),
    };
    let param = limiting_param(api);
    let bound = quote.bound(&ask).map_err(|error| Refusal::Unbounded {
        param,
        message: unbounded(error, param),
    })?;
    let request = HoldRequest {
        exchange,
        token: token.id,
        account: token.account,
        means: Means {
            money: bound.amount,
            prompt: bound.input_tokens,
            completion: bound.output_tokens,
        },
        evidence,
    };
    gateway
        .ledger
        .take(request)
        .await
        .map_err(|error| match error {
            TakeError::Insufficient { available, by } => Refusal::InsufficientQuota {
                param,
                bound: bound.amount,
                available,
                of: purse_of(by),
                fitting: quote.output_limit_within(&ask, available),
            },
            TakeError::OverQuota { available, by } => {
                let (is_completion, period) = match by {
                    Limit::CompletionTokens(period) => (true, period),
                    Limit::PromptTokens(period) | Limit::Budget(period) => (false, period),
                    Limit::Account => (false, Period::Life),
                };
                Refusal::OverTokens {
                    kind: if is_completion {
                        "completion"
                    } else {
                        "prompt"
                    },
                    period: lasting(period),
                    param: param.filter(|_| is_completion && available > 0),
                    bound: if is_completion {
                        bound.output_tokens
                    } else {
                        bound.input_tokens
                    },
                    available,
                }
            }
            TakeError::TokenGone => Refusal::BadToken,
            TakeError::Busy => Refusal::Unavailable {
                reason: "too many exchanges are open",
            },
            TakeError::Unavailable(error) => {
                tracing::warn!(%error, "hold.failed");
                Refusal::Unavailable {
                    reason: "its database does not answer",
                }
            }
        })
}

/// Of what money is left, in the words of a refusal.
const fn purse_of(by: Limit) -> &'static str {
    match by {
        Limit::Budget(Period::Life) => "of the access token's budget",
        Limit::Budget(Period::Day) => "of the access token's budget for today (UTC)",
        Limit::Budget(Period::Month) => "of the access token's budget for this month (UTC)",
        Limit::Account | Limit::PromptTokens(_) | Limit::CompletionTokens(_) => "on the account",
    }
}

/// For how long a cap counts, in the words of a refusal.
const fn lasting(period: Period) -> &'static str {
    match period {
        Period::Life => "in all",
        Period::Day => "for today (UTC)",
        Period::Month => "for this month (UTC)",
    }
}

/// The parameter that limits an endpoint's output, as its API names it.
const fn limiting_param(api: Api) -> Option<&'static str> {
    match api {
        Api::ChatCompletions => Some("max_completion_tokens"),
        Api::Completions => Some("max_tokens"),
        Api::Responses => Some("max_output_tokens"),
        Api::Embeddings => None,
    }
}

fn unbounded(error: BoundError, param: Option<&str>) -> String {
    let remedy = match param {
        Some(param) => format!("Give {param}, or ask for fewer answers"),
        None => "Send less at once".to_owned(),
    };
    format!("What this request can cost has no upper bound: {error}. {remedy}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<http::HeaderName>().unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn the_credential_is_a_bearer_token_or_an_api_key() {
        assert_eq!(
            credential(&headers(&[("authorization", "bEaReR tp-1")])),
            Ok(&b"tp-1"[..])
        );
        assert_eq!(
            credential(&headers(&[("api-key", "tp-2")])),
            Ok(&b"tp-2"[..])
        );
        assert_eq!(
            credential(&headers(&[("x-api-key", "tp-3")])),
            Ok(&b"tp-3"[..])
        );
    }

    #[test]
    fn other_credentials_are_refused() {
        assert_eq!(credential(&headers(&[])), Err(Refusal::NoToken));
        assert_eq!(
            credential(&headers(&[("authorization", "Bearer ")])),
            Err(Refusal::NoToken)
        );
        assert_eq!(
            credential(&headers(&[("authorization", "Basic dXNlcjpwYXNz")])),
            Err(Refusal::BadToken)
        );
        let mut two = headers(&[("authorization", "Bearer a")]);
        two.append("authorization", "Bearer b".parse().unwrap());
        assert_eq!(credential(&two), Err(Refusal::BadToken));
    }

    #[test]
    fn only_plain_json_bodies_are_read() {
        for content_type in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            assert_eq!(
                check_content(&headers(&[("content-type", content_type)])),
                Ok(()),
                "{content_type}"
            );
        }
        assert_eq!(check_content(&headers(&[])), Ok(()));
        for content_type in [
            "text/plain",
            "multipart/form-data; boundary=x",
            "application/json; charset=utf-16",
            "application/jsonp",
        ] {
            assert!(
                check_content(&headers(&[("content-type", content_type)])).is_err(),
                "{content_type}"
            );
        }
        assert!(check_content(&headers(&[("content-encoding", "gzip")])).is_err());
    }
}
