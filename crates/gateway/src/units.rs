//! What an exchange may use beside tokens, for its hold, and what it did use where its answer reports nothing, for its charge.

use meter::{Api, Reading, RequestFacts};
use tariff::{Buckets, ImageKind, Line, OutputLimit, Quote, SearchSize, Tool, Units, Usage};

use crate::endpoint::BoundBy;

/// The least that a second of compressed speech takes: 6 kbit/s, the lowest rate of Opus.
const AUDIO_BYTES_PER_SECOND_MIN: u64 = 750;
/// Most tokens of text that a second of speech makes: nobody speaks so fast.
const TEXT_TOKENS_PER_SECOND_MAX: u64 = 25;
/// Most milliseconds that reading out a character takes, at the slowest speed there is.
const MS_PER_CHARACTER_MAX: u64 = 300;
/// The same at the usual speed: 15 characters a second.
const MS_PER_CHARACTER: u64 = 67;
/// OpenAI's audio tokens of a minute read out (0.015 USD a minute at 12 USD a million).
const AUDIO_TOKENS_PER_MINUTE: u64 = 1_250;
/// Most tokens that an image takes to make; the largest known takes 6,240.
const IMAGE_TOKENS_MAX: u64 = 16_384;
/// The least output that is assumed possible, however short the request is.
const OUTPUT_TOKENS_MIN: u64 = 256;
/// Billed time is a whole number of seconds.
const BILLED_MS: u64 = 1_000;
/// Most pages of a document that is read at once (Mistral's limit).
const PAGES_MAX: u64 = 1_000;
/// A reranker's unit covers 100 documents; none is shorter than these bytes of JSON.
const DOCUMENT_BYTES_MIN: u64 = 3;
const DOCUMENTS_PER_QUERY: u64 = 100;

/// What bounds an exchange beside its length.
pub(crate) struct Most {
    pub(crate) units: Units,
    pub(crate) image: ImageKind,
    pub(crate) output: OutputLimit,
    /// The request's length bounds its input tokens, though it carries files: a token of audio is many bytes.
    pub(crate) is_length_enough: bool,
}

/// The most that a request may use, whichever way it is billed.
pub(crate) fn most(bound: BoundBy, facts: &RequestFacts) -> Most {
    let none = Units::default();
    let (units, output) = match bound {
        BoundBy::Tokens => {
            let limit = facts.output_limit.map(OutputLimit::Tokens);
            (none, limit.unwrap_or(OutputLimit::Model))
        }
        BoundBy::Input => {
            let documents = facts.body_bytes.div_euclid(DOCUMENT_BYTES_MIN);
            let units = Units {
                queries: documents.div_euclid(DOCUMENTS_PER_QUERY).saturating_add(1),
                ..none
            };
            (units, OutputLimit::NoOutput)
        }
        BoundBy::Images => {
            let units = Units {
                images: facts.choices,
                ..none
            };
            (units, OutputLimit::Tokens(IMAGE_TOKENS_MAX))
        }
        BoundBy::Characters => {
            let audio_out_ms = facts.characters.saturating_mul(MS_PER_CHARACTER_MAX);
            let tokens = audio_tokens(audio_out_ms).saturating_add(OUTPUT_TOKENS_MIN);
            let units = Units {
                characters: facts.characters,
                audio_out_ms,
                ..none
            };
            (units, OutputLimit::Tokens(tokens))
        }
        BoundBy::Pages => {
            let pages = facts.pages.unwrap_or(PAGES_MAX).min(PAGES_MAX);
            (Units { pages, ..none }, OutputLimit::NoOutput)
        }
        BoundBy::Time => {
            let audio_in_ms = longest_ms(facts.file_bytes);
            let tokens = audio_in_ms
                .div_euclid(1_000)
                .saturating_mul(TEXT_TOKENS_PER_SECOND_MAX);
            let units = Units {
                audio_in_ms,
                ..none
            };
            let tokens = tokens.saturating_add(OUTPUT_TOKENS_MIN);
            (units, OutputLimit::Tokens(tokens))
        }
    };
    Most {
        units,
        image: image_kind(facts),
        output,
        is_length_enough: matches!(bound, BoundBy::Time | BoundBy::Pages),
    }
}

