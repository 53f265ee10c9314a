//! The doctor: a healthy gateway has nothing, each fault is found with its remedy, and no secret is told.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use testkit::{
    postgres::TestDb,
    tls::Identity,
    upstream::{Upstream, answer},
};

use crate::support::{Bank, Turnpike, command, eventually};

/// Settings of a gateway that lacks nothing, whatever machine this is.
struct Patient {
    settings: Vec<(&'static str, String)>,
    _data_dir: TempDir,
}

/// What the doctor said.
struct Report {
    code: i32,
    findings: Vec<Value>,
}

impl Patient {
    fn on(url: String) -> Self {
        let data_dir = TempDir::new().unwrap();
        let settings = vec![
            ("DATABASE_URL", url),
            ("OPENAI_API_KEY", "sk-settings-canary".to_owned()),
            ("DATA_DIR", data_dir.path().display().to_string()),
            ("JOURNAL_BYTES_MAX", "1048576".to_owned()),
            ("CONNECTIONS_MAX", "8".to_owned()),
            ("OPEN_EXCHANGES_MAX", "8".to_owned()),
        ];
        Self {
            settings,
            _data_dir: data_dir,
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.into()));
        self
    }

    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = command(&self.settings).args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let said = text.clone() + &String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("canary"), "a secret is told: {said}");
        (output.status.code().unwrap(), text)
    }

    fn examine(&self) -> Report {
        self.examine_with(&[])
    }

    fn examine_with(&self, more: &[&str]) -> Report {
        let (code, text) = self.run(&[&["doctor", "--json"], more].concat());
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        Report {
            code,
            findings: report["findings"].as_array().unwrap().clone(),
        }
    }
}

impl Report {
    /// Asserts one finding that says all of this.
    #[track_caller]
    fn has(&self, level: &str, check: &str, what: &str, remedy: &str) {
        let found = self.findings.iter().any(|it| {
            it["level"] == level
                && it["check"] == check
                && it["finding"].as_str().unwrap().contains(what)
                && it["remedy"].as_str().unwrap().contains(remedy)
        });
        assert!(
            found,
            "no {level} {check} with {what:?} and {remedy:?} in {:#?}",
            self.findings
        );
    }

    fn levels(&self) -> Vec<&str> {
        let levels = self.findings.iter();
        levels.map(|it| it["level"].as_str().unwrap()).collect()
    }
}

#[tokio::test]
async fn a_healthy_gateway_has_nothing() {
    let bank = Bank::open().await;
    let identity = Identity::new(&["localhost"]);
    bank.token(", budget_usd => 1").await;
    let patient = Patient::on(bank.db.url())
        .with("TLS_CERT", identity.certificate().display().to_string())
        .with("TLS_KEY", identity.key().display().to_string());
    let (code, text) = patient.run(&["doctor"]);
    assert!(
        text.starts_with("Postgres ") && text.ends_with("nothing found\n"),
        "{text}"
    );
    let report = patient.examine();
    assert_eq!((code, report.code, report.findings.len()), (0, 0, 0));
}

#[tokio::test]
async fn prices_without_a_bound_matter_once_a_token_has_a_cap() {
    let bank = Bank::open().await;
    let patient = Patient::on(bank.db.url());
    bank.sql
        .batch_execute("select turnpike.set_price('boundless', input => 1, output => 2)")
        .await
        .unwrap();
    let remedy = "turnpike price set 'boundless' --input USD --output USD --context-window TOKENS --output-max TOKENS";
    let report = patient.examine();
    report.has("note", "prices.unbounded", "boundless", remedy);
    assert_eq!(report.code, 0, "nobody must act");
    bank.token(", completion_tokens_day => 1000").await;
    let report = patient.examine();
    report.has("risk", "prices.unbounded", "1 access tokens", remedy);
    assert_eq!(report.code, 1);
}

#[tokio::test]
async fn absurd_prices_are_found() {
    let bank = Bank::open().await;
    let patient = Patient::on(bank.db.url());
    let bounds = "context_window => 1000, output_max => 1000";
    bank.sql
        .batch_execute(&format!(
            "select turnpike.set_price('too-dear', input => 1, output => 1000.01, {bounds});
             select turnpike.set_price('upside-down', input => 101, output => 1, {bounds});
             select turnpike.set_price('for-nothing', input => 1, output => 0, {bounds});
             select turnpike.set_price('dear', input => 100, output => 1000, {bounds});"
        ))
        .await
        .unwrap();
    let report = patient.examine();
    for model in ["too-dear", "upside-down", "for-nothing"] {
        let remedy = format!("turnpike price set '{model}'");
        report.has("risk", "prices.absurd", &format!(": {model}"), &remedy);
    }
    assert_eq!(report.levels(), ["risk"; 3]);
}

