//! Every kind of work, and every row of its table.

use super::*;

/// A request for work, what its provider says at its end, and what it costs in nano-USD. A row without a case here fails the test.
async fn case(desk: &Desk, path: &str) -> Option<(String, Value, i64)> {
    Some(match path {
        "/files" | "/uploads" => return None,
        "/batches" => {
            let file = desk.upload("batch", &lines(2)).await;
            desk.provider.put_file("file-out", ANSWER);
            let body = json!({"input_file_id": file, "endpoint": "/v1/chat/completions"});
            let end = json!({"status": "completed", "output_file_id": "file-out"});
            (body.to_string(), end, ANSWER_COST)
        }
        // 10 x 3 + 34 x 15, and half of it
        "/messages/batches" => {
            let params = json!({"model": "claude-sonnet-5", "max_tokens": 100, "messages": [{"role": "user", "content": "How many legs has a spider?"}]});
            let body = json!({"requests": [{"custom_id": "a", "params": params}]});
            let end = json!({"processing_status": "ended", "results_url": "https://x/results"});
            (body.to_string(), end, 270_000)
        }
        // 8 s at 6 USD a minute
        "/videos" => (
            json!({"model": "sora-2", "prompt": "a cat", "seconds": "8", "size": "1280x720"})
                .to_string(),
            json!({"status": "completed"}),
            800_000_000,
        ),
        // Its parent's 8 s, at its parent's size: 30 USD a minute
        "/videos/{video}/remix" => (
            json!({"prompt": "a dog"}).to_string(),
            json!({"status": "completed", "model": "sora-2", "seconds": "8", "size": "1792x1024"}),
            4_000_000_000,
        ),
        // 2,000 tokens at 3 USD a million
        "/fine_tuning/jobs" => {
            let file = desk.upload("fine-tune", &lines(50)).await;
            let body = json!({"model": "gpt-4o-mini-2024-07-18", "training_file": file, "hyperparameters": {"n_epochs": 3}});
            let end = json!({"status": "succeeded", "trained_tokens": 2_000, "result_files": ["file-result"]});
            (body.to_string(), end, 6_000_000)
        }
        path => panic!("no case for the row {path}"),
    })
}

#[tokio::test]
async fn every_kind_of_work_costs_what_a_calculation_by_hand_says() {
    for row in ROWS.iter().filter(|row| matches!(row.does, Does::Work(_))) {
        let desk = Desk::open().await;
        let Some((body, end, cost)) = case(&desk, row.path).await else {
            continue;
        };
        let path = if row.path.contains("{video}") {
            let body =
                json!({"model": "sora-2", "prompt": "a cat", "seconds": "8", "size": "1792x1024"});
            let parent = id(&desk.made("POST", "/v1/videos", &body.to_string()).await);
            desk.provider.set(&parent, &json!({"status": "failed"}));
            assert_eq!(desk.charged().await, []);
            format!("/v1/videos/{parent}/remix")
        } else {
            format!("/some/base/v1{}", row.path)
        };
        let job = id(&desk.made("POST", &path, &body).await);
        assert_eq!(desk.count("turnpike.open_jobs").await, 1, "{path}");
        if row.path == "/messages/batches" {
            let result = json!({"custom_id": "a", "result": {"type": "succeeded", "message": {"type": "message", "model": "claude-sonnet-5", "usage": {"input_tokens": 10, "output_tokens": 34}}}});
            desk.provider.put_content(&job, result.to_string());
        }
        desk.provider.set(&job, &end);
        assert_eq!(desk.charged().await, measured(cost), "{path}");
        let endpoint: String = desk.bank.one("select endpoint from turnpike.charge").await;
        assert_eq!(endpoint, row.name);
    }
}

#[tokio::test]
async fn every_row_about_work_is_ones_own_or_refused() {
    let desk = Desk::open().await;
    for row in ROWS {
        let what = format!("{} {}", row.method, row.path);
        let status = match row.does {
            Does::Work(_) => continue,
            Does::Refused => 403,
            Does::Kept(Act::List(_)) => 200,
            _ => 404,
        };
        let path = format!("/v1{}", path(row));
        let (head, said) = desk
            .ask(row.method.as_str(), &path, &desk.token, "{}")
            .await;
        let said = String::from_utf8_lossy(&said);
        assert_eq!(head.status(), status, "{what}: {said}");
        assert_eq!(
            desk.provider.asked(&format!("{} {path}", row.method)),
            0,
            "{what}"
        );
        if let Does::Kept(Act::List(kind)) = row.does {
            assert!(
                said.contains("\"data\":[]"),
                "{what} {}: {said}",
                Kind::name(kind)
            );
        }
    }
}

#[tokio::test]
async fn a_video_that_failed_costs_nothing_and_one_is_charged_when_it_is_there() {
    let desk = Desk::open().await;
    let body = json!({"model": "sora-2", "prompt": "a cat"}).to_string();
    let failed = id(&desk.made("POST", "/v1/videos", &body).await);
    let made = id(&desk.made("POST", "/v1/videos", &body).await);
    desk.provider.set(&failed, &json!({"status": "failed"}));
    // 4 s unless its request says
    desk.provider.set(
        &made,
        &json!({"status": "completed", "seconds": "4", "size": "720x1280"}),
    );
    assert_eq!(desk.charged().await, measured(400_000_000));
    let seen = desk.made("GET", &format!("/v1/videos/{made}"), "").await;
    assert_eq!(seen["status"], "completed");
    assert_eq!(desk.charged().await, measured(400_000_000));
}

#[tokio::test]
async fn what_nobody_can_count_is_not_begun() {
    let desk = Desk::open().await;
    let file = desk.upload("fine-tune", &lines(1)).await;
    for (path, body) in [
        ("/v1/videos", json!({"model": "gpt-4o", "prompt": "a cat"})),
        (
            "/v1/videos",
            json!({"model": "sora-2", "prompt": "a cat", "seconds": "1.5"}),
        ),
        (
            "/v1/fine_tuning/jobs",
            json!({"model": "gpt-4o", "training_file": file}),
        ),
        (
            "/v1/fine_tuning/jobs",
            json!({"model": "gpt-4o-mini-2024-07-18", "training_file": file, "method": {"type": "reinforcement"}}),
        ),
        (
            "/v1/messages/batches",
            json!({"requests": [{"params": {"model": "claude-sonnet-5", "background": true}}]}),
        ),
    ] {
        let (head, said) = desk.ask("POST", path, &desk.token, &body.to_string()).await;
        assert_eq!(
            head.status(),
            400,
            "{path} {body}: {}",
            String::from_utf8_lossy(&said)
        );
        assert_eq!(desk.provider.asked(&format!("POST {path}")), 0);
    }
    desk.bank.audited().await;
}
