//! What the commands do, and what they print. Results go to standard output, everything else to standard error.

mod accounts;
mod audit;
mod doctor;
mod export;
mod fronts;
mod health;
mod import;
mod prices;
mod probe;
mod progress;
mod reconcile;
mod table;
mod tokens;
mod upstreams;
mod usage;
mod webhooks;

use std::{process::ExitCode, time::SystemTime};

use ledger::{Config, admin::Admin};

pub(crate) use self::fronts::chatbot_mode;
use self::progress::Progress;
use crate::{
    cli::Command,
    fatal::{Code, Fatal},
    settings, startup,
};

/// Runs one command against the database of the settings, starting the private Postgres for as long as it takes.
pub(crate) fn run(command: Command, settings: &settings::Settings) -> Result<ExitCode, Fatal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fatal::because(Code::System, "no runtime", &error))?;
    if let Command::Health(command) = &command {
        return health::run(*command, &settings.listen);
    }
    // A database that is not there is a finding, not the end.
    if let Command::Doctor(command) = &command {
        return doctor::run(command, settings, &runtime);
    }
    let database = startup::open(&settings.database, startup::Use::Command, &runtime)?;
    let done = runtime.block_on(dispatch(command, &database.config, settings));
    database.close();
    done
}

async fn dispatch(
    command: Command,
    config: &Config,
    settings: &settings::Settings,
) -> Result<ExitCode, Fatal> {
    match command {
        // Taken care of by `main` and `run`.
        Command::Serve
        | Command::Chatbot(_)
        | Command::Doctor(_)
        | Command::Health(_)
        | Command::Completions { .. }
        | Command::Man { .. } => {}
        Command::Migrate => migrate(config).await?,
        Command::Token(command) => tokens::run(command, &Admin::connect(config).await?).await?,
        Command::Account(command) => accounts::run(command, &Admin::connect(config).await?).await?,
        Command::Price(command) => prices::run(command, &mut Admin::connect(config).await?).await?,
        Command::Usage(command) => usage::run(&command, &Admin::connect(config).await?).await?,
        Command::Export(command) => export::run(&command, &Admin::connect(config).await?).await?,
        Command::Webhook(command) => {
            return webhooks::run(command, &Admin::connect(config).await?, &settings.upstream)
                .await;
        }
        Command::TokenGen(wanted) => {
            fronts::token_gen(wanted, &Admin::connect(config).await?).await?;
        }
        Command::Import(wanted) => import::run(wanted, config, &settings.front_doors).await?,
        Command::Upstream(command) => {
            return upstreams::run(command, &Admin::connect(config).await?, &settings.upstream)
                .await;
        }
        Command::Route(command) => {
            upstreams::routes(command, &Admin::connect(config).await?).await?
        }
        Command::Audit(command) => {
            return audit::run(&command, &Admin::connect(config).await?).await;
        }
        Command::Reconcile(command) => {
            return reconcile::run(&command, config).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How `audit`, `doctor` and `reconcile` end when they found something, as `diff` does.
fn found() -> ExitCode {
    ExitCode::from(1)
}

async fn migrate(config: &Config) -> Result<(), Fatal> {
    let mut bar = None;
    let report = ledger::migrate::run_told(config, |done, all| {
        bar.get_or_insert_with(|| Progress::of("migrating", all))
            .at(done);
    })
    .await?;
    drop(bar);
    for file in &report.applied {
        println!("applied {file}");
    }
    let done = match report.applied.len() {
        0 => "nothing was missing".to_owned(),
        1 => "1 migration applied".to_owned(),
        several => format!("{several} migrations applied"),
    };
    println!(
        "database {} is at version {}: {done}",
        config.database(),
        report.version
    );
    Ok(())
}

/// Now, in milliseconds since the epoch.
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// An instant as people read it: `2026-11-21 09:30` (UTC).
fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(
        |_| "?".to_owned(),
        |instant| instant.strftime("%Y-%m-%d %H:%M").to_string(),
    )
}