/// How long a file of so many bytes can play at most, in whole billed seconds.
fn longest_ms(file_bytes: u64) -> u64 {
    file_bytes
        .div_ceil(AUDIO_BYTES_PER_SECOND_MIN)
        .saturating_mul(BILLED_MS)
}

fn audio_tokens(ms: u64) -> u64 {
    ms.saturating_mul(AUDIO_TOKENS_PER_MINUTE).div_ceil(60_000)
}

/// What kind of image a request asks for. The older models make, unless told, the kind that their documents name.
fn image_kind(facts: &RequestFacts) -> ImageKind {
    let model = facts.model.as_deref().unwrap_or_default();
    let usual = |word: &str| model.contains("dall-e").then(|| word.to_owned());
    ImageKind {
        size: facts.size.clone().or_else(|| usual("1024x1024")),
        quality: facts.quality.clone().or_else(|| usual("standard")),
    }
}

/// Counts searches as of the context size that the request gave them, where the answer does not tell one.
pub(crate) fn size_searches(usage: &mut Usage, size: Option<SearchSize>) {
    let tool = Tool::search(size.unwrap_or_default());
    for line in &mut usage.lines {
        let tools = &mut line.units.tools;
        let searches = tools.get(Tool::WebSearch);
        tools.set(Tool::WebSearch, 0);
        tools.set(tool, tools.get(tool).saturating_add(searches));
    }
}

/// What an answer without usage used, and whether that is known or an estimate. `None` where only text can tell.
pub(crate) fn unreported(
    api: Api,
    quote: &Quote,
    facts: &RequestFacts,
    reading: &Reading,
    file_ms: Option<u64>,
    input_tokens: u64,
) -> Option<(Line, bool)> {
    let line = |units, is_known| {
        let image = image_kind(facts);
        let line = Line {
            units,
            image,
            ..Line::default()
        };
        Some((line, is_known))
    };
    let none = Units::default();
    match api {
        Api::Images => {
            let is_known = reading.images > 0 && !reading.lost;
            let images = if is_known {
                reading.images
            } else {
                facts.choices
            };
            line(Units { images, ..none }, is_known)
        }
        Api::Speech if quote.has_characters() => {
            let characters = facts.characters;
            line(Units { characters, ..none }, true)
        }
        Api::Speech => {
            let by_text = facts.characters.saturating_mul(MS_PER_CHARACTER);
            let ms = reading.audio_out_ms.unwrap_or(by_text);
            let buckets = Buckets {
                in_text: input_tokens,
                out_audio: audio_tokens(ms),
                ..Buckets::default()
            };
            let line = Line {
                buckets,
                ..Line::default()
            };
            Some((line, false))
        }
        Api::Transcriptions => {
            let said = reading.audio_in_ms;
            // Without any header to read, the bound is the one figure that is not too small.
            let ms = said.or(file_ms).unwrap_or(longest_ms(facts.file_bytes));
            let audio_in_ms = ms.div_ceil(BILLED_MS).saturating_mul(BILLED_MS);
            line(
                Units {
                    audio_in_ms,
                    ..none
                },
                said.is_some(),
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn billed_time_is_whole_seconds_of_what_a_file_can_play() {
        let facts = RequestFacts {
            file_bytes: 1_501,
            ..RequestFacts::default()
        };
        assert_eq!(most(BoundBy::Time, &facts).units.audio_in_ms, 3_000);
    }

    #[test]
    fn reading_out_takes_no_more_than_the_slowest_voice() {
        let facts = RequestFacts {
            characters: 100,
            ..RequestFacts::default()
        };
        let most = most(BoundBy::Characters, &facts);
        assert_eq!(most.units.audio_out_ms, 30_000);
        assert_eq!(most.output, OutputLimit::Tokens(625 + 256));
    }
}
