//! Names of models that resemble one that is priced or allowed: never a cheaper price than what is run.

use testkit::raw::Head;

use super::{Court, JSON, Sent};
use crate::support::eventually;

/// What a JSON string may say that some upstream could take for `gpt-4o-mini` (or for `gpt-4o`).
fn lookalikes() -> Vec<String> {
    let mut names = Vec::new();
    for model in ["gpt-4o-mini", "gpt-4o"] {
        for (before, after) in [
            (" ", ""),
            ("", " "),
            ("\\t", ""),
            ("", "\\n"),
            ("", "\\u0000"),
            ("\\u0000", ""),
            ("", "\\u0000x"),
            ("", "\\r\\n"),
            ("/", ""),
            ("", "/"),
            ("./", ""),
            ("../", ""),
            ("openai/", ""),
            ("models/", ""),
            ("x/../", ""),
            ("", ":free"),
            ("", ":nitro"),
            ("", "@latest"),
            ("", "#x"),
            ("", "?x"),
            ("", ";x"),
            ("", ","),
            ("", ",gpt-4o"),
            ("%20", ""),
            ("", "%00"),
            ("", "%20"),
            ("\\ufeff", ""),
            ("", "\\u200b"),
            ("\\u00a0", ""),
            ("", "\\u00a0"),
            ("\\u202e", ""),
            ("", "\\u0301"),
            ("", "\\u2028"),
            ("~", ""),
            ("^", ""),
            ("", "*"),
            ("\\\"", ""),
            ("", "\\\\"),
            ("", "'"),
            ("ft:", ":org::id"),
        ] {
            names.push(format!("{before}{model}{after}"));
        }
        for (plain, other) in [
            ("gpt", "GPT"),
            ("gpt", "Gpt"),
            ("-", "\\u2010"),
            ("-", "\\u2011"),
            ("-", "\\u2212"),
            ("-", "_"),
            ("-", " "),
            ("-", ""),
            ("-", "%2d"),
            ("o", "\\u043e"),
            ("o", "0"),
            ("o", "\\uff4f"),
            ("p", "\\u0440"),
            ("4", "\\u0664"),
            ("4", "\\uff14"),
            ("g", "%67"),
            ("g", "\\uff47"),
            ("t", "\\u200dt"),
        ] {
            names.push(model.replacen(plain, other, 1));
        }
        names.push(format!("{model}{}", "x".repeat(600)));
    }
    names
}

/// Neither an allow-list nor the price table takes a look-alike for the model itself.
#[tokio::test]
async fn a_lookalike_of_a_model_is_another_model() {
    let mut court = Court::open("").await;
    let allowed = court.bank.token(", models => '{gpt-4o-mini}'").await;
    let any = court.token.clone();
    let names = lookalikes();
    for token in [allowed, any] {
        court.token = token;
        for name in &names {
            for padding in ["", &"x".repeat(100_000)] {
                // A long body need not be tried with each of them.
                if !padding.is_empty() && !name.contains('%') {
                    continue;
                }
                let body = format!(r#"{{"model":"{name}","messages":["{padding}"]}}"#);
                let (status, code) = court
                    .send("/v1/chat/completions", JSON, body.as_bytes(), Sent::Whole)
                    .await;
                let is_refused = (status == 404 && code == "model_not_found")
                    || (status == 400 && matches!(&*code, "control_character" | "string_too_long"));
                assert!(is_refused, "{name}: {status} {code}");
                court.nothing_complete(body.as_bytes());
            }
        }
    }
    court.close("names of models", names.len()).await;
}

/// The allow-list's pattern allows what begins so, and the price is that of the whole name or none.
#[tokio::test]
async fn a_name_that_a_pattern_allows_still_needs_its_own_price() {
    let mut court = Court::open("").await;
    court.token = court.bank.token(", models => '{gpt-4o*}'").await;
    for name in [
        "gpt-4o-audio-preview-x",
        "gpt-4o ",
        "gpt-4o/../o1-pro",
        "gpt-4o\\u0020",
        "gpt-4o:free",
        "gpt-4o,o1-pro",
    ] {
        let body = format!(r#"{{"model":"{name}","messages":[]}}"#);
        let got = court
            .send("/v1/chat/completions", JSON, body.as_bytes(), Sent::Whole)
            .await;
        assert_eq!(got, (404, "model_not_found".to_owned()), "{name}");
    }
    court.nothing_complete(b"");
    court.close("names that patterns allow", 6).await;
}

/// Names in paths (Azure's deployments) are decoded once, and priced as what they are then.
#[tokio::test]
async fn a_deployment_in_a_path_is_priced_by_its_name() {
    let court = Court::open("").await;
    let base = format!("{}/openai", court.upstream.url());
    let azure = "select turnpike.set_upstream('azure', $1, key => 'its-key', dialect => 'azure')";
    court.bank.sql.query(azure, &[&base]).await.unwrap();
    eventually("the upstream is known", async || {
        let (head, _) = court
            .turnpike
            .post(
                "/openai/deployments/gpt-4o/chat/completions",
                &court.token,
                r#"{"messages":[]}"#,
            )
            .await;
        (head.status() == 200).then_some(())
    })
    .await;
    let body = r#"{"messages":[]}"#;
    for (name, status) in [
        ("gpt-4o", 200),
        ("GPT-4o", 404),
        ("gpt%2D4o", 404),
        ("gpt-4o%20", 404),
        ("gpt-4o%00", 404),
        ("gpt-4o%2F..%2Fo1", 404),
        ("gpt-4o;x", 404),
        ("..", 404),
        ("", 404),
    ] {
        let (head, _): (Head, _) = court
            .turnpike
            .post(
                &format!("/openai/deployments/{name}/chat/completions"),
                &court.token,
                body,
            )
            .await;
        assert!(
            head.status() == status || (status == 404 && head.status() == 400),
            "{name}: {head:?}"
        );
    }
}
