//! A body that is at hand whole: one frame, or none.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use http_body::Body;
use http_body::Frame;
use http_body::SizeHint;

/// A body of known bytes, such as a refusal.
#[derive(Debug, Clone, Default)]
pub struct Whole(Bytes);

impl Whole {
    /// A body without bytes. It has ended from the start.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Bytes::new())
    }
}

impl<T: Into<Bytes>> From<T> for Whole {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.0);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}
