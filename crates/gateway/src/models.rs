//! `GET /v1/models`: what this access token may use, in OpenAI's shape.

use std::collections::BTreeSet;

use ledger::{AccessToken, Catalog};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tariff::Pattern;

use crate::refusal::Refusal;

/// Every model with a price of its own that the token may use, by name. Models that only a prefix
/// (`gpt-4o*`) prices can be used as well, but cannot be listed.
pub(crate) fn list(catalog: &Catalog, token: &AccessToken, now_ms: i64) -> Value {
    let in_force = catalog.prices().iter().filter(|price| {
        price.valid_from_ms <= now_ms && price.valid_to_ms.is_none_or(|end| now_ms < end)
    });
    let names: BTreeSet<&str> = in_force
        .filter_map(|price| match &price.pattern {
            Pattern::Exact(name) => Some(&**name),
            Pattern::Prefix(_) => None,
        })
        .filter(|name| token.allows_model(name))
        .collect();
    json!({ "object": "list", "data": names.into_iter().map(model).collect::<Vec<_>>() })
}

/// One model by name, as it stands (percent-encoded) in the path.
///
/// # Errors
/// 404 when it has no price or the token may not use it.
pub(crate) fn one(
    catalog: &Catalog,
    token: &AccessToken,
    segment: &str,
    now_ms: i64,
) -> Result<Value, Refusal> {
    let name = percent_decode_str(segment).decode_utf8_lossy();
    if token.allows_model(&name) && catalog.book().quote(&name, now_ms).is_some() {
        return Ok(model(&name));
    }
    Err(Refusal::ModelNotFound {
        model: name.into_owned(),
    })
}

/// When a model was made is the provider's to know: `created` is 0.
fn model(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": "turnpike" })
}
