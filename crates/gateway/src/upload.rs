//! The request body on its way up: scanned as it passes, its last byte withheld at the first gate.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use meter::{Api, BodyError, RequestFacts, RequestScanner};
use proxy::{End, Gate, Observed, Observer, Split};
use tokio::{sync::oneshot, time::timeout};

use crate::refusal::Refusal;

/// Most of a body that is awaited before the upstream is touched, so that a small request which is
/// refused never opens a connection and one which is admitted goes up in one write.
const READ_AHEAD_BYTES_MAX: usize = 64 * 1024;
/// How long the rest of such a body is awaited: SDKs send head and body in two writes.
const READ_AHEAD: Duration = Duration::from_millis(10);

/// Most of a flowing body that is kept (not copied) until its facts say whether its text will be counted.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// What must be known of the body before its first byte may go up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: there is one possible upstream.
    Nothing,
    /// Its model: that chooses the upstream.
    Model,
    /// All of it: it will be edited.
    Everything,
}

/// Named limits of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Longest body.
    pub(crate) bytes_max: u64,
    /// Most that is held back for [`Need::Model`] and [`Need::Everything`].
    pub(crate) buffer_bytes_max: usize,
}

/// A body that has been read as far as needed.
pub(crate) enum Upload {
    /// It is all here.
    Whole(Whole),
    /// It flows; its facts come with its last byte.
    Flowing(Box<Flowing>),
}

impl Upload {
    /// The model, as far as it has passed.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Self::Whole(whole) => whole.facts.model.as_deref(),
            Self::Flowing(flowing) => flowing.model.as_deref(),
        }
    }
}

/// A complete body and what it says.
pub(crate) struct Whole {
    pub(crate) frames: Vec<Bytes>,
    pub(crate) facts: RequestFacts,
    /// Whether the client announced its length: then we do too.
    pub(crate) sized: bool,
}

/// A body on its way, and both ends of its gate.
pub(crate) struct Flowing {
    pub(crate) model: Option<String>,
    pub(crate) body: Observed<Ahead, Watch>,
    pub(crate) said: oneshot::Receiver<Result<Said, Refusal>>,
    pub(crate) verdict: oneshot::Sender<Gate>,
}

/// What a body says, and the text it says it in.
pub(crate) struct Said {
    pub(crate) facts: RequestFacts,
    /// The body again, for a tokenizer; cut at [`KEPT_BYTES_MAX`].
    pub(crate) text: Vec<Bytes>,
}

/// Reads a body until what is needed of it is known.
///
/// # Errors
/// A refusal when the body is ambiguous, invalid or too long, or the client leaves.
pub(crate) async fn read(
    mut body: Incoming,
    api: Api,
    need: Need,
    bounds: Bounds,
) -> Result<Upload, Refusal> {
    let hint = body.size_hint();
    if hint.lower() > bounds.bytes_max {
        return Err(Refusal::BodyTooLarge {
            bytes_max: bounds.bytes_max,
        });
    }
    let mut scanner = RequestScanner::new(api);
    let mut ahead = Vec::new();
    let mut bytes = 0_usize;
    let short = hint
        .exact()
        .is_some_and(|length| length <= READ_AHEAD_BYTES_MAX as u64);
    while !body.is_end_stream() {
        let known = match need {
            Need::Nothing => true,
            Need::Model => scanner.model().is_some(),
            Need::Everything => false,
        };
        let patience = match (known, short) {
            (false, _) => None,
            (true, true) => Some(READ_AHEAD),
            (true, false) => Some(Duration::ZERO),
        };
        let frame = match patience {
            None => body.frame().await,
            Some(patience) if bytes < READ_AHEAD_BYTES_MAX => {
                match timeout(patience, body.frame()).await {
                    Ok(frame) => frame,
                    Err(_) => return Ok(flowing(body, ahead, scanner, bounds)),
                }
            }
            Some(_) => return Ok(flowing(body, ahead, scanner, bounds)),
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Refusal::ClientGone)?;
        // Trailers of a request end here: hyper would not pass them on unannounced either.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        bytes = bytes.saturating_add(data.len());
        let held_max = if known {
            usize::MAX
        } else {
            bounds.buffer_bytes_max
        };
        if bytes as u64 > bounds.bytes_max || bytes > held_max {
            return Err(Refusal::BodyTooLarge {
                bytes_max: bounds.bytes_max.min(held_max as u64),
            });
        }
        scanner.push(&data).map_err(|error| refuse(&error))?;
        ahead.push(data);
    }
    let facts = scanner.finish().map_err(|error| refuse(&error))?;
    Ok(Upload::Whole(Whole {
        frames: ahead,
        facts,
        sized: hint.exact().is_some(),
    }))
}

