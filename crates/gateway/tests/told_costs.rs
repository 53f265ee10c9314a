//! Upstreams whose own figure is charged: what they say an answer cost, times a factor, never above the hold.

use std::sync::{Arc, Mutex};

use testkit::upstream::{Upstream, json};

use crate::support::{Bank, Turnpike, command};

/// Three upstreams at one address, each with a model of its own at the price of gpt-4o.
const SETUP: &str = "
    select turnpike.set_upstream('plain', 'URL/v1', key => 'k');
    select turnpike.set_upstream('theirs', 'URL/v1', key => 'k', cost => 'provider');
    select turnpike.set_upstream('dearer', 'URL/v1', key => 'k', cost => 'provider', cost_permille => 1200);
    select turnpike.set_price(model, input => 2.50, output => 10, context_window => 8192, output_max => 1000),
           turnpike.set_route(model, model)
      from unnest('{plain,theirs,dearer}'::text[]) as model";

struct Told {
    bank: Bank,
    turnpike: Turnpike,
    token: String,
    usage: Arc<Mutex<String>>,
    _upstream: Upstream,
}

impl Told {
    async fn start() -> Self {
        let bank = Bank::open().await;
        let usage = Arc::new(Mutex::new(String::new()));
        let answers = Arc::clone(&usage);
        let upstream = Upstream::scripted(move |mut wire| {
            let answers = Arc::clone(&answers);
            async move {
                while wire.has_more().await {
                    wire.read_message().await;
                    let usage = answers.lock().unwrap().clone();
                    let body = format!(r#"{{"id":"c","model":"some-model-of-theirs","choices":[],"usage":{usage}}}"#);
                    wire.send(json(&body)).await;
                }
            }
        })
        .await;
        let setup = SETUP.replace("URL", &upstream.url());
        bank.sql.batch_execute(&setup).await.unwrap();
        let turnpike = Turnpike::start(&bank.db, "http://127.0.0.1:1", &[]);
        let token = bank.token("").await;
        Self {
            bank,
            turnpike,
            token,
            usage,
            _upstream: upstream,
        }
    }

    /// What an answer with this usage is charged where the model goes: amount, mark, what the provider said, and the hold.
    async fn charged(&self, model: &str, usage: &str) -> (i64, String, Option<i64>, i64) {
        *self.usage.lock().unwrap() = usage.to_owned();
        let body = format!(
            r#"{{"model":"{model}","max_tokens":1000,"messages":[{{"role":"user","content":"Hello, how are you today?"}}]}}"#
        );
        let (head, said) = self
            .turnpike
            .post("/v1/chat/completions", &self.token, &body)
            .await;
        assert_eq!(head.status(), 200, "{}", String::from_utf8_lossy(&said));
        let exchange = head.header("x-turnpike-exchange").unwrap();
        let statement = format!(
            "select amount, mark, provider_cost, held from turnpike.charge where id = '{exchange}'"
        );
        let row = self.bank.sql.query_one(&statement, &[]).await.unwrap();
        (row.get(0), row.get(1), row.get(2), row.get(3))
    }
}

#[tokio::test]
async fn what_the_provider_says_is_charged_where_its_upstream_says_so() {
    let told = Told::start().await;
    for (model, usage, amount, mark, said) in [
        // 53 x 2.50 + 15 x 10, whatever OpenRouter says.
        (
            "plain",
            r#""cost":0.0002345,"is_byok":false"#,
            282_500,
            "measured",
            Some(234_500),
        ),
        (
            "theirs",
            r#""cost":0.0002345,"is_byok":false"#,
            234_500,
            "provider_cost",
            Some(234_500),
        ),
        // A fifth more: 234,500 x 1.2
        (
            "dearer",
            r#""cost":0.0002345,"is_byok":false"#,
            281_400,
            "provider_cost",
            Some(234_500),
        ),
        // The client's own key paid there: their 0 is not what it cost.
        (
            "theirs",
            r#""cost":0,"is_byok":true"#,
            282_500,
            "measured",
            None,
        ),
        // A model that is free there is free here.
        (
            "theirs",
            r#""cost":0,"is_byok":false"#,
            0,
            "provider_cost",
            Some(0),
        ),
        // xAI: 1,176,501 ticks of 0.1 nano-USD, rounded up once: as they stand, and after x 1.2 (141,180.12).
        (
            "theirs",
            r#""cost_in_usd_ticks":1176501"#,
            117_651,
            "provider_cost",
            Some(117_651),
        ),
        (
            "dearer",
            r#""cost_in_usd_ticks":1176501"#,
            141_181,
            "provider_cost",
            Some(117_651),
        ),
        // Perplexity
        (
            "theirs",
            r#""search_context_size":"low","cost":{"input_tokens_cost":0.00001,"output_tokens_cost":0.0,"request_cost":0.005,"total_cost":0.00501}"#,
            5_010_000,
            "provider_cost",
            Some(5_010_000),
        ),
        // No cost told, or none that is one: by price.
        ("theirs", r#""other":1"#, 282_500, "measured", None),
        ("theirs", r#""cost":-1"#, 282_500, "measured", None),
    ] {
        let all =
            format!(r#"{{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68,{usage}}}"#);
        let (charged, marked, kept, _) = told.charged(model, &all).await;
        assert_eq!(
            (charged, &*marked, kept),
            (amount, mark, said),
            "{model}: {usage}"
        );
    }
    told.bank.audited().await;
}

#[tokio::test]
async fn what_the_provider_says_is_never_charged_above_the_hold() {
    let told = Told::start().await;
    let usage = r#"{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68,"cost":9.5}"#;
    let (amount, mark, said, held) = told.charged("theirs", usage).await;
    assert_eq!(
        (amount, mark.as_str(), said),
        (held, "bounded", Some(9_500_000_000))
    );
    assert!(held < 1_000_000_000, "{held}");
    told.bank.audited().await;
}

#[tokio::test]
async fn a_wrong_word_for_whose_figure_counts_is_told() {
    let bank = Bank::open().await;
    for (wrong, why) in [
        ("cost => 'theirs'", "cost is 'theirs'"),
        ("cost => null", "cost is null"),
        ("cost_permille => 0", "cost_permille is 0"),
    ] {
        let statement = format!("select turnpike.set_upstream('x', 'https://x/v1', {wrong})");
        let error = bank.sql.batch_execute(&statement).await.unwrap_err();
        let said = error.as_db_error().unwrap();
        assert!(
            said.message().contains(why) && said.hint().is_some(),
            "{said}"
        );
    }
}

#[tokio::test]
async fn an_upstream_is_added_with_whose_figure_counts() {
    let bank = Bank::open().await;
    let settings = [("DATABASE_URL", bank.db.url())];
    let row = "select cost || ' ' || cost_permille from turnpike.upstream where name = 'x'";
    for (flags, wanted) in [
        ("--cost provider --cost-permille 1100", "provider 1100"),
        ("--cost provider", "provider 1000"),
        ("", "price 1000"),
    ] {
        let mut arguments = vec!["upstream", "add", "x", "https://x.example/v1"];
        arguments.extend(flags.split_whitespace());
        let output = command(&settings).args(&arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(bank.one::<String>(row).await, wanted);
    }
}

/// A search costs 0.03 USD, one of low context size 0.025 and of high 0.05; tokens as gpt-4o's.
const SEARCHER: &str = r#"
    select turnpike.set_price('searcher', input => 2.50, output => 10, context_window => 8192, output_max => 1000,
      tools => '{"web_search": 0.03, "web_search_low": 0.025, "web_search_high": 0.05}')"#;

#[tokio::test]
async fn a_search_costs_by_the_size_of_its_context() {
    let bank = Bank::open().await;
    bank.sql.batch_execute(SEARCHER).await.unwrap();
    let cited = r#"{"model":"searcher","choices":[{"message":{"content":"It rains.","annotations":[{"type":"url_citation"}]}}],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}"#;
    let upstream = Upstream::answering(json(cited)).await;
    let turnpike = Turnpike::start(&bank.db, &upstream.url(), &[]);
    let token = bank.token("").await;
    for (options, fee) in [
        ("{}", 30_000_000),
        (r#"{"search_context_size":"low"}"#, 25_000_000),
        (r#"{"search_context_size":"medium"}"#, 30_000_000),
        (
            r#"{"user_location":{"type":"approximate"},"search_context_size":"high"}"#,
            50_000_000,
        ),
        // What nobody knows may be the dearest.
        (r#"{"search_context_size":"enormous"}"#, 50_000_000),
    ] {
        let body = format!(
            r#"{{"model":"searcher","max_tokens":10,"messages":[],"web_search_options":{options}}}"#
        );
        let (head, _) = turnpike.post("/v1/chat/completions", &token, &body).await;
        assert_eq!(head.status(), 200);
        let exchange = head.header("x-turnpike-exchange").unwrap();
        let statement = format!("select amount, held from turnpike.charge where id = '{exchange}'");
        let row = bank.sql.query_one(&statement, &[]).await.unwrap();
        // 53 x 2.50 + 15 x 10, and one search.
        assert_eq!(row.get::<_, i64>(0), 282_500 + fee, "{options}");
        assert!(
            row.get::<_, i64>(1) >= 282_500 + 50_000_000,
            "the dearest search is in the hold"
        );
    }
    bank.audited().await;
}
