//! What earlier systems had is taken over once, however often it is asked for, and their callers go on.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{House, parsed, text};
use crate::support::{Bank, command};

/// chatgpt-agent's own tables, with the column that its SQL forgot.
const AGENT: &str = r#"
    create schema if not exists public;
    create table public.sys_user_token (id serial primary key, name varchar(20), local_token varchar(100), gpt_token varchar(100),
      comment varchar(100), create_time timestamp default now());
    create table public.sys_config (id serial primary key, key varchar(100), value varchar(100), "timestamp" timestamp default now(), "group" varchar(50));
    create table public.sys_model_request (id serial primary key, remote_id varchar(100), model varchar(100), define_price varchar(50),
      completion_tokens int, prompt_tokens int, total_tokens int, "timestamp" timestamp, price numeric(10,8), token_id int);
    insert into public.sys_user_token (name, local_token, gpt_token) values
      ('anna', 'local-token-anna', 'sk-of-anna'), ('boris', 'local-token-boris', null), ('nobody', null, 'sk-x');
    insert into public.sys_config (key, value, "group") values
      ('gpt-3.5-turbo-0301_input', '0.0015', 'model_price'), ('gpt-3.5-turbo-0301_output', '0.002', 'model_price'),
      ('half-priced_input', '0.01', 'model_price'), ('half-priced_output', null, 'model_price'), ('other', 'x', 'else');
    insert into public.sys_model_request (remote_id, model, define_price, completion_tokens, prompt_tokens, total_tokens, "timestamp", price, token_id)
      select 'chatcmpl-old-' || n, 'gpt-3.5-turbo-0301', '0.0015,0.002', 10, 20, 30, now() - n * interval '1 hour', 0.00005, 1 + n % 2
        from generate_series(1, 2500) as n;
    insert into public.sys_model_request (remote_id, model, "timestamp") values ('of-nobody', 'x', now());
"#;

