//! A release takes over from the one before while clients call: the earlier program runs, starts again, and is taken back to, on the newer schema.
//!
//! `just previous REVISION` builds an earlier revision and runs this with it (`TURNPIKE_PREVIOUS`). Without, this program stands for its own
//! predecessor: then only the way is tested, and the schema is `ledger`'s test `expand`.

use std::process::{Command, Output};

use testkit::{
    postgres::TestDb,
    raw::{Wire, patiently},
    upstream::{Upstream, json},
};

use crate::support::{Bank, Turnpike, command, command_of, paused_stream, post};

const CALL: &str = r#"{"model":"gpt-4o","max_tokens":20,"messages":[]}"#;
const ANSWER: &str = r#"{"id":"c","model":"gpt-4o","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
const STREAM: &str = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"max_tokens":20,"messages":[]}"#;
const DELTA: &str = r#"{"choices":[{"delta":{"content":"Hi"}}]}"#;
const USAGE: &str =
    r#"{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":15,"total_tokens":17}}"#;

fn ran(mut command: Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{said}");
    said.into_owned()
}

async fn answers(gateway: &Turnpike, token: &str) {
    let (head, body) = gateway.post("/v1/chat/completions", token, CALL).await;
    assert_eq!((head.status(), body.as_slice()), (200, ANSWER.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_release_before_serves_on_while_its_database_becomes_newer() {
    let named = std::env::var_os("TURNPIKE_PREVIOUS");
    let previous = named.map_or(env!("CARGO_BIN_EXE_turnpike").to_owned(), |path| {
        path.into_string().unwrap()
    });
    let db = TestDb::empty().await;
    let mut settings = vec![
        ("DATABASE_URL", db.url()),
        ("OPENAI_API_KEY", "sk-upstream-canary".to_owned()),
    ];
    let mut migrate = command_of(&previous, &settings);
    migrate.arg("migrate");
    ran(migrate);
    let sql = db.client().await;
    sql.batch_execute(crate::support::ACCOUNTS).await.unwrap();
    let bank = Bank { db, sql };
    let token = bank.token("").await;
    let answering = Upstream::answering(json(ANSWER)).await;
    let (streaming, go_on) = paused_stream(&[DELTA], &[USAGE, "[DONE]"]).await;

    // Before.
    let url = |upstream: &Upstream| ("OPENAI_URL", format!("{}/v1", upstream.url()));
    settings.push(url(&answering));
    let mut old = Turnpike::start_program(&previous, &settings);
    answers(&old, &token).await;
    settings.pop();
    settings.push(url(&streaming));
    let mut old_streaming = Turnpike::start_program(&previous, &settings);
    let mut open = Wire::connect(old_streaming.clients).await;
    open.send(post("/v1/chat/completions", &token, STREAM))
        .await;
    open.read_until(format!("data: {DELTA}\n\n")).await;
    settings.pop();
    settings.push(url(&answering));

    // The database becomes newer; who serves goes on, with what is new and what was open.
    let mut migrate = command(&settings);
    migrate.arg("migrate");
    println!("{}", ran(migrate));
    answers(&old, &token).await;
    let after = bank.token(", budget_usd => 1").await;
    answers(&old, &after).await;
    go_on.release();
    open.read_until("data: [DONE]\n\n").await;
    old_streaming.signal("TERM");
    assert!(patiently("the end", old_streaming.ended()).await.success());

    // Both serve.
    let mut new = Turnpike::start_with(&settings);
    for gateway in [&old, &new] {
        answers(gateway, &token).await;
        answers(gateway, &after).await;
    }
    bank.sql
        .execute("select turnpike.revoke_token($1)", &[&after])
        .await
        .unwrap();
    for gateway in [&old, &new] {
        crate::support::eventually("it is revoked", async || {
            let (head, _) = gateway.post("/v1/chat/completions", &after, CALL).await;
            (head.status() == 401).then_some(())
        })
        .await;
    }
    bank.audited().await;

    // The old one goes, and comes again: on a machine that restarts it, or because the new one is not wanted.
    old.signal("TERM");
    assert!(patiently("the end", old.ended()).await.success());
    answers(&new, &token).await;
    new.signal("TERM");
    assert!(patiently("the end", new.ended()).await.success());
    let back = Turnpike::start_program(&previous, &settings);
    answers(&back, &token).await;
    bank.audited().await;
    let charges = bank
        .one::<i64>("select count(*) from turnpike.charge")
        .await;
    let measured = bank
        .one::<i64>("select count(*) from turnpike.charge where mark = 'measured'")
        .await;
    let revoked = bank
        .one::<i64>("select count(*) from turnpike.charge as c join turnpike.access_token as t on t.id = c.token_id where t.budget is not null")
        .await;
    // Until the revocation was felt, calls went through and were charged.
    assert!(revoked >= 3, "{revoked}");
    // With the first token: one before, one after, one by each of both, one by the new, one by the old again, and the stream.
    assert_eq!((charges, measured), (7 + revoked, charges));
}
