//! Charges of several lines, of units other than tokens and with multipliers, worked out by hand; and that bounds cover them.
//!
//! The figures are those of `config/model_prices.json`, in USD: per 1,000,000 tokens or characters, per minute, image or call.

use proptest::prelude::*;
use tariff::{
    Amount, Ask, Book, BoundError, Buckets, ChargeError, Fees, Flag, ImageKind, Line, OutputLimit,
    Pattern, PerTool, Price, PriceId, Quote, Rates, Served, Tier, Tool, Units,
};

/// USD as nano-USD.
fn usd(text: &str) -> Option<i64> {
    Some(text.parse::<Amount>().expect("a decimal number").nano())
}

fn model(rates: Rates, fees: Fees) -> Quote {
    let price = Price {
        id: PriceId(1),
        pattern: Pattern::new("model"),
        tier: Tier::new("default"),
        min_context: 0,
        context_inclusive: false,
        valid_from_ms: 0,
        valid_to_ms: None,
        rates,
        fees,
        context_window: Some(100_000),
        output_max: Some(1_000),
    };
    Book::new(vec![price]).quote("model", 0).expect("priced")
}

fn text(input: &str, cached: &str, output: &str) -> Rates {
    Rates {
        in_text: usd(input),
        cr_text: usd(cached),
        out_text: usd(output),
        ..Rates::default()
    }
}

fn tokens(buckets: Buckets) -> Line {
    Line {
        buckets,
        ..Line::default()
    }
}

fn units(units: Units) -> Line {
    Line {
        units,
        ..Line::default()
    }
}

fn calls(tool: Tool, count: u64) -> Units {
    let mut tools = PerTool::default();
    tools.set(tool, count);
    Units {
        tools,
        ..Units::default()
    }
}

fn fee(tool: Tool, usd_each: &str) -> Fees {
    let mut tools = PerTool::default();
    tools.set(tool, usd(usd_each));
    Fees {
        tools,
        ..Fees::default()
    }
}

#[track_caller]
fn charge(quote: &Quote, line: &Line) -> i64 {
    let charged = quote.charge(line, None).expect("chargeable");
    assert_eq!(charged.flags.bits(), 0);
    charged.amount.nano()
}

#[test]
fn a_realtime_turn_has_a_rate_for_each_modality() {
    let rates = Rates {
        in_audio: usd("32"),
        out_audio: usd("64"),
        ..text("4", "0.40", "16")
    };
    let turn = Buckets {
        in_text: 32,
        in_audio: 26,
        cr_text: 64,
        out_text: 28,
        out_audio: 69,
        ..Buckets::default()
    };
    // 32 x 4 + 26 x 32 + 64 x 0.40 + 28 x 16 + 69 x 64
    assert_eq!(
        charge(&model(rates, Fees::default()), &tokens(turn)),
        5_849_600
    );
}

#[test]
fn an_edited_image_is_billed_by_image_tokens() {
    let rates = Rates {
        in_image: usd("8"),
        out_image: usd("32"),
        ..text("5", "1.25", "10")
    };
    let edit = Buckets {
        in_text: 43,
        in_image: 388,
        out_text: 308,
        out_image: 1056,
        ..Buckets::default()
    };
    // 43 x 5 + 388 x 8 + 308 x 10 + 1056 x 32
    assert_eq!(
        charge(&model(rates, Fees::default()), &tokens(edit)),
        40_191_000
    );
}

#[test]
fn time_is_billed_by_the_minute_and_text_read_out_by_the_character() {
    let minute = |rate| {
        let fees = Fees {
            audio_in_minute: usd(rate),
            ..Fees::default()
        };
        model(Rates::default(), fees)
    };
    let heard = |audio_in_ms| {
        units(Units {
            audio_in_ms,
            ..Units::default()
        })
    };
    // 4 s at 0.006 and 3 s at 0.017 USD a minute; 64 characters at 15 USD a million
    assert_eq!(charge(&minute("0.006"), &heard(4_000)), 400_000);
    assert_eq!(charge(&minute("0.017"), &heard(3_000)), 850_000);
    // A third of a nano-USD is rounded up, once.
    assert_eq!(charge(&minute("0.00002"), &heard(1)), 1);
    let tts = Fees {
        characters: usd("15"),
        ..Fees::default()
    };
    let read_out = Units {
        characters: 64,
        ..Units::default()
    };
    assert_eq!(
        charge(&model(Rates::default(), tts), &units(read_out)),
        960_000
    );
}

