//! Batches through everything that may happen between their beginning and their end.

use super::*;

#[tokio::test]
async fn a_batch_whose_client_never_returns_is_charged_once_by_its_lines() {
    let desk = Desk::open().await;
    let batch = desk.batch().await;
    assert_eq!(desk.count("turnpike.open_jobs").await, 1);
    assert_eq!(desk.count("turnpike.charge").await, 0);
    desk.finish(&batch, &format!("{ANSWER}\n{FAILED}\n{ANSWER}\n"));
    assert_eq!(desk.charged().await, measured(2 * ANSWER_COST));
    let row = desk.bank.charge().await;
    let told: (String, String, String, String) = (
        row.get("endpoint"),
        row.get("service_tier"),
        row.get("response_id"),
        row.get("model_requested"),
    );
    let want = ("batches", "batch", &*batch, "gpt-4o");
    assert_eq!((&*told.0, &*told.1, &*told.2, &*told.3), want);
    let raw: String = desk
        .bank
        .one("select usage_raw::text from turnpike.charge")
        .await;
    assert!(
        raw.contains("\"answers\": 2") && raw.contains("\"failed\": 1"),
        "{raw}"
    );
}

#[tokio::test]
async fn a_client_that_asks_as_well_pays_once_and_has_the_files() {
    let desk = Desk::open().await;
    let batch = desk.batch().await;
    desk.finish(&batch, ANSWER);
    let path = format!("/v1/batches/{batch}");
    for _ in 0..3 {
        let seen = desk.made("GET", &path, "").await;
        assert_eq!(seen["status"], "completed");
        let file = seen["output_file_id"].as_str().unwrap();
        let content = format!("/v1/files/{file}/content");
        let (head, body) = desk.ask("GET", &content, &desk.token, "").await;
        assert_eq!((head.status(), &*body), (200, ANSWER.as_bytes()));
    }
    assert_eq!(desk.charged().await, measured(ANSWER_COST));
    desk.made("GET", &path, "").await;
    assert_eq!(desk.charged().await, measured(ANSWER_COST));
}

#[tokio::test]
async fn what_a_batch_had_done_when_it_was_cancelled_is_charged() {
    let desk = Desk::open().await;
    let batch = desk.batch().await;
    let cancel = format!("/v1/batches/{batch}/cancel");
    assert_eq!(desk.made("POST", &cancel, "").await["status"], "cancelling");
    desk.finish(&batch, ANSWER);
    desk.provider.set(&batch, &json!({"status": "cancelled"}));
    assert_eq!(desk.charged().await, measured(ANSWER_COST));
}

#[tokio::test]
async fn a_batch_that_failed_costs_nothing() {
    let desk = Desk::open().await;
    let batch = desk.batch().await;
    desk.provider.set(&batch, &json!({"status": "failed"}));
    assert_eq!(desk.charged().await, []);
}

#[tokio::test]
async fn a_batch_without_its_file_is_charged_by_its_own_sum_and_marked() {
    let desk = Desk::open().await;
    let batch = desk.batch().await;
    let usage = json!({"input_tokens": 106, "output_tokens": 30, "total_tokens": 136});
    let end = json!({"status": "completed", "output_file_id": "file-gone", "usage": usage});
    desk.provider.set(&batch, &end);
    let estimated = vec![(2 * ANSWER_COST, "estimated".to_owned())];
    assert_eq!(desk.charged().await, estimated);
}

#[tokio::test]
async fn a_gateway_that_is_killed_in_between_charges_once_after_it_is_back() {
    let data = tempfile::TempDir::new().unwrap();
    let settings = [("DATA_DIR", data.path().to_str().unwrap())];
    let desk = Desk::open_with(&settings).await;
    let batch = desk.batch().await;
    desk.turnpike.signal("KILL");
    desk.finish(&batch, ANSWER);
    let again = Turnpike::start(&desk.bank.db, &desk.provider.url(), &settings);
    assert_eq!(desk.charged().await, measured(ANSWER_COST));
    drop(again);
}

