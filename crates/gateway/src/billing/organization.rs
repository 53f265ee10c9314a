//! The shape of OpenAI's organization endpoints, for one account.

use std::collections::BTreeMap;

use ledger::report::DayRow;
use serde::Serialize;
use tariff::Amount;

use super::{
    exact::Usd,
    query::{DAY_S, Page},
    subscription::json,
};

/// What usage is told apart by.
pub(super) const USAGE_GROUPS: &[&str] = &["model", "api_key_id"];
/// What costs are told apart by: a line item is a model here.
pub(super) const COST_GROUPS: &[&str] = &["line_item", "api_key_id"];

#[derive(Serialize)]
struct Paged<R> {
    object: &'static str,
    data: Vec<Bucket<R>>,
    has_more: bool,
    next_page: Option<String>,
}

#[derive(Serialize)]
struct Bucket<R> {
    object: &'static str,
    start_time: i64,
    end_time: i64,
    results: Vec<R>,
}

#[derive(Serialize)]
struct UsageResult {
    object: &'static str,
    input_tokens: i64,
    output_tokens: i64,
    input_cached_tokens: i64,
    num_model_requests: i64,
    project_id: Option<String>,
    user_id: Option<String>,
    api_key_id: Option<String>,
    model: Option<String>,
    batch: Option<bool>,
}

#[derive(Serialize)]
struct CostResult {
    object: &'static str,
    amount: Money,
    line_item: Option<String>,
    project_id: Option<String>,
    api_key_id: Option<String>,
}

#[derive(Serialize)]
struct Money {
    value: Usd,
    currency: &'static str,
}

/// Sums of one group on one day.
#[derive(Default)]
struct Sums {
    exchanges: i64,
    input: i64,
    cached: i64,
    output: i64,
    amount: i64,
}

/// Model and access token, where they are told apart.
type Group = (Option<String>, Option<String>);

/// Usage by day.
pub(super) fn usage(page: &Page, rows: &[DayRow]) -> String {
    paged(page, rows, "model", |(model, api_key_id), sums| {
        UsageResult {
            object: "organization.usage.completions.result",
            input_tokens: sums.input,
            output_tokens: sums.output,
            input_cached_tokens: sums.cached,
            num_model_requests: sums.exchanges,
            project_id: None,
            user_id: None,
            api_key_id,
            model,
            batch: None,
        }
    })
}

/// Costs by day.
pub(super) fn costs(page: &Page, rows: &[DayRow]) -> String {
    paged(page, rows, "line_item", |(line_item, api_key_id), sums| {
        CostResult {
            object: "organization.costs.result",
            amount: Money {
                value: Usd(Amount::from_nano(sums.amount)),
                currency: "usd",
            },
            line_item,
            project_id: None,
            api_key_id,
        }
    })
}

fn paged<R: Serialize>(
    page: &Page,
    rows: &[DayRow],
    model_group: &str,
    result: impl Fn(Group, Sums) -> R,
) -> String {
    let (by_model, by_token) = (page.is_by(model_group), page.is_by("api_key_id"));
    let mut days: BTreeMap<i64, BTreeMap<Group, Sums>> =
        page.days().map(|day| (day, BTreeMap::new())).collect();
    for row in rows {
        // Rows are those of the page's days.
        let Some(groups) = days.get_mut(&row.day_s) else {
            continue;
        };
        let group = (
            by_model.then(|| row.model.clone()),
            by_token.then(|| row.token.clone()),
        );
        let sums = groups.entry(group).or_default();
        let add = |sum: &mut i64, more: i64| *sum = sum.saturating_add(more);
        add(&mut sums.exchanges, row.exchanges);
        add(&mut sums.input, row.input_tokens);
        add(&mut sums.cached, row.cached_tokens);
        add(&mut sums.output, row.output_tokens);
        add(&mut sums.amount, row.amount.nano());
    }
    let buckets = days.into_iter().map(|(start_time, groups)| Bucket {
        object: "bucket",
        start_time,
        end_time: start_time.saturating_add(DAY_S),
        results: groups
            .into_iter()
            .map(|(group, sums)| result(group, sums))
            .collect(),
    });
    let has_more = page.until_s < page.end_s;
    json(&Paged {
        object: "page",
        data: buckets.collect(),
        has_more,
        next_page: has_more.then(|| format!("page_{}", page.until_s)),
    })
}
