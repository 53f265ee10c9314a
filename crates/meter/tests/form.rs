//! Forms: what is read of them, however they are cut, and what is refused.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use meter::{Api, BodyError, BodyErrorKind as K, BodyScanner, RequestFacts};
use proptest::prelude::*;

const TYPE: &str = "multipart/form-data; boundary=XX";

fn scan<'a>(
    api: Api,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(RequestFacts, Option<u64>), BodyError> {
    let mut scanner = BodyScanner::multipart(api, TYPE)?;
    for piece in pieces {
        scanner.push(piece)?;
    }
    let closed_at = scanner.closed_at();
    Ok((scanner.finish()?, closed_at))
}

/// The facts of a form, the same however it is cut.
#[track_caller]
fn facts(body: &[u8]) -> Result<RequestFacts, K> {
    let whole = scan(Api::Transcriptions, [body]);
    for size in [1, 2, 3, 7, 64] {
        let cut = scan(Api::Transcriptions, body.chunks(size));
        match (&whole, &cut) {
            (Ok(whole), Ok(cut)) => assert_eq!(whole, cut, "pieces of {size}"),
            (Err(whole), Err(cut)) => assert_eq!(whole.kind(), cut.kind(), "pieces of {size}"),
            _ => panic!("pieces of {size}: {whole:?} and {cut:?}"),
        }
    }
    let (facts, closed_at) = whole.map_err(|error| error.kind())?;
    let at = usize::try_from(closed_at.unwrap()).unwrap();
    assert_eq!(body[at - 1..=at], *b"--", "the last dash is withheld");
    Ok(facts)
}

