//! Every row of the endpoint table goes through a running gateway, and costs what a calculation by hand says.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use testkit::upstream::{Upstream, answer, json};

use crate::support::{Bank, Turnpike};

#[path = "../src/endpoint/kept.rs"]
mod kept;
#[path = "../src/endpoint/table.rs"]
mod table;
#[path = "../src/endpoint/work.rs"]
pub(crate) mod work;

pub(crate) use kept::{Act, Kind};
pub(crate) use table::Does;
use table::{Row, TABLE};

/// USD per 1,000,000 tokens or characters, per minute, for each image and query.
const PRICES: &str = r#"
    select turnpike.set_price('rerank-x', query => 0.002);
    select turnpike.set_price('score-x', input => 0.02, context_window => 8192);
    select turnpike.set_price('ocr-x', page => 0.004);
    select turnpike.set_price('claude-sonnet-5', input => 2, cached_input => 0.20, cache_write => 2.50, output => 10, context_window => 200000, output_max => 8192);
    select turnpike.set_price('dall-e-2', images => '{"1024x1024": 0.02, "256x256": 0.016}');
    select turnpike.set_price('gpt-image-1.5', input => 5, input_image => 8, output => 10, output_image => 32);
    select turnpike.set_price('tts-1', characters => 15);
    select turnpike.set_price('whisper-1', input_audio_minute => 0.006);
    select turnpike.set_price('llama3', input => 1, output => 2, context_window => 8192, output_max => 2048);
"#;

/// A request to one endpoint, its answer, and what it costs in nano-USD.
struct Case {
    content_type: &'static str,
    body: String,
    answer: Vec<u8>,
    cost: i64,
    mark: &'static str,
}

fn metered(body: &str, answer: &str, cost: i64) -> Case {
    Case {
        content_type: "application/json",
        body: body.to_owned(),
        answer: json(answer),
        cost,
        mark: "measured",
    }
}

fn form(fields: &[(&str, &str)], answer: &str, cost: i64) -> Case {
    let field = |(name, value): &(&str, &str)| {
        let file = if *name == "file" || *name == "image" {
            "; filename=\"a\""
        } else {
            ""
        };
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n")
    };
    let fields: String = fields.iter().map(field).collect();
    Case {
        content_type: "multipart/form-data; boundary=XX",
        ..metered(&format!("{fields}--XX--\r\n"), answer, cost)
    }
}

