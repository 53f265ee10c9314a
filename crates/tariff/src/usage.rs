//! What an exchange used, in disjoint billing buckets.

use std::ops::{BitOr, BitOrAssign};

use serde::Serialize;

use crate::{ImageKind, Served, Units};

/// Token counts by kind of price. Disjoint: their sum is the billed total.
///
/// The names are those of the price columns (`in_text`, `cr_text` for cache reads, `cw_5m` and
/// `cw_1h` for cache writes, `out_text`, …).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct Buckets {
    /// Input text, neither cached nor written to a cache.
    pub in_text: u64,
    /// Input audio, not cached.
    pub in_audio: u64,
    /// Input images, not cached.
    pub in_image: u64,
    /// Text read from a cache.
    pub cr_text: u64,
    /// Audio read from a cache.
    pub cr_audio: u64,
    /// Images read from a cache.
    pub cr_image: u64,
    /// Input written to a short-lived cache (Anthropic 5 minutes; OpenAI's only kind).
    pub cw_5m: u64,
    /// Input written to a one-hour cache.
    pub cw_1h: u64,
    /// Output text that can be seen.
    pub out_text: u64,
    /// Output spent on reasoning.
    pub out_reasoning: u64,
    /// Output audio.
    pub out_audio: u64,
    /// Output images.
    pub out_image: u64,
}

impl Buckets {
    /// All input, cached and written included: this picks the context tier.
    #[must_use]
    pub const fn input(&self) -> u64 {
        self.in_text
            .saturating_add(self.in_audio)
            .saturating_add(self.in_image)
            .saturating_add(self.cr_text)
            .saturating_add(self.cr_audio)
            .saturating_add(self.cr_image)
            .saturating_add(self.cw_5m)
            .saturating_add(self.cw_1h)
    }

    /// All output.
    #[must_use]
    pub const fn output(&self) -> u64 {
        self.out_text
            .saturating_add(self.out_reasoning)
            .saturating_add(self.out_audio)
            .saturating_add(self.out_image)
    }

    /// All tokens.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.input().saturating_add(self.output())
    }
}

/// Buckets priced by one model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The model that answered, where the answer names it.
    pub model: Option<String>,
    /// What it used.
    pub buckets: Buckets,
    /// What it used beside tokens.
    pub units: Units,
    /// What kind of images `units` counts.
    pub image: ImageKind,
}

/// What an exchange used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// One line per model; nearly always one.
    pub lines: Vec<Line>,
    /// The tier that really served, as the answer says it (`default`, `flex`, `priority`, …).
    pub service_tier: Option<String>,
    /// Where it was computed, as the answer says it, if that may have a price (`us`).
    pub region: Option<String>,
    /// How fast, as the answer says it, if that may have a price (`fast`).
    pub speed: Option<String>,
    /// What the provider itself says the answer cost.
    pub provider_cost: Option<crate::ProviderCost>,
    /// Anomalies that reading survived.
    pub flags: Flags,
}

impl Usage {
    /// How it was served.
    #[must_use]
    pub fn served(&self) -> Served<'_> {
        Served {
            tier: self.service_tier.as_deref(),
            region: self.region.as_deref(),
            speed: self.speed.as_deref(),
        }
    }

    /// All lines' buckets added up.
    #[must_use]
    pub fn total(&self) -> Buckets {
        let mut sum = Buckets::default();
        for Line { buckets: b, .. } in &self.lines {
            for (to, from) in [
                (&mut sum.in_text, b.in_text),
                (&mut sum.in_audio, b.in_audio),
                (&mut sum.in_image, b.in_image),
                (&mut sum.cr_text, b.cr_text),
                (&mut sum.cr_audio, b.cr_audio),
                (&mut sum.cr_image, b.cr_image),
                (&mut sum.cw_5m, b.cw_5m),
                (&mut sum.cw_1h, b.cw_1h),
                (&mut sum.out_text, b.out_text),
                (&mut sum.out_reasoning, b.out_reasoning),
                (&mut sum.out_audio, b.out_audio),
                (&mut sum.out_image, b.out_image),
            ] {
                *to = to.saturating_add(from);
            }
        }
        sum
    }
}

/// One anomaly in a provider's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Flag {
    /// More cached tokens than prompt tokens; clamped.
    CachedAbovePrompt = 1,
    /// More cache writes than uncached prompt; clamped.
    WrittenAbovePrompt = 2,
    /// More reasoning than completion; clamped.
    ReasoningAboveCompletion = 4,
    /// The total is below prompt + completion; the parts are kept.
    TotalBelowParts = 8,
    /// The total is above prompt + completion; the gap was given to a bucket.
    TotalAboveParts = 16,
    /// More audio or image tokens than their side holds; clamped.
    ModalityAboveSide = 32,
    /// A field was negative, not a number or past 2^53; read as absent.
    BadNumber = 64,
    /// No price for the tier that served; the default tier's was used.
    TierUnpriced = 128,
    /// No fee for a tool that was called; it was charged as free.
    ToolUnpriced = 256,
}

/// A set of [`Flag`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// Whether the flag is in the set.
    #[must_use]
    pub const fn has(self, flag: Flag) -> bool {
        self.0 & flag as u16 != 0
    }

    /// The set of bits that were stored with a charge.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The set as bits, as stored with a charge.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Adds a flag.
    pub fn set(&mut self, flag: Flag) {
        self.0 |= flag as u16;
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
