//! An answer that is cut at every one of its bytes, by a reset and by a close.

use std::{collections::HashMap, sync::Arc};

use testkit::upstream::{LAST_CHUNK, Upstream, json, sse_event, sse_head};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{COST, DELTA, JSON, Seen, USAGE, ask, chat, nothing_left};
use crate::support::{Bank, Turnpike};

/// Calls at once.
const AT_ONCE: usize = 24;

fn answers() -> [Vec<u8>; 2] {
    let stream = [
        sse_head(),
        sse_event(DELTA),
        sse_event(USAGE),
        sse_event("[DONE]"),
        LAST_CHUNK.to_vec(),
    ];
    [json(JSON), stream.concat()]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_at_any_byte_is_charged_once_and_looks_cut() {
    let bank = Bank::open().await;
    // The prompt says where to cut, and how.
    let upstream = Upstream::scripted(|mut wire| async move {
        while wire.has_more().await {
            let (_, body) = wire.read_message().await;
            let body = String::from_utf8(body).unwrap();
            let (_, rest) = body.split_once("cut ").unwrap();
            let word = |at: usize| rest.split([' ', '"']).nth(at).unwrap();
            let [whole, stream] = answers();
            let answer = if body.contains("\"stream\"") {
                stream
            } else {
                whole
            };
            let at: usize = word(0).parse().unwrap();
            wire.send(&answer[..at]).await;
            if at == answer.len() {
                continue;
            }
            if word(1) == "reset" {
                wire.reset();
            }
            return;
        }
    })
    .await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("LOG_LEVEL", "error")]);
    let token: Arc<str> = bank.token("").await.into();
    let (address, places) = (turnpike.clients, Arc::new(Semaphore::new(AT_ONCE)));
    let mut calls = JoinSet::new();
    for (streams, answer) in [false, true].into_iter().zip(answers()) {
        for at in 0..=answer.len() {
            let how = if at % 2 == 0 { "reset" } else { "close" };
            let (token, places) = (Arc::clone(&token), Arc::clone(&places));
            let is_all = at == answer.len();
            calls.spawn(async move {
                let _place = places.acquire_owned().await.unwrap();
                let got = ask(address, &token, &chat(&format!("cut {at} {how}"), streams)).await;
                (is_all, got)
            });
        }
    }
    let got = calls.join_all().await;
    nothing_left(&bank, &turnpike).await;
    let charges = bank
        .sql
        .query("select id::text, amount, mark from turnpike.charge", &[])
        .await
        .unwrap();
    let charges: HashMap<String, (i64, String)> = charges
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect();
    for (is_all, got) in &got {
        let charge = got.exchange().and_then(|exchange| charges.get(exchange));
        match got.seen() {
            Seen::Whole => assert_eq!(charge, Some(&(COST, "measured".to_owned()))),
            Seen::Refused(502, code) => {
                assert!(!is_all && code == "upstream_unreachable" && charge.is_none());
            }
            // A head and nothing behind it is no answer yet.
            Seen::Cut if charge.is_none() => assert!(got.body.is_empty()),
            Seen::Cut => {
                assert!(!is_all, "nothing was cut");
                let (amount, mark) = charge.unwrap();
                let is_measured = mark == "measured" && *amount == COST;
                assert!(*amount > 0 && (is_measured || mark == "estimated"));
            }
            other => panic!("{other:?}"),
        }
    }
    println!("{} places to cut, {} charges", got.len(), charges.len());
}
