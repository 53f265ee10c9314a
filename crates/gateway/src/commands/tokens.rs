//! `turnpike token …`

use ledger::admin::{Admin, IssueToken, TokenRow};

use super::{now_ms, table::Table, time};
use crate::{
    cli::{Issue, Token},
    fatal::Fatal,
};

pub(super) async fn run(command: Token, admin: &Admin) -> Result<(), Fatal> {
    match command {
        Token::Issue(issue) => self::issue(issue, admin).await,
        Token::List { account } => {
            print!("{}", list(&admin.tokens(account.as_deref()).await?));
            Ok(())
        }
        Token::Rotate { token } => {
            let issued = admin.rotate_token(&token).await?;
            println!("{}", issued.token.expose());
            eprintln!(
                "This is the only time the new secret is shown. The old one is refused from now on."
            );
            Ok(())
        }
        Token::Revoke { token } => {
            println!("revoked {}", admin.revoke_token(&token).await?);
            Ok(())
        }
    }
}

async fn issue(issue: Issue, admin: &Admin) -> Result<(), Fatal> {
    let issued = admin
        .issue_token(&IssueToken {
            account: issue.account,
            label: issue.label,
            budget: issue.budget,
            expires_at_ms: issue.expires.map(jiff::Timestamp::as_millisecond),
            models: issue.models,
            endpoints: issue.endpoints,
            addresses: issue.addresses,
            requests_per_minute: issue.requests_per_minute,
            concurrent_exchanges: issue.concurrent_exchanges,
            upstream_key: None,
        })
        .await?;
    // Alone on standard output, so that a script can keep it.
    println!("{}", issued.token.expose());
    eprintln!(
        "This is the only time the secret is shown. Its prefix is {}.",
        issued.prefix
    );
    Ok(())
}

fn list(tokens: &[TokenRow]) -> Table {
    let mut table = Table::new(
        &[
            "token", "account", "label", "budget", "spent", "held", "models", "issued", "state",
        ],
        &[3, 4, 5],
    );
    let now_ms = now_ms();
    for token in tokens {
        let state = match (token.revoked_at_ms, token.expires_at_ms) {
            (Some(at), _) => format!("revoked {}", time(at)),
            (None, Some(at)) if at <= now_ms => format!("expired {}", time(at)),
            (None, Some(at)) => format!("until {}", time(at)),
            (None, None) => "valid".to_owned(),
        };
        table.row([
            format!("{}…", token.prefix),
            token.account.clone(),
            token.label.clone().unwrap_or_default(),
            token
                .budget
                .map_or_else(|| "-".to_owned(), |budget| budget.to_string()),
            token.spent.to_string(),
            token.held.to_string(),
            token
                .models
                .as_ref()
                .map_or_else(|| "all".to_owned(), |models| models.join(",")),
            time(token.created_at_ms),
            state,
        ]);
    }
    table
}
