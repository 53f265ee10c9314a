//! `POST /chatgpt`: who pays, what is said, and what is left.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Fields, LIMIT_REACHED, NAME, NO_TOKEN, NOT_ENOUGH, Problem, Resale, Served, dialog_name,
    is_name, messages, no_admin,
};
use crate::{
    answer::{Completed, Outcome, Refused, ask, carry},
    exchange::{Call, Caller, Host},
    history::{Message, shorten},
    reply,
    store::Left,
    turns::Whose,
};

/// What the assistant is told where the caller tells it nothing.
const SYSTEM: &str = "You are chatting with an AI assistant.";

/// In whose shape the answer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Generation {
    /// An admin speaks for a user.
    First,
    /// A user speaks for himself.
    Second,
}

/// A call, its caller known.
struct Asked<'a> {
    generation: Generation,
    /// Whose dialogs these are: the token that was shown.
    caller: Caller,
    /// Whose budgets these are.
    payer: Caller,
    query: &'a str,
    system: &'a str,
    model: &'a str,
    /// `None`: a single question.
    dialog: Option<&'a str>,
    /// The most tokens that the next turn should find.
    token_limit: Option<u64>,
}

impl Resale {
    pub(super) async fn chat(&self, host: &dyn Host, fields: &Fields) -> Served {
        let asked = self.asked(host, fields).await?;
        let left = host.left(asked.payer).await?;
        if left.prompt <= 0 || left.completion <= 0 {
            return Err(used_up(asked.generation, left));
        }
        let Some(dialog) = asked.dialog else {
            let said = [
                Message::new("system", asked.system),
                Message::new("user", asked.query),
            ];
            let call = call(host, &asked, &said, left);
            let completed = completed(host, &asked, ask(host, call).await).await?;
            return answer(host, &asked, &completed).await;
        };
        let turn = self
            .turns
            .take(host, Whose::Caller(asked.caller), dialog_name(dialog))
            .await?;
        let mut said = turn.content.as_deref().map(messages).unwrap_or_default();
        if said.is_empty() {
            said.push(Message::new("system", asked.system));
        }
        said.push(Message::new("user", asked.query));
        let outcome = turn
            .while_kept(ask(host, call(host, &asked, &said, left)))
            .await;
        match completed(host, &asked, outcome).await {
            Ok(completed) => {
                said.push(Message::new("assistant", completed.trimmed()));
                if let Some(limit) = asked.token_limit {
                    shorten(&mut said, limit);
                }
                let kept = serde_json::to_vec(&said).expect("messages of text are JSON");
                turn.end(&kept).await?;
                answer(host, &asked, &completed).await
            }
            Err(problem) => {
                turn.abandon().await;
                Err(problem)
            }
        }
    }

    async fn asked<'a>(
        &'a self,
        host: &dyn Host,
        fields: &'a Fields,
    ) -> Result<Asked<'a>, Problem> {
        let user_name = fields.text("userNameToken")?;
        let caller = fields.caller(host).await?.ok_or_else(|| match user_name {
            Some(_) => no_admin(),
            None => Problem::new(StatusCode::UNAUTHORIZED, NO_TOKEN),
        })?;
        let is_admin = host.is_admin(caller).await?;
        let (generation, payer) = match user_name {
            None if is_admin => return Err(Problem::bad("userNameToken is needed")),
            None => (Generation::Second, caller),
            Some(name) => (Generation::First, user(host, caller, is_admin, name).await?),
        };
        let dialog = fields.text("dialogName")?.filter(|name| !name.is_empty());
        let is_single = fields
            .flag("singleMessage")?
            .unwrap_or(generation == Generation::First);
        let token_limit = match fields.get("tokenLimit") {
            None => None,
            Some(limit) => Some(
                limit
                    .as_u64()
                    .ok_or_else(|| Problem::bad("tokenLimit is no whole number of tokens"))?,
            ),
        };
        let model = fields
            .text("model")?
            .filter(|model| host.output_max(model).is_some());
        Ok(Asked {
            generation,
            caller,
            payer,
            query: fields
                .text("query")?
                .ok_or_else(|| Problem::bad("query is needed"))?,
            system: fields
                .text("systemMessageContent")?
                .filter(|system| !system.is_empty())
                .unwrap_or(SYSTEM),
            model: model.unwrap_or(&self.settings.model),
            dialog: dialog.filter(|_| !is_single),
            token_limit,
        })
    }
}

