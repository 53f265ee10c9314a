//! Rates through the running program: who is refused, what answers tell, and that replicas share one limit.

use testkit::{
    body::Held,
    raw::{Head, Wire, patiently},
    upstream::{Upstream, answer, json},
};
use tokio::task::JoinSet;

use crate::support::{Bank, Turnpike, eventually, post};

const CHAT: &str = r#"{"model":"gpt-4o","max_tokens":1,"messages":[]}"#;
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":1,"total_tokens":8}}"#;
const PATH: &str = "/v1/chat/completions";

/// A token with these columns of `turnpike.access_token` set.
async fn token(bank: &Bank, columns: &str) -> String {
    let secret = bank.token("").await;
    let statement = format!(
        "update turnpike.access_token set {columns} where sha256 = sha256(convert_to($1, 'utf8'))"
    );
    assert_eq!(bank.sql.execute(&statement, &[&secret]).await.unwrap(), 1);
    secret
}

fn told<'a>(head: &'a Head, of: &str) -> [Option<&'a str>; 3] {
    ["limit", "remaining", "reset"].map(|what| head.header(&format!("x-ratelimit-{what}-{of}")))
}

/// Asserts a 429 of this type, and returns its message.
fn refused(head: &Head, body: &[u8], kind: &str) -> String {
    assert_eq!(
        (head.status(), head.header("x-turnpike-refusal")),
        (429, Some("rate_limit_exceeded"))
    );
    let millis: u64 = head.header("retry-after-ms").unwrap().parse().unwrap();
    let seconds: u64 = head.header("retry-after").unwrap().parse().unwrap();
    assert!(
        millis > 0 && seconds == millis.div_ceil(1000),
        "{millis} {seconds}"
    );
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body["error"]["type"], kind);
    body["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn answers_tell_the_token_s_own_limits_and_no_others() {
    let bank = Bank::open().await;
    let of_our_account = [
        ("content-type", "application/json"),
        ("x-ratelimit-limit-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "9999"),
    ];
    let upstream = Upstream::answering(answer("200 OK", &of_our_account, ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let limited = token(&bank, "requests_per_hour = 2").await;
    let unlimited = bank.token("").await;

    let (head, _) = turnpike.post(PATH, &limited, CHAT).await;
    let [limit, remaining, reset] = told(&head, "requests");
    assert_eq!(
        (head.status(), limit, remaining),
        (200, Some("2"), Some("1"))
    );
    assert!(
        reset.is_some_and(|reset| reset == "1h0m0s" || reset.starts_with("59m")),
        "{reset:?}"
    );
    assert_eq!(told(&head, "tokens"), [None; 3]);

    let models =
        format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {limited}\r\n\r\n");
    let (head, _) = turnpike.call(models).await;
    assert_eq!(
        (head.status(), told(&head, "requests")[1]),
        (200, Some("0"))
    );

    let (head, body) = turnpike.post(PATH, &limited, CHAT).await;
    let message = refused(&head, &body, "requests");
    assert!(
        message.contains("this access token has made its requests for this hour"),
        "{message}"
    );
    assert_eq!(told(&head, "requests")[..2], [Some("2"), Some("0")]);

    let (head, _) = turnpike.post(PATH, &unlimited, CHAT).await;
    assert_eq!(head.status(), 200);
    assert_eq!(
        (told(&head, "requests"), told(&head, "tokens")),
        ([None; 3], [None; 3])
    );
    assert!(upstream.connections() <= 2, "what is refused goes nowhere");
}

#[tokio::test]
async fn tokens_are_counted_as_they_are_used() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = token(&bank, "tokens_per_minute = 10").await;
    for remaining in ["10", "2"] {
        let (head, _) = turnpike.post(PATH, &token, CHAT).await;
        assert_eq!(head.status(), 200);
        assert_eq!(told(&head, "tokens")[..2], [Some("10"), Some(remaining)]);
    }
    let (head, body) = turnpike.post(PATH, &token, CHAT).await;
    let message = refused(&head, &body, "tokens");
    assert!(message.contains("tokens for this minute"), "{message}");
    assert_eq!(told(&head, "tokens")[..2], [Some("10"), Some("0")]);
    bank.audited().await;
}

#[tokio::test]
async fn a_second_and_a_minute_are_windows_of_their_own() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = token(
        &bank,
        "requests_per_second = 1, requests_per_minute = 1000000",
    )
    .await;
    let message = eventually("two requests within a second", async || {
        let (one, two) = tokio::join!(
            turnpike.post(PATH, &token, CHAT),
            turnpike.post(PATH, &token, CHAT)
        );
        let (head, body) = [one, two]
            .into_iter()
            .find(|(head, _)| head.status() == 429)?;
        assert_eq!(
            told(&head, "requests")[0],
            Some("1000000"),
            "the minute is what is told"
        );
        Some(refused(&head, &body, "requests"))
    })
    .await;
    assert!(message.contains("for this second"), "{message}");
    eventually("the second passes", async || {
        (turnpike.post(PATH, &token, CHAT).await.0.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_address_is_limited_before_its_token_is_looked_up() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[("ADDRESS_REQUESTS_PER_HOUR", "2")],
    );
    let token = bank.token("").await;
    assert_eq!(turnpike.post(PATH, &token, CHAT).await.0.status(), 200);
    assert_eq!(turnpike.post(PATH, "tp-guess", CHAT).await.0.status(), 401);
    for token in ["tp-guess", &token] {
        let (head, body) = turnpike.post(PATH, token, CHAT).await;
        let message = refused(&head, &body, "requests");
        assert!(message.contains("your address"), "{message}");
        assert_eq!(
            told(&head, "requests"),
            [None; 3],
            "whose token it is, nobody looked"
        );
    }
    let text = turnpike.admin("/metrics").await.1;
    assert!(
        text.lines().any(|line| line.contains("refusals")
            && line.contains("rate_limit_exceeded")
            && line.ends_with(" 2")),
        "{text}"
    );
}

#[tokio::test]
async fn three_processes_let_exactly_the_limit_pass_of_many_parallel_calls() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let gateways: [Turnpike; 3] =
        std::array::from_fn(|_| Turnpike::start(&bank.db, &upstream.url(), &[]));
    let token = token(&bank, "requests_per_hour = 40").await;
    let mut calls = JoinSet::new();
    for call in 0..180 {
        let (address, request) = (gateways[call % 3].clients, post(PATH, &token, CHAT));
        calls.spawn(async move {
            let mut wire = Wire::connect(address).await;
            wire.send(request).await;
            patiently("an answer", wire.read_message()).await.0.status()
        });
    }
    let statuses = calls.join_all().await;
    let count = |status| statuses.iter().filter(|seen| **seen == status).count();
    assert_eq!((count(200), count(429)), (40, 140), "{statuses:?}");
    bank.audited().await;
}

#[tokio::test]
async fn concurrent_exchanges_count_across_processes_and_those_of_a_killed_one_come_back() {
    let bank = Bank::open().await;
    let go_on = Held::default();
    let gate = go_on.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let gate = gate.clone();
        async move {
            wire.read_message().await;
            gate.released().await;
            // Who asked may have been killed.
            let _ = wire.try_send(json(ANSWER)).await;
            wire.has_more().await;
        }
    })
    .await;
    let one = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let killed: i64 = bank
        .one("select id from turnpike.instance where pid <> 0")
        .await;
    let two = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = token(&bank, "concurrent_exchanges = 2").await;
    let mut wires = Vec::new();
    for turnpike in [&one, &two] {
        let mut wire = Wire::connect(turnpike.clients).await;
        wire.send(post(PATH, &token, CHAT)).await;
        wires.push(wire);
    }
    eventually("both are open", async || {
        (upstream.connections() == 2).then_some(())
    })
    .await;
    for turnpike in [&one, &two] {
        let (head, body) = turnpike.post(PATH, &token, CHAT).await;
        let message = refused(&head, &body, "requests");
        assert!(message.contains("exchanges open"), "{message}");
    }
    one.signal("KILL");
    // Nobody hears of it again; half a minute passes.
    bank.sql
        .execute(
            "update turnpike.instance set seen_at = now() - interval '31 seconds' where id = $1",
            &[&killed],
        )
        .await
        .unwrap();
    let third = eventually("the killed one's place comes back", async || {
        let mut wire = Wire::connect(two.clients).await;
        wire.send(post(PATH, &token, CHAT)).await;
        let went_up = eventually("it goes up", async || {
            (upstream.connections() == 3).then_some(())
        });
        let is_refused = tokio::select! {
            (head, _) = wire.read_message() => {
                assert_eq!(head.status(), 429);
                true
            }
            () = went_up => false,
        };
        (!is_refused).then_some(wire)
    })
    .await;
    wires.push(third);
    go_on.release();
    for wire in &mut wires[1..] {
        assert_eq!(
            patiently("an answer", wire.read_message()).await.0.status(),
            200
        );
    }
}
