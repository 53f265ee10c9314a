//! Responses in the background: held when they begin, charged once when they end, whoever asks or does not ask for them.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use testkit::{
    raw::Wire,
    upstream::{Upstream, answer, json, sse_event, sse_head},
};
use tokio::process::Command;

use crate::{
    objects::call,
    sdk::{installed, root},
    support::{Bank, Turnpike, eventually},
};

const USED: &str = r#"{"input_tokens":100,"output_tokens":10,"total_tokens":110}"#;
/// 100 x 2.50 + 10 x 10
const COST: i64 = 350_000;
const BEGIN: &str = r#"{"model":"gpt-4o","input":"Hi","background":true}"#;

fn response(status: &str, usage: &str) -> String {
    format!(
        r#"{{"id":"resp_1","object":"response","model":"gpt-4o","status":"{status}","output":[],"usage":{usage}}}"#
    )
}

/// A provider with one response, which stands as the test says.
struct Provider {
    upstream: Upstream,
    stands: Arc<Mutex<String>>,
}

impl Provider {
    async fn new() -> Self {
        let stands = Arc::new(Mutex::new(response("queued", "null")));
        let told = Arc::clone(&stands);
        let upstream = Upstream::scripted(move |mut wire: Wire| {
            let told = Arc::clone(&told);
            async move {
                while wire.has_more().await {
                    let (head, body) = wire.read_message().await;
                    let is_stream = String::from_utf8_lossy(&body).contains(r#""stream":true"#);
                    if head.start.starts_with("POST /v1/responses ") && is_stream {
                        // It breaks off when it has begun.
                        let created = format!(
                            r#"{{"type":"response.created","response":{}}}"#,
                            response("in_progress", "null")
                        );
                        wire.send([sse_head(), sse_event(&created)].concat()).await;
                        return;
                    }
                    if head.start.contains("/cancel ") {
                        *told.lock().unwrap() = response("cancelled", "null");
                    }
                    let stands = told.lock().unwrap().clone();
                    let answer = match (&*stands, head.start.starts_with("DELETE")) {
                        (_, true) => {
                            json(r#"{"id":"resp_1","object":"response.deleted","deleted":true}"#)
                        }
                        ("", _) => answer("404 Not Found", &[], "{}"),
                        (stands, _) => json(stands),
                    };
                    wire.send(answer).await;
                }
            }
        })
        .await;
        Self { upstream, stands }
    }

    fn stands(&self, status: &str, usage: &str) {
        *self.stands.lock().unwrap() = response(status, usage);
    }
}

const POLLS: (&str, &str) = ("JOB_POLL_SECONDS", "1");

async fn begun(bank: &Bank, provider: &Provider) -> (Turnpike, String) {
    let turnpike = Turnpike::start(&bank.db, &provider.upstream.url(), &[POLLS]);
    let token = bank.token("").await;
    let (head, body) = turnpike.post("/v1/responses", &token, BEGIN).await;
    assert_eq!(head.status(), 200, "{}", String::from_utf8_lossy(&body));
    assert_eq!(open_jobs(bank).await, 1);
    (turnpike, token)
}

async fn open_jobs(bank: &Bank) -> i64 {
    bank.one("select count(*) from turnpike.job where ended_at is null")
        .await
}

async fn ended(bank: &Bank) {
    eventually("the job ends", async || {
        (open_jobs(bank).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_response_whose_client_never_returns_is_charged_when_it_ends() {
    let bank = Bank::open().await;
    let provider = Provider::new().await;
    let (_turnpike, _) = begun(&bank, &provider).await;
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        0
    );
    let held = "select (leased > 0 and (select count(*) from turnpike.audit) = 0) from turnpike.account where name = 'alice'";
    assert!(bank.one::<bool>(held).await);
    provider.stands("completed", USED);
    let charge = bank.charge().await;
    let figures: (i64, &str, Option<&str>) = (
        charge.get("amount"),
        charge.get("mark"),
        charge.get("response_id"),
    );
    assert_eq!(figures, (COST, "measured", Some("resp_1")));
    bank.audited().await;
}

#[tokio::test]
async fn reads_of_an_ended_response_charge_it_once() {
    let bank = Bank::open().await;
    let provider = Provider::new().await;
    let turnpike = Turnpike::start(
        &bank.db,
        &provider.upstream.url(),
        &[("JOB_POLL_SECONDS", "3600")],
    );
    let token = bank.token("").await;
    turnpike.post("/v1/responses", &token, BEGIN).await;
    let get = || call("GET", "/v1/responses/resp_1", &token);
    turnpike.call(get()).await;
    assert_eq!(open_jobs(&bank).await, 1);
    // Nobody may lose track of it.
    let (head, _) = turnpike
        .call(call("DELETE", "/v1/responses/resp_1", &token))
        .await;
    assert_eq!(
        head.header("x-turnpike-refusal"),
        Some("response_in_progress")
    );
    provider.stands("completed", USED);
    for _ in 0..3 {
        turnpike.call(get()).await;
        // The charge is there before the answer has ended.
        assert_eq!(bank.charge().await.get::<_, i64>("amount"), COST);
    }
    let (head, _) = turnpike
        .call(call("DELETE", "/v1/responses/resp_1", &token))
        .await;
    assert_eq!(head.status(), 200);
    bank.audited().await;
}

#[tokio::test]
async fn a_killed_gateway_s_response_is_charged_once_by_the_next() {
    let bank = Bank::open().await;
    let provider = Provider::new().await;
    let data = TempDir::new().unwrap();
    let settings = [POLLS, ("DATA_DIR", data.path().to_str().unwrap())];
    let mut first = Turnpike::start(&bank.db, &provider.upstream.url(), &settings);
    let token = bank.token("").await;
    first.post("/v1/responses", &token, BEGIN).await;
    first.signal("KILL");
    first.ended().await;
    provider.stands("completed", USED);
    let _second = Turnpike::start(&bank.db, &provider.upstream.url(), &settings);
    ended(&bank).await;
    assert_eq!(bank.charge().await.get::<_, i64>("amount"), COST);
    bank.audited().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_goes_on_in_the_background() {
    let bank = Bank::open().await;
    let provider = Provider::new().await;
    let turnpike = Turnpike::start(&bank.db, &provider.upstream.url(), &[POLLS]);
    let token = bank.token("").await;
    let body = BEGIN.replace("true}", r#"true,"stream":true}"#);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(crate::support::post("/v1/responses", &token, &body))
        .await;
    eventually("it is a job", async || {
        (open_jobs(&bank).await == 1).then_some(())
    })
    .await;
    provider.stands("incomplete", USED);
    ended(&bank).await;
    let charge = bank.charge().await;
    assert_eq!(charge.get::<_, i64>("amount"), COST);
    assert!(charge.get::<_, bool>("stream"));
    bank.audited().await;
}

#[tokio::test]
async fn what_failed_costs_nothing_and_what_was_cancelled_an_estimate() {
    for (status, usage, expected) in [
        ("failed", "null", None),
        ("failed", USED, Some((COST, "measured"))),
        ("cancelled", "null", Some((32_500, "estimated"))),
    ] {
        let bank = Bank::open().await;
        let provider = Provider::new().await;
        let (_turnpike, _) = begun(&bank, &provider).await;
        let stands = response(status, usage);
        let stands = match status {
            "failed" => stands.replace(
                r#""output":[]"#,
                r#""output":[],"error":{"code":"server_error","message":"x"}"#,
            ),
            _ => stands,
        };
        *provider.stands.lock().unwrap() = stands;
        ended(&bank).await;
        let charges = bank
            .sql
            .query("select amount, mark from turnpike.charge", &[])
            .await
            .unwrap();
        let charged: Option<(i64, &str)> = charges
            .first()
            .map(|row| (row.get("amount"), row.get("mark")));
        assert_eq!(charged, expected, "{status} {usage}");
        bank.audited().await;
    }
}

#[tokio::test]
async fn what_never_ends_is_charged_what_was_held_and_marked() {
    let bank = Bank::open().await;
    let provider = Provider::new().await;
    let (turnpike, _) = begun(&bank, &provider).await;
    let held: i64 = bank.one("select held from turnpike.job").await;
    bank.sql
        .batch_execute("update turnpike.job set deadline = now()")
        .await
        .unwrap();
    let charge = bank.charge().await;
    let figures: (i64, &str) = (charge.get("amount"), charge.get("mark"));
    assert_eq!(figures, (held, "bounded"));
    ended(&bank).await;
    assert!(turnpike.log().contains("job.late"));
    bank.audited().await;
}

#[tokio::test]
async fn openai_python_works_in_the_background_unmodified() {
    installed();
    let bank = Bank::open().await;
    let provider = Provider::new().await;
    let turnpike = Turnpike::start(&bank.db, &provider.upstream.url(), &[POLLS]);
    let output = Command::new(root().join(".sdk/python/bin/python"))
        .arg(root().join("tests/sdk/test_background.py"))
        .env("OPENAI_BASE_URL", format!("http://{}/v1", turnpike.clients))
        .env("OPENAI_API_KEY", bank.token("").await)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    ended(&bank).await;
    assert_eq!(bank.charge().await.get::<_, &str>("mark"), "estimated");
    bank.audited().await;
}

#[tokio::test]
async fn what_came_out_in_the_background_is_its_maker_s() {
    let bank = Bank::open().await;
    let provider = Provider::new().await;
    let (_turnpike, _) = begun(&bank, &provider).await;
    let item = r#""output":[{"type":"reasoning","id":"rs_1","summary":[]}],"status""#;
    let done = response("completed", USED).replace(r#""status""#, item);
    *provider.stands.lock().unwrap() = done;
    ended(&bank).await;
    let parts = "select facts ->> 'parts' from turnpike.object where id = 'resp_1'";
    assert_eq!(bank.one::<String>(parts).await, r#"["rs_1"]"#);
    bank.audited().await;
}