/// The user that a token may speak for: an admin for all of his account's, anybody for himself.
async fn user(
    host: &dyn Host,
    caller: Caller,
    is_admin: bool,
    name: &str,
) -> Result<Caller, Problem> {
    let user = if is_name(name) {
        host.user(caller, name).await?
    } else {
        None
    };
    match user {
        Some(user) if is_admin || user == caller => Ok(user),
        None if is_admin => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "there is no user of this name: make him by /generate-token",
        )),
        _ => Err(no_admin()),
    }
}

/// The call as it goes up. Where less is left than the model may say, it is told how much.
fn call(host: &dyn Host, asked: &Asked<'_>, said: &[Message], left: Left) -> Call {
    let mut body = json!({ "model": asked.model, "messages": said });
    let left = u64::try_from(left.completion).unwrap_or(0);
    if host
        .output_max(asked.model)
        .is_some_and(|output_max| left < output_max)
    {
        body["max_tokens"] = left.into();
    }
    Call::chat(NAME, asked.payer, body.to_string())
}

/// The completion, or what to say instead.
async fn completed(
    host: &dyn Host,
    asked: &Asked<'_>,
    outcome: Outcome,
) -> Result<Completed, Problem> {
    match outcome {
        Outcome::Completed(completed) => Ok(completed),
        Outcome::Refused(refused) => Err(refuse(host, asked, refused).await?),
        Outcome::Failed { body, .. } => {
            let said = serde_json::from_slice(&body)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, said))
        }
        Outcome::Broken { .. } => Err(Problem::new(
            StatusCode::BAD_GATEWAY,
            "the provider's answer is no chat completion",
        )),
    }
}

async fn refuse(host: &dyn Host, asked: &Asked<'_>, refused: Refused) -> Result<Problem, Problem> {
    Ok(match refused.code.as_str() {
        "insufficient_quota" => used_up(asked.generation, host.left(asked.payer).await?),
        // The provider could not be reached, or gave no answer: as it always was.
        "upstream_unreachable" => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, refused.message),
        _ => Problem::new(refused.status, refused.message),
    })
}

fn used_up(generation: Generation, left: Left) -> Problem {
    match generation {
        Generation::First => Problem(
            StatusCode::FORBIDDEN,
            json!({
                "success": false,
                "message": NOT_ENOUGH,
                "userTokens": [left.prompt, left.completion],
            }),
        ),
        Generation::Second => Problem::new(StatusCode::TOO_MANY_REQUESTS, LIMIT_REACHED),
    }
}

/// The answer, with what is left now: its charge is booked.
async fn answer(host: &dyn Host, asked: &Asked<'_>, completed: &Completed) -> Served {
    let left = host.left(asked.payer).await?;
    let body = match asked.generation {
        // The names lie, and callers know it.
        Generation::First => json!({
            "success": true,
            "response": completed.trimmed(),
            "tokensUsed": left.prompt,
            "remainingTokens": left.completion,
        }),
        Generation::Second => json!({
            "success": true,
            "response": completed.trimmed(),
            "tokensUsed": {
                "requestTokensUsed": completed.prompt_tokens,
                "responseTokensUsed": completed.completion_tokens,
            },
            "remainingTokens": {
                "remainingUserTokens": left.prompt,
                "remainingChatGptTokens": left.completion,
            },
        }),
    };
    Ok(carry(
        reply::json(StatusCode::OK, &body),
        &completed.headers,
    ))
}

impl Completed {
    fn trimmed(&self) -> &str {
        self.text.as_deref().unwrap_or_default().trim()
    }
}
