//! The real Prometheus over a running gateway: it reads the metrics, the alerts and the dashboard ask for what is there.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    raw::{Wire, patiently},
    upstream::{Upstream, json},
};

use crate::support::{Bank, Turnpike, eventually};

const CHAT: &str = r#"{"model":"gpt-4o","messages":[]}"#;
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(path)
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(deploy("prometheus"))
        .output()
        .expect("promtool is installed by ./test");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
fn every_alert_is_valid_and_fires_when_it_should() {
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["test", "rules", "alerts.test.yml"]);
    // The tests of the alerts leave none out.
    let alerts = std::fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let tests = std::fs::read_to_string(deploy("prometheus/alerts.test.yml")).unwrap();
    for line in alerts.lines() {
        if let Some((_, name)) = line.split_once("- alert: ") {
            assert!(
                tests.contains(&format!("\"{name}\"")) || tests.contains(name),
                "{name}"
            );
        }
    }
}

/// A Prometheus that is killed with the test.
struct Prometheus {
    child: Child,
    address: String,
    _dir: TempDir,
}

impl Prometheus {
    fn watching(target: &str) -> Self {
        let dir = TempDir::new().unwrap();
        // A port that was free a moment ago.
        let address = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|it| it.local_addr())
            .unwrap()
            .to_string();
        let config = std::fs::read_to_string(deploy("prometheus/prometheus.yml"))
            .unwrap()
            .replace("15s", "1s")
            .replace("turnpike:8081", target)
            .replace(
                "alerts.yml",
                deploy("prometheus/alerts.yml").to_str().unwrap(),
            );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let child = Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus is installed by ./test");
        Self {
            child,
            address,
            _dir: dir,
        }
    }

    /// What it answers to an expression.
    async fn ask(&self, expression: &str) -> Option<Vec<Value>> {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("query", expression)
            .finish();
        // It may not listen yet.
        let connection = tokio::net::TcpStream::connect(&self.address).await.ok()?;
        let mut wire = Wire::new(connection);
        let request = format!(
            "GET /api/v1/query?{query} HTTP/1.1\r\nHost: {}\r\n\r\n",
            self.address
        );
        wire.try_send(request).await.ok()?;
        let (_, body) = patiently("an answer", wire.read_message()).await;
        let answer: Value = serde_json::from_slice(&body).ok()?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    text.split(|byte: char| !byte.is_ascii_alphanumeric() && byte != '_')
        .filter(|word| word.starts_with("turnpike_"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn prometheus_reads_what_the_books_say_and_the_dashboard_asks_for() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let url = upstream.url();
    bank.sql
        .batch_execute(&format!(
            "select turnpike.set_upstream('main', '{url}/v1', key => 'a')"
        ))
        .await
        .unwrap();
    let gateway = Turnpike::start(&bank.db, &url, &[("DOOR_AGENT", "on")]);
    let token = bank.token("").await;
    for _ in 0..3 {
        gateway.post("/v1/chat/completions", &token, CHAT).await;
    }
    // A family is told once it has a member: a refusal, a front door's call.
    gateway
        .post("/v1/chat/completions", "tp-nobody", CHAT)
        .await;
    gateway.post("/chat", "tp-nobody", CHAT).await;
    let prometheus = Prometheus::watching(&gateway.admin.to_string());
    let charged: String = bank
        .one("select sum(amount)::text from turnpike.charge")
        .await;
    let expression = "sum(turnpike_charged_nano_usd_total{model=\"gpt-4o\"})";
    eventually("Prometheus knows what was charged", async || {
        let rows = prometheus.ask(expression).await?;
        (rows.first()?["value"][1] == charged).then_some(())
    })
    .await;
    let rows = prometheus.ask("up").await.unwrap();
    assert_eq!(rows[0]["metric"]["job"], "turnpike");

    let (_, metrics) = gateway.admin("/metrics").await;
    let known: BTreeSet<_> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    let dashboard = std::fs::read_to_string(deploy("grafana/dashboards/turnpike.json")).unwrap();
    let alerts = std::fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let asked: BTreeSet<_> = named(&dashboard)
        .into_iter()
        .chain(named(&alerts))
        .collect();
    assert!(asked.len() > 10, "{asked:?}");
    for name in &asked {
        let family = name.trim_end_matches("_total").trim_end_matches("_bucket");
        assert!(known.contains(family), "{name} is no metric: {known:?}");
    }
    // Each panel's expression is one that Prometheus takes.
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression
                .replace("$__rate_interval", "1m")
                .replace("$instance", ".*");
            assert!(prometheus.ask(&expression).await.is_some(), "{expression}");
        }
    }
}
