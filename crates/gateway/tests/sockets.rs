//! WebSockets through a running gateway: money is held turn by turn, bytes pass as they are.

mod ends;
mod holds;

use testkit::{
    raw::{Wire, patiently},
    socket::{CLOSE, PING, SWITCHING, TEXT, frame, handshake, read_frame, read_text, says, tells},
    upstream::Upstream,
};

use crate::support::{Bank, Turnpike, eventually};

const PRICES: &str = "
    select turnpike.set_price('gpt-realtime', input => 4, cached_input => 0.40, output => 16, input_audio => 32, cached_input_audio => 0.40, output_audio => 64, context_window => 32000, output_max => 4096);
    select turnpike.set_price('gpt-4o-transcribe', input => 2.50, output => 10, input_audio => 6);";

const PATH: &str = "/v1/realtime?model=gpt-realtime";
const CREATE: &str = r#"{"type":"response.create"}"#;
pub(crate) const CREATED: &str = r#"{"type":"response.created","response":{"id":"resp_1"}}"#;
pub(crate) const SPOKEN: &str =
    r#"{"type":"response.output_audio.delta","response_id":"resp_1","delta":"AAAA"}"#;
/// 32 x 4 + 26 x 32 + 64 x 0.40 + 28 x 16 + 69 x 64
pub(crate) const DONE: &str = r#"{"type":"response.done","response":{"id":"resp_1","status":"completed","usage":{"total_tokens":219,"input_tokens":122,"output_tokens":97,"input_token_details":{"text_tokens":96,"audio_tokens":26,"image_tokens":0,"cached_tokens":64,"cached_tokens_details":{"text_tokens":64,"audio_tokens":0,"image_tokens":0}},"output_token_details":{"text_tokens":28,"audio_tokens":69}}}}"#;
pub(crate) const DONE_COSTS: i64 = 5_849_600;

/// A bank with the prices of realtime models.
pub(crate) async fn bank() -> Bank {
    let bank = Bank::open().await;
    bank.sql.batch_execute(PRICES).await.unwrap();
    bank
}

/// A client's end of an open socket.
async fn open(turnpike: &Turnpike, path: &str, token: &str) -> Wire {
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(handshake(path, token)).await;
    let head = patiently("a handshake", wire.read_head()).await;
    assert_eq!(head.status(), 101, "{head:?}");
    wire
}

