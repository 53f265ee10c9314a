//! A relay between a program and its Postgres that loses what a test wants lost.
//!
//! It reads just enough of the protocol to know where messages begin, which statement one has, and which answer belongs to
//! it. Postgres has committed a statement by the time it says that it is ready for the next: so a connection that is cut
//! right before these words is one that broke between a commit and the news of it.

mod pump;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_postgres::config::Host;

/// A listening relay. Dropping it closes everything.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    user: String,
    password: String,
    database: String,
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Debug)]
struct State {
    target: Target,
    line: watch::Sender<Line>,
    loss: watch::Sender<Option<Loss>>,
    /// Answers swallowed so far.
    lost: AtomicUsize,
    /// Statements seen so far that `loss` is about.
    seen: AtomicUsize,
}

#[derive(Debug)]
enum Target {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// How the line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    /// Connections of an earlier age are closed.
    age: usize,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Connections stay, and nothing passes.
    Hanging,
    /// Connections are closed at once.
    Closed,
}

/// Which answers get lost.
#[derive(Clone, Debug)]
struct Loss {
    /// What the statement has in it.
    text: Arc<str>,
    /// Every so many-th of them.
    every: usize,
}

impl Relay {
    /// Relays to the database of this URL.
    ///
    /// # Panics
    /// When the URL names no server.
    pub async fn to(url: &str) -> Self {
        let config: tokio_postgres::Config = url.parse().expect("the URL of a database");
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let target = match config.get_hosts().first().expect("a server's address") {
            Host::Tcp(host) => Target::Tcp(host.clone(), port),
            Host::Unix(dir) => Target::Unix(dir.join(format!(".s.PGSQL.{port}"))),
        };
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback has a free port");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let state = Arc::new(State {
            target,
            line: watch::channel(Line {
                age: 0,
                way: Way::Open,
            })
            .0,
            loss: watch::channel(None).0,
            lost: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Self {
            address,
            user: text(config.get_user()),
            password: String::from_utf8_lossy(config.get_password().unwrap_or_default())
                .into_owned(),
            database: text(config.get_dbname()),
            state,
            task: task.abort_handle(),
        }
    }

    /// The URL of the database by way of this relay.
    #[must_use]
    pub fn url(&self) -> String {
        let (user, password) = (&self.user, &self.password);
        let colon = if password.is_empty() { "" } else { ":" };
        let (address, database) = (self.address, &self.database);
        format!("postgres://{user}{colon}{password}@{address}/{database}?sslmode=disable")
    }

    /// Closes every connection. New ones are welcome.
    pub fn cut(&self) {
        self.state.line.send_modify(|line| line.age += 1);
    }

    /// Closes every connection, and new ones as they come: Postgres is away.
    pub fn close(&self) {
        self.state.line.send_modify(|line| {
            line.age += 1;
            line.way = Way::Closed;
        });
    }

    /// From now on nothing passes, and nobody is told.
    pub fn hang(&self) {
        self.state.line.send_modify(|line| line.way = Way::Hanging);
    }

    /// Everything passes again.
    pub fn open(&self) {
        self.state.line.send_modify(|line| line.way = Way::Open);
    }

    /// Of the statements with this text, cuts the connection of every so many-th when Postgres has committed it and the
    /// answer is on its way back.
    pub fn lose_answers(&self, text: &str, every: usize) {
        let text = Arc::from(text);
        self.state.loss.send_replace(Some(Loss { text, every }));
    }

    /// Loses no more of them.
    pub fn lose_no_answers(&self) {
        self.state.loss.send_replace(None);
    }

    /// How many answers were lost.
    #[must_use]
    pub fn answers_lost(&self) -> usize {
        self.state.lost.load(Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        client
            .set_nodelay(true)
            .expect("a socket takes TCP_NODELAY");
        connections.spawn(serve(client, Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

/// Serves one connection until either end is gone, or the line.
async fn serve(client: TcpStream, state: Arc<State>) {
    let mut line = state.line.subscribe();
    let age = line.borrow_and_update().age;
    let closed = async {
        // The sender lives as long as the relay.
        let _ = line
            .wait_for(|line| line.age != age || line.way == Way::Closed)
            .await;
    };
    let serving = async {
        match &state.target {
            Target::Tcp(host, port) => {
                if let Ok(server) = TcpStream::connect((host.as_str(), *port)).await {
                    pass(client, server, &state).await;
                }
            }
            Target::Unix(path) => {
                if let Ok(server) = UnixStream::connect(path).await {
                    pass(client, server, &state).await;
                }
            }
        }
    };
    tokio::select! {
        () = closed => {}
        () = serving => {}
    }
}

async fn pass(
    client: impl AsyncRead + AsyncWrite,
    server: impl AsyncRead + AsyncWrite,
    state: &State,
) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let talk = pump::Talk::default();
    tokio::select! {
        () = pump::up(from_client, to_server, state, &talk) => {}
        () = pump::down(from_server, to_client, state, &talk) => {}
    }
}

impl State {
    /// Waits while the line hangs.
    async fn passable(&self) {
        let mut line = self.line.subscribe();
        let _ = line.wait_for(|line| line.way != Way::Hanging).await;
    }

    /// Whether the answer to this statement is to be lost.
    fn loses(&self, statement: &[u8]) -> bool {
        let Some(loss) = self.loss.borrow().clone() else {
            return false;
        };
        let is_one = statement
            .windows(loss.text.len())
            .any(|window| window == loss.text.as_bytes());
        is_one && (self.seen.fetch_add(1, Relaxed) + 1).is_multiple_of(loss.every)
    }

    fn count_lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }
}
