//! How work is followed that goes on when its request is over.

use std::{num::NonZeroU32, time::Duration};

use serde::Deserialize;

/// Background responses and their like.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Jobs {
    /// Seconds until a provider is first asked how its work stands; then ever longer, up to a minute.
    #[serde(default = "job_poll_seconds")]
    pub(crate) job_poll_seconds: NonZeroU32,
    /// Jobs whose provider is asked at once, by each process.
    #[serde(default = "jobs_at_once")]
    pub(crate) jobs_at_once: NonZeroU32,
    /// Hours after which a background response that has not ended is charged what was held for it.
    #[serde(default = "background_hours_max")]
    pub(crate) background_hours_max: NonZeroU32,
}

impl Jobs {
    /// When a provider is first asked.
    pub(crate) fn poll_after(&self) -> Duration {
        Duration::from_secs(self.job_poll_seconds.get().into())
    }

    /// When a background response is given up.
    pub(crate) fn background_max(&self) -> Duration {
        Duration::from_hours(self.background_hours_max.get().into())
    }
}

fn job_poll_seconds() -> NonZeroU32 {
    NonZeroU32::new(5).expect("is not zero")
}

fn jobs_at_once() -> NonZeroU32 {
    NonZeroU32::new(16).expect("is not zero")
}

fn background_hours_max() -> NonZeroU32 {
    NonZeroU32::new(24).expect("is not zero")
}
