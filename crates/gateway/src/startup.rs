//! What must stand before anything else: the database, and on the first start something to call with.

use std::{path::PathBuf, time::Duration};

use ledger::{
    Config,
    admin::{Admin, IssueToken, NewPrice},
    cluster::{self, Cluster},
};
use tariff::{Amount, Fees, Pattern, Price, PriceId, Rates, Tier};
use tokio::runtime::Runtime;

use crate::{
    fatal::{Code, Fatal},
    sandbox,
    settings::{self, Secret},
    shipped,
};

/// The database in the private Postgres.
const DATABASE: &str = "turnpike";
/// How long who serves before us on the private Postgres gets to end.
const PREDECESSOR_MAX: Duration = Duration::from_secs(60);
/// The account of the first start.
const FIRST_ACCOUNT: &str = "default";
/// Its first credit, in nano-USD: enough to try things, little enough to notice.
pub(crate) const FIRST_CREDIT: Amount = Amount::from_nano(25_000_000_000);

/// What a database is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// To serve: a private Postgres must be this process's own, since it ends with who started it.
    Serve,
    /// For a command: one that runs will do.
    Command,
}

/// A database that answers, and the private Postgres if it is that.
pub(crate) struct Database {
    /// For migrations, the first start and commands: in the private Postgres its owner's.
    pub(crate) config: Config,
    cluster: Option<Cluster>,
}

/// Finds or starts the database that the settings name.
///
/// # Errors
/// When the settings are wrong, or the private Postgres cannot be started.
pub(crate) fn open(
    settings: &settings::Database,
    purpose: Use,
    runtime: &Runtime,
) -> Result<Database, Fatal> {
    if let Some(config) = external(settings)? {
        return Ok(Database {
            config,
            cluster: None,
        });
    }
    let dir = data_dir(settings);
    let cluster = Cluster::start(&cluster::Options {
        dir,
        binaries: None,
        throwaway: false,
        detached: false,
        alone: (purpose == Use::Serve).then_some(PREDECESSOR_MAX),
    })?;
    runtime.block_on(cluster.create_database(DATABASE))?;
    Ok(Database {
        config: cluster.config(DATABASE),
        cluster: Some(cluster),
    })
}

/// The configuration of a Postgres that is not ours, if the settings name one.
fn external(settings: &settings::Database) -> Result<Option<Config>, Fatal> {
    let expose = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
    let config = match (
        &settings.database_url,
        &settings.database_address,
        &settings.database_name,
    ) {
        (Some(url), _, _) => {
            Config::from_url(url.expose()).map_err(|error| unusable("DATABASE_URL", &error))?
        }
        (None, Some(address), Some(name)) => Config::from_parts(&ledger::Parts {
            username: settings
                .database_username
                .clone()
                .unwrap_or_else(|| "postgres".to_owned()),
            password: expose(&settings.database_password),
            address: address.clone(),
            name: name.clone(),
        })
        .map_err(|error| unusable("DATABASE_ADDRESS", &error))?,
        _ => return Ok(None),
    };
    Ok(Some(match &settings.database_direct_url {
        Some(url) => config
            .with_listen_url(url.expose())
            .map_err(|error| unusable("DATABASE_DIRECT_URL", &error))?,
        None => config,
    }))
}

fn unusable(setting: &str, error: &ledger::LedgerError) -> Fatal {
    Fatal::because(Code::Config, &format!("{setting} cannot be used"), error)
}

/// How the ledger keeps what must not be lost, as the settings say it.
pub(crate) fn keeping(config: Config, settings: &settings::Database) -> Config {
    let config = config
        .with_pool_size(settings.database_pool_size.get())
        .with_lease(Duration::from_secs(settings.lease_seconds.get().into()))
        .with_settle_patience(Duration::from_millis(settings.settle_patience_ms.get()))
        .with_orphans(settings.orphans.into());
    let config = match settings.charges_keep_months {
        Some(months) => config.with_charges_kept(months.get()),
        None => config,
    };
    if settings.journal_bytes_max == 0 {
        return config;
    }
    let dir = data_dir(settings);
    config.with_data_dir(dir, settings.journal_bytes_max)
}

