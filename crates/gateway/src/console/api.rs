//! The console's figures as JSON. Money is a text of nano-USD.

use ledger::{
    LedgerError,
    report::{
        AccountMeans, DoubtfulCharge, DoubtfulSum, EndingToken, Held, OpenHold, ProcessRow,
        SpendBy, SpendRow, Sums, TopToken,
    },
};
use serde::Serialize;
use tariff::Price;
use tokio::sync::Semaphore;

use super::{json::text, now_s, range::Range};
use crate::gateway::Gateway;

/// Models, tokens or accounts that a plot tells apart; the others are one.
const SERIES_MAX: i64 = 7;
/// Rows of a table.
const ROWS_MAX: i64 = 50;
/// Tokens told as about to end, by the days they have left.
const ENDING_DAYS: i32 = 30;
/// Prices in one answer.
const PRICES_MAX: usize = 100;

/// Why there is no answer.
pub(super) enum Failure {
    NotFound,
    /// What is wrong with the query.
    Invalid(String),
    Away,
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        tracing::warn!(%error, "console.failed");
        Self::Away
    }
}

/// Answers one question.
pub(super) async fn answer(
    gateway: &Gateway,
    statements: &Semaphore,
    path: &str,
    query: &str,
    has_login: bool,
) -> Result<String, Failure> {
    let query = Query::parse(query);
    let _place = statements.acquire().await.map_err(|_| Failure::Away)?;
    let ledger = &gateway.ledger;
    Ok(match path {
        "/api/spend" => text(&spend(gateway, &query).await?),
        "/api/tokens" => {
            let span = query.range()?.span(now());
            text(&Tokens {
                top: ledger.top_tokens(span, ROWS_MAX).await?,
                ending: ledger.ending_tokens(ENDING_DAYS, ROWS_MAX).await?,
            })
        }
        "/api/doubtful" => {
            let since_s = query.range()?.span(now()).since_s;
            text(&Doubtful {
                sums: ledger.doubtful_sums(since_s).await?,
                charges: ledger.doubtful_charges(since_s, ROWS_MAX).await?,
            })
        }
        "/api/accounts" => text(&Accounts {
            accounts: ledger.account_means(ROWS_MAX).await?,
        }),
        "/api/live" => text(&Live {
            held: ledger.held().await?,
            holds: ledger.open_holds(ROWS_MAX).await?,
            processes: ledger.processes(ROWS_MAX).await?,
        }),
        "/api/here" => text(&here(gateway, has_login)),
        "/api/prices" => text(&prices(gateway, query.one("q").unwrap_or_default())),
        _ => return Err(Failure::NotFound),
    })
}

fn now() -> i64 {
    i64::try_from(now_s()).unwrap_or(i64::MAX)
}

struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self(pairs.into_owned().collect())
    }

    fn one(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn range(&self) -> Result<Range, Failure> {
        Range::named(self.one("range").unwrap_or("30d")).map_err(Failure::Invalid)
    }

    fn by(&self) -> Result<SpendBy, Failure> {
        match self.one("by").unwrap_or("model") {
            "model" => Ok(SpendBy::Model),
            "token" => Ok(SpendBy::Token),
            "account" => Ok(SpendBy::Account),
            _ => Err(Failure::Invalid(
                "'by' can be model, token, account".to_owned(),
            )),
        }
    }
}

#[derive(Serialize)]
struct Spend {
    since_s: i64,
    until_s: i64,
    step_s: i64,
    total: Sums,
    /// Of the span of the same length before.
    before: Sums,
    rows: Vec<SpendRow>,
}

async fn spend(gateway: &Gateway, query: &Query) -> Result<Spend, Failure> {
    let (range, by) = (query.range()?, query.by()?);
    let span = range.span(now());
    let ledger = &gateway.ledger;
    Ok(Spend {
        since_s: span.since_s,
        until_s: span.until_s,
        step_s: range.step_s(),
        total: ledger.spend_total(span).await?,
        before: ledger.spend_total(span.before()).await?,
        rows: ledger.spend(by, span, SERIES_MAX).await?,
    })
}

