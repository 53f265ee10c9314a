//! What webhooks are told, in either form.

use jiff::Timestamp;
use ledger::{Event, WebhookForm};
use serde_json::{Value, json};

/// The kind of event that `turnpike webhook test` sends.
pub(crate) const TEST: &str = "webhook.test";

/// The body: the same on every try.
pub(super) fn body(form: WebhookForm, event: &Event) -> String {
    let message = match form {
        WebhookForm::Json => json!({
            "type": event.kind,
            "timestamp": Timestamp::from_millisecond(event.at_ms).unwrap_or_default().to_string(),
            "data": event.payload,
        }),
        WebhookForm::Slack => json!({ "text": escaped(&in_words(event)) }),
    };
    message.to_string()
}

/// Names are the operator's, but none shall become a mention or a link.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The event as a sentence.
fn in_words(event: &Event) -> String {
    let payload = &event.payload;
    let text = |name: &str| match payload.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "?".to_owned(),
        Some(other) => other.to_string(),
    };
    let token = || {
        let label = payload.get("token_label").and_then(Value::as_str);
        let label = label.map_or_else(String::new, |label| format!(" ({label})"));
        format!(
            "access token {}{label} of account {}",
            text("token"),
            text("account")
        )
    };
    let sentence = match event.kind.as_str() {
        "budget.reached" if text("budget") == "account" => format!(
            "account {} has used {} % of its means: its balance is {} USD",
            text("account"),
            text("threshold"),
            text("balance_usd")
        ),
        "budget.reached" => {
            let (used, limit, unit) = if payload.get("limit_usd").is_some() {
                ("used_usd", "limit_usd", "USD")
            } else {
                ("used_tokens", "limit_tokens", "tokens")
            };
            format!(
                "{} has used {} % of its {}: {} of {} {unit}",
                token(),
                text("threshold"),
                text("budget").replace('_', " "),
                text(used),
                text(limit)
            )
        }
        "token.expiring" => format!("{} ends at {}", token(), text("expires_at")),
        "upstream.key_ejected" => format!(
            "upstream {} refuses key {} (401): it is left alone for a while, then tried again",
            text("upstream"),
            text("upstream_key_id")
        ),
        "upstream.pool_out" => format!(
            "upstream {} has no key left that works: all of them rest after errors",
            text("upstream")
        ),
        TEST => "this webhook works".to_owned(),
        other => format!("{other} {payload}"),
    };
    format!("Turnpike: {sentence}.")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn event(kind: &str, payload: Value) -> Event {
        Event {
            id: Uuid::nil(),
            kind: kind.to_owned(),
            at_ms: 1_800_000_000_000,
            payload,
        }
    }

    #[test]
    fn slack_gets_a_sentence_in_which_no_name_is_markup() {
        let payload = json!({
            "threshold": 80, "budget": "budget_day", "token": "tp-12345678", "token_label": "<!channel> & co", "account": "alice",
            "limit_usd": "10", "used_usd": "8.5",
        });
        assert_eq!(
            body(WebhookForm::Slack, &event("budget.reached", payload)),
            r#"{"text":"Turnpike: access token tp-12345678 (&lt;!channel&gt; &amp; co) of account alice has used 80 % of its budget day: 8.5 of 10 USD."}"#
        );
    }

    #[test]
    fn every_kind_has_a_sentence_of_its_own() {
        for kind in [
            "budget.reached",
            "token.expiring",
            "upstream.key_ejected",
            "upstream.pool_out",
            TEST,
        ] {
            let said = in_words(&event(kind, json!({})));
            assert!(!said.contains(kind), "{said}");
        }
    }

    #[test]
    fn json_is_the_payload_with_its_kind_and_time() {
        assert_eq!(
            body(WebhookForm::Json, &event(TEST, json!({ "webhook": "ops" }))),
            r#"{"data":{"webhook":"ops"},"timestamp":"2027-01-15T08:00:00Z","type":"webhook.test"}"#
        );
    }
}
