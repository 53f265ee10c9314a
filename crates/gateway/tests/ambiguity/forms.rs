//! Multipart forms that two parsers could read differently.

use super::{Case, Court, Sent, case};

const PRICES: &str = "
    select turnpike.set_price('whisper-1', input_audio_minute => 0.006);
    select turnpike.set_price('whisper-dear', input_audio_minute => 600);";
const PATH: &str = "/v1/audio/transcriptions";
const TYPE: &str = "Content-Type: multipart/form-data; boundary=XX\r\n";

fn field(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(bytes: &str) -> String {
    format!(
        "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n{bytes}\r\n"
    )
}

fn form(parts: &[String]) -> String {
    format!("{}--XX--\r\n", parts.concat())
}

/// A part of this disposition with a model in it, behind a file and a model.
fn disposed(disposition: &str) -> String {
    let part = format!("--XX\r\nContent-Disposition: {disposition}\r\n\r\nwhisper-dear\r\n");
    form(&[file("x"), field("model", "whisper-1"), part])
}

/// A lone model part with more headers.
fn with_headers(headers: &str) -> String {
    form(&[file("x"), format!("--XX\r\n{headers}\r\n\r\nwhisper-1\r\n")])
}

fn boundaries() -> Vec<Case> {
    let body = form(&[file("x"), field("model", "whisper-1")]);
    [
        "multipart/form-data",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=XX; boundary=YY",
        "multipart/form-data; boundary=YY; Boundary=XX",
        "multipart/form-data; boundary*=utf-8''XX",
        "multipart/form-data; boundary*0=X; boundary*1=X",
        "multipart/form-data; boundary=\"XX",
        "multipart/form-data; boundary=XX\"",
        "multipart/form-data; boundary=\"X\\X\"",
        "multipart/form-data; boundary=X X",
        "multipart/form-data; boundary=\"XX \"",
        "multipart/form-data; boundary=XX, text/plain",
        "multipart/form-data; boundary=XX;boundary=XX",
    ]
    .map(|content_type| {
        case(
            &format!("Content-Type: {content_type}\r\n"),
            body.clone(),
            "invalid_form_boundary",
        )
    })
    .into()
}

fn parts() -> Vec<Case> {
    let model = field("model", "whisper-1");
    let disposition = "Content-Disposition: form-data; name=\"model\"";
    let mut cases = vec![
        (form(&[file("x"), model.clone(), field("model", "whisper-dear")]), "duplicate_key"),
        (form(&[field("model", "whisper-dear"), file("x"), model.clone()]), "duplicate_key"),
        (form(&[file("x"), model.clone(), model.clone()]), "duplicate_key"),
        (form(&[file("x"), model.clone(), field("Model", "whisper-dear")]), "lookalike_key"),
        (form(&[file("x"), field("MODEL", "whisper-dear")]), "lookalike_key"),
        (form(&[file("x"), model.clone(), field("response_format", "json"), field("response_format", "text")]), "duplicate_key"),
        (form(&[file("x"), model.clone(), field("stream", "false"), field("stream", "true")]), "duplicate_key"),
        (form(&[file("x"), field("model", "")]), "empty_string"),
        (form(&[file("x"), field("model", "whisper-1\r\n")]), "control_character"),
        (form(&[file("x"), field("model", "whisper-1\0")]), "control_character"),
        (form(&[file("x")]), "missing_model"),
        (disposed("form-data; name=\"model\"; filename=\"m\""), "duplicate_key"),
        (disposed("form-data; name=model"), "duplicate_key"),
        (disposed("form-data;name=\"model\""), "duplicate_key"),
        (disposed("FORM-DATA; NAME=\"model\""), "duplicate_key"),
        (disposed("form-data; name=\"x\"; name=\"model\""), "invalid_form"),
        (disposed("form-data; name=\"model\"; name=\"x\""), "invalid_form"),
        (disposed("form-data; name*=utf-8''model"), "invalid_form"),
        (disposed("form-data; name=\"x\"; name*=utf-8''model"), "invalid_form"),
        (disposed("form-data; name*0=mod; name*1=el"), "invalid_form"),
        (disposed("form-data; name=\"mo\\del\""), "invalid_form"),
        (disposed("form-data; name=\"m%6fdel\""), "invalid_form"),
        (disposed("form-data; name=\"model"), "invalid_form"),
        (disposed("form-data; name=\"x\\\"; name=\\\"model\""), "invalid_form"),
        (disposed("form-data"), "invalid_form"),
        (disposed("form-data; name"), "invalid_form"),
        (disposed("attachment; name=\"model\""), "invalid_form"),
        (disposed("form-data, name=\"model\""), "invalid_form"),
        (disposed("form-data; x=1; name=\"model\""), "invalid_form"),
        (disposed("form-data; filename*=utf-8''a; name=\"model\""), "duplicate_key"),
        (with_headers("Content-Disposition: form-data; name=\"model\"; filename*=utf-8''a"), "invalid_type"),
        (with_headers("Content-Disposition: form-data; name=\"model\"; filename=\"\""), "invalid_type"),
        (with_headers(&format!("{disposition}\r\nContent-Disposition: form-data; name=\"x\"")), "invalid_form"),
        (with_headers(&format!("{disposition}\r\n folded: x")), "invalid_form"),
        (with_headers("Content-Disposition: form-data;\r\n name=\"model\""), "invalid_form"),
        (with_headers("Content-Disposition : form-data; name=\"model\""), "invalid_form"),
        (with_headers(&format!("{disposition}\r\nno colon")), "invalid_form"),
        (with_headers(&format!("{disposition}\r\nContent-Transfer-Encoding: base64")), "invalid_form"),
        (with_headers(&format!("{disposition}\r\nContent-Transfer-Encoding: quoted-printable")), "invalid_form"),
        (with_headers(&format!("{disposition}\r\nContent-Type: text/plain; charset=utf-16")), "invalid_form"),
        (with_headers(&format!("{disposition}\r\nContent-Type: text/plain; charset = utf-7")), "invalid_form"),
        (with_headers(&format!("{disposition}\r\nContent-Type: multipart/mixed; boundary=YY")), "invalid_form"),
        (with_headers(&format!("{disposition}\r\nContent-Encoding: gzip")), "invalid_form"),
        (with_headers("X: y"), "invalid_form"),
        (form(&[file("x"), field("_charset_", "utf-16"), model.clone()]), "invalid_form"),
        (form(&[file("x"), "--XX\r\nContent-Disposition: form-data; name=\"files\"\r\nContent-Type: multipart/mixed; boundary=YY\r\n\r\n--YY\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-dear\r\n--YY--\r\n".into(), model.clone()]), "invalid_form"),
        (format!("preamble\r\n{}", form(&[file("x"), model.clone()])), "invalid_form"),
        (format!("\r\n{}", form(&[file("x"), model.clone()])), "invalid_form"),
        (format!("{}epilogue", form(&[file("x"), model.clone()])), "trailing_bytes"),
        (format!("{}\r\n", form(&[file("x"), model.clone()])), "trailing_bytes"),
        (format!("{}{}", form(&[file("x"), model.clone()]), form(&[field("model", "whisper-dear")])), "trailing_bytes"),
        (form(&[file("x"), model.clone()]).replace("\r\n", "\n"), "invalid_form"),
        (form(&[file("x"), model.clone()]).replace("--XX\r\n", "--XX \r\n"), "invalid_form"),
        (form(&[file("x"), model.clone()]).replace("--XX\r\n", "--XX\n"), "invalid_form"),
        (form(&[file("x"), model.clone()]).replace("--XX\r\n", "--XX\t\r\n"), "invalid_form"),
        (form(&[file("x"), model.clone()]).replace("--XX--", "--XX-"), "invalid_form"),
        (form(&[file("x"), model.clone()]).replace("--XX--\r\n", ""), "incomplete_json"),
        (form(&[file("x"), model.clone()]).replace("--XX--\r\n", "--XX"), "incomplete_json"),
        (r#"{"model":"whisper-1"}"#.to_owned(), "invalid_form"),
        (String::new(), "empty_body"),
        (form(&vec![field("x", ""); 300]), "too_many_parts"),
    ];
    // A boundary that begins like the real one ends nothing, so what follows is one long value.
    cases.push((
        form(&[
            file("x"),
            "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--XXX\r\n"
                .into(),
        ]),
        "invalid_form",
    ));
    cases
        .into_iter()
        .map(|(body, code)| case(TYPE, body, code))
        .collect()
}

#[tokio::test]
async fn forms_that_two_parsers_could_read_differently_are_refused() {
    let mut court = Court::open(PRICES).await;
    let cases: Vec<_> = boundaries().into_iter().chain(parts()).collect();
    for case in &cases {
        court.refuses(PATH, case).await;
    }
    court.close("forms", cases.len()).await;
}

#[tokio::test]
async fn a_second_model_behind_a_long_file_is_found_before_the_last_byte() {
    let mut court = Court::open(PRICES).await;
    let long = file(&"x".repeat(300_000));
    let cases = [
        case(
            TYPE,
            form(&[
                field("model", "whisper-1"),
                long.clone(),
                field("model", "whisper-dear"),
            ]),
            "duplicate_key",
        ),
        case(
            TYPE,
            form(&[
                field("model", "whisper-1"),
                long.clone(),
                field("Model", "whisper-dear"),
            ]),
            "lookalike_key",
        ),
        case(
            TYPE,
            format!(
                "{}epilogue",
                form(&[long.clone(), field("model", "whisper-1")])
            ),
            "trailing_bytes",
        ),
        case(
            TYPE,
            form(&[long, field("model", "whisper-1")]).replace("--XX--\r\n", ""),
            "incomplete_json",
        ),
    ];
    for case in &cases {
        court.refuses(PATH, case).await;
    }
    court.close("forms, flowing", cases.len()).await;
}

#[tokio::test]
async fn a_plain_form_is_served() {
    let mut court = Court::open(PRICES).await;
    let body = form(&[
        file("x"),
        field("model", "whisper-1"),
        field("prompt", "model"),
    ]);
    assert_eq!(
        court.send(PATH, TYPE, body.as_bytes(), Sent::Whole).await.0,
        200
    );
}
