//! `turnpike price set`: every figure that a price may have.

use clap::Args;
use jiff::Timestamp;
use ledger::Disconnect;
use tariff::{Amount, Fees, Pattern, PerTool, Price, PriceId, Rates, Tier, Tool};

use super::parse_time;

/// Nano in a basis point.
const NANO_PER_BPS: i64 = 100_000;

/// A price.
#[derive(Debug, Args)]
pub(crate) struct SetPrice {
    /// A model's name, or a prefix with a trailing '*'.
    pub(crate) model: String,
    /// Input text.
    #[arg(long, value_name = "USD")]
    input: Option<Amount>,
    /// Input read from a cache; as input unless given.
    #[arg(long, value_name = "USD")]
    cached_input: Option<Amount>,
    /// Input written to a cache; as input unless given.
    #[arg(long, value_name = "USD")]
    cache_write: Option<Amount>,
    /// The same to a one-hour cache; as --cache-write unless given.
    #[arg(long, value_name = "USD")]
    cache_write_1h: Option<Amount>,
    /// Output, reasoning included unless that is given. Embedding models have none.
    #[arg(long, value_name = "USD")]
    output: Option<Amount>,
    /// Output spent on reasoning.
    #[arg(long, value_name = "USD")]
    reasoning: Option<Amount>,
    /// Input audio; as input unless given, like all that follow.
    #[arg(long, value_name = "USD")]
    input_audio: Option<Amount>,
    /// Input images.
    #[arg(long, value_name = "USD")]
    input_image: Option<Amount>,
    /// Audio read from a cache.
    #[arg(long, value_name = "USD")]
    cached_input_audio: Option<Amount>,
    /// Images read from a cache.
    #[arg(long, value_name = "USD")]
    cached_input_image: Option<Amount>,
    /// Output audio; as output unless given.
    #[arg(long, value_name = "USD")]
    output_audio: Option<Amount>,
    /// Output images; as output unless given.
    #[arg(long, value_name = "USD")]
    output_image: Option<Amount>,
    /// A minute of audio that goes up, in USD.
    #[arg(long, value_name = "USD", help_heading = "Fees")]
    input_audio_minute: Option<Amount>,
    /// A minute of audio that comes down.
    #[arg(long, value_name = "USD", help_heading = "Fees")]
    output_audio_minute: Option<Amount>,
    /// A minute of video, of a size that --video does not name.
    #[arg(long, value_name = "USD", help_heading = "Fees")]
    video_minute: Option<Amount>,
    /// A minute of video by its size: 1792x1024=30. Give it once for each.
    #[arg(long, value_name = "SIZE=USD", value_parser = named_fee, help_heading = "Fees")]
    video: Vec<(Box<str>, i64)>,
    /// 1,000,000 tokens that the model is trained on.
    #[arg(long, value_name = "USD", help_heading = "Fees")]
    training: Option<Amount>,
    /// 1,000,000 characters that are read out.
    #[arg(long, value_name = "USD", help_heading = "Fees")]
    characters: Option<Amount>,
    /// A page read.
    #[arg(long, value_name = "USD", help_heading = "Fees")]
    page: Option<Amount>,
    /// A search unit: a reranked query, a search billed by itself.
    #[arg(long, value_name = "USD", help_heading = "Fees")]
    query: Option<Amount>,
    /// A request, whatever it used.
    #[arg(long, value_name = "USD", help_heading = "Fees")]
    request: Option<Amount>,
    /// An image, by SIZE/QUALITY, SIZE, QUALITY, or * for any other: 1024x1024/hd=0.08. Give it once for each.
    #[arg(long, value_name = "KIND=USD", value_parser = named_fee, help_heading = "Fees")]
    image: Vec<(Box<str>, i64)>,
    /// A call of a paid tool: web_search, web_search_low, web_search_high, web_search_preview, x_search, file_search,
    /// container, maps. Give it once for each.
    #[arg(long, value_name = "TOOL=USD", value_parser = tool_fee, help_heading = "Fees")]
    tool: Vec<(Tool, i64)>,
    /// What tokens cost where they are computed, times the price: us=1.1. Give it once for each.
    #[arg(long, value_name = "REGION=FACTOR", value_parser = named_factor, help_heading = "Fees")]
    region: Vec<(Box<str>, i64)>,
    /// What tokens cost at a speed, times the price: fast=6. Give it once for each.
    #[arg(long, value_name = "SPEED=FACTOR", value_parser = named_factor, help_heading = "Fees")]
    speed: Vec<(Box<str>, i64)>,
    /// Service tier.
    #[arg(long, default_value = "default")]
    tier: String,
    /// Prices the whole exchange once its input exceeds so many tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    min_context: u64,
    /// The same once its input reaches them.
    #[arg(long)]
    context_inclusive: bool,
    /// Most input tokens the model takes; holds are taken by it. Left out, it stays as it was.
    #[arg(long, value_name = "TOKENS")]
    context_window: Option<u64>,
    /// Most output tokens the model gives; holds are taken by it. Left out, it stays as it was.
    #[arg(long, value_name = "TOKENS")]
    output_max: Option<u64>,
    /// What a client's leaving means: drain, estimate, void. Left out: as the setting DISCONNECT says.
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    disconnect: Option<Disconnect>,
    /// From when on (UTC); now unless given.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    valid_from: Option<Timestamp>,
    /// Where the figures come from, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) source: Option<String>,
}

