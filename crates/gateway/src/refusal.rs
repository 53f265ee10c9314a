//! Everything we ourselves may answer a client: one table of status, code, sentence and headers.
//!
//! The upstream's own errors are not here: they pass through untouched.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use tariff::Amount;

/// The header that says an answer is ours and which.
pub(crate) const REFUSAL_HEADER: HeaderName = HeaderName::from_static("x-turnpike-refusal");
/// The header that says whether an SDK may try again (openai SDKs obey it above all else).
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The header that says when, in milliseconds.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// An answer of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No credentials in the request.
    NoToken,
    /// A token that is not known, has expired or was revoked. Which of them is not told.
    BadToken,
    /// The peer's address is not one the token may be used from.
    AddressNotAllowed,
    /// The token is not for this endpoint.
    EndpointNotAllowed,
    /// The path is not one we meter.
    UnknownPath {
        /// `POST /v1/x`
        target: String,
    },
    /// The path would let the client spend where nobody meters.
    NotOffered {
        /// `POST /v1/x`
        target: String,
    },
    /// The model has no price here, no upstream, or is not on the token's list.
    ModelNotFound {
        /// As the request names it.
        model: String,
    },
    /// What the provider keeps under this id is not the caller's, or there is no such thing: which of them is not told.
    ObjectNotFound {
        /// In plain words: `response`.
        kind: &'static str,
        /// As the request names it.
        id: String,
        /// Where the body names it; `None` for the path.
        param: Option<&'static str>,
    },
    /// What is to be deleted is still worked on, or not yet charged.
    StillAtWork {
        /// The job.
        id: String,
    },
    /// The list would show what other customers keep with the provider.
    ListsOthers {
        /// In plain words: `response`.
        kind: &'static str,
    },
    /// Balance or budget does not cover what the request can cost.
    InsufficientQuota {
        /// The parameter that limits this endpoint's output; `None` where there is none.
        param: Option<&'static str>,
        /// The most it can cost.
        bound: Amount,
        /// What is left.
        available: Amount,
        /// Of what, as the sentence says it.
        of: &'static str,
        /// The output limit that would fit, if one would.
        fitting: Option<u64>,
    },
    /// A cap on tokens does not cover what the request can use.
    OverTokens {
        /// Of which tokens: `prompt` or `completion`.
        kind: &'static str,
        /// For how long the cap counts, as the sentence says it.
        period: &'static str,
        /// The parameter that limits this endpoint's output; `None` where there is none, or where it is no help.
        param: Option<&'static str>,
        /// The most it can use.
        bound: u64,
        /// What is left.
        available: u64,
    },
    /// More requests than the token, or the peer, may make.
    TooManyRequests {
        /// Who made them.
        who: Who,
        /// `second`, `minute` or `hour`.
        window: &'static str,
        /// When the next one fits, in milliseconds.
        retry_after_ms: u64,
    },
    /// More tokens than may be used in a minute.
    TooManyTokens {
        /// Who used them.
        who: Who,
        /// When the next request fits, in milliseconds.
        retry_after_ms: u64,
    },
    /// More exchanges at once than may be open.
    TooManyAtOnce {
        /// Who has them open.
        who: Who,
    },
    /// The body can be read in two ways, or in none.
    InvalidBody {
        /// Says what is wrong and what would be right.
        message: String,
        /// The field.
        param: Option<String>,
        /// Stable.
        code: &'static str,
    },
    /// The body is longer than `BODY_BYTES_MAX`, or than what can be buffered to find its model.
    BodyTooLarge {
        /// Says which limit.
        bytes_max: u64,
    },
    /// What the request can cost has no upper bound.
    Unbounded {
        /// The parameter that would bound it, if there is one.
        param: Option<&'static str>,
        /// Says what would bound it.
        message: String,
    },
    /// The request's last byte did not come within `UPLOAD_SECONDS`.
    UploadTimeout,
    /// The upstream could not be reached, or ended without an answer.
    UpstreamUnreachable {
        /// Whether it had the request's last byte, so that it may have worked on it.
        sent: bool,
    },
    /// The upstream did not answer in time.
    UpstreamTimeout {
        /// Whether it had the request's last byte.
        sent: bool,
    },
    /// The upstream refuses our own key.
    UpstreamAuth,
    /// No room, no database, starting or draining.
    Unavailable {
        /// Says which.
        reason: &'static str,
    },
    /// The client left before its request was whole; nobody reads this.
    ClientGone,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The access token's own.
    Token,
    /// The peer's, whatever token it shows.
    Address,
}

