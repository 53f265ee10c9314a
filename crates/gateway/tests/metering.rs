//! Charged once, never lost; honest marks; nothing is finished before the charge.

use std::io::Write as _;

use testkit::{
    body::Held,
    raw::{Ending, Wire, patiently},
    upstream::{self, Upstream, json, sse, sse_event, sse_head},
};
use tokio_postgres::Row;

use crate::support::{Bank, Turnpike, eventually, paused_stream, post};

const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hello"}]}"#;
const STREAM: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hello"}]}"#;
const STREAM_WITHOUT_USAGE: &str = r#"{"model":"gpt-3.5-turbo","stream":true,"messages":[{"role":"user","content":"Hello there, how are you today?"}]}"#;

/// 53 input tokens at 2.5 USD and 15 output tokens at 10 USD per million: 282,500 nano-USD (the first worked example).
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;

const DELTA: &str = r#"{"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":"Hi there"}}],"usage":null}"#;
const USAGE: &str = r#"{"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn figures(charge: &Row) -> (i64, &str, &str) {
    (
        charge.get("amount"),
        charge.get("mark"),
        charge.get("ending"),
    )
}

#[tokio::test]
async fn a_json_answer_is_charged_what_it_reports() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (head, body) = turnpike
        .post("/v1/chat/completions", &bank.token("").await, CHAT)
        .await;
    assert_eq!(
        (head.status(), String::from_utf8(body).unwrap().as_str()),
        (200, ANSWER)
    );

    // The client has its last byte: the charge must stand now, without waiting.
    let charge = bank
        .sql
        .query_one(
            "select *, id::text as exchange, usage_raw::text as raw from turnpike.charge",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(figures(&charge), (282_500, "measured", "complete"));
    assert_eq!(
        charge.get::<_, &str>("exchange"),
        head.header("x-turnpike-exchange").unwrap()
    );
    assert_eq!(
        (
            charge.get::<_, i64>("in_text"),
            charge.get::<_, i64>("out_text")
        ),
        (53, 15)
    );
    assert_eq!(charge.get::<_, &str>("model_requested"), "gpt-4o");
    assert_eq!(
        charge.get::<_, Option<&str>>("model_answered"),
        Some("gpt-4o-2024-08-06")
    );
    assert!(
        charge
            .get::<_, &str>("raw")
            .contains("\"total_tokens\": 68")
    );
    assert_eq!(
        bank.one::<i64>("select balance from turnpike.account")
            .await,
        20_000_000_000 - 282_500
    );
    bank.audited().await;
}

#[tokio::test]
async fn a_stream_is_charged_by_its_usage_frame() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(sse(&[DELTA, USAGE, "[DONE]"])).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (head, body) = turnpike
        .post("/v1/chat/completions", &bank.token("").await, STREAM)
        .await;
    assert_eq!(head.status(), 200);
    assert_eq!(
        String::from_utf8(body).unwrap(),
        format!("data: {DELTA}\n\ndata: {USAGE}\n\ndata: [DONE]\n\n")
    );
    assert_eq!(
        figures(&bank.charge().await),
        (282_500, "measured", "complete")
    );
    bank.audited().await;
}

