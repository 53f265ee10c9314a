//! `turnpike price …`

use std::path::Path;

use ledger::admin::{Admin, Imported, NewPrice};
use tariff::{Amount, Price};

use super::{now_ms, progress, table::Table};
use crate::{
    cli::{self, Import, SetPrice},
    fatal::{Fatal, io_code},
    price_list::Options,
    shipped,
};

pub(super) async fn run(command: cli::Price, admin: &mut Admin) -> Result<(), Fatal> {
    match command {
        cli::Price::Import(import) => self::import(import, admin).await,
        cli::Price::Set(set) => self::set(set, admin).await,
        cli::Price::List { prefix } => {
            self::list(prefix.as_deref().unwrap_or_default(), admin).await
        }
    }
}

async fn import(import: Import, admin: &mut Admin) -> Result<(), Fatal> {
    let options = Options {
        providers: import.provider,
        strip_prefixes: import.strip_prefix,
        allow_absurd: import.allow_absurd,
    };
    let (text, name) = match &import.file {
        Some(path) => (
            read_file(path)?,
            path.file_name().map_or_else(
                || shipped::NAME.to_owned(),
                |name| name.to_string_lossy().into_owned(),
            ),
        ),
        None => (shipped::TEXT.to_owned(), shipped::NAME.to_owned()),
    };
    let list = shipped::read(&text, &name, &options)?;
    eprint!("{}", list.report);
    if import.dry_run {
        println!("{} price rows would be set", list.prices.len());
        return Ok(());
    }
    let rows = shipped::rows(list.prices, &name);
    let importing = admin.import_prices(&rows);
    let Imported { set, unchanged } = progress::waiting("importing prices", importing).await?;
    println!("{set} price rows set, {unchanged} unchanged");
    Ok(())
}

fn read_file(path: &Path) -> Result<String, Fatal> {
    std::fs::read_to_string(path).map_err(|error| {
        Fatal::because(
            io_code(&error),
            &format!("{} cannot be read", path.display()),
            &error,
        )
    })
}

async fn set(set: Box<SetPrice>, admin: &mut Admin) -> Result<(), Fatal> {
    let (price, disconnect) = set.price();
    let input = price.rates.in_text;
    let source = set.source.clone();
    admin
        .set_price(&NewPrice {
            price,
            disconnect,
            source,
        })
        .await?;
    match input.map(Amount::from_nano) {
        Some(input) => println!(
            "{} costs {input} USD per 1,000,000 input tokens from now on",
            set.model
        ),
        None => println!("the price of {} is set", set.model),
    }
    Ok(())
}

async fn list(prefix: &str, admin: &mut Admin) -> Result<(), Fatal> {
    let now_ms = now_ms();
    let in_force = admin.prices().await?;
    let mut table = Table::new(
        &[
            "model",
            "tier",
            "above",
            "input",
            "cached",
            "cache write",
            "output",
            "window",
            "output max",
        ],
        &[2, 3, 4, 5, 6, 7, 8],
    );
    let mut prices: Vec<(String, &Price)> = in_force
        .iter()
        .filter(|price| {
            price.valid_from_ms <= now_ms && price.valid_to_ms.is_none_or(|end| now_ms < end)
        })
        .map(|price| (price.pattern.to_string(), price))
        .filter(|(model, _)| model.starts_with(prefix))
        .collect();
    prices.sort_by(|(a, x), (b, y)| {
        (a, x.tier.as_str(), x.min_context).cmp(&(b, y.tier.as_str(), y.min_context))
    });
    for (model, price) in prices {
        let rate = |nano: Option<i64>| {
            nano.map_or_else(
                || "-".to_owned(),
                |nano| tariff::Amount::from_nano(nano).to_string(),
            )
        };
        let count = |tokens: Option<u64>| {
            tokens.map_or_else(|| "-".to_owned(), |tokens| tokens.to_string())
        };
        table.row([
            model,
            price.tier.as_str().to_owned(),
            price.min_context.to_string(),
            rate(price.rates.in_text),
            rate(price.rates.cr_text),
            rate(price.rates.cw_5m),
            rate(price.rates.out_text),
            count(price.context_window),
            count(price.output_max),
        ]);
    }
    println!("USD per 1,000,000 tokens");
    print!("{table}");
    Ok(())
}
