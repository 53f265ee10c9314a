//! What an uncontended take of a rate costs: one chunk leased from a private Postgres, then memory only.

use std::{fs, hint::black_box, os::unix::fs::PermissionsExt, time::Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ledger::{
    Ledger, RateLimits, Subject, TokenId,
    cluster::{Cluster, Options},
    migrate,
};

criterion_group!(benches, takes);
criterion_main!(benches);

fn takes(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("the system gives a thread");
    let dir = tempfile::tempdir().expect("a directory");
    // Started by root, Postgres runs as another user, who must get there.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let cluster = Cluster::start(&Options {
        dir: dir.path().join("turnpike"),
        throwaway: true,
        ..Options::default()
    })
    .expect("Postgres starts");
    let ledger = runtime.block_on(async {
        cluster
            .create_database("turnpike")
            .await
            .expect("a database");
        let config = cluster.config("turnpike");
        migrate::run(&config).await.expect("the schema");
        Ledger::connect(config).await.expect("a ledger")
    });
    // Chunks so large that leasing one is no part of the figure.
    let limits = RateLimits {
        requests_per_minute: Some(u32::MAX),
        requests_per_hour: Some(u32::MAX),
        tokens_per_minute: Some(u64::from(u32::MAX)),
        ..RateLimits::default()
    };
    let subject = Subject::Token(TokenId(1));
    criterion.bench_function("rates/admit", |bencher| {
        bencher.iter_custom(|takes| {
            runtime.block_on(async {
                let began = Instant::now();
                for _ in 0..takes {
                    let pass = ledger.rates().admit(subject, &limits).await;
                    black_box(pass).expect("there is room");
                }
                began.elapsed()
            })
        });
    });
    drop(ledger);
    cluster.stop().expect("Postgres stops");
}
