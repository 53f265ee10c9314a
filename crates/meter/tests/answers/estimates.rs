//! How far estimates are from what providers counted, by family of models, over the recorded answers that report usage.

use std::collections::BTreeMap;

use meter::AnswerMeter;

use super::recorded::{Text, texts_with_usage};

/// Most by which an answer's estimate is off, in per cent of what the provider counted; or in tokens, where that is little.
const OFF_PERCENT_MAX: u64 = 15;
const OFF_TOKENS_MAX: u64 = 12;

#[test]
fn estimates_of_recorded_answers_are_near_what_was_counted() {
    let texts = texts_with_usage();
    assert!(texts.len() >= 14, "recorded answers are missing");
    let mut families: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    let mut wrong = Vec::new();
    println!("family, answer: output tokens shown, all, estimated");
    for text in &texts {
        let Text {
            file, shown, all, ..
        } = text;
        let mut meter = AnswerMeter::new(text.api, 200, None, None);
        meter.push(&text.body);
        let estimated = meter.finish().output_tokens_seen;
        let family = meter::family(&text.model);
        println!("{family}, {file}: {shown}, {all}, {estimated}");
        // Of reasoning, some was shown, or all, or none.
        let counted = estimated.clamp(*shown, *all);
        let sums = families.entry(family).or_default();
        sums.0 += 1;
        sums.1 += counted;
        sums.2 += estimated;
        if estimated.abs_diff(counted) > OFF_TOKENS_MAX.max(all * OFF_PERCENT_MAX / 100) {
            wrong.push(format!("{file}: {shown} to {all} and not {estimated}"));
        }
    }
    println!("family: answers, tokens counted, estimated");
    for (family, (answers, counted, estimated)) in &families {
        println!("{family}: {answers}, {counted}, {estimated}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
