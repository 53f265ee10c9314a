//! Commands about prices.

use std::collections::{BTreeMap, HashSet};

use tariff::{Fees, Pattern, Price, PriceId, Rates};
use tokio_postgres::types::{ToSql, Type};

use crate::{Disconnect, LedgerError, catalog::load};

use super::Admin;

/// A price to set: a price row without its id (the `id` and `valid_to_ms` given are not read).
#[derive(Clone, Debug)]
pub struct NewPrice {
    /// The figures. `valid_from_ms` 0 means now.
    pub price: Price,
    /// What a client's leaving means; `None` leaves it to the gateway's settings.
    pub disconnect: Option<Disconnect>,
    /// Where the figures come from.
    pub source: Option<String>,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// New versions.
    pub set: usize,
    /// Rows that stand like this already.
    pub unchanged: usize,
}

impl Admin {
    /// The price rows in force now or later, and those that ended within the last day.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn prices(&self) -> Result<Vec<Price>, LedgerError> {
        let rows = self.session.query(load::PRICES, &[]).await?;
        rows.iter().map(load::price).collect()
    }

    /// Sets one price version; returns its row, or the row that stands like this already.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when the figures make no sense.
    pub async fn set_price(&self, price: &NewPrice) -> Result<PriceId, LedgerError> {
        let columns = Columns::new(std::slice::from_ref(price));
        Ok(PriceId(self.row(SET, &columns.params()).await?.try_get(0)?))
    }

    /// Sets many price versions in one transaction: all or none. Importing the same list again changes nothing.
    ///
    /// # Errors
    /// As [`Admin::set_price`]; [`LedgerError::is_config`] when the list prices something twice.
    pub async fn import_prices(&mut self, prices: &[NewPrice]) -> Result<Imported, LedgerError> {
        let mut seen = HashSet::new();
        for NewPrice { price, .. } in prices {
            if !seen.insert((
                &price.pattern,
                price.tier.as_str(),
                price.min_context,
                price.valid_from_ms,
            )) {
                return Err(LedgerError::config(format!(
                    "the list prices {} (tier {}, from {} tokens) twice",
                    pattern(&price.pattern),
                    price.tier.as_str(),
                    price.min_context,
                )));
            }
        }
        let columns = Columns::new(prices);
        let transaction = self.session.client.transaction().await?;
        transaction.batch_execute(LOCK).await?;
        let newest_before: i64 = transaction.query_typed_one(NEWEST, &[]).await?.try_get(0)?;
        let rows = transaction.query_typed(SET, &columns.params()).await?;
        let mut set = 0_usize;
        for row in &rows {
            set = set.saturating_add(usize::from(row.try_get::<_, i64>(0)? > newest_before));
        }
        transaction.commit().await?;
        Ok(Imported {
            set,
            unchanged: rows.len().saturating_sub(set),
        })
    }
}

#[derive(Default)]
struct Columns<'a> {
    patterns: Vec<String>,
    tiers: Vec<&'a str>,
    min_contexts: Vec<i64>,
    inclusive: Vec<bool>,
    /// `None` for now.
    valid_from_ms: Vec<Option<i64>>,
    context_windows: Vec<Option<i64>>,
    output_maxes: Vec<Option<i64>>,
    disconnects: Vec<Option<&'static str>>,
    sources: Vec<Option<&'a str>>,
    /// In the order of [`in_order`].
    rates: [Vec<Option<i64>>; 12],
    /// In the order of [`fees_in_order`].
    fees: [Vec<Option<i64>>; 8],
    /// In the order of [`tables_in_order`]; JSON.
    tables: [Vec<Option<String>>; 5],
}

impl<'a> Columns<'a> {
    fn new(prices: &'a [NewPrice]) -> Self {
        let mut columns = Self::default();
        for NewPrice {
            price,
            disconnect,
            source,
        } in prices
        {
            columns.patterns.push(pattern(&price.pattern));
            columns.tiers.push(price.tier.as_str());
            columns.min_contexts.push(tokens(price.min_context));
            columns.inclusive.push(price.context_inclusive);
            columns
                .valid_from_ms
                .push((price.valid_from_ms != 0).then_some(price.valid_from_ms));
            columns
                .context_windows
                .push(price.context_window.map(tokens));
            columns.output_maxes.push(price.output_max.map(tokens));
            columns
                .disconnects
                .push(disconnect.map(|policy| match policy {
                    Disconnect::Drain => "drain",
                    Disconnect::Estimate => "estimate",
                    Disconnect::Void => "void",
                }));
            columns.sources.push(source.as_deref());
            for (column, rate) in columns.rates.iter_mut().zip(in_order(&price.rates)) {
                column.push(rate);
            }
            for (column, fee) in columns.fees.iter_mut().zip(fees_in_order(&price.fees)) {
                column.push(fee);
            }
            for (column, table) in columns.tables.iter_mut().zip(tables_in_order(&price.fees)) {
                column.push(table);
            }
        }
        columns
    }

