//! Who is told that a budget runs out or a key is refused: each thing once, signed, whatever dies in between and whoever does not answer.

use std::{
    collections::{HashMap, HashSet},
    io::Write as _,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use testkit::upstream::{Upstream, answer, json as answered};

use crate::{
    sdk::{installed, root},
    support::{Bank, Turnpike, command, eventually},
};

const CHAT: &str = r#"{"model":"gpt-4o","messages":[]}"#;
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;
/// What such an answer costs, nano-USD.
const COST: i64 = 282_500;

/// A delivery as it came.
#[derive(Clone, Debug)]
struct Told {
    headers: HashMap<String, String>,
    body: String,
    answered: u16,
}

impl Told {
    fn id(&self) -> String {
        self.headers["webhook-id"].clone()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A receiver that answers as the test says, by event and by how often it has seen it: 0 never answers.
struct Receiver {
    server: Upstream,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Receiver {
    async fn new(answers: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Self {
        let told = Arc::new(Mutex::new(Vec::<Told>::new()));
        let (seen, answers) = (Arc::clone(&told), Arc::new(answers));
        let server = Upstream::scripted(move |mut wire| {
            let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
            async move {
                while wire.has_more().await {
                    let (head, body) = wire.read_message().await;
                    let headers: HashMap<_, _> =
                        ["webhook-id", "webhook-timestamp", "webhook-signature"]
                            .into_iter()
                            .map(|name| (name.to_owned(), head.header(name).unwrap().to_owned()))
                            .collect();
                    let status = {
                        let mut seen = seen.lock().unwrap();
                        let before = seen
                            .iter()
                            .filter(|it| it.id() == headers["webhook-id"])
                            .count();
                        let answered = answers(before);
                        let body = String::from_utf8(body).unwrap();
                        seen.push(Told {
                            headers,
                            body,
                            answered,
                        });
                        answered
                    };
                    match status {
                        0 => std::future::pending().await,
                        // Whoever follows shows a signature to others.
                        302 => {
                            wire.send(answer(
                                "302 Found",
                                &[("location", "http://127.0.0.1:1/elsewhere")],
                                "",
                            ))
                            .await
                        }
                        200 => wire.send(answer("204 No Content", &[], "")).await,
                        _ => {
                            wire.send(answer("500 Internal Server Error", &[], ""))
                                .await
                        }
                    }
                }
            }
        })
        .await;
        Self { server, told }
    }

    fn url(&self) -> String {
        format!("{}/hooks/turnpike?from=test", self.server.url())
    }

    fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    fn taken(&self) -> Vec<Told> {
        let mut told = self.told();
        told.retain(|it| it.answered == 200);
        told
    }
}

impl Bank {
    async fn webhook(&self, name: &str, receiver: &Receiver, more: &str) -> Option<String> {
        let statement = format!("select turnpike.set_webhook('{name}', $1{more})");
        let row = self
            .sql
            .query_one(&statement, &[&receiver.url()])
            .await
            .unwrap();
        row.get(0)
    }

    /// A token that has spent all of a budget: three events.
    async fn spend_all(&self, gateway: &Turnpike) {
        let token = self.token(", label => 'd''Artagnan'' <!channel>'").await;
        let (head, _) = gateway.post("/v1/chat/completions", &token, CHAT).await;
        assert_eq!(head.status(), 200);
        self.charge().await;
        let set = format!("update turnpike.access_token set budget = {COST}");
        self.sql.batch_execute(&set).await.unwrap();
    }

    /// As if the time of the next try had come.
    async fn hurry(&self) {
        self.sql
            .batch_execute(
                "update turnpike.delivery set next_at = now() where delivered_at is null",
            )
            .await
            .unwrap();
    }

    async fn delivered(&self, webhook: &str, count: i64) {
        let statement = format!(
            "select count(*) from turnpike.webhook_deliveries where webhook = '{webhook}' and delivered_at is not null"
        );
        eventually("it is delivered", async || {
            (self.one::<i64>(&statement).await >= count).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn thresholds_are_told_once_by_two_replicas_and_signed_after_standard_webhooks() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(answered(ANSWER)).await;
    let receiver = Receiver::new(|_| 200).await;
    let secret = bank.webhook("ops", &receiver, "").await.unwrap();
    let gateways = [
        Turnpike::start(&bank.db, &upstream.url(), &[]),
        Turnpike::start(&bank.db, &upstream.url(), &[]),
    ];
    bank.spend_all(&gateways[0]).await;
    bank.delivered("ops", 3).await;
    // Whoever looks again finds nothing new.
    assert_eq!(
        bank.one::<i32>("select turnpike.look_at_budgets()").await,
        0
    );
    let told = receiver.told();
    let mut thresholds: Vec<_> = told
        .iter()
        .map(|it| it.json()["data"]["threshold"].as_i64().unwrap())
        .collect();
    thresholds.sort_unstable();
    assert_eq!(thresholds, [50, 80, 100]);
    let first = told[0].json();
    assert_eq!(first["type"], "budget.reached");
    assert_eq!(
        (
            &first["data"]["account"],
            &first["data"]["budget"],
            &first["data"]["used_nano_usd"]
        ),
        (&json!("alice"), &json!("budget"), &json!(COST))
    );
    let request = receiver.server.received()[0].text();
    assert!(
        request.starts_with("POST /hooks/turnpike?from=test HTTP/1.1\r\n"),
        "{request}"
    );

    installed();
    let mut python = Command::new(root().join(".sdk/python/bin/python"))
        .arg(root().join("tests/sdk/test_webhooks.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deliveries: Vec<_> = told
        .iter()
        .map(|it| json!({ "headers": it.headers, "body": it.body }))
        .collect();
    let input = json!({ "secret": secret, "deliveries": deliveries }).to_string();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("3 verified"),
        "{said}"
    );

    let (_, metrics) = gateways[0].admin("/metrics").await;
    let (_, more) = gateways[1].admin("/metrics").await;
    let counted: i64 = [metrics, more]
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| {
            line.strip_prefix("turnpike_webhook_deliveries_total{outcome=\"delivered\"} ")
        })
        .map(|count| count.parse::<i64>().unwrap())
        .sum();
    assert_eq!(counted, 3);
    // Neither log nor payload has the secret.
    for gateway in &gateways {
        assert!(!gateway.log().contains(&secret));
    }
    bank.audited().await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_while_it_tells_loses_nothing_and_each_event_is_taken_once() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(answered(ANSWER)).await;
    // The first try is never answered, the second fails, the third is taken.
    let receiver = Receiver::new(|before| [0, 500, 200][before.min(2)]).await;
    bank.webhook("ops", &receiver, "").await;
    let mut first = Turnpike::start(&bank.db, &upstream.url(), &[]);
    bank.spend_all(&first).await;
    eventually("it begins to tell", async || {
        (!receiver.told().is_empty()).then_some(())
    })
    .await;
    first.signal("KILL");
    first.ended().await;
    assert_eq!(receiver.taken().len(), 0);
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.event").await,
        3
    );

    let _second = Turnpike::start(&bank.db, &upstream.url(), &[]);
    eventually("all are taken", async || {
        bank.hurry().await;
        (receiver.taken().len() >= 3).then_some(())
    })
    .await;
    bank.delivered("ops", 3).await;
    let ids: HashSet<_> = receiver.taken().iter().map(Told::id).collect();
    assert_eq!((ids.len(), receiver.taken().len()), (3, 3));
    // What is delivered stays so, even if its time seems to have come.
    bank.sql
        .batch_execute("update turnpike.delivery set next_at = now()")
        .await
        .unwrap();
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.claim_deliveries('{}', 10, 10, 60)")
            .await,
        0
    );
}

#[tokio::test]
async fn a_receiver_that_never_answers_holds_up_no_other() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(answered(ANSWER)).await;
    let (silent, well) = (Receiver::new(|_| 0).await, Receiver::new(|_| 200).await);
    bank.webhook("a silent one", &silent, "").await;
    bank.webhook("slack", &well, ", form => 'slack'").await;
    let gateway = Turnpike::start(&bank.db, &upstream.url(), &[]);
    bank.spend_all(&gateway).await;
    bank.delivered("slack", 3).await;
    assert!(!silent.told().is_empty() && silent.taken().is_empty());
    // Slack gets a sentence, in which no name is markup.
    let texts: Vec<_> = well
        .told()
        .iter()
        .map(|it| it.json()["text"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        texts.iter().any(|text| text.contains("(d'Artagnan' &lt;!channel&gt;) of account alice has used 80 % of its budget: 0.0002825 of 0.0002825 USD")),
        "{texts:?}"
    );
}

#[tokio::test]
async fn redirects_are_not_followed_and_a_webhook_that_fails_is_told_of() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(answered(ANSWER)).await;
    let receiver = Receiver::new(|_| 302).await;
    bank.webhook("moved", &receiver, "").await;
    let gateway = Turnpike::start(&bank.db, &upstream.url(), &[]);
    bank.spend_all(&gateway).await;
    let failing = "select count(*) from turnpike.delivery where attempts >= 3 and last_error = 'it answered 302, and redirects are not followed'";
    eventually("it fails three times", async || {
        bank.hurry().await;
        (bank.one::<i64>(failing).await > 0).then_some(())
    })
    .await;
    let doctor = command(&[("DATABASE_URL", bank.db.url())])
        .args(["doctor", "--offline"])
        .output()
        .unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(
        said.contains("webhooks.failing: webhook moved does not take what it is told"),
        "{said}"
    );
    assert!(
        gateway.log().contains("webhook.failed"),
        "{}",
        gateway.log()
    );
}

#[tokio::test]
async fn a_refused_key_and_a_pool_without_one_are_told_once_in_an_hour() {
    let bank = Bank::open().await;
    let provider = Upstream::scripted(|mut wire| async move {
        while wire.has_more().await {
            wire.read_message().await;
            wire.send(answer("401 Unauthorized", &[], "{}")).await;
        }
    })
    .await;
    let receiver = Receiver::new(|_| 200).await;
    bank.webhook("ops", &receiver, "").await;
    let url = provider.url();
    bank.sql
        .batch_execute(&format!(
            "select turnpike.set_upstream('main', '{url}/v1');
             select turnpike.set_upstream_keys('main', '{{sk-canary-1,sk-canary-2}}');"
        ))
        .await
        .unwrap();
    let gateways = [
        Turnpike::start(&bank.db, &provider.url(), &[]),
        Turnpike::start(&bank.db, &provider.url(), &[]),
    ];
    let token = bank.token("").await;
    for gateway in &gateways {
        for _ in 0..4 {
            let (head, _) = gateway.post("/v1/chat/completions", &token, CHAT).await;
            assert_eq!(head.status(), 502);
        }
    }
    bank.delivered("ops", 3).await;
    let mut kinds: Vec<_> = receiver
        .told()
        .iter()
        .map(|it| it.json()["type"].as_str().unwrap().to_owned())
        .collect();
    kinds.sort_unstable();
    // The hour may have turned meanwhile, and then all is told again.
    let hours: i64 = bank
        .one("select count(distinct kept_until) from turnpike.event")
        .await;
    if hours == 1 {
        assert_eq!(
            kinds,
            [
                "upstream.key_ejected",
                "upstream.key_ejected",
                "upstream.pool_out"
            ]
        );
    }
    let bodies: String = receiver.told().into_iter().map(|it| it.body).collect();
    assert!(
        bodies.contains(r#""upstream":"main""#) && !bodies.contains("canary"),
        "{bodies}"
    );
}

// The commands run beside the receiver.
#[tokio::test(flavor = "multi_thread")]
async fn operators_add_try_list_and_remove_webhooks_by_command() {
    let bank = Bank::open().await;
    let receiver = Receiver::new(|_| 200).await;
    let run = |arguments: &[&str]| {
        let output = command(&[
            ("DATABASE_URL", bank.db.url()),
            ("HOOK_SECRET", "no secret".to_owned()),
        ])
        .args(arguments)
        .output()
        .unwrap();
        let said =
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said)
    };
    let url = receiver.url();
    let (code, said) = run(&[
        "webhook",
        "add",
        "ops",
        &url,
        "--events",
        "budget.reached",
        "--account",
        "alice",
    ]);
    assert!(code == 0 && said.contains("whsec_"), "{said}");
    let (code, said) = run(&["webhook", "test", "ops"]);
    assert_eq!((code, said.as_str()), (0, "webhook ops took it\n"));
    assert_eq!(receiver.told()[0].json()["type"], "webhook.test");
    // Changed without a secret it keeps the one it has; one that is none is told when it is tried.
    let (code, said) = run(&["webhook", "add", "ops", &url, "--form", "slack"]);
    assert!(code == 0 && !said.contains("whsec_"), "{said}");
    let (_, said) = run(&["webhook", "list"]);
    let listed = said.lines().nth(1).unwrap();
    assert!(
        listed.starts_with("ops ") && listed.contains(" slack ") && !said.contains("/hooks"),
        "{said}"
    );
    let (code, _) = run(&["webhook", "add", "ops", &url, "--secret", "env:HOOK_SECRET"]);
    assert_eq!(code, 0);
    let (code, said) = run(&["webhook", "test", "ops"]);
    assert!(
        code == 1 && said.contains("it is not whsec_ and the base64 of 24 to 64 bytes"),
        "{said}"
    );
    for (arguments, says) in [
        (
            &["webhook", "add", "x", &url, "--secret", "hunter2"][..],
            "env:NAME",
        ),
        (
            &["webhook", "add", "x", "ftp://a"],
            "the URL is not of the form https://host/path",
        ),
        (
            &["webhook", "add", "x", &url, "--events", "everything"],
            "names one that is unknown",
        ),
        (
            &["webhook", "add", "x", &url, "--account", "bob"],
            "there is no account bob",
        ),
        (&["webhook", "test", "x"], "there is no webhook \"x\""),
        (
            &["webhook", "remove", "x'; drop table turnpike.webhook; --"],
            "there is no webhook",
        ),
    ] {
        let (code, said) = run(arguments);
        assert!(code != 0 && said.contains(says), "{arguments:?}: {said}");
    }
    assert_eq!(run(&["webhook", "remove", "ops"]).0, 0);
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.webhook")
            .await,
        0
    );
}
