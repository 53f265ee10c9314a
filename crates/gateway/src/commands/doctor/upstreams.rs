//! What the doctor thinks of the keys that requests carry upstream. It looks where they stand, and tells none.

use ledger::{
    Dialect, LedgerError,
    admin::{Admin, KeyPlace, UpstreamKeyRow},
};

use super::Finding;
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
