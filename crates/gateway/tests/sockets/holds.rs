//! What a socket's holds cover, and that none of them is given back while it is needed.

use testkit::{
    body::Held,
    raw::patiently,
    socket::{SWITCHING, read_frame, read_text, says, tells},
    upstream::Upstream,
};

use super::{CREATED, DONE, DONE_COSTS, PATH, SPOKEN, bank, ends::parted, open};
use crate::support::{Bank, Turnpike, eventually};

const CHARGES: &str = "select count(*) from turnpike.charge";
const COMMIT: &str = r#"{"type":"input_audio_buffer.commit"}"#;
const COMMITTED: &str = r#"{"type":"input_audio_buffer.committed","item_id":"i"}"#;
const WRITES: &str = r#"{"type":"session.updated","session":{"type":"transcription","audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"},"turn_detection":null}}}}"#;
const WRITTEN_PART: &str =
    r#"{"type":"conversation.item.input_audio_transcription.delta","item_id":"b","delta":"Once"}"#;

/// Audio of so many milliseconds.
fn append(ms: usize) -> Vec<u8> {
    let audio = "A".repeat(ms * 64);
    says(&format!(
        r#"{{"type":"input_audio_buffer.append","audio":"{audio}"}}"#
    ))
}

/// An utterance is written down: so many tokens heard at 6, one written at 10.
fn written(tokens: u64) -> String {
    let total = tokens + 1;
    format!(
        r#"{{"type":"conversation.item.input_audio_transcription.completed","item_id":"i","usage":{{"type":"tokens","total_tokens":{total},"input_tokens":{tokens},"input_token_details":{{"text_tokens":0,"audio_tokens":{tokens}}},"output_tokens":1}}}}"#
    )
}

/// An upstream that hears two utterances, has written the second down and has begun with the first, which it ends once
/// it is released.
async fn writing() -> (Upstream, Held) {
    let held = Held::default();
    let gate = held.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let gate = gate.clone();
        async move {
            wire.read_head().await;
            wire.send(SWITCHING).await;
            wire.send(tells(WRITES)).await;
            for _ in 0..4 {
                read_frame(&mut wire).await;
            }
            for event in [COMMITTED, COMMITTED, &written(1), WRITTEN_PART] {
                wire.send(tells(event)).await;
            }
            gate.released().await;
            let _ = wire.try_send(tells(&written(30))).await;
            wire.has_more().await;
        }
    })
    .await;
    (upstream, held)
}

/// Amounts and marks of all charges, the smallest first.
async fn charges(bank: &Bank) -> Vec<(i64, String)> {
    let all = "select amount, mark from turnpike.charge order by amount";
    let rows = bank.sql.query(all, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn an_utterance_half_written_down_is_charged_though_a_later_one_ended_and_its_client_left() {
    let bank = bank().await;
    let token = bank.token("").await;
    let (upstream, _held) = writing().await;
    let settings = [("DRAIN_SECONDS", "1")];
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &settings);
    let mut wire = open(&turnpike, "/v1/realtime?intent=transcription", &token).await;
    read_text(&mut wire).await;
    for bytes in [append(3_000), says(COMMIT), append(100), says(COMMIT)] {
        wire.send(bytes).await;
    }
    for _ in 0..4 {
        read_text(&mut wire).await;
    }
    drop(wire);
    eventually("the rest is charged", async || {
        (bank.one::<i64>(CHARGES).await == 2).then_some(())
    })
    .await;
    bank.audited().await;
    assert_eq!(
        charges(&bank).await,
        [
            (16_000, "measured".to_owned()),
            // 30 tokens are three seconds.
            (180_000, "estimated".to_owned())
        ]
    );
}

/// Nobody was to write it down when it was said.
#[tokio::test]
async fn what_was_said_before_it_was_to_be_written_down_is_held_for() {
    let bank = bank().await;
    let token = bank.token("").await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        wire.send(SWITCHING).await;
        for _ in 0..3 {
            read_frame(&mut wire).await;
        }
        for event in [WRITES, COMMITTED, WRITTEN_PART] {
            wire.send(tells(event)).await;
        }
        wire.has_more().await;
    })
    .await;
    let settings = [("DRAIN_SECONDS", "1")];
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &settings);
    let mut wire = open(&turnpike, "/v1/realtime?model=gpt-realtime", &token).await;
    let update = r#"{"type":"session.update","session":{"type":"realtime","audio":{"input":{"turn_detection":null,"transcription":{"model":"gpt-4o-transcribe"}}}}}"#;
    for bytes in [append(3_000), says(update), says(COMMIT)] {
        wire.send(bytes).await;
    }
    for _ in 0..3 {
        read_text(&mut wire).await;
    }
    drop(wire);
    eventually("what was heard is charged", async || {
        (bank.one::<i64>(CHARGES).await == 1).then_some(())
    })
    .await;
    bank.audited().await;
    // 30 tokens are three seconds.
    assert_eq!(charges(&bank).await, [(180_000, "estimated".to_owned())]);
}

