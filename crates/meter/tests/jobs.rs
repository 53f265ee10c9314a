//! What uploads and requests for videos say, however their bytes are cut.

use meter::{Api, BodyScanner, RequestFacts};

const TYPE: &str = "multipart/form-data; boundary=XX";

fn part(name: &str, file: Option<&str>, content: &str) -> String {
    let file = file.map_or(String::new(), |file| format!("; filename=\"{file}\""));
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{content}\r\n")
}

fn form(api: Api, parts: &[String], cut: usize) -> RequestFacts {
    let body = parts.concat() + "--XX--\r\n";
    let mut scanner = BodyScanner::multipart(api, TYPE).expect("a form");
    for piece in body.as_bytes().chunks(cut) {
        scanner.push(piece).expect("a plain form");
    }
    scanner.finish().expect("a whole form")
}

const LINE: &str =
    r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"e","input":"a"}}"#;

#[test]
fn the_requests_in_an_upload_are_read_wherever_its_purpose_stands() {
    let purpose = part("purpose", None, "batch");
    let file = part("file", Some("a.jsonl"), &format!("{LINE}\r\n{LINE}\n"));
    for parts in [[&file, &purpose], [&purpose, &file]].map(|it| it.map(Clone::clone)) {
        for cut in 1..50 {
            let facts = form(Api::Files, &parts, cut);
            let batch = facts.batch.unwrap();
            assert_eq!(batch.fault, None, "{cut}");
            let [group] = &batch.groups[..] else {
                panic!("one group")
            };
            assert_eq!((group.lines, &*group.model), (2, "e"));
        }
    }
}

#[test]
fn a_file_for_something_else_is_no_batch() {
    let parts = [
        part("file", Some("a.jsonl"), LINE),
        part("purpose", None, "fine-tune"),
    ];
    let facts = form(Api::Files, &parts, 9);
    assert_eq!(facts.batch, None);
    assert_eq!(facts.purpose.as_deref(), Some("fine-tune"));
    assert_eq!(facts.file_bytes, LINE.len() as u64);
}

#[test]
fn a_video_says_how_long_and_how_large_it_shall_be() {
    let parts = [
        part("model", None, "sora-2"),
        part("seconds", None, "8"),
        part("size", None, "1280x720"),
        part("input_reference", Some("a.png"), "PNG"),
    ];
    let facts = form(Api::Videos, &parts, 11);
    let said = (facts.seconds.as_deref(), facts.size.as_deref());
    assert_eq!(said, (Some("8"), Some("1280x720")));
    let mut scanner = BodyScanner::json(Api::Videos);
    let json = br#"{"model":"sora-2","prompt":"a cat","seconds":"12","size":"720x1280"}"#;
    scanner.push(json).unwrap();
    let facts = scanner.finish().unwrap();
    let said = (facts.seconds.as_deref(), facts.size.as_deref());
    assert_eq!(said, (Some("12"), Some("720x1280")));
}
