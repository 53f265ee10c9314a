//! What the operator sets about the front doors; the earlier systems' own names where they had one.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use base64::Engine as _;
use fronts::{ChatbotSettings, CompleteSettings, Language, ResaleSettings, Seal, SimpleSettings};
use serde::Deserialize;

use super::{Secret, SettingsError};
use crate::azure;

/// Which front doors are open, and how each is set.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Doors {
    /// chatgpt-agent's `POST /chat` and `GET /data/week`: `on` or `off`.
    #[serde(default)]
    pub(crate) door_agent: Switch,
    /// resale-chatgpt-azure's `/chatgpt`, `/generate-token`, `/update-token`, `/tokens`, `/dialog-history`: `on` or `off`.
    #[serde(default)]
    pub(crate) door_resale: Switch,
    /// docker-chatgpt's `POST /ROUTE`: `on` or `off`.
    #[serde(default)]
    pub(crate) door_simple: Switch,
    /// chat_gpt_proxy's `POST /chat_complete`: `on` or `off`.
    #[serde(default)]
    pub(crate) door_complete: Switch,
    /// chatgpt_chatbot's gRPC service, and its HTTP mode's `POST /renew` and `POST /ask`: `on` or `off`.
    #[serde(default)]
    pub(crate) door_chatbot: Switch,
    /// Longest request body at a front door, in bytes: doors read a body whole.
    #[serde(default = "door_body_bytes_max")]
    pub(crate) door_body_bytes_max: NonZeroUsize,
    /// Trusted proxies between clients and us, each of which adds an address to `X-Forwarded-For`. 0: that header means nothing.
    #[serde(default)]
    pub(crate) door_proxies: usize,
    /// 32 bytes in base64 or hexadecimal: seals dialogs at rest. Unset: they are kept as they are.
    pub(crate) dialog_key: Option<Secret>,
    /// Days that a dialog is kept after its last turn.
    #[serde(default = "dialog_days")]
    pub(crate) dialog_days: NonZeroU32,
    /// resale: the provider, where `OPENAI_URL` is not set: `https://NAME.openai.azure.com`.
    pub(crate) azure_openai_endpoint: Option<String>,
    /// resale: the key for it.
    pub(crate) azure_openai_key: Option<Secret>,
    /// resale: the key for a second deployment, `gpt-35-turbo-16k`.
    pub(crate) azure_openai_key_turbo: Option<Secret>,
    /// resale: the version of Azure's API.
    pub(crate) gpt_version: Option<String>,
    /// resale: the deployment, and the model where a caller names none.
    pub(crate) gpt_model_name: Option<String>,
    /// simple: what is shown where a caller shows no `api_key`: an access token, or a provider key with `SIMPLE_TOKEN`.
    pub(crate) api_key: Option<Secret>,
    /// simple: the path.
    pub(crate) route: Option<String>,
    /// simple: calls of one address in an hour; unset, 0 or no number is no limit.
    pub(crate) hour_limit: Option<String>,
    /// simple: calls of one address in a minute.
    pub(crate) minute_limit: Option<String>,
    /// simple: calls of one address in a second.
    pub(crate) second_limit: Option<String>,
    /// simple: in which messages are: `en_US`, `ru_RU`, `zh_CN`, `zh_TW`; English for any other.
    pub(crate) lang: Option<String>,
    /// simple: the access token that calls with a provider key of their own are charged to.
    pub(crate) simple_token: Option<Secret>,
    /// simple: the model where a caller names none.
    #[serde(default = "simple_model")]
    pub(crate) simple_model: String,
    /// simple: the provider, where `OPENAI_URL` is not set.
    pub(crate) openai_api_base: Option<String>,
    /// complete: a shared key that callers may show instead of an access token.
    pub(crate) access_key: Option<Secret>,
    /// complete: the access token that calls with `ACCESS_KEY` are charged to.
    pub(crate) complete_token: Option<Secret>,
    /// complete: the provider, where `OPENAI_URL` is not set.
    pub(crate) openai_base_url: Option<String>,
    /// chatbot: any value lets the service describe itself to tools such as grpcurl.
    pub(crate) grpc_reflection: Option<String>,
    /// chatbot: seconds between two chats of one key in sessions of version 1, and in HTTP mode.
    #[serde(default = "chatgpt_cooldown")]
    pub(crate) chatgpt_cooldown: u32,
    /// chatbot: the same in sessions of version 3.
    #[serde(default = "chatgpt_v3_cooldown")]
    pub(crate) chatgpt_v3_cooldown: u32,
    /// chatbot: the model.
    #[serde(default = "gpt_engine")]
    pub(crate) gpt_engine: String,
    /// chatbot: live sessions of one key.
    #[serde(default = "chatbot_sessions_max")]
    pub(crate) chatbot_sessions_max: NonZeroU32,
    /// chatbot: seconds after which an unused session is over.
    #[serde(default = "chatbot_idle_seconds")]
    pub(crate) chatbot_idle_seconds: NonZeroU32,
    /// chatbot: the access token of HTTP callers who show none.
    pub(crate) chatbot_token: Option<Secret>,
    /// chatbot: the provider, where `OPENAI_URL` is not set.
    pub(crate) api_url: Option<String>,
}

/// Open or shut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Switch {
    /// Its paths are as unknown as any other.
    #[default]
    Off,
    /// It is open.
    On,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// What everybody tries first.