#[tokio::test]
async fn nothing_of_the_tail_passes_while_the_charge_is_not_durable() {
    let bank = Bank::open().await;
    let (upstream, go_on) = paused_stream(&[DELTA], &[USAGE, "[DONE]"]).await;
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        // Without a journal there is one durable place only.
        &[("JOURNAL_BYTES_MAX", "0")],
    );
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post("/v1/chat/completions", &bank.token("").await, STREAM))
        .await;
    wire.read_until(format!("data: {DELTA}\n\n")).await;

    // The hold is taken. Lock the account, let the upstream finish: the settlement now waits for this lock.
    let mut other = bank.db.client().await;
    let lock = other.transaction().await.unwrap();
    lock.execute("select from turnpike.account for update", &[])
        .await
        .unwrap();
    go_on.release();
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the settlement waits", async || {
        (bank.one::<i64>(waiting).await > 0).then_some(())
    })
    .await;
    assert!(
        !wire.received().text().contains("[DONE]"),
        "the tail has passed before the charge"
    );
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        0
    );

    lock.rollback().await.unwrap();
    wire.read_until("data: [DONE]\n\n").await;
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        1
    );
    bank.audited().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_at_the_first_frame_pays_as_much_as_one_that_stays() {
    let bank = Bank::open().await;
    let (upstream, left) = paused_stream(&[DELTA], &[USAGE, "[DONE]"]).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post("/v1/chat/completions", &bank.token("").await, STREAM))
        .await;
    wire.read_until(format!("data: {DELTA}\n\n")).await;
    wire.reset();
    left.release();
    assert_eq!(
        figures(&bank.charge().await),
        (282_500, "measured", "abandoned")
    );
    bank.audited().await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_pays_for_it() {
    let bank = Bank::open().await;
    let (asked, left) = (Held::default(), Held::default());
    let (has_request, gone) = (asked.clone(), left.clone());
    let upstream = Upstream::scripted(move |mut wire| {
        let (has_request, gone) = (has_request.clone(), gone.clone());
        async move {
            wire.read_message().await;
            has_request.release();
            gone.released().await;
            wire.send(json(ANSWER)).await;
            wire.has_more().await;
        }
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post("/v1/chat/completions", &bank.token("").await, CHAT))
        .await;
    asked.released().await;
    wire.reset();
    left.release();
    assert_eq!(
        figures(&bank.charge().await),
        (282_500, "measured", "abandoned")
    );
    bank.audited().await;
}

#[tokio::test]
async fn disconnect_void_charges_nothing_and_estimate_an_estimate() {
    for (policy, charges) in [("void", 0), ("estimate", 1)] {
        let bank = Bank::open().await;
        let upstream = Upstream::scripted(|mut wire| async move {
            wire.read_message().await;
            wire.send([sse_head(), sse_event(DELTA)].concat()).await;
            wire.has_more().await;
        })
        .await;
        let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("DISCONNECT", policy)]);
        let mut wire = Wire::connect(turnpike.clients).await;
        wire.send(post("/v1/chat/completions", &bank.token("").await, STREAM))
            .await;
        wire.read_until(format!("data: {DELTA}\n\n")).await;
        wire.reset();
        bank.audited().await;
        assert_eq!(
            bank.one::<i64>("select count(*) from turnpike.charge")
                .await,
            charges,
            "{policy}"
        );
        assert_eq!(bank.one::<i64>("select count(*) from turnpike.charge where mark = 'estimated' and ending = 'abandoned'").await, charges, "{policy}");
    }
}

#[tokio::test]
async fn a_price_s_own_policy_for_a_client_that_leaves_comes_before_the_setting() {
    let bank = Bank::open().await;
    bank.sql
        .batch_execute(
            "select turnpike.set_price('gpt-4o', input => 2.50, output => 10.00, disconnect => 'void')",
        )
        .await
        .unwrap();
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_message().await;
        wire.send([sse_head(), sse_event(DELTA)].concat()).await;
        wire.has_more().await;
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("DISCONNECT", "estimate")]);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post("/v1/chat/completions", &bank.token("").await, STREAM))
        .await;
    wire.read_until(format!("data: {DELTA}\n\n")).await;
    wire.reset();
    bank.audited().await;
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        0
    );
}

#[tokio::test]
async fn a_stream_without_usage_is_estimated_and_marked() {
    let bank = Bank::open().await;
    let delta = r#"{"id":"c","model":"gpt-3.5-turbo-0125","choices":[{"index":0,"delta":{"content":"I am fine, thank you."}}]}"#;
    let upstream = Upstream::answering(sse(&[delta, "[DONE]"])).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (head, body) = turnpike
        .post(
            "/v1/chat/completions",
            &bank.token("").await,
            STREAM_WITHOUT_USAGE,
        )
        .await;
    assert_eq!(head.status(), 200);
    assert_eq!(
        String::from_utf8(body).unwrap(),
        format!("data: {delta}\n\ndata: [DONE]\n\n")
    );
    // The bytes upstream are the client's: nothing was injected.
    assert!(upstream.received_text().ends_with(STREAM_WITHOUT_USAGE));
    let charge = bank.charge().await;
    let (amount, mark, _) = figures(&charge);
    assert_eq!(mark, "estimated");
    assert_eq!(
        bank.one::<Option<String>>("select usage_raw::text from turnpike.charge")
            .await,
        None
    );
    // 8 tokens of text and some for the message's frame; 7 or 8 of answer.
    let (input, output) = (
        charge.get::<_, i64>("in_text"),
        charge.get::<_, i64>("out_text"),
    );
    assert!(
        (8..=20).contains(&input) && (6..=9).contains(&output),
        "{input} {output}"
    );
    assert_eq!(amount, input * 500 + output * 1_500);
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.estimates")
            .await,
        1
    );
    bank.audited().await;
}