#[test]
fn where_it_was_computed_multiplies_the_tokens() {
    let rates = Rates {
        cw_5m: usd("6.25"),
        cw_1h: usd("10"),
        ..text("5", "0.50", "25")
    };
    let fees = Fees {
        regions_bps: vec![("us".into(), 11_000)],
        speeds_bps: vec![("fast".into(), 60_000)],
        ..fee(Tool::WebSearch, "0.01")
    };
    let mut line = tokens(Buckets {
        in_text: 16,
        cw_5m: 49,
        cw_1h: 7000,
        out_text: 344,
        ..Buckets::default()
    });
    let opus = model(rates, fees);
    let charge = |line: &Line, region, speed| {
        let served = Served {
            tier: Some("standard"),
            region,
            speed,
        };
        opus.charge(line, served).expect("chargeable").amount.nano()
    };
    // (16 x 5 + 49 x 6.25 + 7000 x 10 + 344 x 25) x 1.1
    assert_eq!(charge(&line, Some("us"), None), 86_884_875);
    assert_eq!(charge(&line, Some("global"), None), 78_986_250);
    assert_eq!(charge(&line, Some("us"), Some("fast")), 521_309_250);
    // Fees of tools are not multiplied.
    line.units = calls(Tool::WebSearch, 1);
    assert_eq!(charge(&line, Some("us"), None), 96_884_875);
}

#[test]
fn an_advisor_is_billed_beside_the_executor() {
    let sonnet = model(text("2", "0.20", "10"), Fees::default());
    let opus = model(text("5", "0.50", "25"), Fees::default());
    let line = |in_text, out_text| {
        tokens(Buckets {
            in_text,
            out_text,
            ..Buckets::default()
        })
    };
    // 2411 x 2 + 145 x 10, and 2543 x 5 + 18 x 25
    assert_eq!(charge(&sonnet, &line(2411, 145)), 6_272_000);
    assert_eq!(charge(&opus, &line(2543, 18)), 13_165_000);
}

#[test]
fn a_compaction_is_billed_beside_the_message() {
    let sonnet = model(text("3", "0.30", "15"), Fees::default());
    let compaction = tokens(Buckets {
        in_text: 100,
        cr_text: 55_096,
        out_text: 83,
        ..Buckets::default()
    });
    let message = tokens(Buckets {
        in_text: 181,
        out_text: 8,
        ..Buckets::default()
    });
    assert_eq!(charge(&sonnet, &compaction), 18_073_800);
    assert_eq!(charge(&sonnet, &message), 663_000);
}

#[test]
fn calls_of_tools_are_billed_beside_the_tokens() {
    let mini = model(text("0.40", "0.10", "1.60"), fee(Tool::WebSearch, "0.01"));
    let mut line = tokens(Buckets {
        in_text: 8174,
        out_text: 30,
        ..Buckets::default()
    });
    line.units = calls(Tool::WebSearch, 1);
    // 8174 x 0.40 + 30 x 1.60 + 0.01; OpenRouter billed 0.0133176 USD
    assert_eq!(charge(&mini, &line), 13_317_600);

    let grok = model(text("1.25", "0.20", "2.50"), fee(Tool::WebSearch, "0.005"));
    let mut line = tokens(Buckets {
        in_text: 3641,
        cr_text: 2048,
        out_text: 444,
        ..Buckets::default()
    });
    line.units = calls(Tool::WebSearch, 2);
    // 3641 x 1.25 + 2048 x 0.20 + 444 x 2.50 + 2 x 0.005; xAI billed 160,708,500 ticks of 1e-10 USD
    assert_eq!(charge(&grok, &line), 16_070_850);
}

#[test]
fn images_are_billed_by_size_and_quality() {
    let fees = Fees {
        images: vec![
            ("1024x1024/standard".into(), 40_000_000),
            ("1024x1024/hd".into(), 80_000_000),
        ],
        ..Fees::default()
    };
    let line = Line {
        units: Units {
            images: 3,
            ..Units::default()
        },
        image: ImageKind {
            size: Some("1024x1024".into()),
            quality: Some("hd".into()),
        },
        ..Line::default()
    };
    assert_eq!(charge(&model(Rates::default(), fees), &line), 240_000_000);
}