const WELL_KNOWN_KEY: &str = "123456";

impl Doors {
    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        self.seal()?;
        if !self.door_complete.is_on() {
            return Ok(());
        }
        let Some(key) = &self.access_key else {
            return Ok(());
        };
        if self.complete_token.is_none() {
            return Err(SettingsError::new(
                "ACCESS_KEY needs COMPLETE_TOKEN: the access token that calls with it are charged to".into(),
            ));
        }
        if key.expose() == WELL_KNOWN_KEY {
            return Err(SettingsError::new(
                "ACCESS_KEY is the one that everybody knows: choose another, and tell your callers"
                    .into(),
            ));
        }
        Ok(())
    }

    /// The provider as an earlier system named it, if its door is open.
    pub(super) fn provider(&self) -> Option<&String> {
        let named = |switch: Switch, url| if switch.is_on() { url } else { None };
        named(self.door_simple, self.openai_api_base.as_ref())
            .or_else(|| named(self.door_complete, self.openai_base_url.as_ref()))
            .or_else(|| named(self.door_chatbot, self.api_url.as_ref()))
    }

    /// The doors' own settings.
    pub(crate) fn fronts(&self) -> fronts::Settings {
        fronts::Settings {
            agent: self.door_agent.is_on(),
            resale: self.door_resale.is_on().then(|| ResaleSettings {
                model: self
                    .gpt_model_name
                    .clone()
                    .unwrap_or_else(|| azure::DEPLOYMENT.to_owned()),
            }),
            chatbot: self.door_chatbot.is_on().then(|| self.chatbot()),
            seal: self.seal().unwrap_or_default(),
            simple: self.door_simple.is_on().then(|| self.simple()),
            complete: self.door_complete.is_on().then(|| CompleteSettings {
                shared: owned(&self.access_key).zip(owned(&self.complete_token)),
            }),
        }
    }

    /// How long dialogs of each door are kept after their last turn.
    pub(crate) fn retention(&self) -> [(&'static str, Duration); 2] {
        let days = DAY.saturating_mul(self.dialog_days.get());
        let idle = seconds(self.chatbot_idle_seconds.get());
        [("resale", days), ("chatbot", days.min(idle))]
    }

    /// Azure's address, if door resale is open and named one.
    pub(crate) fn azure(&self) -> Option<&str> {
        let endpoint = self.azure_openai_endpoint.as_deref();
        endpoint.filter(|_| self.door_resale.is_on())
    }

    /// How dialogs are kept.
    pub(crate) fn seal(&self) -> Result<Seal, SettingsError> {
        let Some(key) = &self.dialog_key else {
            return Ok(Seal::default());
        };
        key_bytes(key.expose().trim())
            .map(|key| Seal::new(&key))
            .ok_or_else(|| {
                SettingsError::new(
                    "DIALOG_KEY is not 32 bytes in base64 or hexadecimal: make one by `openssl rand -base64 32`"
                        .into(),
                )
            })
    }

    fn chatbot(&self) -> ChatbotSettings {
        ChatbotSettings {
            model: self.gpt_engine.clone(),
            cooldown: seconds(self.chatgpt_cooldown),
            cooldown_v3: seconds(self.chatgpt_v3_cooldown),
            sessions_max: self.chatbot_sessions_max.get(),
            idle: seconds(self.chatbot_idle_seconds.get()),
            reflection: self.grpc_reflection.is_some(),
            token: owned(&self.chatbot_token),
        }
    }

    fn simple(&self) -> SimpleSettings {
        SimpleSettings {
            route: self.route.clone().unwrap_or_default(),
            api_key: owned(&self.api_key),
            token: owned(&self.simple_token),
            model: self.simple_model.clone(),
            per_hour: lenient(self.hour_limit.as_deref()),
            per_minute: lenient(self.minute_limit.as_deref()),
            per_second: lenient(self.second_limit.as_deref()),
            language: self
                .lang
                .as_deref()
                .map_or(Language::default(), Language::of_lang),
        }
    }
}

impl Switch {
    pub(crate) const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}

fn key_bytes(text: &str) -> Option<[u8; 32]> {
    if text.len() == 64 {
        let mut key = [0; 32];
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        return Some(key);
    }
    let key = base64::engine::general_purpose::STANDARD.decode(text);
    key.ok()?.try_into().ok()
}

/// A limit as docker-chatgpt read it: what is no positive number is no limit.
fn lenient(text: Option<&str>) -> u32 {
    text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn owned(secret: &Option<Secret>) -> Option<String> {
    secret.as_ref().map(|secret| secret.expose().to_owned())
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

const fn chatgpt_cooldown() -> u32 {
    75
}
const fn chatgpt_v3_cooldown() -> u32 {
    15
}
fn gpt_engine() -> String {
    "gpt-3.5-turbo".into()
}
const fn chatbot_sessions_max() -> NonZeroU32 {
    NonZeroU32::new(10).expect("is not zero")
}
const fn chatbot_idle_seconds() -> NonZeroU32 {
    NonZeroU32::new(1800).expect("is not zero")
}
const fn dialog_days() -> NonZeroU32 {
    NonZeroU32::new(30).expect("is not zero")
}
const fn door_body_bytes_max() -> NonZeroUsize {
    NonZeroUsize::new(8 * 1024 * 1024).expect("is not zero")
}
fn simple_model() -> String {
    "gpt-4o-mini".into()
}
