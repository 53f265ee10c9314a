//! What the database says about its own health. Every statement only reads.

use std::time::SystemTime;

use tokio_postgres::types::Type;

use crate::{Config, LedgerError, SecretSource, connect::Session};

use super::Admin;

/// Who a connection is, and how Postgres' clock stands to this machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Where Postgres is: neither user nor password.
    pub place: String,
    /// The user that the connection works as.
    pub user: String,
    /// Postgres' version.
    pub version: String,
    /// By how many milliseconds at least Postgres' clock is ahead (negative: behind); 0 within what the question itself took.
    pub ahead_ms: i64,
}

/// What a user may do in the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// What serving needs and the user lacks: `insert on turnpike.charge`, `execute on turnpike.settle_exchanges`.
    pub lacking: Vec<String>,
    /// Whether the role for operators is the user's.
    pub is_admin: bool,
}

/// An upstream that may be asked, and one of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamKeyRow {
    /// The upstream's name.
    pub upstream: String,
    /// Where it is.
    pub base_url: String,
    /// Its key.
    pub key: KeyPlace,
}

/// Where a key stands. The key itself is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// There is none.
    Missing,
    /// In the table.
    Table,
    /// In the environment or a file of the gateway's.
    Outside(SecretSource),
}

/// Open exchanges whose process is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneHolds {
    /// How many.
    pub count: i64,
    /// The process, by name.
    pub instance: String,
}

/// Charges of the last day whose figure is not the provider's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubtful {
    /// How the figures came about.
    pub mark: String,
    /// How many.
    pub count: i64,
}

/// Asks who we are in the database that `config` names, migrated or not.
///
/// # Errors
/// When Postgres cannot be reached or refuses the login.
pub async fn connected(config: &Config) -> Result<Connected, LedgerError> {
    let session = config.connector()?.open().await?;
    let row = one(&session, WHO).await?;
    // Asked again on a connection that is warm: opening it took longer than the answer.
    let sent_ms = clock_ms();
    let server_ms: i64 = one(&session, CLOCK).await?.try_get(0)?;
    Ok(Connected {
        place: crate::config::place(&config.postgres),
        user: row.try_get(0)?,
        version: row.try_get(1)?,
        ahead_ms: ahead_ms(sent_ms, server_ms, clock_ms()),
    })
}

impl Admin {
    /// What the user of this connection may do.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn rights(&self) -> Result<Rights, LedgerError> {
        let row = self.row(RIGHTS, &[]).await?;
        Ok(Rights {
            lacking: row.try_get(0)?,
            is_admin: row.try_get(1)?,
        })
    }

    /// How many access tokens that are valid have a cap on money or tokens.
    ///
    /// # Errors
    /// When Postgres does not answer, or the user may not read it.
    pub async fn capped_tokens(&self) -> Result<i64, LedgerError> {
        Ok(self.row(CAPPED, &[]).await?.try_get(0)?)
    }

    /// The upstreams that may be asked, each with its keys; one without a key once.
    ///
    /// # Errors
    /// When Postgres does not answer, or the user may not read where keys stand.
    pub async fn upstream_keys(&self) -> Result<Vec<UpstreamKeyRow>, LedgerError> {
        let rows = self.session.query(KEYS, &[]).await?;
        rows.iter()
            .map(|row| {
                let outside: Option<&str> = row.try_get(3)?;
                Ok(UpstreamKeyRow {
                    upstream: row.try_get(0)?,
                    base_url: row.try_get(1)?,
                    key: match (row.try_get(2)?, outside) {
                        (false, _) => KeyPlace::Missing,
                        (true, None) => KeyPlace::Table,
                        (true, Some(place)) => KeyPlace::Outside(SecretSource::new(place)),
                    },
                })
            })
            .collect()
    }

    /// Open exchanges that nobody works on any more, by process.
    ///
    /// # Errors
    /// When Postgres does not answer, or the user may not read it.
    pub async fn gone_holds(&self) -> Result<Vec<GoneHolds>, LedgerError> {
        let rows = self.session.query(GONE, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(GoneHolds {
                    instance: row.try_get(0)?,
                    count: row.try_get(1)?,
                })
            })
            .collect()
    }

    /// Charges of the last day whose figure is not the provider's own, by mark.
    ///
    /// # Errors
    /// When Postgres does not answer, or the user may not read it.
    pub async fn doubtful_charges(&self) -> Result<Vec<Doubtful>, LedgerError> {
        let rows = self.session.query(DOUBTFUL, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(Doubtful {
                    mark: row.try_get(0)?,
                    count: row.try_get(1)?,
                })
            })
            .collect()
    }

    /// Of this month and the next, those whose charges have no partition: `2026-12`.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn months_without_partition(&self) -> Result<Vec<String>, LedgerError> {
        let rows = self.session.query(MONTHS, &[]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}

async fn one(session: &Session, statement: &str) -> Result<tokio_postgres::Row, LedgerError> {
    let rows = session.query(statement, &[] as &[(_, Type)]).await?;
    rows.into_iter().next().ok_or_else(LedgerError::row)
}

