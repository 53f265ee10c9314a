//! Charges worked out by hand, and where known compared with what the provider itself billed.
//!
//! The rates are figures of `config/model_prices.json`, in USD per 1,000,000 tokens.

use tariff::{
    Amount, Book, Buckets, Fees, Flag, Line, Pattern, Price, PriceId, Quote, Rates, Tier,
};

/// USD per 1,000,000 tokens as a rate.
fn usd(text: &str) -> Option<i64> {
    Some(text.parse::<Amount>().expect("a decimal number").nano())
}

fn price(id: i64, tier: &str, min_context: u64, rates: Rates) -> Price {
    Price {
        id: PriceId(id),
        pattern: Pattern::new("model"),
        tier: Tier::new(tier),
        min_context,
        context_inclusive: false,
        valid_from_ms: 0,
        valid_to_ms: None,
        rates,
        fees: Fees::default(),
        context_window: None,
        output_max: None,
    }
}

fn quote(prices: Vec<Price>) -> Quote {
    Book::new(prices).quote("model", 0).expect("priced")
}

fn text_rates(input: &str, cached: &str, output: &str) -> Rates {
    Rates {
        in_text: usd(input),
        cr_text: usd(cached),
        out_text: usd(output),
        ..Rates::default()
    }
}

/// The charge in nano-USD.
fn charge(quote: &Quote, tier: Option<&str>, buckets: Buckets) -> i64 {
    let charged = quote
        .charge(
            &Line {
                buckets,
                ..Line::default()
            },
            tier,
        )
        .expect("chargeable");
    assert!(!charged.flags.has(Flag::TierUnpriced));
    charged.amount.nano()
}

fn gpt_5() -> Quote {
    quote(vec![
        price(1, "default", 0, text_rates("1.25", "0.125", "10")),
        price(2, "flex", 0, text_rates("0.625", "0.0625", "5")),
        price(3, "priority", 0, text_rates("2.50", "0.25", "20")),
    ])
}

const REASONED: Buckets = Buckets {
    in_text: 1140,
    cr_text: 2560,
    out_text: 101,
    out_reasoning: 640,
    ..NOTHING
};

const NOTHING: Buckets = Buckets {
    in_text: 0,
    in_audio: 0,
    in_image: 0,
    cr_text: 0,
    cr_audio: 0,
    cr_image: 0,
    cw_5m: 0,
    cw_1h: 0,
    out_text: 0,
    out_reasoning: 0,
    out_audio: 0,
    out_image: 0,
};

#[test]
fn a_gpt_4o_chat() {
    let quote = quote(vec![price(
        1,
        "default",
        0,
        text_rates("2.50", "1.25", "10"),
    )]);
    // 53 x 2.50 + 15 x 10 USD per million = 132,500 + 150,000 nano-USD
    assert_eq!(
        charge(
            &quote,
            None,
            Buckets {
                in_text: 53,
                out_text: 15,
                ..NOTHING
            }
        ),
        282_500
    );
}

#[test]
fn a_gpt_5_response_with_cached_input_and_reasoning() {
    // 1140 x 1.25 + 2560 x 0.125 + 741 x 10 = 1,425,000 + 320,000 + 7,410,000
    assert_eq!(charge(&gpt_5(), Some("default"), REASONED), 9_155_000);
}

#[test]
fn the_same_at_priority_costs_exactly_double() {
    assert_eq!(charge(&gpt_5(), Some("priority"), REASONED), 18_310_000);
    assert_eq!(charge(&gpt_5(), Some("fast"), REASONED), 18_310_000);
}

fn gpt_5_6() -> Quote {
    let rates = Rates {
        cw_5m: usd("6.25"),
        ..text_rates("5", "0.50", "30")
    };
    quote(vec![price(1, "default", 0, rates)])
}

#[test]
fn a_cache_write_is_billed_instead_of_the_input() {
    // 8 x 5 + 4012 x 6.25 + 5 x 30; OpenRouter billed 0.025265 USD
    assert_eq!(
        charge(
            &gpt_5_6(),
            None,
            Buckets {
                in_text: 8,
                cw_5m: 4012,
                out_text: 5,
                ..NOTHING
            }
        ),
        25_265_000
    );
}

#[test]
fn the_next_call_reads_the_cache() {
    // 8 x 5 + 4012 x 0.50 + 5 x 30; OpenRouter billed 0.002196 USD
    assert_eq!(
        charge(
            &gpt_5_6(),
            None,
            Buckets {
                in_text: 8,
                cr_text: 4012,
                out_text: 5,
                ..NOTHING
            }
        ),
        2_196_000
    );
}

