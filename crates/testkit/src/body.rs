//! Bodies that are polled as a script says.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;

/// What a poll of a [`Scripted`] body gives.
#[derive(Debug, Clone)]
pub enum Step {
    /// A data frame.
    Data(Bytes),
    /// Nothing yet; the next poll goes on.
    Pending,
    /// Nothing until the gate is opened.
    Wait(Held),
    /// Trailers.
    Trailers(HeaderMap),
    /// A failure.
    Error(&'static str),
}

impl Step {
    /// A data frame.
    #[must_use]
    pub fn data(text: &'static str) -> Self {
        Self::Data(Bytes::from_static(text.as_bytes()))
    }
}

/// A body that follows its script.
#[derive(Debug)]
pub struct Scripted {
    steps: VecDeque<Step>,
    /// Of data still in the script, if the body tells.
    announced: Option<u64>,
    tells_end: bool,
}

impl Scripted {
    /// A body of unknown length, like a chunked one: its end shows only when it is polled.
    #[must_use]
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: steps.into_iter().collect(),
            announced: None,
            tells_end: false,
        }
    }

    /// A body of known length: it says that it has ended as soon as the last data frame is out.
    #[must_use]
    pub fn with_length(steps: impl IntoIterator<Item = Step>) -> Self {
        let steps: VecDeque<_> = steps.into_iter().collect();
        let len = |step: &Step| match step {
            Step::Data(data) => data.len() as u64,
            _ => 0,
        };
        Self {
            announced: Some(steps.iter().map(len).sum()),
            steps,
            tells_end: true,
        }
    }

    /// The same body, knowing its length but saying `is_end_stream` only when asked for more.
    #[must_use]
    pub fn silent_about_its_end(self) -> Self {
        Self {
            tells_end: false,
            ..self
        }
    }

    /// The script still to come.
    #[must_use]
    pub fn steps_left(&self) -> usize {
        self.steps.len()
    }
}

/// A failure from a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptedError(pub &'static str);

impl fmt::Display for ScriptedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ScriptedError {}

impl From<Infallible> for ScriptedError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = ScriptedError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ScriptedError>>> {
        match self.steps.pop_front() {
            None => Poll::Ready(None),
            Some(Step::Data(data)) => {
                if let Some(announced) = &mut self.announced {
                    *announced -= data.len() as u64;
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Step::Pending) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Wait(held)) => {
                if held.is_held(cx.waker()) {
                    self.steps.push_front(Step::Wait(held));
                    return Poll::Pending;
                }
                self.poll_frame(cx)
            }
            Some(Step::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Some(Step::Error(text)) => {
                self.steps.clear();
                Poll::Ready(Some(Err(ScriptedError(text))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.tells_end && self.announced == Some(0) && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Something held until it is released, from anywhere.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    is_released: bool,
    waiting: Vec<Waker>,
}

impl Held {
    /// Lets go.
    pub fn release(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_released = true;
        state.waiting.drain(..).for_each(Waker::wake);
    }

    /// Whether it is still held; if so, the waker is told when it no longer is.
    #[must_use]
    pub fn is_held(&self, waker: &Waker) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.is_released {
            state.waiting.push(waker.clone());
        }
        !state.is_released
    }

    /// Waits until it is released.
    pub async fn released(&self) {
        std::future::poll_fn(|cx| {
            if self.is_held(cx.waker()) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}
