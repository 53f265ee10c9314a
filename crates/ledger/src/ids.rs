//! Primary keys as types, so that no two can be swapped.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, serde::Serialize)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Who pays: `turnpike.account.id`.
    AccountId
}
id! {
    /// An access token's row, `turnpike.access_token.id`; never the secret.
    TokenId
}
id! {
    /// An upstream: `turnpike.upstream.id`.
    UpstreamId
}
id! {
    /// A key of an upstream: `turnpike.upstream_key.id`.
    UpstreamKeyId
}
id! {
    /// A running process: `turnpike.instance.id`.
    InstanceId
}
