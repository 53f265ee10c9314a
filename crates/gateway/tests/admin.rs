//! The admin address and the program's own conduct: who may ask, what a probe hears, what the system would keep of its memory.

use testkit::{postgres::TestDb, relay::Relay};

use crate::support::{Turnpike, command, eventually};

/// The status of a page asked for with this header.
async fn status(turnpike: &Turnpike, path: &str, header: &str) -> u16 {
    let mut wire = testkit::raw::Wire::connect(turnpike.admin).await;
    wire.send(format!(
        "GET {path} HTTP/1.1\r\nHost: admin\r\n{header}\r\n"
    ))
    .await;
    wire.read_head().await.status()
}

#[tokio::test]
async fn metrics_want_the_admin_token_and_probes_do_not() {
    let db = TestDb::new().await;
    let settings = [
        ("DATABASE_URL", db.url()),
        ("ADMIN_ADDRESS", "0.0.0.0:0".to_owned()),
        ("ADMIN_TOKEN", "admin-canary".to_owned()),
    ];
    let mut turnpike = Turnpike::start_with(&settings);
    turnpike.admin.set_ip([127, 0, 0, 1].into());
    for (header, expected) in [
        ("", 401),
        ("Authorization: Bearer admin-canar\r\n", 401),
        ("Authorization: Bearer admin-canaryy\r\n", 401),
        ("Authorization: Basic admin-canary\r\n", 401),
        ("Authorization: Bearer admin-canary\r\n", 200),
    ] {
        assert_eq!(
            status(&turnpike, "/metrics", header).await,
            expected,
            "{header}"
        );
    }
    for open in ["/healthz", "/readyz"] {
        assert_eq!(status(&turnpike, open, "").await, 200);
    }
    assert!(!turnpike.log().contains("admin-canary"));
}

#[tokio::test]
async fn an_admin_address_for_all_without_a_token_is_refused_at_the_start() {
    let db = TestDb::new().await;
    let settings = [
        ("DATABASE_URL", db.url()),
        ("ADMIN_ADDRESS", "0.0.0.0:0".to_owned()),
    ];
    let output = command(&settings).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("ADMIN_TOKEN"), "{said}");
}

// The program and its probes are waited for on this thread; the relay needs another.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_needs_no_tool_but_the_program() {
    let db = TestDb::new().await;
    let relay = Relay::to(&db.url()).await;
    let turnpike = Turnpike::start_with(&[
        ("DATABASE_URL", relay.url()),
        // Without one it takes nothing while Postgres is away.
        ("JOURNAL_BYTES_MAX", "0".to_owned()),
    ]);
    let health = |address: String, arguments: &[&str]| {
        let output = command(&[("ADMIN_ADDRESS", address)])
            .arg("health")
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    };
    let here = || turnpike.admin.to_string();
    assert_eq!(health(here(), &[]), (0, "ok\n".to_owned()));
    assert_eq!(health(here(), &["--ready"]), (0, "ready\n".to_owned()));
    relay.close();
    eventually("it is not ready", async || {
        (health(here(), &["--ready"]).0 == 1).then_some(())
    })
    .await;
    assert_eq!(health(here(), &[]).0, 0, "it lives all the same");
    assert_eq!(health("127.0.0.1:1".to_owned(), &[]).0, 69);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn there_are_no_core_dumps_and_as_many_descriptors_as_the_system_grants() {
    let db = TestDb::new().await;
    let turnpike = Turnpike::start_with(&[("DATABASE_URL", db.url())]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", turnpike.pid())).unwrap();
    let limit = |name: &str| -> (String, String) {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let mut words = line.unwrap().split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    };
    assert_eq!(
        limit("Max core file size"),
        ("0".to_owned(), "0".to_owned())
    );
    let (soft, hard) = limit("Max open files");
    assert_eq!(soft, hard);
}

/// As a container runs it: everything but `DATA_DIR` might as well be read-only.
#[tokio::test]
async fn nothing_is_written_outside_the_data_directory() {
    let db = TestDb::new().await;
    let [data, cwd, home] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let path = |dir: &tempfile::TempDir| dir.path().display().to_string();
    let settings = [
        ("DATABASE_URL", db.url()),
        ("DATA_DIR", path(&data)),
        ("HOME", path(&home)),
        ("TMPDIR", path(&cwd)),
    ];
    let turnpike = Turnpike::start_with(&settings);
    assert_eq!(turnpike.admin("/readyz").await.0.status(), 200);
    drop(turnpike);
    let count = |dir: &tempfile::TempDir| std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!((count(&cwd), count(&home)), (0, 0));
    assert!(count(&data) > 0);
}
