//! The fields of a call, from its body or, kindly, from its query.

use bytes::Bytes;
use http::{Method, Request};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::Problem;
use crate::reply;

/// The fields of a call.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads them, or says what is wrong. A body that does not say that it is JSON was always as good as none.
    pub(super) fn read(request: &Request<Bytes>) -> Result<Self, String> {
        let mut fields = Map::new();
        if *request.method() == Method::GET {
            for (name, value) in pairs(request.uri().query().unwrap_or_default()) {
                fields.insert(name, Value::String(value));
            }
        }
        let body = request.body();
        if reply::is_json(request.headers()) && !body.is_empty() {
            match serde_json::from_slice(body) {
                Ok(Value::Object(said)) => fields.extend(said),
                Ok(_) => return Err("the body is no JSON object".to_owned()),
                Err(error) => return Err(format!("the body is not JSON: {error}")),
            }
        }
        Ok(Self(fields))
    }

    /// A field; null is as good as absent.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Problem::bad(format!("{name} is no string"))),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(Problem::bad(format!("{name} is neither true nor false"))),
        }
    }

    /// A number of tokens that must be there.
    pub(super) fn count(&self, name: &str) -> Result<i64, Problem> {
        self.get(name)
            .and_then(Value::as_i64)
            .filter(|count| count.unsigned_abs() <= COUNT_MAX)
            .ok_or_else(|| Problem::bad(format!("{name} is no whole number of tokens")))
    }
}

/// What a JSON reader of any kind keeps exactly.
const COUNT_MAX: u64 = 1 << 53;

/// The pairs of a query as HTML forms write them.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let plain = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(move |pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (plain(name), plain(value))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_forms_write_it() {
        let read: Vec<_> = pairs("token=a%20b+c&userName=%D0%90&x").collect();
        let expected = [("token", "a b c"), ("userName", "А"), ("x", "")];
        assert_eq!(
            read,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