#[tokio::test]
async fn a_socket_that_must_end_waits_for_what_is_being_written_down() {
    let bank = bank().await;
    let token = bank.token("").await;
    let (upstream, held) = writing().await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = open(&turnpike, "/v1/realtime?intent=transcription", &token).await;
    read_text(&mut wire).await;
    for bytes in [append(3_000), says(COMMIT), append(100), says(COMMIT)] {
        wire.send(bytes).await;
    }
    for _ in 0..4 {
        read_text(&mut wire).await;
    }
    wire.send(says("no json")).await;
    held.release();
    assert_eq!(read_text(&mut wire).await, written(30));
    assert_eq!(parted(&mut wire).await, ("invalid_event".to_owned(), 1007));
    bank.audited().await;
    assert_eq!(
        charges(&bank).await,
        [
            (16_000, "measured".to_owned()),
            (190_000, "measured".to_owned())
        ]
    );
}

#[tokio::test]
async fn an_event_id_stands_for_one_event_where_one_asks_for_a_response() {
    let bank = bank().await;
    let token = bank.token("").await;
    let upstream = Upstream::scripted(|mut wire| async move {
        wire.read_head().await;
        wire.send(SWITCHING).await;
        wire.has_more().await;
        wire.read_to_end().await;
    })
    .await;
    let settings = [("DRAIN_SECONDS", "1")];
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &settings);
    let delete = r#"{"type":"conversation.item.delete","event_id":"X","item_id":"none"}"#;
    let create = r#"{"type":"response.create","event_id":"X"}"#;
    for (first, second) in [(delete, create), (create, delete), (create, create)] {
        let mut wire = open(&turnpike, PATH, &token).await;
        wire.send(says(first)).await;
        wire.send(says(second)).await;
        let code = patiently("the end", parted(&mut wire)).await;
        assert_eq!(code, ("event_id_reused".to_owned(), 1008));
        let received = upstream.received();
        let whole = says(second);
        assert!(!received.last().unwrap().bytes().ends_with(&whole));
    }
    // Events that ask for nothing may be called what they like.
    let mut wire = open(&turnpike, PATH, &token).await;
    wire.send([says(delete), says(delete)].concat()).await;
    let whole = says(delete).repeat(2);
    eventually("both go up", async || {
        let received = upstream.received();
        received
            .last()
            .unwrap()
            .bytes()
            .ends_with(&whole)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_error_about_something_else_or_just_now_gives_no_hold_back() {
    let bank = bank().await;
    let token = bank.token("").await;
    for (turn, about) in [(1, r#""another""#), (2, "null")] {
        let error = format!(r#"{{"type":"error","error":{{"message":"No.","event_id":{about}}}}}"#);
        let told = error.clone();
        let upstream = Upstream::scripted(move |mut wire| {
            let told = told.clone();
            async move {
                wire.read_head().await;
                wire.send(SWITCHING).await;
                read_frame(&mut wire).await;
                read_frame(&mut wire).await;
                wire.send(tells(&told)).await;
            }
        })
        .await;
        let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
        let mut wire = open(&turnpike, PATH, &token).await;
        let wrong = says(r#"{"type":"conversation.item.delete","item_id":"none"}"#);
        let create = says(r#"{"type":"response.create","event_id":"e1"}"#);
        wire.send([wrong, create].concat()).await;
        assert_eq!(read_text(&mut wire).await, error);
        wire.read_to_end().await;
        bank.audited().await;
        assert_eq!(bank.one::<i64>(CHARGES).await, turn);
    }
}

#[tokio::test]
async fn an_error_that_is_about_its_turn_for_sure_gives_its_hold_back() {
    let bank = bank().await;
    let token = bank.token("").await;
    // By its name, or because nothing else was said.
    for about in [r#""e1""#, "null"] {
        let error = format!(r#"{{"type":"error","error":{{"message":"No.","event_id":{about}}}}}"#);
        let upstream = Upstream::scripted(move |mut wire| {
            let error = error.clone();
            async move {
                wire.read_head().await;
                wire.send(SWITCHING).await;
                read_frame(&mut wire).await;
                wire.send(tells(&error)).await;
            }
        })
        .await;
        let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
        let mut wire = open(&turnpike, PATH, &token).await;
        wire.send(says(r#"{"type":"response.create","event_id":"e1"}"#))
            .await;
        read_text(&mut wire).await;
        wire.read_to_end().await;
        bank.audited().await;
        assert_eq!(bank.one::<i64>(CHARGES).await, 0);
    }
}

#[tokio::test]
async fn a_response_begins_the_turn_that_no_error_was_about() {
    let bank = bank().await;
    let token = bank.token("").await;
    let upstream = Upstream::scripted(move |mut wire| async move {
        wire.read_head().await;
        wire.send(SWITCHING).await;
        read_frame(&mut wire).await;
        read_frame(&mut wire).await;
        wire.send(tells(
            r#"{"type":"error","error":{"message":"No.","event_id":null}}"#,
        ))
        .await;
        read_frame(&mut wire).await;
        for event in [CREATED, SPOKEN, DONE] {
            wire.send(tells(event)).await;
        }
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = open(&turnpike, PATH, &token).await;
    let wrong = says(r#"{"type":"conversation.item.delete","item_id":"none"}"#);
    let short = says(r#"{"type":"response.create","response":{"max_output_tokens":100}}"#);
    wire.send([wrong, short].concat()).await;
    read_text(&mut wire).await;
    wire.send(says(r#"{"type":"response.create"}"#)).await;
    for event in [CREATED, SPOKEN, DONE] {
        assert_eq!(read_text(&mut wire).await, event);
    }
    wire.read_to_end().await;
    bank.audited().await;
    assert_eq!(charges(&bank).await, [(DONE_COSTS, "measured".to_owned())]);
}

#[tokio::test]
async fn a_socket_goes_on_with_its_own_answers_that_the_provider_does_not_store() {
    let bank = bank().await;
    let token = bank.token("").await;
    let upstream = Upstream::scripted(move |mut wire| async move {
        wire.read_head().await;
        wire.send(SWITCHING).await;
        for id in ["resp_a", "resp_b"] {
            if !wire.has_more().await {
                return;
            }
            read_frame(&mut wire).await;
            let told = tells(&format!(
                r#"{{"type":"response.completed","response":{{"id":"{id}","model":"gpt-4o","status":"completed","usage":{{"input_tokens":10,"output_tokens":5,"total_tokens":15}}}}}}"#
            ));
            if wire.try_send(told).await.is_err() {
                return;
            }
        }
        wire.has_more().await;
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let ask = |more: &str| {
        says(&format!(
            r#"{{"type":"response.create","model":"gpt-4o","store":false,"input":"Hi","max_output_tokens":20{more}}}"#
        ))
    };
    let mut wire = open(&turnpike, "/v1/responses", &token).await;
    wire.send(ask("")).await;
    assert!(read_text(&mut wire).await.contains("resp_a"));
    wire.send(ask(r#","previous_response_id":"resp_a""#)).await;
    let next = read_text(&mut wire).await;
    assert!(next.contains("resp_b"), "{next}");
    // Another socket knows nothing of it.
    let mut other = open(&turnpike, "/v1/responses", &token).await;
    other.send(ask(r#","previous_response_id":"resp_a""#)).await;
    assert_eq!(parted(&mut other).await.1, 1008);
    drop((wire, other));
    bank.audited().await;
    assert_eq!(bank.one::<i64>(CHARGES).await, 2);
}

#[tokio::test]
async fn a_response_that_takes_the_hold_on_stand_by_is_told_of_once_the_next_stands_by() {
    let bank = bank().await;
    // One turn may cost up to 1.286144 USD: there is no second hold.
    let token = bank.token(", budget_usd => 1.30").await;
    let upstream = Upstream::scripted(move |mut wire| async move {
        wire.read_head().await;
        wire.send(SWITCHING).await;
        read_frame(&mut wire).await;
        for event in [CREATED, SPOKEN, DONE] {
            let _ = wire.try_send(tells(event)).await;
        }
        wire.has_more().await;
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = open(&turnpike, PATH, &token).await;
    wire.send(append(100)).await;
    for event in [CREATED, SPOKEN, DONE] {
        assert_eq!(read_text(&mut wire).await, event);
    }
    // Silence may begin another response by itself: the socket does not wait for it.
    let code = patiently("the end", parted(&mut wire)).await;
    assert_eq!(code, ("insufficient_quota".to_owned(), 1008));
    drop(wire);
    bank.audited().await;
    assert_eq!(charges(&bank).await, [(DONE_COSTS, "measured".to_owned())]);
}

#[tokio::test]
async fn an_error_about_an_id_that_may_have_been_forgotten_gives_no_hold_back_at_once() {
    let bank = bank().await;
    let token = bank.token("").await;
    let delete = |id: &str| {
        says(&format!(
            r#"{{"type":"conversation.item.delete","event_id":"{id}","item_id":"none"}}"#
        ))
    };
    let mut said = delete("X");
    for n in 0..256 {
        said.extend(delete(&n.to_string()));
    }
    said.extend(says(r#"{"type":"response.create","event_id":"X"}"#));
    let len = said.len();
    let upstream = Upstream::scripted(move |mut wire| async move {
        wire.read_head().await;
        wire.send(SWITCHING).await;
        wire.read_exact(len).await;
        wire.send(tells(
            r#"{"type":"error","error":{"message":"No.","event_id":"X"}}"#,
        ))
        .await;
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let mut wire = open(&turnpike, PATH, &token).await;
    wire.send(said).await;
    read_text(&mut wire).await;
    wire.read_to_end().await;
    bank.audited().await;
    assert_eq!(bank.one::<i64>(CHARGES).await, 1);
}
