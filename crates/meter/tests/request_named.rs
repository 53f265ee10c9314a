//! What bodies name that a provider keeps: every way to name it is told, and nothing else.

use meter::{Api, RequestFacts, RequestScanner, What};

fn facts(api: Api, body: &str) -> RequestFacts {
    let mut whole = RequestScanner::new(api);
    whole.push(body.as_bytes()).expect("a plain body");
    let whole = whole.finish().expect("a plain body");
    let mut cut = RequestScanner::new(api);
    for byte in body.as_bytes() {
        cut.push(std::slice::from_ref(byte)).expect("a plain body");
    }
    assert_eq!(whole, cut.finish().expect("a plain body"));
    whole
}

fn named(api: Api, body: &str) -> Vec<(What, String)> {
    let named = facts(api, body).named.into_iter();
    named.map(|named| (named.what, named.id)).collect()
}

fn one(what: What, id: &str) -> Vec<(What, String)> {
    vec![(what, id.to_owned())]
}

#[test]
fn every_way_to_name_something_kept_is_told() {
    let responses = |body: &str| named(Api::Responses, body);
    assert_eq!(
        responses(r#"{"previous_response_id":"resp_1"}"#),
        one(What::Response, "resp_1")
    );
    assert_eq!(
        responses(r#"{"conversation":"conv_1"}"#),
        one(What::Conversation, "conv_1")
    );
    assert_eq!(
        responses(r#"{"conversation":{"id":"conv_1"}}"#),
        one(What::Conversation, "conv_1")
    );
    assert_eq!(
        responses(
            r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"file-1"},{"type":"input_image","file_id":"file-1"}]}]}"#
        ),
        one(What::File, "file-1")
    );
    assert_eq!(
        responses(r#"{"tools":[{"type":"file_search","vector_store_ids":["vs_1","vs_2"]}]}"#),
        [
            one(What::VectorStore, "vs_1"),
            one(What::VectorStore, "vs_2")
        ]
        .concat()
    );
    assert_eq!(
        responses(r#"{"tools":[{"type":"code_interpreter","container":"cntr_1"}]}"#),
        one(What::Container, "cntr_1")
    );
    assert_eq!(
        responses(
            r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["file-1"],"id":"cntr_1"}}]}"#
        ),
        [one(What::File, "file-1"), one(What::Container, "cntr_1")].concat()
    );
    assert_eq!(
        named(
            Api::ChatCompletions,
            r#"{"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"file-1"}}]}]}"#
        ),
        one(What::File, "file-1")
    );
    assert_eq!(
        named(
            Api::Messages,
            r#"{"container":{"id":"c_1"},"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"file_1"}}]}]}"#
        ),
        [one(What::Container, "c_1"), one(What::File, "file_1")].concat()
    );
    // As a reader would take it that minds neither case nor escapes.
    assert_eq!(
        responses(r#"{"Previous_\u0072esponse_id":"resp_1"}"#),
        one(What::Response, "resp_1")
    );
}

#[test]
fn what_only_looks_like_a_name_is_none() {
    let body = r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","input":{"file_id":"mine","deep":{"file_ids":["mine"]}}},{"type":"document","source":{"file_id":"file_1"}}]}]}"#;
    assert_eq!(named(Api::Messages, body), one(What::File, "file_1"));
    for (api, body) in [
        (
            Api::Responses,
            r#"{"tools":[{"type":"function","parameters":{"properties":{"file_id":{"type":"string"},"container":{"type":"x"}},"required":["file_id"]}}]}"#,
        ),
        (
            Api::Responses,
            r#"{"metadata":{"file_id":"x"},"text":{"file_id":"x"},"conversation":null}"#,
        ),
        (
            Api::Generate,
            r#"{"messages":[{"tool_calls":[{"function":{"arguments":{"file_id":"x"}}}]}]}"#,
        ),
        (Api::Responses, r#"{"input":"file_id: file-1"}"#),
    ] {
        assert_eq!(named(api, body), [], "{body}");
    }
}

#[test]
fn more_than_can_be_looked_up_are_refused() {
    let body = |count: usize| {
        let ids: Vec<_> = (0..count).map(|at| format!("\"f{at}\"")).collect();
        format!(r#"{{"file_ids":[{}]}}"#, ids.join(","))
    };
    assert_eq!(named(Api::Responses, &body(100)).len(), 100);
    let mut scanner = RequestScanner::new(Api::Responses);
    let error = scanner.push(body(101).as_bytes()).unwrap_err();
    assert_eq!(error.code(), "too_many_objects");
}

#[test]
fn whether_an_answer_is_stored_is_told() {
    let stores = |body| facts(Api::ChatCompletions, body).stores;
    assert_eq!(stores("{}"), None);
    assert_eq!(stores(r#"{"store":null}"#), None);
    assert_eq!(stores(r#"{"store":false}"#), Some(false));
    assert_eq!(stores(r#"{"store":true,"store":false}"#), Some(true));
}
