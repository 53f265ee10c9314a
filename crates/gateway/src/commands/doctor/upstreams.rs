//! What the doctor thinks of the keys that requests carry upstream. It looks where they stand, and tells none.

use ledger::{
    Dialect, LedgerError,
    admin::{Admin, KeyPlace, UpstreamKeyRow},
};

use super::Finding;
use crate::commands::probe::{self, Outcome};
use crate::{azure, places, serve, settings::Settings};

/// Said wherever the doctor looks at its own environment.
const SAME_ENVIRONMENT: &str =
    "(the doctor sees only its own environment: run it in the gateway's)";

pub(super) async fn look(admin: &Admin, settings: &Settings) -> Result<Vec<Finding>, LedgerError> {
    let rows = admin.upstream_keys().await?;
    Ok(if rows.is_empty() {
        by_settings(settings).into_iter().collect()
    } else {
        rows.iter().filter_map(by_row).collect()
    })
}

/// Asks every upstream, with every key that is there, for its models.
pub(super) async fn ask(admin: &Admin, settings: &Settings) -> Result<Vec<Finding>, LedgerError> {
    let upstreams = admin.upstreams_with_keys().await?;
    let results = match probe::Prober::new(&settings.upstream) {
        Ok(prober) => prober.ask_all(&upstreams).await,
        // Told by whoever starts with these settings.
        Err(_) => return Ok(Vec::new()),
    };
    Ok(results.iter().filter_map(by_answer).collect())
}

fn by_answer(result: &probe::Probed) -> Option<Finding> {
    let (upstream, key) = (&result.upstream, result.key_in_words());
    match &result.outcome {
        // Told by `look` already.
        Outcome::Unusable(_) | Outcome::Answered(200..=299) => None,
        Outcome::Answered(status @ (401 | 403)) => Some(Finding::broken(
            "upstreams.refused",
            format!("upstream {upstream} refuses {key} ({status})"),
            format!("give it a valid one: turnpike upstream add '{upstream}' URL --key env:NAME"),
        )),
        Outcome::Answered(429) => Some(Finding::risk(
            "upstreams.exhausted",
            format!(
                "upstream {upstream} answers {key} with 429: its rate or its credit is used up"
            ),
            "raise the limit at the provider, top it up, or add another key",
        )),
        Outcome::Answered(status @ 500..) => Some(Finding::risk(
            "upstreams.failing",
            format!("upstream {upstream} answers {key} with {status}"),
            "see the provider's status page; run the doctor again",
        )),
        // It is there and took the key; some servers have no list of models.
        Outcome::Answered(_) => None,
        Outcome::Unreachable(why) => Some(Finding::broken(
            "upstreams.unreachable",
            format!("upstream {upstream} cannot be reached: {why}"),
            "see that its base URL and proxy are right and that this machine may reach it; `--offline` leaves this out",
        )),
    }
}

fn by_row(row: &UpstreamKeyRow) -> Option<Finding> {
    let UpstreamKeyRow {
        upstream,
        base_url,
        key,
    } = row;
    match key {
        KeyPlace::Table => None,
        KeyPlace::Missing => Some(without_key(
            &format!("upstream {upstream}"),
            base_url,
            format!("select turnpike.set_upstream('{upstream}', '{base_url}', key => 'env:NAME')"),
        )),
        // Whether it is there is the same in every dialect.
        KeyPlace::Outside(source) => places::credential(source, Dialect::OpenAi).err().map(|why| {
            Finding::broken(
                "upstreams.key",
                format!("upstream {upstream} cannot be asked, its key is not there: {why}"),
                format!("set it where the gateway runs, or name another place: select turnpike.set_upstream('{upstream}', '{base_url}', key => 'env:NAME') {SAME_ENVIRONMENT}"),
            )
        }),
    }
}

/// A model server of one's own, at http://, often wants none.
fn without_key(whose: &str, base_url: &str, remedy: String) -> Finding {
    let what = format!("{whose} has no key");
    if base_url.starts_with("https://") {
        Finding::risk("upstreams.key", what, remedy)
    } else {
        Finding::note(
            "upstreams.key",
            what,
            format!("nothing, if it wants none; else {remedy}"),
        )
    }
}

/// While table `turnpike.upstream` is empty, the settings say where requests go.
fn by_settings(settings: &Settings) -> Option<Finding> {
    let upstream = &settings.upstream;
    match (&upstream.openai_url, &upstream.openai_api_key) {
        (_, Some(key)) if serve::is_our_own(key, upstream) => Some(Finding::risk(
            "upstreams.key",
            "OPENAI_API_KEY is a Turnpike access token, which clients show, so the sandbox model answers",
            format!("set it to the provider's key where the gateway runs {SAME_ENVIRONMENT}"),
        )),
        (_, Some(_)) => None,
        (Some(url), None) => Some(without_key(
            "OPENAI_URL",
            url,
            format!("set OPENAI_API_KEY where the gateway runs {SAME_ENVIRONMENT}"),
        )),
        (None, None) => match azure::deployments(&settings.front_doors) {
            Ok(Some(_)) => None,
            Err(fatal) => Some(Finding::broken(
                "upstreams.settings",
                fatal.to_string(),
                "correct the setting where the gateway runs",
            )),
            Ok(None) => Some(Finding::note(
                "upstreams.none",
                "no provider is configured, so the built-in sandbox model answers",
                format!(
                    "set OPENAI_API_KEY, or select turnpike.set_upstream('openai', 'https://api.openai.com/v1', key => 'env:OPENAI_API_KEY') {SAME_ENVIRONMENT}"
                ),
            )),
        },
    }
}
