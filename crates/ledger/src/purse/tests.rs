//! The purse protocol under every schedule: several processes, a bank like Postgres, a network that loses and repeats, crashes.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use proptest::prelude::*;
use tariff::Amount;

use super::*;

fn means(money: i64, prompt: u64) -> Means {
    Means {
        money: Amount::from_nano(money),
        prompt,
        completion: 0,
    }
}

#[test]
fn what_is_free_is_held_at_once_and_comes_back() {
    let now = Instant::now();
    let mut purse: Purse<u32> = Purse::new(now);
    assert_eq!(
        purse.take(means(5, 1), now, || 1),
        Take::Waits { ask: true }
    );
    assert_eq!(
        purse.take(means(5, 1), now, || 2),
        Take::Waits { ask: false }
    );
    let ask = purse.ask(now).unwrap();
    assert_eq!(ask.need, means(5, 1));
    assert!(ask.want.covers(means(10, 2)));
    let served = purse.granted(means(12, 3), now);
    assert_eq!(served.iter().map(|it| it.who).collect::<Vec<_>>(), [1, 2]);
    assert!(!purse.asks_again());
    assert_eq!(purse.free(), means(2, 1));
    assert!(purse.back(means(5, 1), now).is_empty());
    // It got far less than it wanted: there is little left, and asking at once would not make it more.
    assert_eq!(
        purse.take(means(5, 1), now, || 3),
        Take::Held { ask: false }
    );
    assert_eq!(
        purse.take(means(2, 1), now + SHORT_FOR, || 4),
        Take::Held { ask: true }
    );
}

#[test]
fn whoever_comes_later_does_not_overtake() {
    let now = Instant::now();
    let mut purse: Purse<u32> = Purse::new(now);
    purse.granted(means(5, 5), now);
    assert!(matches!(
        purse.take(means(9, 0), now, || 1),
        Take::Waits { .. }
    ));
    assert!(matches!(
        purse.take(means(1, 0), now, || 2),
        Take::Waits { .. }
    ));
    assert!(
        purse.spare(true, now).is_none(),
        "somebody here waits for it"
    );
}

#[test]
fn a_shortage_refuses_those_it_concerns_and_is_remembered_for_a_moment() {
    let now = Instant::now();
    let mut purse: Purse<u32> = Purse::new(now);
    purse.take(means(9, 0), now, || 1);
    purse.take(means(3, 0), now, || 2);
    purse.ask(now);
    let shortage = Shortage {
        by: Limit::Account,
        available: 4,
    };
    let Short::Again = purse.short(shortage, true, SystemTime::UNIX_EPOCH, now) else {
        panic!("others may still give back");
    };
    let ask = purse.ask(now).unwrap();
    assert_eq!(ask.asked_at, Some(SystemTime::UNIX_EPOCH));
    let later = now + RECALL_MAX;
    let Short::Refused { who, ask } = purse.short(shortage, true, SystemTime::UNIX_EPOCH, later)
    else {
        panic!("they had their time");
    };
    assert_eq!((who, ask), (vec![1], true));
    assert_eq!(purse.take(means(5, 0), later, || 3), Take::Short(shortage));
    purse.forget_shortage();
    assert!(matches!(
        purse.take(means(5, 0), later, || 3),
        Take::Waits { .. }
    ));
}

/// What Postgres does, in numbers: `lease_purses`, `return_purses`, `settle_exchanges`, `bury_instance`.
struct Bank {
    balance: i64,
    leases: HashMap<usize, i64>,
    /// The last request that counted, and what it was granted.
    answered: HashMap<usize, (u64, i64)>,
    buried: Vec<usize>,
}

enum Answer {
    Granted(i64),
    Short(i64),
    Buried,
}

impl Bank {
    fn leased(&self) -> i64 {
        self.leases.values().sum()
    }

    fn lease(&mut self, process: usize, request: u64, ask: Ask) -> Answer {
        if self.buried.contains(&process) {
            return Answer::Buried;
        }
        if let Some((last, granted)) = self.answered.get(&process)
            && *last == request
        {
            return Answer::Granted(*granted);
        }
        let left = self.balance - self.leased();
        let (need, want) = (ask.need.money.nano(), ask.want.money.nano());
        if need > left {
            return Answer::Short(left);
        }
        let granted = need.max(want.min(left / 4));
        *self.leases.entry(process).or_default() += granted;
        self.answered.insert(process, (request, granted));
        Answer::Granted(granted)
    }

