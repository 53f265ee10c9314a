//! What the answers in a batch's output file (JSON lines) used, read as they come.
//!
//! ```text
//! {"id": "batch_req_1", "custom_id": "1", "response": {"status_code": 200, "body": {… "usage": {…}}}, "error": null}   OpenAI
//! {"custom_id": "1", "result": {"type": "succeeded", "message": {… "usage": {…}}}}                                     Anthropic
//! ```

use std::convert::Infallible;

use tariff::Usage;

use crate::{
    Api,
    answer::DocumentMeter,
    lexer::{Here, Kind, Lexer, Scrap, Visitor},
};

/// The longest key that is one of ours.
const KEY_BYTES_MAX: usize = 16;
/// How deep an answer stands in its line.
const DEPTH: u32 = 2;

/// One line of an output file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// An answer that reports its usage.
    Used(Usage),
    /// An answer that reports none, and the tokens that its text comes to.
    Unreported {
        /// The model it names.
        model: Option<String>,
        /// Output tokens by tokenizer.
        output_tokens: u64,
    },
    /// An error: it cost nothing.
    Failed,
    /// What could not be read.
    Lost,
}

/// Reads an output file. Its memory is that of a meter, however long a line is.
#[derive(Debug)]
pub struct BatchAnswers {
    api: Api,
    lexer: Lexer<false>,
    line: Line,
    is_broken: bool,
}

impl BatchAnswers {
    /// A reader of answers of this endpoint.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self {
            api,
            lexer: Lexer::default(),
            line: Line::new(api),
            is_broken: false,
        }
    }

    /// Shows the next bytes; every line that ends in them goes to `found`.
    pub fn push(&mut self, bytes: &[u8], found: &mut impl FnMut(Answered)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.is_broken {
                self.is_broken = self.lexer.push(piece, &mut self.line).is_err();
                self.line.after(piece);
            }
            if piece.ends_with(b"\n") {
                self.end_line(found);
            }
        }
    }

    /// The file has ended.
    pub fn finish(mut self, found: &mut impl FnMut(Answered)) {
        self.end_line(found);
    }

    fn end_line(&mut self, found: &mut impl FnMut(Answered)) {
        let is_empty = !self.lexer.is_begun() && !self.is_broken;
        let is_whole = self.lexer.is_done() && !self.is_broken;
        self.lexer = Lexer::default();
        self.is_broken = false;
        if is_empty {
            return;
        }
        let line = std::mem::replace(&mut self.line, Line::new(self.api));
        found(if is_whole {
            line.answered()
        } else {
            Answered::Lost
        });
    }
}

/// What the key that has just passed introduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    /// `response` of OpenAI's lines, `result` of Anthropic's.
    Response,
    /// `body`, or `message`, of that.
    Body,
    /// `status_code` of that.
    Status,
    Other,
}

/// One line: the answer in it goes to a meter of its own.
#[derive(Debug)]
struct Line {
    meter: DocumentMeter,
    key: Scrap,
    is_key: bool,
    member: Member,
    in_response: bool,
    /// The answer now passes.
    in_body: bool,
    had_body: bool,
    /// `status_code`; 0 unless it stands there.
    status: u16,
}

impl Line {
    fn new(api: Api) -> Self {
        Self {
            meter: DocumentMeter::new(api),
            key: Scrap::new(KEY_BYTES_MAX),
            is_key: false,
            member: Member::Other,
            in_response: false,
            in_body: false,
            had_body: false,
            status: 0,
        }
    }

    fn after(&mut self, bytes: &[u8]) {
        if self.in_body {
            self.meter.after(bytes);
        }
    }

    fn answered(mut self) -> Answered {
        let reading = self.meter.finish();
        if let Some(mut usage) = reading.usage {
            for line in &mut usage.lines {
                if line.model.is_none() {
                    line.model.clone_from(&reading.model);
                }
            }
            return Answered::Used(usage);
        }
        if !self.had_body || reading.is_error || self.status >= 400 {
            return Answered::Failed;
        }
        Answered::Unreported {
            model: reading.model,
            output_tokens: reading.output_tokens_seen,
        }
    }

    fn end_key(&mut self, depth: u32) {
        let key = self.key.bytes();
        self.is_key = false;
        self.member = match (depth, self.in_response) {
            (1, _) if key == b"response" || key == b"result" => Member::Response,
            (DEPTH, true) if key == b"body" || key == b"message" => Member::Body,
            (DEPTH, true) if key == b"status_code" => Member::Status,
            _ => Member::Other,
        };
    }
}