/// What is sent to a row that costs money. A row without a case here fails the test.
fn case(row: &Row) -> Case {
    match row.path {
        // 53 x 2.50 + 15 x 10
        "/chat/completions" => metered(
            r#"{"model":"gpt-4o","messages":[]}"#,
            r#"{"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#,
            282_500,
        ),
        // 10 x 0.50 + 5 x 1.50
        "/completions" => metered(
            r#"{"model":"gpt-3.5-turbo","prompt":"Hi","max_tokens":9}"#,
            r#"{"model":"gpt-3.5-turbo","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#,
            12_500,
        ),
        "/embeddings" => metered(
            r#"{"model":"text-embedding-3-small","input":"a"}"#,
            r#"{"model":"text-embedding-3-small","data":[],"usage":{"prompt_tokens":1,"total_tokens":1}}"#,
            20,
        ),
        // A search unit at 0.002 USD
        "/rerank" => metered(
            r#"{"model":"rerank-x","query":"a","documents":["b"]}"#,
            r#"{"results":[],"meta":{"billed_units":{"search_units":1}}}"#,
            2_000_000,
        ),
        // 48 x 0.02
        "/score" => metered(
            r#"{"model":"score-x","text_1":"a cat on a mat","text_2":["a dog","a cat upon its mat"]}"#,
            r#"{"id":"score-1","object":"list","model":"score-x","data":[{"index":0,"score":0.1}],"usage":{"prompt_tokens":48,"total_tokens":48,"completion_tokens":0}}"#,
            960,
        ),
        // 29 pages at 0.004 USD
        "/ocr" => metered(
            r#"{"model":"ocr-x","document":{"type":"document_url","document_url":"https://x/y.pdf"}}"#,
            r#"{"pages":[{"index":0,"markdown":"Hi","images":[]}],"model":"ocr-x","document_annotation":null,"usage_info":{"pages_processed":29,"doc_size_bytes":3002783}}"#,
            116_000_000,
        ),
        // 100 x 2.50 + 10 x 10
        "/responses" => metered(
            r#"{"model":"gpt-4o","input":"Hi"}"#,
            r#"{"id":"resp_1","model":"gpt-4o","status":"completed","usage":{"input_tokens":100,"output_tokens":10,"total_tokens":110}}"#,
            350_000,
        ),
        // 156 x 2.50 + 190 x 10; the answer names no model
        "/responses/compact" => metered(
            r#"{"model":"gpt-4o","input":"Hi"}"#,
            r#"{"object":"response.compaction","usage":{"input_tokens":156,"output_tokens":190,"total_tokens":346}}"#,
            2_290_000,
        ),
        // 16 x 2 + 13637 x 0.20 + 7049 x 2.50 + 344 x 10
        "/messages" => metered(
            r#"{"model":"claude-sonnet-5","max_tokens":1000,"messages":[],"cache_control":{"type":"ephemeral"},"document":1}"#,
            r#"{"type":"message","model":"claude-sonnet-5","stop_reason":"end_turn","usage":{"input_tokens":16,"cache_read_input_tokens":13637,"cache_creation_input_tokens":7049,"output_tokens":344}}"#,
            23_821_900,
        ),
        // 2 x 0.016 USD
        "/images/generations" => metered(
            r#"{"model":"dall-e-2","prompt":"a cat","n":2,"size":"256x256"}"#,
            r#"{"created":1,"data":[{"url":"https://x/1"},{"url":"https://x/2"}]}"#,
            32_000_000,
        ),
        // 43 x 5 + 388 x 8 + 308 x 10 + 1056 x 32
        "/images/edits" => form(
            &[
                ("model", "gpt-image-1.5"),
                ("prompt", "a cat"),
                ("image", "PNG"),
            ],
            r#"{"data":[{"b64_json":"AAAA"}],"usage":{"input_tokens":431,"input_tokens_details":{"image_tokens":388,"text_tokens":43},"output_tokens":1364,"output_tokens_details":{"image_tokens":1056,"text_tokens":308},"total_tokens":1795}}"#,
            40_191_000,
        ),
        // 0.02 USD: of 1024x1024 unless told
        "/images/variations" => form(
            &[("model", "dall-e-2"), ("image", "PNG")],
            r#"{"data":[{"url":"https://x/1"}]}"#,
            20_000_000,
        ),
        // 12 characters at 15 USD a million
        "/audio/speech" => Case {
            answer: answer("200 OK", &[("Content-Type", "audio/mpeg")], "ID3 sound"),
            ..metered(
                r#"{"model":"tts-1","input":"Hello, wörld","voice":"alloy"}"#,
                "",
                180_000,
            )
        },
        // 4 s at 0.006 USD a minute
        "/audio/transcriptions" => form(
            &[("file", &"sound".repeat(1_000)), ("model", "whisper-1")],
            r#"{"text":"Hi","usage":{"type":"duration","seconds":4}}"#,
            400_000,
        ),
        // 3.7 s, billed as 4
        "/audio/translations" => form(
            &[
                ("file", &"sound".repeat(1_000)),
                ("model", "whisper-1"),
                ("response_format", "verbose_json"),
            ],
            r#"{"text":"Hi","duration":3.7}"#,
            400_000,
        ),
        // 26 x 1 + 259 x 2
        "/api/chat" => metered(
            r#"{"model":"llama3","messages":[],"options":{}}"#,
            "{\"model\":\"llama3\",\"message\":{\"content\":\"Hi\"},\"done\":false}\n{\"model\":\"llama3\",\"done\":true,\"prompt_eval_count\":26,\"eval_count\":259}\n",
            544_000,
        ),
        // 2 x 1 + 3 x 2
        "/api/generate" => metered(
            r#"{"model":"llama3","prompt":"Hi","stream":false,"padding":"so that two tokens fit"}"#,
            r#"{"model":"llama3","response":"Hi","done":true,"prompt_eval_count":2,"eval_count":3}"#,
            8_000,
        ),
        path => panic!("no exchange for the row {path}"),
    }
}

