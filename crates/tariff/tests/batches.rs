//! What comes in files and jobs: charges of many lines rounded once, half prices, bounds that cover them, videos and training.

use proptest::prelude::*;
use tariff::{
    Amount, Book, BoundError, Buckets, Fees, Flag, ImageKind, Line, Many, Pattern, Price, PriceId,
    Quote, Rates, Tab, Tier, Units,
};

fn usd(text: &str) -> Option<i64> {
    Some(text.parse::<Amount>().expect("a decimal number").nano())
}

fn price(id: i64, tier: &str, min_context: u64, input: &str, output: &str) -> Price {
    Price {
        id: PriceId(id),
        pattern: Pattern::new("model"),
        tier: Tier::new(tier),
        min_context,
        context_inclusive: false,
        valid_from_ms: 0,
        valid_to_ms: None,
        rates: Rates {
            in_text: usd(input),
            out_text: usd(output),
            ..Rates::default()
        },
        fees: Fees::default(),
        context_window: Some(1_000),
        output_max: Some(100),
    }
}

fn quote(prices: Vec<Price>) -> Quote {
    Book::new(prices).quote("model", 0).expect("priced")
}

fn line(in_text: u64, out_text: u64) -> Line {
    Line {
        buckets: Buckets {
            in_text,
            out_text,
            ..Buckets::default()
        },
        ..Line::default()
    }
}

fn units(units: Units, size: Option<&str>) -> Line {
    Line {
        units,
        image: ImageKind {
            size: size.map(str::to_owned),
            quality: None,
        },
        ..Line::default()
    }
}

#[test]
fn a_batch_without_prices_of_its_own_costs_half() {
    let quote = quote(vec![price(1, "default", 0, "0.20", "1.25")]);
    let charged = quote.charge(&line(36, 224), Some("batch")).unwrap();
    assert_eq!(charged.amount.nano(), 143_600);
    assert!(!charged.flags.has(Flag::TierUnpriced));
    let plain = quote.charge(&line(36, 224), None).unwrap();
    assert_eq!(plain.amount.nano(), 287_200);
}

#[test]
fn many_lines_are_rounded_once() {
    // 0.5 nano-USD each.
    let quote = quote(vec![price(1, "default", 0, "0.001", "0")]);
    let mut tab = Tab::default();
    assert_eq!(tab.charged(), None);
    for _ in 0..5 {
        tab.add(&quote, &line(1, 0), Some("batch")).unwrap();
    }
    let charged = tab.charged().unwrap();
    assert_eq!((charged.amount.nano(), charged.price), (3, PriceId(1)));
}

#[test]
fn a_batch_is_bounded_by_its_lines_at_half() {
    let quote = quote(vec![price(1, "default", 0, "2", "10")]);
    let many = Many {
        requests: 3,
        body_bytes: 500,
        body_bytes_max: 400,
        outside: 1,
        outside_max: 1,
        output_tokens: 30,
        unlimited_answers: 2,
        ..Many::default()
    };
    let bound = quote.bound_batch(&many).unwrap();
    assert_eq!((bound.input_tokens, bound.output_tokens), (1_500, 230));
    // (1500 x 2 + 230 x 10) / 2
    assert_eq!(bound.amount.nano(), 2_650_000);
}

#[test]
fn what_has_no_bound_is_not_held() {
    let mut open = price(1, "default", 0, "2", "10");
    open.context_window = None;
    open.output_max = None;
    let quote = quote(vec![open]);
    let bound = |many: Many| quote.bound_batch(&many);
    let outside = Many {
        outside: 1,
        ..Many::default()
    };
    assert_eq!(bound(outside), Err(BoundError::InputUnknown));
    let unlimited = Many {
        unlimited_answers: 1,
        ..Many::default()
    };
    assert_eq!(bound(unlimited), Err(BoundError::OutputUnknown));
    let assumed = Many {
        output_max_assumed: Some(7),
        ..unlimited
    };
    assert_eq!(bound(assumed).unwrap().output_tokens, 7);
    let huge = Many {
        output_tokens: u64::MAX,
        unlimited_answers: 1,
        output_max_assumed: Some(7),
        ..Many::default()
    };
    assert_eq!(bound(huge), Err(BoundError::Range));
}

#[test]
fn a_video_costs_by_its_size() {
    let mut pro = price(1, "default", 0, "1", "1");
    pro.rates = Rates::default();
    pro.fees = Fees {
        video_minute: usd("18"),
        videos: vec![("1792x1024".into(), usd("30").unwrap())],
        ..Fees::default()
    };
    let quote = quote(vec![pro]);
    let cost = |size| {
        let video = Units {
            video_ms: 8_000,
            ..Units::default()
        };
        quote.charge(&units(video, size), None).unwrap().amount
    };
    assert_eq!(cost(Some("1280x720")).nano(), 2_400_000_000);
    assert_eq!(cost(Some("1792x1024")).nano(), 4_000_000_000);
    assert_eq!(cost(None).nano(), 4_000_000_000);
}

#[test]
fn training_costs_by_the_token() {
    let mut tuned = price(1, "default", 0, "1", "1");
    tuned.fees.training = usd("25");
    let quote = quote(vec![tuned]);
    let trained = Units {
        training_tokens: 2_000,
        ..Units::default()
    };
    let charged = quote.charge(&units(trained, None), None).unwrap();
    assert_eq!(charged.amount.nano(), 50_000_000);
}

proptest! {
    #[test]
    fn the_bound_of_a_batch_covers_whatever_its_lines_use(
        lines in prop::collection::vec((1_u64..1_000, 0_u64..100), 1..20),
        has_batch in any::<bool>(), batch_context in prop::option::of(1_u64..1_000), context in prop::option::of(1_u64..1_000),
    ) {
        let mut prices = vec![price(1, "default", 0, "3", "7")];
        prices.extend(context.map(|from| price(2, "default", from, "6", "11")));
        if has_batch {
            prices.push(price(3, "batch", 0, "2", "5"));
        }
        prices.extend(batch_context.map(|from| price(4, "batch", from, "4", "9")));
        let quote = quote(prices);
        let mut many = Many::default();
        let mut tab = Tab::default();
        for (input, output) in lines {
            many.requests += 1;
            many.body_bytes += input;
            many.body_bytes_max = many.body_bytes_max.max(input);
            many.output_tokens += output;
            tab.add(&quote, &line(input, output), Some("batch")).unwrap();
        }
        prop_assert!(tab.charged().unwrap().amount <= quote.bound_batch(&many).unwrap().amount);
    }
}
