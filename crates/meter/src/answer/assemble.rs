//! From what was gathered to a usage: which lines, in which buckets and units.

use tariff::{Line, Units, Usage};

use super::{
    figures::{Figure, Figures},
    harvest::Harvest,
    normalise,
    used::Used,
};
use crate::Api;

/// The model that makes images inside a response, where the answer does not name it.
const IMAGE_TOOL_MODEL: &str = "gpt-image-1";

/// One pass of the model inside an answer of Anthropic's.
#[derive(Debug, Default)]
pub(super) struct Iteration {
    pub(super) kind: Option<String>,
    pub(super) model: Option<String>,
    pub(super) figures: Figures,
}

/// The usage of an answer: its lines, how it was served, what it cost by the provider's own account.
pub(super) fn usage(api: Api, used: &Used, harvest: &mut Harvest) -> Usage {
    let (buckets, flags) = normalise::buckets(api, &used.figures);
    let mut usage = Usage {
        lines: vec![Line {
            model: harvest.model.clone(),
            buckets,
            ..Line::default()
        }],
        service_tier: harvest.service_tier.take().or(harvest.usage_tier.take()),
        region: harvest.region.take(),
        speed: harvest.speed.take(),
        provider_cost: used.figures.provider_cost(),
        flags,
    };
    by_model(api, harvest, &mut usage);
    by_iteration(api, harvest, &mut usage);
    if let Some(line) = usage.lines.first_mut() {
        line.units = Units {
            audio_in_ms: used.figures.seconds_ms().unwrap_or(0),
            queries: used.figures.get(Figure::Queries).unwrap_or(0),
            pages: used.figures.get(Figure::Pages).unwrap_or(0),
            tools: harvest.calls.count(&used.figures),
            ..Units::default()
        };
    }
    if harvest.image_tool.figures.is_some() {
        let (buckets, flags) = normalise::buckets(Api::Images, &harvest.image_tool.figures);
        if buckets.total() > 0 {
            let named = harvest.image_model.take();
            usage.flags |= flags;
            usage.lines.push(Line {
                model: named.or_else(|| Some(IMAGE_TOOL_MODEL.to_owned())),
                buckets,
                ..Line::default()
            });
        }
    }
    usage
}

/// One line for each model where the answer says who used what and leaves nothing out.
fn by_model(api: Api, harvest: &mut Harvest, usage: &mut Usage) {
    let mut split = Usage::default();
    for (model, figures) in std::mem::take(&mut harvest.split) {
        let (buckets, flags) = normalise::buckets(api, &figures);
        split.flags |= flags;
        split.lines.push(Line {
            model,
            buckets,
            ..Line::default()
        });
    }
    if split.lines.len() > 1 && split.total().total() >= usage.total().total() {
        usage.lines = split.lines;
        usage.flags = split.flags;
    }
}

/// One line for each iteration, unless a single message is the whole answer. The totals of the answer
/// leave out compactions and advisors, which may be another model and dearer than the rest.
fn by_iteration(api: Api, harvest: &mut Harvest, usage: &mut Usage) {
    let mut iterations = std::mem::take(&mut harvest.iterations);
    let is_message = |it: &Iteration| it.kind.as_deref().is_none_or(|kind| kind == "message");
    if iterations
        .iter()
        .any(|it| it.kind.as_deref() == Some("fallback_message"))
    {
        // The hop that declined said nothing and costs nothing.
        iterations.retain(|it| !is_message(it) || it.figures.get(Figure::Output) > Some(0));
    }
    let is_whole = matches!(iterations.as_slice(), [] | [_]) && iterations.iter().all(is_message);
    if is_whole {
        return;
    }
    let mut flags = usage.flags;
    let lines = iterations.into_iter().map(|it| {
        let (buckets, own) = normalise::buckets(api, &it.figures);
        flags |= own;
        Line {
            model: it.model.or_else(|| harvest.model.clone()),
            buckets,
            ..Line::default()
        }
    });
    usage.lines = lines.collect();
    usage.flags = flags;
}
