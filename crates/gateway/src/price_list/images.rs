//! Entries that are no model but one kind of image of one: `hd/1024-x-1792/dall-e-3`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tariff::{Fees, Pattern, Price, PriceId, Rates, Tier};

use super::{LeftOut, PriceList, entry, fees};

/// The words for quality that stand in such names.
const QUALITIES: [&str; 5] = ["low", "medium", "high", "standard", "hd"];

/// What each model's images cost, by size and quality.
#[derive(Debug, Default)]
pub(super) struct Images(BTreeMap<String, Vec<(Box<str>, i64)>>);

/// A name that is one kind of image of a model.
struct Kind {
    model: String,
    /// As price rows name it.
    name: String,
    pixels: i128,
}

impl Kind {
    fn parse(key: &str) -> Option<Self> {
        let (rest, model) = key.rsplit_once('/')?;
        let (rest, size) = rest
            .rsplit_once('/')
            .map_or(("", rest), |(rest, size)| (rest, size));
        let (width, height) = size.split_once("-x-")?;
        let pixels = width
            .parse::<i128>()
            .ok()?
            .checked_mul(height.parse().ok()?)?;
        let (prefix, last) = rest.rsplit_once('/').unwrap_or(("", rest));
        let (prefix, quality) = if QUALITIES.contains(&last) {
            (prefix, Some(last))
        } else {
            (rest, None)
        };
        let model = if prefix.is_empty() {
            model.to_owned()
        } else {
            format!("{prefix}/{model}")
        };
        let size = format!("{width}x{height}");
        let name = quality.map_or(size.clone(), |quality| format!("{size}/{quality}"));
        Some(Self {
            model,
            name,
            pixels,
        })
    }
}

impl Images {
    /// Takes an entry that is a kind of image; `None` if it is something else.
    pub(super) fn take(&mut self, key: &str, value: &RawValue) -> Option<LeftOut> {
        let kind = Kind::parse(key)?;
        let members = entry::members(value)?;
        let figure = |name| Some(entry::find(&members, name)?.get());
        let by_image = figure("input_cost_per_image").and_then(|text| fees::pixel_fee(text, 1));
        let by_pixel = || fees::pixel_fee(figure("input_cost_per_pixel")?, kind.pixels);
        let fee = by_image.or_else(by_pixel).filter(|fee| *fee > 0);
        let Some(fee) = fee else {
            return Some(LeftOut::NoPrice);
        };
        self.0
            .entry(kind.model)
            .or_default()
            .push((kind.name.into(), fee));
        Some(LeftOut::KindOfImage)
    }

    /// Puts them into the rows of their models. A model that is priced by the token is billed so: its answers report them.
    pub(super) fn add_to(self, list: &mut PriceList) {
        for (model, images) in self.0 {
            let pattern = Pattern::Exact(model.as_str().into());
            let row = list
                .prices
                .iter_mut()
                .find(|price| price.pattern == pattern);
            match row {
                Some(row) if row.rates.is_none() => row.fees.images.extend(images),
                Some(_) => {}
                None => list.prices.push(Price {
                    id: PriceId(0),
                    pattern,
                    tier: Tier::new("default"),
                    min_context: 0,
                    context_inclusive: false,
                    valid_from_ms: 0,
                    valid_to_ms: None,
                    rates: Rates::default(),
                    fees: Fees {
                        images,
                        ..Fees::default()
                    },
                    context_window: None,
                    output_max: None,
                }),
            }
        }
        for price in &mut list.prices {
            price.fees.images.sort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_image_is_told_from_a_model() {
        let read = |key| Kind::parse(key).map(|kind| (kind.model, kind.name, kind.pixels));
        assert_eq!(
            read("azure/hd/1024-x-1792/dall-e-3"),
            Some(("azure/dall-e-3".into(), "1024x1792/hd".into(), 1_835_008))
        );
        assert_eq!(
            read("256-x-256/dall-e-2"),
            Some(("dall-e-2".into(), "256x256".into(), 65_536))
        );
        for key in ["dall-e-3", "azure/gpt-image-1", "x/ax-b/c"] {
            assert!(read(key).is_none(), "{key}");
        }
    }
}
