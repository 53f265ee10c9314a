//! What the shipped list becomes, and how odd lists are read.

use tariff::Rates;

use super::*;

const SHIPPED: &str = include_str!("../../../../config/model_prices.json");

fn shipped() -> PriceList {
    read(SHIPPED, &Options::default()).expect("a price list")
}

fn usd(text: &str) -> Option<i64> {
    Some(text.parse::<tariff::Amount>().expect("decimal").nano())
}

fn row<'a>(list: &'a PriceList, model: &str, tier: &str, min_context: u64) -> &'a Price {
    let fits = |price: &&Price| {
        price.pattern == tariff::Pattern::Exact(model.into())
            && price.tier.as_str() == tier
            && price.min_context == min_context
    };
    let mut rows = list.prices.iter().filter(fits);
    let row = rows
        .next()
        .unwrap_or_else(|| panic!("{model} {tier} {min_context}"));
    assert!(rows.next().is_none(), "{model} {tier} {min_context} twice");
    row
}

fn places(list: &PriceList, model: &str) -> Vec<(String, u64)> {
    let of_model = |price: &&Price| price.pattern == tariff::Pattern::Exact(model.into());
    list.prices
        .iter()
        .filter(of_model)
        .map(|price| (price.tier.as_str().to_owned(), price.min_context))
        .collect()
}

fn text_rates(in_text: &str, cr_text: &str, out_text: &str) -> Rates {
    Rates {
        in_text: usd(in_text),
        cr_text: usd(cr_text),
        out_text: usd(out_text),
        ..Rates::default()
    }
}

/// A list of one model called `m`.
fn one(members: &str, options: &Options) -> PriceList {
    read(
        &format!(r#"{{"m": {{"litellm_provider": "openai", "mode": "chat", {members}}}}}"#),
        options,
    )
    .expect("a price list")
}

fn left_out(list: &PriceList) -> Vec<&LeftOut> {
    list.report.left_out.keys().collect()
}

#[test]
fn every_model_of_the_shipped_list_is_imported_or_reported() {
    let list = shipped();
    let all: std::collections::HashMap<String, serde_json::Value> =
        serde_json::from_str(SHIPPED).expect("JSON");
    assert_eq!(list.report.models(), all.len());
    let with_rows: std::collections::HashSet<_> = list
        .prices
        .iter()
        .map(|price| price.pattern.clone())
        .collect();
    // A model of which the list has only the kinds of its images is in no entry of its own.
    assert_eq!(with_rows.len(), list.report.imported + 1);
    let reported: std::collections::HashSet<&String> =
        list.report.left_out.values().flatten().collect();
    for model in all.keys() {
        let imported = with_rows.contains(&tariff::Pattern::Exact(model.as_str().into()));
        assert!(imported != reported.contains(model), "{model}");
    }
}

#[test]
fn the_shipped_list_leaves_out_what_has_no_price_and_kinds_of_images() {
    let list = shipped();
    let counts: Vec<_> = list
        .report
        .left_out
        .iter()
        .map(|(reason, models)| (reason.clone(), models.len()))
        .collect();
    assert_eq!(
        counts,
        [
            (LeftOut::Sample, 1),
            (LeftOut::NoPrice, 25),
            (LeftOut::OtherUnit, 2),
            (LeftOut::KindOfImage, 78)
        ]
    );
    assert_eq!((list.report.imported, list.prices.len()), (676, 996));
}

#[test]
fn a_model_has_a_row_for_each_tier() {
    let list = shipped();
    assert_eq!(
        places(&list, "gpt-4o-2024-08-06"),
        [
            ("batch".into(), 0),
            ("default".into(), 0),
            ("priority".into(), 0)
        ]
    );
    let gpt_4o = row(&list, "gpt-4o-2024-08-06", "default", 0);
    assert_eq!(gpt_4o.rates, text_rates("2.50", "1.25", "10"));
    assert_eq!(
        (gpt_4o.context_window, gpt_4o.output_max),
        (Some(128_000), Some(16_384))
    );
    assert_eq!(
        row(&list, "gpt-4o", "priority", 0).rates,
        text_rates("4.25", "2.125", "17")
    );
    assert_eq!(
        row(&list, "gpt-5-2025-08-07", "default", 0).rates,
        text_rates("1.25", "0.125", "10")
    );
    assert_eq!(
        row(&list, "gpt-5-2025-08-07", "flex", 0).rates,
        text_rates("0.625", "0.0625", "5")
    );
    assert_eq!(
        row(&list, "gpt-5-2025-08-07", "priority", 0).rates,
        text_rates("2.50", "0.25", "20")
    );
    assert_eq!(
        row(&list, "gpt-5.4-nano", "batch", 0).rates.out_text,
        usd("0.625")
    );
}

#[test]
fn a_dated_name_has_the_tiers_of_its_alias() {
    let list = shipped();
    let priority = row(&list, "gpt-4o-2024-08-06", "priority", 0);
    assert_eq!(priority.rates, text_rates("4.25", "2.125", "17"));
    assert_eq!(
        row(&list, "o3-2025-04-16", "flex", 0).rates.in_text,
        usd("1")
    );
    assert!(list.report.warnings[&Warning::TiersOfAlias].contains(&"gpt-4o-2024-08-06".to_owned()));
}

#[test]
fn a_dated_name_at_another_price_is_another_model() {
    let text = r#"{
        "m": {"mode": "embedding", "input_cost_per_token": 2e-6, "input_cost_per_token_flex": 1e-6},
        "m-2024-05-13": {"mode": "embedding", "input_cost_per_token": 3e-6},
        "m-v2": {"mode": "embedding", "input_cost_per_token": 2e-6, "input_cost_per_token_flex": 0.5e-6}
    }"#;
    let list = read(text, &Options::default()).expect("a price list");
    assert_eq!(places(&list, "m-2024-05-13"), [("default".to_owned(), 0)]);
    assert_eq!(row(&list, "m-v2", "flex", 0).rates.in_text, usd("0.5"));
    assert!(!list.report.warnings.contains_key(&Warning::TiersOfAlias));
}

