//! The embedded default: nothing configured, and the first call works.

use std::process::Command;

use crate::support::{Turnpike, eventually};

/// What the first start shows once: the lines a client needs.
fn exported(log: &str, name: &str) -> Option<String> {
    let start = format!("export {name}=");
    log.lines()
        .find_map(|line| line.trim().strip_prefix(start.as_str()).map(str::to_owned))
}

#[tokio::test]
async fn the_printed_curl_line_is_answered_and_charged() {
    let dir = tempfile::tempdir().unwrap();
    // The private Postgres runs as another user when this one is root.
    std::fs::set_permissions(
        dir.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let settings = [(
        "DATA_DIR",
        dir.path().join("data").to_str().unwrap().to_owned(),
    )];
    let mut turnpike = Turnpike::start_with(&settings);
    let log = eventually("the token is shown", async || {
        exported(&turnpike.log(), "OPENAI_API_KEY").map(|_| turnpike.log())
    })
    .await;
    assert!(log.contains("SANDBOX"));
    let (base, token) = (
        exported(&log, "OPENAI_BASE_URL").unwrap(),
        exported(&log, "OPENAI_API_KEY").unwrap(),
    );
    let line: String = log
        .lines()
        .skip_while(|line| !line.trim().starts_with("curl"))
        .take(2)
        .collect::<Vec<_>>()
        .join("\n");
    let output = Command::new("sh")
        .args(["-c", &line])
        .env("OPENAI_BASE_URL", &base)
        .env("OPENAI_API_KEY", &token)
        .output()
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{line}: {}", String::from_utf8_lossy(&output.stderr)));
    assert!(
        answer["usage"]["total_tokens"].as_u64().unwrap() > 0,
        "{answer}"
    );

    let psql = log
        .lines()
        .find_map(|line| line.trim().strip_prefix("database  "))
        .unwrap();
    let charged = Command::new("sh")
        .args([
            "-c",
            &format!("{psql} -Atc \"select count(*), mark from turnpike.charge group by mark\""),
        ])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(charged.stdout).unwrap(),
        "1|measured\n",
        "{}",
        String::from_utf8_lossy(&charged.stderr)
    );

    let users = Command::new("sh")
        .args([
            "-c",
            &format!("{psql} -Atc \"select distinct usename from pg_stat_activity where application_name = 'turnpike'\""),
        ])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(users.stdout).unwrap(),
        "turnpike\n",
        "whoever serves is not the database's owner"
    );

    turnpike.signal("TERM");
    assert!(turnpike.ended().await.success());
    assert!(
        !dir.path().join("data/postgres/postmaster.pid").exists(),
        "the private Postgres is stopped"
    );

    // Starting again says where things are, not the secret.
    let again = Turnpike::start_with(&settings);
    let log = again.log();
    assert!(log.contains("psql") && !log.contains("tp-"), "{log}");
}