fn field(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn form(parts: &[String]) -> Vec<u8> {
    format!("{}--XX--\r\n", parts.concat()).into_bytes()
}

#[test]
fn fields_and_the_length_of_files_are_read() {
    let file = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n0123456789\r\n--X\r\n\r\n".to_owned();
    let body = form(&[
        file,
        field("model", "whisper-1"),
        field("stream", "true"),
        field("n", "3"),
        field("size", "1024x1024"),
        field("response_format", "srt"),
        field("prompt", "model"),
    ]);
    let facts = facts(&body).unwrap();
    assert_eq!(facts.model.as_deref(), Some("whisper-1"));
    assert_eq!((facts.stream, facts.choices), (true, 3));
    assert_eq!(facts.size.as_deref(), Some("1024x1024"));
    assert_eq!(facts.response_format.as_deref(), Some("srt"));
    // The last line end belongs to the boundary.
    assert_eq!(facts.file_bytes, "0123456789\r\n--X\r\n".len() as u64);
    let at = facts.file_at.unwrap();
    let (from, to) = (
        usize::try_from(at.start).unwrap(),
        usize::try_from(at.end).unwrap(),
    );
    assert_eq!(body[from..to], *b"0123456789\r\n--X\r\n");
    assert!(facts.refers_outside);
    assert_eq!(facts.body_bytes, body.len() as u64);
}

#[test]
fn an_empty_part_and_an_empty_form_are_forms() {
    assert_eq!(facts(&form(&[field("prompt", "")])).unwrap().model, None);
    assert!(facts(b"--XX--").unwrap().is_empty);
}

#[test]
fn what_two_readers_could_take_differently_is_refused() {
    let model = field("model", "a");
    for (body, kind) in [
        (form(&[model.clone(), model.clone()]), K::DuplicateKey),
        (form(&[field("Model", "a")]), K::LookalikeKey),
        (form(&[field("model", "")]), K::EmptyString),
        (form(&[field("model", "a\r\nb")]), K::ControlInValue),
        (form(&[field("n", "1e3")]), K::ExpectedWholeNumber),
        (form(&[field("n", "2000")]), K::NumberTooLarge),
        (form(&[field("stream", "maybe")]), K::ExpectedBool),
        (form(&[field("model", &"x".repeat(600))]), K::StringTooLong),
        (b"preamble\r\n--XX--".to_vec(), K::FormSyntax),
        (b"\r\n--XX--".to_vec(), K::FormSyntax),
        (b"--XX \r\n\r\n--XX--".to_vec(), K::FormSyntax),
        (b"--XX--\r\nepilogue".to_vec(), K::TrailingBytes),
        // One line end more was let pass where it came alone.
        (b"--XX--\r\n\r\n".to_vec(), K::TrailingBytes),
        (
            b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\nContent-Type: text/plain; charset=utf-16\r\n\r\na\r\n--XX--".to_vec(),
            K::FormCoding,
        ),
        (form(&[field("_charset_", "utf-16")]), K::FormCoding),
        (b"--XX\r\n\r\nx\r\n--XX--".to_vec(), K::FormSyntax),
        (
            b"--XX\nContent-Disposition: form-data; name=\"model\"\n\na\n--XX--".to_vec(),
            K::FormSyntax,
        ),
        (
            b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n folded\r\n\r\na\r\n--XX--".to_vec(),
            K::FormSyntax,
        ),
        (
            b"--XX\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nYQ==\r\n--XX--".to_vec(),
            K::FormCoding,
        ),
        (
            b"--XX\r\nContent-Disposition: form-data; name=\"model\"; filename=\"x\"\r\n\r\na\r\n--XX--".to_vec(),
            K::ExpectedString,
        ),
        (form(&vec![field("x", ""); 257]), K::TooManyParts),
        (b"--XX\r\nContent-".to_vec(), K::Unfinished),
        (b"".to_vec(), K::Empty),
    ] {
        assert_eq!(facts(&body), Err(kind), "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn a_large_file_is_not_kept() {
    let mut scanner = BodyScanner::multipart(Api::Transcriptions, TYPE).unwrap();
    let head = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    scanner.push(head.as_bytes()).unwrap();
    for _ in 0..1_000 {
        scanner.push(&[7; 10_000]).unwrap();
    }
    // A scanner that kept what passed would show it here.
    assert!(format!("{scanner:?}").len() < 4_000);
    scanner.push(b"\r\n--XX--").unwrap();
    assert_eq!(scanner.finish().unwrap().file_bytes, 10_000_000);
}

proptest! {
    /// Any content that does not hold the delimiter comes out as long as it went in.
    #[test]
    fn content_is_measured_exactly(
        content in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'X'), any::<u8>()], 0..200),
        size in 1_usize..40,
    ) {
        let delimiter = b"\r\n--XX";
        let framed = [b"\r\n", &content[..]].concat();
        prop_assume!(!framed.windows(delimiter.len()).any(|window| window == delimiter));
        let body = [
            b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n",
            &content[..],
            b"\r\n--XX--\r\n",
        ]
        .concat();
        let (facts, _) = scan(Api::Transcriptions, body.chunks(size)).unwrap();
        prop_assert_eq!(facts.file_bytes, content.len() as u64);
        let at = facts.file_at.unwrap();
        let (from, to) = (usize::try_from(at.start).unwrap(), usize::try_from(at.end).unwrap());
        prop_assert_eq!(&body[from..to], &content[..]);
    }

    /// Bytes from the network never panic, and are judged the same however they are cut.
    #[test]
    fn any_bytes_are_judged_alike_however_they_are_cut(
        body in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'X'), Just(b':'), any::<u8>()], 0..120),
        size in 1_usize..20,
    ) {
        let body = [b"--XX", &body[..]].concat();
        let kind = |result: Result<(RequestFacts, Option<u64>), BodyError>| result.map_err(|error| error.kind());
        prop_assert_eq!(kind(scan(Api::Images, [&body[..]])), kind(scan(Api::Images, body.chunks(size))));
    }
}

#[test]
fn one_line_end_may_follow_the_last_boundary_and_no_more() {
    // Where the first line end came in a piece of its own, another went through behind it.
    let end = |behind: &str| facts(format!("{}--XX--{behind}", field("model", "m")).as_bytes());
    assert!(end("").is_ok() && end("\r\n").is_ok());
    for behind in ["\r\n\r", "\r\n\r\n", "\r\n\r\n\r\n", "\n", "x", "\r\nx"] {
        assert_eq!(end(behind).unwrap_err(), K::TrailingBytes, "{behind:?}");
    }
}
