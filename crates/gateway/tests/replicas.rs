//! Several gateways, one account: together they let through what it affords, and not a call more.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tariff::Amount;
use testkit::{
    pgbouncer::Pgbouncer,
    raw::{Wire, patiently},
    upstream::{Upstream, json},
};
use tokio::task::JoinSet;

use crate::support::{Bank, Turnpike, eventually, post};

/// At most 100 output tokens at 10 USD, and an input token per byte at 2.5 USD per million.
const CHAT: &str =
    r#"{"model":"gpt-4o","max_tokens":100,"messages":[{"role":"user","content":""}]}"#;
const PROMPT: i64 = CHAT.len() as i64;
const COMPLETION: i64 = 100;
/// What it can cost at most, in nano-USD.
const BOUND: i64 = PROMPT * 2_500 + COMPLETION * 10_000;
/// Input tokens of an answer that costs less.
const LESS_PROMPT: i64 = 10;
const LESS: i64 = LESS_PROMPT * 2_500 + COMPLETION * 10_000;

/// How much is asked of how many.
struct Size {
    clients: usize,
    calls: usize,
    /// Calls that fit.
    affordable: i64,
}

/// `TURNPIKE_SOAK` asks for the size of the promise; otherwise it is one that a small machine does beside everything else.
fn size() -> Size {
    if std::env::var_os("TURNPIKE_SOAK").is_some() {
        Size {
            clients: 200,
            calls: 5_000,
            affordable: 1_000,
        }
    } else {
        Size {
            clients: 60,
            calls: 1_500,
            affordable: 300,
        }
    }
}

/// Three gateways on one database, with an upstream whose every answer tells so many input tokens.
struct Fleet {
    bank: Bank,
    gateways: Vec<Turnpike>,
    _upstream: Upstream,
}

const REPLICAS: usize = 3;

impl Fleet {
    async fn new(prompt: i64) -> Self {
        Self::with(prompt, Bank::open().await, &[]).await
    }

    async fn with(prompt: i64, bank: Bank, settings: &[(&str, &str)]) -> Self {
        let answer = format!(
            r#"{{"id":"c","model":"gpt-4o","choices":[],"usage":{{"prompt_tokens":{prompt},"completion_tokens":{COMPLETION}}}}}"#
        );
        let upstream = Upstream::answering(json(&answer)).await;
        let mut all = vec![("LOG_LEVEL", "warn")];
        all.extend(settings);
        let gateways = (0..REPLICAS).map(|_| Turnpike::start(&bank.db, &upstream.url(), &all));
        Self {
            gateways: gateways.collect(),
            bank,
            _upstream: upstream,
        }
    }

    /// The account has this much and no more, nano-USD.
    async fn endow(&self, balance: i64) {
        let statement = "insert into turnpike.credit (account_id, amount, note) select id, $1 - balance, 'test' from turnpike.account";
        self.bank.sql.execute(statement, &[&balance]).await.unwrap();
    }

    /// So many tokens without limits of their own.
    async fn tokens(&self, number: usize) -> Vec<String> {
        let mut tokens = Vec::new();
        for _ in 0..number {
            tokens.push(self.bank.token("").await);
        }
        tokens
    }

    /// One call by the gateway whose turn it is.
    async fn call(&self, number: usize, token: &str) -> u16 {
        let gateway = &self.gateways[number % REPLICAS];
        let (head, body) = gateway.post("/v1/chat/completions", token, CHAT).await;
        assert!(
            [200, 429, 401].contains(&head.status()),
            "{}: {}",
            head.status(),
            String::from_utf8_lossy(&body)
        );
        head.status()
    }

    /// All the calls by all the clients at once, each on a connection of its own, with these tokens in turn: how many passed. The
    /// others were refused for want of money or quota.
    async fn storm(&self, size: &Size, tokens: &[String]) -> i64 {
        let (number, calls) = (Arc::new(AtomicUsize::new(0)), size.calls);
        let mut clients = JoinSet::new();
        for client in 0..size.clients {
            let address = self.gateways[client % REPLICAS].clients;
            let token = &tokens[client % tokens.len()];
            let request = post("/v1/chat/completions", token, CHAT);
            let number = Arc::clone(&number);
            clients.spawn(async move {
                let mut wire = Wire::connect(address).await;
                let mut passed = 0;
                while number.fetch_add(1, Ordering::Relaxed) < calls {
                    wire.send(&request).await;
                    let (head, body) = patiently("an answer", wire.read_message()).await;
                    match (head.status(), head.header("x-turnpike-refusal")) {
                        (200, None) => passed += 1,
                        (429, Some("insufficient_quota")) => {}
                        other => panic!("{other:?}: {}", String::from_utf8_lossy(&body)),
                    }
                }
                passed
            });
        }
        clients.join_all().await.into_iter().sum()
    }

