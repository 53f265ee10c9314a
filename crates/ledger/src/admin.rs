//! What the commands do: the SQL contract of `/migrations` as plain functions.

mod accounts;
mod agent;
mod audit;
mod charged;
mod doctor;
mod export;
mod fronts;
mod prices;
mod tokens;
mod upstreams;
mod usage;
mod webhooks;

use tokio_postgres::Row;

use crate::{
    Config, LedgerError,
    connect::{Params, Session},
    migrate,
};

pub use self::{
    accounts::{AccountRow, CreditRow},
    agent::{AgentPrice, AgentTables, AgentUsage, AgentUser},
    audit::AuditRow,
    charged::{Charged, ChargedRow},
    doctor::{Connected, Doubtful, GoneHolds, KeyPlace, Rights, UpstreamKeyRow, connected},
    export::{BUCKETS, NumberedCharge, Position, Wanted},
    fronts::{ImportedToken, ImportedUsage},
    prices::{Imported, NewPrice},
    tokens::{CapRow, Caps, IssueToken, IssuedToken, TokenRow},
    upstreams::{NewUpstream, RouteRow, UpstreamRow},
    usage::{UsageBy, UsageRow},
    webhooks::{NewWebhook, WebhookRow},
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
