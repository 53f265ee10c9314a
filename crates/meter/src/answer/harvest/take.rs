//! What a passed value comes to.

use tariff::SearchSize;

use super::Harvest;
use crate::{
    answer::{decimal, event::Event, places::Value},
    lexer::Scrap,
};

impl Harvest {
    /// A wanted value has passed whole.
    pub(super) fn take(&mut self, value: Value) {
        self.scrap.settle();
        let bytes = self.scrap.bytes();
        let text = || {
            let is_whole = !bytes.is_empty() && !self.scrap.is_cut();
            is_whole.then(|| String::from_utf8_lossy(bytes).into_owned())
        };
        match value {
            Value::Id => self.id = text(),
            Value::Model => self.model = text(),
            Value::SplitModel => {
                let name = text();
                if let Some((model, _)) = self.split.last_mut() {
                    *model = name;
                }
            }
            Value::ServiceTier => self.service_tier = text().or(self.service_tier.take()),
            Value::UsageTier => self.usage_tier = text().or(self.usage_tier.take()),
            Value::Region => self.region = text().or(self.region.take()),
            Value::Speed => self.speed = text().or(self.speed.take()),
            Value::ImageModel => self.image_model = text().or(self.image_model.take()),
            Value::IterationType | Value::IterationModel => {
                let text = text();
                if let Some(iteration) = self.iterations.last_mut() {
                    if value == Value::IterationType {
                        iteration.kind = text;
                    } else {
                        iteration.model = text;
                    }
                }
            }
            Value::ItemType => self.calls.item_type(bytes),
            Value::ActionType => self.calls.action_type(bytes),
            Value::Container => {
                let id = text();
                self.calls.container(id.clone());
                self.note_part(id);
            }
            Value::PartId => {
                let id = text();
                self.note_part(id);
            }
            Value::OfferType => self.calls.offered(bytes),
            Value::AnnotationType => self.calls.is_cited |= bytes == b"url_citation",
            Value::SearchesReported => {
                self.calls.searches_reported = decimal::count(bytes);
            }
            Value::SearchSize => self.calls.size = SearchSize::named(bytes),
            Value::Duration => self.duration_ms = decimal::millis(bytes),
            Value::EventType => self.event = Event::named(self.api, bytes),
            Value::Status => {
                self.is_finished |= matches!(
                    bytes,
                    b"completed" | b"incomplete" | b"failed" | b"cancelled"
                )
            }
            Value::FinishReason => self.is_finished |= !bytes.is_empty(),
            Value::Error => self.is_error |= !bytes.is_empty(),
            Value::ToolName if !bytes.is_empty() => {
                self.tool_calls = self.tool_calls.saturating_add(1)
            }
            Value::Figure(_) | Value::Cost | Value::Ticks | Value::Seconds => {
                self.take_figure(value)
            }
            _ => {}
        }
    }

    fn take_figure(&mut self, value: Value) {
        // Moved out and back: the figures may be anywhere in self.
        let scrap = std::mem::replace(&mut self.scrap, Scrap::new(0));
        if let Some(figures) = self.figures_mut() {
            let bytes = scrap.bytes();
            match value {
                Value::Figure(figure) => figures.set(figure, bytes),
                Value::Cost => figures.set_cost(bytes),
                Value::Ticks => figures.set_ticks(bytes),
                _ => figures.set_seconds(bytes),
            }
        }
        self.scrap = scrap;
    }
}