/// Runs `turnpike import …`; what it printed.
fn import(bank: &Bank, arguments: &[&str], settings: &[(&str, &str)]) -> Result<String, String> {
    let mut all = vec![("DATABASE_URL", bank.db.url())];
    all.extend(
        settings
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    let output = command(&all)
        .arg("import")
        .args(arguments)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

fn file(dir: &TempDir, name: &str, content: impl AsRef<str>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, content.as_ref()).unwrap();
    path
}

#[tokio::test]
async fn the_agent_s_users_prices_and_usage_move_over_once() {
    let house = House::open(&[("DOOR_AGENT", "on")]).await;
    house.bank.sql.batch_execute(AGENT).await.unwrap();
    let told = import(&house.bank, &["agent"], &[]).unwrap();
    assert_eq!(
        told,
        "prices: 2 new, 0 known\nusers: 2 new, 0 known, 1 without a token\nusage: 2500 new, 0 known, 1 of nobody\n"
    );
    let told = import(&house.bank, &["agent"], &[]).unwrap();
    assert_eq!(
        told,
        "prices: 0 new, 2 known\nusers: 0 new, 2 known, 1 without a token\nusage: 0 new, 2500 known, 1 of nobody\n"
    );
    let price = "select in_text || ' ' || out_text from turnpike.price where pattern = 'gpt-3.5-turbo-0301'";
    assert_eq!(
        house.bank.one::<String>(price).await,
        "1500000000 2000000000",
        "nano-USD per 1,000,000 tokens"
    );
    let shown = "select string_agg(prefix, ' ') from turnpike.access_token where label = 'anna'";
    assert!(
        !house.bank.one::<String>(shown).await.contains("local"),
        "a secret's beginning is not shown"
    );

    // Her token, her key, her week.
    let body = r#"{"model":"gpt-3.5-turbo-0301","messages":[{"role":"user","content":"Hello"}]}"#;
    let anna = "Authorization: Bearer local-token-anna";
    crate::support::eventually("the price is known", async || {
        let (head, _) = house.send("POST", "/chat", &[anna], body).await;
        (head.status() == 200).then_some(())
    })
    .await;
    let sent: String = house
        .upstream
        .received()
        .iter()
        .map(testkit::raw::Received::text)
        .collect();
    assert!(
        sent.to_lowercase()
            .contains("authorization: bearer sk-of-anna\r\n"),
        "{sent}"
    );
    let (_, week) = house.send("GET", "/data/week", &[anna], "").await;
    let week = parsed(&week);
    let rows = week.as_array().unwrap();
    assert_eq!(rows.len(), 167 / 2 + 1, "seven days of hers, and today's");
    assert_eq!(
        (&rows[0]["total_tokens"], &rows[0]["model"]),
        (&json!(30), &json!("gpt-3.5-turbo-0301"))
    );
    house.bank.audited().await;
}

#[tokio::test]
async fn the_agent_s_tables_may_stand_elsewhere_and_lack_what_its_sql_forgot() {
    let (bank, other) = (Bank::open().await, testkit::postgres::TestDb::empty().await);
    let source = other.client().await;
    source.batch_execute(AGENT).await.unwrap();
    source
        .batch_execute("alter table public.sys_model_request drop column token_id; delete from public.sys_user_token where name <> 'anna'")
        .await
        .unwrap();
    let told = import(&bank, &["agent", "--from", &other.url()], &[]).unwrap();
    assert!(
        told.ends_with("usage: 2501 new, 0 known, 0 of nobody\n"),
        "the only user's: {told}"
    );
    let told = import(&bank, &["agent"], &[]).unwrap_err();
    assert!(told.contains("sys_config"), "{told}");
}

#[tokio::test]
async fn resale_s_tokens_and_dialogs_move_over_once() {
    let key = "ab".repeat(32);
    let house = House::open(&[("DOOR_RESALE", "on"), ("DIALOG_KEY", &key)]).await;
    let dir = TempDir::new().unwrap();
    let entry = |token: &str, expires: &str| json!({"token": token, "expires": expires, "limits": {"user": 1000, "chatGpt": 500}, "used": {"user": 300, "chatGpt": 600}});
    let mut fresh = entry("0123456789abcdef0123456789abcdef", "2099-12-31");
    fresh["used"] = json!({"user": 300, "chatGpt": 100});
    let tokens = json!({"tokens": [fresh, entry("11111111111111111111111111111111", "2020-01-01"), entry("22222222222222222222222222222222", "whenever")]});
    let tokens = file(&dir, "tokens.json", tokens.to_string());
    let said = [("system", "s"), ("user", "q"), ("assistant", "a")]
        .map(|(role, content)| json!({"role": role, "content": content}));
    let dialogs = file(
        &dir,
        "dialogs.json",
        json!({"dialogs": [{"name": "44444", "messages": said}]}).to_string(),
    );
    let (tokens, dialogs) = (tokens.to_str().unwrap(), dialogs.to_str().unwrap());
    let owner = "0123456789abcdef0123456789abcdef";
    let arguments = [
        "resale",
        "--tokens",
        tokens,
        "--dialogs",
        dialogs,
        "--owner",
        owner,
    ];
    let settings = [("DIALOG_KEY", key.as_str())];
    assert_eq!(
        import(&house.bank, &arguments, &settings).unwrap(),
        "tokens: 3 new, 0 known\ndialogs: 1 new, 0 known\n"
    );

    // What is left of the limits goes on from here.
    let call = json!({"token": owner, "query": "more", "dialogName": "44444"});
    let (status, told) = house.post_json("/chatgpt", &[], &call).await;
    assert_eq!(
        (status, &told["remainingTokens"]),
        (
            200,
            &json!({"remainingUserTokens": 647, "remainingChatGptTokens": 385})
        ),
        "{told}"
    );
    assert_eq!(house.sent_up()["messages"].as_array().unwrap().len(), 4);
    for (token, status) in [
        ("11111111111111111111111111111111", 401),
        ("22222222222222222222222222222222", 429),
    ] {
        let call = json!({"token": token, "query": "x"});
        assert_eq!(
            house.post_json("/chatgpt", &[], &call).await.0,
            status,
            "{token}"
        );
    }

    // Again: nothing is doubled, and what was said since stays.
    assert_eq!(
        import(&house.bank, &arguments, &settings).unwrap(),
        "tokens: 0 new, 3 known\ndialogs: 0 new, 1 known\n"
    );
    let headers = ["Content-Type: application/json"];
    let asked = json!({"token": owner, "dialogName": "44444"}).to_string();
    let (_, told) = house.send("GET", "/dialog-history", &headers, asked).await;
    assert_eq!(parsed(&told)["history"].as_array().unwrap().len(), 5);
    house.bank.audited().await;
}

#[tokio::test]
async fn resale_s_admin_tokens_never_ended_and_still_do_not() {
    let house = House::open(&[("DOOR_RESALE", "on")]).await;
    let dir = TempDir::new().unwrap();
    let tokens = json!({"tokens": [{"token": "the-admin-s-own-token", "expires": "2020-01-01", "limits": {"user": 1, "chatGpt": 1}, "used": {"user": 9, "chatGpt": 9}}]});
    let tokens = file(&dir, "tokens.json", tokens.to_string());
    for told in ["tokens: 1 new, 0 known\n", "tokens: 0 new, 1 known\n"] {
        assert_eq!(
            import(
                &house.bank,
                &["resale", "--admin", "--tokens", tokens.to_str().unwrap()],
                &[]
            )
            .unwrap(),
            told
        );
    }
    let call = json!({"token": "the-admin-s-own-token", "userName": "bob", "userTokenLimit": 100, "chatGptTokenLimit": 100});
    let (status, told) = house.post_json("/generate-token", &[], &call).await;
    assert_eq!((status, &told["success"]), (200, &Value::Bool(true)));
}

#[tokio::test]
async fn the_shared_access_key_becomes_an_access_token() {
    let house = House::open(&[("DOOR_COMPLETE", "on")]).await;
    let dir = TempDir::new().unwrap();
    let weak = file(
        &dir,
        "weak.sh",
        "docker run -d -e ACCESS_KEY='123456' -p 9081:9081 image\n",
    );
    let told = import(&house.bank, &["complete", weak.to_str().unwrap()], &[]).unwrap_err();
    assert!(told.contains("--allow-weak"), "{told}");
    let strong = file(
        &dir,
        "rebuild.sh",
        "# ACCESS_KEY=old\ndocker run -d -e ACCESS_KEY='correct horse battery' -p 9081:9081 image\n",
    );
    for told in ["access key: 1 new\n", "access key: 0 new, 1 known\n"] {
        assert_eq!(
            import(&house.bank, &["complete", strong.to_str().unwrap()], &[]).unwrap(),
            told
        );
    }
    let call = json!({"prompt": "x", "generate_params": {"model_name": "gpt-4o"}});
    let (status, _) = house
        .post_json(
            "/chat_complete",
            &["access-token: correct horse battery"],
            &call,
        )
        .await;
    assert_eq!(status, 200);
    house.charged(1).await;
}

#[tokio::test]
async fn a_file_that_is_not_as_expected_changes_nothing_and_says_so() {
    let bank = Bank::open().await;
    let dir = TempDir::new().unwrap();
    let before: i64 = bank.one("select count(*) from turnpike.access_token").await;
    for content in ["no json", "{}", r#"{"tokens": [{"token": 5}]}"#] {
        let path = file(&dir, "tokens.json", content);
        let told = import(&bank, &["resale", "--tokens", path.to_str().unwrap()], &[]).unwrap_err();
        assert!(told.contains("tokens.json"), "{told}");
    }
    let told = import(&bank, &["resale", "--tokens", "/nowhere/tokens.json"], &[]).unwrap_err();
    assert!(told.contains("cannot be read"), "{told}");
    assert_eq!(
        bank.one::<i64>("select count(*) from turnpike.access_token")
            .await,
        before
    );
}