impl SetPrice {
    /// The row that is set, and what a client's leaving means.
    pub(crate) fn price(&self) -> (Price, Option<Disconnect>) {
        let nano = |amount: Option<Amount>| amount.map(Amount::nano);
        let mut tools = PerTool::default();
        for (tool, fee) in &self.tool {
            tools.set(*tool, Some(*fee));
        }
        let price = Price {
            id: PriceId(0),
            pattern: Pattern::new(&self.model),
            tier: Tier::new(&self.tier),
            min_context: self.min_context,
            context_inclusive: self.context_inclusive,
            valid_from_ms: self.valid_from.map_or(0, Timestamp::as_millisecond),
            valid_to_ms: None,
            rates: Rates {
                in_text: nano(self.input),
                cr_text: nano(self.cached_input),
                cw_5m: nano(self.cache_write),
                cw_1h: nano(self.cache_write_1h),
                out_text: nano(self.output),
                out_reasoning: nano(self.reasoning),
                in_audio: nano(self.input_audio),
                in_image: nano(self.input_image),
                cr_audio: nano(self.cached_input_audio),
                cr_image: nano(self.cached_input_image),
                out_audio: nano(self.output_audio),
                out_image: nano(self.output_image),
            },
            fees: Fees {
                audio_in_minute: nano(self.input_audio_minute),
                audio_out_minute: nano(self.output_audio_minute),
                video_minute: nano(self.video_minute),
                videos: self.video.clone(),
                training: nano(self.training),
                characters: nano(self.characters),
                page: nano(self.page),
                query: nano(self.query),
                request: nano(self.request),
                images: self.image.clone(),
                tools,
                regions_bps: self.region.clone(),
                speeds_bps: self.speed.clone(),
            },
            context_window: self.context_window,
            output_max: self.output_max,
        };
        (price, self.disconnect)
    }
}

/// `NAME=USD`.
fn named_fee(text: &str) -> Result<(Box<str>, i64), String> {
    let (name, usd) = text
        .rsplit_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("it is of the form NAME=USD")?;
    let amount: Amount = usd.parse().map_err(|error| format!("{usd}: {error}"))?;
    Ok((name.into(), amount.nano()))
}

fn tool_fee(text: &str) -> Result<(Tool, i64), String> {
    let (name, fee) = named_fee(text)?;
    let tool = Tool::named(&name).ok_or_else(|| {
        let all: Vec<_> = Tool::ALL.map(Tool::name).into();
        format!("there is no tool {name}: {}", all.join(", "))
    })?;
    Ok((tool, fee))
}

/// `NAME=FACTOR`, in basis points.
fn named_factor(text: &str) -> Result<(Box<str>, i64), String> {
    let (name, nano) = named_fee(text).map_err(|_| "it is of the form NAME=FACTOR")?;
    match (
        nano.checked_div(NANO_PER_BPS),
        nano.checked_rem(NANO_PER_BPS),
    ) {
        (Some(bps), Some(0)) if bps > 0 => Ok((name, bps)),
        _ => Err("the factor has four decimals at most and is above 0: us=1.1".into()),
    }
}

fn policy(text: &str) -> Result<Disconnect, String> {
    match text {
        "drain" => Ok(Disconnect::Drain),
        "estimate" => Ok(Disconnect::Estimate),
        "void" => Ok(Disconnect::Void),
        _ => Err("it is drain, estimate or void".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_and_factors_are_read_by_name() {
        assert_eq!(
            named_fee("1024x1024/hd=0.08"),
            Ok(("1024x1024/hd".into(), 80_000_000))
        );
        assert_eq!(
            tool_fee("web_search_high=0.05"),
            Ok((Tool::WebSearchHigh, 50_000_000))
        );
        assert!(tool_fee("golf=1").is_err_and(|why| why.contains("web_search_low")));
        assert_eq!(named_factor("us=1.1"), Ok(("us".into(), 11_000)));
        for wrong in ["us", "=1", "us=0", "us=1.00001", "us=x"] {
            assert!(named_factor(wrong).is_err(), "{wrong}");
        }
    }
}
