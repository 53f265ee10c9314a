//! Commands about upstreams, their keys and routes. No key is ever read.

use tokio_postgres::types::{ToSql, Type};

use super::Admin;
use crate::{
    CostBy, LedgerError, Upstream,
    catalog::load::{KEYS, UPSTREAMS, with_keys},
};

/// An upstream to make or change.
#[derive(Clone, Debug, Default)]
pub struct NewUpstream<'a> {
    /// Its name among operators.
    pub name: &'a str,
    /// `https://host[:port][/path]`.
    pub base_url: &'a str,
    /// `openai`, `azure` or `anthropic`.
    pub dialect: &'a str,
    /// Whose figure is charged for what it answers.
    pub cost: CostBy,
    /// `http://…` or `socks5://…` to go through.
    pub proxy: Option<&'a str>,
    /// The smallest is asked first.
    pub priority: i32,
    /// Whether requests may go there.
    pub enabled: bool,
}

/// An upstream as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamRow {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub base_url: String,
    /// How it is spoken to.
    pub dialect: String,
    /// What is gone through, without a password.
    pub proxy: Option<String>,
    /// The smallest is asked first.
    pub priority: i32,
    /// Whether requests may go there.
    pub enabled: bool,
    /// The weights of its keys, by id.
    pub weights: Vec<i32>,
    /// The models sent there by routes.
    pub models: Vec<String>,
}

/// A route as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRow {
    /// The model, or a beginning with `*`.
    pub model: String,
    /// Where it goes.
    pub upstream: String,
    /// The smallest is asked first, among routes of one pattern.
    pub priority: i32,
}

impl Admin {
    /// Makes an upstream, or changes the one of that name. With `keys` it gets these and no others, by their `weights` if
    /// given; without, it keeps those it has. All of it or nothing.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when a URL, key or weight is none, or a key is given twice.
    pub async fn set_upstream(
        &self,
        upstream: &NewUpstream<'_>,
        keys: Option<&[String]>,
        weights: Option<&[i32]>,
    ) -> Result<(), LedgerError> {
        let statement = if keys.is_some() { SET_WITH_KEYS } else { SET };
        let (cost, permille) = match upstream.cost {
            CostBy::Price => ("price", 1_000),
            CostBy::Provider { permille } => {
                ("provider", i32::try_from(permille).unwrap_or(i32::MAX))
            }
        };
        let mut params: Vec<(&(dyn ToSql + Sync), Type)> = vec![
            (&upstream.name, Type::TEXT),
            (&upstream.base_url, Type::TEXT),
            (&upstream.proxy, Type::TEXT),
            (&upstream.priority, Type::INT4),
            (&upstream.enabled, Type::BOOL),
            (&upstream.dialect, Type::TEXT),
            (&cost, Type::TEXT),
            (&permille, Type::INT4),
        ];
        if keys.is_some() {
            params.push((&keys, Type::TEXT_ARRAY));
            params.push((&weights, Type::INT4_ARRAY));
        }
        self.row(statement, &params).await.map(drop)
    }

    /// Lets requests go to an upstream, or none any more. False: there is no such upstream.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn enable_upstream(&self, name: &str, enabled: bool) -> Result<bool, LedgerError> {
        let rows = self
            .session
            .query(ENABLE, &[(&name, Type::TEXT), (&enabled, Type::BOOL)])
            .await?;
        Ok(!rows.is_empty())
    }

    /// All upstreams, in the order in which they are asked.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn upstreams(&self) -> Result<Vec<UpstreamRow>, LedgerError> {
        let rows = self.session.query(LIST, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(UpstreamRow {
                    name: row.try_get(0)?,
                    base_url: row.try_get(1)?,
                    dialect: row.try_get(2)?,
                    proxy: row.try_get(3)?,
                    priority: row.try_get(4)?,
                    enabled: row.try_get(5)?,
                    weights: row.try_get(6)?,
                    models: row.try_get(7)?,
                })
            })
            .collect()
    }

    /// All upstreams that requests may go to, with their keys: to try them.
    ///
    /// # Errors
    /// When Postgres does not answer, or the user may not read keys ([`LedgerError::sqlstate`] 42501).
    pub async fn upstreams_with_keys(&self) -> Result<Vec<Upstream>, LedgerError> {
        let upstreams = self.session.query(UPSTREAMS, &[]).await?;
        let keys = self.session.query(KEYS, &[]).await?;
        with_keys(&upstreams, &keys)
    }

    /// Sends models (`gpt-4o`, `gpt-4o*`) to an upstream.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when there is no such upstream.
    pub async fn set_route(
        &self,
        model: &str,
        upstream: &str,
        priority: i32,
    ) -> Result<(), LedgerError> {
        self.row(
            SET_ROUTE,
            &[
                (&model, Type::TEXT),
                (&upstream, Type::TEXT),
                (&priority, Type::INT4),
            ],
        )
        .await
        .map(drop)
    }

    /// Takes back the routes of a model or pattern: all of them, or the one to an upstream. How many there were.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn remove_route(
        &self,
        model: &str,
        upstream: Option<&str>,
    ) -> Result<i32, LedgerError> {
        let params: [(&(dyn ToSql + Sync), Type); 2] =
            [(&model, Type::TEXT), (&upstream, Type::TEXT)];
        Ok(self.row(REMOVE_ROUTE, &params).await?.try_get(0)?)
    }

    /// All routes, in the order in which they are looked at.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn routes(&self) -> Result<Vec<RouteRow>, LedgerError> {
        let rows = self.session.query(ROUTES, &[]).await?;
        rows.iter()
            .map(|row| {
                Ok(RouteRow {
                    model: row.try_get(0)?,
                    upstream: row.try_get(1)?,
                    priority: row.try_get(2)?,
                })
            })
            .collect()
    }
}

const SET: &str = "select turnpike.set_upstream($1, $2, proxy => $3, priority => $4, enabled => $5, dialect => $6, cost => $7, cost_permille => $8)";
// One statement, so one transaction: the second item is reckoned after the first.
const SET_WITH_KEYS: &str = "
    select turnpike.set_upstream_keys($1, $9, $10)
     where turnpike.set_upstream($1, $2, proxy => $3, priority => $4, enabled => $5, dialect => $6, cost => $7, cost_permille => $8) is not null";
const ENABLE: &str = "update turnpike.upstream set enabled = $2 where name = $1 returning 1";
const LIST: &str = "
    select u.name, u.base_url, u.dialect, regexp_replace(u.proxy, '//[^@/]*@', '//…@'), u.priority, u.enabled,
           array(select k.weight from turnpike.upstream_key as k where k.upstream_id = u.id order by k.id),
           array(select r.pattern from turnpike.route as r where r.upstream_id = u.id order by r.pattern)
      from turnpike.upstream as u order by u.priority, u.name";
const SET_ROUTE: &str = "select turnpike.set_route($1, $2, $3)";
const REMOVE_ROUTE: &str = "select turnpike.remove_route($1, $2)";
const ROUTES: &str = "
    select r.pattern, u.name, r.priority from turnpike.route as r join turnpike.upstream as u on u.id = r.upstream_id
     order by r.pattern like '%*', length(r.pattern) desc, r.pattern, r.priority, u.name";