#[test]
fn a_tool_without_a_fee_is_flagged_and_any_other_unit_without_one_is_an_error() {
    let quote = model(text("1", "1", "1"), Fees::default());
    let charged = quote
        .charge(&units(calls(Tool::XSearch, 1)), None)
        .expect("chargeable");
    assert_eq!(charged.amount, Amount::ZERO);
    assert!(charged.flags.has(Flag::ToolUnpriced));
    let pages = units(Units {
        pages: 1,
        ..Units::default()
    });
    assert_eq!(
        quote.charge(&pages, None),
        Err(ChargeError::UnitUnpriced { unit: "pages" })
    );
    // A request as such seldom has a fee.
    let request = units(Units {
        requests: 1,
        ..Units::default()
    });
    assert_eq!(charge(&quote, &request), 0);
}

#[test]
fn a_tier_without_fees_has_those_of_the_default_one() {
    let row = |id, tier: &str, fees| Price {
        id: PriceId(id),
        pattern: Pattern::new("model"),
        tier: Tier::new(tier),
        min_context: 0,
        context_inclusive: false,
        valid_from_ms: 0,
        valid_to_ms: None,
        rates: text("1", "1", "1"),
        fees,
        context_window: None,
        output_max: None,
    };
    let rows = vec![
        row(1, "default", fee(Tool::WebSearch, "0.01")),
        row(2, "flex", Fees::default()),
    ];
    let quote = Book::new(rows).quote("model", 0).expect("priced");
    let charged = quote
        .charge(&units(calls(Tool::WebSearch, 1)), Some("flex"))
        .expect("chargeable");
    assert_eq!(
        (charged.amount.nano(), charged.price, charged.flags.bits()),
        (10_000_000, PriceId(2), 0)
    );
}

#[test]
fn an_image_model_without_token_prices_is_bounded_by_its_images() {
    let fees = Fees {
        images: vec![("*".into(), 20_000_000)],
        ..Fees::default()
    };
    let quote = model(Rates::default(), fees);
    let ask = Ask {
        body_bytes: 500,
        units: Units {
            images: 4,
            ..Units::default()
        },
        ..Ask::default()
    };
    assert_eq!(quote.bound(&ask).map(|it| it.amount.nano()), Ok(80_000_000));
    let speech = Ask {
        units: Units {
            characters: 4,
            ..Units::default()
        },
        ..ask
    };
    assert_eq!(
        quote.bound(&speech),
        Err(BoundError::UnitUnpriced { unit: "characters" })
    );
    // Chats have no unit that could stand in for tokens.
    let chat = Ask {
        body_bytes: 500,
        ..Ask::default()
    };
    assert_eq!(
        quote.bound(&chat),
        Err(BoundError::Unpriced { side: "input" })
    );
}

proptest! {
    /// Whatever an answer is billed in, and wherever it was computed, the hold covers it.
    #[test]
    fn no_units_within_the_bound_cost_more_than_the_bound(
        rate in 0_i64..1_000_000_000_000,
        fees in proptest::array::uniform4(0_i64..1_000_000_000),
        bps in 10_000_i64..70_000,
        input in 0_u64..5_000,
        output in 0_u64..500,
        images in 0_u64..11,
        ms in 0_u64..10_000_000,
        searches in 0_u64..20,
        by_tokens in any::<bool>(),
    ) {
        let [image, minute, search, request] = fees;
        let mut tools = PerTool::default();
        tools.set(Tool::WebSearch, Some(search));
        let fees = Fees {
            audio_in_minute: Some(minute),
            images: vec![("*".into(), image)],
            request: Some(request),
            tools,
            regions_bps: vec![("us".into(), bps)],
            speeds_bps: vec![("fast".into(), bps)],
            ..Fees::default()
        };
        let rates = Rates { in_text: Some(rate), out_text: Some(rate), ..Rates::default() };
        let quote = model(rates, fees);
        let most = Units { images, audio_in_ms: ms, ..Units::default() };
        let ask = Ask {
            body_bytes: input,
            output: OutputLimit::Tokens(output),
            units: most,
            tool_calls: searches,
            speed: Some("fast"),
            ..Ask::default()
        };
        let bound = quote.bound(&ask).expect("bounded").amount;
        let buckets = if by_tokens {
            Buckets { in_text: input, out_text: output, ..Buckets::default() }
        } else {
            Buckets::default()
        };
        let units = Units { requests: 1, ..calls(Tool::WebSearch, searches) };
        let units = if by_tokens { units } else { Units { images, audio_in_ms: ms, ..units } };
        let line = Line { buckets, units, ..Line::default() };
        let served = Served { tier: None, region: Some("us"), speed: Some("fast") };
        let charged = quote.charge(&line, served).expect("chargeable").amount;
        prop_assert!(charged <= bound, "{charged} > {bound}");
    }
}
