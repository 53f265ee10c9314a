//! A certificate is renewed without a restart: open connections go on, new ones get the new one, a broken one is not taken.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;
use testkit::{
    raw::Wire,
    tls::Identity,
    upstream::{Upstream, json},
};

use crate::support::{Bank, Turnpike, eventually, paused_stream, post};

const STREAM: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"max_tokens":20,"messages":[]}"#;
const DELTA: &str = r#"{"choices":[{"delta":{"content":"Hi"}}]}"#;
const USAGE: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":15,"total_tokens":17}}"#;

/// The files that the gateway was told of.
struct Files {
    dir: TempDir,
}

impl Files {
    fn holding(identity: &Identity) -> Self {
        let files = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        files.put(identity);
        files
    }

    /// As most tools do it: one file after the other, so that for a moment they do not fit.
    fn put(&self, identity: &Identity) {
        self.copy(&identity.key(), &self.key());
        self.copy(&identity.certificate(), &self.certificate());
    }

    fn copy(&self, from: &Path, to: &Path) {
        let fresh = self.dir.path().join("fresh");
        std::fs::copy(from, &fresh).unwrap();
        std::fs::rename(fresh, to).unwrap();
    }

    fn certificate(&self) -> PathBuf {
        self.dir.path().join("tls.crt")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("tls.key")
    }

    fn settings(&self) -> [(&'static str, String); 2] {
        [("TLS_CERT", self.certificate()), ("TLS_KEY", self.key())]
            .map(|(name, path)| (name, path.display().to_string()))
    }
}

async fn start(bank: &Bank, upstream: &Upstream, files: &Files) -> Turnpike {
    let settings = files.settings();
    let settings = [
        (settings[0].0, settings[0].1.as_str()),
        (settings[1].0, settings[1].1.as_str()),
    ];
    Turnpike::start(&bank.db, &upstream.url(), &settings)
}

/// Whether new connections get this identity's certificate.
async fn shows(turnpike: &Turnpike, identity: &Identity) -> bool {
    Wire::connect_tls(turnpike.clients, identity).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_files_are_shown_to_new_connections_and_open_ones_go_on() {
    let bank = Bank::open().await;
    let token = bank.token("").await;
    let [first, second] = [(); 2].map(|()| Identity::new(&["127.0.0.1"]));
    let files = Files::holding(&first);
    let (upstream, go_on) = paused_stream(&[DELTA], &[USAGE, "[DONE]"]).await;
    let turnpike = start(&bank, &upstream, &files).await;
    let mut open = Wire::connect_tls(turnpike.clients, &first).await.unwrap();
    open.send(post("/v1/chat/completions", &token, STREAM))
        .await;
    open.read_until(format!("data: {DELTA}\n\n")).await;

    files.put(&second);
    // Nobody tells it.
    eventually("the new certificate is shown", async || {
        shows(&turnpike, &second).await.then_some(())
    })
    .await;
    assert!(!shows(&turnpike, &first).await);
    assert!(turnpike.log().contains("certificate.renewed"));

    go_on.release();
    open.read_until("data: [DONE]\n\n").await;
    open.read_until("0\r\n\r\n").await;
    // And it is good for another call.
    open.send(format!("GET /v1/dashboard/billing/credit_grants HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n\r\n"))
        .await;
    assert_eq!(open.read_message().await.0.status(), 200);
    bank.audited().await;
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge where mark = 'measured'")
            .await,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_fit_are_told_and_not_taken() {
    let bank = Bank::open().await;
    let [first, second] = [(); 2].map(|()| Identity::new(&["127.0.0.1"]));
    let files = Files::holding(&first);
    let upstream = Upstream::answering(json("{}")).await;
    let turnpike = start(&bank, &upstream, &files).await;
    let said = async |what: &str| {
        eventually(what, async || turnpike.log().contains(what).then_some(())).await;
    };

    std::fs::write(files.certificate(), "not a certificate").unwrap();
    turnpike.signal("HUP");
    said("tls.crt does not hold a certificate in PEM form").await;
    said("clients get the certificate of before").await;
    assert!(shows(&turnpike, &first).await);

    // The key of another.
    files.copy(&second.certificate(), &files.certificate());
    turnpike.signal("HUP");
    said("do not make a server").await;
    assert!(shows(&turnpike, &first).await);

    std::fs::remove_file(files.key()).unwrap();
    turnpike.signal("HUP");
    said("tls.key: No such file").await;
    assert!(shows(&turnpike, &first).await);

    files.put(&second);
    turnpike.signal("HUP");
    said("certificate.renewed").await;
    assert!(shows(&turnpike, &second).await);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(
        turnpike.figure("certificate_expires_at_seconds").await
            > i64::try_from(now.as_secs()).unwrap()
    );
}

#[tokio::test]
async fn a_hangup_ends_no_gateway_that_has_no_certificate() {
    let bank = Bank::open().await;
    let upstream = Upstream::answering(json("{}")).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    turnpike.signal("HUP");
    eventually("it says so", async || {
        turnpike
            .log()
            .contains("there is no TLS_CERT to read again")
            .then_some(())
    })
    .await;
    assert_eq!(turnpike.admin("/healthz").await.0.status(), 200);
    assert_eq!(turnpike.figure("certificate_expires_at_seconds").await, 0);
}
