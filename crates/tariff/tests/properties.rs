//! What holds for every price and every usage.

use proptest::prelude::*;
use tariff::{
    Amount, Ask, Book, Buckets, ChargeError, Fees, Flag, Line, OutputLimit, Pattern, Price,
    PriceId, Quote, Rates, Tier,
};

/// Far above any real rate (1,000 USD per 1,000,000 tokens), far below where products overflow.
const RATE_MAX: i64 = 1_000_000_000_000;

fn rates() -> impl Strategy<Value = Rates> {
    let some = 0..RATE_MAX;
    let maybe = || proptest::option::of(0..RATE_MAX);
    let inputs = (
        some.clone(),
        maybe(),
        maybe(),
        maybe(),
        maybe(),
        maybe(),
        maybe(),
        maybe(),
    );
    (inputs, some, maybe(), maybe(), maybe()).prop_map(
        |(
            (in_text, in_audio, in_image, cr_text, cr_audio, cr_image, cw_5m, cw_1h),
            out_text,
            out_reasoning,
            out_audio,
            out_image,
        )| Rates {
            in_text: Some(in_text),
            in_audio,
            in_image,
            cr_text,
            cr_audio,
            cr_image,
            cw_5m,
            cw_1h,
            out_text: Some(out_text),
            out_reasoning,
            out_audio,
            out_image,
        },
    )
}

fn row(tier: &'static str, min_context: u64) -> BoxedStrategy<Price> {
    (rates(), any::<bool>())
        .prop_map(move |(rates, context_inclusive)| Price {
            id: PriceId(i64::try_from(min_context).expect("small")),
            pattern: Pattern::new("m"),
            tier: Tier::new(tier),
            min_context,
            context_inclusive,
            valid_from_ms: 0,
            valid_to_ms: None,
            rates,
            fees: Fees::default(),
            context_window: Some(5_000),
            output_max: Some(2_000),
        })
        .boxed()
}

/// Tiers and context sizes, some of them missing; the default tier may even begin above zero.
fn prices() -> BoxedStrategy<Vec<Price>> {
    let maybe = |tier, min_context| proptest::option::of(row(tier, min_context));
    (0..500_u64)
        .prop_flat_map(move |first| {
            (
                row("default", first),
                maybe("default", 1_000),
                maybe("priority", 0),
                maybe("priority", 3_000),
                maybe("flex", 500),
            )
                .prop_map(|(first, a, b, c, d)| {
                    [Some(first), a, b, c, d].into_iter().flatten().collect()
                })
        })
        .boxed()
}

fn one_row() -> impl Strategy<Value = Vec<Price>> {
    row("default", 0).prop_map(|row| vec![row])
}

fn quote(prices: Vec<Price>) -> Quote {
    Book::new(prices).quote("m", 0).expect("priced")
}

/// Splits `tokens` into parts that add up to it.
fn split(tokens: u64, cuts: &[u64]) -> Vec<u64> {
    let mut left = tokens;
    let mut parts: Vec<u64> = cuts
        .iter()
        .map(|cut| {
            let part = cut % (left + 1);
            left -= part;
            part
        })
        .collect();
    parts.push(left);
    parts
}

fn buckets(input: u64, output: u64, cuts: &[u64]) -> Buckets {
    let i = split(input, &cuts[..7]);
    let o = split(output, &cuts[7..10]);
    Buckets {
        in_text: i[0],
        in_audio: i[1],
        in_image: i[2],
        cr_text: i[3],
        cr_audio: i[4],
        cr_image: i[5],
        cw_5m: i[6],
        cw_1h: i[7],
        out_text: o[0],
        out_reasoning: o[1],
        out_audio: o[2],
        out_image: o[3],
    }
}

fn cuts() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(0..10_000_u64, 10)
}

fn cost(quote: &Quote, buckets: Buckets) -> i64 {
    quote
        .charge(
            &Line {
                buckets,
                ..Line::default()
            },
            None,
        )
        .expect("chargeable")
        .amount
        .nano()
}

fn add(a: Buckets, b: Buckets) -> Buckets {
    let line = |buckets| Line {
        buckets,
        ..Line::default()
    };
    tariff::Usage {
        lines: vec![line(a), line(b)],
        ..Default::default()
    }
    .total()
}

