//! Whose files and jobs are, and which files are fit for what.

use super::*;

#[tokio::test]
async fn what_is_anothers_is_not_there() {
    let desk = Desk::open().await;
    let bob = desk.stranger().await;
    let file = desk.upload("batch", &lines(1)).await;
    let batch = desk.batch().await;
    desk.finish(&batch, ANSWER);
    let seen = desk.made("GET", &format!("/v1/batches/{batch}"), "").await;
    let output = seen["output_file_id"].as_str().unwrap();
    let asked_before = desk.provider.asked(&format!("GET /v1/files/{file}"));
    for (method, path) in [
        ("GET", format!("/v1/files/{file}")),
        ("GET", format!("/v1/files/{file}/content")),
        ("DELETE", format!("/v1/files/{file}")),
        ("GET", format!("/v1/files/{output}/content")),
        ("GET", format!("/v1/batches/{batch}")),
        ("POST", format!("/v1/batches/{batch}/cancel")),
    ] {
        let (head, body) = desk.ask(method, &path, &bob, "").await;
        let said = String::from_utf8_lossy(&body);
        assert_eq!(head.status(), 404, "{method} {path}: {said}");
    }
    for (path, body, param) in [
        (
            "/v1/batches",
            json!({"input_file_id": file, "endpoint": "/v1/chat/completions"}),
            "input_file_id",
        ),
        (
            "/v1/fine_tuning/jobs",
            json!({"model": "gpt-4o-mini-2024-07-18", "training_file": file}),
            "training_file",
        ),
    ] {
        let (head, said) = desk.ask("POST", path, &bob, &body.to_string()).await;
        let said: Value = serde_json::from_slice(&said).unwrap();
        assert_eq!(
            (head.status(), &said["error"]["param"]),
            (404, &json!(param)),
            "{said}"
        );
    }
    assert_eq!(
        desk.provider.asked(&format!("GET /v1/files/{file}")),
        asked_before
    );
    assert_eq!(desk.provider.asked(&format!("DELETE /v1/files/{file}")), 0);
}

#[tokio::test]
async fn lists_have_ones_own_alone_and_go_on() {
    let desk = Desk::open().await;
    let bob = desk.stranger().await;
    let mut files = Vec::new();
    for purpose in ["batch", "fine-tune", "batch"] {
        files.push(desk.upload(purpose, &lines(1)).await);
    }
    files.reverse();
    let ids =
        |list: &Value| -> Vec<String> { list["data"].as_array().unwrap().iter().map(id).collect() };
    let all = desk.made("GET", "/v1/files", "").await;
    assert_eq!(ids(&all), files);
    assert_eq!(all["has_more"], false);
    let batch = desk.made("GET", "/v1/files?purpose=batch", "").await;
    assert_eq!(ids(&batch), [&*files[0], &files[2]]);
    let first = desk.made("GET", "/v1/files?limit=2", "").await;
    assert_eq!(
        (ids(&first), &first["has_more"]),
        (files[..2].to_vec(), &json!(true))
    );
    let rest = desk
        .made("GET", &format!("/v1/files?limit=2&after={}", files[1]), "")
        .await;
    assert_eq!(
        (ids(&rest), &rest["has_more"]),
        (files[2..].to_vec(), &json!(false))
    );
    let (head, body) = desk.ask("GET", "/v1/files", &bob, "").await;
    let none: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((head.status(), &none["data"]), (200, &json!([])));
    // What its provider has forgotten is no longer listed; what is deleted is forgotten.
    desk.made("DELETE", &format!("/v1/files/{}", files[0]), "")
        .await;
    assert_eq!(ids(&desk.made("GET", "/v1/files", "").await), files[1..]);
    let (head, _) = desk
        .ask("GET", &format!("/v1/files/{}", files[0]), &desk.token, "")
        .await;
    assert_eq!(head.status(), 404);
}

