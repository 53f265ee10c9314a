//! `turnpike token …`

use ledger::{
    Limit, Period,
    admin::{Admin, CapRow, IssueToken, TokenRow},
};
use tariff::Amount;

use super::{now_ms, table::Table, time};
use crate::{
    cli::{Issue, Token},
    fatal::Fatal,
};

pub(super) async fn run(command: Token, admin: &Admin) -> Result<(), Fatal> {
    match command {
        Token::Issue(issue) => self::issue(*issue, admin).await,
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
            caps: issue.caps.into(),
            requests_per_second: issue.rates.requests_per_second,
            requests_per_minute: issue.rates.requests_per_minute,
            requests_per_hour: issue.rates.requests_per_hour,
            tokens_per_minute: issue.rates.tokens_per_minute,
            concurrent_exchanges: issue.rates.concurrent_exchanges,
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

pub(super) fn list(tokens: &[TokenRow]) -> Table {
    let mut table = Table::new(
        &[
            "token", "account", "label", "budget", "spent", "held", "limits", "models", "issued",
            "state",
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
            limits(token),
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

/// Its caps as used/most, then its rates: `day 0.10/1.00 USD, in/month 12/5000, 60/min`.
fn limits(token: &TokenRow) -> String {
    let rates = [
        (token.requests_per_second.map(i64::from), "/s"),
        (token.requests_per_minute.map(i64::from), "/min"),
        (token.requests_per_hour.map(i64::from), "/h"),
        (token.tokens_per_minute, " tokens/min"),
        (token.concurrent_exchanges.map(i64::from), " at once"),
    ];
    let rates = rates
        .into_iter()
        .filter_map(|(most, unit)| most.map(|most| format!("{most}{unit}")));
    let all: Vec<String> = token.caps.iter().map(cap).chain(rates).collect();
    if all.is_empty() {
        return "-".to_owned();
    }
    all.join(", ")
}

fn cap(row: &CapRow) -> String {
    let CapRow { cap, used, most } = *row;
    let period = |period| match period {
        Period::Life => "life",
        Period::Day => "day",
        Period::Month => "month",
    };
    match cap {
        Limit::PromptTokens(of) => format!("in/{} {used}/{most}", period(of)),
        Limit::CompletionTokens(of) => format!("out/{} {used}/{most}", period(of)),
        Limit::Budget(of) => format!("{} {} USD", period(of), money(used, most)),
        // No cap of a token's; told all the same, should the ledger list it.
        Limit::Account => format!("account {} USD", money(used, most)),
    }
}

fn money(used: i64, most: i64) -> String {
    format!("{}/{}", Amount::from_nano(used), Amount::from_nano(most))
}
