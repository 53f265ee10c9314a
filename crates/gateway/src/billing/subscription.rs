//! The dashboard's billing endpoints, which are not in OpenAI's API but asked by many client tools.

use std::collections::BTreeMap;

use ledger::{
    AccessToken,
    report::{DayRow, Means},
};
use serde::Serialize;
use tariff::Amount;

use super::exact::{Cents, Usd};

/// Told as the limit of a token that has none: tools expect a number.
const NO_LIMIT: Amount = Amount::from_nano(100_000_000 * 1_000_000_000);

#[derive(Serialize)]
struct Subscription {
    object: &'static str,
    has_payment_method: bool,
    canceled: bool,
    delinquent: bool,
    soft_limit_usd: Usd,
    hard_limit_usd: Usd,
    system_hard_limit_usd: Usd,
    access_until: i64,
}

/// How much the token may spend in its life, what it has spent included.
pub(super) fn subscription(means: &Means, token: &AccessToken) -> String {
    let most = most(means);
    json(&Subscription {
        object: "billing_subscription",
        has_payment_method: true,
        canceled: false,
        delinquent: false,
        soft_limit_usd: Usd(most),
        hard_limit_usd: Usd(most),
        system_hard_limit_usd: Usd(most),
        access_until: until_s(token),
    })
}

#[derive(Serialize)]
struct Grants {
    object: &'static str,
    total_granted: Usd,
    total_used: Usd,
    total_available: Usd,
}

/// The same as credit: granted, used, left.
pub(super) fn grants(means: &Means, _token: &AccessToken) -> String {
    let most = most(means);
    let left = most.nano().saturating_sub(means.spent.nano()).max(0);
    json(&Grants {
        object: "credit_summary",
        total_granted: Usd(most),
        total_used: Usd(means.spent),
        total_available: Usd(Amount::from_nano(left)),
    })
}

/// What was spent and what is left, of the token's budget or of its account, whichever is less.
fn most(means: &Means) -> Amount {
    let of_account = means.credit_limit.map(|limit| {
        let left = means.balance.nano().saturating_add(limit.nano()).max(0);
        means.spent.nano().saturating_add(left)
    });
    let of_budget = means.budget.map(Amount::nano);
    let least = of_account.into_iter().chain(of_budget).min();
    least.map_or(NO_LIMIT, Amount::from_nano)
}

/// When the token ends, seconds since the epoch; 0 if it does not.
fn until_s(token: &AccessToken) -> i64 {
    token.expires_at_ms.map_or(0, |ms| ms.div_euclid(1000))
}

#[derive(Serialize)]
struct Usage<'a> {
    object: &'static str,
    daily_costs: Vec<DailyCosts<'a>>,
    total_usage: Cents,
}

#[derive(Serialize)]
struct DailyCosts<'a> {
    timestamp: i64,
    line_items: Vec<LineItem<'a>>,
}

#[derive(Serialize)]
struct LineItem<'a> {
    name: &'a str,
    cost: Cents,
}

/// What was spent, in cents, by day and model.
pub(super) fn usage(rows: &[DayRow]) -> String {
    let mut days: BTreeMap<i64, Vec<LineItem<'_>>> = BTreeMap::new();
    for row in rows {
        days.entry(row.day_s).or_default().push(LineItem {
            name: &row.model,
            cost: Cents(row.amount),
        });
    }
    let daily_costs = days.into_iter().map(|(timestamp, line_items)| DailyCosts {
        timestamp,
        line_items,
    });
    json(&Usage {
        object: "list",
        daily_costs: daily_costs.collect(),
        total_usage: Cents(rows.iter().map(|row| row.amount).sum()),
    })
}

/// Serializes what cannot fail to serialize: texts and numbers in structs.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of texts and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(spent: i64, budget: Option<i64>, balance: i64, limit: Option<i64>) -> Means {
        Means {
            spent: Amount::from_nano(spent),
            budget: budget.map(Amount::from_nano),
            balance: Amount::from_nano(balance),
            credit_limit: limit.map(Amount::from_nano),
        }
    }

    #[test]
    fn the_limit_is_the_lesser_of_budget_and_account() {
        for (means, expected) in [
            (means(3, Some(10), 100, Some(0)), 10),
            (means(3, Some(10), 2, Some(0)), 5),
            (means(3, None, 2, Some(4)), 9),
            (means(3, None, -20, Some(0)), 3),
            (means(3, Some(10), -20, None), 10),
            (means(3, None, 0, None), NO_LIMIT.nano()),
        ] {
            assert_eq!(most(&means).nano(), expected, "{means:?}");
        }
    }
}
