//! Azure as resale-chatgpt-azure was set up for it: deployments named by variables.

use std::sync::Arc;

use http::HeaderName;
use ledger::{CostBy, Dialect};
use proxy::{Egress, Target, headers::Credential};

use crate::{
    fatal::{Code, Fatal},
    places::Place,
    settings::{FrontDoors, Secret},
};

/// The deployment, and the model it serves, where `GPT_MODEL_NAME` is not set.
pub(crate) const DEPLOYMENT: &str = "gpt-4o";
/// The second deployment, behind `AZURE_OPENAI_KEY_TURBO`.
const TURBO: &str = "gpt-35-turbo-16k";
/// The API's version where `GPT_VERSION` is not set.
const VERSION: &str = "2024-10-21";
/// Azure's header for keys.
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Azure's deployments: the one that serves any model, and one for a model of its own.
pub(crate) struct Deployments {
    pub(crate) main: Place,
    pub(crate) second: Option<(&'static str, Place)>,
}

/// What the settings name, if they name Azure.
///
/// # Errors
/// When what they name cannot be used.
pub(crate) fn deployments(doors: &FrontDoors) -> Result<Option<Deployments>, Fatal> {
    let Some(endpoint) = doors.azure() else {
        return Ok(None);
    };
    let name = doors.gpt_model_name.as_deref().unwrap_or(DEPLOYMENT);
    let main = place(doors, endpoint, name, doors.azure_openai_key.as_ref())?;
    let second = match &doors.azure_openai_key_turbo {
        Some(key) => Some((TURBO, place(doors, endpoint, TURBO, Some(key))?)),
        None => None,
    };
    Ok(Some(Deployments { main, second }))
}

fn place(
    doors: &FrontDoors,
    endpoint: &str,
    deployment: &str,
    key: Option<&Secret>,
) -> Result<Place, Fatal> {
    let unusable = |setting: &str, why: &dyn std::fmt::Display| {
        Fatal::new(Code::Config, format!("{setting} cannot be used: {why}"))
    };
    let url = format!(
        "{}/openai/deployments/{deployment}",
        endpoint.trim_end_matches('/')
    );
    let credential = key
        .map(|key| Credential::named(API_KEY, key.expose()))
        .transpose()
        .map_err(|_| {
            unusable(
                "AZURE_OPENAI_KEY",
                &"it has characters that a header cannot carry",
            )
        })?;
    let version = doors.gpt_version.as_deref().unwrap_or(VERSION);
    Ok(Place {
        id: None,
        key_id: None,
        name: format!("AZURE_OPENAI_ENDPOINT/{deployment}"),
        target: Target::parse(&url).map_err(|error| unusable("AZURE_OPENAI_ENDPOINT", &error))?,
        egress: Egress::Direct,
        credential,
        // The deployment and the version stand in the URL already, and the key's header in the credential.
        dialect: Dialect::OpenAi,
        cost: CostBy::Price,
        query: Some(format!("api-version={version}")),
        health: Arc::default(),
    })
}
