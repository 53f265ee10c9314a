//! Charges as CloudEvents 1.0 in JSON, as metering systems take them.

use std::{fs::File, io};

use ledger::admin::{BUCKETS, NumberedCharge};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    columns::instant,
    lines::{Format, last_line},
};
use crate::cli::Subject;

/// What the events are of.
const TYPE: &str = "turnpike.charge";

/// Events of these books.
pub(super) struct Events {
    source: String,
    subject: Subject,
}

impl Events {
    pub(super) fn new(books: Uuid, subject: Subject) -> Self {
        Self {
            source: format!("/turnpike/{books}"),
            subject,
        }
    }

    /// `id` and `source` together are unique, so that a receiver counts a charge once however often it is sent.
    fn event(&self, charge: &NumberedCharge) -> Value {
        let subject = match self.subject {
            Subject::Account => &charge.account,
            Subject::Token => &charge.token,
        };
        json!({
            "specversion": "1.0",
            "id": charge.id.to_string(),
            "source": self.source,
            "type": TYPE,
            "subject": subject,
            "time": instant(charge.started_at_ms),
            "datacontenttype": "application/json",
            // A text, as the extension has it.
            "sequence": charge.seq.to_string(),
            "data": data(charge),
        })
    }
}

fn data(charge: &NumberedCharge) -> Map<String, Value> {
    let model = charge.model_answered.as_ref();
    let Value::Object(mut data) = json!({
        "account": charge.account,
        "token": charge.token,
        "model": model.unwrap_or(&charge.model_requested),
        "model_requested": charge.model_requested,
        "model_answered": charge.model_answered,
        "endpoint": charge.endpoint,
        "upstream": charge.upstream,
        "nano_usd": charge.amount.nano(),
        "usd": charge.amount.to_string(),
        "mark": charge.mark,
        "ending": charge.ending,
        "status": charge.status,
        "input_tokens": sum(charge.buckets.get(..8)),
        "output_tokens": sum(charge.buckets.get(8..)),
    }) else {
        return Map::new();
    };
    for (name, count) in BUCKETS.iter().zip(charge.buckets) {
        data.insert((*name).to_owned(), count.into());
    }
    data
}

fn sum(buckets: Option<&[i64]>) -> i64 {
    buckets
        .unwrap_or_default()
        .iter()
        .fold(0, |sum: i64, count| sum.saturating_add(*count))
}

impl Format for Events {
    fn line(&self, charge: &NumberedCharge, into: &mut Vec<u8>) -> io::Result<()> {
        serde_json::to_writer(&mut *into, &self.event(charge))?;
        into.push(b'\n');
        Ok(())
    }

    fn last(&self, file: &mut File) -> io::Result<Option<(u64, i64)>> {
        last_line(file, |line| line.get("sequence")?.as_str()?.parse().ok())
    }
}
