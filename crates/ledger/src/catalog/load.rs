//! Reads the catalog from Postgres, all of it as of one instant.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use tariff::{Book, Fees, Pattern, PerTool, Price, PriceId, Rates, Tier, Tool};
use tokio::time::timeout;
use tokio_postgres::{Client, Row};

use crate::{
    Catalog, CostBy, Dialect, Disconnect, LedgerError, Route, SecretSource, Upstream, UpstreamId,
    UpstreamKey, UpstreamKeyId,
};

/// Reads everything in one transaction. After an error the connection may still be in it: it must not be used again.
pub(crate) async fn load(
    client: &Client,
    patience: Duration,
    generation: u64,
) -> Result<Catalog, LedgerError> {
    let loaded_at = Instant::now();
    let read = async {
        client
            .batch_execute("begin isolation level repeatable read read only")
            .await?;
        let prices = client.query_typed(PRICES, &[]).await?;
        let upstreams = client.query_typed(UPSTREAMS, &[]).await?;
        let keys = client.query_typed(KEYS, &[]).await?;
        let routes = client.query_typed(ROUTES, &[]).await?;
        client.batch_execute("commit").await?;
        Ok::<_, LedgerError>((prices, upstreams, keys, routes))
    };
    let (prices, upstreams, keys, routes) = timeout(patience, read)
        .await
        .unwrap_or_else(|_| Err(LedgerError::unavailable("Postgres did not answer in time")))?;

    let mut policies = HashMap::new();
    for row in &prices {
        if let Some(policy) = disconnect(row)? {
            policies.insert(PriceId(row.try_get(0)?), policy);
        }
    }
    let prices = prices.iter().map(price).collect::<Result<Vec<_>, _>>()?;
    let all: Vec<_> = with_keys(&upstreams, &keys)?
        .into_iter()
        .map(Arc::new)
        .collect();
    let mut ways = Vec::new();
    for row in &routes {
        let target = UpstreamId(row.try_get(0)?);
        if let Some(upstream) = all.iter().find(|upstream| upstream.id == target) {
            ways.push(route(row, Arc::clone(upstream))?);
        }
    }
    ways.sort_by(|a, b| {
        specificity(&b.pattern)
            .cmp(&specificity(&a.pattern))
            .then(a.priority.cmp(&b.priority))
    });
    Ok(Catalog {
        generation,
        loaded_at,
        book: Book::new(prices.clone()),
        prices,
        disconnect: policies,
        upstreams: all,
        routes: ways,
    })
}

/// An exact name before any beginning, a long beginning before a short one; patterns of one length by their text, so
/// that the routes of one pattern stand together.
fn specificity(pattern: &Pattern) -> (bool, usize, &str) {
    match pattern {
        Pattern::Exact(name) => (true, name.len(), name),
        Pattern::Prefix(prefix) => (false, prefix.len(), prefix),
    }
}

// Prices that ended a day ago may still be those of exchanges under way.
pub(crate) const PRICES: &str = "
    select id, pattern, tier, min_context, context_inclusive,
           floor(extract(epoch from valid_from) * 1000)::bigint, floor(extract(epoch from valid_to) * 1000)::bigint,
           in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h,
           out_text, out_reasoning, out_audio, out_image, context_window, output_max, disconnect,
           audio_in_minute, audio_out_minute, video_minute, characters, page, query, request,
           images::text, tools::text, regions_bps::text, speeds_bps::text, videos::text, training
      from turnpike.price
     where (valid_to is null or valid_to > now() - interval '8 days') and valid_from < coalesce(valid_to, 'infinity')
     order by pattern, tier, min_context, valid_from";

pub(crate) fn price(row: &Row) -> Result<Price, LedgerError> {
    let tokens = |index| {
        Ok::<_, LedgerError>(
            row.try_get::<_, Option<i64>>(index)?
                .and_then(|it| u64::try_from(it).ok()),
        )
    };
    let rate = |index| Ok::<Option<i64>, LedgerError>(row.try_get(index)?);
    Ok(Price {
        id: PriceId(row.try_get(0)?),
        pattern: Pattern::new(row.try_get(1)?),
        tier: Tier::new(row.try_get(2)?),
        min_context: tokens(3)?.unwrap_or_default(),
        context_inclusive: row.try_get(4)?,
        valid_from_ms: row.try_get(5)?,
        valid_to_ms: row.try_get(6)?,
        rates: Rates {
            in_text: rate(7)?,
            in_audio: rate(8)?,
            in_image: rate(9)?,
            cr_text: rate(10)?,
            cr_audio: rate(11)?,
            cr_image: rate(12)?,
            cw_5m: rate(13)?,
            cw_1h: rate(14)?,
            out_text: rate(15)?,
            out_reasoning: rate(16)?,
            out_audio: rate(17)?,
            out_image: rate(18)?,
        },
        fees: fees(row)?,
        context_window: tokens(19)?,
        output_max: tokens(20)?,
    })
}

