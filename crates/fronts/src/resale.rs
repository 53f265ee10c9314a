//! Door `resale`: resale-chatgpt-azure's five routes, of both its generations.
//!
//! The first generation's callers show an admin token and name a user; the second's show a user's own token. Which it is
//! shows in the call: a `userNameToken`, or a token that is an admin's, makes it the first.

mod asked;
mod chat;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::asked::Fields;
use crate::{
    exchange::{Away, Caller, Host},
    history::Message,
    reply::{self, AnswerBody},
    seal::Seal,
    store::{DialogName, Left},
    turns::{NoTurn, Turns},
};

/// In logs and metrics.
pub(crate) const NAME: &str = "resale";

const NO_ADMIN: &str = "Неверный токен администратора";
const NO_TOKEN: &str = "Токен не действителен или уже истек.";
const NOT_ENOUGH: &str = "Недостаточно токенов";
const LIMIT_REACHED: &str = "Превышен лимит использования токенов.";

/// What the operator sets.
#[derive(Clone, Debug)]
pub struct ResaleSettings {
    /// The model where a caller names none, or one without a price.
    pub model: String,
}

/// The door.
pub(crate) struct Resale {
    settings: ResaleSettings,
    turns: Turns,
}

/// What goes back instead of an answer.
struct Problem(StatusCode, Value);

impl Problem {
    fn new(status: StatusCode, message: impl Into<Value>) -> Self {
        Self(
            status,
            json!({ "success": false, "message": message.into() }),
        )
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message.into())
    }
}

impl From<Away> for Problem {
    fn from(away: Away) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, away.to_string())
    }
}

impl From<NoTurn> for Problem {
    fn from(no_turn: NoTurn) -> Self {
        let status = match no_turn {
            NoTurn::Crowded => StatusCode::TOO_MANY_REQUESTS,
            NoTurn::Absent => StatusCode::NOT_FOUND,
            NoTurn::Away(_) | NoTurn::Sealed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, no_turn.to_string())
    }
}

type Served = Result<Response<AnswerBody>, Problem>;

/// Whether the path is this door's.
pub(crate) fn serves(path: &str) -> bool {
    matches!(
        path,
        "/chatgpt" | "/generate-token" | "/update-token" | "/tokens" | "/dialog-history"
    )
}

/// 413 in this door's shape.
pub(crate) fn too_large(bytes_max: usize) -> Response<AnswerBody> {
    let message = format!("the body is longer than {bytes_max} bytes");
    let Problem(status, body) = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, message);
    reply::json(status, &body)
}

impl Resale {
    pub(crate) fn new(settings: ResaleSettings, seal: Seal) -> Self {
        Self {
            settings,
            turns: Turns::new(seal),
        }
    }

    /// Answers a call.
    pub(crate) async fn serve(
        &self,
        host: &dyn Host,
        request: Request<Bytes>,
    ) -> Response<AnswerBody> {
        match self.route(host, request).await {
            Ok(response) => response,
            Err(Problem(status, body)) => reply::json(status, &body),
        }
    }

    async fn route(&self, host: &dyn Host, request: Request<Bytes>) -> Served {
        let fields = Fields::read(&request).map_err(Problem::bad)?;
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/chatgpt") => self.chat(host, &fields).await,
            (&Method::POST, "/generate-token") => generate(host, &fields).await,
            (&Method::POST, "/update-token") => update(host, &fields).await,
            (&Method::GET, "/tokens") => tokens(host, &fields).await,
            (&Method::GET, "/dialog-history") => self.history(host, &fields).await,
            (method, path) => Err(Problem::new(
                StatusCode::NOT_FOUND,
                format!("Cannot {method} {path}"),
            )),
        }
    }

    /// What was said in a dialog of the token that is shown.
    async fn history(&self, host: &dyn Host, fields: &Fields) -> Served {
        let caller = fields.caller(host).await?.ok_or_else(no_admin)?;
        let name = fields.text("dialogName")?.unwrap_or_default();
        let said = self.turns.read(host, caller, dialog_name(name)).await?;
        let said = said.as_deref().map(messages).unwrap_or_default();
        Ok(reply::json(
            StatusCode::OK,
            &json!({ "success": true, "history": said }),
        ))
    }
}

