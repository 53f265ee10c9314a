//! Requests about what a provider keeps.

use crate::{
    endpoint::{Act, Endpoint},
    refusal::Refusal,
};

/// Why a request is not relayed.
pub(super) fn refuse(act: Act, endpoint: &Endpoint<'_>) -> Refusal {
    match (act, endpoint.objects().last()) {
        (Act::List(kind), _) | (Act::Create(kind), None) => {
            Refusal::ListsOthers { kind: kind.words() }
        }
        (_, Some((kind, id))) => Refusal::ObjectNotFound {
            kind: kind.words(),
            id: id.to_owned(),
            param: None,
        },
        (Act::Read | Act::Change | Act::Delete, None) => Refusal::UnknownPath {
            target: endpoint.below.to_owned(),
        },
    }
}
