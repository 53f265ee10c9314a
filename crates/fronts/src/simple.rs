//! Door `simple`: docker-chatgpt's one POST, with a dialogue that the caller keeps.

mod asked;
mod language;
mod windows;

use std::{net::IpAddr, time::Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};

pub use self::language::Language;
use self::{
    asked::Asked,
    language::Phrase,
    windows::{Limits, Windows},
};
use crate::{
    answer::{Completed, Outcome, ask, carry},
    exchange::{Call, Caller, Host},
    reply::{self, AnswerBody},
};

/// In logs and metrics.
pub(crate) const NAME: &str = "simple";

/// The route of that system's own examples; it is served whatever the operator sets besides.
const SAMPLE_ROUTE: &str = "/api";
const ALLOW: &str = "POST";

/// What the operator sets.
#[derive(Clone, Debug)]
pub struct SimpleSettings {
    /// The path without its slash.
    pub route: String,
    /// What is shown where a caller shows nothing: an access token or a provider key.
    pub api_key: Option<String>,
    /// The access token that calls with a provider key are charged to.
    pub token: Option<String>,
    /// The model where a caller names none.
    pub model: String,
    /// Calls per hour, minute and second of one address; 0 is no limit.
    pub per_hour: u32,
    /// See `per_hour`.
    pub per_minute: u32,
    /// See `per_hour`.
    pub per_second: u32,
    /// In which messages are.
    pub language: Language,
}

/// The door.
pub(crate) struct Simple {
    settings: SimpleSettings,
    path: String,
    windows: Windows,
}

/// What goes back instead of an answer: a status, and the sentence for it.
struct Problem {
    status: StatusCode,
    phrase: Phrase,
    /// Why, for people who look closer.
    reason: String,
}

impl Simple {
    pub(crate) fn new(settings: SimpleSettings) -> Self {
        let limits = Limits {
            per_second: settings.per_second,
            per_minute: settings.per_minute,
            per_hour: settings.per_hour,
        };
        Self {
            path: format!("/{}", settings.route.trim_matches('/')),
            windows: Windows::new(limits),
            settings,
        }
    }

    /// Whether the path is this door's.
    pub(crate) fn serves(&self, path: &str) -> bool {
        path == self.path || path == SAMPLE_ROUTE
    }

