//! `turnpike import resale`: resale-chatgpt-azure's JSON files.

use std::path::Path;

use fronts::imported_dialog;
use jiff::{Timestamp, civil, tz::TimeZone};
use ledger::{
    DialogName,
    admin::{Admin, ImportedToken},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::read;
use crate::{
    fatal::{Code, Fatal},
    settings::Doors,
};

/// The tokens to take over.
pub(super) struct Tokens<'a> {
    pub(super) file: &'a Path,
    pub(super) is_admin: bool,
    pub(super) account: &'a str,
}

/// `src/db/tokens.json`.
#[derive(Deserialize)]
struct TokensFile {
    tokens: Vec<TokenEntry>,
}

#[derive(Deserialize)]
struct TokenEntry {
    token: String,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    limits: Pair,
    #[serde(default)]
    used: Pair,
}

/// Prompt and completion tokens.
#[derive(Default, Deserialize)]
struct Pair {
    #[serde(default)]
    user: i64,
    #[serde(default, rename = "chatGpt")]
    chat_gpt: i64,
}

/// `src/db/dialogs.json`.
#[derive(Deserialize)]
struct DialogsFile {
    dialogs: Vec<DialogEntry>,
}

#[derive(Deserialize)]
struct DialogEntry {
    name: String,
    messages: Value,
}

/// Takes tokens over, with what is left of their limits: what was used before is not known here as charges.
pub(super) async fn tokens(admin: &Admin, wanted: &Tokens<'_>) -> Result<(), Fatal> {
    let entries = parse::<TokensFile>(wanted.file)?.tokens;
    admin.ensure_account(wanted.account).await?;
    let (mut new, mut known) = (0_usize, 0_usize);
    for entry in entries {
        let left =
            |limit: i64, used: i64| (!wanted.is_admin).then(|| limit.saturating_sub(used).max(0));
        let token = ImportedToken {
            account: wanted.account.to_owned(),
            label: Some("resale-chatgpt-azure".to_owned()),
            // An admin's token never ended, and the file's limits were not its own.
            expires_at_ms: entry
                .expires
                .as_deref()
                .filter(|_| !wanted.is_admin)
                .and_then(instant),
            prompt_tokens: left(entry.limits.user, entry.used.user),
            completion_tokens: left(entry.limits.chat_gpt, entry.used.chat_gpt),
            upstream_key: None,
        };
        let (id, is_new) = admin.import_token(&entry.token, &token).await?;
        if wanted.is_admin {
            admin.make_resale_admin(id).await?;
        }
        if is_new {
            new += 1;
        } else {
            known += 1;
        }
    }
    println!("tokens: {new} new, {known} known");
    Ok(())
}

/// Takes dialogs over, for one owner.
pub(super) async fn dialogs(
    admin: &Admin,
    doors: &Doors,
    file: &Path,
    owner: &str,
) -> Result<(), Fatal> {
    let entries = parse::<DialogsFile>(file)?.dialogs;
    let owner = admin.token_of(owner).await?.ok_or_else(|| {
        Fatal::new(
            Code::Data,
            "--owner is no access token here: give one of the file of tokens",
        )
    })?;
    let seal = doors.seal()?;
    let (mut new, mut known) = (0_usize, 0_usize);
    for entry in entries {
        let (name, kept) =
            imported_dialog(&seal, &entry.name, &entry.messages).map_err(|error| {
                Fatal::new(
                    Code::Data,
                    format!("dialog {:?} cannot be taken over: {error}", entry.name),
                )
            })?;
        let name = DialogName {
            door: name.door,
            digest: name.digest,
        };
        if admin.import_dialog(owner, name, &kept).await? {
            new += 1;
        } else {
            known += 1;
        }
    }
    println!("dialogs: {new} new, {known} known");
    Ok(())
}

fn parse<T: DeserializeOwned>(file: &Path) -> Result<T, Fatal> {
    serde_json::from_str(&read(file)?).map_err(|error| {
        Fatal::because(
            Code::Data,
            &format!("{} is not as expected", file.display()),
            &error,
        )
    })
}

/// When a token ends, in milliseconds since the epoch: a bare date is its midnight UTC; what is neither never ended.
fn instant(text: &str) -> Option<i64> {
    let text = text.trim();
    let instant = text.parse::<Timestamp>().ok().or_else(|| {
        let date: civil::Date = text.parse().ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    });
    instant.map(Timestamp::as_millisecond)
}