/// A place in the line as the place that it is in the answer.
fn inner(here: Here<'_>) -> Here<'_> {
    Here {
        depth: here.depth.saturating_sub(DEPTH),
        ..here
    }
}

impl Visitor for Line {
    type Stop = Infallible;

    fn begin(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Infallible> {
        if self.in_body {
            return self.meter.begin(kind, inner(here));
        }
        let member = match kind {
            Kind::Key => {
                self.key.clear();
                self.is_key = true;
                return Ok(());
            }
            _ => std::mem::replace(&mut self.member, Member::Other),
        };
        match (member, kind, here.depth) {
            (Member::Response, Kind::Object, 1) => self.in_response = true,
            (Member::Body, Kind::Object, DEPTH) if !self.had_body => {
                self.in_body = true;
                self.had_body = true;
                return self.meter.begin(kind, inner(here));
            }
            (Member::Status, Kind::Number, DEPTH) => {
                self.key.clear();
                self.member = Member::Status;
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, piece: &[u8]) {
        if self.in_body {
            self.meter.text(piece);
        } else if self.is_key || self.member == Member::Status {
            self.key.text(piece);
        }
    }

    fn unit(&mut self, unit: u16) {
        if self.in_body {
            self.meter.unit(unit);
        } else if self.is_key {
            self.key.unit(unit);
        }
    }

    fn end(&mut self, kind: Kind, here: Here<'_>) -> Result<(), Infallible> {
        if self.in_body {
            self.in_body = here.depth > DEPTH || !matches!(kind, Kind::Object);
            return self.meter.end(kind, inner(here));
        }
        match (kind, here.depth) {
            (Kind::Key, depth) => self.end_key(depth),
            (Kind::Number, DEPTH) if self.member == Member::Status => {
                let status = std::str::from_utf8(self.key.bytes()).ok();
                self.status = status.and_then(|it| it.parse().ok()).unwrap_or(0);
                self.member = Member::Other;
            }
            (Kind::Object, 1) => self.in_response = false,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tariff::Buckets;

    use super::*;

    fn read(api: Api, file: &str, cut: usize) -> Vec<Answered> {
        let mut found = Vec::new();
        let mut reader = BatchAnswers::new(api);
        for piece in file.as_bytes().chunks(cut) {
            reader.push(piece, &mut |line| found.push(line));
        }
        reader.finish(&mut |line| found.push(line));
        found
    }

    fn buckets(line: &Answered) -> (Option<&str>, Buckets) {
        let Answered::Used(usage) = line else {
            panic!("no usage: {line:?}")
        };
        (usage.lines[0].model.as_deref(), usage.total())
    }

    const CHAT: &str = r#"{"id":"batch_req_1","custom_id":"usage","response":{"status_code":200,"request_id":"r","body":{"id":"c","model":"gpt-4o-2024-08-06","service_tier":"default","choices":[{"message":{"content":"{\"usage\":{\"prompt_tokens\":9}}"},"finish_reason":"stop"}],"usage":{"prompt_tokens":53,"completion_tokens":15,"total_tokens":68,"prompt_tokens_details":{"cached_tokens":3}}}},"error":null}"#;
    const ERROR: &str = r#"{"id":"batch_req_2","custom_id":"b","response":{"status_code":400,"request_id":"r","body":{"error":{"message":"no","type":"invalid_request_error"}}},"error":null}"#;
    const EXPIRED: &str = r#"{"id":"batch_req_3","custom_id":"c","response":null,"error":{"code":"batch_expired","message":"late"}}"#;

    #[test]
    fn answers_are_read_and_errors_cost_nothing_however_the_file_is_cut() {
        let file = format!("{CHAT}\n{ERROR}\n\n{EXPIRED}\n{{\"broken\n{CHAT}");
        let whole = read(Api::ChatCompletions, &file, file.len());
        for cut in 1..64 {
            assert_eq!(read(Api::ChatCompletions, &file, cut), whole, "{cut}");
        }
        let used = Buckets {
            in_text: 50,
            cr_text: 3,
            out_text: 15,
            ..Buckets::default()
        };
        assert_eq!(buckets(&whole[0]), (Some("gpt-4o-2024-08-06"), used));
        assert_eq!(
            whole[1..4],
            [Answered::Failed, Answered::Failed, Answered::Lost]
        );
        assert_eq!(whole[4], whole[0]);
    }

    #[test]
    fn usage_elsewhere_in_a_line_is_none() {
        let line = r#"{"usage":{"prompt_tokens":1},"response":{"usage":{"prompt_tokens":2},"status_code":500,"body":{}},"body":{"usage":{"prompt_tokens":3}}}"#;
        assert_eq!(read(Api::ChatCompletions, line, 1), [Answered::Failed]);
    }

    #[test]
    fn an_answer_without_usage_is_counted_by_its_text() {
        let line = r#"{"response":{"status_code":200,"body":{"model":"m","choices":[{"message":{"content":"Hello there, world"},"finish_reason":"stop"}]}}}"#;
        let [
            Answered::Unreported {
                model,
                output_tokens,
            },
        ] = &read(Api::ChatCompletions, line, 9)[..]
        else {
            panic!("one line without usage")
        };
        assert_eq!(model.as_deref(), Some("m"));
        assert!(*output_tokens > 2);
    }

    #[test]
    fn results_of_messages_are_read() {
        let line = r#"{"custom_id":"a","result":{"type":"succeeded","message":{"id":"msg_1","type":"message","model":"claude-sonnet-5","usage":{"input_tokens":10,"cache_read_input_tokens":4,"output_tokens":34}}}}"#;
        let found = read(Api::Messages, line, 5);
        let used = Buckets {
            in_text: 10,
            cr_text: 4,
            out_text: 34,
            ..Buckets::default()
        };
        assert_eq!(buckets(&found[0]), (Some("claude-sonnet-5"), used));
        let errored = r#"{"custom_id":"a","result":{"type":"expired"}}"#;
        assert_eq!(read(Api::Messages, errored, 5), [Answered::Failed]);
    }
}
