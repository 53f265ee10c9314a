//! Clients hang up at every frame of a stream: they pay what those pay who stay.

use std::{collections::HashMap, sync::Arc};

use testkit::{
    body::Held,
    raw::Wire,
    upstream::{LAST_CHUNK, Upstream, sse_event, sse_head},
};
use tokio::task::JoinSet;

use super::load::{DELTA, charges, figure, settled};
use crate::support::{Bank, Turnpike, eventually, post};

const CLIENTS: usize = 50;
const DELTAS: usize = 6;
/// The deltas, the usage, and `[DONE]`.
const FRAMES: usize = DELTAS + 2;

/// The frames of client `client`'s stream, whose usage tells which client's it is.
fn frames(client: &str) -> Vec<Vec<u8>> {
    let usage =
        format!(r#"{{"choices":[],"usage":{{"prompt_tokens":10,"completion_tokens":{client}}}}}"#);
    let mut frames = vec![sse_event(DELTA); DELTAS];
    frames.extend([sse_event(&usage), sse_event("[DONE]")]);
    frames
}

/// Sends as many frames as the client is going to read, and the others once all clients of that index have hung up.
async fn upstream(gates: Arc<Vec<Held>>) -> Upstream {
    Upstream::scripted(move |mut wire| {
        let gates = Arc::clone(&gates);
        async move {
            while wire.has_more().await {
                let (_, body) = wire.read_message().await;
                let body = String::from_utf8(body).unwrap();
                let index: usize = figure(&body, "\"frame ").parse().unwrap();
                let frames = frames(&figure(&body, "\"max_tokens\":"));
                let (before, after) = frames.split_at(index);
                wire.send([sse_head(), before.concat()].concat()).await;
                gates[index].released().await;
                // Whoever reads it may have gone.
                let rest = [after.concat(), LAST_CHUNK.to_vec()].concat();
                if wire.try_send(rest).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// Reads so many frames of a stream and hangs up. Returns the exchange.
///
/// The second gate withholds the end of a stream until the charge is durable, so its last frames come when the rest is let go:
/// who is to read these lets it go himself.
async fn hang_up(mut wire: Wire, index: usize, client: usize, gate: Held) -> String {
    let head = wire.read_head().await;
    if index > DELTAS {
        gate.release();
    }
    for frame in frames(&client.to_string()).iter().take(index) {
        let text = String::from_utf8(frame.clone()).unwrap();
        let data = text.split("\r\n").nth(1).unwrap();
        wire.read_until(data).await;
    }
    wire.reset();
    head.header("x-turnpike-exchange").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_at_any_frame_pays_as_one_who_stays() {
    let bank = Bank::open().await;
    let gates: Arc<Vec<_>> = Arc::new((0..=FRAMES).map(|_| Held::default()).collect());
    let upstream = upstream(Arc::clone(&gates)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[("LOG_LEVEL", "warn")]);
    let token = bank.token("").await;
    let mut costs = HashMap::new();
    for (index, gate) in gates.iter().enumerate() {
        let mut clients = JoinSet::new();
        for client in 1..=CLIENTS {
            let (token, gate, address) = (token.clone(), gate.clone(), turnpike.clients);
            clients.spawn(async move {
                let body = format!(
                    r#"{{"model":"gpt-4o-mini","stream":true,"stream_options":{{"include_usage":true}},"max_tokens":{client},"messages":[{{"role":"user","content":"frame {index}"}}]}}"#
                );
                let mut wire = Wire::connect(address).await;
                wire.send(post("/v1/chat/completions", &token, &body)).await;
                let exchange = hang_up(wire, index, client, gate).await;
                (exchange, 10 * 150 + i64::try_from(client).unwrap() * 600)
            });
        }
        costs.extend(clients.join_all().await);
        gate.release();
    }
    assert_eq!(costs.len(), CLIENTS * (FRAMES + 1));
    eventually("every exchange is charged", async || {
        (charges(&bank.sql).await.len() == costs.len()).then_some(())
    })
    .await;
    for (exchange, charge) in charges(&bank.sql).await {
        assert_eq!(
            (charge.amount, charge.mark.as_str()),
            (costs[&exchange], "measured"),
            "{exchange}"
        );
    }
    settled(&bank.sql).await;
}
