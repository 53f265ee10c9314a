//! The price list that comes with the program, and how a price list becomes price rows.

use ledger::admin::{Admin, Imported, NewPrice};
use tariff::Price;

use crate::{
    fatal::{Code, Fatal},
    price_list::{self, Options, PriceList},
};

/// The list itself.
pub(crate) const TEXT: &str = include_str!("../../../config/model_prices.json");
/// Its name where the source of a price is told.
pub(crate) const NAME: &str = "model_prices.json";

/// Imports the whole list, as the first start of the embedded default does.
///
/// # Errors
/// When Postgres refuses.
pub(crate) async fn import(admin: &mut Admin) -> Result<Imported, Fatal> {
    let list = read(TEXT, NAME, &Options::default())?;
    Ok(admin.import_prices(&rows(list.prices, NAME)).await?)
}

/// Reads a list called `name`.
///
/// # Errors
/// Exit code 65 when it is none.
pub(crate) fn read(text: &str, name: &str, options: &Options) -> Result<PriceList, Fatal> {
    price_list::read(text, options)
        .map_err(|error| Fatal::because(Code::Data, &format!("{name} cannot be imported"), &error))
}

/// What to set for the rows of a list.
pub(crate) fn rows(prices: Vec<Price>, source: &str) -> Vec<NewPrice> {
    prices
        .into_iter()
        .map(|price| NewPrice {
            price,
            disconnect: None,
            source: Some(source.to_owned()),
        })
        .collect()
}