proptest! {
    #[test]
    fn no_usage_within_the_bound_costs_more_than_the_bound(
        prices in prices(),
        body_bytes in 0..8_000_u64,
        refers_outside: bool,
        limit in proptest::option::of(0..4_000_u64),
        choices in 0..4_u64,
        requested in proptest::option::of(prop_oneof![Just("auto"), Just("default"), Just("flex"), Just("priority"), Just("fast"), Just("odd")]),
        served in 0..3_usize,
        share in (0..=100_u64, 0..=100_u64),
        cuts in cuts(),
    ) {
        let quote = quote(prices);
        let output = limit.map_or(OutputLimit::Model, OutputLimit::Tokens);
        let ask = Ask { body_bytes, refers_outside, output, choices, service_tier: requested, ..Ask::default() };
        let bound = quote.bound(&ask).expect("all facts are there");
        let served = match requested {
            None | Some("auto") => [None, Some("default"), Some("priority")][served],
            Some(tier) => [None, Some("default"), Some(tier)][served],
        };
        let usage = buckets(bound.input_tokens * share.0 / 100, bound.output_tokens * share.1 / 100, &cuts);
        let charged = quote.charge(&Line { buckets: usage, ..Line::default() }, served).expect("chargeable");
        prop_assert!(charged.amount <= bound.amount, "{charged:?} {bound:?}");
    }

    #[test]
    fn the_limit_offered_fits_and_one_more_does_not(
        prices in prices(),
        body_bytes in 0..3_000_u64,
        choices in 1..4_u64,
        available in 0..RATE_MAX / 300,
    ) {
        let quote = quote(prices);
        let available = Amount::from_nano(available);
        let ask = Ask { body_bytes, choices, ..Ask::default() };
        let amount = |limit| {
            quote.bound(&Ask { output: OutputLimit::Tokens(limit), ..ask.clone() }).expect("all facts are there").amount
        };
        match quote.output_limit_within(&ask, available) {
            Some(limit) => {
                prop_assert!(amount(limit) <= available);
                prop_assert!(limit == 2_000 || amount(limit + 1) > available);
            }
            None => prop_assert!(amount(1) > available),
        }
    }

    #[test]
    fn more_tokens_never_cost_less(prices in one_row(), a in cuts(), more in cuts()) {
        let quote = quote(prices);
        let (a, more) = (buckets(9_000, 9_000, &a), buckets(100, 100, &more));
        prop_assert!(cost(&quote, a) <= cost(&quote, add(a, more)));
    }

    #[test]
    fn a_line_split_in_two_costs_the_same_but_for_the_rounding_of_the_second(prices in one_row(), a in cuts(), b in cuts()) {
        let quote = quote(prices);
        let (a, b) = (buckets(900, 77, &a), buckets(33, 501, &b));
        let (whole, parts) = (cost(&quote, add(a, b)), cost(&quote, a) + cost(&quote, b));
        prop_assert!(whole <= parts && parts <= whole + 1);
    }

    #[test]
    fn tokens_without_a_rate_of_their_own_cost_as_text(rate in 0..RATE_MAX, a in cuts(), b in cuts()) {
        let rates = Rates { in_text: Some(rate), out_text: Some(rate), ..Rates::default() };
        let quote = quote(vec![Price { rates, ..plain(1) }]);
        prop_assert_eq!(cost(&quote, buckets(900, 77, &a)), cost(&quote, buckets(900, 77, &b)));
    }

    #[test]
    fn a_quote_holds_only_rows_in_force(
        spans in proptest::collection::vec((0..50_i64, proptest::option::of(0..50_i64), 0..3_u64), 1..20),
        at in 0..60_i64,
    ) {
        let rows: Vec<Price> = spans
            .into_iter()
            .zip(1..)
            .map(|((from, to, min_context), id)| Price { valid_from_ms: from, valid_to_ms: to, min_context, ..plain(id) })
            .collect();
        let in_force = |row: &Price| row.valid_from_ms <= at && row.valid_to_ms.is_none_or(|to| at < to);
        let places: std::collections::BTreeSet<u64> = rows.iter().filter(|row| in_force(row)).map(|row| row.min_context).collect();
        let quote = Book::new(rows).quote("m", at);
        let rows = quote.as_ref().map_or(&[][..], Quote::rows);
        prop_assert!(rows.iter().all(|row| in_force(row)));
        prop_assert_eq!(rows.iter().map(|row| row.min_context).collect::<Vec<_>>(), places.into_iter().collect::<Vec<_>>());
    }
}

fn plain(id: i64) -> Price {
    Price {
        id: PriceId(id),
        pattern: Pattern::new("m"),
        tier: Tier::new("default"),
        min_context: 0,
        context_inclusive: false,
        valid_from_ms: 0,
        valid_to_ms: None,
        rates: Rates {
            in_text: Some(2_000_000),
            out_text: Some(8_000_000),
            ..Rates::default()
        },
        fees: Fees::default(),
        context_window: None,
        output_max: None,
    }
}

#[test]
fn a_tier_without_a_price_costs_as_the_default_tier_and_is_flagged() {
    let flex_above = Price {
        tier: Tier::new("flex"),
        min_context: 10,
        rates: Rates::default(),
        ..plain(2)
    };
    let quote = quote(vec![plain(1), flex_above]);
    let line = |in_text| Line {
        buckets: Buckets {
            in_text,
            ..Buckets::default()
        },
        ..Line::default()
    };
    let unpriced = quote
        .charge(&line(5), Some("priority"))
        .expect("chargeable");
    assert_eq!((unpriced.amount.nano(), unpriced.price), (10, PriceId(1)));
    assert!(unpriced.flags.has(Flag::TierUnpriced));
    assert!(
        quote
            .charge(&line(10), Some("flex"))
            .expect("chargeable")
            .flags
            .has(Flag::TierUnpriced)
    );
    for tier in [
        None,
        Some("default"),
        Some("auto"),
        Some("standard"),
        Some("scale"),
        Some(""),
    ] {
        assert!(
            !quote
                .charge(&line(5), tier)
                .expect("chargeable")
                .flags
                .has(Flag::TierUnpriced),
            "{tier:?}"
        );
    }
    assert_eq!(
        quote.charge(&line(11), Some("flex")),
        Err(ChargeError::Unpriced { bucket: "in_text" })
    );
}

