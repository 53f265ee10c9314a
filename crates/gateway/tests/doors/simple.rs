//! docker-chatgpt's callers.

use serde_json::{Value, json};

use super::{House, parsed};

const ON: &[(&str, &str)] = &[("DOOR_SIMPLE", "on"), ("ROUTE", "talk")];

impl House {
    async fn talk(&self, mut body: Value) -> (u16, Value) {
        if body.get("api_key").is_none() {
            body["api_key"] = json!(self.token);
        }
        self.post_json("/talk", &[], &body).await
    }
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

#[tokio::test]
async fn the_answer_is_everything_that_was_ever_promised() {
    let house = House::open(ON).await;
    let (status, answer) = house
        .talk(json!({"user_content": "Hello", "system_content": "Be brief", "model": "gpt-4o", "max_tokens": 3000, "continuous": []}))
        .await;
    let sent = json!([{"role": "system", "content": "Be brief"}, user("Hello")]);
    let mut dialogue = sent.clone();
    dialogue
        .as_array_mut()
        .unwrap()
        .push(json!({"role": "assistant", "content": " Hi there "}));
    assert_eq!(
        (status, answer),
        (
            200,
            json!({
                "code": 200, "msg": "success", "data": {"response": " Hi there "}, "result": dialogue, "current_response": " Hi there "
            })
        )
    );
    assert_eq!(
        house.sent_up(),
        json!({"model": "gpt-4o", "max_tokens": 3000, "messages": sent})
    );
    house.charged(1).await;
}

#[tokio::test]
async fn both_spellings_of_a_field_are_read_and_a_dialogue_goes_on() {
    let house = House::open(ON).await;
    let (_, first) = house
        .talk(json!({"user_content": "One", "sys_content": "Be brief", "model": "gpt-4o"}))
        .await;
    for name in ["continuous_dialogue", "continuous"] {
        let mut call = json!({"user_content": "Two", "model": "gpt-4o"});
        call[name] = first["result"].clone();
        let (status, second) = house.talk(call).await;
        assert_eq!(status, 200);
        assert_eq!(
            house.sent_up()["messages"],
            json!([{"role": "system", "content": "Be brief"}, user("One"), {"role": "assistant", "content": " Hi there "}, user("Two")]),
            "the system message goes up once"
        );
        assert_eq!(second["result"].as_array().unwrap().len(), 5);
    }
    // The one that says something wins.
    house.talk(json!({"user_content": "x", "continuous_dialogue": [], "continuous": [user("y")], "sys_content": "z", "system_content": ""})).await;
    assert_eq!(
        house.sent_up(),
        json!({"model": "gpt-4o-mini", "max_tokens": 100, "messages": [{"role": "system", "content": "z"}, user("y"), user("x")]})
    );
}

#[tokio::test]
async fn bad_input_is_a_true_400_for_every_field() {
    let house = House::open(ON).await;
    for body in [
        json!({"model": "gpt-4o"}),
        json!({"user_content": 1}),
        json!({"user_content": "x", "system_content": 1}),
        json!({"user_content": "x", "sys_content": []}),
        json!({"user_content": "x", "continuous_dialogue": "y"}),
        json!({"user_content": "x", "continuous_dialogue": [1]}),
        json!({"user_content": "x", "continuous": {"role": "user"}}),
        json!({"user_content": "x", "model": 4}),
        json!({"user_content": "x", "model": "gpt-unpriced"}),
        json!({"user_content": "x", "max_tokens": "many"}),
        json!({"user_content": "x", "max_tokens": -1}),
        json!({"user_content": "x", "max_tokens": 0}),
        json!({"user_content": "x", "api_key": 5}),
        json!({"user_content": "x", "api_key": ""}),
    ] {
        let (status, answer) = house.talk(body.clone()).await;
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!(400)),
            "{body}: {answer}"
        );
        assert!(
            answer["msg"].is_string() && answer["data"]["response"].is_string(),
            "{answer}"
        );
    }
    for (content_type, body) in [
        ("application/json", "{no"),
        ("application/json", "[]"),
        ("text/plain", "{}"),
        ("application/json", ""),
    ] {
        let header = format!("Content-Type: {content_type}");
        let (head, body) = house.send("POST", "/talk", &[&header], body).await;
        assert_eq!((head.status(), &parsed(&body)["code"]), (400, &json!(400)));
    }
    // A null is as good as nothing where nothing is allowed.
    let (status, _) = house.talk(json!({"user_content": "", "continuous_dialogue": null, "max_tokens": null, "model": null})).await;
    assert_eq!(status, 200);
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn a_key_that_is_no_access_token_is_401_unless_the_door_has_a_token() {
    let house = House::open(ON).await;
    let (status, answer) = house
        .talk(json!({"user_content": "x", "api_key": "sk-mine"}))
        .await;
    assert_eq!((status, &answer["code"]), (401, &json!(401)));
    assert_eq!(house.asked(), 0);
}

/// The gateway of a caller who brings his own provider key.
async fn bring_your_own(upstream_answers: Option<&str>, api_key: &str) -> House {
    let bank = crate::support::Bank::open().await;
    let token = bank.token("").await;
    let settings = [
        ("DOOR_SIMPLE", "on"),
        ("ROUTE", "talk"),
        ("SIMPLE_TOKEN", token.as_str()),
        ("API_KEY", api_key),
    ];
    let upstream = match upstream_answers {
        Some(status) => {
            let body = r#"{"error":{"message":"no such key"}}"#;
            testkit::upstream::Upstream::answering(testkit::upstream::answer(status, &[], body))
                .await
        }
        None => {
            testkit::upstream::Upstream::answering(testkit::upstream::json(super::ANSWER)).await
        }
    };
    let turnpike = crate::support::Turnpike::start(&bank.db, &upstream.url(), &settings);
    House {
        bank,
        upstream,
        turnpike,
        token,
        sent: super::Sent::default(),
    }
}

