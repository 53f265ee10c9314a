//! The real openai and anthropic packages, unmodified, against scripted answers of images, audio, messages and Azure.

use testkit::{
    raw::Wire,
    upstream::{LAST_CHUNK, Upstream, answer, chunk, json, sse_head},
};
use tokio::process::Command;

use crate::{
    sdk::{installed, root},
    support::{Bank, Turnpike},
};

const CONTRACT: &str = r#"
    select turnpike.set_price('dall-e-2', images => '{"*": 0.02}');
    select turnpike.set_price('gpt-image-1', input => 5, output => 10, output_image => 40);
    select turnpike.set_price('whisper-1', input_audio_minute => 0.006);
    select turnpike.set_price('gpt-4o-transcribe', input => 2.5, output => 10);
    select turnpike.set_price('tts-1', characters => 15);
    select turnpike.set_price('claude-x', input => 3, output => 15, context_window => 1000, output_max => 1000);
    select turnpike.set_price('my-deployment', input => 2.5, output => 10, context_window => 1000, output_max => 1000);
    select turnpike.set_upstream('openai', 'URL/v1', key => 'k');
    select turnpike.set_upstream('claude', 'URL/v1', key => 'k', dialect => 'anthropic');
    select turnpike.set_upstream('azure', 'URL/openai', key => 'k', dialect => 'azure');
    select turnpike.set_route('*', 'openai'), turnpike.set_route('claude-x', 'claude'), turnpike.set_route('my-deployment', 'azure');
"#;

const IMAGES: &str = r#"{"created":1,"data":[{"url":"https://x/1"},{"url":"https://x/2"}]}"#;
const EDIT: &str = r#"{"created":1,"data":[{"b64_json":"AAAA"}],"usage":{"input_tokens":10,"input_tokens_details":{"image_tokens":0,"text_tokens":10},"output_tokens":10,"output_tokens_details":{"image_tokens":10,"text_tokens":0},"total_tokens":20}}"#;
const CHAT: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Hi"}}],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":20}}"#;
const MESSAGE_EVENTS: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":20}}

event: message_stop
data: {"type":"message_stop"}

"#;
const TRANSCRIPT_EVENTS: &str = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"Hello.\"}\r\n\r\ndata: {\"type\":\"transcript.text.done\",\"text\":\"Hello.\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":5,\"output_tokens\":2,\"total_tokens\":7}}\r\n\r\ndata: [DONE]\r\n\r\n";

fn events(text: &str) -> Vec<u8> {
    [sse_head(), chunk(text), LAST_CHUNK.to_vec()].concat()
}

/// What the provider answers, by path and by what the request asks for.
fn reply(start: &str, body: &str) -> Vec<u8> {
    let is_stream =
        body.contains("\"stream\":true") || body.contains("name=\"stream\"\r\n\r\ntrue");
    match start.split_whitespace().nth(1).unwrap_or_default() {
        "/v1/images/generations" => json(IMAGES),
        "/v1/images/edits" => json(EDIT),
        "/v1/audio/transcriptions" if is_stream => events(TRANSCRIPT_EVENTS),
        "/v1/audio/transcriptions" if body.contains("\r\n\r\ntext\r\n") => {
            answer("200 OK", &[("Content-Type", "text/plain")], "Hello.\n")
        }
        "/v1/audio/transcriptions" => {
            json(r#"{"text":"Hello.","usage":{"type":"duration","seconds":1}}"#)
        }
        "/v1/audio/speech" => answer("200 OK", &[("Content-Type", "audio/mpeg")], "ID3 sound"),
        "/v1/moderations" => json(r#"{"id":"m","model":"omni","results":[]}"#),
        "/v1/messages" if is_stream => events(MESSAGE_EVENTS),
        "/v1/messages" => json(MESSAGE),
        "/v1/messages/count_tokens" => json(r#"{"input_tokens":9}"#),
        "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21" => json(CHAT),
        path => answer("404 Not Found", &[], path),
    }
}

async fn passes(program: &str, arguments: &[&str], charges: i64) {
    installed();
    let bank = Bank::open().await;
    let upstream = Upstream::scripted(|mut wire: Wire| async move {
        while wire.has_more().await {
            let (head, body) = wire.read_message().await;
            wire.send(reply(&head.start, &String::from_utf8_lossy(&body)))
                .await;
        }
    })
    .await;
    let contract = CONTRACT.replace("URL", &upstream.url());
    bank.sql.batch_execute(&contract).await.unwrap();
    let turnpike = Turnpike::start(&bank.db, "http://127.0.0.1:1", &[]);
    let root_url = format!("http://{}", turnpike.clients);
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root().join(".sdk/node"))
        .env("OPENAI_BASE_URL", format!("{root_url}/v1"))
        .env("GATEWAY_URL", root_url)
        .env("OPENAI_API_KEY", bank.token("").await)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    bank.audited().await;
    let counted = "select count(*) from turnpike.charge where amount > 0";
    assert_eq!(bank.one::<i64>(counted).await, charges, "{said}");
}

#[tokio::test]
async fn python_makes_images_sound_and_messages() {
    let python = root().join(".sdk/python/bin/python");
    let script = root().join("tests/sdk/test_media.py");
    passes(python.to_str().unwrap(), &[script.to_str().unwrap()], 9).await;
}

#[tokio::test]
async fn node_makes_images_sound_and_messages() {
    let script = root().join(".sdk/node/media.test.mjs");
    if root().join(".sdk/node").exists() {
        std::fs::copy(root().join("tests/sdk/media.test.mjs"), script).unwrap();
    }
    passes("node", &["--test", "media.test.mjs"], 8).await;
}
