//! resale-chatgpt-azure's callers, of both generations.

use std::process::Output;

use serde_json::{Value, json};
use testkit::{
    body::Held,
    upstream::{Upstream, answer, json as ok},
};

use super::{ANSWER, House, Sent, keeping, parsed, text};
use crate::support::{command, eventually};

const ON: &[(&str, &str)] = &[("DOOR_RESALE", "on")];
const NO_ADMIN: &str = "Неверный токен администратора";
const SYSTEM: &str = "You are chatting with an AI assistant.";

impl House {
    /// `turnpike token-gen`, and the secret it printed.
    fn token_gen(&self, arguments: &[&str]) -> String {
        let output = token_gen(&self.bank.db.url(), arguments);
        let said = text(output.stdout);
        assert!(output.status.success(), "{}", text(output.stderr));
        let secret = said
            .lines()
            .find_map(|line| line.strip_prefix("Новый токен сгенерирован успешно: "));
        secret.unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    pub(super) fn admin(&self) -> String {
        self.token_gen(&[
            "--expires",
            "2099-01-01",
            "--ut",
            "1",
            "--ct",
            "1",
            "--admin",
        ])
    }

    pub(super) fn own_token(&self, prompt: &str, completion: &str) -> String {
        self.token_gen(&["-e", "2099-01-01", "-u", prompt, "-c", completion])
    }

    async fn get(&self, path: &str, body: &Value) -> (u16, Value) {
        let headers = ["Content-Type: application/json"];
        let (head, body) = self.send("GET", path, &headers, body.to_string()).await;
        (head.status(), parsed(&body))
    }

    async fn resale(&self, path: &str, body: Value) -> (u16, Value) {
        self.post_json(path, &[], &body).await
    }
}

fn token_gen(url: &str, arguments: &[&str]) -> Output {
    command(&[("DATABASE_URL", url.to_owned())])
        .arg("token-gen")
        .args(arguments)
        .output()
        .unwrap()
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

#[tokio::test]
async fn the_readme_s_client_makes_a_user_and_spends_his_budgets() {
    let house = House::open(ON).await;
    let admin = house.admin();
    let user = json!({"token": admin, "userName": "Ольга"});
    // It tells by the missing key that there is no such user.
    assert_eq!(
        house.get("/tokens", &user).await,
        (200, json!({"success": true}))
    );
    let wanted = json!({"token": admin, "userName": "Ольга", "userTokenLimit": 1000, "chatGptTokenLimit": 2000});
    let (status, made) = house.resale("/generate-token", wanted.clone()).await;
    assert_eq!((status, &made["success"]), (200, &json!(true)));
    assert!(made["tokenId"].is_i64());
    assert_eq!(
        house.get("/tokens", &user).await.1["tokens"],
        json!([1000, 2000])
    );

    let call =
        json!({"token": admin, "userNameToken": "Ольга", "query": "Привет", "model": "gpt-4o"});
    assert_eq!(
        house.resale("/chatgpt", call.clone()).await,
        (
            200,
            json!({"success": true, "response": "Hi there", "tokensUsed": 947, "remainingTokens": 1985})
        )
    );
    assert_eq!(
        house.sent_up(),
        json!({"model": "gpt-4o", "messages": [message("system", SYSTEM), message("user", "Привет")], "max_tokens": 2000})
    );
    house.charged(1).await;

    // Made again, he keeps what he has.
    assert_eq!(
        house.resale("/generate-token", wanted).await.1["tokenId"],
        made["tokenId"]
    );
    let query = format!("/tokens?token={admin}&userName=%D0%9E%D0%BB%D1%8C%D0%B3%D0%B0");
    let (head, body) = house.send("GET", &query, &[], "").await;
    assert_eq!(
        (head.status(), parsed(&body)),
        (200, json!({"success": true, "tokens": [947, 1985]}))
    );

    let update = json!({"token": admin, "userName": "Ольга", "newUserTokenLimit": 0, "newChatGptTokenLimit": 7});
    assert_eq!(
        house.resale("/update-token", update).await,
        (
            200,
            json!({"success": true, "message": "Token limits updated successfully"})
        )
    );
    assert_eq!(
        house.resale("/chatgpt", call).await,
        (
            403,
            json!({"success": false, "message": "Недостаточно токенов", "userTokens": [0, 7]})
        )
    );
    assert_eq!(house.asked(), 1);
}

#[tokio::test]
async fn a_user_s_own_token_has_the_second_generation_s_answers() {
    let house = House::open(ON).await;
    // A call must fit whole before it is made: what it may use at most, not what it turns out to use.
    let token = house.own_token("1000", "1000000");
    let call = json!({"token": token, "query": "Hello", "systemMessageContent": "Be brief"});
    assert_eq!(
        house.resale("/chatgpt", call.clone()).await,
        (
            200,
            json!({
                "success": true, "response": "Hi there",
                "tokensUsed": {"requestTokensUsed": 53, "responseTokensUsed": 15},
                "remainingTokens": {"remainingUserTokens": 947, "remainingChatGptTokens": 999_985},
            })
        )
    );
    assert_eq!(
        house.sent_up(),
        json!({"model": "gpt-4o", "messages": [message("system", "Be brief"), message("user", "Hello")]}),
        "a budget above what the model can say goes unsaid"
    );
    house.charged(1).await;
    let spent = house.own_token("0", "10");
    assert_eq!(
        house
            .resale("/chatgpt", json!({"token": spent, "query": "x"}))
            .await,
        (
            429,
            json!({"success": false, "message": "Превышен лимит использования токенов."})
        )
    );
}

#[tokio::test]
async fn a_token_that_is_not_valid_is_told_in_the_words_of_its_generation() {
    let house = House::open(ON).await;
    let admin = house.admin();
    let own = house.own_token("100", "100");
    house
        .resale(
            "/generate-token",
            json!({"token": admin, "userName": "bob", "userTokenLimit": 9, "chatGptTokenLimit": 9}),
        )
        .await;
    for (path, body) in [
        (
            "/chatgpt",
            json!({"token": "x", "userNameToken": "bob", "query": "q"}),
        ),
        (
            "/chatgpt",
            json!({"token": own, "userNameToken": "bob", "query": "q"}),
        ),
        (
            "/generate-token",
            json!({"userName": "eve", "userTokenLimit": 1, "chatGptTokenLimit": 1}),
        ),
        (
            "/generate-token",
            json!({"token": own, "userName": "eve", "userTokenLimit": 1, "chatGptTokenLimit": 1}),
        ),
        (
            "/update-token",
            json!({"token": 5, "userName": "bob", "newUserTokenLimit": 1, "newChatGptTokenLimit": 1}),
        ),
    ] {
        let told = house.resale(path, body.clone()).await;
        assert_eq!(
            told,
            (401, json!({"success": false, "message": NO_ADMIN})),
            "{path} {body}"
        );
    }
    for path in ["/tokens", "/dialog-history"] {
        let told = house
            .get(
                path,
                &json!({"token": "x", "userName": "bob", "dialogName": "d"}),
            )
            .await;
        assert_eq!(told, (401, json!({"success": false, "message": NO_ADMIN})));
    }
    house
        .bank
        .sql
        .batch_execute(
            "update turnpike.access_token set expires_at = now() where label = 'token-gen'",
        )
        .await
        .unwrap();
    eventually("the expiry is known", async || {
        let told = house
            .resale("/chatgpt", json!({"token": own, "query": "q"}))
            .await;
        (told
            == (
                401,
                json!({"success": false, "message": "Токен не действителен или уже истек."}),
            ))
            .then_some(())
    })
    .await;
    // A body that does not say that it is JSON is as good as none.
    let (head, _) = house
        .send(
            "POST",
            "/chatgpt",
            &[],
            json!({"token": house.token, "query": "q"}).to_string(),
        )
        .await;
    assert_eq!(head.status(), 401);
    assert_eq!(house.asked(), 0);
}

#[tokio::test]
async fn bad_input_of_every_field_is_400_and_says_which() {
    let house = House::open(ON).await;
    let (admin, own) = (house.admin(), house.own_token("100", "100"));
    let cases = [
        ("/chatgpt", json!({"token": own}), "query"),
        ("/chatgpt", json!({"token": own, "query": 1}), "query"),
        (
            "/chatgpt",
            json!({"token": own, "query": "q", "dialogName": 44444}),
            "dialogName",
        ),
        (
            "/chatgpt",
            json!({"token": own, "query": "q", "singleMessage": "no"}),
            "singleMessage",
        ),
        (
            "/chatgpt",
            json!({"token": own, "query": "q", "tokenLimit": -1}),
            "tokenLimit",
        ),
        (
            "/chatgpt",
            json!({"token": own, "query": "q", "tokenLimit": "x"}),
            "tokenLimit",
        ),
        (
            "/chatgpt",
            json!({"token": own, "query": "q", "systemMessageContent": []}),
            "systemMessageContent",
        ),
        (
            "/chatgpt",
            json!({"token": own, "query": "q", "model": {}}),
            "model",
        ),
        (
            "/chatgpt",
            json!({"token": admin, "query": "q"}),
            "userNameToken",
        ),
        (
            "/chatgpt",
            json!({"token": admin, "query": "q", "userNameToken": 1}),
            "userNameToken",
        ),
        (
            "/generate-token",
            json!({"token": admin, "userTokenLimit": 1, "chatGptTokenLimit": 1}),
            "userName",
        ),
        (
            "/generate-token",
            json!({"token": admin, "userName": "a\u{0}b", "userTokenLimit": 1, "chatGptTokenLimit": 1}),
            "userName",
        ),
        (
            "/generate-token",
            json!({"token": admin, "userName": "bob", "chatGptTokenLimit": 1}),
            "userTokenLimit",
        ),
        (
            "/generate-token",
            json!({"token": admin, "userName": "bob", "userTokenLimit": 1.5, "chatGptTokenLimit": 1}),
            "userTokenLimit",
        ),
        (
            "/generate-token",
            json!({"token": admin, "userName": "bob", "userTokenLimit": -1, "chatGptTokenLimit": 1}),
            "below 0",
        ),
        (
            "/generate-token",
            json!({"token": admin, "userName": "bob", "userTokenLimit": 1, "chatGptTokenLimit": i64::MAX}),
            "chatGptTokenLimit",
        ),
        (
            "/update-token",
            json!({"token": admin, "userName": "bob", "newUserTokenLimit": 1}),
            "newChatGptTokenLimit",
        ),
    ];
    for (path, body, word) in cases {
        let (status, told) = house.resale(path, body.clone()).await;
        assert_eq!(
            (status, &told["success"]),
            (400, &json!(false)),
            "{path} {body}: {told}"
        );
        assert!(
            told["message"].as_str().unwrap().contains(word),
            "{path} {body}: {told}"
        );
    }
    let headers = ["Content-Type: application/json"];
    for body in ["{no", "[]", "5"] {
        let (head, told) = house.send("POST", "/chatgpt", &headers, body).await;
        assert_eq!(
            (head.status(), &parsed(&told)["success"]),
            (400, &json!(false)),
            "{body}"
        );
    }
    let (status, told) = house
        .resale(
            "/chatgpt",
            json!({"token": admin, "userNameToken": "nobody", "query": "q"}),
        )
        .await;
    assert_eq!((status, &told["success"]), (404, &json!(false)));
    let (head, told) = house.send("GET", "/chatgpt", &[], "").await;
    assert_eq!(
        (head.status(), &parsed(&told)["success"]),
        (404, &json!(false))
    );
    assert_eq!(house.asked(), 0);
}

#[tokio::test]
async fn a_dialog_goes_on_belongs_to_its_token_and_takes_the_first_system_message() {
    let house = House::open(ON).await;
    let (own, other) = (
        house.own_token("1000", "100000"),
        house.own_token("1000", "100000"),
    );
    let call = |token: &str, query: &str| json!({"token": token, "query": query, "dialogName": "44444", "systemMessageContent": query});
    house.resale("/chatgpt", call(&own, "One")).await;
    let (status, _) = house.resale("/chatgpt", call(&own, "Two")).await;
    assert_eq!(status, 200);
    let said = [
        message("system", "One"),
        message("user", "One"),
        message("assistant", "Hi there"),
        message("user", "Two"),
    ];
    assert_eq!(house.sent_up()["messages"], json!(said));
    let history = json!({"token": own, "dialogName": "44444"});
    let mut said = said.to_vec();
    said.push(message("assistant", "Hi there"));
    assert_eq!(
        house.get("/dialog-history", &history).await,
        (200, json!({"success": true, "history": said}))
    );

    // Another token's dialog of the same name is another dialog.
    assert_eq!(
        house
            .get(
                "/dialog-history",
                &json!({"token": other, "dialogName": "44444"})
            )
            .await
            .1["history"],
        json!([])
    );
    house.resale("/chatgpt", call(&other, "Three")).await;
    assert_eq!(
        house.sent_up()["messages"],
        json!([message("system", "Three"), message("user", "Three")])
    );

    // A single message neither reads nor writes it.
    let mut single = call(&own, "Four");
    single["singleMessage"] = json!(true);
    house.resale("/chatgpt", single).await;
    assert_eq!(house.sent_up()["messages"].as_array().unwrap().len(), 2);
    assert_eq!(
        house.get("/dialog-history", &history).await.1["history"],
        json!(said)
    );
    house.charged(4).await;
}

#[tokio::test]
async fn an_admin_s_dialogs_are_the_admin_s() {
    let house = House::open(ON).await;
    let admin = house.admin();
    house.resale("/generate-token", json!({"token": admin, "userName": "bob", "userTokenLimit": 1000, "chatGptTokenLimit": 1000})).await;
    let call = json!({"token": admin, "userNameToken": "bob", "query": "q", "dialogName": "d", "singleMessage": false});
    assert_eq!(house.resale("/chatgpt", call.clone()).await.0, 200);
    let (_, told) = house
        .get(
            "/dialog-history",
            &json!({"token": admin, "dialogName": "d"}),
        )
        .await;
    assert_eq!(told["history"].as_array().unwrap().len(), 3);
    // Left out, it is a single message in this generation.
    let mut single = call;
    single.as_object_mut().unwrap().remove("singleMessage");
    house.resale("/chatgpt", single).await;
    assert_eq!(house.sent_up()["messages"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_token_limit_shortens_what_the_next_turn_finds() {
    let house = House::open(ON).await;
    let own = house.own_token("100000", "100000");
    for query in ["a".repeat(400), "b".repeat(400), "c".to_owned()] {
        house
            .resale(
                "/chatgpt",
                json!({"token": own, "query": query, "dialogName": "d", "tokenLimit": 60}),
            )
            .await;
    }
    let sent = house.sent_up();
    let roles: Vec<_> = sent["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|said| said["role"].as_str().unwrap())
        .collect();
    assert_eq!(
        roles,
        ["system", "assistant", "user"],
        "the oldest went, the system message stayed"
    );
}

#[tokio::test]
async fn a_failed_turn_leaves_nothing_behind_and_costs_nothing() {
    for (body, told) in [
        (
            r#"{"error":{"code":"429"}}"#,
            json!({"error": {"code": "429"}}),
        ),
        ("busy", json!("busy")),
    ] {
        let house = House::failing("429 Too Many Requests", body, ON).await;
        let own = house.own_token("1000", "100000");
        let call = json!({"token": own, "query": "q", "dialogName": "d"});
        assert_eq!(
            house.resale("/chatgpt", call).await,
            (500, json!({"success": false, "message": told}))
        );
        assert_eq!(
            house
                .get("/dialog-history", &json!({"token": own, "dialogName": "d"}))
                .await
                .1["history"],
            json!([])
        );
        assert_eq!(
            house
                .bank
                .one::<i64>("select count(*) from turnpike.dialog")
                .await,
            0
        );
        house.charged(0).await;
    }
}

#[tokio::test]
async fn turns_of_one_dialog_follow_one_another() {
    let sent = Sent::default();
    let house = House::with(keeping(ok(ANSWER), &sent).await, ON).await;
    let own = house.own_token("100000", "10000000");
    let calls = (0..8).map(|number| {
        house.resale(
            "/chatgpt",
            json!({"token": own, "query": format!("q{number}"), "dialogName": "d"}),
        )
    });
    for (status, told) in futures_util::future::join_all(calls).await {
        assert_eq!(status, 200, "{told}");
    }
    // Each saw all that was said before it: lengths grow by a question and an answer.
    let lengths: Vec<usize> = sent
        .lock()
        .unwrap()
        .iter()
        .map(|body| parsed(body)["messages"].as_array().unwrap().len())
        .collect();
    assert_eq!(lengths, (0..8).map(|turn| 2 + 2 * turn).collect::<Vec<_>>());
    house.charged(8).await;
}

#[tokio::test]
async fn a_caller_who_leaves_in_mid_turn_leaves_his_dialog_free() {
    let release = Held::default();
    let gate = release.clone();
    let upstream = Upstream::scripted(move |mut wire| {
        let gate = gate.clone();
        async move {
            wire.read_message().await;
            gate.released().await;
            let _ = wire.try_send(ok(ANSWER)).await;
            wire.has_more().await;
        }
    })
    .await;
    let house = House::with(upstream, ON).await;
    let own = house.own_token("100000", "100000");
    let call = json!({"token": own, "query": "q", "dialogName": "d"}).to_string();
    let mut wire = testkit::raw::Wire::connect(house.turnpike.clients).await;
    wire.send(format!("POST /chatgpt HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{call}", call.len())).await;
    eventually("the provider has it", async || {
        (house.asked() == 1).then_some(())
    })
    .await;
    drop(wire);
    eventually("the dialog is free, and gone", async || {
        (house
            .bank
            .one::<i64>("select count(*) from turnpike.dialog")
            .await
            == 0)
            .then_some(())
    })
    .await;
    release.release();
    house.charged(1).await;
}

#[tokio::test]
async fn dialogs_are_sealed_where_a_key_is_set_and_go_with_their_token() {
    let key = "11".repeat(32);
    let house = House::open(&[("DOOR_RESALE", "on"), ("DIALOG_KEY", &key)]).await;
    let own = house.own_token("100000", "100000");
    let call = json!({"token": own, "query": "canary-question", "dialogName": "canary-name"});
    for _ in 0..2 {
        assert_eq!(house.resale("/chatgpt", call.clone()).await.0, 200);
    }
    let (_, told) = house
        .get(
            "/dialog-history",
            &json!({"token": own, "dialogName": "canary-name"}),
        )
        .await;
    assert_eq!(told["history"].as_array().unwrap().len(), 5);
    let row: String = house
        .bank
        .one("select encode(content, 'escape') || encode(name, 'escape') from turnpike.dialog")
        .await;
    assert!(!row.contains("canary"), "{row}");
    let log = house.turnpike.log();
    assert!(!log.contains("canary") && !log.contains(&own), "{log}");

    house
        .bank
        .sql
        .execute("select turnpike.revoke_token($1)", &[&own])
        .await
        .unwrap();
    assert_eq!(
        house
            .bank
            .one::<i64>("select count(*) from turnpike.dialog")
            .await,
        0
    );
}

#[tokio::test]
async fn old_dialogs_are_forgotten() {
    let house = House::open(ON).await;
    let own = house.own_token("100000", "100000");
    for name in ["old", "new"] {
        house
            .resale(
                "/chatgpt",
                json!({"token": own, "query": "q", "dialogName": name}),
            )
            .await;
    }
    house.bank.sql.batch_execute("update turnpike.dialog set touched_at = now() - interval '31 days' where id = (select min(id) from turnpike.dialog)").await.unwrap();
    let second = crate::support::Turnpike::start(&house.bank.db, &house.upstream.url(), ON);
    eventually("the old one goes", async || {
        (house
            .bank
            .one::<i64>("select count(*) from turnpike.dialog")
            .await
            == 1)
            .then_some(())
    })
    .await;
    drop(second);
}

#[tokio::test]
async fn azure_is_asked_as_its_variables_say() {
    let sent = Sent::default();
    let upstream = keeping(ok(ANSWER), &sent).await;
    let endpoint = format!("{}/", upstream.url());
    let house = House::with(
        upstream,
        &[
            ("DOOR_RESALE", "on"),
            ("OPENAI_URL", ""),
            ("OPENAI_API_KEY", ""),
            ("AZURE_OPENAI_ENDPOINT", &endpoint),
            ("AZURE_OPENAI_KEY", "key-main"),
            ("AZURE_OPENAI_KEY_TURBO", "key-turbo"),
            ("GPT_VERSION", "2024-06-01"),
            ("GPT_MODEL_NAME", "gpt-4o-mini"),
        ],
    )
    .await;
    house.bank.sql.batch_execute("select turnpike.set_price('gpt-35-turbo-16k', input => 3, output => 4, context_window => 16385, output_max => 4096)").await.unwrap();
    let own = house.own_token("100000", "10000000");
    // An unknown model is the default one, as it always was.
    for model in ["gpt-unpriced", "gpt-35-turbo-16k"] {
        eventually("the price is known", async || {
            let (status, _) = house
                .resale(
                    "/chatgpt",
                    json!({"token": own, "query": "q", "model": model}),
                )
                .await;
            let last = parsed(sent.lock().unwrap().last()?)["model"].clone();
            assert_eq!(status, 200);
            (model == "gpt-unpriced" || last == model).then_some(())
        })
        .await;
    }
    let received: String = house
        .upstream
        .received()
        .iter()
        .map(testkit::raw::Received::text)
        .collect();
    let first =
        "POST /openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-06-01 HTTP/1.1\r\n";
    let second = "POST /openai/deployments/gpt-35-turbo-16k/chat/completions?api-version=2024-06-01 HTTP/1.1\r\n";
    assert!(
        received.contains(first) && received.contains(second),
        "{received}"
    );
    let lower = received.to_lowercase();
    assert!(
        lower.contains("api-key: key-main\r\n") && lower.contains("api-key: key-turbo\r\n"),
        "{received}"
    );
    assert!(!lower.contains("authorization"), "{received}");
}

#[tokio::test]
async fn parallel_calls_are_each_counted_once() {
    let house = House::open(ON).await;
    let own = house.own_token("2000000", "2000000");
    house
        .in_parallel("/chatgpt", &[], &json!({"token": own, "query": "q"}))
        .await;
    let (_, told) = house
        .resale("/chatgpt", json!({"token": own, "query": "q"}))
        .await;
    assert_eq!(
        told["remainingTokens"],
        json!({"remainingUserTokens": 2_000_000 - 51 * 53, "remainingChatGptTokens": 2_000_000 - 51 * 15})
    );
}

#[tokio::test]
async fn users_made_at_once_under_one_name_are_one_user() {
    let house = House::open(ON).await;
    let admin = house.admin();
    let calls = (0..10).map(|_| {
        house.resale(
            "/generate-token",
            json!({"token": admin, "userName": "bob", "userTokenLimit": 5, "chatGptTokenLimit": 6}),
        )
    });
    let made = futures_util::future::join_all(calls).await;
    assert!(
        made.iter()
            .all(|(status, told)| *status == 200 && told["tokenId"] == made[0].1["tokenId"]),
        "{made:?}"
    );
    // Another admin of another account does not see him.
    let stranger = house.token_gen(&[
        "-e",
        "2099-01-01",
        "-u",
        "1",
        "-c",
        "1",
        "--admin",
        "--account",
        "other",
    ]);
    assert_eq!(
        house
            .get("/tokens", &json!({"token": stranger, "userName": "bob"}))
            .await,
        (200, json!({"success": true}))
    );
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_500_and_a_body_too_big_413() {
    let gone = Upstream::answering("").await;
    let url = gone.url();
    drop(gone);
    let house = House::open(&[
        ("DOOR_RESALE", "on"),
        ("OPENAI_URL", &url),
        ("DOOR_BODY_BYTES_MAX", "1000"),
    ])
    .await;
    let own = house.own_token("1000", "1000");
    let (status, told) = house
        .resale("/chatgpt", json!({"token": own, "query": "q"}))
        .await;
    assert_eq!((status, &told["success"]), (500, &json!(false)));
    let (status, told) = house
        .resale("/chatgpt", json!({"token": own, "query": "q".repeat(1000)}))
        .await;
    assert_eq!((status, &told["success"]), (413, &json!(false)));
    let failing = answer("200 OK", &[("Content-Type", "application/json")], "no json");
    let house = House::with(Upstream::answering(failing).await, ON).await;
    let own = house.own_token("1000", "1000");
    assert_eq!(
        house
            .resale("/chatgpt", json!({"token": own, "query": "q"}))
            .await
            .0,
        502
    );
}

#[tokio::test]
async fn the_command_explains_what_is_missing() {
    let bank = crate::support::Bank::open().await;
    let output = token_gen(&bank.db.url(), &["--expires", "2099-01-01"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(output.stderr).contains("--userTokenLimit"));
    let output = token_gen(
        &bank.db.url(),
        &["--expires", "soon", "--ut", "1", "--ct", "1"],
    );
    assert_eq!(output.status.code(), Some(64));
}

#[tokio::test]
async fn a_door_that_is_shut_is_not_there() {
    let house = House::open(&[]).await;
    for (method, path) in [
        ("POST", "/chatgpt"),
        ("POST", "/generate-token"),
        ("POST", "/update-token"),
        ("GET", "/tokens"),
        ("GET", "/dialog-history"),
    ] {
        assert!(house.is_unknown(method, path).await, "{path}");
    }
}
