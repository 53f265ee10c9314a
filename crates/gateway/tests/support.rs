//! A running gateway, its database, and what tests ask of them.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::fd::AsRawFd as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use testkit::{
    body::Held,
    postgres::TestDb,
    raw::{Head, Wire, patiently},
    upstream::{LAST_CHUNK, Upstream, sse_event, sse_head},
};
use tokio_postgres::{Client, Row};

/// How long to wait for what happens in the background. Not a pause: no test waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway process on a database of its own.
pub(crate) struct Turnpike {
    child: Child,
    /// Where clients connect.
    pub(crate) clients: SocketAddr,
    /// Where operators connect.
    pub(crate) admin: SocketAddr,
    log: Arc<Mutex<String>>,
    /// Its lines on standard output.
    printed: Arc<Mutex<Vec<String>>>,
    /// Unless the test named one.
    own_dir: Option<TempDir>,
}

impl Turnpike {
    /// Starts the program on `db` with `OPENAI_URL` set to `upstream` (plus `/v1`) and more settings.
    pub(crate) fn start(db: &TestDb, upstream: &str, settings: &[(&str, &str)]) -> Self {
        let url = format!("{upstream}/v1");
        let mut all = vec![
            ("DATABASE_URL", db.url()),
            ("OPENAI_URL", url),
            ("OPENAI_API_KEY", "sk-upstream-canary".to_owned()),
        ];
        all.extend(
            settings
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        Self::start_with(&all)
    }

    /// The same with arguments.
    pub(crate) fn start_as(
        arguments: &[&str],
        db: &TestDb,
        upstream: &str,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut all = vec![
            ("DATABASE_URL", db.url()),
            ("OPENAI_URL", format!("{upstream}/v1")),
        ];
        let more = settings
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        all.extend(more);
        Self::run(&all, arguments)
    }

    /// Starts the program with these settings and no others.
    pub(crate) fn start_with(settings: &[(&str, String)]) -> Self {
        Self::run(settings, &[])
    }

    /// Starts the program as systemd does, with these sockets (each with its name) and where it is to tell how it fares.
    pub(crate) fn start_with_sockets(
        sockets: &[(&str, &TcpListener)],
        notify: &Path,
        settings: &[(&str, String)],
    ) -> Self {
        let passed = Passed::new(sockets, notify, settings);
        let mut turnpike = Self::begin("bash", &passed.settings, &["-c", &passed.script]);
        turnpike.found_out();
        turnpike
    }

    /// The same of one that refuses to start: what it says.
    pub(crate) fn refused_with_sockets(
        sockets: &[(&str, &TcpListener)],
        notify: &Path,
        settings: &[(&str, String)],
    ) -> String {
        let passed = Passed::new(sockets, notify, settings);
        let mut command = command_of("bash", &passed.settings);
        let output = command.args(["-c", &passed.script]).output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Starts the program with these settings and does not wait until it serves.
    pub(crate) fn begin_with(settings: &[(&str, String)]) -> Self {
        Self::begin(env!("CARGO_BIN_EXE_turnpike"), settings, &[])
    }

    /// Starts another build of the program.
    pub(crate) fn start_program(program: &str, settings: &[(&str, String)]) -> Self {
        let mut turnpike = Self::begin(program, settings, &[]);
        turnpike.found_out();
        turnpike
    }

    fn run(settings: &[(&str, String)], arguments: &[&str]) -> Self {
        let mut turnpike = Self::begin(env!("CARGO_BIN_EXE_turnpike"), settings, arguments);
        turnpike.found_out();
        turnpike
    }

    fn begin(program: &str, settings: &[(&str, String)], arguments: &[&str]) -> Self {
        let mut settings = settings.to_vec();
        let is_named = settings.iter().any(|(name, _)| *name == "DATA_DIR");
        let data_dir = (!is_named).then(|| TempDir::new().expect("a directory can be made"));
        if let Some(dir) = &data_dir {
            settings.push(("DATA_DIR", dir.path().display().to_string()));
        }
        let mut child = command_of(program, &settings)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        keep(stderr, Arc::clone(&log));
        let printed = keep(stdout, Arc::clone(&log));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            child,
            clients: nowhere,
            admin: nowhere,
            log,
            printed,
            own_dir: data_dir,
        }
    }

    /// Waits until it has said where it serves.
    pub(crate) fn found_out(&mut self) {
        let address = |what: &str| {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let found = self
                    .printed
                    .lock()
                    .unwrap()
                    .iter()
                    .find_map(|line| address_in(line.trim().strip_prefix(what)?));
                match found {
                    Some(address) => return address,
                    None if Instant::now() > deadline => {
                        // The lock must not be held while it panics: the log is shown then.
                        let said = self.log();
                        panic!("the program did not say where its {what} are:\n{said}");
                    }
                    None => thread::yield_now(),
                }
            }
        };
        (self.clients, self.admin) = (address("clients"), address("admin"));
    }

