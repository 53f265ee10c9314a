//! The access log is what `deploy/logs.md` says of it, field by field and end by end.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use testkit::{
    raw::Wire,
    upstream::{Upstream, answer, json, sse_event, sse_head},
};

use crate::support::{Bank, Turnpike, eventually, post};

const CHAT: &str =
    r#"{"model":"gpt-4o","max_tokens":1,"messages":[{"role":"user","content":"Hello"}]}"#;
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
const ENDS: [&str; 5] = [
    "complete",
    "failed",
    "abandoned",
    "refused",
    "upstream_error",
];
/// What every JSON line has.
const OF_ALL: [&str; 4] = ["timestamp", "level", "target", "message"];

/// Fields by end: whether each must be there, or may.
type Documented = BTreeMap<&'static str, BTreeMap<String, bool>>;

fn documented() -> Documented {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/logs.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut fields: Documented = ENDS.iter().map(|end| (*end, BTreeMap::new())).collect();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        // The table of ends has two columns.
        let Some(at) = cells.get(3).filter(|_| cells.len() == 6) else {
            assert!(ENDS.contains(&name), "{name}");
            continue;
        };
        for end in ENDS {
            let is_there = at.split(',').map(str::trim).find_map(|cell| match cell {
                "every end" => Some(true),
                cell if cell == end => Some(true),
                cell if cell.strip_suffix('?') == Some(end) => Some(false),
                _ => None,
            });
            if let Some(must) = is_there {
                fields.get_mut(end).unwrap().insert(name.to_owned(), must);
            }
        }
    }
    assert!(fields["complete"].len() > 10, "{fields:?}");
    fields
}

/// `name=value name="a value"` after the message.
fn text_fields(line: &str) -> Option<BTreeMap<String, String>> {
    let (_, mut rest) = line.split_once("turnpike::record: exchange ")?;
    let mut fields = BTreeMap::new();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap(),
            None => after.split_at(after.find(' ').unwrap_or(after.len())),
        };
        fields.insert(name.trim().to_owned(), value.to_owned());
        rest = next;
    }
    Some(fields)
}

fn json_fields(line: &str) -> Option<BTreeMap<String, String>> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let line = line.as_object()?;
    if line["target"] != "turnpike::record" {
        return None;
    }
    assert_eq!(line["message"], "exchange");
    for name in OF_ALL {
        assert!(line.contains_key(name), "{name}");
    }
    let own = line
        .iter()
        .filter(|(name, _)| !OF_ALL.contains(&name.as_str()));
    for (name, value) in own.clone() {
        let is_number = name.ends_with("_bytes")
            || name.ends_with("_ms")
            || name.ends_with("_usd")
            || name == "status";
        assert_eq!(value.is_number(), is_number, "{name}: {value}");
    }
    Some(
        own.map(|(name, value)| (name.clone(), value.to_string()))
            .collect(),
    )
}

/// Answers by what the request's `max_tokens` is.
async fn upstream() -> Upstream {
    Upstream::scripted(|mut wire: Wire| async move {
        while wire.has_more().await {
            let (_, body) = wire.read_message().await;
            let body = String::from_utf8_lossy(&body).into_owned();
            let begun = [
                sse_head(),
                sse_event(r#"{"choices":[{"delta":{"content":"Hi"}}]}"#),
            ];
            if body.contains("\"max_tokens\":2") {
                wire.send(answer("400 Bad Request", &[], r#"{"error":{}}"#))
                    .await;
            } else if body.contains("\"max_tokens\":3") {
                wire.send(begun.concat()).await;
                return;
            } else if body.contains("\"max_tokens\":4") {
                wire.send(begun.concat()).await;
                wire.has_more().await;
                return;
            } else {
                wire.send(json(ANSWER)).await;
            }
        }
    })
    .await
}

async fn lines(format: &str) -> Vec<BTreeMap<String, String>> {
    let bank = Bank::open().await;
    let upstream = upstream().await;
    let settings = [
        ("LOG_FORMAT", format),
        ("DISCONNECT", "estimate"),
        ("DOOR_AGENT", "on"),
    ];
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &settings);
    let token = bank.token("").await;
    let path = "/v1/chat/completions";
    let asking = |tokens: u8| {
        CHAT.replace(
            "\"max_tokens\":1",
            &format!("\"stream\":true,\"max_tokens\":{tokens}"),
        )
    };
    turnpike.post(path, &token, CHAT).await;
    turnpike
        .call(format!(
            "GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        ))
        .await;
    turnpike.post("/chat", &token, r#"{"msg":"Hello"}"#).await;
    turnpike.post(path, "tp-nobody", CHAT).await;
    turnpike
        .post(path, &token, &CHAT.replace("gpt-4o", "unpriced"))
        .await;
    turnpike.post(path, &token, &asking(2)).await;
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post(path, &token, &asking(3))).await;
    wire.read_to_end().await;
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post(path, &token, &asking(4))).await;
    wire.read_until("Hi").await;
    wire.reset();
    let parse = if format == "json" {
        json_fields
    } else {
        text_fields
    };
    eventually("each end is logged", async || {
        let lines: Vec<_> = turnpike.log().lines().filter_map(parse).collect();
        let ends: BTreeSet<_> = lines
            .iter()
            .map(|line| line["end"].trim_matches('"').to_owned())
            .collect();
        (ends.len() == ENDS.len() && lines.len() >= 8).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn a_line_of_each_end_has_the_documented_fields_and_no_others() {
    let documented = documented();
    for format in ["json", "text"] {
        let mut seen = BTreeSet::new();
        for line in lines(format).await {
            let end = line["end"].trim_matches('"').to_owned();
            let fields = &documented[end.as_str()];
            for (name, must) in fields {
                assert!(
                    line.contains_key(name) || !must,
                    "{format}, {end}: {name} is missing: {line:?}"
                );
            }
            for name in line.keys() {
                assert!(
                    fields.contains_key(name),
                    "{format}, {end}: {name} is not documented: {line:?}"
                );
            }
            seen.extend(line.into_keys());
        }
        let all: BTreeSet<_> = documented
            .values()
            .flat_map(BTreeMap::keys)
            .cloned()
            .collect();
        assert_eq!(seen, all, "{format}: each is seen once at least");
    }
}
