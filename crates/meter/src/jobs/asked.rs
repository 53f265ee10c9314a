//! What a file of requests (JSON lines, purpose `batch`) may cost, read as it passes.
//!
//! ```text
//! {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4o", "messages": []}}
//! ```
//!
//! Each line's `body` is judged as the request that it is. What cannot be read in one way, or has no bound, makes the file unfit for a
//! batch: that is told, not refused, since a file may be meant for something else.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{Api, RequestFacts, RequestScanner, request::folds_to};

/// The longest line that is read.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most endpoints and models that a file is told apart by.
const GROUPS_MAX: usize = 64;

/// What a file of requests asks for: by endpoint and model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchAsks {
    /// The requests of one endpoint to one model, in the order of their names.
    pub groups: Vec<BatchGroup>,
    /// Why no batch may be made of the file.
    pub fault: Option<BatchFault>,
}

/// The requests of one file to one endpoint and model, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchGroup {
    /// The path that the lines name, without what stands before the endpoint: `/chat/completions`.
    pub endpoint: String,
    /// The model they name.
    pub model: String,
    /// How many they are.
    pub lines: u64,
    /// Bytes of their bodies.
    pub body_bytes: u64,
    /// The longest of them.
    pub body_bytes_max: u64,
    /// Inputs of those whose length does not bound their input.
    pub outside: u64,
    /// The most inputs of one of those.
    pub outside_max: u64,
    /// The sum of the limits of their output, each times its answers.
    pub output_tokens: u64,
    /// Answers of those without such a limit.
    pub unlimited_answers: u64,
    /// The sum of their limits of calls of paid tools.
    pub tool_calls: u64,
    /// Those that offer such tools without a limit.
    pub unlimited_tools: u64,
}

/// Why no batch may be made of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchFault {
    /// The line at fault, the first is 1; 0 for the file as a whole.
    pub line: u64,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

impl fmt::Display for BatchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.reason),
            line => write!(f, "Line {line}: {}", self.reason),
        }
    }
}

/// Reads a file of requests. Its memory is one line, and a sum for each endpoint and model.
#[derive(Debug, Default)]
pub struct BatchReader {
    line: Vec<u8>,
    number: u64,
    groups: BTreeMap<(&'static str, String), BatchGroup>,
    fault: Option<BatchFault>,
}

impl BatchReader {
    /// Shows the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while self.fault.is_none() && !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest);
            let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
            if self.line.len().saturating_add(piece.len()) > LINE_BYTES_MAX {
                self.number = self.number.saturating_add(1);
                return self.unfit(format!(
                    "it is longer than {LINE_BYTES_MAX} bytes, the most that this gateway reads; make it shorter."
                ));
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { return };
            rest = rest.get(end.saturating_add(1)..).unwrap_or_default();
            self.end_line();
        }
    }

    /// The file has ended.
    #[must_use]
    pub fn finish(mut self) -> BatchAsks {
        if self.fault.is_none() && !self.line.is_empty() {
            self.end_line();
        }
        if self.fault.is_none() && self.groups.is_empty() {
            self.number = 0;
            self.unfit("The file holds no request; write one JSON object a line.".to_owned());
        }
        BatchAsks {
            groups: self.groups.into_values().collect(),
            fault: self.fault,
        }
    }