fn clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// The server looked at its clock some time between the question and the answer: only what lies outside of that is a difference.
fn ahead_ms(sent_ms: i64, server_ms: i64, received_ms: i64) -> i64 {
    if server_ms < sent_ms {
        server_ms.saturating_sub(sent_ms)
    } else {
        server_ms.saturating_sub(received_ms).max(0)
    }
}

const WHO: &str = "select current_user::text, current_setting('server_version')";

const CLOCK: &str = "select floor(extract(epoch from clock_timestamp()) * 1000)::bigint";

// What turnpike.grant_roles() grants turnpike_gateway. A right on some columns is enough here: which, the schema's tests hold.
const RIGHTS: &str = "
    with needed (relation, privileges) as (values
           ('account', '{select,update}'::text[]), ('access_token', '{select}'), ('access_token_counter', '{select,update}'),
           ('migration', '{select}'), ('identity', '{select}'), ('price', '{select}'), ('upstream', '{select}'),
           ('upstream_key', '{select}'), ('route', '{select}'), ('instance', '{select,insert,update}'),
           ('lease', '{select,insert,update,delete}'), ('hold', '{select,insert,delete}'), ('charge', '{select,insert}'),
           ('charge_key', '{select,insert}'), ('usage_day', '{select,insert,update}'),
           ('object', '{select,insert,update,delete}'), ('job', '{select,insert,update,delete}'),
           ('rate_window', '{select,insert,update,delete}'), ('rate_place', '{select,insert,update,delete}'),
           ('charge_unnumbered', '{insert}'), ('delivery', '{select}'), ('webhook', '{select}'),
           ('dialog', '{select,insert,update,delete}'), ('chatbot_cooldown', '{select,insert,update,delete}')),
         called (function) as (values
           ('lease_purses'), ('return_purses'), ('settle_exchanges'), ('find_dead'), ('bury_instance'), ('drop_charges'),
           ('ensure_charge_partitions'), ('first_id'), ('rate_chunk'), ('lease_windows'), ('lease_places'), ('tokens_used'),
           ('make_dialog'), ('start_cooldown'), ('keep_objects'), ('park_exchange'), ('claim_jobs'), ('lock_job'), ('end_job'),
           ('number_charges'), ('sweep_charge_seq'), ('watch_budgets'), ('tell_upstream'), ('claim_deliveries'), ('record_delivery'), ('sweep_events')),
         lacking (what) as (
           select privilege || ' on turnpike.' || relation
             from needed cross join unnest(privileges) as privilege
            where not case privilege
                    when 'delete' then has_table_privilege('turnpike.' || relation, 'delete')
                    else has_any_column_privilege('turnpike.' || relation, privilege) end
            union all
           select 'execute on turnpike.' || function
             from called join pg_proc on proname = function and pronamespace = 'turnpike'::regnamespace
            where not has_function_privilege(pg_proc.oid, 'execute'))
    select coalesce((select array_agg(what order by what) from lacking), '{}'),
           coalesce((select pg_has_role(oid, 'usage') from pg_roles where rolname = 'turnpike_admin'), false)";

const CAPPED: &str = "
    select count(*) from turnpike.access_token
     where revoked_at is null and (expires_at is null or expires_at > now())
       and num_nonnulls(budget, budget_day, budget_month, prompt_tokens, prompt_tokens_day, prompt_tokens_month,
                        completion_tokens, completion_tokens_day, completion_tokens_month) > 0";

// A key that stands in the table stays there.
const KEYS: &str = "
    select u.name, u.base_url, k.id is not null, case when k.secret ~ '^(env|file):' then k.secret end
      from turnpike.upstream as u left join turnpike.upstream_key as k on k.upstream_id = u.id
     where u.enabled
     order by u.name, k.id";

const GONE: &str = "
    select instance, count(*) from turnpike.open_holds where instance_gone group by instance order by 2 desc, 1";

const DOUBTFUL: &str = "
    select mark, count(*) from turnpike.charge
     where id >= turnpike.first_id(now() - interval '1 day') and mark not in ('measured', 'provider_cost')
     group by mark order by mark";

const MONTHS: &str = "
    select to_char(month, 'YYYY-MM')
      from generate_series(0, 1) as later,
           lateral (select date_trunc('month', now() at time zone 'UTC') + make_interval(months => later) as month) as m
     where to_regclass('turnpike.charge_' || to_char(month, 'YYYY_MM')) is null
     order by 1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_differ_only_by_what_the_question_cannot_have_taken() {
        assert_eq!(ahead_ms(1_000, 1_000, 1_000), 0);
        assert_eq!(ahead_ms(1_000, 1_700, 2_000), 0, "a slow answer");
        assert_eq!(ahead_ms(1_000, 9_000, 2_000), 7_000, "ahead");
        assert_eq!(ahead_ms(10_000, 4_000, 12_000), -6_000, "behind");
    }
}
