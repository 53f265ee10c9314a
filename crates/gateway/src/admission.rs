//! What a request must pass before its last byte goes up: credential, limits, price, hold.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, header};
use ledger::{AccessToken, Catalog, Evidence, Hold, HoldRequest, Limit, Means, Period, TakeError};
use meter::{Api, BodyScanner, RequestFacts};
use sha2::{Digest as _, Sha256};
use tariff::{Amount, Ask, Bound, BoundError, Quote};
use uuid::Uuid;

use crate::{
    endpoint::{BodyKind, Metered},
    gateway::Gateway,
    refusal::Refusal,
    units, upload,
};

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
    let token = look_up(gateway, digest, peer).await?;
    let token = token
        .filter(|token| token.is_valid(now_ms))
        .ok_or(Refusal::BadToken)?;
    if !token.allows_address(peer) {
        return Err(Refusal::AddressNotAllowed);
    }
    Ok(token)
}

/// The access token with this digest. One that is not cached is looked up within what its peer may ask for.
///
/// # Errors
/// 429 for an address that shows too many unknown ones; 503 while Postgres is away, or asked by too many.
pub(crate) async fn look_up(
    gateway: &Gateway,
    digest: [u8; 32],
    peer: IpAddr,
) -> Result<Option<Arc<AccessToken>>, Refusal> {
    let away = |error| {
        tracing::warn!(%error, "token.lookup_failed");
        Refusal::Unavailable {
            reason: "its database does not answer",
        }
    };
    if gateway.ledger.has_heard_of(&digest).await {
        return gateway.ledger.access_token(digest).await.map_err(away);
    }
    let lookup = gateway.strangers.look_up(peer)?;
    let found = gateway.ledger.access_token(digest).await;
    if matches!(found, Ok(None)) {
        lookup.unknown();
    }
    found.map_err(away)
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
            None => match one("x-api-key")? {
                Some(value) => value,
                None => protocol(headers)?.ok_or(Refusal::NoToken)?,
            },
        },
    };
    match shown.len() {
        0 => Err(Refusal::NoToken),
        1..=CREDENTIAL_BYTES_MAX => Ok(shown),
        _ => Err(Refusal::BadToken),
    }
}

/// The access token among the subprotocols of a WebSocket: browsers cannot set headers.
fn protocol(headers: &HeaderMap) -> Result<Option<&[u8]>, Refusal> {
    let mut shown = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|protocol| {
            let protocol = protocol.trim_ascii();
            protocol.strip_prefix(proxy::headers::TOKEN_PROTOCOL.as_bytes())
        });
    match (shown.next(), shown.next()) {
        (token, None) => Ok(token),
        _ => Err(Refusal::BadToken),
    }
}

/// Who reads a body of this content type at this endpoint. Refuses one that could be read otherwise than as plain JSON, or as a
/// plain form where the endpoint takes one, before any of it is read.
///
/// # Errors
/// 400 for any other content type, and for any content coding.
pub(crate) fn scanner(headers: &HeaderMap, metered: &Metered) -> Result<BodyScanner, Refusal> {
    let invalid = |message: &str, code| {
        Err(Refusal::InvalidBody {
            message: message.into(),
            param: None,
            code,
        })
    };
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let only = match (types.next().map(|value| value.as_bytes()), types.next()) {
        (None, _) => Some(&b"application/json"[..]),
        (Some(value), None) => Some(value),
        (Some(_), Some(_)) => None,
    };
    let is =
        |essence: &[u8]| only.is_some_and(|value| essence_of(value).eq_ignore_ascii_case(essence));
    let takes_json = metered.body != BodyKind::Form;
    let takes_form = metered.body != BodyKind::Json;
    let form = only
        .filter(|_| takes_form && is(b"multipart/form-data"))
        .and_then(|value| std::str::from_utf8(value).ok());
    let is_json =
        takes_json && is(b"application/json") && !only.is_some_and(contains_other_charset);
    if !is_json && form.is_none() {
        let message = match metered.body {
            BodyKind::Json => {
                "This endpoint takes a JSON body: send it with Content-Type: application/json, in UTF-8."
            }
            BodyKind::Form => {
                "This endpoint takes a form: send it with Content-Type: multipart/form-data."
            }
            BodyKind::Either => {
                "This endpoint takes a JSON body or a form: send it with Content-Type: application/json, in UTF-8, or multipart/form-data."
            }
        };
        return invalid(message, "unsupported_content_type");
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
    match form {
        Some(form) => {
            BodyScanner::multipart(metered.api, form).map_err(|error| upload::refuse(&error))
        }
        None => Ok(BodyScanner::json(metered.api)),
    }
}

/// Refuses a body whose end or coding two servers could see differently. Of a length beside chunks nothing is seen here: hyper
/// drops it, as RFC 9112 6.3 has it, and goes by the chunks.
///
/// # Errors
/// 400 for any transfer coding but a lone `chunked`.
pub(crate) fn framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::InvalidBody {
            message: "The body has a transfer-encoding that this gateway does not open: send it by Content-Length, or with Transfer-Encoding: chunked and no other.".into(),
            param: None,
            code: "unsupported_transfer_encoding",
        }),
    }
}

/// A content type less its parameters.
fn essence_of(content_type: &[u8]) -> &[u8] {
    let essence = content_type.split(|byte| *byte == b';').next();
    essence.unwrap_or_default().trim_ascii()
}

/// Whether a content type names a charset that is not UTF-8.
fn contains_other_charset(content_type: &[u8]) -> bool {
    content_type
        .split(|byte| *byte == b';')
        .skip(1)
        .any(|parameter| {
            let parameter = parameter.trim_ascii().to_ascii_lowercase();
            // Blanks around the sign are no parameter by RFC 9110, and one to some readers; `charset*` is RFC 8187's form of it.
            match parameter.strip_prefix(b"charset") {
                Some([b'=', charset @ ..]) => !matches!(charset, b"utf-8" | b"\"utf-8\"" | b"utf8"),
                Some(_) => true,
                None => false,
            }
        })
}

