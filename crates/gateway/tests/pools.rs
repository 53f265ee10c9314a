//! Several keys of an upstream and several upstreams of a model: who is asked while some of them refuse or are away.

use testkit::upstream::{Upstream, answer, json};

use crate::support::{Bank, Turnpike, eventually};

const CHAT: &str = r#"{"model":"gpt-4o","messages":[]}"#;
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;
/// Nothing listens there.
const AWAY: &str = "http://127.0.0.1:1/v1";

/// Answers by the key that is shown: `limited` and `refused` get errors, any other an answer.
async fn provider() -> Upstream {
    Upstream::scripted(|mut wire| async move {
        while wire.has_more().await {
            let (head, _) = wire.read_message().await;
            let said = match head.header("authorization") {
                Some("Bearer limited") => {
                    answer("429 Too Many Requests", &[("retry-after", "300")], "{}")
                }
                Some("Bearer refused") => answer("401 Unauthorized", &[], "{}"),
                _ => json(ANSWER),
            };
            wire.send(said).await;
        }
    })
    .await
}

async fn statuses(gateway: &Turnpike, token: &str, calls: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..calls {
        let (head, _) = gateway.post("/v1/chat/completions", token, CHAT).await;
        statuses.push(head.status());
    }
    statuses
}

#[tokio::test]
async fn a_limited_key_rests_and_the_others_go_on() {
    let bank = Bank::open().await;
    let provider = provider().await;
    let url = provider.url();
    bank.sql
        .batch_execute(&format!(
            "select turnpike.set_upstream('main', '{url}/v1');
             select turnpike.set_upstream_keys('main', '{{good,limited,better}}');"
        ))
        .await
        .unwrap();
    let gateway = Turnpike::start(&bank.db, &provider.url(), &[]);
    let token = bank.token("").await;
    let statuses = statuses(&gateway, &token, 12).await;
    let limited = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(limited, 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 11);
    let (_, metrics) = gateway.admin("/metrics").await;
    for key in [(1, 0), (2, 1), (3, 0)] {
        let line = format!(
            "turnpike_upstream_key_resting{{upstream=\"main\",key=\"{}\"}} {}",
            key.0, key.1
        );
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    // A new price makes a new catalog; the key rests on.
    bank.sql
        .batch_execute("select turnpike.set_price('other', input => 1)")
        .await
        .unwrap();
    let again = self::statuses(&gateway, &token, 6).await;
    assert_eq!(again, [200; 6]);
    bank.audited().await;
}

#[tokio::test]
async fn a_refused_key_is_taken_out_and_told_of() {
    let bank = Bank::open().await;
    let provider = provider().await;
    let url = provider.url();
    bank.sql
        .batch_execute(&format!(
            "select turnpike.set_upstream('main', '{url}/v1');
             select turnpike.set_upstream_keys('main', '{{good,refused}}');"
        ))
        .await
        .unwrap();
    let gateway = Turnpike::start(&bank.db, &provider.url(), &[]);
    let token = bank.token("").await;
    let statuses = statuses(&gateway, &token, 8).await;
    assert_eq!(
        statuses.iter().filter(|status| **status == 502).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 7);
    assert!(
        gateway.log().contains("upstream.key_refused"),
        "{}",
        gateway.log()
    );
    bank.audited().await;
}

#[tokio::test]
async fn where_every_key_rests_they_are_asked_all_the_same() {
    let bank = Bank::open().await;
    let provider = provider().await;
    let url = provider.url();
    bank.sql
        .batch_execute(&format!(
            "select turnpike.set_upstream('main', '{url}/v1', key => 'limited')"
        ))
        .await
        .unwrap();
    let gateway = Turnpike::start(&bank.db, &provider.url(), &[]);
    let token = bank.token("").await;
    assert_eq!(statuses(&gateway, &token, 3).await, [429; 3]);
    bank.audited().await;
}

#[tokio::test]
async fn a_request_without_a_connection_moves_to_the_model_s_next_upstream() {
    let bank = Bank::open().await;
    let provider = provider().await;
    let url = provider.url();
    bank.sql
        .batch_execute(&format!(
            "select turnpike.set_upstream('first', '{AWAY}', key => 'a');
             select turnpike.set_upstream('second', '{url}/v1', key => 'b', priority => 1);"
        ))
        .await
        .unwrap();
    let gateway = Turnpike::start(&bank.db, &provider.url(), &[]);
    let token = bank.token("").await;
    assert_eq!(statuses(&gateway, &token, 5).await, [200; 5]);
    let charged: i64 = bank
        .one("select count(*) from turnpike.charge as c join turnpike.upstream as u on u.id = c.upstream_id where u.name = 'second'")
        .await;
    assert_eq!(charged, 5);
    // After three failures in a row the first is not asked any more.
    let failed = gateway.log().matches("upstream.no_answer").count();
    assert_eq!(failed, 3, "{}", gateway.log());
    assert!(gateway.log().contains("upstream.key_rests"));
    bank.audited().await;
}

#[tokio::test]
async fn a_request_whose_last_byte_was_sent_never_moves() {
    let bank = Bank::open().await;
    let second = provider().await;
    let url = second.url();
    let closing = Upstream::scripted(|mut wire| async move {
        wire.read_message().await;
    })
    .await;
    let first = closing.url();
    bank.sql
        .batch_execute(&format!(
            "select turnpike.set_upstream('first', '{first}/v1', key => 'a');
             select turnpike.set_upstream('second', '{url}/v1', key => 'b', priority => 1);"
        ))
        .await
        .unwrap();
    let gateway = Turnpike::start(&bank.db, &second.url(), &[]);
    let token = bank.token("").await;
    let (head, _) = gateway.post("/v1/chat/completions", &token, CHAT).await;
    assert_eq!(head.status(), 502);
    assert_eq!(head.header("x-should-retry"), Some("false"));
    assert_eq!(second.connections(), 0);
    bank.audited().await;
}

#[tokio::test]
async fn without_another_upstream_a_request_that_gets_no_connection_is_refused_once() {
    let bank = Bank::open().await;
    bank.sql
        .batch_execute(&format!(
            "select turnpike.set_upstream('first', '{AWAY}', key => 'a');
             select turnpike.set_upstream('second', 'http://127.0.0.1:2/v1', key => 'b', priority => 1);
             select turnpike.set_upstream('claude', 'http://127.0.0.1:3/v1', key => 'c', priority => 2, dialect => 'anthropic');"
        ))
        .await
        .unwrap();
    let gateway = Turnpike::start(&bank.db, "http://127.0.0.1:4", &[]);
    let token = bank.token("").await;
    let (head, _) = gateway.post("/v1/chat/completions", &token, CHAT).await;
    assert_eq!(head.status(), 502);
    // One of another dialect would not understand it.
    eventually("both tries are told", async || {
        (gateway.log().matches("upstream.no_answer").count() == 2).then_some(())
    })
    .await;
    bank.audited().await;
}