#[test]
fn an_inclusive_context_size_is_reached_at_its_own_figure() {
    let above = |context_inclusive| {
        let rates = Rates {
            in_text: Some(4_000_000),
            ..Rates::default()
        };
        quote(vec![
            plain(1),
            Price {
                min_context: 100,
                context_inclusive,
                rates,
                ..plain(2)
            },
        ])
    };
    let line = Buckets {
        in_text: 100,
        ..Buckets::default()
    };
    assert_eq!(cost(&above(true), line), 400);
    assert_eq!(cost(&above(false), line), 200);
}

#[test]
fn a_free_model_is_bounded_by_nothing_but_its_own_maximum() {
    let rates = Rates {
        in_text: Some(0),
        out_text: Some(0),
        ..Rates::default()
    };
    let free = quote(vec![Price {
        rates,
        output_max: Some(7),
        ..plain(1)
    }]);
    let ask = Ask {
        body_bytes: 100,
        choices: 2,
        ..Ask::default()
    };
    assert_eq!(
        free.bound(&ask)
            .map(|bound| (bound.amount, bound.output_tokens)),
        Ok((Amount::ZERO, 14))
    );
    assert_eq!(free.output_limit_within(&ask, Amount::ZERO), Some(7));
}

#[test]
fn each_input_has_a_window_and_answers_of_its_own() {
    let model = quote(vec![Price {
        context_window: Some(100),
        output_max: Some(10),
        ..plain(1)
    }]);
    let bound = |inputs| {
        let ask = Ask {
            body_bytes: 1_000,
            choices: 2,
            inputs,
            ..Ask::default()
        };
        model
            .bound(&ask)
            .map(|bound| (bound.input_tokens, bound.output_tokens))
    };
    assert_eq!(bound(1), Ok((100, 20)));
    assert_eq!(bound(3), Ok((300, 60)));
    assert_eq!(bound(30), Ok((1_000, 600)), "no more tokens than bytes");
}

#[test]
fn what_cannot_be_bounded_is_named() {
    use tariff::BoundError::{InputUnknown, OutputUnknown, Range, Unpriced};
    let model = quote(vec![plain(1)]);
    let limited = Ask {
        body_bytes: 10,
        output: OutputLimit::Tokens(5),
        ..Ask::default()
    };
    assert_eq!(
        model.bound(&limited).map(|bound| bound.amount.nano()),
        Ok(10 * 2 + 5 * 8)
    );
    assert_eq!(
        model.bound(&Ask {
            output: OutputLimit::Model,
            ..limited.clone()
        }),
        Err(OutputUnknown)
    );
    assert_eq!(
        model.bound(&Ask {
            refers_outside: true,
            ..limited.clone()
        }),
        Err(InputUnknown)
    );
    assert_eq!(
        model.bound(&Ask {
            output: OutputLimit::Tokens(u64::MAX),
            ..limited.clone()
        }),
        Err(Range)
    );
    assert_eq!(
        model.bound(&Ask {
            choices: u64::MAX,
            ..limited.clone()
        }),
        Err(Range)
    );
    let rates = Rates {
        in_text: Some(1),
        ..Rates::default()
    };
    let embedding = quote(vec![Price { rates, ..plain(1) }]);
    assert_eq!(embedding.bound(&limited), Err(Unpriced { side: "output" }));
    let no_output = Ask {
        output: OutputLimit::NoOutput,
        ..limited
    };
    assert_eq!(
        embedding
            .bound(&no_output)
            .map(|bound| (bound.amount.nano(), bound.output_tokens)),
        Ok((1, 0))
    );
    assert_eq!(embedding.output_limit_within(&no_output, Amount::MAX), None);
}

#[test]
fn an_assumed_maximum_stands_in_and_never_makes_a_bound_smaller() {
    let model = quote(vec![plain(1)]);
    let ask = Ask {
        body_bytes: 10,
        context_window_assumed: Some(4),
        output_max_assumed: Some(3),
        ..Ask::default()
    };
    let tokens = |ask: &Ask<'_>| {
        let bound = model.bound(ask).expect("bounded");
        (bound.input_tokens, bound.output_tokens)
    };
    assert_eq!(tokens(&ask), (10, 3));
    let outside = Ask {
        refers_outside: true,
        ..ask.clone()
    };
    assert_eq!(tokens(&outside), (4, 3));
    let limited = Ask {
        output: OutputLimit::Tokens(100),
        ..ask
    };
    assert_eq!(tokens(&limited), (10, 100));
}