impl Who {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "this access token",
            Self::Address => "your address",
        }
    }
}

/// One row of the table.
struct Row {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    message: String,
    param: Option<String>,
    retry: Retry,
}

/// What the answer says about trying again.
enum Retry {
    /// Nothing: SDKs go by the status.
    Silent,
    /// It cannot help.
    Never,
    /// After this many milliseconds.
    After(u64),
}

/// Milliseconds after which a draining or overloaded gateway may be asked again.
const UNAVAILABLE_RETRY_MS: u64 = 1_000;
/// Milliseconds after which a place among a token's concurrent exchanges may be free.
const CONCURRENCY_RETRY_MS: u64 = 500;

impl Refusal {
    /// Whether no upstream has had any of the request's last byte, so that another may be asked.
    pub(crate) const fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::UpstreamUnreachable { sent: false } | Self::UpstreamTimeout { sent: false }
        )
    }

    fn row(&self) -> Row {
        let row = |status, kind, code, message: String| Row {
            status,
            kind,
            code,
            message,
            param: None,
            retry: Retry::Silent,
        };
        let invalid = "invalid_request_error";
        match self {
            Self::NoToken => row(
                StatusCode::UNAUTHORIZED,
                invalid,
                "invalid_api_key",
                "You didn't provide an access token. Send it as 'Authorization: Bearer tp-…' (OPENAI_API_KEY in the SDKs).".into(),
            ),
            Self::BadToken => row(
                StatusCode::UNAUTHORIZED,
                invalid,
                "invalid_api_key",
                "Incorrect access token provided: it is unknown, expired or revoked. Ask whoever issued it for a new one.".into(),
            ),
            Self::AddressNotAllowed => row(StatusCode::FORBIDDEN, invalid, "not_allowed", "This access token may not be used from your address.".into()),
            Self::EndpointNotAllowed => row(StatusCode::FORBIDDEN, invalid, "not_allowed", "This access token may not be used for this endpoint.".into()),
            Self::UnknownPath { target } => row(
                StatusCode::NOT_FOUND,
                invalid,
                "unknown_url",
                format!("Invalid URL ({target}): this gateway offers chat/completions, completions, embeddings, rerank, responses, messages, images, audio, moderations and models."),
            ),
            Self::NotOffered { target } => row(
                StatusCode::FORBIDDEN,
                invalid,
                "not_offered",
                format!("This gateway does not offer {target}: it would spend where nobody meters."),
            ),
            Self::ModelNotFound { model } => Row {
                param: Some("model".into()),
                ..row(
                    StatusCode::NOT_FOUND,
                    invalid,
                    "model_not_found",
                    format!("The model `{model}` does not exist or you do not have access to it. GET /v1/models lists what this access token may use."),
                )
            },
            Self::ObjectNotFound { kind, id, param } => Row {
                param: param.map(Into::into),
                ..row(
                    StatusCode::NOT_FOUND,
                    invalid,
                    "not_found",
                    format!("No {kind} found with id '{id}'."),
                )
            },
            Self::StillAtWork { id } => row(
                StatusCode::CONFLICT,
                invalid,
                "still_at_work",
                format!("'{id}' is still worked on, or has ended and is not yet charged: delete it a little later."),
            ),
            Self::ListsOthers { kind } => row(
                StatusCode::FORBIDDEN,
                invalid,
                "not_offered",
                format!("This gateway does not list {kind}s, since the provider's list has those of other customers too: keep the ids that you were given, and get each by its own."),
            ),
            Self::InsufficientQuota { param, bound, available, of, fitting } => Row {
                retry: Retry::Never,
                ..row(
                    StatusCode::TOO_MANY_REQUESTS,
                    "insufficient_quota",
                    "insufficient_quota",
                    match param.zip(*fitting) {
                        Some((param, limit)) => format!(
                            "This request could cost up to {bound} USD and {available} USD are left {of}. With {param} of at most {limit} it would fit."
                        ),
                        None => format!("This request could cost up to {bound} USD and {available} USD are left {of}. Top up the account or raise the token's budget."),
                    },
                )
            },
            Self::OverTokens { kind, period, param, bound, available } => Row {
                retry: Retry::Never,
                ..row(
                    StatusCode::TOO_MANY_REQUESTS,
                    "insufficient_quota",
                    "insufficient_quota",
                    match param {
                        Some(param) => format!(
                            "This request could use up to {bound} {kind} tokens and {available} of the access token's {kind} tokens are left {period}. With {param} of at most {available} in all its answers it would fit."
                        ),
                        None => format!(
                            "This request could use up to {bound} {kind} tokens and {available} of the access token's {kind} tokens are left {period}. Send less, or have the token's limit raised."
                        ),
                    },
                )
            },
            Self::TooManyRequests { who, window, retry_after_ms } => Row {
                retry: Retry::After(*retry_after_ms),
                ..row(
                    StatusCode::TOO_MANY_REQUESTS,
                    "requests",
                    "rate_limit_exceeded",
                    format!("Rate limit reached: {} has made its requests for this {window}. Try again in {retry_after_ms} ms.", who.as_str()),
                )
            },
            Self::TooManyTokens { who, retry_after_ms } => Row {
                retry: Retry::After(*retry_after_ms),
                ..row(
                    StatusCode::TOO_MANY_REQUESTS,
                    "tokens",
                    "rate_limit_exceeded",
                    format!("Rate limit reached: {} has used its tokens for this minute. Try again in {retry_after_ms} ms.", who.as_str()),
                )
            },
            Self::TooManyAtOnce { who } => Row {
                retry: Retry::After(CONCURRENCY_RETRY_MS),
                ..row(
                    StatusCode::TOO_MANY_REQUESTS,
                    "requests",
                    "rate_limit_exceeded",
                    format!("Rate limit reached: {} has as many exchanges open as it may have at once.", who.as_str()),
                )
            },
            Self::InvalidBody { message, param, code } => {
                Row { param: param.clone(), ..row(StatusCode::BAD_REQUEST, invalid, code, message.clone()) }
            }
            Self::BodyTooLarge { bytes_max } => row(
                StatusCode::PAYLOAD_TOO_LARGE,
                invalid,
                "request_too_large",
                format!("The request body is longer than the {bytes_max} bytes that this gateway takes."),
            ),
            Self::Unbounded { param, message } => {
                Row { param: param.map(str::to_owned), ..row(StatusCode::BAD_REQUEST, invalid, "unbounded_cost", message.clone()) }
            }
            Self::UploadTimeout => Row {
                retry: Retry::Never,
                ..row(
                    StatusCode::REQUEST_TIMEOUT,
                    invalid,
                    "upload_timeout",
                    "The request's body did not come in time.".into(),
                )
            },
            Self::UpstreamUnreachable { sent } => Row {
                retry: if *sent { Retry::Never } else { Retry::Silent },
                ..row(
                    StatusCode::BAD_GATEWAY,
                    "server_error",
                    "upstream_unreachable",
                    if *sent { "The provider ended the connection without an answer." } else { "The provider could not be reached." }.into(),
                )
            },
            Self::UpstreamTimeout { sent } => Row {
                retry: if *sent { Retry::Never } else { Retry::Silent },
                ..row(StatusCode::GATEWAY_TIMEOUT, "server_error", "upstream_timeout", "The provider did not answer in time.".into())
            },
            Self::UpstreamAuth => Row {
                retry: Retry::Never,
                ..row(
                    StatusCode::BAD_GATEWAY,
                    "server_error",
                    "upstream_auth",
                    "The provider refuses this gateway's own key. Its operator has been told; your access token is fine.".into(),
                )
            },
            Self::Unavailable { reason } => Row {
                retry: Retry::After(UNAVAILABLE_RETRY_MS),
                ..row(StatusCode::SERVICE_UNAVAILABLE, "server_error", "unavailable", format!("This gateway cannot take the request now: {reason}. Try again shortly."))
            },
            Self::ClientGone => row(StatusCode::BAD_REQUEST, invalid, "client_gone", "The request ended before its body was complete.".into()),
        }
    }

    /// The stable code, as in the answer, the header, the log and the metrics.
    pub(crate) fn code(&self) -> &'static str {
        self.row().code
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.row().status
    }

    /// The answer in the shape that the endpoint's clients parse.
    pub(crate) fn response(&self, shape: Shape) -> Response<Bytes> {
        let row = self.row();
        let body = match shape {
            Shape::OpenAi => serde_json::json!({
                "error": { "message": row.message, "type": row.kind, "param": row.param, "code": row.code }
            }),
            Shape::Anthropic => serde_json::json!({
                "type": "error", "error": { "type": anthropic_type(row.status), "message": row.message }
            }),
        };
        let mut response = Response::new(Bytes::from(format!("{body:#}\n")));
        *response.status_mut() = row.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        headers.insert(REFUSAL_HEADER, HeaderValue::from_static(row.code));
        match row.retry {
            Retry::Silent => {}
            Retry::Never => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
            Retry::After(ms) => {
                headers.insert(
                    header::RETRY_AFTER,
                    HeaderValue::from(ms.div_ceil(1000).max(1)),
                );
                headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
            }
        }
        if row.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"turnpike\""),
            );
        }
        response
    }
}