/// The model a body must name.
///
/// # Errors
/// 400 when it names none, or leaves the choice to the upstream; 404 when the token may not use it.
pub(crate) fn model(
    token: &AccessToken,
    api: Api,
    facts: &RequestFacts,
) -> Result<String, Refusal> {
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
    if facts.background && api != Api::Responses {
        return Err(invalid(
            "Only responses are made in the background: send background: false.",
            "background",
            "unsupported_parameter",
        ));
    }
    if facts.annotates {
        return Err(invalid(
            "Annotated pages have a price of their own, which this gateway does not know: leave 'bbox_annotation_format' and 'document_annotation_format' out.",
            "document_annotation_format",
            "unsupported_parameter",
        ));
    }
    if api == Api::Images && facts.stream && facts.choices > 1 {
        return Err(invalid(
            "A stream of several images reports the usage of each, and which of them is the last is not known: ask for one image, or without stream.",
            "n",
            "unsupported_parameter",
        ));
    }
    if token.allows_model(&model) {
        Ok(model)
    } else {
        Err(Refusal::ModelNotFound { model })
    }
}

/// 400 for work in the background with a provider key of the access token's own: nobody could ask how it ends.
pub(crate) fn own_key_in_background() -> Refusal {
    Refusal::InvalidBody {
        message: "This access token uses a provider key of its own, with which this gateway does nothing when no request is open: send background: false.".into(),
        param: Some("background".into()),
        code: "unsupported_parameter",
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
    metered: &Metered,
    facts: &RequestFacts,
    quote: &Quote,
    evidence: Evidence,
) -> Result<Hold, Refusal> {
    let most = units::most(metered.bound, facts);
    let tools = facts.hosted_tools || searches_by_itself(&evidence.model);
    let calls_assumed = u64::from(gateway.settings.tool_calls_assumed.get());
    let ask = Ask {
        body_bytes: facts.body_bytes,
        refers_outside: facts.refers_outside && !most.is_length_enough,
        output: most.output,
        units: most.units,
        image: most.image,
        tool_calls: if tools {
            facts.tool_calls_max.unwrap_or(calls_assumed)
        } else {
            0
        },
        speed: facts.speed.as_deref(),
        choices: facts.choices,
        inputs: facts.inputs,
        service_tier: facts.service_tier.as_deref(),
        // A cap is kept by what is known, not by what is assumed.
        context_window_assumed: (!token.capped)
            .then(|| gateway.settings.context_window_assumed.get().into()),
        output_max_assumed: (!token.capped)
            .then(|| gateway.settings.output_max_assumed.get().into()),
    };
    let param = limiting_param(metered.api);
    let bound = quote.bound(&ask).map_err(|error| Refusal::Unbounded {
        param,
        message: unbounded(error, param),
    })?;
    take(
        gateway,
        token,
        exchange,
        &bound,
        evidence,
        param,
        |available| quote.output_limit_within(&ask, available),
    )
    .await
}

/// Holds so much.
///
/// # Errors
/// As [`hold`]; `fitting` says which limit of `param` would fit into what is left.
pub(crate) async fn take(
    gateway: &Gateway,
    token: &AccessToken,
    exchange: Uuid,
    bound: &Bound,
    evidence: Evidence,
    param: Option<&'static str>,
    fitting: impl FnOnce(Amount) -> Option<u64>,
) -> Result<Hold, Refusal> {
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
                fitting: fitting(available),
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
        Api::Completions | Api::Messages => Some("max_tokens"),
        Api::Responses => Some("max_output_tokens"),
        _ => None,
    }
}

/// Models that search without being offered a tool for it: OpenAI's, Perplexity's, Groq's.
fn searches_by_itself(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    name.contains("-search-") || name.starts_with("sonar") || name.starts_with("compound")
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

    fn takes(body: BodyKind, pairs: &[(&'static str, &'static str)]) -> bool {
        let metered = Metered {
            api: Api::Images,
            body,
            usage_on_request: false,
            bound: crate::endpoint::BoundBy::Images,
            creates: None,
        };
        scanner(&headers(pairs), &metered).is_ok()
    }

    #[test]
    fn only_plain_json_and_plain_forms_are_read() {
        for content_type in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
        ] {
            let pairs = [("content-type", content_type)];
            assert!(takes(BodyKind::Json, &pairs), "{content_type}");
            assert!(takes(BodyKind::Either, &pairs), "{content_type}");
            assert!(!takes(BodyKind::Form, &pairs), "{content_type}");
        }
        assert!(takes(BodyKind::Json, &[]));
        let form = [("content-type", "multipart/form-data; boundary=x")];
        assert!(takes(BodyKind::Form, &form) && takes(BodyKind::Either, &form));
        assert!(!takes(BodyKind::Json, &form));
        for content_type in [
            "text/plain",
            "multipart/form-data",
            "multipart/mixed; boundary=x",
            "application/json; charset=utf-16",
            "application/jsonp",
        ] {
            let pairs = [("content-type", content_type)];
            assert!(!takes(BodyKind::Either, &pairs), "{content_type}");
        }
        let coded = [("content-encoding", "gzip")];
        assert!(!takes(BodyKind::Json, &coded));
    }

    #[test]
    fn some_models_search_by_themselves() {
        for model in [
            "gpt-4o-search-preview",
            "perplexity/sonar-pro",
            "compound-beta",
        ] {
            assert!(searches_by_itself(model), "{model}");
        }
        assert!(!searches_by_itself("gpt-4o"));
    }
}
