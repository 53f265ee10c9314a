//! HTTP/1 connections, driven by whoever waits for their answer.
//!
//! hyper splits a connection into a handle that sends and a future that moves the bytes, and expects
//! the future to be spawned. Here it is polled in place, by [`Leased::send`] and then by the
//! answer's body: an answer that arrives in many small chunks then crosses no task boundary per chunk, and
//! all that are ready can be passed on together. The price: while nobody polls the answer, nothing
//! moves. So should the upstream answer before it has the whole request, the connection does get a
//! task of its own, and is not used again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use http::Request;
use http::Response;
use http::StatusCode;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::AbortOnDropHandle;

use super::PoolLimits;
use super::answer::Answer;
use super::convert;
use super::error::SendError;
use super::error::Stage;
use super::host::Host;
use super::outgoing::Outgoing;
use super::outgoing::Progress;
use super::stream::Stream;

/// hyper panics at a smaller read buffer.
const HYPER_BUFFER_BYTES_MIN: usize = 8 * 1024;

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// An open connection.
pub(super) struct Connection {
    sender: http1::SendRequest<Outgoing>,
    /// `None` once it has ended.
    driver: Option<Driver>,
}

/// A connection and the place it takes among its target's.
pub(super) struct Leased {
    connection: Connection,
    place: OwnedSemaphorePermit,
    pub(super) is_fresh: bool,
}

/// No answer; `unsent` is the request if not a byte of it was written.
pub(super) struct Failed {
    pub(super) error: SendError,
    pub(super) unsent: Option<Box<Request<Outgoing>>>,
}

impl Failed {
    pub(super) fn from_hyper(
        mut error: TrySendError<Request<Outgoing>>,
        progress: &Progress,
    ) -> Self {
        Self {
            unsent: error.take_message().map(Box::new),
            error: SendError::of_request(error.into_error(), progress),
        }
    }

    pub(super) fn overdue(progress: &Progress) -> Self {
        let error = SendError::timeout(Stage::FirstByte);
        if progress.is_sent() {
            return error.sent().into();
        }
        error.into()
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Self {
        Self {
            error,
            unsent: None,
        }
    }
}

impl Connection {
    pub(super) async fn open(stream: Stream, limits: &PoolLimits) -> Result<Self, SendError> {
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(limits.head_bytes_max.max(HYPER_BUFFER_BYTES_MIN))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(SendError::from_hyper)?;
        Ok(Self {
            sender,
            driver: Some(Box::pin(connection.with_upgrades())),
        })
    }

    pub(super) fn lease(self, place: OwnedSemaphorePermit, is_fresh: bool) -> Leased {
        Leased {
            connection: self,
            place,
            is_fresh,
        }
    }

    /// Moves what can be moved. Returns whether the connection has ended.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(ended) = driver.as_mut().poll(cx)
        {
            if let Err(error) = ended {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "upstream connection ended"
                );
            }
            self.driver = None;
        }
        self.driver.is_none()
    }

    /// Whether another request can go out on it. Sees an upstream that has closed it meanwhile.
    pub(super) fn is_good(&mut self) -> bool {
        // The socket remembers that something has arrived even if nobody was woken.
        let mut cx = Context::from_waker(Waker::noop());
        !self.drive(&mut cx) && self.sender.is_ready()
    }

    /// Lets the connection move by itself until it ends, or the handle goes.
    fn spawn(self) -> Option<AbortOnDropHandle<()>> {
        let driver = self.driver?;
        // The sender goes: the connection closes when this exchange is through.
        let moving = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "upstream connection ended"
                );
            }
        });
        Some(AbortOnDropHandle::new(moving))
    }
}

impl Leased {
    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        mut self,
        host: &Arc<Host>,
        mut request: Request<Outgoing>,
        progress: &Progress,
    ) -> Result<Response<Answer>, Failed> {
        convert::for_h1(&mut request, &host.target);
        let response = self
            .exchange(request, progress, host.limits.first_byte_timeout)
            .await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS || !progress.is_sent() {
            let moving = self.connection.spawn();
            return Ok(
                response.map(|body| Answer::detached(body, self.place, moving, &host.limits))
            );
        }
        Ok(response.map(|body| Answer::h1(body, self.connection, self.place, host)))
    }

    async fn exchange(
        &mut self,
        request: Request<Outgoing>,
        progress: &Progress,
        first_byte_timeout: Duration,
    ) -> Result<Response<Incoming>, Failed> {
        let Connection { sender, driver } = &mut self.connection;
        let mut response = std::pin::pin!(sender.try_send_request(request));
        let mut overdue = std::pin::pin!(progress.overdue(first_byte_timeout));
        std::future::poll_fn(|cx| {
            if let Some(driving) = driver
                && driving.as_mut().poll(cx).is_ready()
            {
                // Whatever ended it, hyper has told the response.
                *driver = None;
            }
            if let Poll::Ready(response) = response.as_mut().poll(cx) {
                return Poll::Ready(response.map_err(|error| Failed::from_hyper(error, progress)));
            }
            overdue
                .as_mut()
                .poll(cx)
                .map(|()| Err(Failed::overdue(progress)))
        })
        .await
    }
}