#[test]
fn a_long_context_has_rows_of_its_own() {
    let list = shipped();
    let long = row(&list, "gpt-5.4", "default", 272_000);
    assert_eq!(long.rates, text_rates("5", "0.50", "22.50"));
    assert!(!long.context_inclusive);
    // The list has no long-context figures for these tiers: no row is cheaper than what is known.
    assert_eq!(
        row(&list, "gpt-5.4", "flex", 272_000).rates,
        text_rates("5", "0.50", "22.50")
    );
    assert_eq!(
        row(&list, "gpt-5.4", "priority", 272_000).rates,
        text_rates("5", "0.50", "30")
    );
    let flex = row(&list, "gpt-5.6-sol", "flex", 272_000).rates;
    assert_eq!(
        flex,
        Rates {
            cw_5m: usd("6.25"),
            ..text_rates("5", "0.50", "22.50")
        }
    );
}

#[test]
fn grok_counts_its_context_size_inclusively() {
    let list = shipped();
    let long = row(&list, "xai/grok-4.3", "default", 200_000);
    assert_eq!(long.rates, text_rates("2.50", "0.40", "5"));
    assert!(long.context_inclusive);
    assert_eq!(
        row(&list, "xai/grok-4-fast-reasoning", "default", 0).context_window,
        Some(2_000_000)
    );
    assert_eq!(
        row(&list, "xai/grok-3-mini", "default", 0).rates,
        text_rates("0.30", "0.075", "0.50")
    );
}

#[test]
fn claude_has_rates_for_both_kinds_of_cache_write() {
    let list = shipped();
    let rates = Rates {
        cw_5m: usd("2.50"),
        cw_1h: usd("4"),
        ..text_rates("2", "0.20", "10")
    };
    assert_eq!(row(&list, "claude-sonnet-5", "default", 0).rates, rates);
    let long = row(&list, "claude-sonnet-4-5", "default", 200_000).rates;
    assert_eq!(
        long,
        Rates {
            cw_5m: usd("7.50"),
            cw_1h: usd("12"),
            ..text_rates("6", "0.60", "22.50")
        }
    );
}

