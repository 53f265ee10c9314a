//! Which endpoint a request is for, and what it means for metering.

use http::Method;
use meter::Api;
use percent_encoding::percent_decode_str;

/// What a method and path ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Costs money; metered by this reader.
    Metered(Api),
    /// Costs nothing at the provider; relayed as it is.
    Free,
    /// The models this access token may use: answered by ourselves.
    Models,
    /// One of them.
    Model,
    /// Anything else: what it costs is not known.
    Unknown,
}

/// The base path under which clients call us; a path without it works as well.
const BASE: &str = "/v1";

/// One row: method, path below the base, what it is.
const TABLE: &[(Method, &str, Endpoint)] = &[
    (
        Method::POST,
        "/chat/completions",
        Endpoint::Metered(Api::ChatCompletions),
    ),
    (
        Method::POST,
        "/completions",
        Endpoint::Metered(Api::Completions),
    ),
    (
        Method::POST,
        "/embeddings",
        Endpoint::Metered(Api::Embeddings),
    ),
    (
        Method::POST,
        "/responses",
        Endpoint::Metered(Api::Responses),
    ),
    (Method::POST, "/responses/input_tokens", Endpoint::Free),
    (Method::POST, "/moderations", Endpoint::Free),
    (Method::GET, "/models", Endpoint::Models),
];

impl Endpoint {
    /// Looks up a method and a path (without query).
    pub(crate) fn find(method: &Method, path: &str) -> Self {
        let below = below_base(path);
        if let Some((_, _, endpoint)) = TABLE.iter().find(|(m, p, _)| m == method && *p == below) {
            return *endpoint;
        }
        match below.strip_prefix("/models/") {
            Some(model) if method == Method::GET && !model.is_empty() => Self::Model,
            _ => Self::Unknown,
        }
    }

    /// The name in charges, logs and metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Metered(Api::ChatCompletions) => "chat/completions",
            Self::Metered(Api::Completions) => "completions",
            Self::Metered(Api::Embeddings) => "embeddings",
            Self::Metered(Api::Responses) => "responses",
            Self::Free => "free",
            Self::Models | Self::Model => "models",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether some server could take the path for a metered one that it is not to us: in another case, escaped, with
/// slashes behind it, or under another base. Such a request would be answered and not charged.
pub(crate) fn resembles_metered(method: &Method, path: &str) -> bool {
    let plain = percent_decode_str(path).decode_utf8_lossy().to_lowercase();
    let plain = plain.trim_end_matches(['/', ' ', ';', '.']);
    TABLE.iter().any(|(metered, suffix, endpoint)| {
        metered == method && matches!(endpoint, Endpoint::Metered(_)) && plain.ends_with(suffix)
    })
}

/// The part of a path that is appended to an upstream's base: `/v1/chat/completions` → `/chat/completions`.
pub(crate) fn below_base(path: &str) -> &str {
    match path.strip_prefix(BASE) {
        Some(below) if below.is_empty() || below.starts_with('/') => below,
        _ => path,
    }
}

/// Whether two servers could read the path differently: dot segments (plain or escaped), empty
/// segments, backslashes, or control and space characters however escaped.
pub(crate) fn is_ambiguous(path: &str) -> bool {
    let decoded = percent_decode_str(path).collect::<Vec<u8>>();
    path.contains("//")
        || decoded
            .iter()
            .any(|byte| byte.is_ascii_control() || *byte == b'\\')
        || decoded
            .split(|byte| *byte == b'/')
            .any(|segment| matches!(segment, b"." | b".."))
        || path.to_ascii_lowercase().contains("%2f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metered_endpoints_are_found_with_and_without_the_base() {
        let chat = Endpoint::Metered(Api::ChatCompletions);
        assert_eq!(Endpoint::find(&Method::POST, "/v1/chat/completions"), chat);
        assert_eq!(Endpoint::find(&Method::POST, "/chat/completions"), chat);
        assert_eq!(
            Endpoint::find(&Method::POST, "/v1/responses"),
            Endpoint::Metered(Api::Responses)
        );
    }

    #[test]
    fn other_methods_and_look_alikes_are_unknown() {
        for (method, path) in [
            (Method::GET, "/v1/chat/completions"),
            (Method::POST, "/v1/chat/completions/"),
            (Method::POST, "/v1x/chat/completions"),
            (Method::POST, "/v1/Chat/Completions"),
            (Method::POST, "/v1/v1/chat/completions"),
            (Method::GET, "/v1/models/"),
            (Method::POST, "/v1/audio/speech"),
        ] {
            assert_eq!(
                Endpoint::find(&method, path),
                Endpoint::Unknown,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn look_alikes_of_metered_paths_are_told() {
        for path in [
            "/v1/%63hat/completions",
            "/v1/chat/completions/",
            "/v1/Chat/Completions",
            "/openai/v1/responses",
            "/v1/embeddings%20",
        ] {
            assert!(resembles_metered(&Method::POST, path), "{path}");
        }
        assert!(!resembles_metered(&Method::POST, "/v1/files"));
        assert!(!resembles_metered(&Method::GET, "/v1/chat/completions"));
    }

    #[test]
    fn models_are_answered_by_ourselves() {
        assert_eq!(Endpoint::find(&Method::GET, "/v1/models"), Endpoint::Models);
        assert_eq!(
            Endpoint::find(&Method::GET, "/v1/models/gpt-4o"),
            Endpoint::Model
        );
    }

    #[test]
    fn paths_that_two_servers_could_read_differently_are_ambiguous() {
        for path in [
            "/v1/../admin",
            "/v1/%2e%2e/x",
            "/v1//x",
            "/v1/a\\b",
            "/v1/%5c",
            "/v1/a%2Fb",
            "/v1/%0d%0a",
            "/v1/.",
        ] {
            assert!(is_ambiguous(path), "{path}");
        }
        for path in [
            "/v1/chat/completions",
            "/v1/models/ft:gpt-4o:org::id",
            "/v1/a.b/..c",
            "/v1/%20x",
        ] {
            assert!(!is_ambiguous(path), "{path}");
        }
    }
}
