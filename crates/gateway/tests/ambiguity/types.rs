//! What a request says of its body: types that lie, types that come twice, and codings.

use super::{Court, Sent, case};

const PLAIN: &str = r#"{"model":"gpt-4o","messages":[]}"#;

#[tokio::test]
async fn a_body_is_what_its_one_type_says() {
    let mut court = Court::open("").await;
    let mut cases = 0;
    for content_type in [
        "text/plain",
        "text/json",
        "application/jsonp",
        "application/x-ndjson",
        "application/json+x",
        "application/vnd.api+json",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "multipart/form-data; boundary=x",
        "*/*",
        "application",
        "",
        "application/json, text/plain",
        "text/plain, application/json",
        "application/json application/json",
        "application /json",
        "application/json; charset=utf-16",
        "application/json; charset=utf-16le; charset=utf-8",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; charset=\"utf-7\"",
        "application/json; charset='utf-8'",
        "application/json; charset=iso-8859-1",
        "application/json;charset = utf-16",
        "application/json; CharSet=UTF-32",
        "application/json; charset=",
        "application/json; x=\"; charset=utf-16",
        "application/json; charset*=utf-8''utf-16",
        "application/json\t; charset=ibm500",
    ] {
        let header = format!("Content-Type: {content_type}\r\n");
        court
            .refuses(
                "/v1/chat/completions",
                &case(&header, PLAIN, "unsupported_content_type"),
            )
            .await;
        cases += 1;
    }
    for headers in [
        "Content-Type: application/json\r\nContent-Type: application/json\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        "Content-Type: text/plain\r\nContent-Type: application/json\r\n",
        "content-type: application/json\r\nX: 1\r\nCONTENT-TYPE: multipart/form-data; boundary=x\r\n",
    ] {
        court
            .refuses(
                "/v1/chat/completions",
                &case(headers, PLAIN, "unsupported_content_type"),
            )
            .await;
        cases += 1;
    }
    court
        .refuses(
            "/v1/audio/transcriptions",
            &case(
                "Content-Type: multipart/form-data, boundary=XX\r\n",
                "--XX--",
                "unsupported_content_type",
            ),
        )
        .await;
    court.close("content types", cases + 1).await;
}

#[tokio::test]
async fn a_coded_body_is_refused_unread() {
    let mut court = Court::open("").await;
    let mut cases = 0;
    for coding in [
        "gzip",
        "GZIP",
        "deflate",
        "br",
        "zstd",
        "x-gzip",
        "compress",
        "identity, gzip",
        "gzip, identity",
        "",
        "aes128gcm",
        "unknown",
    ] {
        let header = format!("Content-Type: application/json\r\nContent-Encoding: {coding}\r\n");
        court
            .refuses(
                "/v1/chat/completions",
                &case(&header, PLAIN, "unsupported_content_encoding"),
            )
            .await;
        cases += 1;
    }
    for headers in [
        "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n",
        "Content-Encoding: gzip\r\nContent-Encoding: identity\r\n",
    ] {
        court
            .refuses(
                "/v1/chat/completions",
                &case(headers, PLAIN, "unsupported_content_encoding"),
            )
            .await;
        cases += 1;
    }
    court.close("content codings", cases).await;
}

/// The types that SDKs send, in the forms that are the same to every reader.
#[tokio::test]
async fn types_that_every_reader_takes_alike_are_served() {
    let mut court = Court::open("").await;
    for header in [
        "",
        "Content-Type: application/json\r\n",
        "Content-Type: Application/JSON\r\n",
        "Content-Type: application/json; charset=utf-8\r\n",
        "Content-Type: application/json;charset=\"UTF-8\"\r\n",
        "Content-Type: application/json\r\nContent-Encoding: identity\r\n",
    ] {
        let got = court
            .send(
                "/v1/chat/completions",
                header,
                PLAIN.as_bytes(),
                Sent::Whole,
            )
            .await;
        assert_eq!(got.0, 200, "{header}");
    }
}