    /// Adds a request of a batch of messages, which stand in the body itself.
    pub(super) fn message(&mut self, params: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        self.number = self.number.saturating_add(1);
        let mut scanner = RequestScanner::new(Api::Messages);
        let facts = scanner.push(params).and_then(|()| scanner.finish());
        let added = match facts {
            Ok(facts) => self.sum("/messages", Some(Api::Messages), facts),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = added {
            self.unfit(reason);
        }
    }

    fn unfit(&mut self, reason: String) {
        self.line = Vec::new();
        self.groups.clear();
        self.fault = Some(BatchFault {
            line: self.number,
            reason,
        });
    }

    fn end_line(&mut self) {
        self.number = self.number.saturating_add(1);
        let line = std::mem::take(&mut self.line);
        let inner = line.strip_suffix(b"\r").unwrap_or(&line);
        if memchr::memchr(b'\r', inner).is_some() {
            // JSON takes it for a blank, and a provider may take it for the end of a line: then what follows is a request of its own.
            return self.unfit(
                "a carriage return (byte 13) stands in it; end lines with a line feed (byte 10), or with both."
                    .to_owned(),
            );
        }
        if !line.trim_ascii().is_empty()
            && let Err(reason) = self.add(&line)
        {
            return self.unfit(reason);
        }
        self.line = line;
        self.line.clear();
    }

    fn add(&mut self, line: &[u8]) -> Result<(), String> {
        let asked: Line<'_> = serde_json::from_slice(line).map_err(|error| {
            format!(
                "it is no request of a batch ({error}); write {{\"custom_id\": \"…\", \"method\": \"POST\", \"url\": \"/v1/…\", \"body\": {{…}}}}, each key once."
            )
        })?;
        if !asked.method.eq_ignore_ascii_case("POST") {
            return Err("'method' must be \"POST\".".to_owned());
        }
        let Some((endpoint, api)) = batch_api(&asked.url) else {
            return Err(format!(
                "'url' must be one of {}: no other endpoint is sold in batches.",
                ENDPOINTS.map(|(path, _)| format!("/v1{path}")).join(", ")
            ));
        };
        let mut scanner = RequestScanner::new(api.unwrap_or(Api::Embeddings));
        let body = asked.body.get().as_bytes();
        let facts = scanner.push(body).and_then(|()| scanner.finish());
        let facts = facts.map_err(|error| error.to_string())?;
        self.sum(endpoint, api, facts)
    }

    fn sum(
        &mut self,
        endpoint: &'static str,
        api: Option<Api>,
        facts: RequestFacts,
    ) -> Result<(), String> {
        let model = match (facts.model, api) {
            (Some(model), _) => model,
            // The provider has a usual one, which is free.
            (None, None) => "omni-moderation-latest".to_owned(),
            (None, Some(_)) => return Err("'body' must name a model.".to_owned()),
        };
        if facts.may_reroute {
            return Err("'models', 'route' and 'preset' leave the choice of the model to the provider; name one 'model'.".to_owned());
        }
        if !facts.named.is_empty() {
            return Err("A request of a batch cannot name what the provider keeps (an earlier answer, a conversation, a file); put its content into the request.".to_owned());
        }
        if facts.background {
            return Err(
                "A request of a batch cannot go on in the background; leave 'background' out."
                    .to_owned(),
            );
        }
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&(endpoint, model.clone()))
        {
            return Err(format!(
                "The file names more than {GROUPS_MAX} models and endpoints; use several files."
            ));
        }
        let group = self
            .groups
            .entry((endpoint, model.clone()))
            .or_insert_with(|| BatchGroup {
                endpoint: endpoint.to_owned(),
                model,
                ..BatchGroup::default()
            });
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        let inputs = facts.inputs.max(1);
        let answers = facts.choices.max(1).saturating_mul(inputs);
        add(&mut group.lines, 1);
        if facts.refers_outside {
            add(&mut group.outside, inputs);
            group.outside_max = group.outside_max.max(inputs);
        } else {
            add(&mut group.body_bytes, facts.body_bytes);
            group.body_bytes_max = group.body_bytes_max.max(facts.body_bytes);
        }
        match (api, facts.output_limit) {
            (None | Some(Api::Embeddings), _) => {}
            (_, Some(limit)) => add(&mut group.output_tokens, limit.saturating_mul(answers)),
            (_, None) => add(&mut group.unlimited_answers, answers),
        }
        if facts.hosted_tools {
            match facts.tool_calls_max {
                Some(calls) => add(&mut group.tool_calls, calls),
                None => add(&mut group.unlimited_tools, 1),
            }
        }
        Ok(())
    }
}

/// The endpoints that a line may name, and who reads their bodies; `None` for one that costs nothing.
const ENDPOINTS: [(&str, Option<Api>); 5] = [
    ("/chat/completions", Some(Api::ChatCompletions)),
    ("/completions", Some(Api::Completions)),
    ("/embeddings", Some(Api::Embeddings)),
    ("/responses", Some(Api::Responses)),
    ("/moderations", None),
];

/// The endpoint that a batch's `url` or `endpoint` names (`/v1/responses`, or as Azure has it `/chat/completions`), and who reads its
/// bodies; `None` for who reads them where they cost nothing.
#[must_use]
pub fn batch_api(url: &str) -> Option<(&'static str, Option<Api>)> {
    let below = url.strip_prefix("/openai").unwrap_or(url);
    let below = below.strip_prefix("/v1").unwrap_or(below);
    ENDPOINTS.into_iter().find(|(path, _)| *path == below)
}

/// One line. Keys that it may not have twice are refused twice; so are look-alikes, which some readers take for them.
struct Line<'a> {
    method: Cow<'a, str>,
    url: Cow<'a, str>,
    body: &'a RawValue,
}

impl<'de: 'a, 'a> Deserialize<'de> for Line<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(LineVisitor)
    }
}

struct LineVisitor;