#[tokio::test]
async fn inject_asks_for_usage_and_hides_the_extra_frame() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(sse(&[DELTA, USAGE, "[DONE]"])).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("STREAM_USAGE", "inject")]);
    let (_, body) = turnpike
        .post(
            "/v1/chat/completions",
            &bank.token("").await,
            STREAM_WITHOUT_USAGE,
        )
        .await;
    assert_eq!(
        String::from_utf8(body).unwrap(),
        format!("data: {DELTA}\n\ndata: [DONE]\n\n")
    );
    let sent = upstream.received_text();
    let injected =
        STREAM_WITHOUT_USAGE.replace("]}", r#"],"stream_options":{"include_usage":true}}"#);
    assert!(sent.ends_with(&injected), "{sent}");
    assert!(
        sent.contains(&format!("Content-Length: {}\r\n", injected.len())),
        "{sent}"
    );
    assert_eq!(bank.charge().await.get::<_, &str>("mark"), "measured");
    bank.audited().await;
}

#[tokio::test]
async fn require_refuses_a_stream_that_does_not_ask_for_usage() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(sse(&[DELTA, USAGE, "[DONE]"])).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("STREAM_USAGE", "require")]);
    let token = bank.token("").await;
    let (head, body) = turnpike
        .post("/v1/chat/completions", &token, STREAM_WITHOUT_USAGE)
        .await;
    assert_eq!(
        (head.status(), head.header("x-turnpike-refusal")),
        (400, Some("usage_required"))
    );
    assert!(String::from_utf8(body).unwrap().contains("include_usage"));
    assert_eq!(upstream.connections(), 0);
    let (head, _) = turnpike.post("/v1/chat/completions", &token, STREAM).await;
    assert_eq!(head.status(), 200);
}

#[tokio::test]
async fn an_upstream_error_passes_untouched_and_costs_nothing() {
    let bank = Bank::open().await;
    let error = r#"{"error":{"message":"Too long.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
    let upstream = Upstream::answering(upstream::answer(
        "400 Bad Request",
        &[
            ("Content-Type", "application/json"),
            ("x-request-id", "req_1"),
        ],
        error,
    ))
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (head, body) = turnpike
        .post("/v1/chat/completions", &bank.token("").await, CHAT)
        .await;
    assert_eq!(
        (
            head.status(),
            head.header("x-request-id"),
            head.header("x-turnpike-refusal")
        ),
        (400, Some("req_1"), None)
    );
    assert_eq!(String::from_utf8(body).unwrap(), error);
    bank.audited().await;
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        0
    );
}

#[tokio::test]
async fn a_broken_answer_is_estimated_and_looks_broken() {
    let bank = Bank::open().await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_message().await;
        wire.send([sse_head(), sse_event(DELTA)].concat()).await;
        wire.reset();
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post("/v1/chat/completions", &bank.token("").await, STREAM))
        .await;
    let (received, _) = patiently("the end", wire.read_to_end()).await;
    assert!(
        !received.ends_with(upstream::LAST_CHUNK),
        "a truncated stream must look truncated"
    );
    let charge = bank.charge().await;
    assert_eq!(
        (
            charge.get::<_, &str>("mark"),
            charge.get::<_, &str>("ending")
        ),
        ("estimated", "failed")
    );
    bank.audited().await;
}

