//! What can be asked of the sandbox by name, to see how a client and the gateway bear it.
//!
//! A directive is the end of the model's name (`sandbox-error-429`) or a word of the last user text:
//!
//! | directive | effect |
//! |---|---|
//! | `sandbox-error-STATUS` | that status with OpenAI's error object: 400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504 |
//! | `sandbox-error-quota` | 429 `insufficient_quota` |
//! | `sandbox-error-midway` | a stream that ends in an error event; without a stream a 500 |
//! | `sandbox-cut` | the connection breaks half way through the answer |
//! | `sandbox-slow` | a tenth of a second before each event of a stream, before the answer without one |
//! | `sandbox-no-usage` | an answer without its `usage` |

use super::{
    ask::Ask,
    fault::Fault,
    script::{Script, Step},
};

/// What a request asks for besides an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    midway: Option<Midway>,
    slow: bool,
    no_usage: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Midway {
    Error,
    Cut,
}

const PREFIX: &str = "sandbox-";

impl Directives {
    /// Reads them. An error that is asked for is the error.
    pub(super) fn of(ask: &Ask) -> Result<Self, Fault> {
        let mut directives = Self::default();
        let of_model = ask.model.rfind(PREFIX).map(|at| &ask.model[at..]);
        let of_text = ask
            .last_text
            .split_whitespace()
            .filter(|word| word.starts_with(PREFIX));
        for word in of_model.into_iter().chain(of_text) {
            let word = word.trim_end_matches(|c: char| !c.is_alphanumeric());
            match word.strip_prefix(PREFIX).unwrap_or_default() {
                "cut" => directives.midway = Some(Midway::Cut),
                "error-midway" if ask.stream => directives.midway = Some(Midway::Error),
                "error-midway" => return Err(error("500").unwrap_or_else(Fault::no_json)),
                "slow" => directives.slow = true,
                "no-usage" => directives.no_usage = true,
                name => {
                    if let Some(fault) = name.strip_prefix("error-").and_then(error) {
                        return Err(fault);
                    }
                }
            }
        }
        Ok(directives)
    }

    /// The answer with what was asked for.
    pub(super) fn apply(self, mut script: Script) -> Script {
        if self.no_usage {
            script.drop_usage();
        }
        match self.midway {
            Some(Midway::Cut) => script.end_midway(Step::Break),
            Some(Midway::Error) => script.end_midway_with_error(&midway_error()),
            None => {}
        }
        if self.slow {
            script.slow_down();
        }
        script
    }
}

fn midway_error() -> Fault {
    Fault::new(
        500,
        "server_error",
        Some("server_error"),
        "The sandbox was asked to fail in mid-stream.",
    )
}

/// The error that goes by this name.
fn error(name: &str) -> Option<Fault> {
    const INVALID: &str = "invalid_request_error";
    const SERVER: &str = "server_error";
    let (status, kind, code, what) = match name {
        "400" => (400, INVALID, Some("invalid_value"), "a bad request"),
        "401" => (401, INVALID, Some("invalid_api_key"), "a wrong API key"),
        "403" => (
            403,
            INVALID,
            Some("unsupported_country_region_territory"),
            "a refusal",
        ),
        "404" => (404, INVALID, Some("model_not_found"), "an unknown model"),
        "408" => (408, SERVER, None, "a timeout"),
        "409" => (409, INVALID, None, "a conflict"),
        "413" => (413, INVALID, None, "too large a request"),
        "422" => (422, INVALID, None, "an unprocessable request"),
        "429" => (429, "requests", Some("rate_limit_exceeded"), "a rate limit"),
        "quota" => (
            429,
            "insufficient_quota",
            Some("insufficient_quota"),
            "an exceeded quota",
        ),
        "500" => (500, SERVER, None, "an internal error"),
        "502" => (502, SERVER, None, "a bad gateway"),
        "503" => (
            503,
            "service_unavailable_error",
            Some("server_is_overloaded"),
            "an overload",
        ),
        "504" => (504, SERVER, None, "a gateway timeout"),
        _ => return None,
    };
    let fault = Fault::new(
        status,
        kind,
        code,
        format!("The sandbox was asked to answer with {what}."),
    );
    Some(match name {
        "429" => fault.with_headers(&[("retry-after", "1"), ("retry-after-ms", "20")]),
        "401" => fault.with_headers(&[("www-authenticate", "Bearer realm=\"OpenAI API\"")]),
        _ => fault,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(model: &str, text: &str, stream: bool) -> Result<Directives, u16> {
        let ask = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]});
        Directives::of(&Ask::new(ask).expect("a request")).map_err(|fault| fault.status)
    }

    #[test]
    fn a_directive_is_the_end_of_the_model_or_a_word_of_the_last_text() {
        let none = Directives::default();
        assert_eq!(of("sandbox", "hello", false), Ok(none));
        assert_eq!(of("sandbox-error-429", "hello", false), Err(429));
        assert_eq!(of("my/sandbox-error-500", "hello", false), Err(500));
        assert_eq!(of("gpt-4o", "please sandbox-error-quota.", false), Err(429));
        assert_eq!(
            of("gpt-4o", "sandbox-slow sandbox-no-usage", false),
            Ok(Directives {
                slow: true,
                no_usage: true,
                ..none
            })
        );
        assert_eq!(
            of("sandbox-cut", "", true),
            Ok(Directives {
                midway: Some(Midway::Cut),
                ..none
            })
        );
        assert_eq!(
            of(
                "sandbox-unheard-of",
                "xsandbox-cut sandbox-error-999",
                false
            ),
            Ok(none)
        );
    }

    #[test]
    fn an_error_in_mid_stream_is_a_plain_one_without_a_stream() {
        assert_eq!(of("sandbox-error-midway", "", false), Err(500));
        let midway = Directives {
            midway: Some(Midway::Error),
            ..Directives::default()
        };
        assert_eq!(of("sandbox-error-midway", "", true), Ok(midway));
    }
}
