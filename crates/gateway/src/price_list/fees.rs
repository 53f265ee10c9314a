//! What the list says about units other than tokens: seconds, images, characters, pages, queries, searches; and its multipliers.

use serde_json::value::RawValue;
use tariff::{Amount, Fees, SearchSize, Tool};

use super::{LeftOut, Members, entry};

/// 100 USD for an image, a minute or a call. The dearest real figure is 36 USD for a minute of video.
const FEE_MAX: i64 = 100_000_000_000;
/// What one second costs becomes what a minute does.
const SECONDS_PER_MINUTE: i128 = 60;
/// Prices of images that are listed by the pixel are of whole tenths of a cent.
const PIXEL_FEE_UNIT: i128 = 1_000_000;
/// Digits that are kept of a figure while it is multiplied.
const DIGITS: u32 = 24;

/// Whether the key is one of those read here, for a model of this mode.
pub(super) fn is_read(key: &str, mode: &str, by_token: bool) -> bool {
    match key {
        "input_cost_per_second"
        | "input_cost_per_audio_per_second"
        | "input_cost_per_video_per_second"
        | "output_cost_per_video_per_second"
        | "input_cost_per_character"
        | "ocr_cost_per_page"
        | "input_cost_per_query"
        | "input_cost_per_request"
        | "output_cost_per_image"
        | "search_context_cost_per_query"
        | "provider_specific_entry"
        | "regional_processing_uplift_multiplier_eu"
        | "regional_processing_uplift_multiplier_us" => true,
        "output_cost_per_second" => mode != "chat",
        "input_cost_per_image" => mode == "image_generation" && !by_token,
        _ => false,
    }
}

/// The fees of one model. `by_token`: it has prices for tokens as well.
pub(super) fn read(members: &Members<'_>, mode: &str, by_token: bool) -> Result<Fees, LeftOut> {
    let mut fees = Fees::default();
    for (key, value) in &members.0 {
        if !is_read(key, mode, by_token) {
            continue;
        }
        let unreadable = || LeftOut::Unreadable(key.to_string());
        let each = || fee(value, 1).ok_or_else(unreadable);
        let minute = || fee(value, SECONDS_PER_MINUTE).ok_or_else(unreadable);
        match &**key {
            "input_cost_per_second" | "input_cost_per_audio_per_second" => {
                fees.audio_in_minute = minute()?;
            }
            // A transcript's output is its text: under this key the list repeats what the input costs.
            "output_cost_per_second" if mode == "audio_transcription" => {}
            "output_cost_per_second" if mode == "audio_speech" => {
                fees.audio_out_minute = minute()?;
            }
            "output_cost_per_second"
            | "input_cost_per_video_per_second"
            | "output_cost_per_video_per_second" => fees.video_minute = minute()?,
            "input_cost_per_character" => {
                fees.characters = fee(value, 1_000_000).ok_or_else(unreadable)?
            }
            "ocr_cost_per_page" => fees.page = each()?,
            "input_cost_per_query" => fees.query = each()?,
            "input_cost_per_request" => fees.request = each()?,
            "input_cost_per_image" | "output_cost_per_image" => {
                fees.images = each()?.map(|fee| ("*".into(), fee)).into_iter().collect();
            }
            "search_context_cost_per_query" => {
                for (size, fee) in searches(value).ok_or_else(unreadable)? {
                    fees.tools.set(Tool::search(size), fee);
                }
            }
            "provider_specific_entry" => multipliers(value, &mut fees).ok_or_else(unreadable)?,
            _ => {
                let region = key.rsplit('_').next().unwrap_or_default();
                let bps = bps(value).ok_or_else(unreadable)?;
                fees.regions_bps.push((region.into(), bps));
            }
        }
    }
    fees.regions_bps.sort();
    fees.speeds_bps.sort();
    Ok(fees)
}

/// Whether something is dearer than anything that is sold.
pub(super) fn is_absurd(fees: &Fees) -> bool {
    let Fees {
        audio_in_minute,
        audio_out_minute,
        video_minute,
        page,
        query,
        request,
        ..
    } = fees;
    let plain = [
        audio_in_minute,
        audio_out_minute,
        video_minute,
        page,
        query,
        request,
    ];
    let plain = plain.into_iter().filter_map(|fee| *fee);
    let images = fees.images.iter().chain(&fees.videos).map(|(_, fee)| *fee);
    let tools = fees.tools.iter().filter_map(|(_, fee)| fee);
    let each = plain.chain(images).chain(tools).any(|fee| fee > FEE_MAX);
    each || fees.characters.is_some_and(|rate| rate > entry::RATE_MAX)
}

