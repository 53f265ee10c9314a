//! Scanner and meters against memchr and serde_json on the same bytes, in GB/s of input.

use std::{
    hint::black_box,
    io::{Read, Write as _},
};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use meter::{AnswerMeter, Api, RequestScanner, UsageFrameFilter};
use serde::Deserialize;

criterion_group!(
    benches,
    requests,
    streams,
    embedding_answers,
    codings,
    tokenizer
);
criterion_main!(benches);

/// Bodies come in reads of this size.
const READ_BYTES: usize = 16 * 1024;

/// A chat of an agent: many messages and tools, `model` last, as the SDKs write it.
fn chat_request() -> Vec<u8> {
    let message = r#"{"role":"user","content":"The quick brown fox jumps over the lazy dog.\nIt said: \"again\". The quick brown fox jumps over the lazy dog, and over the fence, and away."},"#;
    let tool = r#"{"type":"function","function":{"name":"search","description":"Searches the archive.","parameters":{"type":"object","properties":{"query":{"type":"string"},"limit":{"type":"integer","minimum":1}},"required":["query"]}}},"#;
    let messages = message.repeat(500);
    let tools = tool.repeat(50);
    format!(
        r#"{{"messages":[{}],"tools":[{}],"temperature":0.7,"max_tokens":1000,"stream":true,"stream_options":{{"include_usage":true}},"model":"gpt-4o"}}"#,
        messages.trim_end_matches(','),
        tools.trim_end_matches(','),
    )
    .into_bytes()
}

/// One image of 8 MB in base64.
fn image_request() -> Vec<u8> {
    let image = "iVBORw0KGgoAAAANSUhEUgAA+/bC".repeat(8 * 1024 * 1024 / 28);
    format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]}}"#
    )
    .into_bytes()
}

/// Text outside ASCII, unescaped.
fn chinese_request() -> Vec<u8> {
    let text = "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。寒來暑往，秋收冬藏。".repeat(2000);
    format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{text}"}}]}}"#)
        .into_bytes()
}

/// What a reader that only wants the fields would give serde_json.
#[derive(Deserialize)]
struct Wanted<'a> {
    #[serde(borrow)]
    model: std::borrow::Cow<'a, str>,
    stream: Option<bool>,
    max_tokens: Option<u64>,
}

const REQUESTS: [&str; 3] = ["chat", "image", "chinese"];

fn request(name: &str) -> Vec<u8> {
    match name {
        "chat" => chat_request(),
        "image" => image_request(),
        _ => chinese_request(),
    }
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    for name in REQUESTS {
        let body = request(name);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("scanner", name), &body, |bencher, body| {
            bencher.iter(|| {
                let mut scanner = RequestScanner::new(Api::ChatCompletions);
                for piece in body.chunks(READ_BYTES) {
                    scanner.push(piece).expect("the body is valid");
                }
                scanner.finish()
            });
        });
        group.bench_with_input(
            BenchmarkId::new("serde_json", name),
            &body,
            |bencher, body| {
                bencher.iter(|| {
                    let wanted: Wanted<'_> =
                        serde_json::from_slice(body).expect("the body is valid");
                    black_box((wanted.model.len(), wanted.stream, wanted.max_tokens))
                });
            },
        );
        group.bench_with_input(BenchmarkId::new("memchr", name), &body, |bencher, body| {
            bencher.iter(|| memchr::memchr2_iter(b'"', b'\\', body).count());
        });
    }
}

/// A chat stream of 1,000 chunks, as OpenAI sends it.
fn chat_stream() -> Vec<u8> {
    let chunk = r#"data: {"id":"chatcmpl-9HpbaAXyt0cAnlWvI8kUAFpZt5jyQ","object":"chat.completion.chunk","created":1714036974,"model":"gpt-4o-2024-08-06","service_tier":"default","system_fingerprint":"fp_a7d06e42a7","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null}"#;
    let usage = r#"data: {"id":"chatcmpl-9HpbaAXyt0cAnlWvI8kUAFpZt5jyQ","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#;
    let mut stream = format!("{chunk}\n\n").repeat(1000);
    stream.push_str(usage);
    stream.push_str("\n\ndata: [DONE]\n\n");
    stream.into_bytes()
}

/// Shows the stream event by event, as it comes from a provider.
fn events(stream: &[u8]) -> Vec<&[u8]> {
    let mut events = Vec::new();
    let mut from = 0;
    for end in memchr::memmem::find_iter(stream, "\n\n") {
        events.push(&stream[from..end + 2]);
        from = end + 2;
    }
    events
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    model: Option<std::borrow::Cow<'a, str>>,
    usage: Option<serde_json::Map<String, serde_json::Value>>,
}

