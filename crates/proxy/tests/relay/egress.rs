//! The way out through an HTTP or a SOCKS5 proxy, both scripted to the byte.

use testkit::raw::Wire;
use testkit::upstream::Upstream;
use testkit::upstream::json;

use crate::relay::Relay;

const GET: &str = "GET /v1/models HTTP/1.1\r\nHost: gw\r\n\r\n";

async fn get(relay: Relay) -> (u16, Vec<u8>) {
    let relay = relay.start();
    let mut client = relay.connect().await;
    client.send(GET).await;
    let (head, body) = client.read_message().await;
    (head.status(), body)
}

/// Answers one request as the upstream behind the tunnel would.
async fn be_the_upstream(wire: &mut Wire) {
    let head = wire.read_head().await;
    assert_eq!(head.start, "GET /v1/models HTTP/1.1");
    assert_eq!(head.header("host"), Some("api.example:8000"));
    wire.send(json("through")).await;
    wire.has_more().await;
}

#[tokio::test]
async fn an_http_proxy_is_asked_to_connect() {
    let proxy = Upstream::scripted(|mut wire| async move {
        let head = wire.read_head().await;
        assert_eq!(head.start, "CONNECT api.example:8000 HTTP/1.1");
        // "me:p@ss"
        assert_eq!(
            head.header("proxy-authorization"),
            Some("Basic bWU6cEBzcw==")
        );
        wire.send("HTTP/1.1 200 Connection established\r\n\r\n")
            .await;
        be_the_upstream(&mut wire).await;
    })
    .await;
    let url = format!("http://me:p%40ss@{}", proxy.address());
    let relay = Relay::to("http://api.example:8000").through(&url);
    assert_eq!(get(relay).await, (200, b"through".to_vec()));
}

#[tokio::test]
async fn an_http_proxy_that_refuses_is_reported() {
    let proxy = Upstream::answering(
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let relay = Relay::to("http://api.example:8000").through(&proxy.url());
    assert_eq!(get(relay).await, (502, b"Connect".to_vec()));
}

/// RFC 1928, and RFC 1929 for user and password. The name is resolved by the proxy.
#[tokio::test]
async fn a_socks_proxy_resolves_the_name_and_knows_who_asks() {
    let proxy = Upstream::scripted(|mut wire| async move {
        assert_eq!(wire.read_exact(3).await, [5, 1, 2]);
        wire.send([5, 2]).await;
        assert_eq!(wire.read_exact(10).await, *b"\x01\x02me\x05p@ss:");
        wire.send([1, 0]).await;
        assert_eq!(
            wire.read_exact(18).await,
            *b"\x05\x01\x00\x03\x0bapi.example\x1f\x40"
        );
        wire.send([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        be_the_upstream(&mut wire).await;
    })
    .await;
    for scheme in ["socks5", "socks5h"] {
        let url = format!("{scheme}://me:p%40ss%3A@{}", proxy.address());
        let relay = Relay::to("http://api.example:8000").through(&url);
        assert_eq!(get(relay).await, (200, b"through".to_vec()));
    }
}

#[tokio::test]
async fn a_socks_proxy_without_users_is_used_without() {
    let proxy = Upstream::scripted(|mut wire| async move {
        assert_eq!(wire.read_exact(3).await, [5, 1, 0]);
        wire.send([5, 0]).await;
        wire.read_exact(18).await;
        wire.send([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        be_the_upstream(&mut wire).await;
    })
    .await;
    let relay =
        Relay::to("http://api.example:8000").through(&format!("socks5://{}", proxy.address()));
    assert_eq!(get(relay).await, (200, b"through".to_vec()));
}
