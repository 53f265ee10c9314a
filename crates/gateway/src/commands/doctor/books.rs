//! What the doctor asks the database.

use ledger::{
    LedgerError,
    admin::{self, Admin, Connected},
    migrate,
};

use super::{Finding, prices, some, upstreams, webhooks};
use crate::{
    fatal::{Fatal, chain},
    settings::Settings,
    startup::Database,
};

/// Clocks that differ by more are a risk: prices come into force and tokens expire by both of them.
const CLOCK_AHEAD_MS_MAX: u64 = 5_000;
/// Where no one may read something, this is what to do.
const AS_WHOM: &str = "run the doctor as the database's owner as well, or as members of turnpike_admin (all but keys) and turnpike_gateway (keys)";

/// Everything the database can say. `None` when it cannot be reached.
pub(super) async fn look(
    database: &Database,
    settings: &Settings,
    asks: bool,
    findings: &mut Vec<Finding>,
) -> Option<Connected> {
    let config = &database.config;
    let connected = match admin::connected(config).await {
        Ok(connected) => connected,
        Err(error) => {
            findings.push(unreachable(Fatal::from(error).to_string()));
            return None;
        }
    };
    findings.extend(clock(connected.ahead_ms));
    match migrate::pending(config).await {
        Ok(pending) => {
            if let Some(files) = migrate::in_words(&pending) {
                let by_itself = settings.database.migrate || database.is_private();
                findings.push(migrations(&files, by_itself));
                return Some(connected);
            }
        }
        Err(error) => {
            findings.push(unusable(&error, &connected.user));
            return Some(connected);
        }
    }
    match Admin::connect(config).await {
        Ok(admin) => schema(&admin, &connected.user, settings, asks, findings).await,
        Err(error) => findings.push(unusable(&error, &connected.user)),
    }
    Some(connected)
}

/// No database, or none that lets us in.
pub(super) fn unreachable(why: String) -> Finding {
    Finding::broken(
        "database.reachable",
        why,
        "see that Postgres runs and that DATABASE_URL (or DATABASE_ADDRESS, _NAME, _USERNAME, _PASSWORD) is right; unset, a private Postgres is used",
    )
}

fn unusable(error: &LedgerError, user: &str) -> Finding {
    if error.sqlstate() == Some(NOT_ALLOWED) {
        return Finding::broken(
            "database.grants",
            format!("user {user} may not look into schema turnpike"),
            format!("as the database's owner: grant turnpike_gateway to \"{user}\""),
        );
    }
    Finding::broken(
        "database.migrations",
        chain(error),
        "run the program that fits the database, or `turnpike migrate` as its owner",
    )
}

fn migrations(files: &str, by_itself: bool) -> Finding {
    let what = format!("the database lacks {files}");
    if by_itself {
        return Finding::risk(
            "database.migrations",
            what,
            "run `turnpike migrate` as the database's owner; `turnpike serve` does it at its next start if it may",
        );
    }
    Finding::broken(
        "database.migrations",
        what,
        "run `turnpike migrate` as the database's owner: MIGRATE=false, so nothing serves until then",
    )
}

fn clock(ahead_ms: i64) -> Option<Finding> {
    (ahead_ms.unsigned_abs() > CLOCK_AHEAD_MS_MAX).then(|| {
        let direction = if ahead_ms > 0 { "ahead of" } else { "behind" };
        Finding::risk(
            "database.clock",
            format!(
                "Postgres' clock is at least {} ms {direction} this machine's",
                ahead_ms.unsigned_abs()
            ),
            "let both machines keep time by NTP (`timedatectl`, `chronyc tracking`)",
        )
    })
}