#[tokio::test]
async fn a_claim_above_the_bound_is_charged_at_the_bound() {
    let bank = Bank::open().await;
    let absurd = ANSWER.replace(
        "\"prompt_tokens\":53,\"completion_tokens\":15,\"total_tokens\":68",
        "\"prompt_tokens\":1000000000,\"completion_tokens\":15,\"total_tokens\":1000000015",
    );
    let upstream = Upstream::answering(json(&absurd)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let body = CHAT.replace("\"messages\"", "\"max_tokens\":100,\"messages\"");
    let (head, _) = turnpike
        .post("/v1/chat/completions", &bank.token("").await, &body)
        .await;
    assert_eq!(head.status(), 200);
    let charge = bank.charge().await;
    assert_eq!(charge.get::<_, &str>("mark"), "bounded");
    assert_eq!(
        charge.get::<_, i64>("amount"),
        body.len() as i64 * 2_500 + 100 * 10_000
    );
    assert_eq!(
        charge.get::<_, i64>("in_text"),
        1_000_000_000,
        "what the provider claimed is kept"
    );
    bank.audited().await;
}

#[tokio::test]
async fn embeddings_and_responses_are_charged() {
    let bank = Bank::open().await;
    let embedding = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1]}],"model":"text-embedding-3-small","usage":{"prompt_tokens":1,"total_tokens":1}}"#;
    let upstream = Upstream::answering(json(embedding)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (head, _) = turnpike
        .post(
            "/v1/embeddings",
            &bank.token("").await,
            r#"{"model":"text-embedding-3-small","input":"a"}"#,
        )
        .await;
    assert_eq!(head.status(), 200);
    assert_eq!(bank.charge().await.get::<_, i64>("amount"), 20);

    let bank = Bank::open().await;
    let completed = r#"{"type":"response.completed","response":{"id":"resp_1","model":"gpt-4o-2024-08-06","status":"completed","usage":{"input_tokens":53,"input_tokens_details":{"cached_tokens":13},"output_tokens":15,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":68}}}"#;
    let stream = [
        sse_head(),
        upstream::chunk(format!("event: response.completed\ndata: {completed}\n\n")),
        upstream::LAST_CHUNK.to_vec(),
    ]
    .concat();
    let upstream = Upstream::answering(stream).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (head, _) = turnpike
        .post(
            "/v1/responses",
            &bank.token("").await,
            r#"{"model":"gpt-4o","stream":true,"input":"Hello"}"#,
        )
        .await;
    assert_eq!(head.status(), 200);
    let charge = bank.charge().await;
    assert_eq!(
        charge.get::<_, i64>("amount"),
        40 * 2_500 + 13 * 1_250 + 15 * 10_000
    );
    assert_eq!(
        (
            charge.get::<_, i64>("out_reasoning"),
            charge.get::<_, Option<&str>>("response_id")
        ),
        (5, Some("resp_1"))
    );
    bank.audited().await;
}

#[tokio::test]
async fn a_compressed_answer_is_metered_and_passes_as_it_is() {
    let bank = Bank::open().await;
    let body = gzip(ANSWER.as_bytes());
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend(&body);
    let upstream = Upstream::answering(answer).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (head, received) = turnpike
        .post("/v1/chat/completions", &bank.token("").await, CHAT)
        .await;
    assert_eq!(
        (head.header("content-encoding"), received),
        (Some("gzip"), body)
    );
    assert_eq!(
        figures(&bank.charge().await),
        (282_500, "measured", "complete")
    );
}

#[tokio::test]
async fn a_stream_that_was_aborted_by_us_ends_in_no_clean_close() {
    // A gateway that cannot make the charge durable must not let the answer look finished. Here Postgres refuses the
    // settlement for good: the price row the charge names has been deleted by force.
    let bank = Bank::open().await;
    let (upstream, go_on) = paused_stream(&[DELTA], &[USAGE, "[DONE]"]).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post("/v1/chat/completions", &bank.token("").await, STREAM))
        .await;
    wire.read_until(format!("data: {DELTA}\n\n")).await;
    bank.sql.batch_execute("set session_replication_role = replica; delete from turnpike.price where pattern = 'gpt-4o'").await.unwrap();
    go_on.release();
    let (received, ending) = patiently("the end", wire.read_to_end()).await;
    assert!(
        !String::from_utf8_lossy(&received).contains("[DONE]"),
        "the tail passed without a charge"
    );
    assert!(!received.ends_with(upstream::LAST_CHUNK) || ending == Ending::Reset);
    eventually("the hold stays, as evidence", async || {
        (bank.one::<i64>("select count(*) from turnpike.hold").await == 1).then_some(())
    })
    .await;
}