#[tokio::test]
async fn a_file_that_is_unfit_for_a_batch_says_why() {
    let desk = Desk::open().await;
    let two_models = lines(1) + &lines(1).replace("gpt-4o", "gpt-4o-mini");
    for (purpose, content, endpoint, why) in [
        (
            "batch",
            "{\"no\":1}\n".to_owned(),
            "/v1/chat/completions",
            "Line 1: it is no request",
        ),
        (
            "batch",
            lines(1) + &lines(1).replace("\"max_tokens\":100", "\"max_tokens\":1,\"max_tokens\":2"),
            "/v1/chat/completions",
            "Line 2: The request body gives 'max_tokens' more than once",
        ),
        (
            "batch",
            two_models,
            "/v1/chat/completions",
            "one model and one endpoint",
        ),
        (
            "batch",
            lines(1),
            "/v1/responses",
            "'endpoint' must be the one",
        ),
        (
            "batch",
            lines(1).replace("gpt-4o", "unheard-of"),
            "/v1/chat/completions",
            "`unheard-of` does not exist",
        ),
        (
            "fine-tune",
            lines(1),
            "/v1/chat/completions",
            "with the purpose \"batch\"",
        ),
    ] {
        let file = desk.upload(purpose, &content).await;
        let body = json!({"input_file_id": file, "endpoint": endpoint}).to_string();
        let (head, said) = desk.ask("POST", "/v1/batches", &desk.token, &body).await;
        let said: Value = serde_json::from_slice(&said).unwrap();
        let message = said["error"]["message"].as_str().unwrap();
        assert!(matches!(head.status(), 400 | 404), "{said}");
        assert!(message.contains(why), "{message}: {why}");
    }
    assert_eq!(desk.provider.asked("POST /v1/batches"), 0);
    desk.bank.audited().await;
}

#[tokio::test]
async fn a_batch_dearer_than_what_is_left_is_not_begun() {
    let desk = Desk::open().await;
    // 100 answers of 100 tokens at 5 USD a million: 0.05 USD, and their input.
    let poor = desk.bank.token(", budget_usd => 0.05").await;
    let file = desk.upload("batch", &lines(100)).await;
    let body = json!({"input_file_id": file, "endpoint": "/v1/chat/completions"}).to_string();
    let (head, said) = desk.ask("POST", "/v1/batches", &poor, &body).await;
    assert_eq!(head.status(), 429, "{}", String::from_utf8_lossy(&said));
    assert_eq!(desk.provider.asked("POST /v1/batches"), 0);
    let (head, _) = desk.ask("POST", "/v1/batches", &desk.token, &body).await;
    assert_eq!(head.status(), 200);
}

#[tokio::test]
async fn files_of_what_is_not_charged_yet_stay() {
    let desk = Desk::open().await;
    let body = json!({"model": "sora-2", "prompt": "a cat"}).to_string();
    let video = id(&desk.made("POST", "/v1/videos", &body).await);
    let path = format!("/v1/videos/{video}");
    let (head, said) = desk.ask("DELETE", &path, &desk.token, "").await;
    assert_eq!(head.status(), 409, "{}", String::from_utf8_lossy(&said));
    desk.provider.set(&video, &json!({"status": "failed"}));
    assert_eq!(desk.charged().await, []);
    desk.made("DELETE", &path, "").await;
}

#[tokio::test]
async fn a_file_uploaded_in_parts_is_its_uploaders_and_no_batch_is_made_of_it() {
    let desk = Desk::open().await;
    let body = json!({"purpose": "batch", "filename": "a", "bytes": 3, "mime_type": "text/plain"});
    let upload = id(&desk.made("POST", "/v1/uploads", &body.to_string()).await);
    desk.provider.put_file("file-whole", "x");
    desk.provider.set(
        &upload,
        &json!({"status": "completed", "file": {"id": "file-whole"}}),
    );
    let complete = format!("/v1/uploads/{upload}/complete");
    let bob = desk.stranger().await;
    let (head, _) = desk.ask("POST", &complete, &bob, "{\"part_ids\":[]}").await;
    assert_eq!(head.status(), 404);
    desk.made("POST", &complete, "{\"part_ids\":[]}").await;
    desk.made("GET", "/v1/files/file-whole", "").await;
    let body = json!({"input_file_id": "file-whole", "endpoint": "/v1/responses"}).to_string();
    let (head, said) = desk.ask("POST", "/v1/batches", &desk.token, &body).await;
    assert_eq!(head.status(), 400);
    assert!(String::from_utf8_lossy(&said).contains("in one piece"));
}
