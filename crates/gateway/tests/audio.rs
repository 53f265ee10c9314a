//! Recordings up and speech down: charged by time, characters and tokens, and never held in memory whole.

use testkit::upstream::{self, Upstream, json};

use crate::support::{Bank, Turnpike};

/// Half a second of silence: 24,000 samples of two bytes a second.
fn wav() -> Vec<u8> {
    let mut wav = Vec::from(*b"RIFF");
    wav.extend(24_036_u32.to_le_bytes());
    wav.extend(*b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(24_000_u32.to_le_bytes());
    wav.extend(48_000_u32.to_le_bytes());
    wav.extend(*b"\x02\0\x10\0data");
    wav.extend(24_000_u32.to_le_bytes());
    wav.resize(44 + 24_000, 0);
    wav
}

fn form(path: &str, token: &str, fields: &[(&str, &str)], file: &[u8]) -> Vec<u8> {
    let field = |(name, value): &(&str, &str)| {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let head: String = fields.iter().map(field).collect();
    let head = format!(
        "{head}--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n"
    );
    let length = head.len() + file.len() + "\r\n--XX--\r\n".len();
    let start = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: multipart/form-data; boundary=XX\r\nContent-Length: {length}\r\n\r\n{head}"
    );
    [start.as_bytes(), file, b"\r\n--XX--\r\n"].concat()
}

async fn bank() -> Bank {
    let bank = Bank::open().await;
    bank.sql
        .batch_execute(
            "select turnpike.set_price('whisper-1', input_audio_minute => 0.006);
             select turnpike.set_price('gpt-4o-mini-tts', input => 0.60, output => 2.40, output_audio => 12, output_audio_minute => 0.015);
             select turnpike.set_price('gpt-image-1', input => 5, input_image => 10, output => 10, output_image => 40);",
        )
        .await
        .unwrap();
    bank
}

#[tokio::test]
async fn a_plain_transcript_is_charged_by_the_length_of_its_recording() {
    let bank = bank().await;
    let plain = [("Content-Type", "text/plain; charset=utf-8")];
    let upstream = Upstream::answering(upstream::answer("200 OK", &plain, "Hello.\n")).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let fields = [("model", "whisper-1"), ("response_format", "text")];
    let request = form("/v1/audio/transcriptions", &token, &fields, &wav());
    let (head, body) = turnpike.call(request).await;
    assert_eq!((head.status(), body), (200, b"Hello.\n".to_vec()));
    // Half a second is billed as one, at 0.006 USD a minute.
    let charge = bank.charge().await;
    assert_eq!(charge.get::<_, i64>("amount"), 100_000);
    assert_eq!(charge.get::<_, &str>("mark"), "estimated");
    bank.audited().await;
}

#[tokio::test]
async fn a_recording_that_nobody_can_time_is_charged_by_its_bytes() {
    let bank = bank().await;
    let plain = [("Content-Type", "text/plain")];
    let upstream = Upstream::answering(upstream::answer("200 OK", &plain, "Hello.\n")).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let fields = [("model", "whisper-1"), ("response_format", "srt")];
    let request = form("/v1/audio/transcriptions", &token, &fields, &[7; 7_500]);
    let (head, _) = turnpike.call(request).await;
    assert_eq!(head.status(), 200);
    // At 6 kbit/s, the least that speech takes, 7,500 bytes play for ten seconds.
    let charge = bank.charge().await;
    assert_eq!(charge.get::<_, i64>("amount"), 1_000_000);
    assert_eq!(charge.get::<_, i64>("held"), 1_000_000);
    bank.audited().await;
}

#[tokio::test]
async fn speech_without_figures_is_charged_by_how_long_it_plays() {
    let bank = bank().await;
    let sound = "\0".repeat(48_000);
    let pcm = [("Content-Type", "audio/pcm")];
    let upstream = Upstream::answering(upstream::answer("200 OK", &pcm, &sound)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let body = r#"{"model":"gpt-4o-mini-tts","input":"Hello there","voice":"alloy","response_format":"pcm"}"#;
    let (head, answer) = turnpike.post("/v1/audio/speech", &token, body).await;
    assert_eq!((head.status(), answer.len()), (200, 48_000));
    let charge = bank.charge().await;
    // "Hello there" and a line end are 3 tokens at 0.60; a second is 21 tokens of audio at 12 USD a million.
    assert_eq!(charge.get::<_, i64>("in_text"), 3);
    assert_eq!(charge.get::<_, i64>("out_audio"), 21);
    assert_eq!(charge.get::<_, i64>("amount"), 3 * 600 + 21 * 12_000);
    assert_eq!(charge.get::<_, &str>("mark"), "estimated");
    bank.audited().await;
}

#[tokio::test]
async fn large_uploads_go_up_and_are_not_held() {
    let bank = bank().await;
    let answer = r#"{"data":[{"b64_json":"AAAA"}],"usage":{"input_tokens":10,"input_tokens_details":{"image_tokens":0,"text_tokens":10},"output_tokens":10,"output_tokens_details":{"image_tokens":10,"text_tokens":0},"total_tokens":20}}"#;
    let upstream = Upstream::answering(json(answer)).await;
    let turnpike = Turnpike::start(
        &bank.db,
        &upstream.url(),
        &[("BODY_BYTES_MAX", "128000000")],
    );
    let token = bank.token("").await;
    let upload = async |bytes| {
        let file = vec![7; bytes];
        let fields = [("model", "gpt-image-1")];
        let request = form("/v1/images/edits", &token, &fields, &file);
        let (head, body) = turnpike.call(request).await;
        let said = String::from_utf8_lossy(&body);
        assert_eq!((head.status(), &*said), (200, answer));
        turnpike.memory_peak_bytes()
    };
    // What any upload takes is there after the first ones; a body that is held would come on top.
    upload(50_000_000).await;
    let before = upload(50_000_000).await;
    let grown = upload(100_000_000).await.saturating_sub(before);
    assert!(grown < 50_000_000, "it grew by {grown} bytes");
    // Each 10 x 5 + 10 x 40
    let charged = bank.one::<i64>("select sum(amount)::bigint from turnpike.charge");
    assert_eq!(charged.await, 3 * 450_000);
    bank.audited().await;
}

#[tokio::test]
async fn a_stream_of_several_images_is_refused() {
    let bank = bank().await;
    let upstream = Upstream::answering(json("{}")).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let body = r#"{"model":"gpt-image-1","prompt":"a cat","n":2,"stream":true}"#;
    let (head, _) = turnpike.post("/v1/images/generations", &token, body).await;
    assert_eq!(head.status(), 400);
    assert_eq!(
        head.header("x-turnpike-refusal"),
        Some("unsupported_parameter")
    );
    bank.audited().await;
}