#[test]
fn a_long_context_moves_the_whole_line_to_the_dearer_row() {
    let quote = quote(vec![
        price(1, "default", 0, text_rates("2.50", "0.25", "15")),
        price(2, "default", 272_000, text_rates("5", "0.50", "22.50")),
    ]);
    let line = Buckets {
        in_text: 100_000,
        cr_text: 200_000,
        out_text: 2_000,
        ..NOTHING
    };
    // 100000 x 5 + 200000 x 0.50 + 2000 x 22.50
    assert_eq!(charge(&quote, None, line), 645_000_000);
    // Exactly 272,000 is not above 272,000: 72000 x 2.50 + 200000 x 0.25 + 2000 x 15
    assert_eq!(
        charge(
            &quote,
            None,
            Buckets {
                in_text: 72_000,
                ..line
            }
        ),
        260_000_000
    );
}

#[test]
fn a_batch_costs_half() {
    let quote = quote(vec![
        price(1, "default", 0, text_rates("0.20", "0.02", "1.25")),
        price(2, "batch", 0, text_rates("0.10", "0.01", "0.625")),
    ]);
    let line = Buckets {
        in_text: 36,
        out_text: 224,
        ..NOTHING
    };
    // 36 x 0.10 + 224 x 0.625
    assert_eq!(charge(&quote, Some("batch"), line), 143_600);
    assert_eq!(charge(&quote, None, line), 287_200);
}

#[test]
fn audio_input_has_its_own_rate() {
    let rates = Rates {
        in_text: usd("0.60"),
        in_audio: usd("10"),
        out_text: usd("2.40"),
        out_audio: usd("20"),
        ..Rates::default()
    };
    let quote = quote(vec![price(1, "default", 0, rates)]);
    // 16 x 0.60 + 43 x 10 + 123 x 2.40
    assert_eq!(
        charge(
            &quote,
            None,
            Buckets {
                in_text: 16,
                in_audio: 43,
                out_text: 123,
                ..NOTHING
            }
        ),
        734_800
    );
}

#[test]
fn claude_cache_reads_and_writes_stand_beside_the_input() {
    let rates = Rates {
        cw_5m: usd("2.50"),
        cw_1h: usd("4"),
        ..text_rates("2", "0.20", "10")
    };
    let quote = quote(vec![price(1, "default", 0, rates)]);
    let line = Buckets {
        in_text: 16,
        cr_text: 13_637,
        cw_5m: 7_049,
        out_text: 344,
        ..NOTHING
    };
    // 16 x 2 + 13637 x 0.20 + 7049 x 2.50 + 344 x 10
    assert_eq!(charge(&quote, None, line), 23_821_900);
}

#[test]
fn reasoning_outside_the_completion_is_output_too() {
    let quote = quote(vec![price(
        1,
        "default",
        0,
        text_rates("0.30", "0.075", "0.50"),
    )]);
    let line = Buckets {
        in_text: 10,
        cr_text: 2,
        out_text: 1,
        out_reasoning: 228,
        ..NOTHING
    };
    // 10 x 0.30 + 2 x 0.075 + 229 x 0.50; xAI billed 1,176,500 ticks of 1e-10 USD
    assert_eq!(charge(&quote, None, line), 117_650);
}

#[test]
fn tokens_seen_only_in_the_total_are_charged_as_reasoning() {
    let quote = quote(vec![
        price(1, "default", 0, text_rates("1.25", "0.125", "10")),
        price(2, "default", 200_000, text_rates("2.50", "0.25", "15")),
    ]);
    // 35 x 1.25 + (12 + 62) x 10
    assert_eq!(
        charge(
            &quote,
            None,
            Buckets {
                in_text: 35,
                out_text: 12,
                out_reasoning: 62,
                ..NOTHING
            }
        ),
        783_750
    );
}

#[test]
fn one_embedding_token_is_not_lost_in_rounding() {
    let rates = Rates {
        in_text: usd("0.02"),
        out_text: usd("0"),
        ..Rates::default()
    };
    let quote = quote(vec![price(1, "default", 0, rates)]);
    assert_eq!(
        charge(
            &quote,
            None,
            Buckets {
                in_text: 1,
                ..NOTHING
            }
        ),
        20
    );
}
