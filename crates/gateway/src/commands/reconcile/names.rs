//! Models as providers name them: in line items, and with dates.

/// What follows a model's name in a line item of costs.
const KINDS: [&str; 12] = [
    "input",
    "output",
    "cached input",
    "cache write",
    "cache writes",
    "long context",
    "batch",
    "flex",
    "priority",
    "text",
    "audio",
    "image",
];
/// What may stand between the name and the comma: `gpt-audio-mini-2025-12-15 audio, input`.
const MODALITIES: [&str; 4] = ["text", "audio", "image", "batch"];

/// The model of a line item: of `gpt-4o-2024-08-06, cached input`, `priority | gpt-5.6, output, long context`. A line item that is
/// about no model (`web search tool calls`) stays whole.
pub(super) fn model_of(line_item: &str) -> &str {
    let whole = line_item.trim();
    let item = whole
        .rsplit_once('|')
        .map_or(whole, |(_, item)| item.trim());
    let Some((head, kinds)) = item.split_once(',') else {
        return whole;
    };
    if !kinds.split(',').all(|kind| KINDS.contains(&kind.trim())) {
        return whole;
    }
    let name = match head.trim().rsplit_once(' ') {
        Some((name, modality)) if MODALITIES.contains(&modality) => name.trim(),
        _ => head.trim(),
    };
    if name.is_empty() || name.contains(' ') {
        whole
    } else {
        name
    }
}

/// The name without its date: `gpt-4o` of `gpt-4o-2024-08-06`, `gpt-4` of `gpt-4-0613`, `claude-opus-4` of `claude-opus-4-20250514`.
pub(super) fn undated(model: &str) -> &str {
    let bytes = model.as_bytes();
    let number = |from: usize, len: usize| -> Option<u32> {
        let digits = model.get(from..from.checked_add(len)?)?;
        digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let is_day = |month: Option<u32>, day: Option<u32>| {
        month.is_some_and(|month| (1..=12).contains(&month))
            && day.is_some_and(|day| (1..=31).contains(&day))
    };
    let dash = |at: usize| bytes.get(at) == Some(&b'-');
    let is_year = |year: Option<u32>| year.is_some_and(|year| (2000..2100).contains(&year));
    let tail = |len: usize| {
        bytes
            .len()
            .checked_sub(len)
            .filter(|at| *at > 0 && dash(*at))
    };
    if let Some(at) = tail("-2024-08-06".len())
        && dash(at + 5)
        && dash(at + 8)
        && is_year(number(at + 1, 4))
        && is_day(number(at + 6, 2), number(at + 9, 2))
    {
        return &model[..at];
    }
    if let Some(at) = tail("-20240806".len())
        && is_year(number(at + 1, 4))
        && is_day(number(at + 5, 2), number(at + 7, 2))
    {
        return &model[..at];
    }
    if let Some(at) = tail("-0806".len())
        && is_day(number(at + 1, 2), number(at + 3, 2))
    {
        return &model[..at];
    }
    model
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_of_a_model_are_one() {
        for (item, model) in [
            ("gpt-4o-2024-08-06, input", "gpt-4o-2024-08-06"),
            ("gpt-4o-2024-08-06, cached input", "gpt-4o-2024-08-06"),
            ("gpt-4o-2024-08-06, output", "gpt-4o-2024-08-06"),
            (
                "priority | gpt-5.6-sol, output, long context",
                "gpt-5.6-sol",
            ),
            (
                "gpt-audio-mini-2025-12-15 audio, input",
                "gpt-audio-mini-2025-12-15",
            ),
            ("whisper-1, audio", "whisper-1"),
            ("text-embedding-3-small", "text-embedding-3-small"),
            ("web search tool calls", "web search tool calls"),
            (
                "assistants api | file search",
                "assistants api | file search",
            ),
            ("storage, per day", "storage, per day"),
            ("some thing, input", "some thing, input"),
            (", input", ", input"),
            ("", ""),
        ] {
            assert_eq!(model_of(item), model, "{item}");
        }
    }

    #[test]
    fn dates_are_cut_off_and_nothing_else() {
        for (model, name) in [
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("gpt-4-0613", "gpt-4"),
            ("claude-opus-4-20250514", "claude-opus-4"),
            ("gpt-4o", "gpt-4o"),
            ("gpt-4o-2024-13-06", "gpt-4o-2024-13-06"),
            ("gpt-4-1613", "gpt-4-1613"),
            ("grok-4-1999", "grok-4-1999"),
            ("-2024-08-06", "-2024-08-06"),
            ("modèle-0613", "modèle"),
            ("é-é-06-13", "é-é-06-13"),
            ("", ""),
        ] {
            assert_eq!(undated(model), name, "{model}");
        }
    }
}