/// A text, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for LineVisitor {
    type Value = Line<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line<'de>, A::Error> {
        const KEYS: [&str; 4] = ["custom_id", "method", "url", "body"];
        let (mut method, mut url, mut body, mut id) = (None, None, None, false);
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            let known = KEYS
                .into_iter()
                .find(|known| folds_to(key.as_bytes(), known));
            if let Some(known) = known.filter(|known| key != **known) {
                return Err(A::Error::custom(format_args!(
                    "a key differs from '{known}' only in upper and lower case"
                )));
            }
            let is_second = match &*key {
                "custom_id" => {
                    map.next_value::<Text<'de>>()?;
                    std::mem::replace(&mut id, true)
                }
                "method" => method.replace(map.next_value::<Text<'de>>()?.0).is_some(),
                "url" => url.replace(map.next_value::<Text<'de>>()?.0).is_some(),
                "body" => body.replace(map.next_value::<&RawValue>()?).is_some(),
                _ => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                    false
                }
            };
            if is_second {
                return Err(A::Error::custom(format_args!("'{key}' stands there twice")));
            }
        }
        if !id {
            return Err(A::Error::missing_field("custom_id"));
        }
        Ok(Line {
            method: method.ok_or_else(|| A::Error::missing_field("method"))?,
            url: url.ok_or_else(|| A::Error::missing_field("url"))?,
            body: body.ok_or_else(|| A::Error::missing_field("body"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &[u8], cut: usize) -> BatchAsks {
        let mut reader = BatchReader::default();
        for piece in file.chunks(cut) {
            reader.push(piece);
        }
        reader.finish()
    }

    fn line(url: &str, body: &str) -> String {
        format!(r#"{{"custom_id":"a","method":"POST","url":"{url}","body":{body}}}"#)
    }

    #[test]
    fn lines_are_added_up_by_endpoint_and_model_however_they_are_cut() {
        let file = [
            line(
                "/v1/chat/completions",
                r#"{"model":"m","messages":[],"max_tokens":10,"n":2}"#,
            ),
            String::new(),
            line("/v1/chat/completions", r#"{"model":"m","messages":[]}"#) + "\r",
            line("/v1/embeddings", r#"{"model":"e","input":["a","b"]}"#),
            line(
                "/v1/responses",
                r#"{"model":"m","input":[{"type":"input_image","image_url":"https://x"}]}"#,
            ),
            line("/v1/moderations", r#"{"input":"a"}"#),
        ]
        .join("\n");
        let whole = read(file.as_bytes(), file.len());
        for cut in 1..40 {
            assert_eq!(read(file.as_bytes(), cut), whole, "{cut}");
        }
        assert_eq!(whole.fault, None);
        let chat = BatchGroup {
            endpoint: "/chat/completions".into(),
            model: "m".into(),
            lines: 2,
            body_bytes: 49 + 27,
            body_bytes_max: 49,
            output_tokens: 20,
            unlimited_answers: 1,
            ..BatchGroup::default()
        };
        assert_eq!(whole.groups.first(), Some(&chat));
        let names = whole.groups.iter().map(|it| &*it.endpoint);
        let names: Vec<&str> = names.collect();
        assert_eq!(
            names,
            [
                "/chat/completions",
                "/embeddings",
                "/moderations",
                "/responses"
            ]
        );
        let outside = whole.groups.last().unwrap();
        assert_eq!((outside.outside, outside.body_bytes), (1, 0));
    }

    #[test]
    fn what_two_readers_could_take_differently_makes_a_file_unfit() {
        let good = line("/v1/embeddings", r#"{"model":"e","input":"a"}"#);
        for (bad, why) in [
            (
                line("/v1/embeddings", r#"{"model":"e","model":"f"}"#),
                "'model' more than once",
            ),
            (
                good.replace("\"method\"", "\"url\":\"/v1/responses\",\"method\""),
                "'url' stands there twice",
            ),
            (
                good.replace("\"method\"", "\"Body\":{},\"method\""),
                "differs from 'body'",
            ),
            (line("/v1/images/generations", "{}"), "no other endpoint"),
            (
                line("/v1/embeddings", r#"{"model":"e\u0000","input":"a"}"#),
                "a control character",
            ),
            (
                line("/v1/embeddings", r#"{"input":"a"}"#),
                "must name a model",
            ),
            (
                line(
                    "/v1/responses",
                    r#"{"model":"m","previous_response_id":"resp_1"}"#,
                ),
                "cannot name what",
            ),
            (
                line("/v1/embeddings", r#"{"model":"e"} x"#),
                "no request of a batch",
            ),
            (good.replace("POST", "GET"), "'method' must be"),
            ("[]".to_owned(), "no request of a batch"),
            // Two requests to who takes it for the end of a line, one to who takes it for a blank.
            (
                good.replace("\"method\"", &format!("\"x\":\r{good}\r,\"method\"")),
                "a carriage return",
            ),
            (format!("{good}\r\r"), "a carriage return"),
            (format!("\r{good}"), "a carriage return"),
        ] {
            let asks = read(format!("{good}\n{bad}\n{good}").as_bytes(), 7);
            let fault = asks.fault.expect(&bad);
            assert_eq!(fault.line, 2, "{fault}");
            assert!(fault.to_string().contains(why), "{fault}: {why}");
            assert!(asks.groups.is_empty());
        }
        assert_eq!(read(b"\n", 1).fault.unwrap().line, 0);
    }

    #[test]
    fn a_line_longer_than_the_longest_is_not_kept() {
        let mut reader = BatchReader::default();
        for _ in 0..5 {
            reader.push(&vec![b'x'; 1024 * 1024]);
        }
        assert_eq!(reader.line.capacity(), 0);
        assert!(
            reader
                .finish()
                .fault
                .unwrap()
                .reason
                .contains("longer than")
        );
    }
}