    /// Answers a call from this address.
    pub(crate) async fn serve(
        &self,
        host: &dyn Host,
        address: IpAddr,
        request: Request<Bytes>,
    ) -> Response<AnswerBody> {
        if !matches!(*request.method(), Method::POST | Method::GET) {
            return reply::not_allowed(ALLOW);
        }
        let is_get = *request.method() == Method::GET;
        if let Err(wait) = self.windows.admit(address, is_get, Instant::now()) {
            let reason = format!("try again in {} s", wait.as_secs().saturating_add(1));
            let mut response = self.problem(&Problem {
                status: StatusCode::TOO_MANY_REQUESTS,
                phrase: Phrase::TooOften {
                    per_hour: self.settings.per_hour,
                    per_minute: self.settings.per_minute,
                    per_second: self.settings.per_second,
                },
                reason,
            });
            response.headers_mut().insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_secs().saturating_add(1)),
            );
            return response;
        }
        if is_get {
            return self.problem(&Problem {
                status: StatusCode::FORBIDDEN,
                phrase: Phrase::Denied,
                reason: "send a POST".to_owned(),
            });
        }
        match self.talk(host, request).await {
            Ok(response) | Err(response) => response,
        }
    }

    /// 413 in this door's shape.
    pub(crate) fn too_large(&self, bytes_max: usize) -> Response<AnswerBody> {
        self.problem(&Problem {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            phrase: Phrase::BadParameter,
            reason: format!("the body is longer than {bytes_max} bytes"),
        })
    }

    async fn talk(
        &self,
        host: &dyn Host,
        request: Request<Bytes>,
    ) -> Result<Response<AnswerBody>, Response<AnswerBody>> {
        let bad = |reason: String| {
            self.problem(&Problem {
                status: StatusCode::BAD_REQUEST,
                phrase: Phrase::BadParameter,
                reason,
            })
        };
        if !reply::is_json(request.headers()) {
            return Err(bad("the body is not sent as application/json".to_owned()));
        }
        let asked = Asked::read(request.body(), &self.settings.model).map_err(bad)?;
        let (caller, own_key) = self.payer(host, asked.api_key.as_deref()).await?;
        let call = Call::chat(NAME, caller, asked.upstream_body()).with_upstream_key(own_key);
        match ask(host, call).await {
            Outcome::Completed(completed) => Ok(carry(
                self.answer(asked.dialogue, &completed),
                &completed.headers,
            )),
            Outcome::Refused(refused) => {
                let (status, phrase) = match refused.code.as_str() {
                    "invalid_api_key" => (StatusCode::UNAUTHORIZED, Phrase::Unauthorized),
                    "model_not_found" => (StatusCode::BAD_REQUEST, Phrase::BadParameter),
                    _ if refused.status.is_client_error() => (refused.status, Phrase::Refused),
                    _ => (refused.status, Phrase::ServerError),
                };
                Err(carry(
                    self.problem(&Problem {
                        status,
                        phrase,
                        reason: refused.message,
                    }),
                    &refused.headers,
                ))
            }
            Outcome::Failed {
                status,
                body,
                headers,
            } => {
                let phrase = match status {
                    StatusCode::UNAUTHORIZED => Phrase::Unauthorized,
                    status if status.is_client_error() => Phrase::Refused,
                    _ => Phrase::ServerError,
                };
                let reason = crate::answer::error_message(&body);
                Err(carry(
                    self.problem(&Problem {
                        status,
                        phrase,
                        reason,
                    }),
                    &headers,
                ))
            }
            Outcome::Broken { headers } => Err(carry(
                self.problem(&Problem {
                    status: StatusCode::BAD_GATEWAY,
                    phrase: Phrase::ServerError,
                    reason: "the provider's answer is no chat completion".to_owned(),
                }),
                &headers,
            )),
        }
    }

    /// Who pays, and the provider key that the caller brought if what he showed is no access token.
    async fn payer(
        &self,
        host: &dyn Host,
        shown: Option<&str>,
    ) -> Result<(Caller, Option<String>), Response<AnswerBody>> {
        let unauthorized = |reason: &str| {
            self.problem(&Problem {
                status: StatusCode::UNAUTHORIZED,
                phrase: Phrase::Unauthorized,
                reason: reason.to_owned(),
            })
        };
        let away = |away: crate::Away| {
            self.problem(&Problem {
                status: StatusCode::SERVICE_UNAVAILABLE,
                phrase: Phrase::ServerError,
                reason: away.to_string(),
            })
        };
        let Some(shown) = shown.or(self.settings.api_key.as_deref()) else {
            return Err(self.problem(&Problem {
                status: StatusCode::BAD_REQUEST,
                phrase: Phrase::BadParameter,
                reason: "api_key is needed".to_owned(),
            }));
        };
        if let Some(caller) = host.identify(shown).await.map_err(away)? {
            return Ok((caller, None));
        }
        let Some(token) = &self.settings.token else {
            return Err(unauthorized("api_key is no access token of this gateway"));
        };
        match host.identify(token).await.map_err(away)? {
            Some(caller) => Ok((caller, Some(shown.to_owned()))),
            None => Err(unauthorized("this door's own access token is not valid")),
        }
    }

    /// Everything that system's README, its samples and its program answered with, at once.
    fn answer(&self, mut dialogue: Vec<Value>, completed: &Completed) -> Response<AnswerBody> {
        dialogue.push(json!({ "role": "assistant", "content": completed.text }));
        reply::json(
            StatusCode::OK,
            &json!({
                "code": 200,
                "msg": self.settings.language.say(&Phrase::Success),
                "data": { "response": completed.text },
                "result": dialogue,
                "current_response": completed.text,
            }),
        )
    }

    fn problem(&self, problem: &Problem) -> Response<AnswerBody> {
        reply::json(
            problem.status,
            &json!({
                "code": problem.status.as_u16(),
                "msg": self.settings.language.say(&problem.phrase),
                "data": { "response": problem.reason },
            }),
        )
    }
}
