//! SIGKILL at random moments under load: what was answered is paid, what was not has an end, and nothing is left.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, atomic::AtomicUsize},
    time::{SystemTime, UNIX_EPOCH},
};

use super::load::{self, Call, Charge, End, Load, charges, each_whole_answer_is_paid, settled};
use crate::support::{Bank, Turnpike, command, eventually};

const CLIENTS: usize = 16;
const ROUNDS: usize = 10;
/// In `just soak`.
const ROUNDS_SOAK: usize = 200;
/// A round's gateway is killed when it has ended so many calls at most.
const CALLS_MAX: u64 = 120;

/// Pseudo-random numbers whose seed is printed, so that a run that failed can be had again.
struct Dice(u64);

impl Dice {
    fn seeded() -> Self {
        let seed = match std::env::var_os("TURNPIKE_SEED") {
            Some(seed) => seed.to_str().unwrap().parse().unwrap(),
            None => u64::try_from(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_nanos(),
            )
            .unwrap(),
        };
        eprintln!("TURNPIKE_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, limit: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit).unwrap()
    }
}

/// Starts a gateway and kills it as soon as it has a directory of its own: while it settles what others have left.
async fn kill_at_birth(settings: &[(&str, String)], data: &Path) {
    let before = instances(data);
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut child = tokio::process::Command::from(command(settings))
        .stdout(Stdio::null())
        .stderr(said.reopen().unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("it has a directory", async || {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("{status}: {}", std::fs::read_to_string(&said).unwrap());
        }
        (!instances(data).is_subset(&before)).then_some(())
    })
    .await;
    child.kill().await.unwrap();
}

/// The directories of processes that live or have left something.
fn instances(data: &Path) -> HashSet<PathBuf> {
    // What is not there has not been made yet.
    let inside = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten();
    inside(data.join("ledgers"))
        .flat_map(|ledger| inside(ledger.unwrap().path().join("instances")))
        .map(|instance| instance.unwrap().path())
        .filter(|path| path.is_dir())
        .collect()
}

/// Kills so many gateways one after the other, on one database and one data directory. Returns all calls and charges.
async fn kill_over_and_over(rounds: usize, orphans: &str) -> (Vec<Call>, HashMap<String, Charge>) {
    let (bank, data) = (Bank::open().await, tempfile::tempdir().unwrap());
    let upstream = load::upstream().await;
    let token = bank.token("").await;
    let settings = [
        ("DATABASE_URL", bank.db.url()),
        ("OPENAI_URL", format!("{}/v1", upstream.url())),
        ("OPENAI_API_KEY", "sk-upstream".to_owned()),
        ("DATA_DIR", data.path().to_str().unwrap().to_owned()),
        ("ORPHANS", orphans.to_owned()),
        ("LOG_LEVEL", "warn".to_owned()),
    ];
    let (mut dice, numbers) = (Dice::seeded(), Arc::new(AtomicUsize::new(0)));
    let mut calls = Vec::new();
    for _ in 0..rounds {
        if dice.below(3) == 0 {
            kill_at_birth(&settings, data.path()).await;
        }
        let mut turnpike = Turnpike::start_with(&settings);
        // What the one before left is settled by the time this one serves.
        settled(&bank.sql).await;
        let load = Load::start(turnpike.clients, &token, CLIENTS, &numbers);
        load.went_on_for(dice.below(CALLS_MAX)).await;
        turnpike.signal("KILL");
        calls.extend(load.stop().await);
        assert!(!turnpike.ended().await.success());
    }
    let mut turnpike = Turnpike::start_with(&settings);
    settled(&bank.sql).await;
    turnpike.signal("TERM");
    assert!(turnpike.ended().await.success());
    let left = instances(data.path());
    assert!(left.is_empty(), "processes that are gone left {left:?}");
    let charges = charges(&bank.sql).await;
    each_whole_answer_is_paid(&calls, &charges);
    for call in &calls {
        let is_known = matches!(call.end, End::Whole | End::Cut | End::Refused(503, _, true));
        assert!(is_known, "{call:?}");
    }
    (calls, charges)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_leaves_every_answer_paid_and_every_exchange_settled() {
    let rounds = if load::is_soak() { ROUNDS_SOAK } else { ROUNDS };
    let (calls, charges) = kill_over_and_over(rounds, "charge").await;
    let mut interrupted = 0;
    for call in calls.iter().filter(|call| call.end == End::Cut) {
        // Whose answer had begun was open: it has an end now.
        let Some(exchange) = &call.exchange else {
            continue;
        };
        let charge = charges
            .get(exchange)
            .unwrap_or_else(|| panic!("{call:?} has no end"));
        match charge.mark.as_str() {
            // It died between the charge and the last byte.
            "measured" => assert_eq!(charge.amount, load::cost(call.number)),
            "interrupted" => {
                interrupted += 1;
                let [most, ..] = load::bound(call.number);
                assert!((0..=most).contains(&charge.amount), "{charge:?}");
            }
            other => panic!("{call:?}: {other}"),
        }
    }
    assert!(interrupted > 0, "nothing was open at any kill");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_orphans_are_void_only_what_was_settled_is_charged() {
    let (calls, charges) = kill_over_and_over(3, "void").await;
    let cut = calls.iter().filter(|call| call.end == End::Cut);
    for charge in cut.filter_map(|call| charges.get(call.exchange.as_ref()?)) {
        assert_eq!(charge.mark, "measured");
    }
    assert!(charges.values().all(|charge| charge.mark == "measured"));
}
