//! Work that goes on after its request: batches, videos, fine-tuning. What it may cost when it is asked for, and what it did when it ends.

mod batch;
mod bound;
mod ended;
mod fetch;
mod poll;

use ledger::Catalog;
use meter::BatchAsks;
use serde::{Deserialize, Serialize};
use tariff::{PriceId, Quote};

pub(crate) use self::{
    bound::{Bounded, of_batch, of_training, of_video},
    ended::{Ended, Job, Look, json_of, look, object, price_of},
    fetch::{Asked, in_time, read_small},
    poll::ask,
};
use crate::reckon;

/// What is kept of an uploaded file, for what is made of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FileFacts {
    /// How long it is.
    pub(crate) bytes: u64,
    /// What its requests ask for, if it is meant for a batch and passed here in one piece.
    pub(crate) batch: Option<BatchAsks>,
}

/// What is kept of a job, for its settlement.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct JobFacts {
    /// The row that priced it when it began.
    pub(crate) price: i64,
    /// What the answers of a batch are of: `/chat/completions`.
    pub(crate) endpoint: Option<String>,
    /// Requests of a batch, and bytes of them all.
    pub(crate) lines: u64,
    pub(crate) body_bytes: u64,
    /// What a video was asked to be.
    pub(crate) video_ms: u64,
    pub(crate) size: Option<String>,
}

/// What prices a job: the rows in force when it began.
pub(crate) struct Priced<'a> {
    pub(crate) catalog: &'a Catalog,
    /// Of the model that was asked for; `None` once nothing prices it any more.
    pub(crate) quote: Option<Quote>,
    pub(crate) model: &'a str,
    pub(crate) started_at_ms: i64,
    /// Of the row that priced it when it began.
    pub(crate) price: PriceId,
}

impl Priced<'_> {
    /// The rows for what this model answered.
    fn quote_for(&self, answered: Option<&str>) -> Option<Quote> {
        let asked = self.quote.as_ref()?;
        let book = self.catalog.book();
        Some(reckon::quote_of(
            book,
            (asked, self.model),
            answered,
            self.started_at_ms,
        ))
    }
}

/// The id that an object's JSON names.
pub(crate) fn id_of(json: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Object {
        id: String,
    }
    let object: Object = serde_json::from_slice(json).ok()?;
    Some(object.id).filter(|id| !id.is_empty())
}

/// The files that an object names: what a batch or a training has made, what an upload has become.
pub(crate) fn files_in(json: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Object {
        output_file_id: Option<String>,
        error_file_id: Option<String>,
        file: Option<File>,
        result_files: Option<Vec<String>>,
    }
    #[derive(Deserialize)]
    struct File {
        id: String,
    }
    let Ok(object) = serde_json::from_slice::<Object>(json) else {
        return Vec::new();
    };
    let made = [object.output_file_id, object.error_file_id];
    let file = object.file.map(|file| file.id);
    let made = made.into_iter().flatten().chain(file);
    made.chain(object.result_files.into_iter().flatten())
        .collect()
}
