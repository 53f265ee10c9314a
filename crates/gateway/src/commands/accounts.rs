//! `turnpike account …`

use ledger::admin::{Admin, UsageBy};
use tariff::Amount;

use super::{now_ms, table::Table, time, tokens, usage};
use crate::{
    cli::{Account, CreditLimit},
    fatal::{Code, Fatal},
};

/// How many of its latest credits an account is shown with.
const CREDITS_SHOWN: i64 = 10;

pub(super) async fn run(command: Account, admin: &Admin) -> Result<(), Fatal> {
    match command {
        Account::Create { name, credit_limit } => {
            let limit = match credit_limit {
                CreditLimit::Of(limit) => Some(limit),
                CreditLimit::Unlimited => None,
            };
            admin.create_account(&name, limit).await?;
            println!("account {name} created");
        }
        Account::List => print!("{}", list(admin).await?),
        Account::Show { name } => show(&name, admin).await?,
        Account::TopUp {
            name,
            amount,
            note,
            create,
        } => {
            if create
                && !admin
                    .accounts()
                    .await?
                    .iter()
                    .any(|account| account.name == name)
            {
                admin.create_account(&name, Some(Amount::ZERO)).await?;
            }
            let balance = admin.top_up(&name, amount, &note).await?;
            println!("account {name} has {balance} USD");
        }
    }
    Ok(())
}

async fn list(admin: &Admin) -> Result<Table, Fatal> {
    let mut table = Table::new(&["account", "balance", "held", "credit limit"], &[1, 2, 3]);
    for account in admin.accounts().await? {
        table.row([
            account.name,
            account.balance.to_string(),
            account.held.to_string(),
            account
                .credit_limit
                .map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string()),
        ]);
    }
    Ok(table)
}

async fn show(name: &str, admin: &Admin) -> Result<(), Fatal> {
    let accounts = admin.accounts().await?;
    let Some(account) = accounts.into_iter().find(|it| it.name == name) else {
        return Err(Fatal::new(
            Code::Data,
            format!("there is no account {name:?}; `turnpike account list` names them all"),
        ));
    };
    let limit = match account.credit_limit {
        Some(limit) => format!("credit limit {limit} USD"),
        None => "no credit limit".to_owned(),
    };
    println!(
        "{name}: balance {} USD, {} USD held, {limit}",
        account.balance, account.held
    );
    println!("\naccess tokens");
    print!("{}", tokens::list(&admin.tokens(Some(name)).await?));
    let mut credits = Table::new(&["credited", "usd", "note"], &[1]);
    for credit in admin.credits(name, CREDITS_SHOWN).await? {
        credits.row([time(credit.at_ms), credit.amount.to_string(), credit.note]);
    }
    println!("\nlatest credits\n{credits}");
    let since_ms = usage::days_ago(now_ms());
    let models = admin
        .usage(UsageBy::Model, since_ms, None, Some(name))
        .await?;
    print!(
        "used in the last 30 days\n{}",
        usage::table("model", &models, usage::bars())
    );
    Ok(())
}