/// What a migrated database says. The audit comes last: over large books it may take longer than there is patience for, and
/// then the connection is gone.
async fn schema(
    admin: &Admin,
    user: &str,
    settings: &Settings,
    asks: bool,
    findings: &mut Vec<Finding>,
) {
    let mut unread = Vec::new();
    let mut take = |check: &str, looked: Result<Vec<Finding>, LedgerError>| match looked {
        Ok(found) => findings.extend(found),
        Err(error) if error.sqlstate() == Some(NOT_ALLOWED) => unread.push(check.to_owned()),
        Err(error) => findings.push(Finding::note(
            "database.unanswered",
            format!("{check}: {}", chain(&error)),
            "run the doctor again when Postgres has less to do",
        )),
    };
    take("grants", grants(admin, user).await);
    take("prices", prices::look(admin).await);
    take("upstreams", upstreams::look(admin, settings).await);
    if asks {
        take("upstream keys", upstreams::ask(admin, settings).await);
    }
    take("webhooks", webhooks::look(admin).await);
    take("open holds", gone(admin).await);
    take("charges", doubtful(admin).await);
    take("partitions", partitions(admin).await);
    take("audit", audit(admin).await);
    if !unread.is_empty() {
        findings.push(Finding::note(
            "doctor.unread",
            format!("user {user} may not read: {}", some(&unread)),
            AS_WHOM,
        ));
    }
}

async fn grants(admin: &Admin, user: &str) -> Result<Vec<Finding>, LedgerError> {
    let rights = admin.rights().await?;
    if rights.lacking.is_empty() {
        return Ok(Vec::new());
    }
    let what = format!(
        "user {user} lacks what serving needs: {}",
        some(&rights.lacking)
    );
    let remedy = format!(
        "as the database's owner: select turnpike.grant_roles(); grant turnpike_gateway to \"{user}\""
    );
    // An operator's user need not serve.
    Ok(vec![if rights.is_admin {
        Finding::note(
            "database.grants",
            what,
            format!("nothing, if another user serves; else {remedy}"),
        )
    } else {
        Finding::broken("database.grants", what, remedy)
    }])
}

async fn audit(admin: &Admin) -> Result<Vec<Finding>, LedgerError> {
    let rows = admin.audit().await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
    Ok(vec![Finding::broken(
        "books.audit",
        format!("the books are wrong: {}", some(&rows)),
        "see `turnpike audit`; find who wrote to the tables by hand, and correct balances with turnpike.top_up()",
    )])
}

async fn gone(admin: &Admin) -> Result<Vec<Finding>, LedgerError> {
    let gone = admin.gone_holds().await?;
    Ok(gone
        .iter()
        .map(|it| {
            Finding::risk(
                "books.holds",
                format!("{} open exchanges of {}, which is gone", it.count, it.instance),
                "start Turnpike on its DATA_DIR, or any replica: it settles them as ORPHANS says; see turnpike.open_holds",
            )
        })
        .collect())
}

async fn doubtful(admin: &Admin) -> Result<Vec<Finding>, LedgerError> {
    let marks = admin.doubtful_charges().await?;
    Ok(marks
        .iter()
        .map(|it| {
            let what = format!("charges of the last day that are {}: {}", it.mark, it.count);
            let remedy = match it.mark.as_str() {
                "estimated" => {
                    return Finding::note(
                        "books.charges",
                        what,
                        "STREAM_USAGE=inject or require gives exact figures for streams; see turnpike.estimates",
                    );
                }
                "bounded" => {
                    "the provider claimed more than was foreseen: compare with turnpike.estimates and the model's price row"
                }
                _ => "a gateway died in the middle: review them in turnpike.estimates, correct with turnpike.top_up()",
            };
            Finding::risk("books.charges", what, remedy)
        })
        .collect())
}

async fn partitions(admin: &Admin) -> Result<Vec<Finding>, LedgerError> {
    let months = admin.months_without_partition().await?;
    if months.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::risk(
        "books.partitions",
        format!("no partition for the charges of {}", some(&months)),
        "as the database's owner: select turnpike.ensure_charge_partitions(); a running gateway does it at its start and daily",
    )])
}

/// `insufficient_privilege`
const NOT_ALLOWED: &str = "42501";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_with_its_direction() {
        assert_eq!(clock(5_000), None);
        assert!(clock(5_001).unwrap().what.contains("5001 ms ahead of"));
        assert!(clock(-60_000).unwrap().what.contains("60000 ms behind"));
    }
}