    /// Everything it has printed and logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// What the system calls it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it keeps its journal and flight recorder, unless the test named a place.
    pub(crate) fn data_dir(&self) -> &std::path::Path {
        self.own_dir.as_ref().expect("the test named none").path()
    }

    /// A figure of its metrics.
    pub(crate) async fn figure(&self, name: &str) -> i64 {
        self.figure_with(name, "").await
    }

    /// The same where `ADMIN_TOKEN` is set.
    pub(crate) async fn figure_with(&self, name: &str, token: &str) -> i64 {
        let mut wire = Wire::connect(self.admin).await;
        let request = format!(
            "GET /metrics HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        wire.send(request).await;
        let (_, body) = patiently("an answer", wire.read_message()).await;
        let metrics = String::from_utf8(body).unwrap();
        let start = format!("turnpike_{name} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{name} is not in\n{metrics}"))
            .parse()
            .unwrap()
    }

    /// The most memory it has had so far.
    pub(crate) fn memory_peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        kib.parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success(), "the program is still there");
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("the program ends", async || {
            self.child.try_wait().expect("it is our child")
        })
        .await
    }

    /// Sends one request on a connection of its own and reads the whole answer.
    pub(crate) async fn call(&self, request: impl AsRef<[u8]>) -> (Head, Vec<u8>) {
        let mut wire = Wire::connect(self.clients).await;
        wire.send(request).await;
        patiently("an answer", wire.read_message()).await
    }

    /// Posts JSON to a path with this token.
    pub(crate) async fn post(&self, path: &str, token: &str, body: &str) -> (Head, Vec<u8>) {
        self.call(post(path, token, body)).await
    }

    /// Reads a page of the admin address.
    pub(crate) async fn admin(&self, path: &str) -> (Head, String) {
        let mut wire = Wire::connect(self.admin).await;
        wire.send(format!("GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n"))
            .await;
        let (head, body) = patiently("an answer", wire.read_message()).await;
        (head, String::from_utf8(body).unwrap())
    }
}

impl Drop for Turnpike {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the program said ---\n{}", self.log());
        }
    }
}

/// What makes the shell start the program with sockets, as the protocol of systemd wants it.
struct Passed<'a> {
    script: String,
    settings: Vec<(&'a str, String)>,
    _copies: Vec<TcpListener>,
}

impl<'a> Passed<'a> {
    fn new(
        sockets: &[(&str, &TcpListener)],
        notify: &Path,
        settings: &[(&'a str, String)],
    ) -> Self {
        let copies: Vec<_> = sockets
            .iter()
            .map(|(_, socket)| socket.try_clone().unwrap())
            .collect();
        let mut redirections = String::new();
        for (number, copy) in copies.iter().enumerate() {
            rustix::io::fcntl_setfd(copy, rustix::io::FdFlags::empty()).unwrap();
            write!(redirections, " {}<&{}", number + 3, copy.as_raw_fd()).unwrap();
        }
        let names: Vec<_> = sockets.iter().map(|(name, _)| *name).collect();
        let mut settings = settings.to_vec();
        settings.extend([
            ("LISTEN_FDS", sockets.len().to_string()),
            ("LISTEN_FDNAMES", names.join(":")),
            ("NOTIFY_SOCKET", notify.display().to_string()),
        ]);
        let program = env!("CARGO_BIN_EXE_turnpike");
        Self {
            script: format!("LISTEN_PID=$$ exec {program}{redirections}"),
            settings,
            _copies: copies,
        }
    }
}

/// The program with these settings and no others, on free ports.
pub(crate) fn command(settings: &[(&str, String)]) -> Command {
    command_of(env!("CARGO_BIN_EXE_turnpike"), settings)
}

/// The same of another program, such as one that starts ours.
pub(crate) fn command_of(program: &str, settings: &[(&str, String)]) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs([
        ("BIND_ADDRESS", "127.0.0.1"),
        ("PORT", "0"),
        ("ADMIN_ADDRESS", "127.0.0.1:0"),
        ("WORKERS", "2"),
    ]);
    command.envs(settings.iter().map(|(name, value)| (*name, value.as_str())));
    command
}

/// Keeps every line, so that the pipe never fills.
fn keep(reader: impl BufRead + Send + 'static, log: Arc<Mutex<String>>) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
            kept.lock().unwrap().push(line);
        }
    });
    lines
}