/// The row's path, with ids where it has names.
pub(crate) fn path(row: &Row) -> String {
    let segments = row.path.split('/').map(|segment| {
        let name = segment
            .strip_prefix('{')
            .and_then(|it| it.strip_suffix('}'));
        name.map_or(segment.to_owned(), |name| {
            let kind = Kind::named(name).map_or("item", Kind::name);
            format!("{kind}_1")
        })
    });
    segments.collect::<Vec<_>>().join("/")
}

fn request(row: &Row, token: &str, content_type: &str, body: &str) -> String {
    let path = path(row);
    // What some of our own answers must be asked with; all others pass it on.
    let query = "start_time=1795824000&end_time=1795910400";
    format!(
        "{} /some/base/v1{path}?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        row.method,
        body.len()
    )
}

#[tokio::test]
async fn every_endpoint_costs_what_its_row_says() {
    let bank = Bank::open().await;
    bank.sql.batch_execute(PRICES).await.unwrap();
    let token = bank.token("").await;
    let next = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::new(AtomicUsize::new(0));
    let (answers, counter) = (Arc::clone(&next), Arc::clone(&asked));
    let upstream = Upstream::scripted(move |mut wire| {
        let (answers, counted) = (Arc::clone(&answers), Arc::clone(&counter));
        async move {
            while wire.has_more().await {
                wire.read_message().await;
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = answers.lock().unwrap().clone();
                wire.send(answer).await;
            }
        }
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    for row in TABLE {
        let what = format!("{} {}", row.method, row.path);
        let case = match row.does {
            Does::Metered(_) => case(row),
            Does::Work(_) => unreachable!("{what} stands in a table of its own"),
            Does::Free | Does::Kept(_) | Does::Refused | Does::Models | Does::Billing(_) => {
                metered("{}", r#"{"input_tokens":9}"#, 0)
            }
        };
        *next.lock().unwrap() = case.answer.clone();
        asked.store(0, Ordering::SeqCst);
        let (head, body) = turnpike
            .call(request(row, &token, case.content_type, &case.body))
            .await;
        let status = match row.does {
            Does::Refused | Does::Kept(Act::List(_) | Act::Create(_)) => 403,
            Does::Kept(_) => 404,
            _ => 200,
        };
        let said = String::from_utf8_lossy(&body);
        assert_eq!(head.status(), status, "{what}: {said}");
        if let Does::Kept(Act::Create(kind) | Act::List(kind)) = row.does {
            assert!(said.contains(kind.words()), "{what}: {said}");
        }
        let is_relayed = matches!(row.does, Does::Metered(_) | Does::Free);
        let received = asked.load(Ordering::SeqCst);
        assert_eq!(received, usize::from(is_relayed), "{what}");
        if is_relayed {
            assert!(case.answer.ends_with(&body), "{what}: {said}");
        }
        let exchange = head.header("x-turnpike-exchange").unwrap();
        let statement = format!("select * from turnpike.charge where id = '{exchange}'");
        let charges = bank.sql.query(&statement, &[]).await.unwrap();
        let Does::Metered(_) = row.does else {
            assert!(charges.is_empty(), "{what} costs nothing");
            continue;
        };
        let charge = &charges[0];
        let figures: (i64, &str, &str) = (
            charge.get("amount"),
            charge.get("mark"),
            charge.get("endpoint"),
        );
        assert_eq!(figures, (case.cost, case.mark, row.name), "{what}");
    }
    bank.audited().await;
}

#[tokio::test]
async fn the_upstream_gets_the_endpoint_below_its_own_base() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json("{}")).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    let row = &TABLE[0];
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    turnpike
        .call(request(row, &token, "application/json", body))
        .await;
    let received = upstream.received_text();
    assert!(
        received.starts_with("POST /v1/chat/completions?start_time="),
        "{received}"
    );
}
