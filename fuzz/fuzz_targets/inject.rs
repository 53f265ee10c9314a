//! A body that is asked for its usage is the same document but for one key, however it is cut, and reads the same but for
//! that; the edit grows it by as much as it says.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use meter::{Api, RequestScanner, Splice};
use serde_json::Value;

fuzz_target!(|input: (u8, &[u8], &[u8])| {
    let (size, before, options) = input;
    // Most of what is made here is a stream with options of some kind.
    let body = [&b"{\"model\":\"m\",\"stream\":true"[..], before, options, b"}"].concat();
    let Ok(facts) = RequestScanner::new(Api::ChatCompletions).read(&body) else { return };
    let Some(splice) = Splice::include_usage(&facts) else { return };
    let frames = body.chunks(usize::from(size).max(1)).map(Bytes::copy_from_slice);
    let edited = splice.apply(0, frames).concat();
    assert_eq!(edited, splice.apply(0, [Bytes::copy_from_slice(&body)]).concat());
    assert_eq!(edited.len() as i64, body.len() as i64 + splice.growth());
    let now = RequestScanner::new(Api::ChatCompletions).read(&edited).expect("what was accepted is still");
    assert_eq!(now.include_usage, Some(true));
    assert_eq!((&now.model, now.stream, now.choices, now.output_limit), (&facts.model, facts.stream, facts.choices, facts.output_limit));
    assert_eq!(Splice::include_usage(&now), None);
    // serde_json refuses a lone surrogate in any string; RFC 8259 does not.
    let Ok(mut document) = serde_json::from_slice::<Value>(&body) else { return };
    if document["stream_options"].is_null() {
        document["stream_options"] = serde_json::json!({});
    }
    document["stream_options"]["include_usage"] = true.into();
    assert_eq!(serde_json::from_slice::<Value>(&edited).ok(), Some(document));
});

trait Read {
    fn read(self, body: &[u8]) -> Result<meter::RequestFacts, meter::BodyError>;
}

impl Read for RequestScanner {
    fn read(mut self, body: &[u8]) -> Result<meter::RequestFacts, meter::BodyError> {
        self.push(body)?;
        self.finish()
    }
}