/// Makes a user with his two budgets. One that is there keeps what he has.
async fn generate(host: &dyn Host, fields: &Fields) -> Served {
    let admin = fields.admin(host).await?;
    let name = fields.user_name()?;
    let left = Left {
        prompt: fields.count("userTokenLimit")?,
        completion: fields.count("chatGptTokenLimit")?,
    };
    if left.prompt < 0 || left.completion < 0 {
        return Err(Problem::bad("a limit is below 0"));
    }
    let id = host.issue_user(admin, name, left).await?;
    Ok(reply::json(
        StatusCode::OK,
        &json!({ "success": true, "tokenId": id }),
    ))
}

/// Sets what a user has left. That there is none of that name has always been a success.
async fn update(host: &dyn Host, fields: &Fields) -> Served {
    let admin = fields.admin(host).await?;
    let name = fields.user_name()?;
    let left = Left {
        prompt: fields.count("newUserTokenLimit")?,
        completion: fields.count("newChatGptTokenLimit")?,
    };
    host.set_left(admin, name, left).await?;
    Ok(reply::json(
        StatusCode::OK,
        &json!({ "success": true, "message": "Token limits updated successfully" }),
    ))
}

/// What a user has left. Callers tell by the missing key that there is no such user, and make him.
async fn tokens(host: &dyn Host, fields: &Fields) -> Served {
    let admin = fields.admin(host).await?;
    let user = host.user(admin, fields.user_name()?).await?;
    let body = match user {
        Some(user) => {
            let left = host.left(user).await?;
            json!({ "success": true, "tokens": [left.prompt, left.completion] })
        }
        None => json!({ "success": true }),
    };
    Ok(reply::json(StatusCode::OK, &body))
}

fn no_admin() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, NO_ADMIN)
}

fn dialog_name(name: &str) -> DialogName {
    DialogName {
        door: NAME,
        digest: Sha256::digest(name).into(),
    }
}

/// What was kept. What cannot be read was written by nobody here.
fn messages(kept: &[u8]) -> Vec<Message> {
    serde_json::from_slice(kept).unwrap_or_default()
}

/// What an importer keeps of a dialog of an earlier system, as this door reads it: its name's digest, and the content to keep.
///
/// # Errors
/// When the content is no array of messages, or cannot be sealed.
pub fn imported_dialog(
    seal: &Seal,
    name: &str,
    messages: &Value,
) -> Result<(DialogName, Vec<u8>), Box<dyn std::error::Error + Send + Sync>> {
    let messages: Vec<Message> = serde_json::from_value(messages.clone())?;
    let name = dialog_name(name);
    let kept = seal.close(name, &serde_json::to_vec(&messages)?)?;
    Ok((name, kept))
}

impl Fields {
    /// Whose token is shown.
    async fn caller(&self, host: &dyn Host) -> Result<Option<Caller>, Problem> {
        match self.get("token").and_then(Value::as_str) {
            Some(token) => Ok(host.identify(token).await?),
            None => Ok(None),
        }
    }

    /// The admin whose token is shown.
    async fn admin(&self, host: &dyn Host) -> Result<Caller, Problem> {
        let caller = self.caller(host).await?.ok_or_else(no_admin)?;
        if host.is_admin(caller).await? {
            Ok(caller)
        } else {
            Err(no_admin())
        }
    }

    fn user_name(&self) -> Result<&str, Problem> {
        self.text("userName")?
            .filter(|name| is_name(name))
            .ok_or_else(|| Problem::bad("userName is needed, of at most 200 printable characters"))
    }
}

/// Whether the database takes it for a user's name.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().count() <= NAME_LETTERS_MAX
        && !name.chars().any(char::is_control)
}

/// The longest name of a user.
const NAME_LETTERS_MAX: usize = 200;
