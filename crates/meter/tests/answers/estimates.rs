//! How far an estimate is from what the provider counted, over the recorded streams that report usage.

use meter::AnswerMeter;

use super::recorded::{Stream, streams_with_usage};

/// Most by which the tokenizer's count of a stream's text is off, in per cent of what the provider counted; or in
/// tokens, where that is little. Models of other families than OpenAI's have tokenizers of their own.
const OFF_PERCENT_MAX: u64 = 30;
const OFF_TOKENS_MAX: u64 = 12;
/// What frames a call of a tool is not in the text.
const OFF_TOKENS_PER_CALL_MAX: u64 = 30;

#[test]
fn estimates_of_recorded_streams_are_near_what_was_counted() {
    let streams = streams_with_usage();
    assert!(streams.len() >= 6, "recorded streams are missing");
    println!("output tokens: shown, all, estimated");
    for Stream {
        file,
        api,
        body,
        shown,
        all,
    } in streams
    {
        // The stream breaks off before the event that has the usage: then the text is all there is.
        let text = String::from_utf8(body).unwrap();
        let usage = text.rfind("\"usage\":{").unwrap_or(text.len());
        let cut = text[..usage].rfind("\n\n").unwrap_or(0);
        let mut meter = AnswerMeter::new(api, 200, None, None);
        meter.push(&text.as_bytes()[..cut]);
        let reading = meter.finish();
        let estimated = reading.output_tokens_seen;
        println!("{file}: {shown}, {all}, {estimated}");
        let off = estimated.abs_diff(estimated.clamp(shown, all));
        let allowed = OFF_TOKENS_MAX.max(all * OFF_PERCENT_MAX / 100)
            + reading.tool_calls * OFF_TOKENS_PER_CALL_MAX;
        assert!(
            off <= allowed,
            "{file}: {shown} to {all} and not {estimated}"
        );
    }
}
