//! The request body on its way up: scanned as it passes, its last byte withheld at the first gate.

mod bodies;
mod watch;

use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use meter::{BodyError, BodyScanner, RequestFacts};
use proxy::{Gate, Observed};
use tokio::{sync::oneshot, time::timeout};

use crate::{body::RequestBody, refusal::Refusal, settings};

pub(crate) use self::{
    bodies::{Ahead, Replay},
    watch::Watch,
};

/// Most of a body that is awaited before the upstream is touched, so that a small request which is
/// refused never opens a connection and one which is admitted goes up in one write.
const READ_AHEAD_BYTES_MAX: usize = 64 * 1024;
/// How long the rest of such a body is awaited: SDKs send head and body in two writes.
const READ_AHEAD: Duration = Duration::from_millis(10);

/// Most of a flowing body that is kept until its facts say whether its text will be counted.
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
    /// Most of a flowing body that is kept (not copied) until its facts say what is counted of it.
    pub(crate) kept_bytes_max: usize,
}

impl Bounds {
    /// The bounds the operator set.
    pub(crate) const fn of(settings: &settings::Exchange) -> Self {
        Self {
            bytes_max: settings.body_bytes_max,
            buffer_bytes_max: settings.body_buffer_bytes_max,
            kept_bytes_max: KEPT_BYTES_MAX,
        }
    }
}

/// A body that has been read as far as needed.
pub(crate) enum Upload {
    /// It is all here.
    Whole(Box<Whole>),
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
    /// The body again, for a count; cut at [`Bounds::kept_bytes_max`].
    pub(crate) text: Vec<Bytes>,
}

/// Reads a body until what is needed of it is known.
///
/// # Errors
/// A refusal when the body is ambiguous, invalid or too long, or the client leaves.
pub(crate) async fn read(
    mut body: RequestBody,
    mut scanner: BodyScanner,
    need: Need,
    bounds: Bounds,
) -> Result<Upload, Refusal> {
    let hint = body.size_hint();
    if hint.lower() > bounds.bytes_max {
        return Err(Refusal::BodyTooLarge {
            bytes_max: bounds.bytes_max,
        });
    }
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
    Ok(Upload::Whole(Box::new(Whole {
        frames: ahead,
        facts,
        sized: hint.exact().is_some(),
    })))
}

fn flowing(body: RequestBody, ahead: Vec<Bytes>, scanner: BodyScanner, bounds: Bounds) -> Upload {
    let (tell, said) = oneshot::channel();
    let (verdict, hear_verdict) = oneshot::channel();
    let model = scanner.model().map(str::to_owned);
    let watch = Watch::new(scanner, &ahead, bounds, tell, hear_verdict);
    Upload::Flowing(Box::new(Flowing {
        model,
        body: Observed::new(Ahead::new(ahead, body), watch),
        said,
        verdict,
    }))
}

pub(crate) fn refuse(error: &BodyError) -> Refusal {
    Refusal::InvalidBody {
        message: error.to_string(),
        param: error.param().map(str::to_owned),
        code: error.code(),
    }
}
