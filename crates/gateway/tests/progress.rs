//! Bars are for people in front of a terminal: a pipe sees nothing of them.

use std::process::{Command, Stdio};

use testkit::postgres::TestDb;
use tokio_postgres::Client;

use crate::support::{Bank, command};

/// Keeps a table from everybody, so that a command has to wait.
async fn lock(sql: &Client, table: &str) {
    let statement = format!("begin; lock table turnpike.{table} in access exclusive mode");
    sql.batch_execute(&statement).await.unwrap();
}

/// Once a command waits for the lock, lets it wait long enough that a bar is due; then lets go.
async fn let_go(db: &TestDb, sql: &Client) {
    let watcher = db.client().await;
    let waits = "select exists (select from pg_locks where not granted and database = (select oid from pg_database where datname = current_database()))";
    crate::support::eventually("it waits", async || {
        let row = watcher.query_one(waits, &[]).await.unwrap();
        row.get::<_, bool>(0).then_some(())
    })
    .await;
    watcher.batch_execute("select pg_sleep(1.5)").await.unwrap();
    sql.batch_execute("rollback").await.unwrap();
}

/// Runs a command while `table` is locked; on a terminal of its own, or with pipes. What it wrote to both.
async fn run(bank: &Bank, arguments: &str, table: &str, is_terminal: bool) -> String {
    let program = env!("CARGO_BIN_EXE_turnpike");
    let settings = [("DATABASE_URL", bank.db.url()), ("TERM", "xterm".into())];
    let plain = command(&settings);
    let mut child = if is_terminal {
        let mut child = Command::new("script");
        child
            .args(["--quiet", "--return", "--command"])
            .arg(format!("{program} {arguments}"))
            .arg("/dev/null");
        let vars = plain
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        child.env_clear().envs(vars);
        child
    } else {
        let mut child = plain;
        child.args(arguments.split(' '));
        child
    };
    let locked = bank.db.client().await;
    lock(&locked, table).await;
    let child = child
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script comes with Debian");
    let (output, ()) = tokio::join!(
        tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()),
        let_go(&bank.db, &locked)
    );
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {said}");
    said.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wait_shows_on_a_terminal_and_never_in_a_pipe() {
    let bank = Bank::open().await;
    for (arguments, table, says) in [
        ("audit", "charge", "auditing the books"),
        ("usage --by day", "access_token", "adding up"),
        ("price import", "price", "importing prices"),
    ] {
        let piped = run(&bank, arguments, table, false).await;
        assert!(
            !piped.contains(says) && !piped.contains('\u{1b}'),
            "{piped:?}"
        );
        let shown = run(&bank, arguments, table, true).await;
        assert!(shown.contains(says), "{arguments}: {shown:?}");
    }
}

#[tokio::test]
async fn migrations_are_counted_on_a_terminal() {
    for is_terminal in [true, false] {
        let db = TestDb::empty().await;
        let settings = [("DATABASE_URL", db.url()), ("TERM", "xterm".into())];
        let plain = command(&settings);
        let mut child = if is_terminal {
            let mut child = Command::new("script");
            let program = env!("CARGO_BIN_EXE_turnpike");
            child.args([
                "--quiet",
                "--command",
                &format!("{program} migrate"),
                "/dev/null",
            ]);
            let vars = plain
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?)));
            child.env_clear().envs(vars);
            child
        } else {
            let mut child = plain;
            child.arg("migrate");
            child
        };
        let output = child.output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("is at version"), "{said}");
        assert_eq!(said.contains("migrating ["), is_terminal, "{said:?}");
    }
}
