//! chatgpt_chatbot's callers: a gRPC client, and curl.

use http::uri::PathAndQuery;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use testkit::{
    body::Held,
    upstream::{Upstream, json as ok},
};
use tonic::{Code, Request, Status, body::Body};
use tonic_prost::ProstCodec;

use super::{ANSWER, House, text};
use crate::support::{Turnpike, eventually};

/// Without cooldowns, which most tests are not about.
const ON: &[(&str, &str)] = &[
    ("DOOR_CHATBOT", "on"),
    ("CHATGPT_COOLDOWN", "0"),
    ("CHATGPT_V3_COOLDOWN", "0"),
    ("GPT_ENGINE", "gpt-4o"),
];
const V2: &str = "muvtuber.chatbot.v2.ChatbotService";
const V1: &str = "muvtuber.chatbot.chatgpt_chatbot.v1.ChatGPTService";

/// Two texts under the numbers 1 and 2: every message of the service.
#[derive(Clone, PartialEq, prost::Message)]
struct Pair {
    #[prost(string, tag = "1")]
    first: String,
    #[prost(string, tag = "2")]
    second: String,
}

type Answered = Result<(String, String), Status>;

/// A client of one program.
struct Bot {
    client: tonic::client::Grpc<Client<HttpConnector, Body>>,
    service: &'static str,
}

impl Bot {
    fn of(turnpike: &Turnpike, service: &'static str) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http();
        let origin = format!("http://{}", turnpike.clients).parse().unwrap();
        Self {
            client: tonic::client::Grpc::with_origin(client, origin),
            service,
        }
    }

    async fn call(&self, method: &str, first: &str, second: &str) -> Answered {
        let request = Request::new(Pair {
            first: first.to_owned(),
            second: second.to_owned(),
        });
        self.send(method, request).await
    }

    async fn send(&self, method: &str, request: Request<Pair>) -> Answered {
        let path: PathAndQuery = format!("/{}/{method}", self.service).parse().unwrap();
        let mut client = self.client.clone();
        client
            .ready()
            .await
            .map_err(|error| Status::unknown(error.to_string()))?;
        let answer = client
            .unary(request, path, ProstCodec::<Pair, Pair>::default())
            .await?;
        let Pair { first, second } = answer.into_inner();
        Ok((first, second))
    }

    async fn session(&self, key: &str) -> String {
        let config = json!({"version": 3, "api_key": key}).to_string();
        self.call("NewSession", &config, "Be a cat")
            .await
            .unwrap()
            .0
    }

    async fn chat(&self, session: &str, prompt: &str) -> Result<String, Status> {
        self.call("Chat", session, prompt)
            .await
            .map(|(_, said)| said)
    }
}

impl House {
    fn bot(&self) -> Bot {
        Bot::of(&self.turnpike, V2)
    }

