//! `turnpike import agent`: chatgpt-agent's users, prices and usage, out of its own tables.

use std::collections::{BTreeMap, HashMap};

use ledger::{
    Config, TokenId,
    admin::{Admin, AgentPrice, AgentTables, ImportedToken, NewPrice},
};
use tariff::{Amount, Fees, Pattern, Price, PriceId, Rates, Tier};

use super::super::progress::Progress;
use crate::fatal::{Code, Fatal};

/// USD per 1,000 tokens is this power of ten below USD per 1,000,000.
const PER_THOUSAND: u32 = 3;

pub(super) async fn import(
    admin: &mut Admin,
    config: &Config,
    from: Option<&str>,
    account: &str,
) -> Result<(), Fatal> {
    let source = match from {
        Some(url) => Config::from_url(url)
            .map_err(|error| Fatal::because(Code::Usage, "--from cannot be used", &error))?,
        None => config.clone(),
    };
    let tables = AgentTables::connect(&source).await?;
    let prices = prices(&tables.prices().await?)?;
    let imported = admin.import_prices(&prices).await?;
    println!("prices: {} new, {} known", imported.set, imported.unchanged);
    let users = users(admin, &tables, account).await?;
    usage(admin, &tables, &users).await
}

/// Takes over every user; returns whose access token is which.
async fn users(
    admin: &Admin,
    tables: &AgentTables,
    account: &str,
) -> Result<HashMap<i64, TokenId>, Fatal> {
    admin.ensure_account(account).await?;
    let (mut tokens, mut new, mut skipped) = (HashMap::new(), 0_usize, 0_usize);
    let filled = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    for user in tables.users().await? {
        let Some(secret) = filled(user.local_token) else {
            skipped += 1;
            continue;
        };
        let token = ImportedToken {
            account: account.to_owned(),
            label: filled(user.name),
            upstream_key: filled(user.gpt_token).map(|key| key.trim().to_owned()),
            ..ImportedToken::default()
        };
        let (id, is_new) = admin.import_token(secret.trim(), &token).await?;
        new += usize::from(is_new);
        tokens.insert(user.id, id);
    }
    println!(
        "users: {new} new, {} known, {skipped} without a token",
        tokens.len().saturating_sub(new)
    );
    Ok(tokens)
}

async fn usage(
    admin: &Admin,
    tables: &AgentTables,
    users: &HashMap<i64, TokenId>,
) -> Result<(), Fatal> {
    // Where the table does not say whose, it can only be the only user's.
    let only = match users.len() {
        1 => users.values().next().copied(),
        _ => None,
    };
    let (mut new, mut known, mut skipped, mut after) = (0_usize, 0_usize, 0_usize, i64::MIN);
    let bar = Progress::counting("rows of usage");
    loop {
        let page = tables.usage(after).await?;
        let Some(last) = page.last() else { break };
        after = last.usage.source_id;
        let all = page.len();
        let owned: Vec<_> = page
            .into_iter()
            .filter_map(|row| {
                let owner = match row.user {
                    Some(user) => users.get(&user).copied(),
                    None => only,
                };
                Some((owner?, row.usage))
            })
            .collect();
        let added = admin.import_usage(&owned).await?;
        new += added;
        known += owned.len().saturating_sub(added);
        skipped += all.saturating_sub(owned.len());
        bar.at(new + known + skipped);
    }
    drop(bar);
    println!("usage: {new} new, {known} known, {skipped} of nobody");
    Ok(())
}

/// Prices by model. Of a model with one price the other side was not reckoned: it is free.
fn prices(rows: &[AgentPrice]) -> Result<Vec<NewPrice>, Fatal> {
    let mut models: BTreeMap<&str, [Option<Amount>; 2]> = BTreeMap::new();
    for AgentPrice { key, value } in rows {
        let (model, side) = match (key.strip_suffix("_input"), key.strip_suffix("_output")) {
            (Some(model), _) => (model, 0),
            (None, Some(model)) => (model, 1),
            (None, None) => continue,
        };
        let Some(value) = value else { continue };
        let amount = Amount::parse_scaled(value.trim(), PER_THOUSAND).map_err(|error| {
            Fatal::because(
                Code::Data,
                &format!("sys_config {key}={value:?} is no price"),
                &error,
            )
        })?;
        models.entry(model).or_default()[side] = Some(amount);
    }
    Ok(models
        .into_iter()
        .map(|(model, [input, output])| price(model, input, output))
        .collect())
}

fn price(model: &str, input: Option<Amount>, output: Option<Amount>) -> NewPrice {
    let nano = |amount: Option<Amount>| Some(amount.map_or(0, Amount::nano));
    NewPrice {
        price: Price {
            id: PriceId(0),
            pattern: Pattern::new(model),
            tier: Tier::new("default"),
            min_context: 0,
            context_inclusive: false,
            valid_from_ms: 0,
            valid_to_ms: None,
            rates: Rates {
                in_text: nano(input),
                out_text: nano(output),
                ..Rates::default()
            },
            fees: Fees::default(),
            context_window: None,
            output_max: None,
        },
        disconnect: None,
        source: Some("chatgpt-agent".to_owned()),
    }
}
