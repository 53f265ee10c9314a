//! A form is judged the same however it is cut, and what is accepted is what a plain reading of it
//! finds: the parts between its boundaries, their names and the length of their files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meter::{Api, BodyError, BodyScanner, RequestFacts};

const TYPE: &str = "multipart/form-data; boundary=XX";

fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(RequestFacts, Option<u64>), BodyError> {
    let mut scanner = BodyScanner::multipart(Api::Images, TYPE)?;
    for piece in pieces {
        scanner.push(piece)?;
    }
    let closed_at = scanner.closed_at();
    Ok((scanner.finish()?, closed_at))
}

/// The contents between the delimiters of a form that is all here, in order.
fn parts(body: &[u8]) -> Vec<&[u8]> {
    let delimiter = b"\r\n--XX";
    let mut rest = &body[b"--XX".len()..];
    let mut parts = Vec::new();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        // The line end that ends the headers may be the delimiter's own.
        let head = part.windows(4).position(|it| it == b"\r\n\r\n").expect("an accepted form has headers");
        let content = &part[head + 2..];
        let end = content.windows(delimiter.len()).position(|it| it == delimiter).expect("an accepted form ends");
        parts.push(content.get(2..end).unwrap_or_default());
        rest = &content[end + delimiter.len()..];
    }
    parts
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, body) = input;
    let body = [b"--XX", body].concat();
    let whole = scan([&body[..]]);
    let cut = scan(body.chunks(usize::from(size).max(1)));
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut),
        (Err(whole), Err(cut)) => assert_eq!(whole.kind(), cut.kind()),
        _ => panic!("{whole:?} and {cut:?}"),
    }
    let Ok((facts, closed_at)) = whole else { return };
    assert_eq!(closed_at, Some(facts.closed_at));
    let contents = parts(&body);
    let all: u64 = contents.iter().map(|content| content.len() as u64).sum();
    assert!(facts.file_bytes <= all);
    if let Some(model) = &facts.model {
        assert!(contents.iter().any(|content| *content == model.as_bytes()));
    }
    if let Some(at) = &facts.file_at {
        let file = &body[at.start as usize..at.end as usize];
        assert!(contents.iter().any(|content| *content == file));
    }
});