/// Where the journal, the flight recorder and the private Postgres are.
pub(crate) fn data_dir(settings: &settings::Database) -> PathBuf {
    settings.data_dir.clone().unwrap_or_else(default_dir)
}

fn default_dir() -> PathBuf {
    let dir = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    cluster::default_dir(dir("XDG_STATE_HOME").as_deref(), dir("HOME").as_deref())
}

impl Database {
    /// Whether it is the private Postgres.
    pub(crate) const fn is_private(&self) -> bool {
        self.cluster.is_some()
    }

    /// For serving, once it is migrated: in the private Postgres with the few rights that serving needs.
    ///
    /// # Errors
    /// When the private Postgres does not answer.
    pub(crate) async fn serving(&self) -> Result<Config, Fatal> {
        Ok(match &self.cluster {
            Some(cluster) => cluster.gateway_config(DATABASE).await?,
            None => self.config.clone(),
        })
    }

    /// A URL for psql, if it is the private Postgres.
    pub(crate) fn url(&self) -> Option<String> {
        self.cluster.as_ref().map(|cluster| cluster.url(DATABASE))
    }

    /// Stops the private Postgres, if this process started it.
    pub(crate) fn close(self) {
        if let Some(Err(error)) = self.cluster.map(Cluster::stop) {
            tracing::error!(%error, "database.stop_failed");
        }
    }
}

/// What the first start made.
pub(crate) struct FirstStart {
    /// Shown once.
    pub(crate) token: ledger::Secret,
    /// A line about prices.
    pub(crate) prices: usize,
}

/// Fills an empty private database so that the first call works: prices, an account with a little credit, a token.
/// `None` when there is a token already.
///
/// # Errors
/// When Postgres refuses.
pub(crate) async fn first_start(config: &Config) -> Result<Option<FirstStart>, Fatal> {
    let mut admin = Admin::connect(config).await?;
    if !admin.tokens(None).await?.is_empty() {
        return Ok(None);
    }
    let prices = shipped::import(&mut admin).await?.set;
    for pattern in [sandbox::MODEL.to_owned(), format!("{}-*", sandbox::MODEL)] {
        admin.set_price(&sandbox_price(&pattern)).await?;
    }
    if !admin
        .accounts()
        .await?
        .iter()
        .any(|account| account.name == FIRST_ACCOUNT)
    {
        admin
            .create_account(FIRST_ACCOUNT, Some(Amount::ZERO))
            .await?;
        admin
            .top_up(FIRST_ACCOUNT, FIRST_CREDIT, "first start")
            .await?;
    }
    let issued = admin
        .issue_token(&IssueToken {
            account: FIRST_ACCOUNT.to_owned(),
            label: Some("first start".to_owned()),
            ..IssueToken::default()
        })
        .await?;
    Ok(Some(FirstStart {
        token: issued.token,
        prices,
    }))
}

/// What the sandbox model costs, under its own name and with a directive behind it: small figures, so that charges and balances can be watched.
fn sandbox_price(pattern: &str) -> NewPrice {
    let rates = Rates {
        in_text: Some(150_000_000),
        out_text: Some(600_000_000),
        ..Rates::default()
    };
    let price = Price {
        id: PriceId(0),
        pattern: Pattern::new(pattern),
        tier: Tier::new("default"),
        min_context: 0,
        context_inclusive: false,
        valid_from_ms: 0,
        valid_to_ms: None,
        rates,
        fees: Fees::default(),
        context_window: Some(128_000),
        output_max: Some(sandbox::OUTPUT_TOKENS_MAX),
    };
    NewPrice {
        price,
        disconnect: None,
        source: Some("the built-in sandbox model".to_owned()),
    }
}

/// Brings the database to this program's version, or says that someone must.
///
/// # Errors
/// When migrations are pending and may not be applied.
pub(crate) async fn migrate(config: &Config, apply: bool) -> Result<(), Fatal> {
    if apply {
        ledger::migrate::run(config).await?;
        return Ok(());
    }
    let pending = ledger::migrate::pending(config).await?;
    let Some(files) = ledger::migrate::in_words(&pending) else {
        return Ok(());
    };
    Err(Fatal::new(
        Code::Config,
        format!(
            "database {} lacks {files}: run `turnpike migrate` as the database's owner, or set MIGRATE=true",
            config.database(),
        ),
    ))
}