    fn give_back(&mut self, process: usize, request: u64, spare: i64) {
        if self.buried.contains(&process)
            || self
                .answered
                .get(&process)
                .is_some_and(|(last, _)| *last == request)
        {
            return;
        }
        let lease = self.leases.entry(process).or_default();
        *lease -= spare.min(*lease);
        self.answered.insert(process, (request, 0));
    }

    fn settle(&mut self, process: usize, charge: i64) {
        self.balance -= charge;
        let lease = self.leases.entry(process).or_default();
        *lease -= charge.min(*lease);
    }

    fn bury(&mut self, process: usize) {
        self.buried.push(process);
        self.leases.remove(&process);
    }
}

/// What a process has sent and not heard of.
enum Sent {
    Ask(u64, Ask),
    Spare(u64, i64),
}

struct Process {
    purse: Purse<u64>,
    sent: Option<Sent>,
    /// It was carried out; its answer may still be lost.
    request: u64,
    held: Vec<i64>,
    needs: HashMap<u64, i64>,
    alive: bool,
    /// Charges that are with the journal and not with the bank.
    owed: Vec<i64>,
}

#[derive(Clone, Debug)]
enum Step {
    Take(usize, i64),
    /// Part of the hold is charged, in 1/256.
    Settle(usize, usize, u8, bool),
    Replay(usize),
    /// Carry out what was sent; the answer gets through or is lost.
    Carry(usize, bool),
    Recall(usize),
    Crash(usize),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..3_usize;
    prop_oneof![
        6 => (who.clone(), 1..40_i64).prop_map(|(who, need)| Step::Take(who, need)),
        5 => (who.clone(), any::<usize>(), any::<u8>(), any::<bool>())
            .prop_map(|(who, which, part, is_away)| Step::Settle(who, which, part, is_away)),
        2 => who.clone().prop_map(Step::Replay),
        8 => (who.clone(), prop::bool::weighted(0.8)).prop_map(|(who, heard)| Step::Carry(who, heard)),
        2 => who.clone().prop_map(Step::Recall),
        1 => who.prop_map(Step::Crash),
        2 => (0..2_000_u16).prop_map(Step::Wait),
    ]
}

impl Process {
    fn new(now: Instant) -> Self {
        Self {
            purse: Purse::new(now),
            sent: None,
            request: 0,
            held: Vec::new(),
            needs: HashMap::new(),
            alive: true,
            owed: Vec::new(),
        }
    }

    fn served(&mut self, served: Vec<Waiting<u64>>) {
        for waiting in served {
            let need = self.needs.remove(&waiting.who).expect("it waited");
            assert_eq!(waiting.need.money.nano(), need);
            self.held.push(need);
        }
    }

    fn wants(&mut self, now: Instant) {
        if self.sent.is_none()
            && let Some(ask) = self.purse.ask(now)
        {
            self.request += 1;
            self.sent = Some(Sent::Ask(self.request, ask));
        }
    }

