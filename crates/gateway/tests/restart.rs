//! Restarting fails no call: sockets pass from one process to the next, and a balancer moves clients from replica to replica.

mod balancer;
mod callers;

use std::{
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use testkit::{
    body::Held,
    raw::{Wire, patiently},
    upstream::{LAST_CHUNK, Upstream, json, sse_event, sse_head},
};

use self::{balancer::Balancer, callers::Callers};
use crate::support::{Bank, Turnpike, eventually, post};

const STREAM: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"max_tokens":20,"messages":[]}"#;
const DELTA: &str = r#"{"choices":[{"delta":{"content":"Hi"}}]}"#;
const USAGE: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":15,"total_tokens":17}}"#;
/// Streams that are open while the program restarts.
const STREAMS: usize = 200;

/// Answers calls at once; streams begin, and end when they are released.
async fn upstream() -> (Upstream, Held) {
    let go_on = Held::default();
    let gate = go_on.clone();
    let upstream = Upstream::scripted(move |mut wire: Wire| {
        let gate = gate.clone();
        async move {
            while wire.has_more().await {
                let (_, body) = wire.read_message().await;
                if String::from_utf8_lossy(&body).contains("\"stream\"") {
                    wire.send([sse_head(), sse_event(DELTA)].concat()).await;
                    gate.released().await;
                    let rest = [sse_event(USAGE), sse_event("[DONE]"), LAST_CHUNK.to_vec()];
                    wire.send(rest.concat()).await;
                } else {
                    wire.send(json(callers::ANSWER)).await;
                }
            }
        }
    })
    .await;
    (upstream, go_on)
}

/// What a service manager has: the sockets, and an ear.
struct Manager {
    clients: TcpListener,
    admin: TcpListener,
    ear: UnixDatagram,
    dir: TempDir,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ear = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        ear.set_read_timeout(Some(testkit::raw::PATIENCE)).unwrap();
        Self {
            clients: TcpListener::bind("127.0.0.1:0").unwrap(),
            admin: TcpListener::bind("127.0.0.1:0").unwrap(),
            ear,
            dir,
        }
    }

    fn notify(&self) -> PathBuf {
        self.dir.path().join("notify")
    }

    /// What is said next.
    fn hears(&self) -> String {
        let mut message = [0; 1024];
        let length = self.ear.recv(&mut message).expect("it says how it fares");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    fn start(&self, settings: &[(&str, String)]) -> Turnpike {
        let sockets = [("clients", &self.clients), ("admin", &self.admin)];
        let turnpike = Turnpike::start_with_sockets(&sockets, &self.notify(), settings);
        let message = self.hears();
        assert!(message.starts_with("READY=1\n"), "{message}");
        assert_eq!(turnpike.clients, self.clients.local_addr().unwrap());
        assert_eq!(turnpike.admin, self.admin.local_addr().unwrap());
        turnpike
    }

    async fn stop(&self, mut turnpike: Turnpike) {
        turnpike.signal("TERM");
        let message = self.hears();
        assert!(message.starts_with("STOPPING=1\n"), "{message}");
        assert!(patiently("the end", turnpike.ended()).await.success());
    }
}

fn settings(bank: &Bank, upstream: &Upstream, data_dir: &Path) -> Vec<(&'static str, String)> {
    vec![
        ("DATABASE_URL", bank.db.url()),
        ("OPENAI_URL", format!("{}/v1", upstream.url())),
        ("DATA_DIR", data_dir.display().to_string()),
        ("LOG_LEVEL", "warn,gateway=info,turnpike=info".to_owned()),
    ]
}

/// Every call was charged, and charged once.
async fn charged(bank: &Bank, streams: usize, calls: usize) {
    bank.audited().await;
    let cost = "select sum(amount)::bigint from turnpike.charge where mark = 'measured'";
    let expected = i64::try_from(streams).unwrap() * (2 * 2_500 + 15 * 10_000)
        + i64::try_from(calls).unwrap() * callers::COST;
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        i64::try_from(streams + calls).unwrap()
    );
    assert_eq!(bank.one::<i64>(cost).await, expected);
}

/// As with two units on one socket: the next process serves before the first one goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_successor_on_the_same_socket_fails_no_call_under_two_hundred_open_streams() {
    let bank = Bank::open().await;
    bank.sql
        .batch_execute("select turnpike.top_up('alice', 1000, 'load')")
        .await
        .unwrap();
    let token = bank.token("").await;
    let (upstream, go_on) = upstream().await;
    let manager = Manager::new();
    let data_dir = tempfile::tempdir().unwrap();
    let settings = settings(&bank, &upstream, data_dir.path());
    let first = manager.start(&settings);
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut wire = Wire::connect(first.clients).await;
        wire.send(post("/v1/chat/completions", &token, STREAM))
            .await;
        streams.push(wire);
    }
    for wire in &mut streams {
        wire.read_until(format!("data: {DELTA}\n\n")).await;
    }
    let callers = Callers::start(first.clients, &token);
    callers.go_on_for(50).await;

    let second = manager.start(&settings);
    let stopping = manager.stop(first);
    let rest = async {
        callers.go_on_for(200).await;
        go_on.release();
        for wire in &mut streams {
            wire.read_until("data: [DONE]\n\n").await;
        }
    };
    tokio::join!(stopping, rest);
    callers.go_on_for(50).await;
    let calls = callers.stop().await;
    charged(&bank, STREAMS, calls).await;
    manager.stop(second).await;
}

