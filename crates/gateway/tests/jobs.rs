//! Work that goes on after its request: charged once, by what it used, whether or not its client ever asks; and nobody else's.

use serde_json::{Value, json};
use testkit::{jobs::Provider, raw::Head};

use crate::{
    endpoints::{Act, Does, Kind, path, work::ROWS},
    support::{Bank, Turnpike, eventually},
};

mod files;
mod kinds;
mod lasting;

/// USD: a minute of video, 1,000,000 trained tokens.
const PRICES: &str = r#"
    select turnpike.set_price('sora-2', video_minute => 6, videos => '{"1792x1024": 30}');
    select turnpike.set_price('gpt-4o-mini-2024-07-18', input => 0.15, output => 0.60, training => 3);
    select turnpike.set_price('claude-sonnet-5', input => 3, output => 15, context_window => 200000, output_max => 8192);
"#;

/// A gateway in front of a provider of jobs, and a token.
struct Desk {
    bank: Bank,
    provider: Provider,
    turnpike: Turnpike,
    token: String,
}

impl Desk {
    async fn open() -> Self {
        Self::open_with(&[]).await
    }

    async fn open_with(settings: &[(&str, &str)]) -> Self {
        let bank = Bank::open().await;
        bank.sql.batch_execute(PRICES).await.unwrap();
        let provider = Provider::start().await;
        let turnpike = Turnpike::start(&bank.db, &provider.url(), settings);
        let token = bank.token("").await;
        Self {
            bank,
            provider,
            turnpike,
            token,
        }
    }

    /// Somebody else's access token.
    async fn stranger(&self) -> String {
        let sql = &self.bank.sql;
        sql.batch_execute(
            "select turnpike.create_account('bob'), turnpike.top_up('bob', 20, 'test')",
        )
        .await
        .unwrap();
        let issued = "select token from turnpike.issue_token(account => 'bob')";
        sql.query_one(issued, &[]).await.unwrap().get(0)
    }

    async fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> (Head, Vec<u8>) {
        self.turnpike
            .call(request(method, path, token, "application/json", body))
            .await
    }

    /// The JSON of an answer that must be a 200.
    async fn made(&self, method: &str, path: &str, body: &str) -> Value {
        let (head, answer) = self.ask(method, path, &self.token, body).await;
        let said = String::from_utf8_lossy(&answer);
        assert_eq!(head.status(), 200, "{method} {path}: {said}");
        serde_json::from_slice(&answer).unwrap()
    }

    /// Uploads a file; its id.
    async fn upload(&self, purpose: &str, content: &str) -> String {
        let body = form(purpose, content);
        let request = request(
            "POST",
            "/v1/files",
            &self.token,
            "multipart/form-data; boundary=XX",
            &body,
        );
        let (head, answer) = self.turnpike.call(request).await;
        let said = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(head.status(), 200, "{said}");
        id(&serde_json::from_str(&said).unwrap())
    }

    /// Begins a batch of two chats; its id.
    async fn batch(&self) -> String {
        let file = self.upload("batch", &lines(2)).await;
        let body = json!({"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"});
        id(&self.made("POST", "/v1/batches", &body.to_string()).await)
    }

    /// Lets a batch come to its end with these answers.
    fn finish(&self, batch: &str, answers: &str) {
        let output = format!("file-of-{batch}");
        self.provider.put_file(&output, answers);
        self.provider.set(
            batch,
            &json!({"status": "completed", "output_file_id": output}),
        );
    }

    async fn count(&self, of: &str) -> i64 {
        self.bank.one(&format!("select count(*) from {of}")).await
    }

    /// Waits until no job is open, then looks for the charges.
    async fn charged(&self) -> Vec<(i64, String)> {
        eventually("every job ends", async || {
            let open = "turnpike.job where ended_at is null";
            (self.count(open).await == 0).then_some(())
        })
        .await;
        self.bank.audited().await;
        let charges = "select amount, mark from turnpike.charge order by id";
        let rows = self.bank.sql.query(charges, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

fn request(method: &str, path: &str, token: &str, content_type: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn form(purpose: &str, content: &str) -> String {
    format!(
        "--XX\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n{purpose}\r\n--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{content}\r\n--XX--\r\n"
    )
}

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

/// So many requests to gpt-4o.
fn lines(count: usize) -> String {
    let line = |at| {
        format!(
            "{{\"custom_id\":\"{at}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{{\"model\":\"gpt-4o\",\"max_tokens\":100,\"messages\":[{{\"role\":\"user\",\"content\":\"How many legs has a spider, and why so many?\"}}]}}}}\n"
        )
    };
    (0..count).map(line).collect()
}

/// An answer of 53 and 15 tokens: at half of 2.50 and 10 USD a million it costs 141,250 nano-USD.
const ANSWER: &str = r#"{"id":"batch_req_1","custom_id":"0","response":{"status_code":200,"request_id":"r","body":{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-4o","service_tier":"default","choices":[{"index":0,"message":{"role":"assistant","content":"Eight."},"finish_reason":"stop"}],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68}}},"error":null}"#;
const ANSWER_COST: i64 = 141_250;
const FAILED: &str = r#"{"id":"batch_req_2","custom_id":"1","response":{"status_code":400,"request_id":"r","body":{"error":{"message":"no"}}},"error":null}"#;

fn measured(amount: i64) -> Vec<(i64, String)> {
    vec![(amount, "measured".to_owned())]
}
