//! The operator's console: pages and JSON on the admin address, all of it read-only.
//!
//! Its files are built into the program and load nothing from elsewhere; the content security policy says so to browsers. Where
//! `ADMIN_TOKEN` is set, a form takes it and a signed cookie stands for it (`session`); else the address is loopback's, and requests that
//! a web page elsewhere could have caused are refused (`origin`).

mod api;
mod assets;
mod json;
mod origin;
mod range;
mod session;

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use proxy::Whole;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::{sync::Semaphore, time::timeout};

use self::session::Sessions;
pub(crate) use self::{assets::usage_page, range::Range};
use crate::{gateway::Gateway, refusal::Refusal, settings::Secret, strangers::Strangers};

/// Wrong admin tokens that one address may show in a minute; then it waits for the minute's end, whatever it shows.
const WRONG_TOKENS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).expect("is not zero");
/// The longest form that a login sends.
const FORM_BYTES_MAX: usize = 4 * 1024;
/// How long a form may take.
const FORM_PATIENCE: Duration = Duration::from_secs(10);
/// Statements that the console may have running: exchanges look up tokens on the same connections.
const STATEMENTS_MAX: usize = 2;

/// Where the login page gets what there is to say.
const MESSAGE: &str = "<!-- message -->";
const WRONG: &str = r#"<p class="notice bad" role="alert">That is not the admin token.</p>"#;
const NO_FORM: &str =
    r#"<p class="notice bad" role="alert">The form could not be read. Try again.</p>"#;

/// Answers an operator's browser.
#[derive(Clone)]
pub(crate) struct Console {
    gateway: Arc<Gateway>,
    /// `None`: there is no admin token, and everybody on this machine is the operator.
    lock: Option<Arc<Lock>>,
    statements: Arc<Semaphore>,
}

/// What keeps others out.
struct Lock {
    /// The digest of `ADMIN_TOKEN`: comparing digests takes as long whatever is shown, its length included.
    digest: [u8; 32],
    sessions: Sessions,
    wrong: Strangers,
}

/// What who asks has shown.
enum Shown {
    /// All that is needed.
    Enough,
    /// Nothing, or a session that is over.
    Nothing,
    /// A wrong token.
    Wrong,
    /// This address has shown too many wrong ones.
    TooMuch {
        /// When it may come again.
        retry_after_s: u64,
    },
}

/// Whether the console has this path.
pub(crate) fn has(path: &str) -> bool {
    matches!(path, "/" | "/login" | "/logout")
        || path.starts_with("/assets/")
        || path.starts_with("/api/")
}

impl Console {
    pub(crate) fn new(gateway: Arc<Gateway>, token: Option<&Secret>) -> Self {
        let lock = token.map(|token| {
            Arc::new(Lock {
                digest: Sha256::digest(token.expose()).into(),
                sessions: Sessions::new(token.expose().as_bytes()),
                wrong: Strangers::new(Some(WRONG_TOKENS_PER_MINUTE)),
            })
        });
        Self {
            gateway,
            lock,
            statements: Arc::new(Semaphore::new(STATEMENTS_MAX)),
        }
    }

