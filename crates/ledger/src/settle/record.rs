//! A settlement as a record of the journal: JSON, so that people can read it where everything else has failed.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tariff::{Amount, Buckets, Flags, PriceId};
use uuid::Uuid;

use super::Job;
use crate::{
    AccountId, Charge, End, InstanceId, Mark, Means, NewObject, TokenId, UpstreamId, UpstreamKeyId,
};

/// Everything that stands in a charge. Fields are only ever added, with a default: an older program's journal is replayed too.
#[derive(Deserialize, Serialize)]
struct Record<'a> {
    exchange: Uuid,
    instance: i64,
    token: i64,
    account: i64,
    held: i64,
    held_prompt: u64,
    held_completion: u64,
    amount: i64,
    price: i64,
    mark: Cow<'a, str>,
    end: Cow<'a, str>,
    endpoint: Cow<'a, str>,
    model_requested: Cow<'a, str>,
    model_answered: Option<Cow<'a, str>>,
    service_tier: Option<Cow<'a, str>>,
    stream: bool,
    buckets: [u64; 12],
    usage_raw: Option<Cow<'a, str>>,
    flags: u32,
    provider_cost: Option<i64>,
    status: u16,
    upstream: Option<i64>,
    upstream_key: Option<i64>,
    response_id: Option<Cow<'a, str>>,
    started_at_ms: i64,
    head_after_ms: Option<u32>,
    first_byte_after_ms: Option<u32>,
    ended_after_ms: u32,
    key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<Cow<'a, NewObject>>,
}

/// The record of a job.
pub(super) fn encode(job: &Job) -> Vec<u8> {
    let charge = &job.charge;
    let record = Record {
        exchange: job.exchange,
        instance: job.instance.0,
        token: job.token.0,
        account: job.account.0,
        held: job.held.money.nano(),
        held_prompt: job.held.prompt,
        held_completion: job.held.completion,
        amount: charge.amount.nano(),
        price: charge.price.0,
        mark: charge.mark.as_str().into(),
        end: charge.end.as_str().into(),
        endpoint: (&*charge.endpoint).into(),
        model_requested: super::clean(&charge.model_requested),
        model_answered: charge.model_answered.as_deref().map(super::clean),
        service_tier: charge.service_tier.as_deref().map(super::clean),
        stream: charge.stream,
        buckets: array(&charge.buckets),
        usage_raw: charge
            .usage_raw
            .as_deref()
            .map(|raw| super::columns::usage_json(raw, false)),
        flags: charge.flags.bits().into(),
        provider_cost: charge.provider_cost.map(Amount::nano),
        status: charge.status,
        upstream: charge.upstream.map(|it| it.0),
        upstream_key: charge.upstream_key.map(|it| it.0),
        response_id: charge.response_id.as_deref().map(super::clean),
        started_at_ms: charge.started_at_ms,
        head_after_ms: charge.head_after_ms,
        first_byte_after_ms: charge.first_byte_after_ms,
        ended_after_ms: charge.ended_after_ms,
        key: charge.key.as_deref().map(Cow::Borrowed),
        object: charge.object.as_deref().map(Cow::Borrowed),
    };
    serde_json::to_vec(&record).expect("numbers, texts and lists of them are always JSON")
}

/// The job of a record.
///
/// # Errors
/// When it is none of ours.
pub(crate) fn decode(payload: &[u8]) -> Result<Job, serde_json::Error> {
    let record: Record<'_> = serde_json::from_slice(payload)?;
    let unknown =
        |what: &str| <serde_json::Error as serde::de::Error>::custom(format!("an unknown {what}"));
    let charge = Charge {
        price: PriceId(record.price),
        amount: Amount::from_nano(record.amount),
        mark: Mark::named(&record.mark).ok_or_else(|| unknown("mark"))?,
        model_requested: record.model_requested.into_owned(),
        model_answered: record.model_answered.map(Cow::into_owned),
        endpoint: Cow::Owned(record.endpoint.into_owned()),
        service_tier: record.service_tier.map(Cow::into_owned),
        stream: record.stream,
        buckets: buckets(record.buckets),
        usage_raw: record.usage_raw.map(Cow::into_owned),
        flags: Flags::from_bits(u16::try_from(record.flags).unwrap_or_default()),
        provider_cost: record.provider_cost.map(Amount::from_nano),
        status: record.status,
        end: End::named(&record.end).ok_or_else(|| unknown("ending"))?,
        upstream: record.upstream.map(UpstreamId),
        upstream_key: record.upstream_key.map(UpstreamKeyId),
        response_id: record.response_id.map(Cow::into_owned),
        key: record.key.map(Cow::into_owned),
        object: record.object.map(|object| Box::new(object.into_owned())),
        started_at_ms: record.started_at_ms,
        head_after_ms: record.head_after_ms,
        first_byte_after_ms: record.first_byte_after_ms,
        ended_after_ms: record.ended_after_ms,
    };
    let held = Means {
        money: Amount::from_nano(record.held),
        prompt: record.held_prompt,
        completion: record.held_completion,
    };
    let whose = (
        record.exchange,
        TokenId(record.token),
        AccountId(record.account),
    );
    Ok(Job::new(
        InstanceId(record.instance),
        whose,
        held,
        Box::new(charge),
        None,
    ))
}

const fn array(buckets: &Buckets) -> [u64; 12] {
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
}

const fn buckets(array: [u64; 12]) -> Buckets {
    let [
        in_text,
        in_audio,
        in_image,
        cr_text,
        cr_audio,
        cr_image,
        cw_5m,
        cw_1h,
        out_text,
        out_reasoning,
        out_audio,
        out_image,
    ] = array;
    Buckets {
        in_text,
        in_audio,
        in_image,
        cr_text,
        cr_audio,
        cr_image,
        cw_5m,
        cw_1h,
        out_text,
        out_reasoning,
        out_audio,
        out_image,
    }
}
