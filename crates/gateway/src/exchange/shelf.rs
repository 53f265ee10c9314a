//! What is kept of files and jobs: passed on if it is the caller's. Lists have one's own alone; files that an object names become its owner's; what is
//! not charged yet cannot be deleted.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use ledger::{AccessToken, NewObject, Object};
use proxy::Pool;
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::error;

use super::{
    Exchange, Reply,
    forward::{self, Route},
};
use crate::{
    body::RequestBody,
    endpoint::{Act, Endpoint, Kind},
    gateway::Entry,
    places::Place,
    refusal::Refusal,
    work::{self, Asked},
};

/// Most objects of one page of a list, and as many unless the request says.
const PAGE_MAX: usize = 20;
/// How many of them are asked for at once.
const AT_ONCE: usize = 5;

/// Whether a request is one of these.
pub(super) fn is_here(endpoint: &Endpoint<'_>, act: Act) -> bool {
    match act {
        Act::List(kind) => is_work(kind),
        Act::Read | Act::Change | Act::Delete => endpoint
            .objects()
            .last()
            .is_some_and(|(kind, _)| is_work(kind)),
        Act::Create(_) => false,
    }
}

/// Whether the answer may name files that were not known before.
fn names_files(endpoint: &Endpoint<'_>) -> bool {
    matches!(
        endpoint.name(),
        "batches/get" | "batches/cancel" | "fine_tuning/jobs/get" | "uploads/complete"
    )
}

const fn is_work(kind: Kind) -> bool {
    match kind {
        Kind::File
        | Kind::Upload
        | Kind::Batch
        | Kind::MessageBatch
        | Kind::Video
        | Kind::TuningJob => true,
        Kind::Response | Kind::ChatCompletion | Kind::Message | Kind::Conversation => false,
    }
}

impl Exchange {
    pub(super) async fn shelf(
        &mut self,
        endpoint: &Endpoint<'_>,
        act: Act,
        token: Arc<AccessToken>,
        entry: Entry,
        request: Request<RequestBody>,
    ) -> Result<Reply, Refusal> {
        if let Act::List(kind) = act {
            return self.list(kind, &token, entry, request.uri().query()).await;
        }
        let Some((kind, id)) = endpoint.objects().last() else {
            return Err(Refusal::UnknownPath {
                target: super::target(&request),
            });
        };
        let (object, _) = self.owned(&token, kind, id, None).await?;
        if act == Act::Delete {
            self.must_be_over(&token, &object).await?;
        }
        let gateway = Arc::clone(&self.worker.gateway);
        let catalog = gateway.ledger.catalog();
        let place = gateway
            .places
            .home(&catalog, object.upstream, object.upstream_key)?;
        self.record().upstream = Some(place.name.clone());
        let route = Route::new(Arc::clone(&place), true, &token, endpoint, None)?;
        let (head, body) = request.into_parts();
        let is_read = act == Act::Delete || names_files(endpoint);
        let sending = forward::send(&self.worker.pool, &route, &head, body, is_read);
        let response = forward::in_time(&gateway, sending).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Refusal::UpstreamAuth),
            status if !status.is_success() => {
                return self.pass_error(response, entry).await;
            }
            _ if !is_read => return Ok(self.pass(response, "complete", entry)),
            _ => {}
        }
        let (head, answer) = response.into_parts();
        let answer = work::read_small(answer).await.map_err(|error| {
            error!(error, "object.answer_unread");
            Refusal::UpstreamUnreachable { sent: true }
        })?;
        let noted = if act == Act::Delete {
            gateway.ledger.forget_object(token.account, id).await
        } else {
            let files = work::files_in(&answer).into_iter();
            let files: Vec<_> = files.map(|file| made(file, &object, &token)).collect();
            gateway.ledger.record_objects(&files).await
        };
        noted.map_err(|error| unavailable(&error))?;
        Ok(self.answer_whole(head, answer.into(), entry))
    }

    /// What is being worked on stays, and so do the files of what is not charged yet: they say what it used.
    async fn must_be_over(&self, token: &AccessToken, object: &Object) -> Result<(), Refusal> {
        let ledger = &self.worker.gateway.ledger;
        for id in [Some(&object.id), object.parent.as_ref()]
            .into_iter()
            .flatten()
        {
            let job = ledger.job_on(token.account, id).await;
            if job.map_err(|error| unavailable(&error))?.is_some() {
                return Err(Refusal::StillAtWork { id: id.clone() });
            }
        }
        Ok(())
    }

    /// A page of one's own objects, each as its provider has it now.
    async fn list(
        &mut self,
        kind: Kind,
        token: &AccessToken,
        entry: Entry,
        query: Option<&str>,
    ) -> Result<Reply, Refusal> {
        let page = Page::read(query.unwrap_or_default())?;
        let gateway = Arc::clone(&self.worker.gateway);
        let most = i64::try_from(page.limit.saturating_add(1)).unwrap_or(i64::MAX);
        let objects =
            gateway
                .ledger
                .objects_of(token.account, kind.name(), page.after.as_deref(), most);
        let mut objects = objects.await.map_err(|error| unavailable(&error))?;
        let has_more = objects.len() > page.limit;
        objects.truncate(page.limit);
        let catalog = gateway.ledger.catalog();
        let mut asking = Vec::with_capacity(objects.len());
        for object in &objects {
            let place = gateway
                .places
                .home(&catalog, object.upstream, object.upstream_key)?;
            asking.push(current(
                self.worker.pool.clone(),
                place,
                kind,
                object.id.clone(),
            ));
        }
        let found: Vec<Option<Box<RawValue>>> =
            stream::iter(asking).buffered(AT_ONCE).try_collect().await?;
        let data: Vec<Box<RawValue>> = found
            .into_iter()
            .flatten()
            .filter(|json| page.wants(json))
            .collect();
        let list = serde_json::json!({
            "object": "list",
            "data": data,
            "first_id": objects.first().map(|it| &it.id),
            "last_id": objects.last().map(|it| &it.id),
            "has_more": has_more,
        });
        let mut head = Response::new(()).into_parts().0;
        let json = HeaderValue::from_static("application/json");
        head.headers.insert(header::CONTENT_TYPE, json);
        Ok(self.answer_whole(head, list.to_string().into(), entry))
    }
}

