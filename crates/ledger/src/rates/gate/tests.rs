//! Gates against a shared account of what was leased, as Postgres keeps it.

use super::*;

const MINUTE: usize = 1;

fn per_minute(limit: u32) -> RateLimits {
    RateLimits {
        requests_per_minute: Some(limit),
        ..RateLimits::default()
    }
}

fn at_once(limit: u32) -> RateLimits {
    RateLimits {
        concurrent_exchanges: Some(limit),
        ..RateLimits::default()
    }
}

fn is_taken(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Taken(_))
}

/// What Postgres does in `lease_windows` for one window, with time as a number of seconds.
struct Pool {
    limit: i64,
    used: i64,
    began: Option<Instant>,
}

impl Pool {
    const fn new(limit: i64) -> Self {
        Self {
            limit,
            used: 0,
            began: None,
        }
    }

    fn lease(&mut self, ask: &WindowAsk, now: Instant) -> Grant {
        let length = Duration::from_secs(60);
        if self.began.is_none_or(|began| began + length <= now) {
            (self.began, self.used) = (Some(now), 0);
        }
        self.used += ask.spent;
        let left = (self.limit - self.used).max(0);
        let granted = if ask.wanted > 0 {
            ask.wanted.max(left / 16).min(left)
        } else {
            0
        };
        self.used += granted;
        Grant {
            granted,
            remaining: (self.limit - self.used).max(0),
            ends_in: self.began.unwrap() + length - now,
        }
    }

    /// Lets a gate ask, for one take that waits.
    fn serve(&mut self, gate: &mut State, now: Instant) {
        gate.waiting = 1;
        let ask = gate.ask(now, false);
        gate.waiting = 0;
        for ask in &ask.windows {
            let grant = self.lease(ask, now);
            gate.granted(ask, grant, now);
        }
    }

    fn take(&mut self, gate: &mut State, limits: &RateLimits, now: Instant) -> Verdict {
        match gate.take(limits, now) {
            Verdict::Unknown => {
                self.serve(gate, now);
                gate.take(limits, now)
            }
            known => known,
        }
    }
}

#[test]
fn a_chunk_is_counted_down_without_asking_and_a_full_window_refuses_until_it_ends() {
    let (mut pool, mut gate, now) = (Pool::new(32), State::default(), Instant::now());
    let limits = per_minute(32);
    assert_eq!(gate.take(&limits, now), Verdict::Unknown);
    pool.serve(&mut gate, now);
    assert!(
        is_taken(&gate.take(&limits, now)),
        "the first of a chunk of two"
    );
    assert!(
        is_taken(&gate.take(&limits, now)),
        "the second, without asking"
    );
    assert_eq!(gate.take(&limits, now), Verdict::Unknown);
    let more = (0..40)
        .filter(|_| is_taken(&pool.take(&mut gate, &limits, now)))
        .count();
    assert_eq!(more, 30);
    let later = now + Duration::from_secs(59);
    let Verdict::Refused(Excess::Requests {
        wait,
        seconds: 60,
        standing,
    }) = gate.take(&limits, later)
    else {
        panic!("the window is full");
    };
    assert_eq!(wait, Duration::from_secs(1));
    let told = standing.requests.unwrap();
    assert_eq!(
        (told.limit, told.remaining, told.reset),
        (32, 0, Duration::from_secs(1))
    );
    let next = now + Duration::from_secs(60);
    assert_eq!(
        gate.take(&limits, next),
        Verdict::Unknown,
        "a window that ended leaves nothing behind"
    );
    assert!(is_taken(&pool.take(&mut gate, &limits, next)));
}

#[test]
fn three_gates_on_one_pool_never_pass_its_limit_in_any_window() {
    // Xorshift: the same mix every time.
    let mut seed = 88_172_645_463_325_252_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    for limit in [1, 2, 7, 30, 100, 1_000] {
        let limits = per_minute(limit);
        let mut pool = Pool::new(limit.into());
        let mut gates: [State; 3] = std::array::from_fn(|_| State::default());
        let mut now = Instant::now();
        let (mut window, mut taken) = (None, 0_u32);
        for _ in 0..20_000 {
            now += Duration::from_millis(random(100));
            let at = usize::try_from(random(3)).unwrap();
            let is_one_more = is_taken(&pool.take(&mut gates[at], &limits, now));
            if pool.began != window {
                (window, taken) = (pool.began, 0);
            }
            taken += u32::from(is_one_more);
            assert!(taken <= limit, "{taken} of {limit}");
        }
    }
}

#[test]
fn all_windows_must_have_room_and_a_refusal_takes_from_none() {
    let (mut gate, now) = (State::default(), Instant::now());
    let limits = RateLimits {
        requests_per_second: Some(1),
        requests_per_minute: Some(10),
        ..RateLimits::default()
    };
    assert!(is_taken(&gate.take_locally(&limits, now)));
    for _ in 0..5 {
        assert!(matches!(
            gate.take_locally(&limits, now),
            Verdict::Refused(Excess::Requests { seconds: 1, .. })
        ));
    }
    assert_eq!(gate.windows[MINUTE].taken, 1);
}

