//! The most that a job can cost, when it is asked for.

use ledger::{AccessToken, Catalog};
use meter::{BatchAsks, BatchGroup};
use tariff::{Bound, BoundError, ChargeError, ImageKind, Line, Many, Quote, Units};

use crate::{admission, refusal::Refusal, settings};

/// Most times that a provider goes through a training file where it decides by itself (OpenAI's own limit).
const EPOCHS_AUTO_MAX: u64 = 25;

/// What a job may cost, and by which rows.
pub(crate) struct Bounded {
    pub(crate) model: String,
    pub(crate) quote: Quote,
    pub(crate) bound: Bound,
    /// For a first estimate.
    pub(crate) input_tokens: u64,
}

/// The bound of a batch, by the lines of its file or the requests in its body.
///
/// # Errors
/// 400 for a file that is unfit for a batch, names several models or another endpoint, or has no bound; 404 for a model that the
/// token may not use.
pub(crate) fn of_batch(
    asks: &BatchAsks,
    param: &'static str,
    (catalog, token, settings): (&Catalog, &AccessToken, &settings::Exchange),
    at_ms: i64,
) -> Result<(Bounded, BatchGroup), Refusal> {
    let unfit = |message: String| Refusal::InvalidBody {
        message,
        param: Some(param.into()),
        code: "unfit_for_batch",
    };
    if let Some(fault) = &asks.fault {
        return Err(unfit(format!("No batch can be made of this. {fault}")));
    }
    let [group] = &asks.groups[..] else {
        return Err(unfit(
            "The requests of a batch must all be to one model and one endpoint: make a batch for each."
                .into(),
        ));
    };
    if !token.allows_model(&group.model) {
        return Err(Refusal::ModelNotFound {
            model: group.model.clone(),
        });
    }
    let quote = admission::quote(catalog, &group.model, at_ms)?;
    let calls_each = u64::from(settings.tool_calls_assumed.get());
    let many = Many {
        requests: group.lines,
        body_bytes: group.body_bytes,
        body_bytes_max: group.body_bytes_max,
        outside: group.outside,
        outside_max: group.outside_max,
        output_tokens: group.output_tokens,
        unlimited_answers: group.unlimited_answers,
        tool_calls: group
            .unlimited_tools
            .saturating_mul(calls_each)
            .saturating_add(group.tool_calls),
        // A cap is kept by what is known, not by what is assumed.
        context_window_assumed: (!token.capped)
            .then(|| settings.context_window_assumed.get().into()),
        output_max_assumed: (!token.capped).then(|| settings.output_max_assumed.get().into()),
    };
    let bound = quote
        .bound_batch(&many)
        .map_err(|error| unbounded(&error))?;
    let bounded = Bounded {
        model: group.model.clone(),
        quote,
        bound,
        input_tokens: group.body_bytes.div_ceil(4),
    };
    Ok((bounded, group.clone()))
}

/// The bound of a video that plays so long, and is so large.
///
/// # Errors
/// 404 for a model that nothing prices or the token may not use, 400 for one that has no price for videos.
pub(crate) fn of_video(
    model: String,
    video_ms: u64,
    size: Option<String>,
    (catalog, token): (&Catalog, &AccessToken),
    at_ms: i64,
) -> Result<Bounded, Refusal> {
    let units = Units {
        video_ms,
        requests: 1,
        ..Units::default()
    };
    of_units(model, units, size, (catalog, token), at_ms)
}

/// The bound of training with a file of so many bytes, each at most one token, so many times.
///
/// # Errors
/// As [`of_video`].
pub(crate) fn of_training(
    model: String,
    file_bytes: u64,
    epochs: Option<u64>,
    (catalog, token): (&Catalog, &AccessToken),
    at_ms: i64,
) -> Result<Bounded, Refusal> {
    let units = Units {
        training_tokens: file_bytes.saturating_mul(epochs.unwrap_or(EPOCHS_AUTO_MAX)),
        requests: 1,
        ..Units::default()
    };
    of_units(model, units, None, (catalog, token), at_ms)
}

fn of_units(
    model: String,
    units: Units,
    size: Option<String>,
    (catalog, token): (&Catalog, &AccessToken),
    at_ms: i64,
) -> Result<Bounded, Refusal> {
    if !token.allows_model(&model) {
        return Err(Refusal::ModelNotFound { model });
    }
    let quote = admission::quote(catalog, &model, at_ms)?;
    let line = Line {
        units,
        image: ImageKind {
            size,
            quality: None,
        },
        ..Line::default()
    };
    let charged = quote.charge(&line, None).map_err(|error| {
        unbounded(&match error {
            ChargeError::UnitUnpriced { unit } => BoundError::UnitUnpriced { unit },
            ChargeError::Unpriced { .. } | ChargeError::Range => BoundError::Range,
        })
    })?;
    Ok(Bounded {
        model,
        quote,
        bound: Bound {
            amount: charged.amount,
            input_tokens: 0,
            output_tokens: 0,
        },
        input_tokens: 0,
    })
}

fn unbounded(error: &BoundError) -> Refusal {
    Refusal::Unbounded {
        param: None,
        message: format!("What this can cost has no upper bound: {error}."),
    }
}
