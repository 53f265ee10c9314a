//! A provider whose work goes on after the request: files, uploads, batches, videos, fine-tuning. A job stays as it was made until the
//! test says otherwise.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Map, Value, json};

use crate::{
    raw::Wire,
    upstream::{self, Upstream, answer},
};

/// The collections, what their ids begin with, what their objects are, and how they begin.
const COLLECTIONS: [(&str, &str, &str, &str); 5] = [
    ("/v1/batches", "batch_", "batch", "validating"),
    ("/v1/videos", "video_", "video", "queued"),
    (
        "/v1/fine_tuning/jobs",
        "ftjob-",
        "fine_tuning.job",
        "validating_files",
    ),
    ("/v1/uploads", "upload_", "upload", "pending"),
    ("/v1/messages/batches", "msgbatch_", "message_batch", ""),
];

/// A provider of jobs over raw sockets.
pub struct Provider {
    upstream: Upstream,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Map<String, Value>>,
    contents: BTreeMap<String, Vec<u8>>,
    /// Requests that came, as `GET /v1/batches/batch_1`.
    seen: Vec<String>,
    made: u64,
    /// What gets no answer, though it is done.
    silent: Option<String>,
    /// How many questions about an object get a 404 from now on.
    misses: u32,
}

impl Provider {
    /// Starts one that has nothing yet.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let own = Arc::clone(&state);
        let upstream = Upstream::scripted(move |mut wire: Wire| {
            let state = Arc::clone(&own);
            async move {
                while wire.has_more().await {
                    let (head, body) = wire.read_message().await;
                    let answer = lock(&state).answer(&head.start, &body);
                    let is_silent = lock(&state).is_silent(&head.start);
                    if is_silent {
                        std::future::pending::<()>().await;
                    }
                    if wire.try_send(answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await;
        Self { upstream, state }
    }

    /// Its base URL, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        self.upstream.url()
    }

    /// Changes members of an object.
    ///
    /// # Panics
    /// If there is no such object, or `members` is none.
    pub fn set(&self, id: &str, members: &Value) {
        let mut state = lock(&self.state);
        let object = state.objects.get_mut(id).expect("it was made");
        let members = members.as_object().expect("members are an object");
        object.extend(members.clone());
    }

    /// Puts a file there that nobody uploaded: what a job made.
    pub fn put_file(&self, id: &str, content: impl Into<Vec<u8>>) {
        let mut state = lock(&self.state);
        let file = json!({"id": id, "object": "file", "purpose": "batch_output"});
        state
            .objects
            .insert(id.to_owned(), file.as_object().cloned().unwrap_or_default());
        state.contents.insert(id.to_owned(), content.into());
    }

    /// Puts content below an object: the results of a batch of messages.
    pub fn put_content(&self, id: &str, content: impl Into<Vec<u8>>) {
        let mut state = lock(&self.state);
        state.contents.insert(id.to_owned(), content.into());
    }

    /// Does what is asked (`POST /v1/videos`), and does not answer.
    pub fn do_silently(&self, what: &str) {
        lock(&self.state).silent = Some(what.to_owned());
    }

    /// Knows nothing of an object that is asked for, so many times.
    pub fn miss(&self, times: u32) {
        lock(&self.state).misses = times;
    }

    /// How many of those are still to come.
    #[must_use]
    pub fn misses_left(&self) -> u32 {
        lock(&self.state).misses
    }

    /// How often this was asked (`GET /v1/batches/batch_1`).
    #[must_use]
    pub fn asked(&self, what: &str) -> usize {
        let state = lock(&self.state);
        state.seen.iter().filter(|seen| *seen == what).count()
    }

    /// The ids of all objects that begin so.
    #[must_use]
    pub fn ids(&self, prefix: &str) -> Vec<String> {
        let state = lock(&self.state);
        let ids = state.objects.keys().filter(|id| id.starts_with(prefix));
        ids.cloned().collect()
    }
}

impl State {
    fn is_silent(&self, start: &str) -> bool {
        let silent = self.silent.as_deref();
        silent.is_some_and(|what| start.starts_with(&format!("{what} ")))
    }

    fn answer(&mut self, start: &str, body: &[u8]) -> Vec<u8> {
        let mut words = start.split(' ');
        let method = words.next().unwrap_or_default();
        let path = words.next().unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        self.seen.push(format!("{method} {path}"));
        if (method, path) == ("POST", "/v1/files") {
            return self.upload(body);
        }
        if method == "POST"
            && let Some((_, prefix, kind, status)) =
                COLLECTIONS.into_iter().find(|(own, ..)| *own == path)
        {
            return self.make(prefix, kind, status, body);
        }
        let mut parts = path.rsplit('/');
        let last = parts.next().unwrap_or_default();
        let (id, action) = if self.objects.contains_key(last) {
            (last, "")
        } else {
            (parts.next().unwrap_or_default(), last)
        };
        let is_missed = (method, action) == ("GET", "") && self.misses > 0;
        self.misses = self.misses.saturating_sub(u32::from(is_missed));
        let Some(object) = self.objects.get_mut(id).filter(|_| !is_missed) else {
            let error = json!({"error": {"message": format!("nothing at {path}"), "type": "invalid_request_error"}});
            let headers = [("Content-Type", "application/json")];
            return answer("404 Not Found", &headers, &error.to_string());
        };
        match (method, action) {
            ("DELETE", "") => {
                self.objects.remove(id);
                upstream::json(&json!({"id": id, "deleted": true}).to_string())
            }
            ("GET", "content" | "results") => {
                let content = self.contents.get(id).cloned().unwrap_or_default();
                let mut answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    content.len()
                )
                .into_bytes();
                answer.extend(content);
                answer
            }
            ("POST", "cancel") => {
                object.insert("status".to_owned(), json!("cancelling"));
                upstream::json(&Value::from(object.clone()).to_string())
            }
            _ => upstream::json(&Value::from(object.clone()).to_string()),
        }
    }

    fn next(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{}", self.made)
    }

    /// Keeps the content of the form's first file.
    fn upload(&mut self, form: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(form);
        let purpose = text.split("name=\"purpose\"\r\n\r\n").nth(1);
        let purpose = purpose.and_then(|rest| rest.split("\r\n").next());
        let content = text
            .split("filename=")
            .nth(1)
            .and_then(|rest| rest.split_once("\r\n\r\n"))
            .and_then(|(_, rest)| rest.split_once("\r\n--"))
            .map_or("", |(content, _)| content);
        let id = self.next("file-");
        let file = json!({"id": id, "object": "file", "bytes": content.len(), "created_at": 1, "filename": "a.jsonl", "purpose": purpose, "status": "processed"});
        self.contents.insert(id.clone(), content.into());
        self.objects
            .insert(id, file.as_object().cloned().unwrap_or_default());
        upstream::json(&file.to_string())
    }

    /// Makes an object that repeats what was asked for.
    fn make(&mut self, prefix: &str, kind: &str, status: &str, body: &[u8]) -> Vec<u8> {
        let id = self.next(prefix);
        let asked: Value = serde_json::from_slice(body).unwrap_or_else(|_| fields(body));
        let mut object = asked.as_object().cloned().unwrap_or_default();
        let own = json!({"id": id, "object": kind, "created_at": 1});
        object.extend(own.as_object().cloned().unwrap_or_default());
        if status.is_empty() {
            object.remove("requests");
            object.insert("processing_status".to_owned(), json!("in_progress"));
        } else {
            object.insert("status".to_owned(), json!(status));
        }
        self.objects.insert(id, object.clone());
        upstream::json(&Value::from(object).to_string())
    }
}

/// The text fields of a form.
fn fields(form: &[u8]) -> Value {
    let text = String::from_utf8_lossy(form);
    let parts = text.split("name=\"").skip(1);
    let fields = parts.filter_map(|part| {
        let (head, value) = part.split_once("\r\n\r\n")?;
        let (name, rest) = head.split_once('"')?;
        let value = value.split("\r\n").next()?;
        (!rest.contains("filename")).then(|| (name.to_owned(), json!(value)))
    });
    Value::Object(fields.collect())
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
