//! What an exchange pays for evidence on local disk: the flight recorder's stores, and the journal's fsync by group.

use std::{hint::black_box, path::Path};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ledger::{
    journal::Journal,
    recorder::{Opening, Progress, Recorder, SLOTS_DEFAULT},
};
use uuid::Uuid;

criterion_group!(benches, recorder, journal);
criterion_main!(benches);

/// About what a settled exchange has to say.
const RECORD_BYTES: usize = 400;

fn opening(exchange: Uuid) -> Opening<'static> {
    Opening {
        exchange,
        token: 1,
        account: 2,
        hold_nano: 3_000_000,
        prompt_tokens_bound: 4_000,
        completion_tokens_bound: 1_000,
        price: 6,
        started_at_ms: 1_800_000_000_000,
        input_tokens_estimate: 900,
        in_rate: 2_500_000_000,
        out_rate: 10_000_000_000,
        stream: true,
        whole: false,
        upstream: Some(1),
        upstream_key: Some(2),
        endpoint: "/v1/chat/completions".into(),
        model: "gpt-4o-2024-11-20".into(),
    }
}

fn recorder(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory for the bench");
    let recorder =
        Recorder::create(&dir.path().join("recorder"), SLOTS_DEFAULT).expect("a recorder");
    let opening = opening(Uuid::now_v7());
    let progress = Progress {
        answer_bytes: 1000,
        output_tokens_seen: 50,
        status: 200,
    };
    let mut group = c.benchmark_group("recorder");
    group.bench_function("open + progress + clear", |b| {
        b.iter(|| {
            let slot = recorder.open(black_box(&opening)).expect("a free slot");
            slot.progress(black_box(progress));
            slot.clear();
        });
    });
    let slot = recorder.open(&opening).expect("a free slot");
    group.bench_function("progress", |b| {
        b.iter(|| slot.progress(black_box(progress)))
    });
    slot.clear();
    group.finish();
}

fn journal(c: &mut Criterion) {
    // Beside the program, so on its disk: /tmp is memory on some machines.
    let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))
        .expect("a directory for the bench");
    let mut group = c.benchmark_group("journal");
    group.sample_size(20);
    for records in [1, 16, 256] {
        let (mut journal, _) = Journal::open(dir.path(), 1 << 30).expect("a journal");
        let batch = vec![vec![b'x'; RECORD_BYTES]; records];
        group.throughput(Throughput::Elements(records as u64));
        group.bench_function(BenchmarkId::new("append", records), |b| {
            b.iter(|| {
                journal.append(black_box(&batch)).expect("room");
                if journal.bytes() > 1 << 28 {
                    let all = journal.oldest(usize::MAX, usize::MAX).expect("readable");
                    journal.forget(all).expect("removable");
                }
            });
        });
        let all = journal.oldest(usize::MAX, usize::MAX).expect("readable");
        journal.forget(all).expect("removable");
    }
    group.finish();
}
