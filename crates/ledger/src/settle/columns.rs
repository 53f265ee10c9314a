//! A group of settlements as the columns of `turnpike.settle_exchanges`.

use std::borrow::Cow;

use serde_json::Value;
use tariff::{Amount, Buckets};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::Job;

/// One array per parameter; nothing in it can be refused for its encoding.
#[derive(Default)]
pub(super) struct Columns<'a> {
    exchanges: Vec<Uuid>,
    tokens: Vec<i64>,
    accounts: Vec<i64>,
    amounts: Vec<i64>,
    held: Vec<i64>,
    prices: Vec<i64>,
    marks: Vec<&'a str>,
    endings: Vec<&'a str>,
    endpoints: Vec<&'a str>,
    models_requested: Vec<Cow<'a, str>>,
    models_answered: Vec<Option<Cow<'a, str>>>,
    service_tiers: Vec<Option<Cow<'a, str>>>,
    streams: Vec<bool>,
    statuses: Vec<i16>,
    flags: Vec<i32>,
    provider_costs: Vec<Option<i64>>,
    upstreams: Vec<Option<i64>>,
    upstream_keys: Vec<Option<i64>>,
    response_ids: Vec<Option<Cow<'a, str>>>,
    usages: Vec<Option<Cow<'a, str>>>,
    started_ms: Vec<i64>,
    head_after_ms: Vec<Option<i32>>,
    first_byte_after_ms: Vec<Option<i32>>,
    ended_after_ms: Vec<i32>,
    /// In the order of [`bucket_counts`].
    buckets: [Vec<i64>; 12],
    prompts: Vec<i64>,
    completions: Vec<i64>,
    keys: Vec<Option<Cow<'a, str>>>,
}

pub(super) const STATEMENT: &str = "select outcome from turnpike.settle_exchanges(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41)";

/// The same, and whose what the providers keep of it is.
pub(super) const STATEMENT_WITH_OBJECTS: &str = "select s.outcome from turnpike.settle_exchanges(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41) as s,
    turnpike.keep_objects($42, $43, $44, $45, $46, $47, $48, $49, $50, $51)";

/// The charges of a job, and its end. `lock_job` comes first, since the settlement is for the process that it names.
pub(super) const STATEMENT_OF_JOB: &str = "
    select turnpike.end_job($42, array_agg(s.outcome order by s.place), $4, $37, $38)
      from turnpike.lock_job($42, $41) as o,
           lateral turnpike.settle_exchanges(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, o.instance, $41)
           with ordinality as s (outcome, place)
    having count(*) > 0";

impl<'a> Columns<'a> {
    pub(super) fn new(group: &'a [Job], plain: bool) -> Self {
        let mut columns = Self::default();
        for job in group {
            columns.push(job, plain);
        }
        columns
    }

    fn push(&mut self, job: &'a Job, plain: bool) {
        let charge = &*job.charge;
        let used = job.used();
        self.exchanges.push(job.exchange);
        self.tokens.push(job.token.0);
        self.accounts.push(job.account.0);
        self.held.push(job.held.money.nano());
        self.amounts.push(charge.amount.nano());
        self.prices.push(charge.price.0);
        self.marks.push(charge.mark.as_str());
        self.endings.push(charge.end.as_str());
        self.endpoints.push(&charge.endpoint);
        self.models_requested.push(clean(&charge.model_requested));
        self.models_answered
            .push(charge.model_answered.as_deref().map(clean));
        self.service_tiers
            .push(charge.service_tier.as_deref().map(clean));
        self.streams.push(charge.stream);
        self.statuses
            .push(i16::try_from(charge.status).unwrap_or(i16::MAX));
        self.flags.push(i32::from(charge.flags.bits()));
        self.provider_costs
            .push(charge.provider_cost.map(Amount::nano));
        self.upstreams.push(charge.upstream.map(|it| it.0));
        self.upstream_keys.push(charge.upstream_key.map(|it| it.0));
        self.response_ids
            .push(charge.response_id.as_deref().map(clean));
        self.usages.push(
            charge
                .usage_raw
                .as_deref()
                .map(|raw| usage_json(raw, plain)),
        );
        self.started_ms.push(charge.started_at_ms);
        self.head_after_ms
            .push(charge.head_after_ms.map(milliseconds));
        self.first_byte_after_ms
            .push(charge.first_byte_after_ms.map(milliseconds));
        self.ended_after_ms
            .push(milliseconds(charge.ended_after_ms));
        let counts = bucket_counts(&charge.buckets);
        for (column, count) in self.buckets.iter_mut().zip(counts) {
            column.push(count);
        }
        self.prompts
            .push(i64::try_from(used.prompt).unwrap_or(i64::MAX));
        self.completions
            .push(i64::try_from(used.completion).unwrap_or(i64::MAX));
        self.keys.push(charge.key.as_deref().map(|key| {
            Cow::Owned(
                key.chars()
                    .filter(|it| !it.is_control())
                    .take(KEY_CHARS_MAX)
                    .collect(),
            )
        }));
    }