#[test]
fn without_postgres_whole_limits_are_counted_and_told_to_it_later() {
    let (mut pool, mut gate, now) = (Pool::new(10), State::default(), Instant::now());
    let limits = per_minute(10);
    let local = (0..20)
        .filter(|_| is_taken(&gate.take_locally(&limits, now)))
        .count();
    assert_eq!(local, 10);
    // Postgres comes back; another process asks too.
    pool.serve(&mut gate, now);
    assert_eq!(pool.used, 10);
    assert!(!is_taken(&pool.take(&mut State::default(), &limits, now)));
    let next = now + Duration::from_secs(60);
    assert!(
        is_taken(&gate.take_locally(&limits, next)),
        "a local window ends as well"
    );
}

#[test]
fn a_debt_that_could_not_be_told_is_told_again() {
    let (mut gate, now) = (State::default(), Instant::now());
    let limits = per_minute(10);
    assert!(is_taken(&gate.take_locally(&limits, now)));
    let ask = gate.ask(now, false);
    assert_eq!(ask.windows[0].spent, 1);
    gate.failed(&ask);
    assert_eq!(gate.ask(now, false).windows[0].spent, 1);
    assert_eq!(gate.ask(now, false), Ask::default(), "and once only");
}

#[test]
fn tokens_are_counted_as_they_are_used_and_admit_while_any_are_left() {
    let (mut pool, mut gate, now) = (Pool::new(160), State::default(), Instant::now());
    let limits = RateLimits {
        tokens_per_minute: Some(160),
        ..RateLimits::default()
    };
    assert!(is_taken(&pool.take(&mut gate, &limits, now)));
    assert!(
        is_taken(&pool.take(&mut gate, &limits, now)),
        "nothing is used yet"
    );
    assert!(
        gate.spend_tokens(150, now),
        "beyond the chunk: Postgres must know"
    );
    let Verdict::Taken(standing) = pool.take(&mut gate, &limits, now) else {
        panic!("10 are left")
    };
    assert_eq!(standing.tokens.unwrap().remaining, 10);
    // In flight when the limit was near: it passes, and shows.
    gate.spend_tokens(100, now);
    assert!(matches!(
        pool.take(&mut gate, &limits, now),
        Verdict::Refused(Excess::Tokens { .. })
    ));
    assert!(
        !is_taken(&pool.take(&mut State::default(), &limits, now)),
        "another process sees it"
    );
    assert!(is_taken(&pool.take(
        &mut gate,
        &limits,
        now + Duration::from_secs(60)
    )));
}

#[test]
fn places_are_leased_as_needed_and_given_back() {
    let (mut gate, now) = (State::default(), Instant::now());
    let limits = at_once(2);
    assert_eq!(gate.take(&limits, now), Verdict::Unknown);
    gate.waiting = 1;
    let ask = gate.ask(now, false).places.unwrap();
    assert_eq!(
        ask,
        PlacesAsk {
            limit: 2,
            used: 0,
            wanted: 1
        }
    );
    gate.places_granted(&ask, 1, now);
    gate.waiting = 0;
    assert!(is_taken(&gate.take(&limits, now)));
    // Somebody else has the other one.
    gate.waiting = 1;
    let ask = gate.ask(now, false).places.unwrap();
    gate.places_granted(&ask, 1, now);
    gate.waiting = 0;
    assert!(matches!(
        gate.take(&limits, now),
        Verdict::Refused(Excess::AtOnce { .. })
    ));
    assert_eq!(
        gate.take(&limits, now + DENIED),
        Verdict::Unknown,
        "asked again after a while"
    );
    assert!(gate.release(), "a small limit keeps none ready");
    let ask = gate.ask(now, false).places.unwrap();
    assert_eq!(
        ask,
        PlacesAsk {
            limit: 2,
            used: 0,
            wanted: 0
        }
    );
    assert_eq!(
        gate.take(&limits, now),
        Verdict::Unknown,
        "what is being given back is not taken"
    );
    gate.places_granted(&ask, 0, now);
    assert!(gate.is_over(now));
}

#[test]
fn a_large_limit_keeps_places_ready_until_it_is_idle() {
    let (mut gate, now) = (State::default(), Instant::now());
    let limits = at_once(80);
    assert_eq!(gate.take(&limits, now), Verdict::Unknown);
    gate.waiting = 1;
    let ask = gate.ask(now, false).places.unwrap();
    assert_eq!(ask.wanted, 11);
    gate.places_granted(&ask, 11, now);
    gate.waiting = 0;
    for _ in 0..100 {
        assert!(is_taken(&gate.take(&limits, now)));
        gate.release();
    }
    let ask = gate.ask(now, false).places.unwrap();
    assert_eq!(ask.wanted, 10);
    gate.places_granted(&ask, 10, now);
    assert!(gate.has_idle_places());
    assert_eq!(gate.ask(now, true).places.unwrap().wanted, 0);
}

#[test]
fn a_limit_that_is_raised_counts_at_once() {
    let (mut gate, now) = (State::default(), Instant::now());
    assert!(is_taken(&gate.take_locally(&per_minute(1), now)));
    assert!(!is_taken(&gate.take_locally(&per_minute(1), now)));
    assert!(is_taken(&gate.take_locally(&per_minute(2), now)));
    assert!(
        is_taken(&gate.take(&RateLimits::default(), now)),
        "and one that is lifted"
    );
}
