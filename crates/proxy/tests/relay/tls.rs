//! TLS on both sides.

use std::time::Duration;

use proxy::Doors;
use proxy::DoorsLimits;
use proxy::tls;
use proxy::tls::Roots;
use testkit::tls::Identity;
use testkit::upstream::Upstream;
use testkit::upstream::json;

use crate::relay::Relay;
use crate::relay::answering;
use crate::relay::limits;
use crate::relay::serve_with;
use crate::relay::whole;

const GET: &str = "GET / HTTP/1.1\r\nHost: gw\r\n\r\n";

async fn get(relay: Relay) -> (u16, Vec<u8>) {
    let relay = relay.start();
    let mut client = relay.connect().await;
    client.send(GET).await;
    let (head, body) = client.read_message().await;
    (head.status(), body)
}

#[tokio::test]
async fn an_upstream_without_alpn_gets_http1() {
    let identity = Identity::new(&["localhost"]);
    let upstream = Upstream::scripted_tls(identity.server_config(&[]), |mut wire| async move {
        wire.read_message().await;
        wire.send(json("secret")).await;
    })
    .await;
    let url = format!("https://localhost:{}", upstream.address().port());
    let roots = Roots::File(identity.roots());
    assert_eq!(
        get(Relay::trusting(&url, limits(), &roots)).await,
        (200, b"secret".to_vec())
    );
}

#[tokio::test]
async fn an_upstream_nobody_vouches_for_is_not_talked_to() {
    let (identity, stranger) = (Identity::new(&["localhost"]), Identity::new(&["localhost"]));
    let upstream = Upstream::scripted_tls(identity.server_config(&[]), |mut wire| async move {
        wire.read_to_end().await;
    })
    .await;
    let url = format!("https://localhost:{}", upstream.address().port());
    for roots in [Roots::File(stranger.roots()), Roots::Platform] {
        assert_eq!(
            get(Relay::trusting(&url, limits(), &roots)).await,
            (502, b"Tls".to_vec())
        );
    }
    // The right authority, but for another name.
    let url = format!("https://127.0.0.1:{}", upstream.address().port());
    let roots = Roots::File(identity.roots());
    assert_eq!(
        get(Relay::trusting(&url, limits(), &roots)).await,
        (502, b"Tls".to_vec())
    );
    assert!(
        upstream
            .received()
            .iter()
            .all(|wire| wire.bytes().is_empty())
    );
}

/// Doors with TLS in front, relays with TLS behind, in both versions of HTTP.
#[tokio::test]
async fn alpn_decides_between_http1_and_http2() {
    let identity = Identity::new(&["localhost"]);
    for (alpn, expected) in [
        (&["h2", "http/1.1"][..], "HTTP/2.0"),
        (&["http/1.1"], "HTTP/1.1"),
    ] {
        let config = identity.server_config(alpn);
        let behind = serve_with(
            Doors::new(DoorsLimits::default()).with_tls(config),
            answering(|request| async move {
                let version = format!("{:?}", request.version());
                Ok(http::Response::new(whole(&version)))
            }),
            Duration::ZERO,
        );
        let url = format!("https://localhost:{}", behind.address.port());
        let roots = Roots::File(identity.roots());
        let answer = get(Relay::trusting(&url, limits(), &roots)).await;
        assert_eq!(answer, (200, expected.as_bytes().to_vec()));
    }
}

#[tokio::test]
async fn a_handshake_that_never_comes_has_an_end() {
    let identity = Identity::new(&["localhost"]);
    let config = tls::server_config(&identity.certificate(), &identity.key()).unwrap();
    let limits = DoorsLimits {
        handshake_timeout: Duration::from_millis(20),
        ..DoorsLimits::default()
    };
    let doors = Doors::new(limits).with_tls(config);
    let server = serve_with(
        doors,
        answering(|_| async { Err(proxy::Abort) }),
        Duration::ZERO,
    );
    let mut client = server.connect().await;
    assert!(client.read_to_end().await.0.is_empty());
}

#[test]
fn a_file_that_will_not_do_is_named() {
    let identity = Identity::new(&["localhost"]);
    let (certificate, key) = (identity.certificate(), identity.key());
    let missing = identity.roots().with_file_name("missing.pem");
    let wrong = [
        (tls::server_config(&missing, &key).err(), "missing.pem"),
        (
            tls::server_config(&certificate, &missing).err(),
            "missing.pem",
        ),
        (
            tls::server_config(&key, &key).err(),
            "key.pem does not hold a certificate",
        ),
        (
            tls::server_config(&certificate, &certificate).err(),
            "certificate.pem does not hold a private key",
        ),
        (
            tls::server_config(&identity.roots(), &key).err(),
            "key.pem do not make a server",
        ),
        (
            tls::client_config(&Roots::File(missing.clone())).err(),
            "missing.pem",
        ),
    ];
    for (error, expected) in wrong {
        let text = error.unwrap().to_string();
        assert!(text.contains(expected), "{text}");
    }
}
