//! What the commands do: the SQL contract of `/migrations` as plain functions.

mod accounts;
mod agent;
mod audit;
mod charged;
mod doctor;
mod fronts;
mod prices;
mod tokens;
mod usage;

use tokio_postgres::{Row, types::Type};

use crate::{
    Config, LedgerError,
    connect::{Params, Session},
    migrate,
};

pub use self::{
    accounts::AccountRow,
    agent::{AgentPrice, AgentTables, AgentUsage, AgentUser},
    audit::AuditRow,
    charged::{Charged, ChargedRow},
    doctor::{Connected, Doubtful, GoneHolds, KeyPlace, Rights, UpstreamKeyRow, connected},
    fronts::{ImportedToken, ImportedUsage},
    prices::{Imported, NewPrice},
    tokens::{CapRow, Caps, IssueToken, IssuedToken, TokenRow},
    usage::{UsageBy, UsageRow},
};

/// A connection for an operator's commands.
pub struct Admin {
    session: Session,
}

impl Admin {
    /// Connects.
    ///
    /// # Errors
    /// When Postgres cannot be reached; [`LedgerError::is_migration`] when the database does not have every migration.
    pub async fn connect(config: &Config) -> Result<Self, LedgerError> {
        let mut session = config.connector()?.open().await?;
        migrate::require(&mut session.client, config).await?;
        Ok(Self { session })
    }

    /// Makes or changes an upstream. `key` `None` keeps the keys it has.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when the URL is none.
    pub async fn set_upstream(
        &self,
        name: &str,
        base_url: &str,
        key: Option<&str>,
        proxy: Option<&str>,
    ) -> Result<(), LedgerError> {
        self.row(
            SET_UPSTREAM,
            &[
                (&name, Type::TEXT),
                (&base_url, Type::TEXT),
                (&key, Type::TEXT),
                (&proxy, Type::TEXT),
            ],
        )
        .await
        .map(drop)
    }

    /// Sends models (`gpt-4o`, `gpt-4o*`) to an upstream.
    ///
    /// # Errors
    /// [`LedgerError::is_refused`] when there is no such upstream.
    pub async fn set_route(&self, model: &str, upstream: &str) -> Result<(), LedgerError> {
        self.row(SET_ROUTE, &[(&model, Type::TEXT), (&upstream, Type::TEXT)])
            .await
            .map(drop)
    }

    async fn row(&self, statement: &str, params: Params<'_>) -> Result<Row, LedgerError> {
        let rows = self.session.query(statement, params).await?;
        rows.into_iter().next().ok_or_else(LedgerError::row)
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

const SET_UPSTREAM: &str = "select turnpike.set_upstream($1, $2, key => $3, proxy => $4)";
const SET_ROUTE: &str = "select turnpike.set_route($1, $2)";