/// As `systemctl restart` does it: between the two nobody serves, and who connects waits.
#[tokio::test(flavor = "multi_thread")]
async fn who_connects_between_two_processes_waits_and_is_served() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let (upstream, _) = upstream().await;
    let manager = Manager::new();
    let data_dir = tempfile::tempdir().unwrap();
    let settings = settings(&bank, &upstream, data_dir.path());
    let first = manager.start(&settings);
    let callers = Callers::start(first.clients, &token);
    callers.go_on_for(50).await;
    manager.stop(first).await;
    let mut waiting = Wire::connect(manager.clients.local_addr().unwrap()).await;
    waiting
        .send(post("/v1/chat/completions", &token, callers::CALL))
        .await;
    let second = manager.start(&settings);
    let (head, _) = patiently("an answer", waiting.read_message()).await;
    assert_eq!(head.status(), 200);
    callers.go_on_for(50).await;
    let calls = callers.stop().await;
    charged(&bank, 0, calls + 1).await;
    manager.stop(second).await;
}

#[tokio::test]
async fn sockets_of_no_use_are_refused_with_a_word_on_what_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let notify = dir.path().join("notify");
    let [one, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    for (sockets, workers, reason) in [
        (
            vec![("metrics", &one)],
            "2",
            "set FileDescriptorName=clients or FileDescriptorName=admin",
        ),
        (
            vec![("admin", &one), ("admin", &other)],
            "2",
            "two sockets named `admin`",
        ),
        (
            vec![("clients", &one), ("clients", &other)],
            "1",
            "set WORKERS=2",
        ),
    ] {
        let bank = Bank::open().await;
        let settings = [
            ("DATABASE_URL", bank.db.url()),
            ("WORKERS", workers.to_owned()),
            ("DATA_DIR", dir.path().join("data").display().to_string()),
        ];
        let output = Turnpike::refused_with_sockets(&sockets, &notify, &settings);
        assert!(output.contains(reason), "{output}");
    }
}

/// Three replicas behind a balancer that asks `/readyz` are replaced one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn replacing_three_replicas_under_load_fails_no_call() {
    let bank = Bank::open().await;
    bank.sql
        .batch_execute("select turnpike.top_up('alice', 1000, 'load')")
        .await
        .unwrap();
    let token = bank.token("").await;
    let (upstream, go_on) = upstream().await;
    let url = upstream.url();
    let start = || {
        let settings = [("SHUTDOWN_DELAY_SECONDS", "2"), ("LOG_LEVEL", "warn")];
        Turnpike::start(&bank.db, &url, &settings)
    };
    let balancer = Balancer::start().await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let replica = start();
        balancer.add(&replica).await;
        replicas.push(replica);
    }
    let mut streams = Vec::new();
    for _ in 0..30 {
        let mut wire = Wire::connect(balancer.address).await;
        wire.send(post("/v1/chat/completions", &token, STREAM))
            .await;
        wire.read_until(format!("data: {DELTA}\n\n")).await;
        streams.push(wire);
    }
    let callers = Callers::start(balancer.address, &token);
    for (number, replica) in replicas.iter_mut().enumerate() {
        let next = start();
        balancer.add(&next).await;
        let mut old = std::mem::replace(replica, next);
        old.signal("TERM");
        eventually("the balancer has noticed", async || {
            (!balancer.sends_to(&old)).then_some(())
        })
        .await;
        callers.go_on_for(50).await;
        if number == 0 {
            // From now on streams end as they come.
            go_on.release();
            for wire in &mut streams {
                wire.read_until("data: [DONE]\n\n").await;
            }
        }
        assert!(patiently("the end", old.ended()).await.success());
        callers.go_on_for(50).await;
    }
    let calls = callers.stop().await;
    charged(&bank, streams.len(), calls).await;
}

/// The private Postgres ends with the process that started it, so the next gateway waits for that.
#[tokio::test]
async fn a_second_gateway_on_the_private_postgres_waits_for_the_first_to_end() {
    let dir = tempfile::tempdir().unwrap();
    // The private Postgres runs as another user when this one is root.
    std::fs::set_permissions(
        dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let settings = [("DATA_DIR", dir.path().join("data").display().to_string())];
    let mut first = Turnpike::start_with(&settings);
    let mut second = Turnpike::begin_with(&settings);
    eventually("the second says what it waits for", async || {
        second
            .log()
            .contains("another process runs the private Postgres here")
            .then_some(())
    })
    .await;
    assert_eq!(first.admin("/readyz").await.0.status(), 200);
    first.signal("TERM");
    assert!(first.ended().await.success());
    second.found_out();
    assert_eq!(second.admin("/readyz").await.0.status(), 200);
    second.signal("TERM");
    assert!(second.ended().await.success());
}