/// Whose clients read a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `{"error": {message, type, param, code}}`
    OpenAi,
    /// `{"type": "error", "error": {type, message}}`
    Anthropic,
}

/// What Anthropic calls an error of this status.
fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts one row: status, type, code, and the retry headers it carries.
    fn assert_row(refusal: &Refusal, status: u16, kind: &str, code: &str, retry: &[(&str, &str)]) {
        let response = refusal.response(Shape::OpenAi);
        assert_eq!(response.status().as_u16(), status, "{refusal:?}");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        let error = body["error"].as_object().unwrap();
        assert_eq!(
            error.keys().map(String::as_str).collect::<Vec<_>>(),
            ["code", "message", "param", "type"]
        );
        assert_eq!(
            (error["type"].as_str(), error["code"].as_str()),
            (Some(kind), Some(code)),
            "{refusal:?}"
        );
        assert!(
            error["message"].as_str().unwrap().ends_with('.'),
            "a sentence: {}",
            error["message"]
        );
        assert_eq!(response.headers()[REFUSAL_HEADER], code);
        let given: Vec<_> = ["retry-after", "retry-after-ms", "x-should-retry"]
            .iter()
            .filter_map(|name| Some((*name, response.headers().get(*name)?.to_str().unwrap())))
            .collect();
        assert_eq!(given, retry, "{refusal:?}");
    }

    const INVALID: &str = "invalid_request_error";

    #[test]
    fn missing_and_bad_tokens_are_401_invalid_api_key() {
        assert_row(&Refusal::NoToken, 401, INVALID, "invalid_api_key", &[]);
        assert_row(&Refusal::BadToken, 401, INVALID, "invalid_api_key", &[]);
    }

    #[test]
    fn what_a_token_is_not_for_is_403_not_allowed() {
        assert_row(
            &Refusal::AddressNotAllowed,
            403,
            INVALID,
            "not_allowed",
            &[],
        );
        assert_row(
            &Refusal::EndpointNotAllowed,
            403,
            INVALID,
            "not_allowed",
            &[],
        );
    }

    #[test]
    fn anthropics_clients_get_their_own_shape() {
        for (refusal, status, kind) in [
            (Refusal::NoToken, 401, "authentication_error"),
            (Refusal::AddressNotAllowed, 403, "permission_error"),
            (
                Refusal::ModelNotFound { model: "x".into() },
                404,
                "not_found_error",
            ),
            (Refusal::UploadTimeout, 408, "invalid_request_error"),
            (
                Refusal::BodyTooLarge { bytes_max: 1 },
                413,
                "request_too_large",
            ),
            (
                Refusal::TooManyAtOnce { who: Who::Token },
                429,
                "rate_limit_error",
            ),
            (Refusal::UpstreamAuth, 502, "api_error"),
            (
                Refusal::Unavailable { reason: "x" },
                503,
                "overloaded_error",
            ),
            (
                Refusal::UpstreamTimeout { sent: true },
                504,
                "timeout_error",
            ),
        ] {
            let response = refusal.response(Shape::Anthropic);
            assert_eq!(response.status().as_u16(), status);
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(
                (&body["type"], &body["error"]["type"]),
                (&"error".into(), &kind.into())
            );
            assert!(body["error"]["message"].as_str().unwrap().ends_with('.'));
            assert_eq!(response.headers()[REFUSAL_HEADER], refusal.code());
        }
    }

    #[test]
    fn paths_that_would_spend_past_us_are_403() {
        let target = "POST /v1/realtime/calls".into();
        assert_row(
            &Refusal::NotOffered { target },
            403,
            INVALID,
            "not_offered",
            &[],
        );
    }

    #[test]
    fn what_is_worked_on_is_409() {
        let id = "batch_1".into();
        assert_row(
            &Refusal::StillAtWork { id },
            409,
            INVALID,
            "still_at_work",
            &[],
        );
    }

    #[test]
    fn lists_of_what_others_keep_are_403() {
        let kind = "chat completion";
        assert_row(
            &Refusal::ListsOthers { kind },
            403,
            INVALID,
            "not_offered",
            &[],
        );
    }

    #[test]
    fn unknown_models_objects_and_paths_are_404() {
        assert_row(
            &Refusal::ObjectNotFound {
                kind: "response",
                id: "resp_1".into(),
                param: Some("previous_response_id"),
            },
            404,
            INVALID,
            "not_found",
            &[],
        );
        assert_row(
            &Refusal::ModelNotFound { model: "x".into() },
            404,
            INVALID,
            "model_not_found",
            &[],
        );
        assert_row(
            &Refusal::UnknownPath {
                target: "GET /v1/x".into(),
            },
            404,
            INVALID,
            "unknown_url",
            &[],
        );
    }

    #[test]
    fn a_hold_that_does_not_fit_is_429_insufficient_quota_and_not_retried() {
        let refusal = Refusal::InsufficientQuota {
            bound: Amount::from_nano(5),
            available: Amount::ZERO,
            param: Some("max_tokens"),
            of: "on the account",
            fitting: Some(7),
        };
        assert_row(
            &refusal,
            429,
            "insufficient_quota",
            "insufficient_quota",
            &[("x-should-retry", "false")],
        );
        assert!(
            String::from_utf8_lossy(refusal.response(Shape::OpenAi).body()).contains("at most 7")
        );
    }

    #[test]
    fn rate_and_concurrency_limits_are_429_and_say_when() {
        let refusal = Refusal::TooManyRequests {
            who: Who::Token,
            window: "minute",
            retry_after_ms: 1_500,
        };
        assert_row(
            &refusal,
            429,
            "requests",
            "rate_limit_exceeded",
            &[("retry-after", "2"), ("retry-after-ms", "1500")],
        );
        assert_row(
            &Refusal::TooManyTokens {
                who: Who::Address,
                retry_after_ms: 60_000,
            },
            429,
            "tokens",
            "rate_limit_exceeded",
            &[("retry-after", "60"), ("retry-after-ms", "60000")],
        );
        assert_row(
            &Refusal::TooManyAtOnce { who: Who::Token },
            429,
            "requests",
            "rate_limit_exceeded",
            &[("retry-after", "1"), ("retry-after-ms", "500")],
        );
    }

    #[test]
    fn bodies_that_cannot_be_taken_are_400_or_413() {
        let refusal = Refusal::InvalidBody {
            message: "No.".into(),
            param: None,
            code: "invalid_json",
        };
        assert_row(&refusal, 400, INVALID, "invalid_json", &[]);
        assert_row(
            &Refusal::Unbounded {
                param: None,
                message: "No.".into(),
            },
            400,
            INVALID,
            "unbounded_cost",
            &[],
        );
        assert_row(
            &Refusal::BodyTooLarge { bytes_max: 1 },
            413,
            INVALID,
            "request_too_large",
            &[],
        );
        assert_row(&Refusal::ClientGone, 400, INVALID, "client_gone", &[]);
    }

    #[test]
    fn a_body_that_does_not_come_is_408() {
        let never: &[_] = &[("x-should-retry", "false")];
        assert_row(
            &Refusal::UploadTimeout,
            408,
            INVALID,
            "upload_timeout",
            never,
        );
    }

    #[test]
    fn upstream_failures_are_not_retried_once_the_last_byte_was_sent() {
        let never: &[_] = &[("x-should-retry", "false")];
        assert_row(
            &Refusal::UpstreamUnreachable { sent: false },
            502,
            "server_error",
            "upstream_unreachable",
            &[],
        );
        assert_row(
            &Refusal::UpstreamUnreachable { sent: true },
            502,
            "server_error",
            "upstream_unreachable",
            never,
        );
        assert_row(
            &Refusal::UpstreamTimeout { sent: false },
            504,
            "server_error",
            "upstream_timeout",
            &[],
        );
        assert_row(
            &Refusal::UpstreamTimeout { sent: true },
            504,
            "server_error",
            "upstream_timeout",
            never,
        );
        assert_row(
            &Refusal::UpstreamAuth,
            502,
            "server_error",
            "upstream_auth",
            never,
        );
    }

    #[test]
    fn unavailable_is_503_and_says_when() {
        assert_row(
            &Refusal::Unavailable {
                reason: "it is draining",
            },
            503,
            "server_error",
            "unavailable",
            &[("retry-after", "1"), ("retry-after-ms", "1000")],
        );
    }
}
