//! Postgres is away and the disk is full: nothing can be durable, so nothing is acknowledged.

use std::{
    fs::File,
    io::{ErrorKind, Write},
    path::Path,
};

use testkit::{SmallDisk, body::Held, relay::Relay, upstream::Upstream};
use tokio::task::JoinSet;

use super::load::{self, End, charges, settled};
use crate::support::{Bank, Turnpike, eventually};

/// Large enough for the program's own files, and quickly filled.
const DISK_BYTES: u64 = 1024 * 1024;

/// Writes until there is no room.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for bytes in [4096, 1] {
        loop {
            match file.write(&vec![0; bytes]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Answers every call once it is released, and says how many wait.
async fn upstream() -> (Upstream, Held) {
    let go_on = Held::default();
    let gate = go_on.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let gate = gate.clone();
        async move {
            while wire.has_more().await {
                let (_, body) = wire.read_message().await;
                gate.released().await;
                if load::answer(&mut wire, &body).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (upstream, go_on)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_durable_place_no_answer_ends_and_every_charge_is_booked_later() {
    let Some(disk) = SmallDisk::mount(DISK_BYTES) else {
        return;
    };
    let bank = Bank::open().await;
    let (relay, (upstream, go_on)) = (Relay::to(&bank.db.url()).await, upstream().await);
    let data = disk.path().join("data");
    let turnpike = Turnpike::start_with(&[
        ("DATABASE_URL", relay.url()),
        ("DATA_DIR", data.to_str().unwrap().to_owned()),
        ("OPENAI_URL", format!("{}/v1", upstream.url())),
        ("OPENAI_API_KEY", "sk-upstream".to_owned()),
        ("OPEN_EXCHANGES_MAX", "100".to_owned()),
        ("LOG_LEVEL", "warn".to_owned()),
    ]);
    let (token, address) = (bank.token("").await, turnpike.clients);

    // JSON answers and streams are under way...
    let mut under_way = JoinSet::new();
    for number in 0..6 {
        let token = token.clone();
        under_way.spawn(async move { load::call(address, &token, number).await.unwrap() });
    }
    eventually("the upstream has every call", async || {
        let received = upstream.received();
        let whole = received.iter().filter(|it| it.text().ends_with('}'));
        (whole.count() == 6).then_some(())
    })
    .await;
    // ...when Postgres goes and the disk is full.
    let ballast = disk.path().join("ballast");
    relay.close();
    fill(&ballast);
    go_on.release();
    let cut = under_way.join_all().await;
    for call in &cut {
        assert_eq!(
            call.end,
            End::Cut,
            "{call:?}: acknowledged without a durable place"
        );
    }
    // What comes now is not even begun.
    let refused = load::call(address, &token, 6).await.unwrap();
    assert!(
        matches!(refused.end, End::Refused(503, _, true)),
        "{refused:?}"
    );
    assert!(charges(&bank.sql).await.is_empty());

    // Room again: the journal takes what waits and what comes.
    std::fs::remove_file(&ballast).unwrap();
    let journaled = eventually("calls are served again", async || {
        let call = load::call(address, &token, 7).await.unwrap();
        (call.end == End::Whole).then_some(call)
    })
    .await;

    relay.open();
    eventually("every charge is booked", async || {
        (charges(&bank.sql).await.len() == 7).then_some(())
    })
    .await;
    settled(&bank.sql).await;
    let charges = charges(&bank.sql).await;
    for call in cut.iter().chain([&journaled]) {
        // Measured to the end, also where the client was not let see it.
        let charge = &charges[call.exchange.as_ref().unwrap()];
        assert_eq!(
            (charge.amount, charge.mark.as_str()),
            (load::cost(call.number), "measured")
        );
    }
}