/// An operator had priced `gpt-4o` ten times as dear after importing the public list; answers call themselves
/// `gpt-4o-2024-08-06`, the list had that name, and every charge was the list's.
#[tokio::test]
async fn the_price_set_last_holds_for_a_name_and_its_dated_form() {
    let bank = Bank::open().await;
    bank.sql
        .batch_execute(
            "select turnpike.set_price('gpt-4o-2024-08-06', input => 2.50, output => 10);
             select pg_sleep(0.002);
             select turnpike.set_price('gpt-4o', input => 25, output => 100, context_window => 128000, output_max => 16384)",
        )
        .await
        .unwrap();
    let upstream = Upstream::answering(json(ANSWER)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    turnpike.post("/v1/chat/completions", &token, CHAT).await;
    assert_eq!(bank.charge().await.get::<_, i64>("amount"), 2_825_000);
    bank.audited().await;
}

/// A stream that reports usage with every frame was cut after two thousand words; the first frame's usage was charged,
/// and called measured.
#[tokio::test]
async fn usage_of_an_early_frame_is_not_the_whole_of_a_cut_stream() {
    let bank = Bank::open().await;
    let early = r#"{"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":0,"total_tokens":8}}"#;
    let words = format!(
        r#"{{"choices":[{{"index":0,"delta":{{"content":"{}"}}}}]}}"#,
        "word ".repeat(2_000)
    );
    let stream = [sse_head(), sse_event(early), sse_event(&words)].concat();
    let upstream = Upstream::scripted(move |mut wire| {
        let stream = stream.clone();
        async move {
            wire.read_message().await;
            wire.send(stream).await;
            wire.shutdown().await;
        }
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(post("/v1/chat/completions", &bank.token("").await, STREAM))
        .await;
    patiently("the end", wire.read_to_end()).await;
    let charge = bank.charge().await;
    assert_eq!(
        (
            charge.get::<_, &str>("mark"),
            charge.get::<_, i64>("in_text")
        ),
        ("estimated", 8)
    );
    assert!(charge.get::<_, i64>("out_text") >= 2_000);
    bank.audited().await;
}

#[tokio::test]
async fn an_estimate_is_at_the_tier_that_was_asked_for() {
    let bank = Bank::open().await;
    bank.sql.batch_execute("select turnpike.set_price('gpt-3.5-turbo', input => 5, output => 15, tier => 'priority')").await.unwrap();
    let upstream = Upstream::answering(sse(&[
        r#"{"choices":[{"delta":{"content":"Hi there"}}]}"#,
        "[DONE]",
    ]))
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let body =
        STREAM_WITHOUT_USAGE.replace("\"stream\"", "\"service_tier\":\"priority\",\"stream\"");
    turnpike
        .post("/v1/chat/completions", &bank.token("").await, &body)
        .await;
    let charge = bank.charge().await;
    let (input, output) = (
        charge.get::<_, i64>("in_text"),
        charge.get::<_, i64>("out_text"),
    );
    assert_eq!(
        charge.get::<_, i64>("amount"),
        input * 5_000 + output * 15_000
    );
    bank.audited().await;
}

/// A stream with an image that did not ask for usage was charged for its seven words: the image was free for the asking.
#[tokio::test]
async fn a_stream_whose_input_cannot_be_counted_must_ask_for_usage() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(sse(&[DELTA, USAGE, "[DONE]"])).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let image = r#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]}"#;
    let token = bank.token("").await;
    let (head, _) = turnpike.post("/v1/chat/completions", &token, image).await;
    assert_eq!(
        (head.status(), head.header("x-turnpike-refusal")),
        (400, Some("usage_required"))
    );
    let asked = image.replace(
        "\"stream\":true",
        "\"stream\":true,\"stream_options\":{\"include_usage\":true}",
    );
    assert_eq!(
        turnpike
            .post("/v1/chat/completions", &token, &asked)
            .await
            .0
            .status(),
        200
    );
}

#[tokio::test]
async fn usage_that_is_only_a_cost_is_charged_as_that_cost() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json(
        r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"cost":0.01}}"#,
    ))
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    turnpike
        .post("/v1/chat/completions", &bank.token("").await, CHAT)
        .await;
    assert_eq!(
        figures(&bank.charge().await),
        (10_000_000, "provider_cost", "complete")
    );
    bank.audited().await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_opened_is_charged_at_the_bound_and_marked() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(upstream::answer(
        "200 OK",
        &[
            ("Content-Type", "application/json"),
            ("Content-Encoding", "xyz"),
        ],
        "?",
    ))
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    turnpike
        .post("/v1/chat/completions", &bank.token("").await, CHAT)
        .await;
    let charge = bank.charge().await;
    assert_eq!(
        (
            charge.get::<_, &str>("mark"),
            charge.get::<_, i64>("amount")
        ),
        ("estimated", charge.get::<_, i64>("held"))
    );
    bank.audited().await;
}

#[tokio::test]
async fn an_empty_answer_costs_nothing() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(upstream::answer("204 No Content", &[], "")).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let (head, _) = turnpike
        .post("/v1/chat/completions", &bank.token("").await, CHAT)
        .await;
    assert_eq!(head.status(), 204);
    bank.audited().await;
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        0
    );
}