/// However often it was asked about before.
#[tokio::test]
async fn a_stray_not_found_costs_nothing() {
    let desk = Desk::open().await;
    let batch = desk.batch().await;
    let often = "update turnpike.job set attempts = 1000";
    desk.bank.sql.batch_execute(often).await.unwrap();
    desk.provider.miss(1);
    eventually("it was missed", async || {
        (desk.provider.misses_left() == 0).then_some(())
    })
    .await;
    desk.finish(&batch, ANSWER);
    assert_eq!(desk.charged().await, measured(ANSWER_COST));
}

#[tokio::test]
async fn what_the_provider_does_not_know_five_times_in_a_row_is_charged_what_was_held() {
    let desk = Desk::open().await;
    desk.batch().await;
    let held: i64 = desk.bank.one("select held from turnpike.job").await;
    // The last is not believed before it came.
    let four = "update turnpike.job set misses = 3, poll_at = now()";
    desk.bank.sql.batch_execute(four).await.unwrap();
    desk.provider.miss(2);
    assert_eq!(desk.charged().await, vec![(held, "bounded".to_owned())]);
    assert_eq!(desk.provider.misses_left(), 0);
}

/// Nobody knows its id, and it goes on at the provider.
#[tokio::test]
async fn work_that_was_begun_when_its_gateway_was_killed_is_charged_what_was_held() {
    let data = tempfile::TempDir::new().unwrap();
    let settings = [("DATA_DIR", data.path().to_str().unwrap())];
    let mut desk = Desk::open_with(&settings).await;
    let what = "POST /v1/videos";
    desk.provider.do_silently(what);
    let body = json!({"model": "sora-2", "prompt": "a cat", "seconds": "8"}).to_string();
    let video = request("POST", "/v1/videos", &desk.token, "application/json", &body);
    let mut wire = testkit::raw::Wire::connect(desk.turnpike.clients).await;
    wire.send(video).await;
    eventually("it is begun", async || {
        (desk.provider.asked(what) == 1).then_some(())
    })
    .await;
    desk.turnpike.signal("KILL");
    desk.turnpike.ended().await;
    let again = Turnpike::start(&desk.bank.db, &desk.provider.url(), &settings);
    // 8 s at 6 USD a minute
    let row = desk.bank.charge().await;
    let charged: (i64, &str) = (row.get("amount"), row.get("mark"));
    assert_eq!(charged, (800_000_000, "interrupted"));
    desk.bank.audited().await;
    drop(again);
}

#[tokio::test]
async fn two_replicas_charge_once() {
    let desk = Desk::open().await;
    let other = Turnpike::start(&desk.bank.db, &desk.provider.url(), &[]);
    let mut batches = Vec::new();
    for _ in 0..4 {
        batches.push(desk.batch().await);
    }
    for batch in &batches {
        desk.finish(batch, ANSWER);
    }
    assert_eq!(
        desk.charged().await,
        vec![measured(ANSWER_COST).remove(0); 4]
    );
    drop(other);
}

#[tokio::test]
async fn fifty_thousand_answers_are_read_in_bounded_memory() {
    let desk = Desk::open().await;
    desk.bank
        .sql
        .batch_execute("select turnpike.top_up('alice', 1000, 'test')")
        .await
        .unwrap();
    let file = desk.upload("batch", &lines(50_000)).await;
    let body = json!({"input_file_id": file, "endpoint": "/v1/chat/completions"});
    let batch = id(&desk.made("POST", "/v1/batches", &body.to_string()).await);
    let before = desk.turnpike.memory_peak_bytes();
    let output = format!("{ANSWER}\n").repeat(50_000);
    assert!(output.len() > 15_000_000);
    desk.finish(&batch, &output);
    assert_eq!(desk.charged().await, measured(50_000 * ANSWER_COST));
    let grown = desk.turnpike.memory_peak_bytes().saturating_sub(before);
    assert!(grown < 8_000_000, "{grown} bytes more");
}