#[test]
fn audio_images_and_realtime_have_their_own_rates() {
    let list = shipped();
    let audio = row(&list, "gpt-audio-mini", "default", 0).rates;
    assert_eq!(
        (audio.in_text, audio.in_audio, audio.out_text),
        (usd("0.60"), usd("10"), usd("2.40"))
    );
    let realtime = row(&list, "gpt-realtime", "default", 0).rates;
    assert_eq!(
        (realtime.in_image, realtime.cr_audio),
        (usd("5"), usd("0.40"))
    );
    let image = row(&list, "gpt-image-1.5", "default", 0).rates;
    assert_eq!(
        (image.in_image, image.out_text, image.out_image),
        (usd("8"), usd("10"), usd("32"))
    );
}

#[test]
fn an_embedding_request_is_not_bounded_by_the_window_of_one_input() {
    let list = shipped();
    let row = row(&list, "text-embedding-3-small", "default", 0);
    assert_eq!(
        (row.rates.in_text, row.rates.out_text),
        (usd("0.02"), usd("0"))
    );
    assert_eq!((row.context_window, row.output_max), (None, None));
    assert_eq!(one_row_window("completion"), None);
    assert_eq!(one_row_window("chat"), Some(9));
}

fn one_row_window(mode: &str) -> Option<u64> {
    let text = format!(
        r#"{{"m": {{"mode": "{mode}", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "max_input_tokens": 9}}}}"#
    );
    read(&text, &Options::default())
        .expect("a price list")
        .prices[0]
        .context_window
}

#[test]
fn a_cache_write_below_the_input_price_is_not_taken() {
    let list = shipped();
    assert_eq!(
        row(&list, "azure/eu/gpt-4o-2024-11-20", "default", 0)
            .rates
            .cw_5m,
        None
    );
    assert_eq!(
        row(&list, "deepseek/deepseek-chat", "default", 0)
            .rates
            .cw_5m,
        None
    );
    assert!(
        list.report.warnings[&Warning::CacheWriteBelowInput]
            .contains(&"deepseek/deepseek-chat".to_owned())
    );
}

#[test]
fn what_is_no_token_has_fees() {
    let list = shipped();
    let fees = |model| &row(&list, model, "default", 0).fees;
    // Listed for input and output, and one price all the same; a second of 0.017 / 60 is a minute of 0.017.
    assert_eq!(fees("whisper-1").audio_in_minute, usd("0.006"));
    assert_eq!(fees("whisper-1").audio_out_minute, None);
    assert_eq!(fees("gpt-realtime-whisper").audio_in_minute, usd("0.017"));
    assert_eq!(fees("gpt-4o-mini-tts").audio_out_minute, usd("0.015"));
    assert_eq!(fees("tts-1").characters, usd("15"));
    assert_eq!(fees("mistral/mistral-ocr-latest").page, usd("0.004"));
    assert_eq!(fees("perplexity/search").query, usd("0.005"));
    let pro = fees("sora-2-pro");
    assert_eq!(pro.video(Some("1280x720")), usd("18"));
    assert_eq!(pro.video(Some("1792x1024")), usd("30"));
    assert_eq!(fees("sora-2").video_minute, usd("6"));
    let searches = |model| fees(model).tools.get(tariff::Tool::WebSearch);
    assert_eq!(searches("claude-sonnet-5"), usd("0.01"));
    assert_eq!(searches("gpt-4o-search-preview"), usd("0.035"));
    assert_eq!(
        fees("claude-opus-4-6").speeds_bps,
        [(Box::from("fast"), 60_000)]
    );
    assert_eq!(
        fees("claude-sonnet-5").regions_bps,
        [(Box::from("us"), 11_000)]
    );
    assert_eq!(
        fees("gpt-5.6-sol").regions_bps,
        [(Box::from("eu"), 11_000), (Box::from("us"), 11_000)]
    );
    let sized = |tool| fees("gpt-4o-search-preview").tools.get(tool);
    assert_eq!(sized(tariff::Tool::WebSearchLow), usd("0.03"));
    assert_eq!(sized(tariff::Tool::WebSearchHigh), usd("0.05"));
    let one = fees("claude-sonnet-5").tools;
    assert_eq!(one.get(tariff::Tool::WebSearchHigh), None);
}

