//! What a batch used, by the lines of its files.

use ledger::Mark;
use meter::Answered;
use tariff::{Amount, Buckets, Flags, Line, PriceId, Served, Tab, Tier, Usage};
use tracing::error;

use super::Priced;

/// The lines of a batch, as far as they have come.
#[derive(Default)]
pub(super) struct Tally {
    tab: Tab,
    buckets: Buckets,
    flags: Flags,
    /// The model that the first answer names.
    pub(super) model: Option<String>,
    answers: u64,
    failed: u64,
    /// Answers that report nothing: their figures are estimates.
    unreported: u64,
    /// Lines that could not be read.
    lost: u64,
    /// Answers that nothing prices.
    unpriced: u64,
    /// What was lost was made up for by the provider's sum.
    is_filled: bool,
}

/// What a batch is charged.
pub(super) struct Sum {
    pub(super) amount: Amount,
    pub(super) price: PriceId,
    pub(super) mark: Mark,
    pub(super) buckets: Buckets,
    pub(super) flags: Flags,
}

impl Tally {
    /// Adds a line. `input_tokens`: of a request, where an answer reports none.
    pub(super) fn add(&mut self, answered: Answered, priced: &Priced<'_>, input_tokens: u64) {
        match answered {
            Answered::Failed => self.failed = self.failed.saturating_add(1),
            Answered::Lost => self.lost = self.lost.saturating_add(1),
            Answered::Used(usage) => self.add_usage(&usage, priced),
            Answered::Unreported {
                model,
                output_tokens,
            } => {
                self.unreported = self.unreported.saturating_add(1);
                let buckets = Buckets {
                    in_text: input_tokens,
                    out_text: output_tokens,
                    ..Buckets::default()
                };
                let line = Line {
                    model,
                    buckets,
                    ..Line::default()
                };
                self.add_usage(
                    &Usage {
                        lines: vec![line],
                        ..Usage::default()
                    },
                    priced,
                );
            }
        }
    }

    /// Adds the usage of one answer, or of the whole batch.
    pub(super) fn add_usage(&mut self, usage: &Usage, priced: &Priced<'_>) {
        let served = Served {
            tier: Some(Tier::BATCH),
            region: usage.region.as_deref(),
            speed: None,
        };
        self.answers = self.answers.saturating_add(1);
        for (at, line) in usage.lines.iter().enumerate() {
            let mut line = line.clone();
            line.units.requests = u64::from(at == 0);
            let quote = priced.quote_for(line.model.as_deref());
            let added = quote.map(|quote| self.tab.add(&quote, &line, served));
            match added {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    self.unpriced = self.unpriced.saturating_add(1);
                    error!(model = priced.model, %error, "batch.unpriced: see this model's price row");
                }
                None => self.unpriced = self.unpriced.saturating_add(1),
            }
            if self.model.is_none() {
                self.model.clone_from(&line.model);
            }
        }
        self.buckets = added(self.buckets, usage.total());
        self.flags |= usage.flags;
    }

    /// Whether something is missing that the provider's own sum may tell.
    pub(super) const fn is_short(&self) -> bool {
        self.lost > 0
    }

    /// A file could not be had at all.
    pub(super) fn lose_file(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// Makes up for what was lost by what the batch used in all, as the provider says.
    pub(super) fn fill_up(&mut self, whole: &Usage, priced: &Priced<'_>) {
        let rest = less(whole.total(), self.buckets);
        let line = Line {
            buckets: rest,
            ..Line::default()
        };
        let answers = self.answers;
        self.add_usage(
            &Usage {
                lines: vec![line],
                ..Usage::default()
            },
            priced,
        );
        self.answers = answers;
        self.is_filled = true;
    }

    /// What it comes to; `None` when nothing was used. What could not be read or priced is charged as the rest of the hold.
    pub(super) fn sum(&self, held: Amount, price: PriceId) -> Option<Sum> {
        let charged = self.tab.charged();
        let is_unknown = self.unpriced > 0 || (self.lost > 0 && !self.is_filled);
        if charged.is_none() && !is_unknown {
            return None;
        }
        let amount = charged.map_or(Amount::ZERO, |it| it.amount);
        let (amount, mark) = if is_unknown || amount > held {
            (held, Mark::Bounded)
        } else if self.unreported > 0 || self.is_filled {
            (amount, Mark::Estimated)
        } else {
            (amount, Mark::Measured)
        };
        Some(Sum {
            amount,
            price: charged.map_or(price, |it| it.price),
            mark,
            buckets: self.buckets,
            flags: self.flags | charged.map(|it| it.flags).unwrap_or_default(),
        })
    }

    /// How many lines there were of each kind, for the charge's row.
    pub(super) fn in_words(&self) -> String {
        let Self {
            answers,
            failed,
            unreported,
            lost,
            unpriced,
            ..
        } = self;
        format!(
            "{{\"turnpike_batch\":{{\"answers\":{answers},\"failed\":{failed},\"unreported\":{unreported},\"lost\":{lost},\"unpriced\":{unpriced}}}}}"
        )
    }
}

/// Each bucket of both.
fn added(a: Buckets, b: Buckets) -> Buckets {
    zipped(a, b, u64::saturating_add)
}

/// What of each bucket is left.
fn less(a: Buckets, b: Buckets) -> Buckets {
    zipped(a, b, u64::saturating_sub)
}

fn zipped(a: Buckets, b: Buckets, f: impl Fn(u64, u64) -> u64) -> Buckets {
    Buckets {
        in_text: f(a.in_text, b.in_text),
        in_audio: f(a.in_audio, b.in_audio),
        in_image: f(a.in_image, b.in_image),
        cr_text: f(a.cr_text, b.cr_text),
        cr_audio: f(a.cr_audio, b.cr_audio),
        cr_image: f(a.cr_image, b.cr_image),
        cw_5m: f(a.cw_5m, b.cw_5m),
        cw_1h: f(a.cw_1h, b.cw_1h),
        out_text: f(a.out_text, b.out_text),
        out_reasoning: f(a.out_reasoning, b.out_reasoning),
        out_audio: f(a.out_audio, b.out_audio),
        out_image: f(a.out_image, b.out_image),
    }
}
