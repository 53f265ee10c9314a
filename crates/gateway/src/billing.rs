//! What client tools ask OpenAI's dashboard about money, answered for the access token that asks: its budget and usage, and its
//! account's usage and costs. All figures are those of the daily sums (UTC), money exact to the nano-dollar.

mod exact;
mod holder;
mod organization;
mod query;
mod subscription;

use ledger::{
    AccessToken, Ledger, LedgerError,
    report::{DayRow, Of},
};

use self::query::Query;
use crate::{endpoint::Billing, refusal::Refusal};

/// The answer's JSON.
///
/// # Errors
/// 400 for a query that cannot be answered, 503 while Postgres is away.
pub(crate) async fn answer(
    billing: Billing,
    ledger: &Ledger,
    token: &AccessToken,
    query: Option<&str>,
    now_s: i64,
) -> Result<String, Refusal> {
    let query = Query::parse(query.unwrap_or_default());
    match billing {
        Billing::Subscription | Billing::Grants => {
            let means = ledger.means_of(token.id).await.map_err(away)?;
            let means = means.ok_or(Refusal::BadToken)?;
            Ok(match billing {
                Billing::Subscription => subscription::subscription(&means, token),
                _ => subscription::grants(&means, token),
            })
        }
        Billing::Usage => {
            let (since_s, until_s) = query.dates(now_s)?;
            let days = days(ledger, Of::Token(token.id), since_s, until_s).await?;
            Ok(subscription::usage(&days))
        }
        Billing::Holder => {
            let range = holder::range(query.last("range"))?;
            let span = range.span(now_s);
            let holder = ledger.holder(token.id).await.map_err(away)?;
            let holder = holder.ok_or(Refusal::BadToken)?;
            let of = Of::Token(token.id);
            let days = days(ledger, of, span.since_s, span.until_s).await?;
            Ok(holder::standing(&holder, token, span, &days))
        }
        Billing::OrganizationUsage => {
            let page = query.page(organization::USAGE_GROUPS, now_s)?;
            let of = Of::Account(token.account);
            let days = days(ledger, of, page.since_s, page.until_s).await?;
            Ok(organization::usage(&page, &days))
        }
        Billing::OrganizationCosts => {
            let page = query.page(organization::COST_GROUPS, now_s)?;
            let of = Of::Account(token.account);
            let days = days(ledger, of, page.since_s, page.until_s).await?;
            Ok(organization::costs(&page, &days))
        }
    }
}

async fn days(ledger: &Ledger, of: Of, since_s: i64, until_s: i64) -> Result<Vec<DayRow>, Refusal> {
    ledger.used_by_day(of, since_s, until_s).await.map_err(away)
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn away(error: LedgerError) -> Refusal {
    tracing::warn!(%error, "billing.failed");
    Refusal::Unavailable {
        reason: "its database does not answer",
    }
}