    fn params(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let mut params: Vec<(&(dyn ToSql + Sync), Type)> = vec![
            (&self.patterns, Type::TEXT_ARRAY),
            (&self.tiers, Type::TEXT_ARRAY),
            (&self.min_contexts, Type::INT8_ARRAY),
            (&self.inclusive, Type::BOOL_ARRAY),
            (&self.valid_from_ms, Type::INT8_ARRAY),
            (&self.context_windows, Type::INT8_ARRAY),
            (&self.output_maxes, Type::INT8_ARRAY),
            (&self.disconnects, Type::TEXT_ARRAY),
            (&self.sources, Type::TEXT_ARRAY),
        ];
        for column in self.rates.iter().chain(&self.fees) {
            params.push((column, Type::INT8_ARRAY));
        }
        for column in &self.tables {
            params.push((column, Type::TEXT_ARRAY));
        }
        params
    }
}

fn pattern(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(name) => name.to_string(),
        Pattern::Prefix(prefix) => format!("{prefix}*"),
    }
}

fn tokens(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

const fn in_order(rates: &Rates) -> [Option<i64>; 12] {
    [
        rates.in_text,
        rates.in_audio,
        rates.in_image,
        rates.cr_text,
        rates.cr_audio,
        rates.cr_image,
        rates.cw_5m,
        rates.cw_1h,
        rates.out_text,
        rates.out_reasoning,
        rates.out_audio,
        rates.out_image,
    ]
}

const fn fees_in_order(fees: &Fees) -> [Option<i64>; 8] {
    [
        fees.audio_in_minute,
        fees.audio_out_minute,
        fees.video_minute,
        fees.characters,
        fees.page,
        fees.query,
        fees.request,
        fees.training,
    ]
}

fn tables_in_order(fees: &Fees) -> [Option<String>; 5] {
    let tools = fees.tools.iter();
    let tools: Vec<(Box<str>, i64)> = tools
        .filter_map(|(tool, fee)| Some((tool.name().into(), fee?)))
        .collect();
    [
        &fees.images,
        &tools,
        &fees.regions_bps,
        &fees.speeds_bps,
        &fees.videos,
    ]
    .map(|table| {
        let members: BTreeMap<&str, i64> =
            table.iter().map(|(name, fee)| (&**name, *fee)).collect();
        (!members.is_empty()).then(|| serde_json::json!(members).to_string())
    })
}

// Rows of one import begin at one instant: none of them is an operator's later word on another.
// The lock of turnpike.set_price().
const LOCK: &str = "select pg_advisory_xact_lock(hashtextextended('turnpike.price', 0))";

const NEWEST: &str = "select coalesce(max(id), 0) from turnpike.price";

const SET: &str = "
    select turnpike.set_price(
             p.pattern, input => turnpike.usd(p.in_text), cached_input => turnpike.usd(p.cr_text), output => turnpike.usd(p.out_text),
             cache_write => turnpike.usd(p.cw_5m), cache_write_1h => turnpike.usd(p.cw_1h), reasoning => turnpike.usd(p.out_reasoning),
             input_audio => turnpike.usd(p.in_audio), input_image => turnpike.usd(p.in_image),
             cached_input_audio => turnpike.usd(p.cr_audio), cached_input_image => turnpike.usd(p.cr_image),
             output_audio => turnpike.usd(p.out_audio), output_image => turnpike.usd(p.out_image),
             input_audio_minute => turnpike.usd(p.audio_in_minute), output_audio_minute => turnpike.usd(p.audio_out_minute),
             video_minute => turnpike.usd(p.video_minute), characters => turnpike.usd(p.characters), page => turnpike.usd(p.page),
             query => turnpike.usd(p.query), request => turnpike.usd(p.request), training => turnpike.usd(p.training),
             videos => (select jsonb_object_agg(fee.key, turnpike.usd(fee.value::bigint)) from jsonb_each_text(p.videos::jsonb) as fee),
             images => (select jsonb_object_agg(fee.key, turnpike.usd(fee.value::bigint)) from jsonb_each_text(p.images::jsonb) as fee),
             tools => (select jsonb_object_agg(fee.key, turnpike.usd(fee.value::bigint)) from jsonb_each_text(p.tools::jsonb) as fee),
             regions => (select jsonb_object_agg(fee.key, fee.value::bigint * 0.0001) from jsonb_each_text(p.regions_bps::jsonb) as fee),
             speeds => (select jsonb_object_agg(fee.key, fee.value::bigint * 0.0001) from jsonb_each_text(p.speeds_bps::jsonb) as fee),
             tier => p.tier, min_context => p.min_context, context_inclusive => p.inclusive,
             context_window => p.context_window, output_max => p.output_max, disconnect => p.disconnect,
             valid_from => coalesce(to_timestamp(p.valid_from_ms * 0.001), statement_timestamp()), source => p.source)
      from unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::text[],
                  $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[],
                  $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[],
                  $26::bigint[], $27::bigint[], $28::bigint[], $29::bigint[], $30::text[], $31::text[], $32::text[], $33::text[], $34::text[])
           with ordinality as p (pattern, tier, min_context, inclusive, valid_from_ms, context_window, output_max, disconnect, source,
                 in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h, out_text, out_reasoning, out_audio, out_image,
                 audio_in_minute, audio_out_minute, video_minute, characters, page, query, request, training, images, tools, regions_bps, speeds_bps, videos, place)
     order by p.place";
