//! What chatgpt-agent's own tables hold: users, prices, usage.

use tariff::Amount;
use tokio_postgres::{Row, types::Type};

use crate::{Config, LedgerError, connect::Session};

/// chatgpt-agent's database.
pub struct AgentTables {
    session: Session,
    /// The tables its SQL made lack it; the program wrote it all the same.
    has_token_id: bool,
}

/// A user of chatgpt-agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentUser {
    /// His row.
    pub id: i64,
    /// His name.
    pub name: Option<String>,
    /// What he shows.
    pub local_token: Option<String>,
    /// His provider key.
    pub gpt_token: Option<String>,
}

/// A price of chatgpt-agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPrice {
    /// `<model>_input` or `<model>_output`.
    pub key: String,
    /// USD per 1,000 tokens.
    pub value: Option<String>,
}

/// Usage that chatgpt-agent booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentUsage {
    /// Whose; `None` where the table does not say.
    pub user: Option<i64>,
    /// What was booked.
    pub usage: super::ImportedUsage,
}

impl AgentTables {
    /// Connects to the database that has its tables.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(config: &Config) -> Result<Self, LedgerError> {
        let session = config.connector()?.open().await?;
        let has_token_id = !session.query(HAS_TOKEN_ID, &[]).await?.is_empty();
        Ok(Self {
            session,
            has_token_id,
        })
    }

    /// Its users.
    ///
    /// # Errors
    /// When its table is not there.
    pub async fn users(&self) -> Result<Vec<AgentUser>, LedgerError> {
        let rows = self.session.query(USERS, &[]).await?;
        let users = rows.iter().map(|row| {
            Ok(AgentUser {
                id: row.try_get(0)?,
                name: row.try_get(1)?,
                local_token: row.try_get(2)?,
                gpt_token: row.try_get(3)?,
            })
        });
        users.collect()
    }

    /// Its prices.
    ///
    /// # Errors
    /// When its table is not there.
    pub async fn prices(&self) -> Result<Vec<AgentPrice>, LedgerError> {
        let rows = self.session.query(PRICES, &[]).await?;
        let prices = rows.iter().map(|row| {
            Ok(AgentPrice {
                key: row.try_get(0)?,
                value: row.try_get(1)?,
            })
        });
        prices.collect()
    }

    /// Its usage behind this row, in order: some of it; nothing at the end.
    ///
    /// # Errors
    /// When its table is not there, or a price is none.
    pub async fn usage(&self, after: i64) -> Result<Vec<AgentUsage>, LedgerError> {
        let user = if self.has_token_id {
            "token_id::bigint"
        } else {
            "null::bigint"
        };
        let statement = USAGE.replace("{user}", user);
        let params = &[(&after as _, Type::INT8), (&PAGE_ROWS as _, Type::INT8)];
        let rows = self.session.query(&statement, params).await?;
        rows.iter().map(usage).collect()
    }
}

impl std::fmt::Debug for AgentTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentTables").finish_non_exhaustive()
    }
}

fn usage(row: &Row) -> Result<AgentUsage, LedgerError> {
    let price = row
        .try_get::<_, Option<&str>>(7)?
        .map(|price| Amount::parse_scaled(price, 0))
        .transpose()
        .map_err(|error| LedgerError::row().because(error))?;
    Ok(AgentUsage {
        user: row.try_get(1)?,
        usage: super::ImportedUsage {
            source_id: row.try_get(0)?,
            remote_id: row.try_get(2)?,
            model: row.try_get(3)?,
            prompt_tokens: row.try_get(4)?,
            completion_tokens: row.try_get(5)?,
            total_tokens: row.try_get(6)?,
            price,
            requested_at_ms: row.try_get(8)?,
        },
    })
}

/// Rows of usage that are read at once.
const PAGE_ROWS: i64 = 1000;

const HAS_TOKEN_ID: &str = "
    select from pg_attribute
     where attrelid = to_regclass('sys_model_request') and attname = 'token_id' and not attisdropped";

const USERS: &str = "
    select id::bigint, name::text, local_token::text, gpt_token::text from sys_user_token order by id";

const PRICES: &str = r#"
    select key::text, value::text from sys_config where "group" = 'model_price' order by key"#;

const USAGE: &str = r#"
    select id::bigint, {user}, remote_id::text, model::text, prompt_tokens::bigint, completion_tokens::bigint,
           total_tokens::bigint, price::text, floor(extract(epoch from coalesce("timestamp"::timestamptz, 'epoch')) * 1000)::bigint
      from sys_model_request where id > $1 order by id limit $2"#;