/// Whether the fees alone price what a model does.
pub(super) fn are_enough(fees: &Fees) -> bool {
    let Fees {
        audio_in_minute,
        audio_out_minute,
        video_minute,
        characters,
        page,
        query,
        ..
    } = fees;
    let units = [
        audio_in_minute,
        audio_out_minute,
        video_minute,
        characters,
        page,
        query,
    ];
    units.iter().any(|fee| fee.is_some()) || !fees.images.is_empty()
}

/// A figure times `factor`, in nano-USD, to the nearest: per-second figures are of minutes in truth, and cut off. `None` for
/// what cannot be read; a zero or null is no price.
fn fee(value: &RawValue, factor: i128) -> Option<Option<i64>> {
    let text = value.get().trim_matches('"');
    if text == "null" {
        return Some(None);
    }
    let nano = scaled(text, factor, 1)?;
    Some((nano > 0).then_some(nano))
}

/// A price by the pixel, for an image of this size.
pub(super) fn pixel_fee(text: &str, pixels: i128) -> Option<i64> {
    scaled(text, pixels, PIXEL_FEE_UNIT)
}

/// `text` times `factor` in nano-USD, rounded to the nearest multiple of `unit`.
fn scaled(text: &str, factor: i128, unit: i128) -> Option<i64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let digits = digits.parse::<i128>().ok().filter(|_| is_number)?;
    // Nano is nine digits; a divisor past the range leaves nothing.
    let down = i32::try_from(fraction.len()).ok()? - exponent - 9;
    let product = digits.checked_mul(factor)?;
    let (product, divisor) = match u32::try_from(down) {
        Ok(down) if down > DIGITS + 12 => return Some(0),
        Ok(down) => (product, 10_i128.checked_pow(down)?),
        Err(_) => (
            product.checked_mul(10_i128.checked_pow(down.unsigned_abs())?)?,
            1,
        ),
    };
    let divisor = divisor.checked_mul(unit)?;
    let nearest = product.checked_add(divisor / 2)?.checked_div(divisor)?;
    i64::try_from(nearest.checked_mul(unit)?).ok()
}

/// A multiplier in basis points.
fn bps(value: &RawValue) -> Option<i64> {
    let nano = Amount::parse_scaled(value.get(), 0).ok()?.nano();
    // 1e-9 of a multiplier is 1e-5 of a basis point.
    (nano > 0 && nano % 100_000 == 0).then_some(nano / 100_000)
}

/// `{"us": 1.1, "fast": 6.0}`: where, and how fast.
fn multipliers(value: &RawValue, fees: &mut Fees) -> Option<()> {
    let members: Members<'_> = serde_json::from_str(value.get()).ok()?;
    for (name, value) in &members.0 {
        let list = if name == "fast" {
            &mut fees.speeds_bps
        } else {
            &mut fees.regions_bps
        };
        list.push((name.as_ref().into(), bps(value)?));
    }
    Some(())
}

/// What a search costs by the size of its context: medium unless told, and the others where they differ from that.
fn searches(value: &RawValue) -> Option<Vec<(SearchSize, Option<i64>)>> {
    let members: Members<'_> = serde_json::from_str(value.get()).ok()?;
    let of = |size: &str| {
        let name = format!("search_context_size_{size}");
        let (_, value) = members.0.iter().find(|(key, _)| **key == *name)?;
        fee(value, 1).flatten()
    };
    let (low, high) = (of("low"), of("high"));
    let medium = of("medium").or_else(|| low.max(high));
    let differing = |fee: Option<i64>| fee.filter(|_| fee != medium);
    Some(vec![
        (SearchSize::Low, differing(low)),
        (SearchSize::Medium, medium),
        (SearchSize::High, differing(high)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_becomes_a_minute_to_the_nearest_nano() {
        for (text, nano) in [
            ("0.0001", 6_000_000),
            ("0.0002833333333333333", 17_000_000),
            ("3.083e-05", 1_849_800),
            ("0", 0),
            ("1e-40", 0),
        ] {
            assert_eq!(scaled(text, 60, 1), Some(nano), "{text}");
        }
        for text in ["", "-1", "x", "1.2.3"] {
            assert_eq!(scaled(text, 60, 1), None, "{text}");
        }
    }

    #[test]
    fn a_pixel_becomes_an_image_to_the_tenth_of_a_cent() {
        for (text, width, height, nano) in [
            ("3.81469e-08", 1024, 1024, 40_000_000),
            ("7.629e-08", 1024, 1024, 80_000_000),
            ("6.539e-08", 1792, 1024, 120_000_000),
            ("1.9e-08", 1024, 1024, 20_000_000),
        ] {
            assert_eq!(pixel_fee(text, width * height), Some(nano), "{text}");
        }
    }
}