    /// The protocol's one rule.
    fn is_within(&self, lease: i64) -> bool {
        let own = self.purse.free().money.nano()
            + self.held.iter().sum::<i64>()
            + self.owed.iter().sum::<i64>();
        own <= lease
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// No schedule of take, settle, recall, crash and lost answers overspends, and none leaks: what is neither spent nor
    /// leased to the living is there for everybody.
    #[test]
    fn no_schedule_overspends_or_leaks(steps in prop::collection::vec(step(), 1..200)) {
        let start = 500;
        let mut now = Instant::now();
        let mut bank = Bank { balance: start, leases: HashMap::new(), answered: HashMap::new(), buried: Vec::new() };
        let mut processes: Vec<_> = (0..3).map(|_| Process::new(now)).collect();
        let (mut spent, mut next) = (0, 0_u64);
        for step in steps {
            match step {
                Step::Wait(ms) => now += Duration::from_millis(ms.into()),
                Step::Take(who, need) if processes[who].alive => {
                    let process = &mut processes[who];
                    next += 1;
                    match process.purse.take(means(need, 0), now, || next) {
                        Take::Held { ask } => {
                            process.held.push(need);
                            if ask { process.wants(now); }
                        }
                        Take::Waits { .. } => {
                            process.needs.insert(next, need);
                            process.wants(now);
                        }
                        Take::Short(_) => {}
                    }
                }
                Step::Settle(who, which, part, is_away) if processes[who].alive && !processes[who].held.is_empty() => {
                    let process = &mut processes[who];
                    let held = process.held.swap_remove(which % process.held.len());
                    let charge = held * i64::from(part) / 255;
                    spent += charge;
                    if is_away { process.owed.push(charge) } else { bank.settle(who, charge) }
                    let served = process.purse.back(means(held - charge, 0), now);
                    process.served(served);
                }
                Step::Replay(who) => {
                    for charge in std::mem::take(&mut processes[who].owed) {
                        bank.settle(who, charge);
                    }
                }
                Step::Recall(who) if processes[who].alive && processes[who].sent.is_none() => {
                    let process = &mut processes[who];
                    let spare = process.purse.spare(true, now).money.nano();
                    process.request += 1;
                    process.sent = Some(Sent::Spare(process.request, spare));
                }
                Step::Carry(who, heard) if processes[who].alive => {
                    let process = &mut processes[who];
                    match process.sent.take() {
                        Some(Sent::Spare(request, spare)) => {
                            bank.give_back(who, request, spare);
                            if heard { process.wants(now) } else { process.sent = Some(Sent::Spare(request, spare)) }
                        }
                        Some(Sent::Ask(request, ask)) => match bank.lease(who, request, ask) {
                            _ if !heard => process.sent = Some(Sent::Ask(request, ask)),
                            Answer::Granted(money) => {
                                let served = process.purse.granted(means(money, 0), now);
                                process.served(served);
                                if process.purse.asks_again() { process.wants(now) }
                            }
                            Answer::Short(left) => {
                                let shortage = Shortage { by: Limit::Account, available: left.try_into().unwrap_or(0) };
                                match process.purse.short(shortage, true, SystemTime::UNIX_EPOCH, now) {
                                    Short::Again => process.wants(now),
                                    Short::Refused { who, ask } => {
                                        for gone in who { process.needs.remove(&gone); }
                                        if ask { process.wants(now) }
                                    }
                                }
                            }
                            Answer::Buried => unreachable!("the living are not buried here"),
                        },
                        None => process.wants(now),
                    }
                }
                // Its open exchanges are settled at some part of what they held, its journal is replayed, its lease returns.
                Step::Crash(who) if processes[who].alive => {
                    let process = &mut processes[who];
                    process.alive = false;
                    for charge in std::mem::take(&mut process.owed) {
                        bank.settle(who, charge);
                    }
                    for held in std::mem::take(&mut process.held) {
                        spent += held / 2;
                        bank.settle(who, held / 2);
                    }
                    bank.bury(who);
                }
                _ => {}
            }
            for (who, process) in processes.iter().enumerate().filter(|(_, process)| process.alive) {
                prop_assert!(process.is_within(bank.leases.get(&who).copied().unwrap_or(0)), "process {who}");
            }
            let owed: i64 = processes.iter().flat_map(|it| &it.owed).sum();
            prop_assert!(bank.leased() <= bank.balance, "more is leased than there is");
            prop_assert_eq!(start - spent, bank.balance - owed);
            prop_assert!(spent <= start);
        }
        // The end: everybody settles, gives back, and nothing is left over.
        for (who, process) in processes.iter_mut().enumerate().filter(|(_, process)| process.alive) {
            match process.sent.take() {
                Some(Sent::Ask(request, ask)) => if let Answer::Granted(money) = bank.lease(who, request, ask) {
                    let served = process.purse.granted(means(money, 0), now);
                    process.served(served);
                },
                Some(Sent::Spare(request, spare)) => bank.give_back(who, request, spare),
                None => {}
            }
            process.purse.fail();
            for charge in std::mem::take(&mut process.owed) { bank.settle(who, charge); }
            for held in std::mem::take(&mut process.held) {
                process.purse.back(means(held, 0), now);
            }
            process.request += 1;
            let spare = process.purse.spare(true, now).money.nano();
            bank.give_back(who, process.request, spare);
        }
        prop_assert_eq!(bank.leased(), 0, "leaked");
        prop_assert_eq!(bank.balance, start - spent);
    }
}