#[tokio::test]
async fn keys_that_are_not_there_are_found() {
    let bank = Bank::open().await;
    let patient = Patient::on(bank.db.url()).with("DOCTOR_KEY", "sk-env-canary");
    bank.sql
        .batch_execute(
            "select turnpike.set_upstream('in-table', 'https://a.example/v1', key => 'sk-table-canary');
             select turnpike.set_upstream('in-env', 'https://a.example/v1', key => 'env:DOCTOR_KEY');
             select turnpike.set_upstream('no-env', 'https://a.example/v1', key => 'env:DOCTOR_MISSING');
             select turnpike.set_upstream('no-file', 'https://a.example/v1', key => 'file:/nonexistent/key');
             select turnpike.set_upstream('no-key', 'https://a.example/v1');
             select turnpike.set_upstream('own', 'http://127.0.0.1:1/v1');",
        )
        .await
        .unwrap();
    let report = patient.examine_with(&["--offline"]);
    report.has(
        "broken",
        "upstreams.key",
        "no-env cannot be asked, its key is not there: environment variable DOCTOR_MISSING",
        "turnpike.set_upstream('no-env'",
    );
    report.has(
        "broken",
        "upstreams.key",
        "file /nonexistent/key",
        "turnpike.set_upstream('no-file'",
    );
    report.has(
        "risk",
        "upstreams.key",
        "upstream no-key has no key",
        "turnpike.set_upstream('no-key'",
    );
    report.has(
        "note",
        "upstreams.key",
        "upstream own has no key",
        "if it wants none",
    );
    assert_eq!(report.levels(), ["broken", "broken", "risk", "note"]);

    let bank = Bank::open().await;
    let report = Patient::on(bank.db.url())
        .with("OPENAI_API_KEY", "")
        .examine();
    report.has("note", "upstreams.none", "sandbox", "OPENAI_API_KEY");
    let report = Patient::on(bank.db.url())
        .with("OPENAI_API_KEY", "tp-canary")
        .examine();
    report.has(
        "risk",
        "upstreams.key",
        "a Turnpike access token",
        "the provider's key",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_shown_to_its_upstream() {
    let bank = Bank::open().await;
    let models = Upstream::scripted(|mut wire| async move {
        let (head, _) = wire.read_message().await;
        let status = match head.header("authorization") {
            Some("Bearer sk-canary-good") => "200 OK",
            Some("Bearer sk-canary-spent") => "429 Too Many Requests",
            _ => "401 Unauthorized",
        };
        wire.send(answer(status, &[], "{}")).await;
    })
    .await;
    let url = models.url();
    bank.sql
        .batch_execute(&format!(
            "select turnpike.set_upstream('one', '{url}/v1');
             select turnpike.set_upstream_keys('one', '{{sk-canary-good,sk-canary-spent,sk-canary-old}}');
             select turnpike.set_upstream('away', 'http://127.0.0.1:1/v1', key => 'sk-canary');"
        ))
        .await
        .unwrap();
    let patient = Patient::on(bank.db.url());
    let report = patient.examine();
    report.has(
        "broken",
        "upstreams.refused",
        "upstream one refuses key 3 (401)",
        "turnpike upstream add 'one'",
    );
    report.has("risk", "upstreams.exhausted", "key 2 with 429", "top it up");
    report.has(
        "broken",
        "upstreams.unreachable",
        "upstream away cannot be reached",
        "--offline",
    );
    assert_eq!(report.levels(), ["broken", "broken", "risk"]);
    assert!(patient.examine_with(&["--offline"]).findings.is_empty());
}

#[tokio::test]
async fn what_is_wrong_with_the_books_is_found() {
    let bank = Bank::open().await;
    let patient = Patient::on(bank.db.url());
    bank.token("").await;
    bank.sql
        .batch_execute(
            "with gone as (
               insert into turnpike.instance (pid, name, version, stopped_at) values (1, 'host-that-is-gone', '0', now()) returning id)
             insert into turnpike.hold (exchange_id, token_id, account_id, amount, instance_id, model)
             select gen_random_uuid(), t.id, t.account_id, 5, gone.id, 'gpt-4o' from turnpike.access_token as t, gone;
             insert into turnpike.charge (id, account_id, token_id, price_id, instance_id, amount, held, started_at, ended_after_ms,
                                          status, stream, mark, ending, endpoint, model_requested)
             select turnpike.first_id(now()), t.account_id, t.id, (select min(id) from turnpike.price where pattern = 'gpt-4o'), 1, 7, 7, now(), 1,
                    200, false, 'interrupted', 'failed', 'chat/completions', 'gpt-4o'
               from turnpike.access_token as t;
             do $$ begin
               execute format('drop table turnpike.%I', 'charge_' || to_char(now() at time zone 'UTC' + interval '1 month', 'YYYY_MM'));
             end $$;",
        )
        .await
        .unwrap();
    let report = patient.examine();
    // The charge came from nowhere: neither balance nor counters know of it.
    report.has(
        "broken",
        "books.audit",
        "balance = credits - charges: account alice",
        "turnpike audit",
    );
    report.has(
        "risk",
        "books.holds",
        "1 open exchanges of host-that-is-gone",
        "DATA_DIR",
    );
    report.has(
        "risk",
        "books.charges",
        "interrupted: 1",
        "turnpike.estimates",
    );
    report.has(
        "risk",
        "books.partitions",
        "no partition",
        "turnpike.ensure_charge_partitions()",
    );
    assert_eq!(report.levels(), ["broken", "risk", "risk", "risk"]);
    assert_eq!(report.code, 1);
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_a_finding() {
    let report = Patient::on("postgres://u:canary@127.0.0.1:1/turnpike".to_owned()).examine();
    report.has(
        "broken",
        "database.reachable",
        "127.0.0.1:1",
        "DATABASE_URL",
    );
    assert_eq!(report.code, 1);
    let bare = TestDb::empty().await;
    let lacks = "lacks migrations 0001_add_money.sql to";
    Patient::on(bare.url()).examine().has(
        "risk",
        "database.migrations",
        lacks,
        "`turnpike migrate`",
    );
    Patient::on(bare.url())
        .with("MIGRATE", "false")
        .examine()
        .has("broken", "database.migrations", lacks, "MIGRATE=false");
}

#[tokio::test]
async fn a_user_s_rights_are_looked_at() {
    let bank = Bank::open().await;
    let role = |kind: &str| format!("doctor_{kind}_{}", std::process::id());
    let (server, operator, partial) = (role("server"), role("operator"), role("partial"));
    bank.sql
        .batch_execute(&format!(
            "create role {server} login in role turnpike_gateway;
             create role {operator} login in role turnpike_admin;
             create role {partial} login;
             grant usage on schema turnpike to {partial};
             grant select on turnpike.migration to {partial};"
        ))
        .await
        .unwrap();
    let serving = Patient::on(bank.db.url_as(&server)).examine();
    let operating = Patient::on(bank.db.url_as(&operator)).examine();
    let lacking = Patient::on(bank.db.url_as(&partial)).examine();
    bank.sql
        .batch_execute(&format!(
            "drop owned by {partial}; drop role {server}, {operator}, {partial}"
        ))
        .await
        .unwrap();
    // Who serves may not read the audit, and need not.
    serving.has("note", "doctor.unread", "audit", "turnpike_admin");
    assert_eq!((serving.code, serving.levels()), (0, vec!["note"]));
    operating.has(
        "note",
        "database.grants",
        "delete on turnpike.hold",
        "if another user serves",
    );
    assert_eq!(operating.code, 0, "{:?}", operating.findings);
    lacking.has(
        "broken",
        "database.grants",
        "delete on turnpike.",
        &format!("grant turnpike_gateway to \"{partial}\""),
    );
    assert_eq!(lacking.code, 1);
}

#[tokio::test]
async fn what_is_wrong_with_the_machine_is_found() {
    let bank = Bank::open().await;
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let under = file.join("data").display().to_string();
    Patient::on(bank.db.url())
        .with("DATA_DIR", under.clone())
        .examine()
        .has("broken", "machine.data_dir", &under, "JOURNAL_BYTES_MAX=0");
    let damaged = dir.path().join("ledgers/turnpike-1/damaged");
    fs::create_dir_all(&damaged).unwrap();
    fs::write(damaged.join("some"), "").unwrap();
    let pem = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/expired.pem");
    let report = Patient::on(bank.db.url())
        .with("DATA_DIR", dir.path().display().to_string())
        .with("JOURNAL_BYTES_MAX", u64::MAX.to_string())
        .with("CONNECTIONS_MAX", u64::MAX.to_string())
        .with("TLS_CERT", pem)
        .with("TLS_KEY", pem)
        .examine();
    report.has("broken", "machine.certificate", "has expired", "renew it");
    report.has("risk", "machine.disk", "bytes free", "JOURNAL_BYTES_MAX");
    report.has("risk", "machine.damaged", "1 files", "turnpike reconcile");
    report.has(
        "risk",
        "machine.descriptors",
        "CONNECTIONS_MAX",
        "ulimit -n",
    );
    assert_eq!(report.levels(), ["broken", "risk", "risk", "risk"]);
}

#[tokio::test]
async fn what_a_killed_gateway_left_is_found_until_the_next_has_settled_it() {
    let bank = Bank::open().await;
    let patient = Patient::on(bank.db.url());
    let mut turnpike = Turnpike::start_with(&patient.settings);
    assert_eq!(patient.examine().levels(), [""; 0], "it lives");
    turnpike.signal("KILL");
    turnpike.ended().await;
    let report = patient.examine();
    report.has(
        "risk",
        "machine.black_box",
        "a process that died left",
        "start Turnpike on this DATA_DIR",
    );
    // It was only looked at.
    assert_eq!(patient.examine().findings, report.findings);
    let mut turnpike = Turnpike::start_with(&patient.settings);
    eventually("the next settles it", async || {
        patient.examine().levels().is_empty().then_some(())
    })
    .await;
    turnpike.signal("TERM");
    turnpike.ended().await;
    assert_eq!(patient.examine().levels(), [""; 0]);
}
