//! Prices of what is no token.

use crate::{ImageKind, Line, PerTool, Tool, Units, charge::Cost};

/// A multiplier of 1, in basis points.
pub(crate) const PLAIN_BPS: i64 = 10_000;

/// Nano-USD for each unit; time for each minute, characters for each 1,000,000. `None` has no price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fees {
    /// A minute of audio that goes up.
    pub audio_in_minute: Option<i64>,
    /// A minute of audio that comes down.
    pub audio_out_minute: Option<i64>,
    /// A minute of video, of a size that `videos` does not name.
    pub video_minute: Option<i64>,
    /// A minute of video by its size (`1792x1024`).
    pub videos: Vec<(Box<str>, i64)>,
    /// 1,000,000 tokens that a model is trained on.
    pub training: Option<i64>,
    /// 1,000,000 characters read out.
    pub characters: Option<i64>,
    /// A page read.
    pub page: Option<i64>,
    /// A search unit.
    pub query: Option<i64>,
    /// A request, whatever it used.
    pub request: Option<i64>,
    /// An image, by `SIZE/QUALITY`, `SIZE`, `QUALITY` or `*` for any other.
    pub images: Vec<(Box<str>, i64)>,
    /// A call of a paid tool.
    pub tools: PerTool<Option<i64>>,
    /// What tokens cost where they were computed, in basis points of the price: `us` 11,000.
    pub regions_bps: Vec<(Box<str>, i64)>,
    /// What tokens cost at a speed, in basis points of the price: `fast` 60,000.
    pub speeds_bps: Vec<(Box<str>, i64)>,
}

impl Fees {
    /// Whether nothing has a fee.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// These fees, and where one is missing that of `base`: tiers and context sizes seldom name any.
    #[must_use]
    pub fn or(&self, base: &Self) -> Self {
        let list = |own: &Vec<(Box<str>, i64)>, base: &Vec<(Box<str>, i64)>| {
            if own.is_empty() {
                base.clone()
            } else {
                own.clone()
            }
        };
        let mut tools = self.tools;
        for (tool, fee) in base.tools.iter() {
            if tools.get(tool).is_none() {
                tools.set(tool, fee);
            }
        }
        Self {
            audio_in_minute: self.audio_in_minute.or(base.audio_in_minute),
            audio_out_minute: self.audio_out_minute.or(base.audio_out_minute),
            video_minute: self.video_minute.or(base.video_minute),
            videos: list(&self.videos, &base.videos),
            training: self.training.or(base.training),
            characters: self.characters.or(base.characters),
            page: self.page.or(base.page),
            query: self.query.or(base.query),
            request: self.request.or(base.request),
            images: list(&self.images, &base.images),
            tools,
            regions_bps: list(&self.regions_bps, &base.regions_bps),
            speeds_bps: list(&self.speeds_bps, &base.speeds_bps),
        }
    }

    /// What an image of this kind costs: by size and quality, by size, by quality, as any other; and
    /// as the dearest where the provider chose and did not say.
    #[must_use]
    pub fn image(&self, kind: &ImageKind) -> Option<i64> {
        let named = |key: &str| {
            let found = self.images.iter().find(|(name, _)| **name == *key);
            found.map(|(_, fee)| *fee)
        };
        let size = kind.size.as_deref().filter(|size| *size != "auto");
        let quality = kind.quality.as_deref().filter(|word| *word != "auto");
        let both = size
            .zip(quality)
            .and_then(|(size, quality)| named(&format!("{size}/{quality}")));
        both.or_else(|| named(size?))
            .or_else(|| named(quality?))
            .or_else(|| named("*"))
            .or_else(|| self.dearest_image(size, quality))
    }

    /// What a minute of video of this size costs: by its size, else by the minute; the dearest where the size is not known.
    #[must_use]
    pub fn video(&self, size: Option<&str>) -> Option<i64> {
        let named = |size: &str| self.videos.iter().find(|(name, _)| **name == *size);
        let dearest = self.videos.iter().map(|(_, fee)| *fee).max();
        match size.filter(|size| *size != "auto") {
            Some(size) => named(size)
                .map(|(_, fee)| *fee)
                .or(self.video_minute)
                .or(dearest),
            None => self.video_minute.max(dearest),
        }
    }

    /// The dearest of those that the kind leaves open; of all when it names none of them.
    fn dearest_image(&self, size: Option<&str>, quality: Option<&str>) -> Option<i64> {
        let fits = |name: &str| {
            let (a, b) = name.split_once('/').unwrap_or((name, name));
            size.is_none_or(|size| size == a) && quality.is_none_or(|quality| quality == b)
        };
        let open = self.images.iter().filter(|(name, _)| fits(name));
        let dearest = open.map(|(_, fee)| *fee).max();
        dearest.or_else(|| self.images.iter().map(|(_, fee)| *fee).max())
    }

    /// What a call of the tool costs. OpenAI's older search, and searches of low and high context size, cost as the
    /// newer one of medium size where they have no fee of their own.
    #[must_use]
    pub fn tool(&self, tool: Tool) -> Option<i64> {
        let own = self.tools.get(tool);
        match tool {
            Tool::WebSearchPreview | Tool::WebSearchLow | Tool::WebSearchHigh => {
                own.or(self.tools.get(Tool::WebSearch))
            }
            _ => own,
        }
    }

