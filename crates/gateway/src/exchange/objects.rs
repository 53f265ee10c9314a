//! Requests about what a provider keeps, and requests that name it: it must be the caller's, and is asked for where it is kept.

use std::{sync::Arc, time::Duration};

use http::{Method, Request, StatusCode};
use http_body::Body as _;
use ledger::{AccessToken, Catalog, Dialect, NewObject, Object};
use meter::{Api, Named, RequestFacts, What};
use tokio::time::timeout;
use tracing::warn;

use super::{Asked, Exchange, Reply, forward, forward::Route};
use crate::{
    admission,
    body::RequestBody,
    endpoint::{Act, BodyKind, BoundBy, Endpoint, Kind, Metered},
    gateway::{Entry, Gateway},
    jobs,
    kept::Purpose,
    places::Place,
    reckon::Keeps,
    refusal::Refusal,
    upload::{self, Bounds, Need, Replay, Upload},
};

/// An object that a request names.
struct Wanted<'a> {
    kind: &'static str,
    words: &'static str,
    id: &'a str,
    param: Option<&'static str>,
}

/// What the ledger calls what stands in another object.
const PART: &str = "part";

impl<'a> Wanted<'a> {
    const fn in_path((kind, id): (Kind, &'a str)) -> Self {
        Self {
            kind: kind.name(),
            words: kind.words(),
            id,
            param: None,
        }
    }

    fn in_body(named: &'a Named) -> Self {
        let (kind, words) = match named.what {
            What::Response => ("response", "response"),
            What::Conversation => ("conversation", "conversation"),
            What::File => ("file", "file"),
            What::VectorStore => ("vector_store", "vector store"),
            What::Container => (PART, "container"),
            What::Item => (PART, "item"),
            What::Recording => (PART, "audio"),
        };
        Self {
            kind,
            words,
            id: &named.id,
            param: Some(named.what.param()),
        }
    }
}

/// How the body of a free request is read: for what it names.
const fn free_body(api: Api) -> Metered {
    Metered {
        api,
        body: BodyKind::Json,
        usage_on_request: false,
        bound: BoundBy::Input,
        creates: None,
    }
}

/// Those objects, if they are all the caller's.
///
/// # Errors
/// 404 for the first that is not, 503 while nobody knows.
async fn owned(
    gateway: &Gateway,
    token: &AccessToken,
    wanted: &[Wanted<'_>],
) -> Result<Vec<Object>, Refusal> {
    let ids = |are_parts: bool| {
        let those = wanted.iter().filter(|it| (it.kind == PART) == are_parts);
        let mut ids: Vec<_> = those.map(|want| want.id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let ledger = &gateway.ledger;
    let whole = ledger.owned(token.account, &ids(false)).await;
    let mut found = whole.map_err(|error| unknown(&error))?;
    let parts = ledger.owned_parts(token.account, &ids(true)).await;
    found.extend(parts.map_err(|error| unknown(&error))?);
    let missing = wanted.iter().find(|want| {
        !found
            .iter()
            .any(|object| object.id == want.id && object.kind == want.kind)
    });
    match missing {
        None => Ok(found),
        Some(want) => Err(Refusal::ObjectNotFound {
            kind: want.words,
            id: want.id.to_owned(),
            param: want.param,
        }),
    }
}

fn unknown(error: &ledger::LedgerError) -> Refusal {
    warn!(%error, "object.lookup_failed");
    Refusal::Unavailable {
        reason: "its database does not answer",
    }
}

/// The objects that a path names.
///
/// # Errors
/// See [`owned`].
pub(super) async fn of_path(
    gateway: &Gateway,
    token: &AccessToken,
    endpoint: &Endpoint<'_>,
) -> Result<Vec<Object>, Refusal> {
    let wanted: Vec<_> = endpoint.objects().map(Wanted::in_path).collect();
    owned(gateway, token, &wanted).await
}

/// Where these objects are kept; `None` for none.
///
/// # Errors
/// 400 when that is not one upstream, 503 when it is gone.
pub(super) fn home(
    gateway: &Gateway,
    catalog: &Catalog,
    objects: &[Object],
) -> Result<Option<Arc<Place>>, Refusal> {
    let Some(first) = objects.first() else {
        return Ok(None);
    };
    if objects.iter().any(|it| it.upstream != first.upstream) {
        return Err(elsewhere(
            "What this request names is kept by different upstreams: name what one of them made.",
        ));
    }
    gateway
        .places
        .home(catalog, first.upstream, first.upstream_key)
        .map(Some)
}

fn elsewhere(message: &str) -> Refusal {
    Refusal::InvalidBody {
        message: message.to_owned(),
        param: None,
        code: "objects_elsewhere",
    }
}

/// Refuses a request of a socket, whose upstream and key are settled, that names what is not the caller's or is kept elsewhere.
///
/// # Errors
/// 404 when that is not the caller's; 400 when it is elsewhere.
pub(crate) async fn are_here(
    gateway: &Gateway,
    token: &AccessToken,
    facts: &RequestFacts,
    place: &Place,
) -> Result<(), Refusal> {
    if facts.named.is_empty() {
        return Ok(());
    }
    let wanted: Vec<_> = facts.named.iter().map(Wanted::in_body).collect();
    let objects = owned(gateway, token, &wanted).await?;
    let is_here = |it: &Object| it.upstream == place.id && it.upstream_key == place.key_id;
    if objects.iter().all(is_here) {
        Ok(())
    } else {
        Err(elsewhere(
            "What this event names is kept by another upstream or key than this socket goes to: send it by POST.",
        ))
    }
}

/// Whose the answer is, if the provider keeps it.
pub(super) fn keeps(metered: &Metered, token: &AccessToken, facts: &RequestFacts) -> Option<Keeps> {
    let kind = metered.creates?;
    let is_kept = match kind {
        Kind::ChatCompletion => facts.stores == Some(true),
        Kind::Message => false,
        _ => facts.stores != Some(false) || facts.background,
    };
    // Recordings and containers are kept whether or not the answer is.
    let only_parts = !is_kept && kind != Kind::Response;
    (is_kept || only_parts).then_some(Keeps {
        kind,
        only_parts,
        account: token.account,
        token: token.id,
    })
}

impl Exchange {
    /// Sends a request where what its body names is kept.
    ///
    /// # Errors
    /// 404 when that is not the caller's; 400 when it is elsewhere and the request is on its way.
    pub(super) async fn follow_objects(
        &mut self,
        asked: &mut Asked,
        facts: &RequestFacts,
        may_turn: bool,
    ) -> Result<(), Refusal> {
        if facts.named.is_empty() {
            return Ok(());
        }
        let gateway = Arc::clone(&self.worker.gateway);
        let wanted: Vec<_> = facts.named.iter().map(Wanted::in_body).collect();
        let objects = owned(&gateway, &asked.token, &wanted).await?;
        asked.is_pinned = true;
        let Some(place) = home(&gateway, &asked.catalog, &objects)? else {
            return Ok(());
        };
        let there = &asked.route.place;
        if asked.route.own.is_some() || (there.id, there.key_id) == (place.id, place.key_id) {
            return Ok(());
        }
        if !may_turn || there.dialect != place.dialect {
            return Err(elsewhere(
                "What this body names is kept by another upstream or key than its model goes to, and that is known too late in a body of this length: send at most 64 KiB, in one piece.",
            ));
        }
        self.record().upstream = Some(place.name.clone());
        asked.route = asked.route.to(place);
        Ok(())
    }

    /// A request about what a provider keeps.
    pub(super) async fn kept(
        &mut self,
        act: Act,
        endpoint: &Endpoint<'_>,
        token: Arc<AccessToken>,
        entry: Entry,
        request: Request<RequestBody>,
    ) -> Result<Reply, Refusal> {
        if let Act::List(kind) = act {
            return Err(Refusal::ListsOthers { kind: kind.words() });
        }
        let gateway = Arc::clone(&self.worker.gateway);
        let catalog = gateway.ledger.catalog();
        let mut objects = of_path(&gateway, &token, endpoint).await?;
        let about = endpoint.objects().last();
        let job = match about {
            Some((Kind::Response, id)) => gateway
                .ledger
                .job_on(token.account, id)
                .await
                .map_err(|error| unknown(&error))?,
            _ => None,
        };
        if let (Act::Delete, Some(job)) = (act, &job) {
            return Err(Refusal::InvalidBody {
                message: format!(
                    "Response '{}' has not ended: cancel it, or get it until it has, and delete it then.",
                    job.object_id
                ),
                param: None,
                code: "response_in_progress",
            });
        }
        let (head, body) = request.into_parts();
        let whole = if body.is_end_stream() || matches!(head.method, Method::GET | Method::DELETE) {
            Err(body)
        } else {
            let api = if endpoint.is_anthropic() {
                Api::Messages
            } else {
                Api::Responses
            };
            let scanner = admission::scanner(&head.headers, &free_body(api))?;
            let patience = Duration::from_secs(gateway.settings.upload_seconds.get());
            let bounds = Bounds::of(&gateway.settings);
            let upload = upload::read(body, scanner, Need::Everything, bounds);
            let upload = timeout(patience, upload)
                .await
                .unwrap_or(Err(Refusal::UploadTimeout))?;
            let Upload::Whole(whole) = upload else {
                return Err(Refusal::UploadTimeout);
            };
            let wanted: Vec<_> = whole.facts.named.iter().map(Wanted::in_body).collect();
            objects.extend(owned(&gateway, &token, &wanted).await?);
            Ok(Replay::new(whole.frames, whole.sized))
        };
        let only = gateway.places.only(&catalog)?;
        let is_only = only.is_some();
        let place = match (home(&gateway, &catalog, &objects)?, only) {
            (Some(place), _) | (None, Some(place)) => place,
            (None, None) if endpoint.is_anthropic() => {
                gateway.places.first_of(&catalog, Dialect::Anthropic)?
            }
            (None, None) => gateway.places.first_of(&catalog, Dialect::OpenAi)?,
        };
        let (upstream, upstream_key) = (place.id, place.key_id);
        let route = Route::new(place, is_only, &token, endpoint, None)?;
        self.record().upstream = Some(route.place.name.clone());
        let pool = self.worker.pool.clone();
        let sent = match whole {
            Ok(whole) => {
                let sending = forward::send(&pool, &route, &head, whole, false);
                forward::in_time(&gateway, sending).await
            }
            Err(body) => {
                let sending = forward::send(&pool, &route, &head, body, false);
                forward::in_time(&gateway, sending).await
            }
        };
        let response = sent?;
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Refusal::UpstreamAuth),
            status if !status.is_success() => {
                return Ok(self.pass(response, "upstream_error", entry));
            }
            _ => {}
        }
        let own_key = route.own.is_some();
        let purpose = match (act, about, job) {
            (Act::Create(kind), ..) => Purpose::Record(Box::new(NewObject {
                id: String::new(),
                kind: kind.name().into(),
                account: token.account,
                token: token.id,
                upstream,
                upstream_key: upstream_key.filter(|_| !own_key),
                model: None,
                parent: None,
                facts: None,
                kept: None,
            })),
            (Act::Delete, Some((_, id)), _) => Purpose::Forget(token.account, id.to_owned()),
            (_, _, Some(job)) => match jobs::admitted(&catalog, &job) {
                Some(admitted) => Purpose::Settle(Box::new((job, admitted))),
                None => return Ok(self.pass(response, "complete", entry)),
            },
            _ => return Ok(self.pass(response, "complete", entry)),
        };
        Ok(self.pass_kept(response, purpose, entry))
    }
}
