//! An answer's body, step by step.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde_json::{Value, json};
use tokio::time::Sleep;

use super::fault::Fault;

/// How slow a slow answer is, before each step, and how long a broken one hangs.
const PAUSE: Duration = Duration::from_millis(100);

/// A JSON document, or a stream of events.
#[derive(Debug)]
pub(super) struct Script {
    steps: VecDeque<Step>,
    is_stream: bool,
    is_slow: bool,
    pause: Option<Pin<Box<Sleep>>>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// A document, or one event's data, with the event's name where it has one.
    Value(Option<&'static str>, Value),
    /// Bytes as they are.
    Raw(Bytes),
    /// The connection breaks.
    Break,
}

/// The body was to break here.
#[derive(Debug)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sandbox was asked to break the connection")
    }
}

impl std::error::Error for Broken {}

impl Script {
    pub(super) fn json(document: &Value) -> Self {
        Self::new([Step::Value(None, document.clone())].into(), false)
    }

    /// Events without names, ended by `[DONE]`.
    pub(super) fn chunks(chunks: impl IntoIterator<Item = Value>) -> Self {
        let mut steps: VecDeque<Step> = chunks
            .into_iter()
            .map(|chunk| Step::Value(None, chunk))
            .collect();
        steps.push_back(Step::Raw(Bytes::from_static(b"data: [DONE]\n\n")));
        Self::new(steps, true)
    }

    /// Events with names and running numbers, without `[DONE]`.
    pub(super) fn events(events: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let numbered = events
            .into_iter()
            .zip(0_u64..)
            .map(|((name, mut event), number)| {
                event["type"] = name.into();
                event["sequence_number"] = number.into();
                Step::Value(Some(name), event)
            });
        Self::new(numbered.collect(), true)
    }

    fn new(steps: VecDeque<Step>, is_stream: bool) -> Self {
        Self {
            steps,
            is_stream,
            is_slow: false,
            pause: None,
        }
    }

    pub(super) fn content_type(&self) -> &'static str {
        if self.is_stream {
            "text/event-stream; charset=utf-8"
        } else {
            "application/json"
        }
    }

    /// Replaces the second half; of a document, half of the text.
    pub(super) fn end_midway(&mut self, end: Step) {
        if self.is_stream {
            self.steps.truncate(self.steps.len() / 2);
        } else if let Some(first) = self.steps.pop_front() {
            let mut text = self.render(first);
            text.truncate(text.len() / 2);
            self.steps = [Step::Raw(text.into())].into();
        }
        self.steps.push_back(end);
    }

    /// Replaces the second half of a stream by an error event.
    pub(super) fn end_midway_with_error(&mut self, fault: &Fault) {
        let named = matches!(self.steps.front(), Some(Step::Value(Some(_), _)));
        self.end_midway(if named {
            let number = self.steps.len() / 2;
            let event = json!({"type": "error", "sequence_number": number, "error": fault.error()});
            Step::Value(Some("error"), event)
        } else {
            Step::Value(None, json!({"error": fault.error()}))
        });
    }

    /// Takes the usage out, and the event that has nothing else.
    pub(super) fn drop_usage(&mut self) {
        self.steps.retain_mut(|step| {
            let Step::Value(_, value) = step else {
                return true;
            };
            if let Some(response) = value.get_mut("response").and_then(Value::as_object_mut) {
                response.insert("usage".to_owned(), Value::Null);
            }
            let Some(object) = value.as_object_mut() else {
                return true;
            };
            let had_usage = object.remove("usage").is_some_and(|usage| !usage.is_null());
            let is_bare = object
                .get("choices")
                .and_then(Value::as_array)
                .is_some_and(Vec::is_empty);
            !(had_usage && is_bare)
        });
    }

    pub(super) fn slow_down(&mut self) {
        self.is_slow = true;
    }

    fn render(&self, step: Step) -> Vec<u8> {
        match step {
            Step::Value(name, value) if self.is_stream => match name {
                Some(name) => format!("event: {name}\ndata: {value}\n\n").into_bytes(),
                None => format!("data: {value}\n\n").into_bytes(),
            },
            Step::Value(_, value) => value.to_string().into_bytes(),
            Step::Raw(bytes) => bytes.into(),
            Step::Break => Vec::new(),
        }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.steps.is_empty() {
            return Poll::Ready(None);
        }
        // hyper drops what it has not flushed when a body fails: the pause lets the first half out.
        if self.is_slow || self.steps.front() == Some(&Step::Break) {
            let pause = self
                .pause
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(PAUSE)));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(match self.steps.pop_front() {
            None => None,
            Some(Step::Break) => Some(Err(Broken)),
            Some(step) => Some(Ok(Frame::data(self.render(step).into()))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty()
    }

    /// A document's length is known, so that it goes out with a `content-length`, as at OpenAI.
    fn size_hint(&self) -> SizeHint {
        match self.steps.front() {
            Some(Step::Value(None, document)) if !self.is_stream => {
                SizeHint::with_exact(u64::try_from(document.to_string().len()).unwrap_or(u64::MAX))
            }
            _ => SizeHint::default(),
        }
    }
}
