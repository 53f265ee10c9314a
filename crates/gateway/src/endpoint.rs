//! Which endpoint a request is for, and what it means for metering.

use http::Method;
use percent_encoding::percent_decode_str;

mod kept;
mod table;
mod template;
mod work;

pub(crate) use self::{
    kept::{Act, Kind},
    table::{Billing, BodyKind, BoundBy, Does, Metered, Work},
};
use self::{
    table::{Row, TABLE},
    template::{Named, Template},
};

/// What a method and path ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'a> {
    /// `None`: what it costs is not known.
    row: Option<&'static Row>,
    /// What is appended to an upstream's base.
    pub(crate) below: &'a str,
    /// The deployment that the path names in place of a model (Azure), as it stands there.
    pub(crate) deployment: Option<&'a str>,
    /// The model whose description is asked for.
    pub(crate) described: Option<&'a str>,
    /// The segments that the row has names for.
    named: Named<'a>,
}

/// How often a path is unescaped in search of a metered one.
const UNESCAPED_MAX: usize = 3;
/// The base path under which clients call us; a path without it works as well.
const BASE: &str = "/v1";
/// Where a deployment's name stands in a path.
const DEPLOYMENTS: &str = "/deployments/";

impl<'a> Endpoint<'a> {
    /// Looks up a method and a path (without query).
    pub(crate) fn find(method: &Method, path: &'a str) -> Self {
        let found = rows()
            .filter(|row| row.method == *method)
            .filter_map(|row| Some((row, Template(row.path).end_of(path)?)))
            .filter(|(_, end)| is_base(end.base))
            .max_by_key(|(row, _)| Template(row.path).weight());
        let unknown = Self {
            row: None,
            below: below_base(path),
            deployment: None,
            described: None,
            named: Named::default(),
        };
        if let Some((row, end)) = found {
            let base = end.base;
            let deployment = base.rsplit_once(DEPLOYMENTS).map(|(_, name)| name);
            return Self {
                row: Some(row),
                below: path.get(base.len()..).unwrap_or(path),
                deployment: deployment.filter(|name| !name.is_empty() && !name.contains('/')),
                described: None,
                named: end.named,
            };
        }
        let models = TABLE.iter().find(|row| row.does == Does::Models);
        match unknown.below.strip_prefix("/models/") {
            Some(model) if *method == Method::GET && !model.is_empty() => Self {
                row: models,
                described: Some(model),
                ..unknown
            },
            _ => unknown,
        }
    }

    /// What it means for metering; `None` if nobody knows.
    pub(crate) fn does(&self) -> Option<Does> {
        self.row.map(|row| row.does)
    }

    /// The name in charges, logs and metrics.
    pub(crate) fn name(&self) -> &'static str {
        self.row.map_or("unknown", |row| row.name)
    }

    /// The objects that the path names, outermost first: each must be the caller's.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (Kind, &'a str)> + use<'a> {
        let named = self.named.outermost_first();
        named.filter_map(|(name, id)| Some((Kind::named(name)?, id)))
    }

    /// Whether its clients parse Anthropic's errors and not OpenAI's.
    pub(crate) fn is_anthropic(&self) -> bool {
        self.row
            .is_some_and(|row| row.path.starts_with("/messages"))
    }
}

/// Every row there is.
fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().chain(work::ROWS)
}

/// Whether a path in front of an endpoint's own is a base path: plain segments, which no server reads otherwise.
fn is_base(base: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    base.is_empty() || (base.starts_with('/') && base.bytes().all(is_plain))
}

/// Whether some server could take the path for one of the table that it is not to us: in another case, escaped, or with
/// slashes behind it. Such a request would be answered and not charged, or show what is another's.
pub(crate) fn resembles_metered(method: &Method, path: &str) -> bool {
    let mut plain = path.to_owned();
    // Escapes of escapes: some server on the way may open them once more.
    for _ in 0..UNESCAPED_MAX {
        plain = percent_decode_str(&plain).decode_utf8_lossy().into_owned();
    }
    // What stands behind these in a segment (`;jsessionid=…`) is no part of its name to some.
    let segments: Vec<_> = plain
        .split('/')
        .map(|segment| {
            segment
                .split([';', '?', '#'])
                .next()
                .unwrap_or_default()
                .trim_end_matches([' ', '.'])
        })
        .collect();
    let plain = segments.join("/").to_lowercase();
    let plain = plain.trim_end_matches('/');
    let matters = |row: &Row| {
        matches!(
            row.does,
            Does::Metered(_)
                | Does::Refused
                | Does::Unmetered
                | Does::Socket(_)
                | Does::Kept(_)
                | Does::Work(_)
        )
    };
    rows().any(|row| {
        row.method == *method && matters(row) && Template(row.path).resembles_end_of(plain)
    })
}

/// The part of a path that is appended to an upstream's base: `/v1/chat/completions` → `/chat/completions`.
pub(crate) fn below_base(path: &str) -> &str {
    match path.strip_prefix(BASE) {
        Some(below) if below.is_empty() || below.starts_with('/') => below,
        _ => path,
    }
}

