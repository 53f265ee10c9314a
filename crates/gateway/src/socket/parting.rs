//! Why we end a socket, and how its client hears of it: an event as the provider's errors are, then a close.

use bytes::Bytes;
use meter::SocketError;
use serde_json::json;

use crate::refusal::Refusal;

/// The longest reason that a close frame has room for.
const REASON_BYTES_MAX: usize = 123;

/// Why we end a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parting {
    /// The close frame's code (RFC 6455, 7.4.1).
    code: u16,
    kind: &'static str,
    name: &'static str,
    param: Option<String>,
    message: String,
    /// Not even open turns are waited for.
    pub(super) is_at_once: bool,
}

impl Parting {
    fn new(code: u16, kind: &'static str, name: &'static str, message: String) -> Self {
        Self {
            code,
            kind,
            name,
            param: None,
            message,
            is_at_once: false,
        }
    }

    pub(super) fn refused(refusal: &Refusal) -> Self {
        let told = refusal.told();
        let code = if refusal.status().is_server_error() {
            1011
        } else {
            1008
        };
        Self {
            param: told.param,
            ..Self::new(code, told.kind, told.code, told.message)
        }
    }

    pub(super) fn invalid(error: &SocketError) -> Self {
        let code = match error {
            SocketError::Frame(_) => 1002,
            SocketError::NotJson => 1007,
            _ => 1008,
        };
        let message =
            format!("This gateway cannot pass on what could be read in two ways: {error}.");
        Self::new(code, "invalid_request_error", "invalid_event", message)
    }

    pub(super) fn too_many() -> Self {
        let message = format!(
            "{} turns are open on this socket: wait for one to end.",
            super::turns::TURNS_MAX
        );
        Self::new(1008, "invalid_request_error", "too_many_turns", message)
    }

    pub(super) fn event_id_reused(id: &str) -> Self {
        let message = format!(
            "An event that asks for a response shares no id with another: `{id}` is used already. Give each event its own, or none."
        );
        Self {
            param: Some("event_id".to_owned()),
            ..Self::new(1008, "invalid_request_error", "event_id_reused", message)
        }
    }

    pub(super) fn other_model(model: &str) -> Self {
        let message = format!("A session keeps its model: open another socket for `{model}`.");
        Self::new(
            1008,
            "invalid_request_error",
            "model_not_changeable",
            message,
        )
    }

    pub(super) fn no_model() -> Self {
        let message = "Name the session's model: open the socket with ?model=…".to_owned();
        Self::new(1008, "invalid_request_error", "missing_model", message)
    }

    pub(super) fn unknown_event(kind: &str) -> Self {
        let message =
            format!("What the event `{kind}` costs is not known, so it is not passed on.");
        Self::new(1008, "invalid_request_error", "unknown_event", message)
    }

    pub(super) fn idle(seconds: u64) -> Self {
        let message = format!("Nothing passed on this socket for {seconds} seconds.");
        Self::new(1001, "invalid_request_error", "idle", message)
    }

    pub(super) fn shutdown() -> Self {
        let message = "This gateway is shutting down. Open the socket again.".to_owned();
        Self::new(1001, "server_error", "unavailable", message)
    }

    pub(super) fn unreadable() -> Self {
        let message =
            "The provider's frames cannot be read, so its turns cannot be charged.".to_owned();
        Self::new(1011, "server_error", "upstream_unreadable", message)
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// Without waiting for open turns.
    pub(super) fn at_once(mut self) -> Self {
        self.is_at_once = true;
        self
    }

    /// The frames that say so. Inside a message only the close may stand.
    pub(super) fn frames(&self, may_tell: bool) -> Bytes {
        let mut frames = Vec::new();
        if may_tell {
            let event = json!({
                "type": "error",
                "event_id": format!("event_{}", uuid::Uuid::now_v7().simple()),
                "error": {
                    "type": self.kind,
                    "code": self.name,
                    "message": self.message,
                    "param": self.param,
                    "event_id": null,
                },
            });
            frame(&mut frames, 0x81, event.to_string().as_bytes());
        }
        let mut close = self.code.to_be_bytes().to_vec();
        let reason = format!("{}: {}", self.name, self.message);
        let end = reason.floor_char_boundary(REASON_BYTES_MAX);
        close.extend_from_slice(&reason.as_bytes()[..end]);
        frame(&mut frames, 0x88, &close);
        frames.into()
    }
}

/// An unmasked frame.
fn frame(to: &mut Vec<u8>, first: u8, payload: &[u8]) {
    to.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ ..126), _) => to.push(len),
        (_, Ok(len)) => {
            to.push(126);
            to.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            to.push(127);
            to.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    to.extend_from_slice(payload);
}
