//! One answer inside a larger document, whose lexer somebody else drives.

use std::convert::Infallible;

use super::{Reading, assemble, harvest::Harvest, used::Used};
use crate::{
    Api,
    lexer::{Here, Kind, Visitor},
};

/// Hears one JSON answer. Depths are those of the answer, not of what it stands in.
#[derive(Debug)]
pub(crate) struct DocumentMeter {
    api: Api,
    harvest: Box<Harvest>,
}

impl DocumentMeter {
    pub(crate) fn new(api: Api) -> Self {
        let mut harvest = Box::new(Harvest::new(api));
        harvest.begin_document(false, false);
        Self { api, harvest }
    }

    /// The lexer has read `bytes`, in the middle of the answer.
    pub(crate) fn after(&mut self, bytes: &[u8]) {
        self.harvest.after(bytes);
    }

    /// The answer has passed whole.
    pub(crate) fn finish(&mut self) -> Reading {
        reading(self.api, &mut self.harvest, true)
    }
}

impl Visitor for DocumentMeter {
    type Stop = Infallible;

    fn begin(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Infallible> {
        self.harvest.begin(kind, here)
    }

    fn text(&mut self, piece: &[u8]) {
        self.harvest.text(piece);
    }

    fn unit(&mut self, unit: u16) {
        self.harvest.unit(unit);
    }

    fn end(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Infallible> {
        self.harvest.end(kind, here)
    }
}

/// What was gathered comes to this. How the bytes ended, the caller knows.
pub(super) fn reading(api: Api, harvest: &mut Harvest, is_complete: bool) -> Reading {
    let top = std::mem::take(&mut harvest.top);
    let mut top = Used {
        raw: top.to_json(),
        figures: top,
    };
    let used = [&mut harvest.own, &mut harvest.spare, &mut top]
        .into_iter()
        .find(|used| used.figures.is_some())
        .map(std::mem::take);
    let is_at_end = is_complete || harvest.is_finished;
    let output_tokens_seen = if used.is_some() && is_at_end {
        0
    } else {
        harvest.text_tokens()
    };
    let usage_raw = used
        .as_ref()
        .and_then(|used| String::from_utf8(used.raw.clone()).ok())
        .filter(|raw| !raw.is_empty());
    Reading {
        usage: used.map(|used| assemble::usage(api, &used, harvest)),
        usage_raw,
        model: harvest.model.take(),
        response_id: harvest.id.take(),
        parts: std::mem::take(&mut harvest.parts),
        images: harvest.images,
        audio_in_ms: harvest.duration_ms,
        audio_out_ms: None,
        is_error: harvest.is_error,
        complete: is_complete,
        finished: harvest.is_finished,
        output_tokens_seen,
        tool_calls: harvest.tool_calls,
        lost: false,
    }
}
