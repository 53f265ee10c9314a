//! How a job stands at its provider, and what it is charged once it has ended.

use ledger::{Charge, End, Mark, UpstreamId, UpstreamKeyId};
use meter::{AnswerMeter, Api, BatchAnswers, JobReport, JobState, batch_api};
use proxy::Pool;
use serde_json::value::RawValue;
use tariff::{Amount, Buckets, Flags, ImageKind, Line, PriceId, Tier, Units};

use super::{
    Asked, JobFacts, Priced,
    batch::{Sum, Tally},
    fetch,
};
use crate::places::Place;

/// A job, as far as its settlement must know it.
pub(crate) struct Job<'a> {
    /// `batch`, `message_batch`, `video`, `tuning_job`.
    pub(crate) kind: &'a str,
    /// The provider's id.
    pub(crate) object: &'a str,
    pub(crate) endpoint: &'a str,
    pub(crate) facts: JobFacts,
    pub(crate) held: Amount,
    pub(crate) upstream: Option<UpstreamId>,
    pub(crate) upstream_key: Option<UpstreamKeyId>,
    /// Since it began, in milliseconds.
    pub(crate) age_ms: u32,
}

/// How it stands.
pub(crate) struct Look {
    /// Files that it has made by now.
    pub(crate) files: Vec<String>,
    /// `None`: it goes on.
    pub(crate) ended: Option<Ended>,
}

/// It has ended.
pub(crate) enum Ended {
    /// Nothing was used.
    Free,
    Charged(Box<Charge>),
}

/// Asks the provider how a job stands, and reckons its charge if it has ended.
///
/// # Errors
/// When there is no answer to go by.
pub(crate) async fn look(
    (pool, place): (&Pool, &Place),
    priced: &Priced<'_>,
    job: &Job<'_>,
) -> Result<Look, Asked> {
    let path = format!("{}/{}", collection(place, job.kind), job.object);
    let json = fetch::object(pool, place, &path).await?;
    let report = JobReport::read(&json)
        .ok_or_else(|| Asked::Failed("its answer is no job's object".into()))?;
    let files = report.output_files.clone();
    if report.state == JobState::Open {
        return Ok(Look { files, ended: None });
    }
    let sum = match job.kind {
        "batch" | "message_batch" => lines((pool, place), priced, job, &report, &json).await?,
        "video" if report.state == JobState::Stopped => None,
        "tuning_job" if report.state == JobState::Stopped && report.trained_tokens.is_none() => {
            None
        }
        _ => units(priced, job, &report),
    };
    let ended = match sum {
        None => Ended::Free,
        Some((sum, raw, answered)) => {
            Ended::Charged(Box::new(charge(priced, job, sum, raw, answered)))
        }
    };
    Ok(Look {
        files,
        ended: Some(ended),
    })
}

/// Asks the provider for a job's object, whatever it is for.
///
/// # Errors
/// When there is no answer to go by.
pub(crate) async fn object(
    pool: &Pool,
    place: &Place,
    kind: &str,
    id: &str,
) -> Result<JobReport, Asked> {
    let path = format!("{}/{id}", collection(place, kind));
    let json = fetch::object(pool, place, &path).await?;
    JobReport::read(&json).ok_or_else(|| Asked::Failed("its answer is no job's object".into()))
}

/// Asks the provider for an object, as it is.
///
/// # Errors
/// When there is no answer to go by.
pub(crate) async fn json_of(
    pool: &Pool,
    place: &Place,
    kind: &str,
    id: &str,
) -> Result<Box<RawValue>, Asked> {
    let path = format!("{}/{id}", collection(place, kind));
    let json = fetch::object(pool, place, &path).await?;
    serde_json::from_slice(&json).map_err(|error| Asked::Failed(error.to_string()))
}

/// What a job is charged of which nobody will ever know more: all that is held for it.
pub(crate) fn given_up(priced: &Priced<'_>, job: &Job<'_>) -> Charge {
    let sum = Sum {
        amount: job.held,
        price: priced.price,
        mark: Mark::Bounded,
        buckets: Buckets::default(),
        flags: Flags::default(),
    };
    charge(priced, job, sum, None, None)
}

/// A sum, what of it stands in its charge's row, and the model that answered.
type Reckoned = (Sum, Option<String>, Option<String>);

