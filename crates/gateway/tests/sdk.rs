//! The real openai packages for Python and Node, unmodified, against the program with its sandbox model.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Bank, Turnpike};

/// The project's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Fails, and says why, when the packages are not there.
pub(crate) fn installed() {
    assert!(
        root().join(".sdk/installed").exists(),
        "the SDK packages are not installed: run ./test once, it installs them into .sdk"
    );
}

/// Runs one SDK's tests against a gateway of their own; every successful call must have left one charge.
async fn passes(program: &str, arguments: &[&str], calls: i64) {
    let program = if program.starts_with('.') {
        root().join(program)
    } else {
        program.into()
    };
    installed();
    let bank = Bank::open().await;
    bank.sql.batch_execute("select turnpike.set_price('sandbox', input => 0.15, output => 0.60, context_window => 128000, output_max => 256)").await.unwrap();
    let (token, poor) = (
        bank.token("").await,
        bank.token(", budget_usd => 0.00001").await,
    );
    let turnpike = Turnpike::start_with(&[("DATABASE_URL", bank.db.url())]);
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root().join(".sdk/node"))
        .env("OPENAI_BASE_URL", format!("http://{}/v1", turnpike.clients))
        .env("OPENAI_API_KEY", &token)
        .env("POOR_API_KEY", &poor)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    bank.audited().await;
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge")
            .await,
        calls,
        "{said}"
    );
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.charge where mark = 'estimated'")
            .await,
        2,
        "the streams that did not ask for usage"
    );
}

#[tokio::test]
async fn openai_python_works_unmodified() {
    let script = root().join("tests/sdk/test_sdk.py");
    passes(".sdk/python/bin/python", &[script.to_str().unwrap()], 8).await;
}

#[tokio::test]
async fn openai_node_works_unmodified() {
    // Node looks for packages beside the script, so it is run where they are.
    std::fs::copy(
        root().join("tests/sdk/sdk.test.mjs"),
        root().join(".sdk/node/sdk.test.mjs"),
    )
    .unwrap();
    passes("node", &["--test", "sdk.test.mjs"], 8).await;
}
