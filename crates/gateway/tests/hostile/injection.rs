//! Names made to forge log lines or statements: each record stays a line, each value a value.

use testkit::upstream::{Upstream, json};

use crate::support::{Bank, Turnpike, eventually};

/// As JSON has it in a string.
const NAMES: [&str; 8] = [
    r"evil\n2026-01-01T00:00:00Z  INFO turnpike: forged=1",
    r"evil\r\nexchange=forged",
    r"evil\u001b[2J\u001b[31mred",
    r"evil'; drop table turnpike.charge; --",
    r#"evil\"; drop schema turnpike cascade; --"#,
    r"evil$1 $$ %s {} {forged}",
    r"evil\u2028forged\u0085forged",
    r"evil\\x00\u007f\u0007",
];

fn chat(model: &str, name: &str) -> String {
    format!(
        r#"{{"model":"{model}","max_tokens":1,"user":"{name}","metadata":{{"{name}":"{name}"}},"messages":[{{"role":"user","content":"{name}"}}]}}"#
    )
}

/// What an upstream says is no safer: its model and id go into the charge.
fn answer(name: &str) -> String {
    format!(
        r#"{{"id":"{name}","model":"{name}","choices":[],"usage":{{"prompt_tokens":1,"completion_tokens":1,"note":"{name}"}}}}"#
    )
}

#[tokio::test]
async fn whatever_is_in_a_name_a_record_is_a_line_and_a_value_a_value() {
    for format in ["text", "json"] {
        let bank = Bank::open().await;
        bank.sql
            .batch_execute("select turnpike.set_price('evil*', input => 1, output => 1, context_window => 1000, output_max => 1000)")
            .await
            .unwrap();
        let upstream = Upstream::scripted(|mut wire| async move {
            while wire.has_more().await {
                let (_, body) = wire.read_message().await;
                let body = String::from_utf8(body).unwrap();
                let name = NAMES.iter().find(|name| body.contains(*name)).unwrap();
                wire.send(json(&answer(name))).await;
            }
        })
        .await;
        let turnpike = Turnpike::start(
            &bank.db,
            &upstream.url(),
            &[
                ("LOG_FORMAT", format),
                ("LOG_LEVEL", "turnpike=trace,ledger=trace,proxy=trace,info"),
            ],
        );
        let token = bank.token("").await;
        let mut kept = vec!["evil".to_owned()];
        let mut wanted = 0;
        for name in NAMES {
            let decoded: String = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            let path = "/v1/chat/completions";
            let (head, _) = turnpike.post(path, &token, &chat("evil", name)).await;
            assert_eq!(head.status(), 200, "{name}");
            // A model's name goes into the charge; one with control characters is no name.
            let (head, _) = turnpike.post(path, &token, &chat(name, name)).await;
            let is_name = !decoded.contains(char::is_control);
            assert_eq!(head.status(), if is_name { 200 } else { 400 }, "{name}");
            wanted += 1 + i64::from(is_name);
            kept.extend(is_name.then_some(decoded));
            let unpriced = chat(&name.replace("evil", "other"), name);
            let (head, _) = turnpike.post(path, &token, &unpriced).await;
            assert_eq!(head.status(), if is_name { 404 } else { 400 }, "{name}");
        }
        assert!(kept.len() > 3);
        let null = chat(r"evil\u0000null", "evil");
        let (head, _) = turnpike.post("/v1/chat/completions", &token, &null).await;
        assert_eq!(head.status(), 400);
        for path in [
            "/v1/models/evil'%0aforged%1b[2J",
            "/v1/x%0d%0aINFO%20forged",
            "/v1/models/%00",
            "/v1/chat/completions?a=';drop%20table%20turnpike.hold;--",
        ] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nUser-Agent: forged\x1b[2J'; --\r\n\r\n"
            );
            turnpike.call(request).await;
        }
        for shown in [
            "'; drop table turnpike.access_token; --",
            "tp-\u{e9}",
            "%00",
            "$1",
        ] {
            let (head, _) = turnpike
                .post("/v1/chat/completions", shown, &chat("evil", "evil"))
                .await;
            assert_eq!(head.status(), 401, "{shown}");
        }
        eventually("all is charged", async || {
            let charges: i64 = bank.one("select count(*) from turnpike.charge").await;
            (charges == wanted).then_some(())
        })
        .await;
        bank.audited().await;
        let rows = bank
            .sql
            .query("select distinct model_requested from turnpike.charge", &[])
            .await
            .unwrap();
        let mut charged: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        charged.sort_unstable();
        kept.sort_unstable();
        assert_eq!(charged, kept);
        each_record_is_a_line(&turnpike.log(), format);
    }
}

fn each_record_is_a_line(log: &str, format: &str) {
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!log.contains(control), "{log:?}");
    // What is printed for people at the start is not a record.
    let banner = ["Turnpike is open", "  ", "Clients set", "Tokens are"];
    let records = log
        .lines()
        .filter(|line| !line.is_empty() && !banner.iter().any(|start| line.starts_with(start)));
    let mut count = 0;
    for line in records {
        count += 1;
        if format == "json" {
            serde_json::from_str::<serde_json::Value>(line)
                .unwrap_or_else(|error| panic!("{error}: {line:?}"));
        } else {
            let is_record = line.starts_with("20") && line.as_bytes().get(4) == Some(&b'-');
            assert!(
                is_record && !line.starts_with("2026-01-01T00:00:00Z"),
                "{line:?}"
            );
        }
    }
    assert!(count > NAMES.len(), "{log}");
}