#[derive(Serialize)]
struct Tokens {
    top: Vec<TopToken>,
    ending: Vec<EndingToken>,
}

#[derive(Serialize)]
struct Doubtful {
    sums: Vec<DoubtfulSum>,
    charges: Vec<DoubtfulCharge>,
}

#[derive(Serialize)]
struct Accounts {
    accounts: Vec<AccountMeans>,
}

#[derive(Serialize)]
struct Live {
    held: Held,
    holds: Vec<OpenHold>,
    processes: Vec<ProcessRow>,
}

/// What this process knows by itself: told even while Postgres is away.
#[derive(Serialize)]
struct Here {
    version: &'static str,
    has_login: bool,
    is_ready: bool,
    is_connected: bool,
    is_listening: bool,
    exchanges_open: usize,
    settling: usize,
    settled: u64,
    settle_refused: u64,
    interrupted: u64,
    homeless: usize,
    journal_records: u64,
    journal_bytes: u64,
    catalog_age_s: u64,
    keys: Vec<Key>,
}

/// An upstream's key. The key itself is not told.
#[derive(Serialize)]
struct Key {
    upstream: String,
    key: Option<i64>,
    rests: bool,
}

fn here(gateway: &Gateway, has_login: bool) -> Here {
    let (stats, catalog) = (gateway.ledger.stats(), gateway.ledger.catalog());
    let keys = gateway
        .places
        .standing(&catalog)
        .into_iter()
        .map(|key| Key {
            upstream: key.upstream,
            key: key.key.map(|id| id.0),
            rests: key.rests,
        });
    Here {
        version: env!("CARGO_PKG_VERSION"),
        has_login,
        is_ready: gateway.ledger.is_ready(),
        is_connected: stats.connected,
        is_listening: stats.listening,
        exchanges_open: stats.exchanges_open,
        settling: stats.settling,
        settled: stats.settled,
        settle_refused: stats.settle_refused,
        interrupted: stats.interrupted,
        homeless: stats.homeless,
        journal_records: stats.journal_records,
        journal_bytes: stats.journal_bytes,
        catalog_age_s: catalog.age().as_secs(),
        keys: keys.collect(),
    }
}

#[derive(Serialize)]
struct Prices {
    /// How many match.
    count: usize,
    prices: Vec<PriceRow>,
}

/// A price version in force, per 1,000,000 tokens.
#[derive(Serialize)]
struct PriceRow {
    model: String,
    tier: String,
    min_context: u64,
    input: Option<String>,
    cached_input: Option<String>,
    output: Option<String>,
    /// Whether something that is no token has a price.
    has_fees: bool,
    context_window: Option<u64>,
    output_max: Option<u64>,
}

fn prices(gateway: &Gateway, like: &str) -> Prices {
    let catalog = gateway.ledger.catalog();
    let now_ms = now().saturating_mul(1000);
    let like = like.trim().to_lowercase();
    let mut found: Vec<PriceRow> = catalog
        .prices()
        .iter()
        .filter(|price| {
            price.valid_from_ms <= now_ms && price.valid_to_ms.is_none_or(|end| now_ms < end)
        })
        .map(PriceRow::of)
        .filter(|price| price.model.to_lowercase().contains(&like))
        .collect();
    found.sort_by(|a, b| {
        (&a.model, &a.tier, a.min_context).cmp(&(&b.model, &b.tier, b.min_context))
    });
    let count = found.len();
    found.truncate(PRICES_MAX);
    Prices {
        count,
        prices: found,
    }
}

impl PriceRow {
    fn of(price: &Price) -> Self {
        let nano = |rate: Option<i64>| rate.map(|rate| rate.to_string());
        Self {
            model: price.pattern.to_string(),
            tier: price.tier.as_str().to_owned(),
            min_context: price.min_context,
            input: nano(price.rates.in_text),
            cached_input: nano(price.rates.cr_text),
            output: nano(price.rates.out_text),
            has_fees: !price.fees.is_none(),
            context_window: price.context_window,
            output_max: price.output_max,
        }
    }
}