    /// The dearest call of any tool.
    pub(crate) fn dearest_tool(&self) -> Option<i64> {
        self.tools.iter().filter_map(|(_, fee)| fee).max()
    }

    /// The multiplier for where tokens were computed.
    pub(crate) fn region_bps(&self, region: Option<&str>) -> i64 {
        named_bps(&self.regions_bps, region)
    }

    /// The multiplier for how fast.
    pub(crate) fn speed_bps(&self, speed: Option<&str>) -> i64 {
        named_bps(&self.speeds_bps, speed)
    }

    pub(crate) fn dearest_region_bps(&self) -> i64 {
        let bps = self.regions_bps.iter().map(|(_, bps)| *bps);
        bps.fold(PLAIN_BPS, i64::max)
    }

    /// Those of the units that have a fee. `None` when units were used and none has one.
    pub(crate) fn priced(&self, units: &Units) -> Option<Units> {
        let kept = |count: u64, is_priced: bool| if is_priced { count } else { 0 };
        let priced = Units {
            audio_in_ms: kept(units.audio_in_ms, self.audio_in_minute.is_some()),
            audio_out_ms: kept(units.audio_out_ms, self.audio_out_minute.is_some()),
            video_ms: kept(
                units.video_ms,
                self.video_minute.is_some() || !self.videos.is_empty(),
            ),
            training_tokens: kept(units.training_tokens, self.training.is_some()),
            images: kept(units.images, !self.images.is_empty()),
            characters: kept(units.characters, self.characters.is_some()),
            pages: kept(units.pages, self.page.is_some()),
            queries: kept(units.queries, self.query.is_some()),
            ..*units
        };
        (units.is_none() || !priced.is_none()).then_some(priced)
    }

    /// The line's units at these fees. A tool without a fee costs nothing, and is told.
    pub(crate) fn cost(&self, line: &Line) -> Result<(Cost, bool), UnitError> {
        let units = &line.units;
        let time = [
            ("audio_in", units.audio_in_ms, self.audio_in_minute),
            ("audio_out", units.audio_out_ms, self.audio_out_minute),
            (
                "video",
                units.video_ms,
                self.video(line.image.size.as_deref()),
            ),
        ];
        let mut sum = Cost::default();
        let mut add = |cost: Option<Cost>| {
            sum = cost
                .and_then(|cost| sum.checked_add(cost))
                .ok_or(UnitError::Range)?;
            Ok(())
        };
        for (unit, ms, rate) in time {
            if ms > 0 {
                add(Cost::of_time(ms, rate.ok_or(UnitError::Unpriced(unit))?))?;
            }
        }
        let millions = [
            ("characters", units.characters, self.characters),
            ("training tokens", units.training_tokens, self.training),
        ];
        for (unit, count, rate) in millions {
            if count > 0 {
                add(Cost::new(count, rate.ok_or(UnitError::Unpriced(unit))?))?;
            }
        }
        let each = [
            ("images", units.images, self.image(&line.image)),
            ("pages", units.pages, self.page),
            ("queries", units.queries, self.query),
            // Most prices have no fee for a request as such.
            ("requests", units.requests, self.request.or(Some(0))),
        ];
        for (unit, count, fee) in each {
            if count > 0 {
                add(Cost::each(count, fee.ok_or(UnitError::Unpriced(unit))?))?;
            }
        }
        let mut is_tool_unpriced = false;
        for (tool, calls) in units.tools.iter().filter(|(_, calls)| *calls > 0) {
            match self.tool(tool) {
                Some(fee) => add(Cost::each(calls, fee))?,
                None => is_tool_unpriced = true,
            }
        }
        Ok((sum, is_tool_unpriced))
    }
}

/// Why units cannot be priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnitError {
    Unpriced(&'static str),
    Range,
}

fn named_bps(list: &[(Box<str>, i64)], name: Option<&str>) -> i64 {
    let named = list.iter().find(|(known, _)| Some(&**known) == name);
    named.map_or(PLAIN_BPS, |(_, bps)| *bps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_priced_by_the_closest_name_and_else_as_the_dearest() {
        let fees = Fees {
            images: [
                ("1024x1024/standard", 4),
                ("1024x1024/hd", 8),
                ("1792x1024/hd", 12),
            ]
            .map(|(name, fee)| (name.into(), fee))
            .into(),
            ..Fees::default()
        };
        let image = |size: Option<&str>, quality: Option<&str>| {
            fees.image(&ImageKind {
                size: size.map(str::to_owned),
                quality: quality.map(str::to_owned),
            })
        };
        assert_eq!(image(Some("1024x1024"), Some("standard")), Some(4));
        assert_eq!(image(Some("1024x1024"), None), Some(8));
        assert_eq!(image(None, Some("standard")), Some(4));
        assert_eq!(image(Some("auto"), Some("auto")), Some(12));
        assert_eq!(image(Some("9x9"), Some("odd")), Some(12));
        assert_eq!(Fees::default().image(&ImageKind::default()), None);
    }
}
