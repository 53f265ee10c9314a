//! The grammar of the list's price keys: which rate of which row a key is for.
//!
//! ```text
//! input_cost_per_token _above_200k_tokens _priority
//! └─ bucket ─────────┘ └─ context size ─┘ └─ tier ┘
//! ```

use tariff::Rates;

/// A price key that has a place in a price row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// The tier as price rows name it.
    pub(super) tier: &'static str,
    /// From which input on the figure counts.
    pub(super) min_context: u64,
    pub(super) bucket: Bucket,
}

/// A rate's place among the others.
pub(super) type Bucket = fn(&mut Rates) -> &mut Option<i64>;

/// The suffixes of a key that name a tier.
const TIERS: &[(&str, &str)] = &[
    ("_priority", "priority"),
    ("_flex", "flex"),
    ("_ultrafast", "ultrafast"),
    ("_batches", "batch"),
];

/// Keys that mean one bucket, whatever the model.
const BASES: &[(&str, Bucket)] = &[
    ("input_cost_per_token", |r| &mut r.in_text),
    ("input_cost_per_audio_token", |r| &mut r.in_audio),
    ("input_cost_per_image_token", |r| &mut r.in_image),
    ("cache_read_input_token_cost", |r| &mut r.cr_text),
    ("cache_read_input_audio_token_cost", |r| &mut r.cr_audio),
    ("cache_read_input_image_token_cost", |r| &mut r.cr_image),
    ("cache_creation_input_token_cost", |r| &mut r.cw_5m),
    ("cache_creation_input_token_cost_above_1hr", |r| {
        &mut r.cw_1h
    }),
    ("output_cost_per_token", |r| &mut r.out_text),
    ("output_cost_per_reasoning_token", |r| &mut r.out_reasoning),
    ("output_cost_per_audio_token", |r| &mut r.out_audio),
    ("output_cost_per_image_token", |r| &mut r.out_image),
];

/// Keys that stand in for one of [`BASES`] where it is missing.
const STAND_INS: &[(&str, Bucket)] = &[
    ("input_cost_per_token_cache_hit", |r| &mut r.cr_text),
    // OpenAI writes no audio to caches: under this key the list has what reading it costs.
    ("cache_creation_input_audio_token_cost", |r| &mut r.cr_audio),
];

/// As [`STAND_INS`], but only for realtime models: elsewhere this is the price of a whole image.
const REALTIME_STAND_INS: &[(&str, Bucket)] = &[("input_cost_per_image", |r| &mut r.in_image)];

impl Key {
    /// Reads a key; `None` when no rate of a price row is meant.
    pub(super) fn parse(key: &str) -> Option<Self> {
        Self::among(&[BASES], key)
    }

    /// Reads a key that stands in for another.
    pub(super) fn parse_stand_in(key: &str, realtime: bool) -> Option<Self> {
        Self::among(
            &[STAND_INS, if realtime { REALTIME_STAND_INS } else { &[] }],
            key,
        )
    }

    fn among(tables: &[&[(&str, Bucket)]], key: &str) -> Option<Self> {
        let tier = TIERS
            .iter()
            .find_map(|(suffix, tier)| Some((key.strip_suffix(suffix)?, *tier)));
        let (key, tier) = tier.unwrap_or((key, "default"));
        let (base, min_context) = match above(key) {
            Some((base, thousands)) => (base, thousands.checked_mul(1_000)?),
            None => (key, 0),
        };
        let (_, bucket) = *tables
            .iter()
            .copied()
            .flatten()
            .find(|(name, _)| *name == base)?;
        Some(Self {
            tier,
            min_context,
            bucket,
        })
    }
}

/// `(KEY, 200)` of `KEY_above_200k_tokens`.
fn above(key: &str) -> Option<(&str, u64)> {
    let (base, thousands) = key.strip_suffix("k_tokens")?.rsplit_once("_above_")?;
    Some((base, thousands.parse().ok()?))
}

/// Every bucket once.
pub(super) fn buckets() -> impl Iterator<Item = Bucket> {
    BASES.iter().map(|(_, bucket)| *bucket)
}

/// Whether a key is about money at all.
pub(super) fn is_price(key: &str) -> bool {
    ["cost", "pricing", "multiplier", "provider_specific_entry"]
        .iter()
        .any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_bucket_then_a_context_size_then_a_tier() {
        let read = |key: &str| {
            let key = Key::parse(key)?;
            let mut rates = Rates::default();
            *(key.bucket)(&mut rates) = Some(1);
            Some((key.tier, key.min_context, rates))
        };
        let in_text = Rates {
            in_text: Some(1),
            ..Rates::default()
        };
        let cw_1h = Rates {
            cw_1h: Some(1),
            ..Rates::default()
        };
        assert_eq!(read("input_cost_per_token"), Some(("default", 0, in_text)));
        assert_eq!(
            read("input_cost_per_token_batches"),
            Some(("batch", 0, in_text))
        );
        assert_eq!(
            read("input_cost_per_token_above_200k_tokens_priority"),
            Some(("priority", 200_000, in_text))
        );
        let one_hour = "cache_creation_input_token_cost_above_1hr";
        assert_eq!(read(one_hour), Some(("default", 0, cw_1h)));
        assert_eq!(
            read(&format!("{one_hour}_above_200k_tokens")),
            Some(("default", 200_000, cw_1h))
        );
        for key in [
            "input_cost_per_pixel",
            "input_cost_per_token_above_xk_tokens",
            "output_cost_per_second_1080p",
            "",
        ] {
            assert_eq!(read(key), None, "{key}");
        }
    }

    #[test]
    fn a_price_of_an_image_is_a_rate_only_for_realtime_models() {
        assert!(Key::parse_stand_in("input_cost_per_image", true).is_some());
        assert!(Key::parse_stand_in("input_cost_per_image", false).is_none());
    }
}