    async fn sessions(&self) -> i64 {
        self.bank.one("select count(*) from turnpike.dialog").await
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

#[tokio::test]
async fn a_session_is_made_chats_and_is_deleted() {
    let house = House::open(ON).await;
    let bot = house.bot();
    let config =
        json!({"version": 3, "access_token": "", "api_key": house.token, "more": 1}).to_string();
    let (session, greeting) = bot.call("NewSession", &config, "Be a cat").await.unwrap();
    assert_eq!(
        (session.len(), greeting.as_str()),
        (36, ""),
        "a UUID, and no call upstream"
    );
    assert_eq!(
        bot.chat(&session, "Hello").await.unwrap(),
        " Hi there ",
        "emoticons and all else stay as they are"
    );
    bot.chat(&session, "Again").await.unwrap();
    let sent = house.sent_up();
    assert_eq!(
        sent["messages"],
        json!([
            message("system", "Be a cat"),
            message("user", "Hello"),
            message("assistant", " Hi there "),
            message("user", "Again")
        ])
    );
    assert_eq!(
        (
            &sent["model"],
            &sent["temperature"],
            &sent["top_p"],
            &sent["n"],
            &sent["user"]
        ),
        (
            &json!("gpt-4o"),
            &json!(0.5),
            &json!(1),
            &json!(1),
            &json!("user")
        )
    );
    let most = sent["max_tokens"].as_u64().unwrap();
    assert!((2900..3000).contains(&most), "{most}");
    assert_eq!(
        bot.call("DeleteSession", &session, "").await.unwrap().0,
        session
    );
    assert_eq!(
        refused(bot.chat(&session, "x").await),
        (Code::NotFound, format!("Session {session} not found"))
    );
    house.charged(2).await;
}

#[tokio::test]
async fn every_refusal_has_its_documented_status() {
    let house = House::open(ON).await;
    let bot = house.bot();
    let unknown = "00000000-0000-4000-8000-000000000000";
    let key = &house.token;
    let cases = [
        (
            "NewSession",
            String::new(),
            "",
            Code::InvalidArgument,
            "config is not JSON",
        ),
        (
            "NewSession",
            "no".to_owned(),
            "",
            Code::InvalidArgument,
            "config is not JSON",
        ),
        (
            "NewSession",
            "[]".to_owned(),
            "",
            Code::InvalidArgument,
            "is not a valid version",
        ),
        (
            "NewSession",
            json!({"api_key": key}).to_string(),
            "",
            Code::InvalidArgument,
            "null is not a valid version",
        ),
        (
            "NewSession",
            json!({"version": 2, "api_key": key}).to_string(),
            "",
            Code::InvalidArgument,
            "2 is not a valid version",
        ),
        (
            "NewSession",
            json!({"version": "3", "api_key": key}).to_string(),
            "",
            Code::InvalidArgument,
            "\"3\" is not a valid version",
        ),
        (
            "NewSession",
            json!({"version": 3}).to_string(),
            "",
            Code::InvalidArgument,
            "access_token or api_key is required",
        ),
        (
            "NewSession",
            json!({"version": 3, "api_key": 5}).to_string(),
            "",
            Code::InvalidArgument,
            "is required",
        ),
        (
            "NewSession",
            json!({"version": 3, "api_key": "sk-x"}).to_string(),
            "",
            Code::InvalidArgument,
            "the key is not valid",
        ),
        (
            "Chat",
            String::new(),
            "x",
            Code::InvalidArgument,
            "session_id is required",
        ),
        (
            "Chat",
            unknown.to_owned(),
            "",
            Code::InvalidArgument,
            "prompt is required",
        ),
        (
            "Chat",
            unknown.to_owned(),
            "x",
            Code::NotFound,
            "Session 00000000-0000-4000-8000-000000000000 not found",
        ),
        (
            "Chat",
            "/ask".to_owned(),
            "x",
            Code::NotFound,
            "Session /ask not found",
        ),
        (
            "DeleteSession",
            String::new(),
            "",
            Code::InvalidArgument,
            "session_id is required",
        ),
        (
            "DeleteSession",
            unknown.to_owned(),
            "",
            Code::NotFound,
            "not found",
        ),
        ("Nothing", String::new(), "", Code::Unimplemented, ""),
    ];
    for (method, first, second, code, words) in cases {
        let (told, message) = refused(bot.call(method, &first, second).await);
        assert_eq!(told, code, "{method} {first}: {message}");
        assert!(message.contains(words), "{method} {first}: {message}");
    }
    let long = "word ".repeat(3000);
    let config = json!({"version": 3, "api_key": key}).to_string();
    assert_eq!(
        refused(bot.call("NewSession", &config, &long).await).0,
        Code::InvalidArgument
    );
    assert_eq!((house.asked(), house.sessions().await), (0, 0));
}

#[tokio::test]
async fn version_1_greets_and_the_older_service_is_version_1() {
    let house = House::open(ON).await;
    let config = json!({"version": 1, "access_token": house.token}).to_string();
    let (_, greeting) = house
        .bot()
        .call("NewSession", &config, "Greet me")
        .await
        .unwrap();
    assert_eq!(greeting, " Hi there ");
    let older = Bot::of(&house.turnpike, V1);
    let (session, greeting) = older
        .call("NewSession", &house.token, "Greet me")
        .await
        .unwrap();
    assert_eq!(greeting, " Hi there ");
    older.chat(&session, "Hello").await.unwrap();
    assert_eq!(
        house.sent_up()["messages"],
        json!([
            message("user", "Greet me"),
            message("assistant", " Hi there "),
            message("user", "Hello")
        ])
    );
    assert_eq!(
        refused(older.call("NewSession", "", "x").await),
        (Code::InvalidArgument, "access_token is required".to_owned())
    );
    house.charged(3).await;
}

#[tokio::test]
async fn sessions_of_one_key_are_limited_and_another_s_are_not_touched() {
    let mut settings = ON.to_vec();
    settings.push(("CHATBOT_SESSIONS_MAX", "2"));
    let house = House::open(&settings).await;
    let other = house.bank.token("").await;
    let bot = house.bot();
    let (first, _) = (
        bot.session(&house.token).await,
        bot.session(&house.token).await,
    );
    let config = json!({"version": 3, "api_key": house.token}).to_string();
    assert_eq!(
        refused(bot.call("NewSession", &config, "").await),
        (
            Code::ResourceExhausted,
            "Too many sessions, max 2".to_owned()
        )
    );
    bot.session(&other).await;
    // One that is over makes room.
    house.bank.sql.batch_execute("update turnpike.dialog set touched_at = now() - interval '1801 seconds' where id = (select min(id) from turnpike.dialog)").await.unwrap();
    assert_eq!(refused(bot.chat(&first, "x").await).0, Code::NotFound);
    bot.session(&house.token).await;
}

#[tokio::test]
async fn a_key_cools_down_and_no_other_does() {
    let house = House::open(&[
        ("DOOR_CHATBOT", "on"),
        ("CHATGPT_V3_COOLDOWN", "3600"),
        ("GPT_ENGINE", "gpt-4o"),
    ])
    .await;
    let other = house.bank.token("").await;
    let bot = house.bot();
    let (first, second, others) = (
        bot.session(&house.token).await,
        bot.session(&house.token).await,
        bot.session(&other).await,
    );
    // Making a session does not start it, nor does what is refused.
    assert_eq!(refused(bot.chat(&first, "").await).0, Code::InvalidArgument);
    bot.chat(&first, "Hello").await.unwrap();
    for session in [&first, &second] {
        let (code, message) = refused(bot.chat(session, "x").await);
        assert_eq!(code, Code::ResourceExhausted);
        let seconds = message
            .strip_prefix("Cooldown: ")
            .and_then(|rest| rest.strip_suffix(" seconds"));
        let seconds: u64 = seconds
            .unwrap_or_else(|| panic!("{message}"))
            .parse()
            .unwrap();
        assert!((3000..3600).contains(&seconds), "{message}");
    }
    bot.chat(&others, "x").await.unwrap();
    house.charged(2).await;
}

#[tokio::test]
async fn a_failed_chat_leaves_no_turn_and_no_cooldown() {
    let settings = [
        ("DOOR_CHATBOT", "on"),
        ("CHATGPT_V3_COOLDOWN", "3600"),
        ("GPT_ENGINE", "gpt-4o"),
    ];
    let house = House::failing(
        "500 Internal Server Error",
        r#"{"error":{"message":"broken"}}"#,
        &settings,
    )
    .await;
    let bot = house.bot();
    let session = bot.session(&house.token).await;
    for _ in 0..2 {
        assert_eq!(
            refused(bot.chat(&session, "x").await),
            (
                Code::Unavailable,
                "500 Internal Server Error broken".to_owned()
            )
        );
    }
    let config = json!({"version": 1, "access_token": house.token}).to_string();
    assert_eq!(
        refused(bot.call("NewSession", &config, "Greet me").await).0,
        Code::Unavailable
    );
    assert_eq!(
        house.sessions().await,
        1,
        "the session that could not greet is gone"
    );
    house.charged(0).await;
}

#[tokio::test]
async fn an_answer_without_text_is_unavailable() {
    let silent = ANSWER.replace("\" Hi there \"", "null");
    let house = House::with(Upstream::answering(ok(&silent)).await, ON).await;
    let bot = house.bot();
    let session = bot.session(&house.token).await;
    assert_eq!(
        refused(bot.chat(&session, "x").await),
        (Code::Unavailable, "ChatGPT response is None".to_owned())
    );
}

#[tokio::test]
async fn a_key_that_is_shown_reaches_its_own_sessions_alone() {
    let house = House::open(ON).await;
    let other = house.bank.token("").await;
    let bot = house.bot();
    let session = bot.session(&house.token).await;
    let with = |key: &str| {
        let mut request = Request::new(Pair {
            first: session.clone(),
            second: "x".to_owned(),
        });
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {key}").parse().unwrap());
        request
    };
    let missing = (Code::NotFound, format!("Session {session} not found"));
    assert_eq!(refused(bot.send("Chat", with(&other)).await), missing);
    assert_eq!(
        refused(bot.send("DeleteSession", with(&other)).await),
        missing
    );
    assert_eq!(
        refused(bot.send("Chat", with("tp-x")).await).0,
        Code::Unauthenticated
    );
    bot.send("Chat", with(&house.token)).await.unwrap();
    bot.send("DeleteSession", with(&house.token)).await.unwrap();
}

#[tokio::test]
async fn a_revoked_key_s_sessions_are_gone() {
    let house = House::open(ON).await;
    let bot = house.bot();
    let session = bot.session(&house.token).await;
    house
        .bank
        .sql
        .execute("select turnpike.revoke_token($1)", &[&house.token])
        .await
        .unwrap();
    assert_eq!(refused(bot.chat(&session, "x").await).0, Code::NotFound);
}

#[tokio::test]
async fn a_key_without_money_is_told_so() {
    let house = House::open(ON).await;
    let poor = house.bank.token(", budget_usd => 0.000001").await;
    let bot = house.bot();
    let session = bot.session(&poor).await;
    assert_eq!(
        refused(bot.chat(&session, "x").await).0,
        Code::ResourceExhausted
    );
    assert_eq!(house.asked(), 0);
}

#[tokio::test]
async fn another_replica_knows_the_session() {
    let house = House::open(ON).await;
    let session = house.bot().session(&house.token).await;
    house.bot().chat(&session, "Hello").await.unwrap();
    let second = Turnpike::start(&house.bank.db, &house.upstream.url(), ON);
    Bot::of(&second, V2).chat(&session, "Again").await.unwrap();
    assert_eq!(house.sent_up()["messages"].as_array().unwrap().len(), 4);
    house.charged(2).await;
}

#[tokio::test]
async fn a_history_that_is_too_long_loses_its_oldest_turns() {
    let house = House::open(ON).await;
    let bot = house.bot();
    let session = bot.session(&house.token).await;
    for prompt in ["a", "b"] {
        bot.chat(&session, &prompt.repeat(8000)).await.unwrap();
    }
    let sent = house.sent_up();
    let messages = sent["messages"].as_array().unwrap();
    assert_eq!(messages.first().unwrap(), &message("system", "Be a cat"));
    assert!(
        messages
            .iter()
            .all(|said| !said["content"].as_str().unwrap().starts_with("aa"))
    );
    assert!(sent["max_tokens"].as_u64().unwrap() >= 256);
}

#[tokio::test]
async fn a_deadline_is_honoured_and_its_turn_leaves_nothing() {
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
    let bot = house.bot();
    let session = bot.session(&house.token).await;
    let mut request = Request::new(Pair {
        first: session,
        second: "x".to_owned(),
    });
    request
        .metadata_mut()
        .insert("grpc-timeout", "700m".parse().unwrap());
    assert_eq!(
        refused(bot.send("Chat", request).await).0,
        Code::DeadlineExceeded
    );
    eventually("the turn is over", async || {
        (house
            .bank
            .one::<i64>("select count(*) from turnpike.dialog where turn is null")
            .await
            == 1)
            .then_some(())
    })
    .await;
    release.release();
    eventually("what was asked for in time is charged", async || {
        let open: i64 = house.bank.one("select count(*) from turnpike.hold").await;
        (open == 0).then_some(())
    })
    .await;
    house.bank.audited().await;
}

#[tokio::test]
async fn parallel_chats_are_each_charged_once() {
    let mut settings = ON.to_vec();
    settings.push(("CHATBOT_SESSIONS_MAX", "50"));
    let house = House::open(&settings).await;
    let bot = house.bot();
    let mut sessions = Vec::new();
    for _ in 0..super::PARALLEL {
        sessions.push(bot.session(&house.token).await);
    }
    let chats = sessions.iter().map(|session| bot.chat(session, "Hello"));
    for said in futures_util::future::join_all(chats).await {
        assert_eq!(said.unwrap(), " Hi there ");
    }
    house.charged(super::PARALLEL as i64).await;
}

#[tokio::test]
async fn the_service_describes_itself_only_when_it_may() {
    use tonic_reflection::pb::v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let ask = async |house: &House| {
        let client: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http();
        let origin = format!("http://{}", house.turnpike.clients)
            .parse()
            .unwrap();
        let mut client = ServerReflectionClient::with_origin(client, origin);
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(V2.to_owned())),
        };
        // It stays open, as grpcurl's does, until the answer is there.
        let requests = futures_util::StreamExt::chain(
            futures_util::stream::iter([request]),
            futures_util::stream::pending(),
        );
        let mut answers = client.server_reflection_info(requests).await?.into_inner();
        answers.message().await
    };
    let house = House::open(&[("DOOR_CHATBOT", "on"), ("GRPC_REFLECTION", "False")]).await;
    let answer = ask(&house)
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::FileDescriptorResponse(files) = answer else {
        panic!("{answer:?}")
    };
    let file = String::from_utf8_lossy(&files.file_descriptor_proto[0]).into_owned();
    assert!(
        file.contains("ChatbotService") && file.contains("initial_prompt"),
        "{file}"
    );
    let house = House::open(ON).await;
    assert!(ask(&house).await.is_err());
}

