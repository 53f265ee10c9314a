//! `turnpike account …`

use ledger::admin::Admin;
use tariff::Amount;

use super::table::Table;
use crate::{
    cli::{Account, CreditLimit},
    fatal::Fatal,
};

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