/// Whether two servers could read the path differently: none (`*`), dot segments (plain or escaped), empty
/// segments, backslashes, or control and space characters however escaped.
pub(crate) fn is_ambiguous(path: &str) -> bool {
    let decoded = percent_decode_str(path).collect::<Vec<u8>>();
    !path.starts_with('/')
        || path.contains("//")
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

    fn found(method: Method, path: &str) -> (&'static str, &str, Option<&str>) {
        let endpoint = Endpoint::find(&method, path);
        (endpoint.name(), endpoint.below, endpoint.deployment)
    }

    #[test]
    fn endpoints_are_found_under_any_base() {
        for base in [
            "",
            "/v1",
            "/openai/v1",
            "/api/v1",
            // Gemini's and Vertex' compatible endpoints, and Azure's AI services.
            "/v1beta/openai",
            "/v1/projects/p-1/locations/us-central1/endpoints/openapi",
            "/models",
        ] {
            let path = format!("{base}/chat/completions");
            let chat = ("chat/completions", "/chat/completions", None);
            assert_eq!(found(Method::POST, &path), chat);
        }
        assert_eq!(
            found(Method::POST, "/v1/responses/compact"),
            ("responses/compact", "/responses/compact", None)
        );
        assert_eq!(
            found(Method::POST, "/v1/completions"),
            ("completions", "/completions", None)
        );
    }

    #[test]
    fn a_deployment_in_the_path_is_told() {
        assert_eq!(
            found(Method::POST, "/openai/deployments/my-gpt/chat/completions"),
            ("chat/completions", "/chat/completions", Some("my-gpt"))
        );
        assert_eq!(
            found(Method::POST, "/openai/deployments/chat/completions").2,
            None
        );
    }

    #[test]
    fn other_methods_and_look_alikes_are_unknown() {
        for (method, path) in [
            (Method::PUT, "/v1/chat/completions"),
            (Method::POST, "/v1/chat/completions/"),
            (Method::POST, "/v1/Chat/Completions"),
            (Method::POST, "/v1%20/chat/completions"),
            (Method::POST, "v1/chat/completions"),
            (Method::POST, "/v1/xchat/completionx"),
            (Method::GET, "/v1/models/"),
            (Method::POST, "/v1/skills"),
        ] {
            assert_eq!(
                Endpoint::find(&method, path).does(),
                None,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn names_that_hand_out_keys_are_sold_only_where_the_operator_says_so() {
        let secrets = Endpoint::find(&Method::POST, "/v1/realtime/client_secrets");
        assert_eq!(secrets.does(), Some(Does::Unmetered));
    }

    #[test]
    fn look_alikes_of_metered_paths_are_told() {
        for path in [
            "/v1/%63hat/completions",
            "/v1/chat/completions/",
            "/v1/Chat/Completions",
            "/v1/realtime/Sessions",
            "/v1/embeddings%20",
            "/v1/chat/completions;x",
            "/v1/chat;x=y/completions",
            "/v1/chat/completions%3fx",
            "/v1/%2563hat/completions",
        ] {
            assert!(resembles_metered(&Method::POST, path), "{path}");
        }
        assert!(!resembles_metered(&Method::POST, "/v1/skills"));
        assert!(!resembles_metered(&Method::PUT, "/v1/chat/completions"));
        for path in ["/v1/responses/resp%5F1", "/v1/Responses/resp_1/"] {
            assert!(resembles_metered(&Method::GET, path), "{path}");
        }
        assert!(!resembles_metered(&Method::GET, "/v1/skills/skill_1"));
    }

    #[test]
    fn objects_in_paths_are_told_and_the_longest_row_wins() {
        let told = |method: Method, path| {
            let endpoint = Endpoint::find(&method, path);
            (endpoint.name(), endpoint.objects().collect::<Vec<_>>())
        };
        let one = vec![(Kind::Response, "resp_1")];
        assert_eq!(
            told(Method::GET, "/openai/v1/responses/resp_1"),
            ("responses/get", one.clone())
        );
        assert_eq!(
            told(Method::POST, "/responses/resp_1/cancel"),
            ("responses/cancel", one)
        );
        // An id is an id, whatever else the path could end in.
        assert_eq!(
            told(Method::POST, "/v1/conversations/responses"),
            (
                "conversations/update",
                vec![(Kind::Conversation, "responses")]
            )
        );
        assert_eq!(
            told(Method::GET, "/v1/conversations/conv_1/items/msg_1"),
            ("conversations/items", vec![(Kind::Conversation, "conv_1")])
        );
        assert_eq!(
            told(Method::POST, "/v1/responses/compact"),
            ("responses/compact", vec![])
        );
    }

    #[test]
    fn names_in_paths_are_kinds() {
        for row in rows() {
            for name in Template(row.path).names() {
                assert!(name == "id" || Kind::named(name).is_some(), "{}", row.path);
            }
        }
    }

    #[test]
    fn models_are_answered_by_ourselves() {
        let list = Endpoint::find(&Method::GET, "/v1/models");
        assert_eq!((list.does(), list.described), (Some(Does::Models), None));
        let one = Endpoint::find(&Method::GET, "/v1/models/openai/gpt-4o");
        assert_eq!(
            (one.does(), one.described),
            (Some(Does::Models), Some("openai/gpt-4o"))
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
            "*",
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