#[test]
fn kinds_of_images_are_in_the_row_of_their_model() {
    let list = shipped();
    let images = |model| {
        let row = row(&list, model, "default", 0);
        let named = row.fees.images.iter();
        named
            .map(|(name, fee)| (name.to_string(), *fee))
            .collect::<Vec<_>>()
    };
    let fee = |name: &str, usd: &str| (name.to_owned(), self::usd(usd).expect("a price"));
    assert_eq!(
        images("dall-e-2"),
        [
            fee("*", "0.02"),
            fee("1024x1024", "0.02"),
            fee("256x256", "0.016"),
            fee("512x512", "0.018"),
        ]
    );
    assert_eq!(
        images("azure/dall-e-3")[..3],
        [
            fee("1024x1024/hd", "0.08"),
            fee("1024x1024/standard", "0.04"),
            fee("1024x1792/hd", "0.12"),
        ]
    );
    // Billed by the token, as its answers report.
    assert_eq!(images("gpt-image-1"), []);
}

#[test]
fn absurd_fees_are_left_out_unless_asked_for() {
    let dear = r#""mode": "image_generation", "output_cost_per_image": 200"#;
    let text = format!(r#"{{"m": {{"litellm_provider": "openai", {dear}}}}}"#);
    let list = read(&text, &Options::default()).expect("a price list");
    assert_eq!(left_out(&list), [&LeftOut::Absurd]);
    let options = Options {
        allow_absurd: true,
        ..Options::default()
    };
    let list = read(&text, &options).expect("a price list");
    assert_eq!(list.report.imported, 1);
    assert!(list.report.warnings.contains_key(&Warning::Absurd));
}

#[test]
fn figures_without_a_column_are_reported_by_key() {
    let list = shipped();
    let keys = &list.report.figures_left_out;
    assert!(keys["annotation_cost_per_page"].contains(&"mistral/mistral-ocr-latest".to_owned()));
    assert!(keys["citation_cost_per_token"].contains(&"perplexity/sonar-deep-research".to_owned()));
    assert!(
        !keys.contains_key("input_cost_per_audio_per_second_above_128k_tokens"),
        "zeros are nothing to report"
    );
}

#[test]
fn other_providers_are_left_out_when_some_are_asked_for() {
    let options = Options {
        providers: vec!["openai".into(), "anthropic".into()],
        ..Options::default()
    };
    let list = read(SHIPPED, &options).expect("a price list");
    assert!(list.report.left_out[&LeftOut::OtherProvider].contains(&"xai/grok-4".to_owned()));
    assert!(
        row(&list, "claude-sonnet-5", "default", 0)
            .rates
            .in_text
            .is_some()
    );
    assert_eq!(list.report.models(), shipped().report.models());
}

#[test]
fn a_prefix_is_cut_off_unless_the_bare_name_is_taken() {
    let cut = |providers: &[&str]| {
        let options = Options {
            providers: providers.iter().map(|&name| name.to_owned()).collect(),
            strip_prefixes: vec!["azure/eu".into(), "azure".into(), "xai".into()],
            allow_absurd: false,
        };
        read(SHIPPED, &options).expect("a price list")
    };
    let all = cut(&[]);
    assert_eq!(
        row(&all, "grok-3-mini", "default", 0).rates.in_text,
        usd("0.30")
    );
    assert_eq!(
        row(&all, "gpt-4o-2024-08-06", "default", 0).rates.in_text,
        usd("2.50")
    );
    assert!(
        all.report.left_out[&LeftOut::NameTaken].contains(&"azure/gpt-4o-2024-08-06".to_owned())
    );
    // Alone, the first of azure's own entries has the name: the regional one, by the list's order.
    let azure = cut(&["azure"]);
    assert_eq!(
        row(&azure, "gpt-4o-2024-08-06", "default", 0).rates.in_text,
        usd("2.75")
    );
}

#[test]
fn an_absurd_price_is_refused_unless_allowed() {
    let absurd = r#""input_cost_per_token": 0.0010001, "output_cost_per_token": 1e-06"#;
    assert_eq!(
        left_out(&one(absurd, &Options::default())),
        [&LeftOut::Absurd]
    );
    let allowed = one(
        absurd,
        &Options {
            allow_absurd: true,
            ..Options::default()
        },
    );
    assert_eq!(allowed.prices[0].rates.in_text, usd("1000.1"));
    assert!(allowed.report.warnings.contains_key(&Warning::Absurd));
    let most = r#""input_cost_per_token": 0.001, "output_cost_per_token": 1e-06"#;
    assert_eq!(one(most, &Options::default()).report.imported, 1);
    let beyond = r#""input_cost_per_token": 1e30, "output_cost_per_token": 1e-06"#;
    assert_eq!(
        left_out(&one(
            beyond,
            &Options {
                allow_absurd: true,
                ..Options::default()
            }
        )),
        [&LeftOut::Absurd]
    );
}

#[test]
fn figures_are_exact_decimals_in_any_spelling() {
    let list = one(
        r#""input_cost_per_token": "0.00000250", "output_cost_per_token": 1E-5"#,
        &Options::default(),
    );
    assert_eq!(
        (list.prices[0].rates.in_text, list.prices[0].rates.out_text),
        (usd("2.5"), usd("10"))
    );
    for figure in ["-1e-6", "1e-16", "\"free\"", "{}", "true"] {
        let list = one(
            &format!(r#""input_cost_per_token": {figure}, "output_cost_per_token": 0"#),
            &Options::default(),
        );
        assert_eq!(
            left_out(&list),
            [&LeftOut::Unreadable("input_cost_per_token".into())],
            "{figure}"
        );
    }
}

#[test]
fn two_figures_under_one_key_are_not_chosen_between() {
    let twice = r#""input_cost_per_token": 1e-6, "input_cost_per_token": 2e-6, "output_cost_per_token": 1e-6"#;
    assert_eq!(
        left_out(&one(twice, &Options::default())),
        [&LeftOut::Unreadable("input_cost_per_token".into())]
    );
}

#[test]
fn the_later_of_two_equal_names_counts_and_the_other_is_reported() {
    let text = r#"{"m": {"mode": "embedding", "input_cost_per_token": 1e-6}, "m": {"mode": "embedding", "input_cost_per_token": 2e-6}}"#;
    let list = read(text, &Options::default()).expect("a price list");
    assert_eq!(list.prices.len(), 1);
    assert_eq!(list.prices[0].rates.in_text, usd("2"));
    assert_eq!(left_out(&list), [&LeftOut::NameTaken]);
}

#[test]
fn models_without_the_prices_they_need_are_named_with_the_reason() {
    let reason = |members| left_out(&one(members, &Options::default()))[0].clone();
    assert_eq!(reason(r#""max_tokens": 1"#), LeftOut::NoPrice);
    assert_eq!(
        reason(r#""output_cost_per_video_token": 0.1"#),
        LeftOut::OtherUnit
    );
    assert_eq!(
        reason(r#""input_cost_per_token": 1e-6"#),
        LeftOut::NoOutputPrice
    );
    let star = r#"{"gpt-*": {"mode": "embedding", "input_cost_per_token": 1e-6}, "odd": 1}"#;
    let list = read(star, &Options::default()).expect("a price list");
    assert_eq!(
        left_out(&list),
        [&LeftOut::LooksLikePattern, &LeftOut::NoPrice]
    );
}

#[test]
fn what_is_not_an_object_is_not_a_price_list() {
    for text in ["", "[]", "null", r#"{"m": {}"#, r#"{"m": {}} x"#] {
        assert!(read(text, &Options::default()).is_err(), "{text}");
    }
    assert_eq!(
        read("{}", &Options::default())
            .expect("a price list")
            .report
            .models(),
        0
    );
}

#[test]
fn the_report_reads_as_lines_with_a_few_names() {
    let text = shipped().report.to_string();
    println!("{text}");
    assert!(text.contains("models imported\nleft out:\n"), "{text}");
    assert!(
        text.contains("the list's own documentation (sample_spec)"),
        "{text}"
    );
}
