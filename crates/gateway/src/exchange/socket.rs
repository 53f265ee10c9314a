//! The handshake of a WebSocket: who asks, for which model, at which upstream.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use ledger::{AccessToken, Dialect};
use meter::Speech;
use percent_encoding::percent_decode_str;
use proxy::headers;
use tracing::{error, warn};

use super::{Exchange, Reply, forward, relay, target};
use crate::{
    admission,
    body::RequestBody,
    endpoint::Endpoint,
    gateway::Entry,
    refusal::Refusal,
    socket::{self, Ends, Opened},
};

/// What the query of a socket says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query<'a> {
    model: Option<Cow<'a, str>>,
    /// Azure's older form.
    deployment: Option<Cow<'a, str>>,
    intent: Option<Cow<'a, str>>,
    /// A call of WebRTC or SIP that the socket is beside.
    call: Option<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    /// # Errors
    /// 400 where one of the names stands twice.
    fn parse(query: &'a str) -> Result<Self, Refusal> {
        let mut found = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = percent_decode_str(name).decode_utf8_lossy();
            let slot = match &*decoded {
                "model" => &mut found.model,
                "deployment" => &mut found.deployment,
                "intent" => &mut found.intent,
                "call_id" => &mut found.call,
                _ => continue,
            };
            let value = percent_decode_str(value).decode_utf8_lossy();
            if slot.replace(value).is_some() {
                return Err(Refusal::InvalidBody {
                    message: format!("The query names '{decoded}' twice: name it once."),
                    param: Some(decoded.into_owned()),
                    code: "ambiguous_query",
                });
            }
        }
        Ok(found)
    }
}

impl Exchange {
    /// Opens a socket. Its turns hold and charge; the socket itself costs nothing.
    pub(super) async fn socket(
        &mut self,
        endpoint: &Endpoint<'_>,
        speech: Speech,
        token: Arc<AccessToken>,
        entry: Entry,
        mut request: Request<RequestBody>,
    ) -> Result<Reply, Refusal> {
        if !asks_for_socket(&request) {
            return Err(Refusal::UpgradeRequired {
                target: target(&request),
            });
        }
        let gateway = Arc::clone(&self.worker.gateway);
        let digest = admission::digest(request.headers())?;
        let client = hyper::upgrade::on(&mut request);
        let (head, _) = request.into_parts();
        let query = Query::parse(head.uri.query().unwrap_or_default())?;
        if query.call.is_some() {
            if !gateway.settings.allow_unmetered_realtime.is_on() {
                return Err(Refusal::NotOffered {
                    target: format!("GET {}?call_id=…", head.uri.path()),
                });
            }
            warn!(
                token = token.prefix,
                "realtime.unmetered: a socket beside a call whose media pass elsewhere"
            );
        }
        let model = match (&query.model, &query.deployment) {
            (Some(model), None) | (None, Some(model)) => Some(model.clone().into_owned()),
            (None, None) => None,
            (Some(_), Some(_)) => return Err(admission::missing_model()),
        };
        let catalog = gateway.ledger.catalog();
        let record = self.record();
        record.model.clone_from(&model);
        if let Some(model) = &model {
            if !token.allows_model(model) {
                return Err(Refusal::ModelNotFound {
                    model: model.clone(),
                });
            }
            admission::quote(&catalog, model, record.started_at_ms)?;
        }
        let only = gateway.places.only(&catalog)?;
        let is_only = only.is_some();
        let place = match (only, &model) {
            (Some(place), _) => place,
            (None, Some(model)) => gateway.places.for_model(&catalog, model)?,
            (None, None) => gateway.places.first_of(&catalog, Dialect::OpenAi)?,
        };
        if let Some(deployment) = &query.deployment
            && place.dialect != Dialect::Azure
        {
            return Err(Refusal::ModelNotFound {
                model: deployment.clone().into_owned(),
            });
        }
        let mut route = forward::Route::new(place, is_only, &token, endpoint, None)?;
        if query.deployment.is_some() {
            // Azure's older paths have no version in them.
            route.set_path(endpoint.below);
        }
        self.record().upstream = Some(route.place.name.clone());
        let sending = forward::upgrade(&self.worker.pool, &route, &head);
        let mut response = forward::head_of(&gateway, sending).await?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                error!(
                    upstream = route.place.name,
                    status = status.as_u16(),
                    "upstream.auth: the upstream refuses our key"
                );
                return Err(Refusal::UpstreamAuth);
            }
            _ => return Ok(self.pass(response, "upstream_error", entry)),
        }
        // None was offered: frames under one could not be read.
        if response
            .headers()
            .contains_key(header::SEC_WEBSOCKET_EXTENSIONS)
        {
            return Err(Refusal::UpstreamUnreachable { sent: true });
        }
        let upstream = hyper::upgrade::on(&mut response);
        let (answer_head, answer) = response.into_parts();
        let mut reply = Response::new(relay::own(bytes::Bytes::new()));
        *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *reply.headers_mut() = headers::client_socket_headers(&answer_head.headers);
        *reply.extensions_mut() = answer_head.extensions;
        let record = self.take_record(StatusCode::SWITCHING_PROTOCOLS);
        let transcribes_only = query.intent.as_deref() == Some("transcription");
        let opened = Opened {
            worker: self.worker.clone(),
            peer: self.peer.ip(),
            endpoint: endpoint.name(),
            digest,
            token,
            upstream_key: route.place.key_id.filter(|_| route.own.is_none()),
            place: route.place,
            is_only,
            entry,
            speech,
            model,
            transcribes_only,
            trace: record.trace.as_ref().map(|trace| trace.again()),
        };
        let ends = Ends {
            client,
            upstream,
            answer,
        };
        tokio::spawn(socket::run(opened, ends, record));
        Ok(reply)
    }
}

/// Whether a request is the handshake of a WebSocket (RFC 6455, 4.2.1), which HTTP/1.1 alone has.
fn asks_for_socket(request: &Request<RequestBody>) -> bool {
    let headers = request.headers();
    let one = |name: header::HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    request.version() == Version::HTTP_11
        && *request.method() == Method::GET
        && names(headers, header::CONNECTION, "upgrade")
        && one(header::UPGRADE).is_some_and(|name| is(name, "websocket"))
        && one(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| is(version, "13"))
        && one(header::SEC_WEBSOCKET_KEY).is_some()
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && headers
            .get(header::CONTENT_LENGTH)
            .is_none_or(|length| is(length, "0"))
}

fn is(value: &HeaderValue, name: &str) -> bool {
    value
        .as_bytes()
        .trim_ascii()
        .eq_ignore_ascii_case(name.as_bytes())
}

fn names(headers: &HeaderMap, header: header::HeaderName, name: &str) -> bool {
    let values = headers.get_all(header).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|element| element.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_names_its_model_twice_is_ambiguous() {
        let query = Query::parse("a=b&model=gpt%2Drealtime&intent=transcription").unwrap();
        assert_eq!(query.model.as_deref(), Some("gpt-realtime"));
        assert_eq!(query.intent.as_deref(), Some("transcription"));
        for query in ["model=a&model=b", "model=a&mo%64el=b", "model&model=b"] {
            assert!(Query::parse(query).is_err(), "{query}");
        }
    }
}