    /// Answers a request to a path that [`has`] says is here.
    pub(crate) async fn answer(
        &self,
        peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<Whole> {
        let mut response = match origin::check(
            request.method(),
            request.headers(),
            request.uri(),
            self.lock.is_none(),
        ) {
            Ok(()) => self.route(peer, request).await,
            Err(reason) => text(StatusCode::FORBIDDEN, reason),
        };
        assets::guard(response.headers_mut());
        response
    }

    async fn route(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Whole> {
        let path = request.uri().path().to_owned();
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match (&*path, is_read) {
            ("/login", false) if *request.method() == Method::POST => {
                self.log_in(peer, request).await
            }
            ("/logout", false) if *request.method() == Method::POST => {
                self.log_out(request.headers())
            }
            (_, false) => text(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD here; POST at /login and /logout\n",
            ),
            ("/login", true) => match (&self.lock, self.shown(peer, request.headers())) {
                (None, _) | (_, Shown::Enough) => go_to("./"),
                _ => login_page(StatusCode::OK, ""),
            },
            ("/logout", true) => go_to("./"),
            ("/", true) => match self.shown(peer, request.headers()) {
                Shown::Enough => assets::page(assets::CONSOLE),
                _ => go_to("login"),
            },
            (path, true) => match path.strip_prefix("/assets/") {
                Some(name) => assets::file(name, request.headers()),
                None => self.api(peer, path, &request).await,
            },
        }
    }

    async fn api(
        &self,
        peer: SocketAddr,
        path: &str,
        request: &Request<Incoming>,
    ) -> Response<Whole> {
        match self.shown(peer, request.headers()) {
            Shown::Enough => {}
            Shown::Nothing | Shown::Wrong => {
                return json::error(
                    StatusCode::UNAUTHORIZED,
                    "log in, or send ADMIN_TOKEN as 'Authorization: Bearer …'",
                );
            }
            Shown::TooMuch { retry_after_s } => return json::too_much(retry_after_s),
        }
        let query = request.uri().query().unwrap_or_default();
        let has_login = self.lock.is_some();
        match api::answer(&self.gateway, &self.statements, path, query, has_login).await {
            Ok(text) => json::ok(text),
            Err(api::Failure::NotFound) => {
                json::error(StatusCode::NOT_FOUND, "there is no such figure here")
            }
            Err(api::Failure::Invalid(what)) => json::error(StatusCode::BAD_REQUEST, &what),
            Err(api::Failure::Away) => json::error(
                StatusCode::SERVICE_UNAVAILABLE,
                "the database does not answer",
            ),
        }
    }

    /// Whether who asks may see what only the operator may. Without an admin token everybody is the operator.
    pub(crate) fn knows(&self, peer: SocketAddr, headers: &HeaderMap) -> bool {
        matches!(self.shown(peer, headers), Shown::Enough)
    }

    /// What a request shows: a session, or the token itself.
    fn shown(&self, peer: SocketAddr, headers: &HeaderMap) -> Shown {
        let Some(lock) = &self.lock else {
            return Shown::Enough;
        };
        if lock.sessions.knows(headers, now_s()) {
            return Shown::Enough;
        }
        let bearer = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        bearer.map_or(Shown::Nothing, |token| lock.tried(peer, token))
    }

    async fn log_in(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Whole> {
        let Some(lock) = &self.lock else {
            return go_to("./");
        };
        // Behind something that speaks TLS for us the cookie never goes without it.
        let is_tls = origin::is_tls(request.headers());
        let Some(form) = read(request.into_body()).await else {
            return login_page(StatusCode::BAD_REQUEST, NO_FORM);
        };
        let mut fields = form_urlencoded::parse(&form);
        let token = fields.find(|(name, _)| name == "token");
        let token = token.map_or_else(Default::default, |(_, token)| token);
        match lock.tried(peer, token.as_bytes()) {
            Shown::Enough => {
                tracing::info!(peer = %peer.ip(), "console.login");
                let mut response = go_to("./");
                let cookie = lock.sessions.begin(now_s(), is_tls);
                response.headers_mut().insert(header::SET_COOKIE, cookie);
                response
            }
            Shown::TooMuch { retry_after_s } => {
                let notice = format!(
                    r#"<p class="notice bad" role="alert">Too many wrong tokens from this address. Try again in {retry_after_s} seconds.</p>"#
                );
                let mut response = login_page(StatusCode::TOO_MANY_REQUESTS, &notice);
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
                response
            }
            Shown::Wrong | Shown::Nothing => {
                tracing::warn!(peer = %peer.ip(), "console.login.wrong");
                login_page(StatusCode::UNAUTHORIZED, WRONG)
            }
        }
    }

    fn log_out(&self, headers: &HeaderMap) -> Response<Whole> {
        let Some(lock) = &self.lock else {
            return go_to("./");
        };
        let mut response = go_to("login");
        let cookie = lock.sessions.end(headers, now_s());
        response.headers_mut().insert(header::SET_COOKIE, cookie);
        response
    }
}

impl Lock {
    fn tried(&self, peer: SocketAddr, token: &[u8]) -> Shown {
        let attempt = match self.wrong.look_up(peer.ip()) {
            Ok(attempt) => attempt,
            Err(Refusal::TooManyUnknownTokens { retry_after_ms }) => {
                let retry_after_s = retry_after_ms.div_ceil(1000);
                return Shown::TooMuch { retry_after_s };
            }
            Err(_) => return Shown::TooMuch { retry_after_s: 1 },
        };
        let digest: [u8; 32] = Sha256::digest(token).into();
        if digest.ct_eq(&self.digest).into() {
            return Shown::Enough;
        }
        attempt.unknown();
        Shown::Wrong
    }
}

async fn read(body: Incoming) -> Option<Bytes> {
    let body = Limited::new(body, FORM_BYTES_MAX).collect();
    let body = timeout(FORM_PATIENCE, body).await.ok()?.ok()?;
    Some(body.to_bytes())
}

fn login_page(status: StatusCode, notice: &str) -> Response<Whole> {
    let mut response = assets::page(assets::LOGIN.replacen(MESSAGE, notice, 1));
    *response.status_mut() = status;
    response
}

/// To a page of ours, named from where the request was: something in front may have put a path before it.
fn go_to(place: &'static str) -> Response<Whole> {
    let mut response = text(StatusCode::SEE_OTHER, "");
    response
        .headers_mut()
        .insert(header::LOCATION, HeaderValue::from_static(place));
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Whole> {
    let mut response = Response::new(Whole::from(text));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, assets::NO_STORE);
    response
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