fn streams(criterion: &mut Criterion) {
    let stream = chat_stream();
    let events = events(&stream);
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    group.bench_function("meter", |bencher| {
        bencher.iter(|| {
            let mut meter = AnswerMeter::new(Api::ChatCompletions, 200, None, None);
            for event in &events {
                black_box(meter.push(event));
            }
            meter.finish()
        });
    });
    let frames: Vec<Bytes> = events
        .iter()
        .map(|event| Bytes::copy_from_slice(event))
        .collect();
    group.bench_function("filter", |bencher| {
        bencher.iter(|| {
            let mut filter = UsageFrameFilter::new();
            for frame in &frames {
                black_box(filter.push(frame.clone()));
            }
        });
    });
    group.bench_function("serde_json", |bencher| {
        bencher.iter(|| {
            for event in &events {
                let payload = event.strip_prefix(b"data: ").unwrap_or(event);
                if let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(payload) {
                    black_box((chunk.model, chunk.usage));
                }
            }
        });
    });
    let finder = memchr::memmem::Finder::new("\"usage\":{");
    group.bench_function("memmem", |bencher| {
        bencher.iter(|| {
            events
                .iter()
                .filter(|event| finder.find(event).is_some())
                .count()
        });
    });
}

/// Embeddings of 64 inputs.
fn embeddings() -> Vec<u8> {
    let vector = ["-0.012345678", "0.0023456789", "1.5e-05"]
        .repeat(512)
        .join(",");
    let item = format!(r#"{{"object":"embedding","index":0,"embedding":[{vector}]}}"#);
    let items = [item.as_str()].repeat(64).join(",");
    format!(r#"{{"object":"list","data":[{items}],"model":"text-embedding-3-small","usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#)
        .into_bytes()
}

fn embedding_answers(criterion: &mut Criterion) {
    let body = embeddings();
    let mut group = criterion.benchmark_group("embeddings");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("meter", |bencher| {
        bencher.iter(|| {
            let mut meter = AnswerMeter::new(Api::Embeddings, 200, None, None);
            for piece in body.chunks(READ_BYTES) {
                black_box(meter.push(piece));
            }
            meter.finish()
        });
    });
    group.bench_function("serde_json", |bencher| {
        bencher.iter(|| {
            serde_json::from_slice::<Chunk<'_>>(&body)
                .map(|chunk| chunk.usage.is_some())
                .unwrap_or_default()
        });
    });
}

type Encode = fn(&[u8]) -> Vec<u8>;
type Decode = fn(&[u8]) -> u64;

/// A stream in each coding: the meter, which opens and reads it, beside what the library takes to open it.
fn codings(criterion: &mut Criterion) {
    const CODINGS: [(&str, Encode, Decode); 4] = [
        ("gzip", gzip, ungzip),
        ("deflate", deflate, undeflate),
        ("br", brotli, unbrotli),
        ("zstd", zstd, unzstd),
    ];
    let body = embeddings();
    let mut group = criterion.benchmark_group("coding");
    group.throughput(Throughput::Bytes(body.len() as u64));
    for (coding, encode, decode) in CODINGS {
        let coded = encode(&body);
        assert_eq!(decode(&coded), body.len() as u64);
        group.bench_function(BenchmarkId::new("meter", coding), |bencher| {
            bencher.iter(|| {
                let mut meter = AnswerMeter::new(Api::Embeddings, 200, None, Some(coding));
                for piece in coded.chunks(READ_BYTES) {
                    black_box(meter.push(piece));
                }
                meter.finish()
            });
        });
        group.bench_function(BenchmarkId::new("library", coding), |bencher| {
            bencher.iter(|| decode(black_box(&coded)));
        });
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn brotli(body: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    let params = brotli::enc::BrotliEncoderParams {
        quality: 4,
        ..brotli::enc::BrotliEncoderParams::default()
    };
    brotli::BrotliCompress(&mut { body }, &mut coded, &params).expect("memory takes it");
    coded
}

fn zstd(body: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(body, 3).expect("memory takes it")
}

/// What a reader gives, looked at by nobody.
fn length(mut reader: impl Read) -> u64 {
    let mut piece = [0; READ_BYTES];
    let mut length = 0;
    loop {
        match reader.read(&mut piece).expect("the coding is valid") {
            0 => return length,
            more => length += more as u64,
        }
        black_box(&piece);
    }
}

fn ungzip(coded: &[u8]) -> u64 {
    length(flate2::read::MultiGzDecoder::new(coded))
}

fn undeflate(coded: &[u8]) -> u64 {
    length(flate2::read::ZlibDecoder::new(coded))
}

fn unbrotli(coded: &[u8]) -> u64 {
    length(brotli_decompressor::Decompressor::new(coded, READ_BYTES))
}

fn unzstd(coded: &[u8]) -> u64 {
    length(::zstd::stream::read::Decoder::new(coded).expect("the coding is valid"))
}

fn tokenizer(criterion: &mut Criterion) {
    meter::warm_tokenizer();
    let text =
        "The quick brown fox jumps over the lazy dog, and over the fence, and away. ".repeat(200);
    let mut group = criterion.benchmark_group("tokenizer");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("text_tokens", |bencher| {
        bencher.iter(|| meter::text_tokens("gpt-4o", &text))
    });
}