fn fees(row: &Row) -> Result<Fees, LedgerError> {
    let fee = |index| Ok::<Option<i64>, LedgerError>(row.try_get(index)?);
    let mut tools = PerTool::default();
    for (name, fee) in table(row, 30)? {
        // A tool of a newer schema cannot be counted here either.
        if let Some(tool) = Tool::named(&name) {
            tools.set(tool, Some(fee));
        }
    }
    Ok(Fees {
        audio_in_minute: fee(22)?,
        audio_out_minute: fee(23)?,
        video_minute: fee(24)?,
        characters: fee(25)?,
        page: fee(26)?,
        query: fee(27)?,
        request: fee(28)?,
        images: table(row, 29)?,
        tools,
        regions_bps: table(row, 31)?,
        speeds_bps: table(row, 32)?,
        videos: table(row, 33)?,
        training: fee(34)?,
    })
}

/// An object of numbers by name; a check constraint holds that it is one.
fn table(row: &Row, index: usize) -> Result<Vec<(Box<str>, i64)>, LedgerError> {
    let Some(text) = row.try_get::<_, Option<&str>>(index)? else {
        return Ok(Vec::new());
    };
    let table: BTreeMap<Box<str>, i64> = serde_json::from_str(text).map_err(|error| {
        LedgerError::config(format!(
            "a price row holds a table of fees that cannot be read: {error}"
        ))
    })?;
    Ok(table.into_iter().collect())
}

/// `None` leaves it to the gateway; so does a word of a newer schema.
fn disconnect(row: &Row) -> Result<Option<Disconnect>, LedgerError> {
    Ok(match row.try_get::<_, Option<&str>>(21)? {
        Some("drain") => Some(Disconnect::Drain),
        Some("estimate") => Some(Disconnect::Estimate),
        Some("void") => Some(Disconnect::Void),
        _ => None,
    })
}

/// Upstreams in the order in which they are asked, each with its keys, out of the rows of [`UPSTREAMS`] and [`KEYS`].
pub(crate) fn with_keys(upstreams: &[Row], keys: &[Row]) -> Result<Vec<Upstream>, LedgerError> {
    let mut keys_of: HashMap<UpstreamId, Vec<UpstreamKey>> = HashMap::new();
    for row in keys {
        keys_of
            .entry(UpstreamId(row.try_get(0)?))
            .or_default()
            .push(key(row)?);
    }
    upstreams
        .iter()
        .map(|row| upstream(row, &mut keys_of))
        .collect()
}

pub(crate) const UPSTREAMS: &str = "
    select id, name, base_url, proxy, priority, dialect, cost, cost_permille from turnpike.upstream
     where enabled and dialect in ('openai', 'azure', 'anthropic') order by priority, name";

fn upstream(
    row: &Row,
    keys: &mut HashMap<UpstreamId, Vec<UpstreamKey>>,
) -> Result<Upstream, LedgerError> {
    let id = UpstreamId(row.try_get(0)?);
    Ok(Upstream {
        id,
        name: row.try_get(1)?,
        base_url: row.try_get(2)?,
        dialect: match row.try_get(5)? {
            "azure" => Dialect::Azure,
            "anthropic" => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        },
        cost: match row.try_get(6)? {
            "provider" => CostBy::Provider {
                permille: u32::try_from(row.try_get::<_, i32>(7)?).unwrap_or_default(),
            },
            _ => CostBy::Price,
        },
        proxy: row.try_get(3)?,
        priority: row.try_get(4)?,
        keys: keys.remove(&id).unwrap_or_default(),
    })
}

pub(crate) const KEYS: &str =
    "select upstream_id, id, secret, weight from turnpike.upstream_key order by id";

fn key(row: &Row) -> Result<UpstreamKey, LedgerError> {
    Ok(UpstreamKey {
        id: UpstreamKeyId(row.try_get(1)?),
        secret: SecretSource::new(row.try_get(2)?),
        weight: u32::try_from(row.try_get::<_, i32>(3)?).unwrap_or(1),
    })
}

const ROUTES: &str =
    "select upstream_id, pattern, priority from turnpike.route order by priority, id";

fn route(row: &Row, upstream: Arc<Upstream>) -> Result<Route, LedgerError> {
    Ok(Route {
        upstream,
        pattern: Pattern::new(row.try_get(1)?),
        priority: row.try_get(2)?,
    })
}
