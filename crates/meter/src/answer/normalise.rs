//! From a provider's figures to disjoint buckets.
//!
//! Providers disagree on what contains what. `total_tokens` is the referee: where it exceeds the
//! parts, the gap belongs to the side that left something out.

use tariff::{Buckets, Flag, Flags};

use super::figures::{Figure as F, Figures};
use crate::Api;

/// The buckets of one usage object, and the anomalies met on the way.
pub(super) fn buckets(api: Api, figures: &Figures) -> (Buckets, Flags) {
    match api {
        Api::Messages => message_buckets(figures),
        _ => family_buckets(api, figures),
    }
}

/// Anthropic's figures are disjoint as they stand, but for what its two caches and thinking split.
fn message_buckets(figures: &Figures) -> (Buckets, Flags) {
    let mut flags = figures.flags();
    let get = |figure| figures.get(figure).unwrap_or(0);
    let split = get(F::Written5m).saturating_add(get(F::Written1h));
    let written = figures.get(F::CacheCreation).unwrap_or(split);
    if get(F::Written1h) > written {
        flags.set(Flag::WrittenAbovePrompt);
    }
    let cw_1h = get(F::Written1h).min(written);
    let output = get(F::Output);
    if get(F::Reasoning) > output {
        flags.set(Flag::ReasoningAboveCompletion);
    }
    let out_reasoning = get(F::Reasoning).min(output);
    let buckets = Buckets {
        in_text: get(F::Fresh),
        cr_text: get(F::CacheRead),
        cw_5m: written.saturating_sub(cw_1h),
        cw_1h,
        out_text: output.saturating_sub(out_reasoning),
        out_reasoning,
        ..Buckets::default()
    };
    (buckets, flags)
}

/// The OpenAI family, and all who speak like it.
fn family_buckets(api: Api, figures: &Figures) -> (Buckets, Flags) {
    let mut flags = figures.flags();
    let first = |names: &[F]| names.iter().find_map(|name| figures.get(*name));
    // A detail of 0 beside a figure of another name means that only the other is kept up.
    let first_some = |names: &[F]| {
        names
            .iter()
            .filter_map(|name| figures.get(*name))
            .find(|count| *count > 0)
            .unwrap_or(0)
    };

    let total = figures.get(F::Total);
    let completion = first(&[F::Completion, F::Output, F::PredictedN]);
    let prompt = first(&[F::Prompt, F::Input])
        .or_else(|| sum(figures, F::CacheHit, F::CacheMiss))
        .or_else(|| {
            figures.get(F::PromptN)?;
            sum(figures, F::PromptN, F::CacheN)
        });
    // Embeddings and rerankers may give the total alone; what is no output is input.
    let mut input =
        prompt.unwrap_or_else(|| total.unwrap_or(0).saturating_sub(completion.unwrap_or(0)));
    let mut output = completion.unwrap_or(0);
    let cached = first_some(&[
        F::Cached,
        F::CacheHit,
        F::CachedBeside,
        F::CachedCount,
        F::CacheN,
    ]);
    let written = first_some(&[F::Written]);
    let audio = first_some(&[F::InAudio, F::AudioBeside]);
    let mut reasoning = first_some(&[F::Reasoning, F::ReasoningBeside]);

    let parts = input.saturating_add(output);
    match total {
        Some(total) if total > parts => {
            flags.set(Flag::TotalAboveParts);
            let gap = total.saturating_sub(parts);
            if audio > input && gap == audio {
                // Mistral counts audio outside the prompt.
                input = input.saturating_add(gap);
            } else {
                // xAI's chat counts reasoning outside the completion (the gap is exactly that);
                // Gemini's compatible endpoint shows it in the total only.
                output = output.saturating_add(gap);
                reasoning = reasoning.max(gap);
            }
        }
        Some(total) if total < parts => flags.set(Flag::TotalBelowParts),
        _ => {}
    }

    let mut clamp = |count: u64, room: u64, flag: Flag| {
        if count > room {
            flags.set(flag);
        }
        count.min(room)
    };
    let cached = clamp(cached, input, Flag::CachedAbovePrompt);
    let fresh = input.saturating_sub(cached);
    let written = clamp(written, fresh, Flag::WrittenAbovePrompt);
    let fresh = fresh.saturating_sub(written);
    let reasoning = clamp(reasoning, output, Flag::ReasoningAboveCompletion);

    let cr_audio = clamp(
        first_some(&[F::CachedAudio]),
        cached,
        Flag::ModalityAboveSide,
    );
    let cr_text = cached.saturating_sub(cr_audio);
    let cr_image = clamp(
        first_some(&[F::CachedImage]),
        cr_text,
        Flag::ModalityAboveSide,
    );
    let in_audio = clamp(
        audio.saturating_sub(cr_audio),
        fresh,
        Flag::ModalityAboveSide,
    );
    let in_text = fresh.saturating_sub(in_audio);
    let in_image = clamp(
        first_some(&[F::InImage]).saturating_sub(cr_image),
        in_text,
        Flag::ModalityAboveSide,
    );
    let seen = output.saturating_sub(reasoning);
    // Without details the whole output is what the endpoint makes.
    let all_of = |made: Api, figure: F| match figures.get(figure) {
        None if api == made => seen,
        count => count.unwrap_or(0),
    };
    let out_audio = clamp(
        all_of(Api::Speech, F::OutAudio),
        seen,
        Flag::ModalityAboveSide,
    );
    let out_text = seen.saturating_sub(out_audio);
    let out_image = clamp(
        all_of(Api::Images, F::OutImage),
        out_text,
        Flag::ModalityAboveSide,
    );

    let buckets = Buckets {
        in_text: in_text.saturating_sub(in_image),
        in_audio,
        in_image,
        cr_text: cr_text.saturating_sub(cr_image),
        cr_audio,
        cr_image,
        cw_5m: written,
        cw_1h: 0,
        out_text: out_text.saturating_sub(out_image),
        out_reasoning: reasoning,
        out_audio,
        out_image,
    };
    (buckets, flags)
}

/// Both added, when at least one is there.
fn sum(figures: &Figures, one: F, other: F) -> Option<u64> {
    match (figures.get(one), figures.get(other)) {
        (None, None) => None,
        (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
    }
}