#[tokio::test]
async fn the_http_mode_asks_and_renews_one_conversation_for_each_key() {
    let house = House::open(ON).await;
    let bearer = format!("Authorization: Bearer {}", house.token);
    let ask = async |headers: &[&str], body: Value| {
        let (head, said) = house.send("POST", "/ask", headers, body.to_string()).await;
        assert_eq!(
            head.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        (head.status(), text(said))
    };
    assert_eq!(
        ask(&[&bearer], json!({"prompt": "One"})).await,
        (200, " Hi there ".to_owned())
    );
    assert_eq!(
        ask(&[], json!({"prompt": "Two", "access_token": house.token}))
            .await
            .0,
        200
    );
    assert_eq!(house.sent_up()["messages"].as_array().unwrap().len(), 3);
    let (head, said) = house
        .send(
            "POST",
            "/renew",
            &[],
            json!({"access_token": house.token}).to_string(),
        )
        .await;
    assert_eq!((head.status(), text(said).as_str()), (200, "ok"));
    ask(&[&bearer], json!({"prompt": "Three"})).await;
    assert_eq!(
        house.sent_up()["messages"],
        json!([message("user", "Three")])
    );

    assert_eq!(
        ask(&[&bearer], json!({})).await,
        (400, "prompt is required".to_owned())
    );
    assert_eq!(ask(&[], json!({"prompt": "x"})).await.0, 401);
    let (head, said) = house.send("POST", "/renew", &[], "{}").await;
    assert_eq!(
        (head.status(), text(said).as_str()),
        (400, "access_token is required")
    );
    let (head, _) = house
        .send("POST", "/renew", &[], r#"{"access_token":"sk-x"}"#)
        .await;
    assert_eq!(head.status(), 401);
    let (head, _) = house.send("POST", "/ask", &[], "no").await;
    assert_eq!(head.status(), 400);
    let (head, _) = house.send("GET", "/ask", &[], "").await;
    assert_eq!((head.status(), head.header("allow")), (405, Some("POST")));
    house.charged(3).await;
}

#[tokio::test]
async fn http_callers_cool_down_and_hear_the_upstream_s_errors_as_text() {
    let house = House::open(&[("DOOR_CHATBOT", "on"), ("GPT_ENGINE", "gpt-4o")]).await;
    let call = json!({"prompt": "x", "access_token": house.token}).to_string();
    assert_eq!(house.send("POST", "/ask", &[], &call).await.0.status(), 200);
    let (head, said) = house.send("POST", "/ask", &[], &call).await;
    assert_eq!(head.status(), 429);
    assert!(text(said).starts_with("error: Cooldown: "));

    let house = House::failing(
        "503 Service Unavailable",
        r#"{"error":{"message":"busy"}}"#,
        ON,
    )
    .await;
    let call = json!({"prompt": "x", "access_token": house.token}).to_string();
    let (head, said) = house.send("POST", "/ask", &[], &call).await;
    assert_eq!(
        (head.status(), text(said).as_str()),
        (500, "error: 503 Service Unavailable busy")
    );
}

#[tokio::test]
async fn the_command_opens_the_door_at_its_address() {
    let bank = crate::support::Bank::open().await;
    let token = bank.token("").await;
    let upstream = Upstream::answering(ok(ANSWER)).await;
    let turnpike = Turnpike::start_as(
        &["chatbot", "--grpc", "localhost:0", "--debug"],
        &bank.db,
        &upstream.url(),
        &[("GPT_ENGINE", "gpt-4o")],
    );
    assert!(turnpike.clients.ip().is_loopback());
    let bot = Bot::of(&turnpike, V2);
    let session = bot.session(&token).await;
    assert_eq!(bot.chat(&session, "Hello").await.unwrap(), " Hi there ");
    let log = turnpike.log();
    assert!(!log.contains("Hello") && !log.contains(&token), "{log}");
}

#[tokio::test]
async fn a_door_that_is_shut_is_not_there() {
    let house = House::open(&[]).await;
    assert!(house.is_unknown("POST", "/ask").await);
    assert!(house.is_unknown("POST", "/renew").await);
    assert!(
        house
            .is_unknown("POST", "/muvtuber.chatbot.v2.ChatbotService/Chat")
            .await
    );
}
