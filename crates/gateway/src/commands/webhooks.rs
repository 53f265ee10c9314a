//! `turnpike webhook …`

use std::{io::Read as _, process::ExitCode};

use ledger::{
    Event, Told,
    admin::{Admin, NewWebhook, WebhookRow},
};
use proxy::{Pool, tls};
use serde_json::json;
use uuid::Uuid;

use super::{found, now_ms, table::Table};
use crate::{
    cli::{AddWebhook, Webhook},
    fatal::{Code, Fatal},
    serve, settings,
    webhooks::{TEST, post},
};

/// The longest line that is read from standard input, in bytes.
const LINE_BYTES_MAX: u64 = 8 * 1024;
/// Postgres' code for what a user may not do.
const NOT_ALLOWED: &str = "42501";

pub(super) async fn run(
    command: Webhook,
    admin: &Admin,
    settings: &settings::Upstream,
) -> Result<ExitCode, Fatal> {
    match command {
        Webhook::Add(wanted) => add(wanted, admin).await?,
        Webhook::List => print!("{}", list(admin).await?),
        Webhook::Test { name } => return test(&name, admin, settings).await,
        Webhook::Remove { name } => {
            if !admin.remove_webhook(&name).await? {
                return Err(no_webhook(&name));
            }
            println!("webhook {name} is told nothing more");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(wanted: AddWebhook, admin: &Admin) -> Result<(), Fatal> {
    if wanted.url == "-" && wanted.secret.as_deref() == Some("-") {
        return Err(Fatal::new(
            Code::Usage,
            "the URL and the secret cannot both come from standard input; leave --secret out to have one made",
        ));
    }
    let url = if wanted.url == "-" {
        read_line()?
    } else {
        wanted.url
    };
    let secret = match wanted.secret {
        Some(place) if place == "-" => Some(read_line()?),
        place => place,
    };
    let made = admin
        .set_webhook(&NewWebhook {
            name: &wanted.name,
            url: &url,
            secret: secret.as_deref(),
            form: wanted.form.into(),
            events: wanted.events.as_deref(),
            account: wanted.account.as_deref(),
        })
        .await?;
    let name = &wanted.name;
    println!(
        "webhook {name} is told what happens from now on; `turnpike webhook test {name:?}` tries it"
    );
    if let Some(secret) = made {
        println!(
            "its secret, shown this once, is what receivers check signatures with:\n  {}",
            secret.expose()
        );
    }
    Ok(())
}

fn read_line() -> Result<String, Fatal> {
    let unread = |error: &dyn std::fmt::Display| {
        Fatal::new(
            Code::NoInput,
            format!("standard input cannot be read: {error}"),
        )
    };
    let mut text = String::new();
    std::io::stdin()
        .take(LINE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| unread(&error))?;
    let line = text.trim();
    if line.is_empty() {
        return Err(unread(&"it is empty"));
    }
    Ok(line.to_owned())
}

async fn list(admin: &Admin) -> Result<Table, Fatal> {
    let mut table = Table::new(
        &[
            "webhook",
            "to",
            "form",
            "events",
            "account",
            "pending",
            "failing",
            "given up",
            "last error",
        ],
        &[5, 6, 7],
    );
    for row in admin.webhooks().await? {
        let to = origin(&row).to_owned();
        table.row([
            row.name,
            if row.enabled {
                to
            } else {
                format!("{to} (disabled)")
            },
            row.form.as_str().to_owned(),
            row.events
                .map_or_else(|| "all".to_owned(), |events| events.join(",")),
            row.account.unwrap_or_else(|| "all".to_owned()),
            row.pending.to_string(),
            row.failing.to_string(),
            row.given_up.to_string(),
            row.last_error.unwrap_or_default(),
        ]);
    }
    Ok(table)
}

/// The URL less its path: Slack's are secrets.
fn origin(row: &WebhookRow) -> &str {
    let host = row.url.find("://").map_or(0, |at| at.saturating_add(3));
    let end = row
        .url
        .get(host..)
        .and_then(|rest| rest.find(['/', '?']))
        .map_or(row.url.len(), |at| host.saturating_add(at));
    row.url.get(..end).unwrap_or_default()
}

fn no_webhook(name: &str) -> Fatal {
    Fatal::new(
        Code::Data,
        format!("there is no webhook {name:?}; `turnpike webhook list` names them all"),
    )
}

async fn test(name: &str, admin: &Admin, settings: &settings::Upstream) -> Result<ExitCode, Fatal> {
    let secret = admin.webhook_secret(name).await.map_err(|error| {
        if error.sqlstate() == Some(NOT_ALLOWED) {
            Fatal::new(
                Code::NoPermission,
                "this database user may not read secrets: run it as the database's owner, or as a member of turnpike_gateway",
            )
        } else {
            error.into()
        }
    })?;
    let secret = secret.ok_or_else(|| no_webhook(name))?;
    let rows = admin.webhooks().await?;
    let row = rows
        .into_iter()
        .find(|row| row.name == name)
        .ok_or_else(|| no_webhook(name))?;
    let tls = tls::client_config(&serve::roots(settings)).map_err(|error| {
        Fatal::because(
            Code::Config,
            "the certificates to trust cannot be read",
            &error,
        )
    })?;
    let pool = Pool::new(tls, serve::pool_limits(settings));
    let event = Event {
        id: Uuid::now_v7(),
        kind: TEST.to_owned(),
        at_ms: now_ms(),
        payload: json!({ "webhook": name }),
    };
    Ok(
        match post(&pool, &row.url, &secret, row.form, &event).await {
            Told::Delivered => {
                println!("webhook {name} took it");
                ExitCode::SUCCESS
            }
            Told::Failed(why) => {
                println!("webhook {name} did not take it: {why}");
                found()
            }
            Told::Untried => found(),
        },
    )
}
