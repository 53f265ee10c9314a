//! The arguments of `turnpike health`.

use clap::Args;

/// What a probe wants to know.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Health {
    /// Ask whether it takes exchanges (/readyz), not only whether it lives (/healthz).
    #[arg(long)]
    pub(crate) ready: bool,
}