/// `http://127.0.0.1:1234/…` somewhere in a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    line.split("://").nth(1)?.split('/').next()?.parse().ok()
}

/// A POST with a JSON body, on a connection that stays open.
pub(crate) fn post(path: &str, token: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: gateway.example\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Asks until there is an answer.
///
/// # Panics
/// After [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An upstream that sends the first events of a stream, waits until it is released, then sends the others and ends.
pub(crate) async fn paused_stream(before: &[&str], after: &[&str]) -> (Upstream, Held) {
    let events =
        |events: &[&str]| -> Vec<u8> { events.iter().flat_map(|event| sse_event(event)).collect() };
    let before = [sse_head(), events(before)].concat();
    let after = [events(after), LAST_CHUNK.to_vec()].concat();
    let go_on = Held::default();
    let gate = go_on.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let (before, after, gate) = (before.clone(), after.clone(), gate.clone());
        async move {
            wire.read_message().await;
            wire.send(before).await;
            gate.released().await;
            // Who reads it may have gone.
            let _ = wire.try_send(after).await;
            wire.has_more().await;
        }
    })
    .await;
    (upstream, go_on)
}

/// Account `alice` with 20 USD; `gpt-4o` and `gpt-4o-mini` at their list prices.
pub(crate) const ACCOUNTS: &str = "
    select turnpike.create_account('alice');
    select turnpike.top_up('alice', 20, 'test');
    select turnpike.set_price('gpt-4o', input => 2.50, cached_input => 1.25, output => 10.00, context_window => 128000, output_max => 16384);
    select turnpike.set_price('gpt-4o-mini', input => 0.15, cached_input => 0.075, output => 0.60, context_window => 128000, output_max => 16384);
    select turnpike.set_price('gpt-3.5-turbo', input => 0.50, output => 1.50, context_window => 16385, output_max => 4096);
    select turnpike.set_price('text-embedding-3-small', input => 0.02, output => 0, context_window => 8191);";

/// A database with prices, an account and a token.
pub(crate) struct Bank {
    pub(crate) db: TestDb,
    pub(crate) sql: Client,
}

impl Bank {
    /// With [`ACCOUNTS`].
    pub(crate) async fn open() -> Self {
        let db = TestDb::new().await;
        let sql = db.client().await;
        sql.batch_execute(ACCOUNTS).await.unwrap();
        Self { db, sql }
    }

    /// A token of `alice`, with more arguments to `issue_token` (`, budget_usd => 1`).
    pub(crate) async fn token(&self, more: &str) -> String {
        let statement = format!("select token from turnpike.issue_token(account => 'alice'{more})");
        self.sql.query_one(&statement, &[]).await.unwrap().get(0)
    }

    /// One value of one row.
    pub(crate) async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(
        &self,
        statement: &str,
    ) -> T {
        self.sql
            .query_one(statement, &[])
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"))
            .get(0)
    }

    /// Waits for the only charge.
    pub(crate) async fn charge(&self) -> Row {
        let mut rows = eventually("a charge", async || {
            let rows = self
                .sql
                .query("select * from turnpike.charge", &[])
                .await
                .unwrap();
            (!rows.is_empty()).then_some(rows)
        })
        .await;
        assert_eq!(rows.len(), 1, "one charge");
        rows.remove(0)
    }

    /// Waits until nothing is held, then checks the books. Gateways give back what is free in their purses, so that what stays
    /// leased is held; their evidence in `turnpike.hold` comes and goes a little later.
    pub(crate) async fn audited(&self) {
        eventually("every hold ends", async || {
            self.sql
                .batch_execute("select pg_notify('turnpike', 'recall:all')")
                .await
                .unwrap();
            let open = "select (select count(*) from turnpike.hold) + (select count(*) from turnpike.lease where money > 0)";
            (self.one::<i64>(open).await == 0).then_some(())
        })
        .await;
        let rows = self
            .sql
            .query("select audit::text from turnpike.audit", &[])
            .await
            .unwrap();
        let complaints: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert!(complaints.is_empty(), "{complaints:?}");
    }
}
