//! `turnpike import …`: what earlier systems had, taken over once however often it is asked for.

mod agent;
mod resale;

use std::path::Path;

use ledger::{
    Config,
    admin::{Admin, ImportedToken},
};

use crate::{
    cli::Importing,
    fatal::{Code, Fatal, io_code},
    settings::Doors,
};

/// Keys that are easier to guess are refused.
const KEY_LETTERS_MIN: usize = 16;
/// What chat_gpt_proxy called its key.
const ACCESS_KEY: &str = "ACCESS_KEY=";

pub(super) async fn run(wanted: Importing, config: &Config, doors: &Doors) -> Result<(), Fatal> {
    ledger::migrate::run(config).await?;
    let mut admin = Admin::connect(config).await?;
    match wanted {
        Importing::Agent { from, account } => {
            agent::import(&mut admin, config, from.as_deref(), &account).await
        }
        Importing::Resale {
            tokens,
            dialogs,
            owner,
            admin: is_admin,
            account,
        } => {
            let tokens = resale::Tokens {
                file: &tokens,
                is_admin,
                account: &account,
            };
            resale::tokens(&admin, &tokens).await?;
            match (dialogs, owner) {
                (Some(file), Some(owner)) => resale::dialogs(&admin, doors, &file, &owner).await,
                _ => Ok(()),
            }
        }
        Importing::Complete {
            file,
            account,
            allow_weak,
        } => complete(&admin, &file, &account, allow_weak).await,
    }
}

/// chat_gpt_proxy's shared key becomes an access token, so that its callers go on showing it.
async fn complete(
    admin: &Admin,
    file: &Path,
    account: &str,
    allow_weak: bool,
) -> Result<(), Fatal> {
    let text = read(file)?;
    let key = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .find_map(|line| Some(value(line.split_once(ACCESS_KEY)?.1)))
        .filter(|key| !key.is_empty())
        .ok_or_else(|| {
            Fatal::new(
                Code::Data,
                format!("{} has no {ACCESS_KEY}…", file.display()),
            )
        })?;
    if key.chars().count() < KEY_LETTERS_MIN && !allow_weak {
        return Err(Fatal::new(
            Code::Data,
            format!(
                "the key has fewer than {KEY_LETTERS_MIN} characters, so that anybody may guess it: give your callers tokens of \
                 their own (turnpike token issue), or say --allow-weak"
            ),
        ));
    }
    admin.ensure_account(account).await?;
    let token = ImportedToken {
        account: account.to_owned(),
        label: Some("chat_gpt_proxy".to_owned()),
        ..ImportedToken::default()
    };
    let (_, is_new) = admin.import_token(&key, &token).await?;
    println!(
        "access key: {}",
        if is_new { "1 new" } else { "0 new, 1 known" }
    );
    Ok(())
}

/// A shell's value: as far as its quotes or the next blank.
fn value(text: &str) -> String {
    let text = text.trim_start();
    let end = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let inner = &text[1..];
            return inner.split(quote).next().unwrap_or_default().to_owned();
        }
        _ => text.find(char::is_whitespace).unwrap_or(text.len()),
    };
    text[..end].to_owned()
}

fn read(file: &Path) -> Result<String, Fatal> {
    std::fs::read_to_string(file).map_err(|error| {
        Fatal::because(
            io_code(&error),
            &format!("{} cannot be read", file.display()),
            &error,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_value_is_read_as_a_shell_reads_it() {
        for (text, expected) in [
            ("abc", "abc"),
            ("'a b' image", "a b"),
            ("\"a\"", "a"),
            ("abc -p 9081:9081", "abc"),
            ("", ""),
            ("'open", "open"),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }
}