/// An upstream that answers each `response.create` with one whole turn.
async fn speaking() -> Upstream {
    Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        wire.send(SWITCHING).await;
        let mut turn = 0;
        while wire.has_more().await {
            let (first, said) = read_frame(&mut wire).await;
            if first == CLOSE {
                let _ = wire.try_send(frame(CLOSE, &said, None)).await;
                return;
            }
            if String::from_utf8_lossy(&said).contains("response.create") {
                turn += 1;
                let id = format!("resp_{turn}");
                for event in [CREATED, SPOKEN, DONE] {
                    let event = event.replace("resp_1", &id);
                    if wire.try_send(tells(&event)).await.is_err() {
                        return;
                    }
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_turn_costs_what_its_usage_says_before_its_last_byte_is_through() {
    let bank = bank().await;
    let token = bank.token("").await;
    let upstream = speaking().await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = open(&turnpike, PATH, &token).await;
    for turn in 1..=3 {
        wire.send(says(CREATE)).await;
        for event in [CREATED, SPOKEN, DONE] {
            let event = event.replace("resp_1", &format!("resp_{turn}"));
            assert_eq!(read_text(&mut wire).await, event);
        }
        let charged = "select count(*) from turnpike.charge where endpoint = 'realtime' and mark = 'measured'";
        assert_eq!(
            bank.one::<i64>(charged).await,
            turn,
            "durable before its end is told"
        );
    }
    assert_eq!(
        bank.one::<i64>("select sum(amount)::bigint from turnpike.charge")
            .await,
        3 * DONE_COSTS
    );
    wire.send(frame(CLOSE, &1000_u16.to_be_bytes(), Some([1, 2, 3, 4])))
        .await;
    assert_eq!(read_frame(&mut wire).await.0, CLOSE);
    bank.audited().await;
}

#[tokio::test]
async fn an_empty_purse_closes_the_socket_and_the_turn_never_goes_up() {
    let bank = bank().await;
    // A turn may cost up to 32,000 x 32 + 4,096 x 64 = 1.286144 USD.
    let token = bank.token(", budget_usd => 1.29").await;
    let upstream = speaking().await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = open(&turnpike, PATH, &token).await;
    wire.send(says(CREATE)).await;
    for event in [CREATED, SPOKEN, DONE] {
        assert_eq!(read_text(&mut wire).await, event);
    }
    let second = r#"{"type":"response.create","event_id":"the second"}"#;
    wire.send(says(second)).await;
    let said: serde_json::Value = serde_json::from_str(&read_text(&mut wire).await).unwrap();
    assert_eq!(said["type"], "error");
    assert_eq!(said["error"]["code"], "insufficient_quota");
    let (first, close) = read_frame(&mut wire).await;
    assert_eq!((first, &close[..2]), (CLOSE, &1008_u16.to_be_bytes()[..]));
    assert!(String::from_utf8_lossy(&close[2..]).starts_with("insufficient_quota"));
    let whole = says(second);
    let received = upstream.received()[0].bytes();
    assert!(!received.windows(whole.len()).any(|window| window == whole));
    bank.audited().await;
    assert_eq!(bank.charge().await.get::<_, i64>("amount"), DONE_COSTS);
}

#[tokio::test]
async fn frames_pass_as_they_are_both_ways() {
    let bank = bank().await;
    let token = bank.token("").await;
    let said = [
        frame(0x01, br#"{"type":"conversation"#, Some([9, 8, 7, 6])),
        frame(PING, b"are you there", Some([0, 0, 0, 0])),
        frame(
            0x80,
            br#".item.create","item":{ "a" : "\u00e9" } }"#,
            Some([1, 1, 1, 1]),
        ),
        frame(
            TEXT,
            format!(
                r#"{{"type":"conversation.item.create","x":"{}"}}"#,
                "y".repeat(70_000)
            )
            .as_bytes(),
            Some([3, 1, 4, 1]),
        ),
    ]
    .concat();
    let told = [
        frame(0x8a, b"are you there", None),
        frame(0x01, br#"{"type":"conversation.item"#, None),
        frame(PING, b"", None),
        frame(0x80, br#".done"}"#, None),
        frame(0x82, &vec![7; 70_000], None),
    ]
    .concat();
    let (len, answer) = (said.len(), told.clone());
    let upstream = Upstream::scripted(move |mut wire| {
        let answer = answer.clone();
        async move {
            wire.read_head().await;
            wire.send(SWITCHING).await;
            wire.read_exact(len).await;
            wire.send(answer).await;
            wire.has_more().await;
        }
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = open(&turnpike, PATH, &token).await;
    wire.send(&said).await;
    assert_eq!(wire.read_exact(told.len()).await, told);
    assert!(upstream.received()[0].bytes().ends_with(&said));
}

#[tokio::test]
async fn the_handshake_shows_our_key_and_offers_no_extension() {
    let bank = bank().await;
    let token = bank.token("").await;
    let upstream = speaking().await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = Wire::connect(turnpike.clients).await;
    wire.send(format!(
        "GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: realtime, openai-insecure-api-key.{token}\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.read_head().await.status(), 101);
    let received = upstream.received_text().to_lowercase();
    assert!(
        received.contains("sec-websocket-protocol: realtime\r\n"),
        "{received}"
    );
    assert!(
        received.contains("authorization: bearer sk-upstream-canary"),
        "{received}"
    );
    assert!(
        !received.contains("permessage") && !received.contains(&token.to_lowercase()),
        "{received}"
    );
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_closes_the_socket() {
    let bank = bank().await;
    let token = bank.token("").await;
    let upstream = speaking().await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    for (bytes, code) in [
        (
            says(r#"{"type":"ping","type":"response.create"}"#),
            1008_u16,
        ),
        (says("no json"), 1007),
        (tells(CREATE), 1002),
        (
            says(r#"{"type":"session.update","session":{"model":"gpt-4o"}}"#),
            1008,
        ),
    ] {
        let mut wire = open(&turnpike, PATH, &token).await;
        wire.send(bytes).await;
        assert!(read_text(&mut wire).await.contains("\"error\""));
        let (first, close) = read_frame(&mut wire).await;
        assert_eq!((first, &close[..2]), (CLOSE, &code.to_be_bytes()[..]));
    }
    bank.audited().await;
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        0
    );
}

#[tokio::test]
async fn a_turn_whose_upstream_dies_is_estimated_and_a_client_that_leaves_pays_in_full() {
    let bank = bank().await;
    let token = bank.token("").await;
    let dying = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        wire.send(SWITCHING).await;
        read_frame(&mut wire).await;
        wire.send(tells(CREATED)).await;
        wire.send(tells(SPOKEN)).await;
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &dying.url(), &[]);
    let mut wire = open(&turnpike, PATH, &token).await;
    wire.send(says(CREATE)).await;
    assert_eq!(read_text(&mut wire).await, CREATED);
    assert_eq!(read_text(&mut wire).await, SPOKEN);
    wire.read_to_end().await;
    bank.audited().await;
    let charge = bank.charge().await;
    assert_eq!(charge.get::<_, &str>("mark"), "estimated");
    bank.sql.batch_execute("select turnpike.set_price('gpt-realtime', input => 4, output => 16, input_audio => 32, output_audio => 64, context_window => 32000, output_max => 4096)").await.unwrap();
    drop(turnpike);

    let (release, gate) = tokio::sync::oneshot::channel::<()>();
    let gate = std::sync::Arc::new(tokio::sync::Mutex::new(Some(gate)));
    let patient = Upstream::scripted(move |mut wire| {
        let gate = gate.clone();
        async move {
            wire.read_head().await;
            wire.send(SWITCHING).await;
            read_frame(&mut wire).await;
            wire.send(tells(CREATED)).await;
            let gate = gate.lock().await.take();
            if let Some(gate) = gate {
                let _ = gate.await;
            }
            let _ = wire.try_send(tells(DONE)).await;
            wire.has_more().await;
        }
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &patient.url(), &[]);
    let mut wire = open(&turnpike, PATH, &token).await;
    wire.send(says(CREATE)).await;
    assert_eq!(read_text(&mut wire).await, CREATED);
    drop(wire);
    release.send(()).unwrap();
    eventually("the turn is charged in full", async || {
        let measured = "select count(*) from turnpike.charge where mark = 'measured'";
        (bank.one::<i64>(measured).await == 1).then_some(())
    })
    .await;
    bank.audited().await;
}

#[tokio::test]
async fn audio_that_leads_to_a_response_is_held_for_and_written_down_at_its_own_price() {
    let bank = bank().await;
    let token = bank.token("").await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        wire.send(SWITCHING).await;
        wire.send(tells(r#"{"type":"session.updated","session":{"model":"gpt-realtime","audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"},"turn_detection":{"type":"server_vad"}}}}}"#)).await;
        read_frame(&mut wire).await;
        // 26 x 6 + 9 x 10
        wire.send(tells(r#"{"type":"conversation.item.input_audio_transcription.completed","item_id":"i","usage":{"type":"tokens","total_tokens":35,"input_tokens":26,"input_token_details":{"text_tokens":0,"audio_tokens":26},"output_tokens":9}}"#)).await;
        wire.send(tells(CREATED)).await;
        wire.send(tells(DONE)).await;
        wire.has_more().await;
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = open(&turnpike, PATH, &token).await;
    read_text(&mut wire).await;
    wire.send(says(
        r#"{"type":"input_audio_buffer.append","audio":"AAAAAAAA"}"#,
    ))
    .await;
    for _ in 0..3 {
        read_text(&mut wire).await;
    }
    let amounts = bank
        .sql
        .query(
            "select amount, mark from turnpike.charge order by amount",
            &[],
        )
        .await
        .unwrap();
    let amounts: Vec<(i64, &str)> = amounts.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(amounts, [(246_000, "measured"), (DONE_COSTS, "measured")]);
    drop(wire);
    bank.audited().await;
}

#[tokio::test]
async fn responses_on_a_socket_are_charged_each_by_its_id() {
    let bank = bank().await;
    let token = bank.token("").await;
    let done = |id: &str, lane: &str| {
        // 10 x 2.50 + 5 x 10
        tells(&format!(
            r#"{{"type":"response.completed","stream_id":"{lane}","response":{{"id":"{id}","model":"gpt-4o","status":"completed","usage":{{"input_tokens":10,"output_tokens":5,"total_tokens":15}}}}}}"#
        ))
    };
    let begun = |id: &str, lane: &str| {
        tells(&format!(
            r#"{{"type":"response.created","stream_id":"{lane}","response":{{"id":"{id}"}}}}"#
        ))
    };
    let answer = [
        begun("r2", "b"),
        begun("r1", "a"),
        done("r1", "a"),
        done("r1", "a"),
        done("r2", "b"),
    ]
    .concat();
    let len = answer.len();
    let upstream = Upstream::scripted(move |mut wire| {
        let answer = answer.clone();
        async move {
            wire.read_head().await;
            wire.send(SWITCHING).await;
            read_frame(&mut wire).await;
            read_frame(&mut wire).await;
            wire.send(answer).await;
            wire.has_more().await;
        }
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = open(&turnpike, "/v1/responses", &token).await;
    for lane in ["a", "b"] {
        wire.send(says(&format!(r#"{{"type":"response.create","stream_id":"{lane}","model":"gpt-4o","input":"Hi","max_output_tokens":20}}"#))).await;
    }
    wire.read_exact(len).await;
    let rows = bank
        .sql
        .query(
            "select amount, response_id from turnpike.charge order by response_id",
            &[],
        )
        .await
        .unwrap();
    let rows: Vec<(i64, &str)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [(75_000, "r1"), (75_000, "r2")]);
    drop(wire);
    bank.audited().await;
}

#[tokio::test]
async fn a_revoked_token_ends_its_socket() {
    let bank = bank().await;
    let token = bank.token("").await;
    let upstream = speaking().await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = open(&turnpike, PATH, &token).await;
    bank.sql
        .batch_execute("update turnpike.access_token set revoked_at = now()")
        .await
        .unwrap();
    assert!(read_text(&mut wire).await.contains("invalid_api_key"));
    assert_eq!(read_frame(&mut wire).await.0, CLOSE);
}

#[tokio::test]
async fn a_gateway_killed_in_a_turn_leaves_what_settles_it() {
    let bank = bank().await;
    let token = bank.token("").await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        wire.send(SWITCHING).await;
        read_frame(&mut wire).await;
        wire.send(tells(CREATED)).await;
        wire.send(tells(SPOKEN)).await;
        wire.has_more().await;
    })
    .await;
    let dir = tempfile::TempDir::new().unwrap();
    let settings = [("DATA_DIR", dir.path().to_str().unwrap())];
    let mut turnpike = Turnpike::start(&bank.db, &upstream.url(), &settings);
    let mut wire = open(&turnpike, PATH, &token).await;
    wire.send(says(CREATE)).await;
    assert_eq!(read_text(&mut wire).await, CREATED);
    assert_eq!(read_text(&mut wire).await, SPOKEN);
    turnpike.signal("KILL");
    turnpike.ended().await;
    let _next = Turnpike::start(&bank.db, &upstream.url(), &settings);
    let charge = bank.charge().await;
    assert_eq!(charge.get::<_, &str>("mark"), "interrupted");
    bank.audited().await;
}
