//! What passes between the program and systemd: sockets that were opened for it, and how it fares.

use std::{
    env, io,
    net::{SocketAddr, TcpListener},
};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tracing::warn;

use crate::fatal::{Code, Fatal};

/// `FileDescriptorName=` of sockets for clients, and of the one for operators.
const CLIENTS: &str = "clients";
const ADMIN: &str = "admin";

/// Sockets that stay open when this process ends: whoever has connected waits for the next one.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    clients: Vec<TcpListener>,
    pub(crate) admin: Option<TcpListener>,
}

impl Passed {
    /// Takes the sockets that `LISTEN_FDS` tells of. Call it once, before there are threads: it changes the environment.
    ///
    /// # Errors
    /// When there is one that this program cannot use.
    #[expect(
        clippy::disallowed_methods,
        reason = "no setting: a service manager says it to this one process"
    )]
    pub(crate) fn take() -> Result<Self, Fatal> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        let mut passed = Self::default();
        for number in 0..sockets.len() {
            let name = names.next().filter(|name| !name.is_empty());
            let name = name.unwrap_or(CLIENTS);
            let taken = sockets.take_tcp_listener(number).and_then(|socket| {
                let socket = socket.ok_or(io::ErrorKind::NotFound)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            let socket = taken.map_err(|error| {
                unusable(format!("socket {number} ({name}) is of no use: {error}; Turnpike listens on TCP (ListenStream=, Accept=no)"))
            })?;
            match name {
                ADMIN if passed.admin.is_none() => passed.admin = Some(socket),
                ADMIN => return Err(unusable("there are two sockets named `admin`".to_owned())),
                // Without a name of their own, sockets are named after their unit.
                CLIENTS | "unknown" | "turnpike.socket" => passed.clients.push(socket),
                other => {
                    return Err(unusable(format!(
                        "a socket is named `{other}`: set FileDescriptorName=clients or FileDescriptorName=admin in its unit"
                    )));
                }
            }
        }
        Ok(passed)
    }

    /// A listener for each of so many workers, if sockets for clients were passed. Workers that share one take turns.
    ///
    /// # Errors
    /// When nobody would serve one of the sockets.
    pub(crate) fn listeners(&self, workers: usize) -> Result<Option<Vec<TcpListener>>, Fatal> {
        let sockets = self.clients.len();
        if sockets == 0 {
            return Ok(None);
        }
        if sockets > workers {
            return Err(unusable(format!(
                "there are {sockets} sockets for clients and {workers} workers: set WORKERS={sockets}, or fewer ListenStream= lines"
            )));
        }
        let shared = self.clients.iter().cycle().take(workers);
        let listeners = shared
            .map(TcpListener::try_clone)
            .collect::<io::Result<_>>();
        listeners.map(Some).map_err(|error| {
            Fatal::because(Code::System, "a passed socket cannot be shared", &error)
        })
    }
}

fn unusable(why: String) -> Fatal {
    Fatal::new(
        Code::Config,
        format!("the sockets that were passed cannot be used: {why}"),
    )
}

/// Tells systemd that clients are served now, and where.
pub(crate) fn ready(clients: SocketAddr) {
    let status = format!("serving clients on {clients}");
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Tells systemd that the program is about to end.
pub(crate) fn stopping() {
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("draining: open exchanges finish"),
    ]);
}

/// Without `NOTIFY_SOCKET` nobody wants to know.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "activation.unheard: NOTIFY_SOCKET does not take what it is told");
    }
}