    /// Nothing is held, nothing is leased any more, and the books are right.
    async fn at_rest(&self) {
        self.bank.audited().await;
        eventually("every lease is returned", async || {
            let leased = "select coalesce(sum(money) + sum(prompt) + sum(completion), 0)::bigint from turnpike.lease";
            (self.bank.one::<i64>(leased).await == 0).then_some(())
        })
        .await;
        self.bank.audited().await;
    }

    async fn balance(&self) -> i64 {
        self.bank.one("select balance from turnpike.account").await
    }

    async fn charges(&self) -> i64 {
        self.bank.one("select count(*) from turnpike.charge").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_pays_for_exactly_what_it_affords() {
    let fleet = Fleet::new(PROMPT).await;
    affords_exactly(&fleet, 1).await;
}

/// Each gateway has an allowance for each token, and all are of one balance.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_many_tokens_pays_for_exactly_what_it_affords() {
    let fleet = Fleet::new(PROMPT).await;
    affords_exactly(&fleet, TOKENS).await;
}

/// Not a multiple of the gateways: each token comes by each of them.
const TOKENS: usize = 4;

/// Charges only ever take from the balance, so it was never below where it ends.
async fn affords_exactly(fleet: &Fleet, tokens: usize) {
    let size = size();
    fleet.endow(BOUND * size.affordable).await;
    let tokens = fleet.tokens(tokens).await;
    assert_eq!(fleet.storm(&size, &tokens).await, size.affordable);
    assert_eq!(
        (fleet.balance().await, fleet.charges().await),
        (0, size.affordable)
    );
    fleet.at_rest().await;
}

/// Calls that run at the same time need their holds at the same time, so the storm may leave something. What it leaves is there
/// for whoever asks next, by whichever gateway: as if there were one.
#[tokio::test(flavor = "multi_thread")]
async fn what_holds_keep_from_others_is_there_in_the_end() {
    let fleet = Fleet::new(LESS_PROMPT).await;
    let size = size();
    // So many fit one after the other, the last by its bound.
    let budget = LESS * (size.affordable - 1) + BOUND;
    fleet.endow(budget).await;
    let tokens = fleet.tokens(TOKENS).await;
    let mut passed = fleet.storm(&size, &tokens).await;
    assert!((1..=size.affordable).contains(&passed), "{passed}");
    fleet.bank.audited().await;
    for number in 0.. {
        let fits = fleet.balance().await >= BOUND;
        let status = fleet.call(number, &tokens[number % TOKENS]).await;
        assert_eq!(
            status,
            if fits { 200 } else { 429 },
            "after {passed} with {}",
            fleet.balance().await
        );
        if !fits {
            break;
        }
        passed += 1;
    }
    assert_eq!(
        (passed, fleet.charges().await),
        (size.affordable, size.affordable)
    );
    assert_eq!(fleet.balance().await, budget - LESS * size.affordable);
    assert!((0..BOUND).contains(&fleet.balance().await));
    fleet.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_s_budget_is_spent_to_the_last_and_no_further() {
    capped("budget_usd", BOUND, "t.budget - c.spent").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_s_budget_is_spent_to_the_last_and_no_further() {
    capped("budget_day_usd", BOUND, "t.budget_day - c.spent_day").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_prompt_tokens_is_used_to_the_last_and_no_further() {
    capped(
        "prompt_tokens_month",
        PROMPT,
        "t.prompt_tokens_month - c.prompt_month",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_completion_tokens_is_used_to_the_last_and_no_further() {
    capped(
        "completion_tokens",
        COMPLETION,
        "t.completion_tokens - c.completion",
    )
    .await;
}

/// A token with one cap that its account's money outlasts. `each` is what a call takes of the cap, `left` what is left of it.
async fn capped(cap: &str, each: i64, left: &str) {
    let fleet = Fleet::new(PROMPT).await;
    let size = size();
    let limit = each * size.affordable;
    let limit = if cap.ends_with("_usd") {
        Amount::from_nano(limit).to_string()
    } else {
        limit.to_string()
    };
    let today = "select (now() at time zone 'UTC')::date::text";
    loop {
        let day: String = fleet.bank.one(today).await;
        let token = fleet.bank.token(&format!(", {cap} => {limit}")).await;
        let passed = fleet.storm(&size, &[token]).await;
        if fleet.bank.one::<String>(today).await != day {
            // Midnight (UTC) came in between, and with it a new day's allowance: once more.
            continue;
        }
        assert_eq!(passed, size.affordable, "{cap}");
        let left = format!(
            "select {left} from turnpike.access_token as t join turnpike.access_token_counter as c on c.token_id = t.id order by t.id desc limit 1"
        );
        assert_eq!(fleet.bank.one::<i64>(&left).await, 0, "{cap}");
        fleet.at_rest().await;
        return;
    }
}

/// Connections to Postgres of all three gateways together: fewer than a single one opens.
const POOL: u32 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_transaction_mode_changes_nothing() {
    let bank = Bank::open().await;
    let pgbouncer = Pgbouncer::start(&bank.db, POOL).await;
    let (pooled, direct) = (pgbouncer.url(&bank.db), bank.db.url());
    let settings = [
        ("DATABASE_URL", pooled.as_str()),
        ("DATABASE_DIRECT_URL", direct.as_str()),
    ];
    let fleet = Fleet::with(PROMPT, bank, &settings).await;
    affords_exactly(&fleet, TOKENS).await;
    // A word to all of them comes by the direct connection.
    let token = fleet.bank.token("").await;
    fleet
        .bank
        .sql
        .execute("select turnpike.top_up('alice', 1, 'more')", &[])
        .await
        .unwrap();
    for number in 0..REPLICAS {
        eventually("it is felt", async || {
            (fleet.call(number, &token).await == 200).then_some(())
        })
        .await;
    }
    fleet
        .bank
        .sql
        .execute("select turnpike.revoke_token($1)", &[&token])
        .await
        .unwrap();
    for number in 0..REPLICAS {
        eventually("it is felt", async || {
            (fleet.call(number, &token).await == 401).then_some(())
        })
        .await;
    }
    fleet.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_money_and_a_higher_cap_are_felt_by_every_gateway() {
    let fleet = Fleet::new(PROMPT).await;
    fleet.endow(BOUND * 2).await;
    let token = fleet.bank.token(", label => 'low', budget_usd => 0").await;
    let refused = async |number| assert_eq!(fleet.call(number, &token).await, 429);
    for number in 0..REPLICAS {
        refused(number).await;
    }
    let raise = async |statement: &str, passes: usize| {
        fleet.bank.sql.batch_execute(statement).await.unwrap();
        for number in 0..passes {
            eventually("it is felt", async || {
                (fleet.call(number, &token).await == 200).then_some(())
            })
            .await;
        }
    };
    // The cap first: then the account is what there is too little of.
    raise("update turnpike.access_token set budget = 1000000000000", 2).await;
    for number in 0..REPLICAS {
        refused(number).await;
    }
    let top_up = format!(
        "select turnpike.top_up('alice', {}, 'more')",
        Amount::from_nano(BOUND * 3)
    );
    raise(&top_up, 3).await;
    for number in 0..REPLICAS {
        refused(number).await;
    }
    // A credit limit is a kind of money, and no limit is an endless kind.
    let limit = format!(
        "select turnpike.set_credit_limit('alice', {})",
        Amount::from_nano(BOUND)
    );
    raise(&limit, 1).await;
    refused(1).await;
    raise("select turnpike.set_credit_limit('alice', null)", 6).await;
    assert_eq!(fleet.balance().await, -BOUND * 7);
    fleet.at_rest().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_cap_and_a_revoked_token_are_felt_by_every_gateway() {
    let fleet = Fleet::new(PROMPT).await;
    let capped = fleet.bank.token(", budget_usd => 10").await;
    let revoked = fleet.bank.token("").await;
    for token in [&capped, &revoked] {
        for number in 0..REPLICAS * 2 {
            assert_eq!(fleet.call(number, token).await, 200);
        }
    }
    // Each gateway may have an allowance for both by now. It is worth nothing any more.
    let cap = format!(
        "update turnpike.access_token set budget = {} where budget is not null",
        BOUND * 6
    );
    fleet.bank.sql.batch_execute(&cap).await.unwrap();
    fleet
        .bank
        .sql
        .execute("select turnpike.revoke_token($1)", &[&revoked])
        .await
        .unwrap();
    for (token, status) in [(&capped, 429), (&revoked, 401)] {
        for number in 0..REPLICAS {
            eventually("it is felt", async || {
                (fleet.call(number, token).await == status).then_some(())
            })
            .await;
            // And stays felt.
            assert_eq!(fleet.call(number, token).await, status);
        }
    }
    fleet.at_rest().await;
}

/// Nobody is short, so nobody asks for them back.
#[tokio::test(flavor = "multi_thread")]
async fn allowances_come_back_from_gateways_that_end_and_from_idle_ones() {
    let mut fleet = Fleet::new(PROMPT).await;
    let token = fleet.bank.token(", budget_usd => 10").await;
    for number in 0..REPLICAS * 2 {
        assert_eq!(fleet.call(number, &token).await, 200);
    }
    let mut ending = fleet.gateways.remove(0);
    ending.signal("TERM");
    assert!(ending.ended().await.success());
    let of_ended = "select count(*) from turnpike.lease as l join turnpike.instance as i on i.id = l.instance_id
        where i.stopped_at is not null and greatest(l.money, l.prompt, l.completion) > 0";
    assert_eq!(fleet.bank.one::<i64>(of_ended).await, 0);
    let ended = "select count(*) from turnpike.instance where stopped_at is not null";
    assert_eq!(fleet.bank.one::<i64>(ended).await, 1);
    fleet.at_rest().await;
}
