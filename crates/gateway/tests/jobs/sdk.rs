//! The real openai packages, unmodified.

use tokio::process::Command;

use super::*;
use crate::sdk::{installed, root};

/// Runs a script that begins a batch and a video, and lets both come to their end meanwhile.
async fn passes(program: &str, arguments: &[&str]) {
    installed();
    let desk = Desk::open().await;
    let running = Command::new(program)
        .args(arguments)
        .current_dir(root().join(".sdk/node"))
        .env(
            "OPENAI_BASE_URL",
            format!("http://{}/v1", desk.turnpike.clients),
        )
        .env("OPENAI_API_KEY", &desk.token)
        .output();
    let ending = async {
        let begun = |prefix: &'static str| {
            let provider = &desk.provider;
            async move { eventually(prefix, async || provider.ids(prefix).pop()).await }
        };
        desk.finish(&begun("batch_").await, ANSWER);
        let video = begun("video_").await;
        desk.provider.set(&video, &json!({"status": "completed"}));
    };
    let (output, ()) = tokio::join!(running, ending);
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // 8 s of video at 6 USD a minute
    let mut charges = desk.charged().await;
    charges.sort_unstable();
    assert_eq!(
        charges,
        [measured(ANSWER_COST), measured(800_000_000)].concat()
    );
}

#[tokio::test]
async fn python_makes_a_batch_and_a_video() {
    let python = root().join(".sdk/python/bin/python");
    let script = root().join("tests/sdk/test_jobs.py");
    passes(python.to_str().unwrap(), &[script.to_str().unwrap()]).await;
}

#[tokio::test]
async fn node_makes_a_batch_and_a_video() {
    let script = root().join(".sdk/node/jobs.test.mjs");
    if root().join(".sdk/node").exists() {
        std::fs::copy(root().join("tests/sdk/jobs.test.mjs"), script).unwrap();
    }
    passes("node", &["--test", "jobs.test.mjs"]).await;
}
