//! Upstreams that cannot be trusted, or do not finish shaking hands.

use testkit::{
    tls::Identity,
    upstream::{Upstream, json},
};

use super::{JSON, Seen, ask, chat, nothing_left};
use crate::support::{Bank, Turnpike};

#[tokio::test]
async fn an_upstream_without_a_certificate_that_holds_gets_nothing() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let good = Identity::new(&["127.0.0.1"]);
    let cases = [
        ("expired", Identity::expired(&["127.0.0.1"]), None),
        (
            "another's name",
            Identity::new(&["elsewhere.example"]),
            None,
        ),
        (
            "an unknown authority",
            Identity::new(&["127.0.0.1"]),
            Some(good.roots()),
        ),
        (
            "signed by itself",
            Identity::self_signed(&["127.0.0.1"]),
            Some(good.roots()),
        ),
    ];
    for (name, identity, roots) in cases {
        let answer = json(JSON);
        let upstream =
            Upstream::scripted_tls(identity.server_config(&["http/1.1"]), move |mut wire| {
                let answer = answer.clone();
                async move {
                    wire.read_message().await;
                    wire.send(answer).await;
                }
            })
            .await;
        let roots = roots.unwrap_or_else(|| identity.roots());
        let url = upstream.url().replace("http:", "https:");
        let turnpike = Turnpike::start(
            &bank.db,
            &url,
            &[("SSL_CERT_FILE", roots.to_str().unwrap())],
        );
        let got = ask(turnpike.clients, &token, &chat("prompt-canary", false)).await;
        let refused = Seen::Refused(502, "upstream_unreachable".to_owned());
        assert_eq!(got.seen(), refused, "{name}");
        for received in upstream.received() {
            assert!(received.bytes().is_empty(), "{name}: it was told something");
        }
        nothing_left(&bank, &turnpike).await;
    }
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        0
    );
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_given_up() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let upstream = Upstream::scripted(|mut wire| async move {
        while wire.has_more().await {
            wire.read_exact(1).await;
        }
    })
    .await;
    let url = upstream.url().replace("http:", "https:");
    let turnpike = Turnpike::start(&bank.db, &url, &[("CONNECT_TIMEOUT_SECONDS", "1")]);
    let got = ask(turnpike.clients, &token, &chat("hello", false)).await;
    let refused = Seen::Refused(504, "upstream_timeout".to_owned());
    assert_eq!(got.seen(), refused);
    nothing_left(&bank, &turnpike).await;
}
