//! OpenAI's organization usage and costs: pages of buckets of results.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use super::{
    export::{Export, Record},
    figures::{Figure, Figures},
    names,
};

/// Reads one page, several one after the other (a line each, or not), or an array of them.
///
/// # Errors
/// What is wrong, with line, column and field.
pub(super) fn read(text: &str) -> Result<Export, String> {
    let mut reading = Reading {
        export: Export {
            tells_empty_spans: true,
            endpoints: Some(Default::default()),
            ..Export::default()
        },
        left_out: BTreeMap::new(),
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let mut more = false;
    while deserializer.end().is_err() {
        let pages: Pages =
            serde_path_to_error::deserialize(&mut deserializer).map_err(|error| place(&error))?;
        for page in pages.0 {
            more = page.has_more;
            reading.page(page)?;
        }
    }
    let mut export = reading.export;
    for (object, results) in reading.left_out {
        export.notes.push(format!(
            "{results} results of {object} were left out: they count neither requests nor tokens nor money"
        ));
    }
    if more {
        export
            .notes
            .push("the last page says has_more: the export may lack pages".into());
    }
    Ok(export)
}

fn place(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let field = error.path().to_string();
    // serde_json's own text ends with the line and the column.
    match field.as_str() {
        "." => error.inner().to_string(),
        _ => format!("{field}: {}", error.inner()),
    }
}

struct Reading {
    export: Export,
    /// Results that tell none of the figures, by object.
    left_out: BTreeMap<String, u64>,
}

impl Reading {
    fn page(&mut self, page: Page) -> Result<(), String> {
        if page.error.is_some() {
            return Err("is an error of the provider's, not an export".into());
        }
        let buckets = match (page.data, page.results) {
            (Some(buckets), _) => buckets,
            (None, Some(results)) => vec![Bucket {
                start_time: page.start_time.ok_or("a bucket lacks start_time")?,
                end_time: page.end_time.ok_or("a bucket lacks end_time")?,
                results,
            }],
            (None, None) => {
                return Err("is no page of usage or costs: it has neither data nor results".into());
            }
        };
        buckets
            .into_iter()
            .try_for_each(|bucket| self.bucket(bucket))
    }

    fn bucket(&mut self, bucket: Bucket) -> Result<(), String> {
        let Bucket {
            start_time: from,
            end_time: to,
            results,
        } = bucket;
        let day = self
            .export
            .cover(from, to)
            .map_err(|what| format!("the bucket with start_time {from} {what}"))?;
        for result in results {
            let figures = result.figures();
            let object = result.object.unwrap_or_default();
            if figures.is_empty() {
                // A costs result of an empty day has no amount.
                if object != COSTS {
                    *self.left_out.entry(object).or_default() += 1;
                }
                continue;
            }
            self.about(&object);
            self.export.add(Record {
                day,
                from,
                model: result.model.or_else(|| {
                    result
                        .line_item
                        .map(|item| names::model_of(&item).to_owned())
                }),
                key: result.api_key_id,
                project: result.project_id,
                figures,
            });
        }
        Ok(())
    }

    /// An export of one endpoint's usage must not be held against the charges of others.
    fn about(&mut self, object: &str) {
        let known = ENDPOINTS.iter().find(|(name, _)| {
            object.strip_prefix("organization.usage.") == Some(&format!("{name}.result"))
        });
        match (known, &mut self.export.endpoints) {
            (Some((_, endpoints)), Some(about)) => about.extend(*endpoints),
            (None, about) => *about = None,
            (Some(_), None) => {}
        }
    }
}

const COSTS: &str = "organization.costs.result";

/// The kinds of usage, and which endpoints they count.
const ENDPOINTS: [(&str, &[&str]); 6] = [
    (
        "completions",
        &["chat/completions", "completions", "responses"],
    ),
    ("embeddings", &["embeddings"]),
    ("moderations", &["moderations"]),
    (
        "images",
        &["images/generations", "images/edits", "images/variations"],
    ),
    ("audio_speeches", &["audio/speech"]),
    (
        "audio_transcriptions",
        &["audio/transcriptions", "audio/translations"],
    ),
];

/// What one JSON value of the file holds.
struct Pages(Vec<Page>);

impl<'de> Deserialize<'de> for Pages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;

        // Not an untagged enum: that would lose the place of what is wrong.
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Pages;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a page of usage or costs, or an array of pages")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pages, A::Error> {
                Page::deserialize(MapAccessDeserializer::new(map)).map(|page| Pages(vec![page]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pages, A::Error> {
                let mut pages = Vec::new();
                while let Some(page) = seq.next_element()? {
                    pages.push(page);
                }
                Ok(Pages(pages))
            }
        }

        deserializer.deserialize_any(OneOrMore)
    }
}

/// A page; a bucket that stands alone is read as one, too.
#[derive(Deserialize)]
struct Page {
    data: Option<Vec<Bucket>>,
    #[serde(default)]
    has_more: bool,
    error: Option<IgnoredAny>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    results: Option<Vec<Outcome>>,
}

#[derive(Deserialize)]
struct Bucket {
    start_time: i64,
    end_time: i64,
    // The reference has called it both.
    #[serde(alias = "result")]
    results: Vec<Outcome>,
}

/// A result: of usage, or of costs.
#[derive(Deserialize)]
struct Outcome {
    object: Option<String>,
    model: Option<String>,
    line_item: Option<String>,
    api_key_id: Option<String>,
    project_id: Option<String>,
    num_model_requests: Option<Count>,
    input_tokens: Option<Count>,
    input_cached_tokens: Option<Count>,
    output_tokens: Option<Count>,
    amount: Option<Money>,
}

#[derive(Deserialize)]
struct Money {
    value: Option<Usd>,
    #[serde(deserialize_with = "only_usd")]
    #[expect(dead_code, reason = "reading it has checked it")]
    currency: (),
}

impl Outcome {
    fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        let counts = [
            (Figure::Requests, &self.num_model_requests),
            (Figure::Input, &self.input_tokens),
            (Figure::Cached, &self.input_cached_tokens),
            (Figure::Output, &self.output_tokens),
        ];
        for (figure, count) in counts {
            if let Some(count) = count {
                figures.add(figure, count.0);
            }
        }
        if let Some(Usd(value)) = self.amount.as_ref().and_then(|money| money.value.as_ref()) {
            figures.add(Figure::Usd, *value);
        }
        figures
    }
}

struct Count(i128);

struct Usd(i128);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        figure(Figure::Requests, deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        figure(Figure::Usd, deserializer).map(Self)
    }
}

/// A number, or a string of one: from its text, never through a float.
fn figure<'de, D: Deserializer<'de>>(figure: Figure, deserializer: D) -> Result<i128, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    let unquoted = serde_json::from_str::<String>(raw.get());
    let text = unquoted.as_deref().unwrap_or(raw.get());
    figure
        .parse(text)
        .map_err(|bad| D::Error::custom(format!("{} {bad}", raw.get())))
}

fn only_usd<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    let currency = String::deserialize(deserializer)?;
    if currency.eq_ignore_ascii_case("usd") {
        Ok(())
    } else {
        Err(D::Error::custom(format!(
            "{currency} is not compared: charges are in USD"
        )))
    }
}
