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
fn an_item_whose_content_stands_elsewhere_is_named_by_its_id() {
    for key in ["input", "items"] {
        for item in [
            r#"{"type":"item_reference","id":"x_1"}"#,
            r#"{"id":"x_1"}"#,
            r#"{"id":"x_1","type":null}"#,
            r#"{"id":"x_1","type":"message","type":"item_reference"}"#,
            r#"{"id":"x_1","type":"item_reference","type":"message"}"#,
            r#"{"id":"x_1","type":"item_reference","encrypted_content":"s"}"#,
            r#"{"id":"x_1","role":"user"}"#,
            r#"{"type":"reasoning","id":"x_1","summary":[]}"#,
            r#"{"type":"reasoning","id":"x_1","encrypted_content":null}"#,
            r#"{"type":"reasoning","id":"x_1","encrypted_content":"s","encrypted_content":null}"#,
            r#"{"type":"image_generation_call","Id":"x_1"}"#,
            r#"{"type":"\u0069tem_reference","\u0069d":"x_1"}"#,
            r#"{"type":"of_next_year","id":"x_1"}"#,
        ] {
            let body = format!(
                r#"{{"{key}":[{{"type":"message","role":"user","content":"Hi"}},{item}]}}"#
            );
            assert_eq!(
                named(Api::Responses, &body),
                one(What::Item, "x_1"),
                "{item}"
            );
        }
        for item in [
            r#"{"type":"message","id":"x_1","role":"assistant","content":[{"type":"output_text","text":"id","id":"x_2"}]}"#,
            r#"{"id":"x_1","role":"assistant","content":"Hi"}"#,
            r#"{"type":"function_call","id":"x_1","call_id":"c","name":"f","arguments":"{\"id\":\"x_2\"}"}"#,
            r#"{"type":"reasoning","id":"x_1","summary":[],"encrypted_content":"s"}"#,
            r#"{"type":"reasoning","id":null,"summary":[]}"#,
            r#"{"type":"reasoning","summary":[]}"#,
        ] {
            let body = format!(r#"{{"{key}":[{item}]}}"#);
            assert_eq!(named(Api::Responses, &body), [], "{item}");
        }
    }
    // What one item has shown does not speak for the next.
    assert_eq!(
        named(
            Api::Responses,
            r#"{"input":[{"type":"reasoning","id":"a","encrypted_content":"s"},{"type":"reasoning","id":"b"}]}"#
        ),
        one(What::Item, "b")
    );
    assert_eq!(named(Api::Embeddings, r#"{"input":[{"id":"x_1"}]}"#), []);
}

#[test]
fn an_earlier_recording_is_named_by_the_id_of_a_message_s_audio() {
    let chat = |body: &str| named(Api::ChatCompletions, body);
    assert_eq!(
        chat(
            r#"{"audio":{"voice":"alloy","format":"wav"},"messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}"#
        ),
        one(What::Recording, "audio_1")
    );
    for body in [
        r#"{"audio":{"voice":"alloy","id":"x"},"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}]}]}"#,
        r#"{"messages":[{"role":"assistant","audio":null},{"role":"assistant","audio":"AA=="},{"role":"user","audio":["AA=="]}]}"#,
    ] {
        assert_eq!(chat(body), [], "{body}");
    }
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
    let items = |count: usize| {
        let items: Vec<_> = (0..count)
            .map(|at| format!(r#"{{"id":"i{at}"}}"#))
            .collect();
        format!(r#"{{"input":[{}]}}"#, items.join(","))
    };
    assert_eq!(named(Api::Responses, &items(100)).len(), 100);
    for body in [body(101), items(101)] {
        let mut scanner = RequestScanner::new(Api::Responses);
        let error = scanner.push(body.as_bytes()).unwrap_err();
        assert_eq!(error.code(), "too_many_objects");
    }
}

#[test]
fn whether_an_answer_is_stored_is_told() {
    let stores = |body| facts(Api::ChatCompletions, body).stores;
    assert_eq!(stores("{}"), None);
    assert_eq!(stores(r#"{"store":null}"#), None);
    assert_eq!(stores(r#"{"store":false}"#), Some(false));
    assert_eq!(stores(r#"{"store":true,"store":false}"#), Some(true));
}
