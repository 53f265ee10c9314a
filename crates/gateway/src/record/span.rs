//! An exchange as a span: what its log line says, by OpenTelemetry's names for generative AI where it has them.

use opentelemetry::KeyValue;

use super::Record;
use crate::telemetry::{Answered, Told};

/// Longest text that a span carries. Peers name models and ids, and may name them at any length.
const TEXT_CHARS_MAX: usize = 256;

/// What the span says. Like the log line it has no body, prompt, query or secret; unlike it no address of a peer either.
pub(super) fn told(record: &Record, answered: Option<&Answered>) -> Told {
    let mut attributes = Vec::with_capacity(28);
    let mut say = |name: &'static str, value: Option<opentelemetry::Value>| {
        attributes.extend(value.map(|value| KeyValue::new(name, value)));
    };
    let operation = operation(record.endpoint);
    say("gen_ai.operation.name", Some(operation.into()));
    say(
        "gen_ai.provider.name",
        Some(provider(record.endpoint).into()),
    );
    say("gen_ai.request.model", record.model.as_deref().map(text));
    if let Some(answered) = answered {
        let buckets = &answered.buckets;
        let cached = buckets
            .cr_text
            .saturating_add(buckets.cr_audio)
            .saturating_add(buckets.cr_image);
        let written = buckets.cw_5m.saturating_add(buckets.cw_1h);
        say("gen_ai.response.model", answered.model.as_deref().map(text));
        say(
            "gen_ai.response.id",
            answered.response_id.as_deref().map(text),
        );
        say(
            "openai.response.service_tier",
            answered.service_tier.as_deref().map(text),
        );
        say("gen_ai.usage.input_tokens", Some(count(buckets.input())));
        say("gen_ai.usage.output_tokens", Some(count(buckets.output())));
        say("gen_ai.usage.cache_read.input_tokens", Some(count(cached)));
        say(
            "gen_ai.usage.cache_creation.input_tokens",
            Some(count(written)),
        );
    }
    say(
        "http.request.method",
        Some(record.method.to_string().into()),
    );
    say("http.route", Some(record.endpoint.into()));
    let status = record.status.map(|status| i64::from(status.as_u16()));
    say("http.response.status_code", status.map(Into::into));
    say("turnpike.exchange", Some(record.id.to_string().into()));
    say("turnpike.end", Some(record.end.into()));
    say("turnpike.refusal", record.refusal.map(Into::into));
    say("turnpike.door", record.door.map(Into::into));
    say("turnpike.token", record.token.as_deref().map(text));
    say("turnpike.upstream", record.upstream.as_deref().map(text));
    say("turnpike.request_bytes", Some(count(record.request_bytes)));
    say("turnpike.answer_bytes", Some(count(record.answer_bytes)));
    let first_byte = record.first_byte.map(|after| after.as_millis());
    say(
        "turnpike.first_byte_ms",
        first_byte.map(|ms| count(u64::try_from(ms).unwrap_or(u64::MAX))),
    );
    if let Some((amount, mark)) = record.charge {
        say("turnpike.charge_nano_usd", Some(amount.nano().into()));
        say("turnpike.mark", Some(mark.as_str().into()));
    }
    let error = match (record.refusal, record.end) {
        (Some(code), _) => Some(code),
        (None, "failed") => Some("failed"),
        (None, "upstream_error") => Some("upstream_error"),
        _ => None,
    };
    say("error.type", error.map(Into::into));
    Told {
        name: match &record.model {
            Some(model) => format!("{operation} {}", cut(model)),
            None => operation.to_owned(),
        },
        attributes,
        error: error.map(str::to_owned),
        started: record.started,
    }
}

/// OpenTelemetry's name for what an endpoint does, else the endpoint's own.
fn operation(endpoint: &'static str) -> &'static str {
    match endpoint {
        "chat/completions" | "responses" | "messages" => "chat",
        "completions" => "text_completion",
        other => other,
    }
}

/// Whose API it is; a compatible provider counts as the one that it is compatible with.
fn provider(endpoint: &str) -> &'static str {
    if endpoint.starts_with("messages") {
        "anthropic"
    } else {
        "openai"
    }
}

fn text(text: &str) -> opentelemetry::Value {
    cut(text).to_owned().into()
}

fn cut(text: &str) -> &str {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

fn count(count: u64) -> opentelemetry::Value {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut() {
        let long = "é".repeat(TEXT_CHARS_MAX + 1);
        assert_eq!(cut(&long).chars().count(), TEXT_CHARS_MAX);
        assert_eq!(cut("gpt-4o"), "gpt-4o");
    }
}