fn flowing(body: Incoming, ahead: Vec<Bytes>, scanner: RequestScanner, bounds: Bounds) -> Upload {
    let (tell, said) = oneshot::channel();
    let (verdict, hear_verdict) = oneshot::channel();
    let model = scanner.model().map(str::to_owned);
    let watch = Watch {
        scanner: Some(Box::new(scanner)),
        scanned_ahead: ahead.iter().map(Bytes::len).sum(),
        bytes: 0,
        kept: Vec::new(),
        bytes_max: bounds.bytes_max,
        tell: Some(tell),
        verdict: hear_verdict,
    };
    Upload::Flowing(Box::new(Flowing {
        model,
        body: Observed::new(
            Ahead {
                frames: ahead.into(),
                rest: body,
            },
            watch,
        ),
        said,
        verdict,
    }))
}

fn refuse(error: &BodyError) -> Refusal {
    Refusal::InvalidBody {
        message: error.to_string(),
        param: error.param().map(str::to_owned),
        code: error.code(),
    }
}

/// A complete body on its way up: a known length if the client announced one.
pub(crate) struct Replay {
    frames: VecDeque<Bytes>,
    sized: bool,
}

impl Replay {
    /// These frames, one after the other.
    pub(crate) fn new(frames: Vec<Bytes>, sized: bool) -> Self {
        Self {
            frames: frames.into(),
            sized,
        }
    }
}

impl Body for Replay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.frames.pop_front().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.sized && self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.sized {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.frames.iter().map(|frame| frame.len() as u64).sum())
    }
}

/// A body some frames of which were read ahead.
pub(crate) struct Ahead {
    frames: VecDeque<Bytes>,
    rest: Incoming,
}

impl Body for Ahead {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.frames.pop_front() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => pin!(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self
            .frames
            .iter()
            .map(|frame| frame.len() as u64)
            .sum::<u64>();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

/// Scans a flowing body and keeps its last byte until the verdict.
pub(crate) struct Watch {
    /// Gone once the facts, or a refusal, have been told.
    scanner: Option<Box<RequestScanner>>,
    /// Leading bytes that the scanner has already seen.
    scanned_ahead: usize,
    /// Bytes passed so far.
    bytes: u64,
    bytes_max: u64,
    kept: Vec<Bytes>,
    /// Taken when the facts, or the refusal, have been told.
    tell: Option<oneshot::Sender<Result<Said, Refusal>>>,
    verdict: oneshot::Receiver<Gate>,
}

impl Watch {
    fn tell(&mut self, facts: Result<RequestFacts, Refusal>) {
        self.scanner = None;
        if let Some(tell) = self.tell.take() {
            // Nobody listens once the upstream has answered early: then there is nothing to tell.
            let text = std::mem::take(&mut self.kept);
            let _ = tell.send(facts.map(|facts| Said { facts, text }));
        }
    }
}

impl Observer<Ahead> for Watch {
    fn frame(&mut self, data: Bytes) -> Split {
        let start = self.bytes;
        self.bytes = start.saturating_add(data.len() as u64);
        let Some(scanner) = &mut self.scanner else {
            return Split::withhold(data);
        };
        if start < KEPT_BYTES_MAX as u64 {
            self.kept.push(data.clone());
        }
        let fresh = data
            .get(self.scanned_ahead.min(data.len())..)
            .unwrap_or_default();
        self.scanned_ahead = self.scanned_ahead.saturating_sub(data.len());
        let refusal = match scanner.push(fresh) {
            Err(error) => Some(refuse(&error)),
            Ok(()) if self.bytes > self.bytes_max => Some(Refusal::BodyTooLarge {
                bytes_max: self.bytes_max,
            }),
            Ok(()) => None,
        };
        if let Some(refusal) = refusal {
            self.tell(Err(refusal));
            return Split::withhold(data);
        }
        match scanner.closed_at().map(|at| at.saturating_sub(start)) {
            Some(at) => Split::at(data, usize::try_from(at).unwrap_or(0)),
            None => Split::pass(data),
        }
    }

    fn end(&mut self, end: End<Ahead>) {
        match (end, self.scanner.take()) {
            (End::Complete, Some(scanner)) => {
                self.tell(scanner.finish().map_err(|error| refuse(&error)));
            }
            (End::Complete, None) => {}
            (End::Failed(_) | End::Abandoned(_), _) => self.tell(Err(Refusal::ClientGone)),
        }
    }

    fn full(&mut self) {
        self.tell(Err(Refusal::BodyTooLarge {
            bytes_max: self.bytes_max,
        }));
    }

    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Gate> {
        // A sender that is gone decided nothing: the gate stays shut.
        Pin::new(&mut self.verdict)
            .poll(cx)
            .map(|verdict| verdict.unwrap_or(Gate::Shut))
    }
}