/// An object as its provider has it now; `None` if it has forgotten it.
async fn current(
    pool: Pool,
    place: Arc<Place>,
    kind: Kind,
    id: String,
) -> Result<Option<Box<RawValue>>, Refusal> {
    match work::json_of(&pool, &place, kind.name(), &id).await {
        Ok(json) => Ok(Some(json)),
        Err(Asked::Gone) => Ok(None),
        Err(error) => {
            error!(%error, "list.not_answered");
            Err(Refusal::UpstreamUnreachable { sent: true })
        }
    }
}

/// A file that a job has made.
pub(crate) fn made(id: String, of: &Object, token: &AccessToken) -> NewObject {
    NewObject {
        id,
        kind: Kind::File.name().into(),
        account: token.account,
        token: token.id,
        upstream: of.upstream,
        upstream_key: of.upstream_key,
        model: None,
        parent: Some(of.id.clone()),
        facts: None,
        kept: None,
    }
}

fn unavailable(error: &ledger::LedgerError) -> Refusal {
    error!(%error, "object.not_noted");
    Refusal::Unavailable {
        reason: "its database does not answer",
    }
}

/// Which part of a list is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    limit: usize,
    after: Option<String>,
    purpose: Option<String>,
}

impl Page {
    fn read(query: &str) -> Result<Self, Refusal> {
        let mut page = Self {
            limit: PAGE_MAX,
            after: None,
            purpose: None,
        };
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let wrong = |message: &str| Refusal::InvalidBody {
                message: message.into(),
                param: Some(name.to_owned()),
                code: "invalid_query",
            };
            let value = percent_encoding::percent_decode_str(value)
                .decode_utf8_lossy()
                .into_owned();
            match name {
                "limit" => {
                    let limit = value.parse::<usize>().ok().filter(|limit| *limit > 0);
                    let limit =
                        limit.ok_or_else(|| wrong("'limit' must be a whole number above 0."))?;
                    page.limit = limit.min(PAGE_MAX);
                }
                // Both name where to go on: OpenAI's word and Anthropic's.
                "after" | "after_id" => page.after = Some(value),
                "purpose" => page.purpose = Some(value),
                "order" if value != "desc" => {
                    return Err(wrong(
                        "This gateway lists the newest first: leave 'order' out, or give desc.",
                    ));
                }
                "before" | "before_id" => {
                    return Err(wrong(
                        "This gateway lists from the newest on: go on with 'after'.",
                    ));
                }
                _ => {}
            }
        }
        Ok(page)
    }

    fn wants(&self, json: &RawValue) -> bool {
        #[derive(Deserialize)]
        struct File {
            purpose: Option<String>,
        }
        let Some(purpose) = &self.purpose else {
            return true;
        };
        let file = serde_json::from_str::<File>(json.get()).ok();
        file.and_then(|file| file.purpose).as_ref() == Some(purpose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_go_on_after_an_object() {
        let page = Page::read("limit=2&after=file-1&purpose=batch&order=desc").unwrap();
        let want = Page {
            limit: 2,
            after: Some("file-1".into()),
            purpose: Some("batch".into()),
        };
        assert_eq!(page, want);
        assert_eq!(Page::read("limit=10000").unwrap().limit, PAGE_MAX);
        for query in ["limit=0", "limit=x", "order=asc", "before=a"] {
            assert!(Page::read(query).is_err(), "{query}");
        }
    }
}