#[tokio::test]
async fn a_provider_key_of_the_caller_s_own_goes_up_and_the_door_s_token_is_charged() {
    let house = bring_your_own(None, "").await;
    let (status, _) = house
        .talk(json!({"user_content": "x", "model": "gpt-4o", "api_key": "sk-mine"}))
        .await;
    assert_eq!(status, 200);
    assert!(
        house
            .upstream
            .received_text()
            .to_lowercase()
            .contains("authorization: bearer sk-mine\r\n")
    );
    house.charged(1).await;
    let (status, _) = house
        .post_json(
            "/talk",
            &[],
            &json!({"user_content": "x", "model": "gpt-4o"}),
        )
        .await;
    assert_eq!(status, 400, "no api_key here and none there");
}

#[tokio::test]
async fn the_server_s_key_serves_who_brings_none() {
    let house = bring_your_own(None, "sk-the-server-s").await;
    let (status, _) = house
        .post_json(
            "/talk",
            &[],
            &json!({"user_content": "x", "model": "gpt-4o"}),
        )
        .await;
    assert_eq!(status, 200);
    assert!(
        house
            .upstream
            .received_text()
            .to_lowercase()
            .contains("authorization: bearer sk-the-server-s\r\n")
    );
    house.charged(1).await;
}

#[tokio::test]
async fn the_upstream_s_errors_are_told_with_their_status() {
    for (status, told) in [
        ("401 Unauthorized", 401),
        ("429 Too Many Requests", 429),
        ("400 Bad Request", 400),
        ("500 Internal Server Error", 500),
    ] {
        let house = bring_your_own(Some(status), "").await;
        let (status, answer) = house
            .talk(json!({"user_content": "x", "api_key": "sk-mine"}))
            .await;
        assert_eq!(
            (status, &answer["code"], &answer["data"]["response"]),
            (told, &json!(told), &json!("no such key"))
        );
        house.charged(0).await;
    }
}

#[tokio::test]
async fn limits_are_per_address_and_a_true_429() {
    let mut settings = ON.to_vec();
    settings.extend([
        ("HOUR_LIMIT", "2"),
        ("MINUTE_LIMIT", "no number"),
        ("DOOR_PROXIES", "1"),
        ("LANG", "ru_RU.UTF-8"),
    ]);
    let house = House::open(&settings).await;
    let call = json!({"user_content": "x", "api_key": house.token});
    // The nearest proxy's word counts, not what a client put before it.
    let from = |address: &str| format!("X-Forwarded-For: 10.9.9.9, {address}");
    for _ in 0..2 {
        assert_eq!(
            house
                .post_json("/talk", &[&from("192.0.2.1")], &call)
                .await
                .0,
            200
        );
    }
    let headers = ["Content-Type: application/json", &from("192.0.2.1")];
    let (head, body) = house
        .send("POST", "/talk", &headers, call.to_string())
        .await;
    assert_eq!(head.status(), 429);
    let wait: u64 = head.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&wait), "{wait}");
    let answer = parsed(&body);
    assert_eq!(
        (&answer["code"], &answer["msg"]),
        (
            &json!(429),
            &json!("Слишком много запросов; допускается не более: 2 в час")
        )
    );
    assert_eq!(
        house
            .post_json("/talk", &[&from("192.0.2.2")], &call)
            .await
            .0,
        200
    );
    assert_eq!(house.asked(), 3);
}

#[tokio::test]
async fn an_x_forwarded_for_that_nobody_vouches_for_changes_nothing() {
    let mut settings = ON.to_vec();
    settings.push(("HOUR_LIMIT", "1"));
    let house = House::open(&settings).await;
    let call = json!({"user_content": "x", "api_key": house.token});
    assert_eq!(
        house
            .post_json("/talk", &["X-Forwarded-For: 192.0.2.1"], &call)
            .await
            .0,
        200
    );
    assert_eq!(
        house
            .post_json("/talk", &["X-Forwarded-For: 192.0.2.2"], &call)
            .await
            .0,
        429
    );
}

#[tokio::test]
async fn a_get_is_403_and_other_methods_405_on_the_route_and_the_sample_s() {
    let house = House::open(ON).await;
    for path in ["/talk", "/api"] {
        let (head, body) = house.send("GET", path, &[], "").await;
        assert_eq!((head.status(), &parsed(&body)["code"]), (403, &json!(403)));
        let (head, _) = house.send("DELETE", path, &[], "").await;
        assert_eq!((head.status(), head.header("allow")), (405, Some("POST")));
    }
    assert!(house.is_unknown("POST", "/talk/").await);
}

#[tokio::test]
async fn parallel_talks_are_each_charged_once() {
    let house = House::open(ON).await;
    let body = json!({"user_content": "x", "model": "gpt-4o", "api_key": house.token});
    house.in_parallel("/talk", &[], &body).await;
}

#[tokio::test]
async fn a_door_that_is_shut_is_not_there() {
    let house = House::open(&[("ROUTE", "talk")]).await;
    assert!(house.is_unknown("POST", "/talk").await);
    assert!(house.is_unknown("POST", "/api").await);
}
