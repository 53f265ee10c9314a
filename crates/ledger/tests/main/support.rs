//! What most tests start from: an account with money, an access token, a price, and a ledger.

use std::time::Duration;

use ledger::{
    AccountId, Charge, End, Evidence, Hold, HoldRequest, Ledger, Mark, Means, TakeError, TokenId,
};
use tariff::{Amount, Buckets, Flags, PriceId};
use testkit::postgres::TestDb;
use tokio_postgres::Client;
use uuid::Uuid;

/// A database with account `alice`, her token and a price.
pub(crate) struct Books {
    pub(crate) db: TestDb,
    pub(crate) client: Client,
    pub(crate) account: AccountId,
    pub(crate) token: TokenId,
    pub(crate) secret: String,
    pub(crate) price: PriceId,
}

impl Books {
    /// With so much on the account, nano-USD.
    pub(crate) async fn with(balance: i64) -> Self {
        let db = TestDb::new().await;
        let client = db.client().await;
        let account = client
            .query_one("select turnpike.create_account('alice')", &[])
            .await
            .unwrap()
            .get(0);
        if balance != 0 {
            client.execute("insert into turnpike.credit (account_id, amount, note) values ($1, $2, 'start')", &[&account, &balance]).await.unwrap();
        }
        let row = client
            .query_one(
                "select token, token_id from turnpike.issue_token('alice')",
                &[],
            )
            .await
            .unwrap();
        let price = client
            .query_one(
                "select turnpike.set_price('gpt-4o', input => 2.5, output => 10)",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        Self {
            db,
            client,
            account: AccountId(account),
            token: TokenId(row.get(1)),
            secret: row.get(0),
            price: PriceId(price),
        }
    }

    pub(crate) async fn ledger(&self) -> Ledger {
        Ledger::connect(self.db.config()).await.unwrap()
    }

    pub(crate) fn want(&self, nano: i64) -> HoldRequest {
        HoldRequest {
            exchange: Uuid::now_v7(),
            token: self.token,
            account: self.account,
            means: money(nano),
            evidence: evidence(self.price),
        }
    }

    pub(crate) fn charge(&self, nano: i64) -> Charge {
        charge(self.price, nano)
    }

    /// One number out of the database.
    pub(crate) async fn number(&self, statement: &str) -> i64 {
        self.client.query_one(statement, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn balance(&self) -> i64 {
        self.number("select balance from turnpike.account where name = 'alice'")
            .await
    }

    /// What running processes may still spend of the account.
    pub(crate) async fn leased(&self) -> i64 {
        self.number("select leased from turnpike.account where name = 'alice'")
            .await
    }

    /// Waits until the evidence of open exchanges comes to so much.
    pub(crate) async fn until_held(&self, nano: i64) {
        self.until(
            "select coalesce(sum(amount), 0)::bigint from turnpike.hold",
            nano,
        )
        .await;
    }

    /// Waits until a number out of the database is this one.
    pub(crate) async fn until(&self, statement: &str, expected: i64) {
        eventually(statement, async || {
            (self.number(statement).await == expected).then_some(())
        })
        .await;
    }

    pub(crate) async fn audit_is_empty(&self) {
        let rows = self
            .client
            .query(
                "select rule, subject, expected::text, found::text from turnpike.audit",
                &[],
            )
            .await
            .unwrap();
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                (0..4)
                    .map(|at| row.get::<_, String>(at))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert!(rows.is_empty(), "{rows:#?}");
    }
}

/// So much money, and more tokens than any test counts.
pub(crate) fn money(nano: i64) -> Means {
    Means {
        money: Amount::from_nano(nano),
        prompt: 1_000,
        completion: 1_000,
    }
}

pub(crate) fn evidence(price: PriceId) -> Evidence {
    Evidence {
        model: "gpt-4o".into(),
        endpoint: "chat/completions".into(),
        price,
        input_rate: 2_500_000_000,
        output_rate: 10_000_000_000,
        input_tokens: 0,
        whole: false,
        stream: true,
        started_at_ms: now_ms(),
        upstream: None,
        upstream_key: None,
    }
}

/// Asks again until there is an answer; gives up when there is none for very long.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(std::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn charge(price: PriceId, nano: i64) -> Charge {
    Charge {
        price,
        amount: Amount::from_nano(nano),
        mark: Mark::Measured,
        model_requested: "gpt-4o".into(),
        model_answered: Some("gpt-4o-2024-08-06".into()),
        endpoint: "chat/completions".into(),
        service_tier: Some("default".into()),
        stream: true,
        buckets: Buckets {
            in_text: 53,
            out_text: 15,
            ..Buckets::default()
        },
        usage_raw: Some(r#"{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}"#.into()),
        flags: Flags::default(),
        provider_cost: None,
        status: 200,
        end: End::Complete,
        upstream: None,
        upstream_key: None,
        response_id: Some("chatcmpl-1".into()),
        key: None,
        object: None,
        started_at_ms: now_ms(),
        head_after_ms: Some(120),
        first_byte_after_ms: Some(130),
        ended_after_ms: 900,
    }
}

pub(crate) fn now_ms() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

pub(crate) fn digest(secret: &str) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(secret).into()
}

/// A hold that must fit.
pub(crate) async fn take(ledger: &Ledger, want: HoldRequest) -> Hold {
    ledger.take(want).await.unwrap()
}

pub(crate) fn refusal(answer: Result<Hold, TakeError>) -> TakeError {
    match answer {
        Ok(hold) => {
            drop(hold.release());
            panic!("a hold was taken that should not fit")
        }
        Err(error) => error,
    }
}
