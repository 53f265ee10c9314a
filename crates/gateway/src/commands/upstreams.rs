//! `turnpike upstream …` and `turnpike route …`

use std::{io::Read as _, process::ExitCode};

use ledger::{
    CostBy,
    admin::{Admin, NewUpstream},
};

use super::{
    found,
    probe::{Outcome, Prober},
    table::Table,
};
use crate::{
    cli::{AddUpstream, Cost, Route, Upstream},
    fatal::{Code, Fatal},
    settings,
};

/// The longest key that is read from standard input, in bytes.
const KEY_BYTES_MAX: u64 = 8 * 1024;
/// Postgres' code for what a user may not do.
const NOT_ALLOWED: &str = "42501";

pub(super) async fn run(
    command: Upstream,
    admin: &Admin,
    settings: &settings::Upstream,
) -> Result<ExitCode, Fatal> {
    match command {
        Upstream::Add(wanted) => add(wanted, admin).await?,
        Upstream::List => print!("{}", list(admin).await?),
        Upstream::Test { name } => return test(name.as_deref(), admin, settings).await,
        Upstream::Disable { name } => enable(&name, false, admin).await?,
        Upstream::Enable { name } => enable(&name, true, admin).await?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn routes(command: Route, admin: &Admin) -> Result<(), Fatal> {
    match command {
        Route::Add {
            model,
            upstream,
            priority,
        } => {
            admin.set_route(&model, &upstream, priority).await?;
            println!("{model} goes to {upstream} from now on");
        }
        Route::List => {
            let mut table = Table::new(&["model", "upstream", "priority"], &[2]);
            for route in admin.routes().await? {
                table.row([route.model, route.upstream, route.priority.to_string()]);
            }
            print!("{table}");
        }
        Route::Remove { model, upstream } => {
            let removed = admin.remove_route(&model, upstream.as_deref()).await?;
            if removed == 0 {
                return Err(Fatal::new(
                    Code::Data,
                    format!(
                        "there is no such route of {model:?}; `turnpike route list` shows them all"
                    ),
                ));
            }
            println!("{removed} routes of {model} taken back");
        }
    }
    Ok(())
}

async fn add(wanted: AddUpstream, admin: &Admin) -> Result<(), Fatal> {
    let mut keys = Vec::with_capacity(wanted.key.len());
    for place in wanted.key {
        keys.push(if place == "-" { read_key()? } else { place });
    }
    let upstream = NewUpstream {
        name: &wanted.name,
        base_url: &wanted.url,
        dialect: wanted.dialect.name(),
        cost: match wanted.cost {
            Cost::Price => CostBy::Price,
            Cost::Provider => CostBy::Provider {
                permille: wanted.cost_permille,
            },
        },
        proxy: wanted.proxy.as_deref(),
        priority: wanted.priority,
        enabled: true,
    };
    let given = (!keys.is_empty()).then_some(&keys[..]);
    admin
        .set_upstream(&upstream, given, wanted.weights.as_deref())
        .await?;
    let keys = match keys.len() {
        0 => "the keys it had, if any".to_owned(),
        1 => "one key".to_owned(),
        several => format!("{several} keys"),
    };
    println!(
        "upstream {} is at {}, with {keys}; try it: turnpike upstream test {}",
        wanted.name, wanted.url, wanted.name
    );
    Ok(())
}

/// A key from standard input, less its line end.
fn read_key() -> Result<String, Fatal> {
    let mut text = String::new();
    let read = std::io::stdin()
        .take(KEY_BYTES_MAX)
        .read_to_string(&mut text);
    read.map_err(|error| {
        Fatal::because(
            Code::NoInput,
            "no key can be read from standard input",
            &error,
        )
    })?;
    let key = text.trim_end_matches(['\r', '\n']);
    if key.is_empty() {
        return Err(Fatal::new(
            Code::NoInput,
            "standard input has no key, which `--key -` reads there; `-` can be given once",
        ));
    }
    Ok(key.to_owned())
}

async fn list(admin: &Admin) -> Result<Table, Fatal> {
    let mut table = Table::new(
        &[
            "upstream", "url", "dialect", "priority", "keys", "models", "proxy", "state",
        ],
        &[3],
    );
    for it in admin.upstreams().await? {
        let weights: Vec<String> = it.weights.iter().map(ToString::to_string).collect();
        let keys = match it.weights.len() {
            0 => "none".to_owned(),
            1 => "1".to_owned(),
            several => format!("{several} by {}", weights.join(":")),
        };
        let models = if it.models.is_empty() {
            "all without a route".to_owned()
        } else {
            it.models.join(",")
        };
        table.row([
            it.name,
            it.base_url,
            it.dialect,
            it.priority.to_string(),
            keys,
            models,
            it.proxy.unwrap_or_else(|| "-".to_owned()),
            if it.enabled { "in use" } else { "disabled" }.to_owned(),
        ]);
    }
    Ok(table)
}

async fn enable(name: &str, enabled: bool, admin: &Admin) -> Result<(), Fatal> {
    if !admin.enable_upstream(name, enabled).await? {
        return Err(no_upstream(name));
    }
    let said = if enabled {
        "gets requests again"
    } else {
        "gets no more requests"
    };
    println!("upstream {name} {said}");
    Ok(())
}

fn no_upstream(name: &str) -> Fatal {
    Fatal::new(
        Code::Data,
        format!("there is no upstream {name:?} in use; `turnpike upstream list` names them all"),
    )
}

async fn test(
    name: Option<&str>,
    admin: &Admin,
    settings: &settings::Upstream,
) -> Result<ExitCode, Fatal> {
    let mut upstreams = admin.upstreams_with_keys().await.map_err(|error| {
        if error.sqlstate() == Some(NOT_ALLOWED) {
            Fatal::new(
                Code::NoPermission,
                "this database user may not read keys: run it as the database's owner, or as a member of turnpike_gateway",
            )
        } else {
            error.into()
        }
    })?;
    if let Some(name) = name {
        upstreams.retain(|upstream| upstream.name == name);
        if upstreams.is_empty() {
            return Err(no_upstream(name));
        }
    }
    let mut table = Table::new(&["upstream", "key", "ms", "result"], &[2]);
    let mut failed = false;
    for probed in Prober::new(settings)?.ask_all(&upstreams).await {
        let result = match &probed.outcome {
            Outcome::Answered(status @ 200..=299) => format!("works ({status})"),
            Outcome::Answered(status @ (401 | 403)) => {
                failed = true;
                format!("refuses the key ({status})")
            }
            Outcome::Answered(status @ (429 | 500..)) => {
                failed = true;
                format!("answers {status}")
            }
            Outcome::Answered(status) => format!("answers, but has no list of models ({status})"),
            Outcome::Unreachable(why) => {
                failed = true;
                format!("does not answer: {why}")
            }
            Outcome::Unusable(why) => {
                failed = true;
                format!("not asked: {why}")
            }
        };
        table.row([
            probed.upstream,
            probed
                .key
                .map_or_else(|| "-".to_owned(), |id| id.to_string()),
            probed.took.as_millis().to_string(),
            result,
        ]);
    }
    if upstreams.is_empty() {
        println!(
            "no upstreams: the settings say where requests go (OPENAI_URL, OPENAI_API_KEY), else the sandbox model answers"
        );
    } else {
        print!("{table}");
    }
    Ok(if failed { found() } else { ExitCode::SUCCESS })
}