/// What a batch used, by the lines of its files; where some cannot be had, by its own sum.
async fn lines(
    (pool, place): (&Pool, &Place),
    priced: &Priced<'_>,
    job: &Job<'_>,
    report: &JobReport,
    json: &[u8],
) -> Result<Option<Reckoned>, Asked> {
    let is_messages = job.kind == "message_batch";
    let named = job.facts.endpoint.as_deref().and_then(batch_api);
    let api = match named {
        _ if is_messages => Api::Messages,
        Some((_, Some(api))) => api,
        _ => Api::ChatCompletions,
    };
    let prefix = prefix(place);
    let mut paths: Vec<String> = report
        .output_files
        .iter()
        .map(|file| format!("{prefix}/files/{file}/content"))
        .collect();
    if is_messages && report.has_results {
        paths.push(format!("{prefix}/messages/batches/{}/results", job.object));
    }
    let input_each = job
        .facts
        .body_bytes
        .div_ceil(4)
        .div_ceil(job.facts.lines.max(1));
    let mut tally = Tally::default();
    for path in paths {
        let mut reader = BatchAnswers::new(api);
        let read = fetch::file(pool, place, &path, |bytes| {
            reader.push(bytes, &mut |line| tally.add(line, priced, input_each));
        })
        .await;
        match read {
            Ok(()) => reader.finish(&mut |line| tally.add(line, priced, input_each)),
            Err(Asked::Gone) => tally.lose_file(),
            Err(error) => return Err(error),
        }
    }
    if tally.is_short() {
        let mut meter = AnswerMeter::new(Api::Batches, 200, Some("application/json"), None);
        meter.push(json);
        if let Some(usage) = meter.finish().usage
            && usage.total().total() > 0
        {
            tally.fill_up(&usage, priced);
        }
    }
    let sum = tally.sum(job.held, priced.price);
    let answered = tally.model.clone().or_else(|| report.model.clone());
    Ok(sum.map(|sum| (sum, Some(tally.in_words()), answered)))
}

/// What a video or a training used.
fn units(priced: &Priced<'_>, job: &Job<'_>, report: &JobReport) -> Option<Reckoned> {
    let (units, size) = if job.kind == "video" {
        let units = Units {
            video_ms: report.video_ms.unwrap_or(job.facts.video_ms),
            ..Units::default()
        };
        (
            units,
            report.size.clone().or_else(|| job.facts.size.clone()),
        )
    } else {
        let units = Units {
            training_tokens: report.trained_tokens?,
            ..Units::default()
        };
        (units, None)
    };
    let raw = units
        .named()
        .map(|(name, count)| format!("{{\"turnpike_units\":{{\"{name}\":{count}}}}}"))
        .next()?;
    let line = Line {
        units: Units {
            requests: 1,
            ..units
        },
        image: ImageKind {
            size,
            quality: None,
        },
        ..Line::default()
    };
    let charged = priced
        .quote
        .as_ref()
        .and_then(|quote| quote.charge(&line, None).ok());
    let sum = match charged {
        Some(charged) if charged.amount <= job.held => Sum {
            amount: charged.amount,
            price: charged.price,
            mark: Mark::Measured,
            buckets: Buckets::default(),
            flags: charged.flags,
        },
        _ => Sum {
            amount: job.held,
            price: charged.map_or(priced.price, |it| it.price),
            mark: Mark::Bounded,
            buckets: Buckets::default(),
            flags: Flags::default(),
        },
    };
    Some((sum, Some(raw), report.model.clone()))
}

fn charge(
    priced: &Priced<'_>,
    job: &Job<'_>,
    sum: Sum,
    usage_raw: Option<String>,
    model_answered: Option<String>,
) -> Charge {
    let is_batch = matches!(job.kind, "batch" | "message_batch");
    Charge {
        price: sum.price,
        amount: sum.amount,
        mark: sum.mark,
        model_requested: priced.model.to_owned(),
        model_answered,
        endpoint: job.endpoint.to_owned().into(),
        service_tier: is_batch.then(|| Tier::BATCH.to_owned()),
        stream: false,
        buckets: sum.buckets,
        usage_raw,
        flags: sum.flags,
        provider_cost: None,
        status: 200,
        end: End::Complete,
        upstream: job.upstream,
        upstream_key: job.upstream_key,
        response_id: Some(job.object.to_owned()),
        key: Some(key(job)),
        started_at_ms: priced.started_at_ms,
        head_after_ms: None,
        first_byte_after_ms: None,
        ended_after_ms: job.age_ms,
        object: None,
    }
}

/// What is charged once, however often it is told.
fn key(job: &Job<'_>) -> String {
    let upstream = job.upstream.map_or(0, |id| id.0);
    format!("{}:{upstream}:{}", job.kind, job.object)
}

/// Where objects of this kind are.
fn collection(place: &Place, kind: &str) -> String {
    let below = match kind {
        "batch" => "/batches",
        "message_batch" => "/messages/batches",
        "video" => "/videos",
        "file" => "/files",
        "upload" => "/uploads",
        _ => "/fine_tuning/jobs",
    };
    format!("{}{below}", prefix(place))
}

/// What a dialect puts before every path.
const fn prefix(place: &Place) -> &'static str {
    match place.dialect {
        ledger::Dialect::Azure => "/v1",
        ledger::Dialect::OpenAi | ledger::Dialect::Anthropic => "",
    }
}

/// The row that priced a job when it began.
pub(crate) const fn price_of(facts: &JobFacts) -> PriceId {
    PriceId(facts.price)
}