    pub(super) fn params<'p>(
        &'p self,
        instance: &'p i64,
        lock_ms: &'p i32,
    ) -> Vec<(&'p (dyn ToSql + Sync), Type)> {
        let mut params: Vec<(&'p (dyn ToSql + Sync), Type)> = vec![
            (&self.exchanges, Type::UUID_ARRAY),
            (&self.tokens, Type::INT8_ARRAY),
            (&self.accounts, Type::INT8_ARRAY),
            (&self.amounts, Type::INT8_ARRAY),
            (&self.held, Type::INT8_ARRAY),
            (&self.prices, Type::INT8_ARRAY),
            (&self.marks, Type::TEXT_ARRAY),
            (&self.endings, Type::TEXT_ARRAY),
            (&self.endpoints, Type::TEXT_ARRAY),
            (&self.models_requested, Type::TEXT_ARRAY),
            (&self.models_answered, Type::TEXT_ARRAY),
            (&self.service_tiers, Type::TEXT_ARRAY),
            (&self.streams, Type::BOOL_ARRAY),
            (&self.statuses, Type::INT2_ARRAY),
            (&self.flags, Type::INT4_ARRAY),
            (&self.provider_costs, Type::INT8_ARRAY),
            (&self.upstreams, Type::INT8_ARRAY),
            (&self.upstream_keys, Type::INT8_ARRAY),
            (&self.response_ids, Type::TEXT_ARRAY),
            (&self.usages, Type::TEXT_ARRAY),
            (&self.started_ms, Type::INT8_ARRAY),
            (&self.head_after_ms, Type::INT4_ARRAY),
            (&self.first_byte_after_ms, Type::INT4_ARRAY),
            (&self.ended_after_ms, Type::INT4_ARRAY),
        ];
        for column in &self.buckets {
            params.push((column, Type::INT8_ARRAY));
        }
        params.push((&self.prompts, Type::INT8_ARRAY));
        params.push((&self.completions, Type::INT8_ARRAY));
        params.push((&self.keys, Type::TEXT_ARRAY));
        params.push((instance, Type::INT8));
        params.push((lock_ms, Type::INT4));
        params
    }
}

/// The counts in the order of the function's parameters. An absurd one is cut to [`COUNT_MAX`], so that sums over charges
/// never leave a bigint; the provider's own object has what it claimed.
fn bucket_counts(buckets: &Buckets) -> [i64; 12] {
    [
        buckets.in_text,
        buckets.in_audio,
        buckets.in_image,
        buckets.cr_text,
        buckets.cr_audio,
        buckets.cr_image,
        buckets.cw_5m,
        buckets.cw_1h,
        buckets.out_text,
        buckets.out_reasoning,
        buckets.out_audio,
        buckets.out_image,
    ]
    .map(|count| i64::try_from(count).map_or(COUNT_MAX, |count| count.min(COUNT_MAX)))
}

fn milliseconds(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A text as Postgres takes it: without NUL, not longer than anybody needs.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_BYTES_MAX && !text.contains('\0') {
        return Cow::Borrowed(text);
    }
    let mut short = String::new();
    for kept in text.chars().filter(|it| *it != '\0') {
        if short.len().saturating_add(kept.len_utf8()) > TEXT_BYTES_MAX {
            break;
        }
        short.push(kept);
    }
    Cow::Owned(short)
}

/// Facts as `jsonb` takes them: without NUL, which JSON may have as an escape.
pub(crate) fn clean_json(json: &str) -> Cow<'_, str> {
    fn clean(value: Value) -> Value {
        let text = |text: String| text.replace('\0', "");
        match value {
            Value::String(it) => Value::String(text(it)),
            Value::Array(all) => all.into_iter().map(clean).collect(),
            Value::Object(all) => {
                let all = all.into_iter().map(|(key, it)| (text(key), clean(it)));
                Value::Object(all.collect())
            }
            other => other,
        }
    }
    if !json.contains("\\u0000") {
        return Cow::Borrowed(json);
    }
    serde_json::from_str(json).map_or(Cow::Borrowed(json), |value| {
        Cow::Owned(clean(value).to_string())
    })
}

/// A usage object as `jsonb` takes it. What is no JSON, or not to `jsonb` (an escaped NUL, half a surrogate pair),
/// becomes a JSON string, so that it is kept for review and breaks nothing.
pub(super) fn usage_json(raw: &str, plain: bool) -> Cow<'_, str> {
    let fits = !plain
        && raw.len() <= USAGE_BYTES_MAX
        && !raw.contains("\\u0000")
        // A Value, because reading strings is what finds half surrogate pairs.
        && serde_json::from_str::<Value>(raw).is_ok();
    if fits {
        return Cow::Borrowed(raw);
    }
    let mut end = raw.len().min(USAGE_BYTES_MAX);
    while !raw.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let kept = raw.get(..end).unwrap_or_default().replace('\0', "");
    Cow::Owned(Value::String(kept).to_string())
}

/// No exchange uses so many tokens of a kind.
const COUNT_MAX: i64 = 10_000_000_000;
/// As `charge_key_printable` has it.
const KEY_CHARS_MAX: usize = 300;
const TEXT_BYTES_MAX: usize = 256;
const USAGE_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_lose_what_postgres_does_not_take() {
        assert_eq!(clean("gpt-4o"), "gpt-4o");
        assert_eq!(clean("a\0b"), "ab");
        assert_eq!(clean(&"é".repeat(200)).len(), 256);
    }

    #[test]
    fn facts_lose_what_jsonb_does_not_take_and_nothing_else() {
        let facts = r#"{"a\u0000":["b\u0000c",1,null],"d":"\\u0000"}"#;
        assert_eq!(clean_json(facts), r#"{"a":["bc",1,null],"d":"\\u0000"}"#);
        assert!(matches!(clean_json(r#"{"a":1}"#), Cow::Borrowed(_)));
        assert_eq!(clean_json(r#"{"\u0000"#), r#"{"\u0000"#);
    }

    #[test]
    fn a_usage_object_is_kept_as_it_is_and_anything_else_as_a_string() {
        assert_eq!(usage_json(r#"{"a": 1.50}"#, false), r#"{"a": 1.50}"#);
        assert_eq!(usage_json(r#"{"a": 1}"#, true), r#""{\"a\": 1}""#);
        assert_eq!(usage_json("{\0", false), r#""{""#);
        assert_eq!(
            usage_json(r#"{"a":"\u0000"}"#, false),
            r#""{\"a\":\"\\u0000\"}""#
        );
        assert!(usage_json(r#"{"a":"\ud800"}"#, false).starts_with('"'));
        assert!(usage_json(&format!("[{}1]", "é,".repeat(20_000)), false).len() < 17_000);
    }
}
