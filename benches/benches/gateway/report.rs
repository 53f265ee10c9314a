//! What was measured, for people and for programs.

use std::fmt::{self, Display};

use serde_json::{Value, json};

use crate::load::Tally;

/// Whom a slice was measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The upstream itself.
    Direct,
    Relay,
    Turnpike,
}

impl Target {
    pub(crate) const ALL: [Self; 3] = [Self::Direct, Self::Relay, Self::Turnpike];

    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relay => "relay",
            Self::Turnpike => "turnpike",
        }
    }
}

/// One target for one while.
pub(crate) struct Slice {
    pub(crate) target: Target,
    pub(crate) tally: Tally,
    /// Events of one answer and bytes of its body.
    pub(crate) events: usize,
    pub(crate) body_bytes: u64,
    /// CPU time of the proxy in ns.
    pub(crate) cpu_ns: u64,
    /// Of this, on its workers.
    pub(crate) worker_cpu_ns: u64,
    pub(crate) postgres_cpu_ns: u64,
}

impl Slice {
    /// Answers, as far as their bytes came while it counted.
    fn answers(&self) -> f64 {
        self.tally.body_bytes as f64 / self.body_bytes as f64
    }

    fn events(&self) -> f64 {
        self.answers() * self.events as f64
    }

    fn per_second(&self) -> f64 {
        self.answers() / self.tally.elapsed.as_secs_f64()
    }

    fn cpu_us(&self) -> f64 {
        self.cpu_ns as f64 / 1e3 / self.answers()
    }
}

/// A scenario's slices, round by round.
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) is_stream: bool,
    pub(crate) rounds: Vec<Vec<Slice>>,
}

/// Memory of one proxy over held streams, in bytes.
pub(crate) struct Memory {
    pub(crate) target: Target,
    pub(crate) streams: u32,
    pub(crate) before: u64,
    pub(crate) held: u64,
    pub(crate) after: u64,
}

impl Memory {
    fn grown_kib(&self) -> f64 {
        kib(self.held) - kib(self.before)
    }

    pub(crate) fn value(&self) -> Value {
        json!({
            "target": self.target.name(),
            "streams": self.streams,
            "rss_before_kib": self.before / 1024,
            "rss_held_kib": self.held / 1024,
            "rss_after_kib": self.after / 1024,
            "kib_per_stream": round(self.grown_kib() / f64::from(self.streams)),
        })
    }
}

impl Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grown = self.grown_kib();
        let kept = kib(self.after) - kib(self.before);
        write!(
            f,
            "  {:9} {:5.1} KiB per stream; {:.1} MiB before, {:.1} with {} streams, {:.1} after them ({:.0} % given back)",
            self.target.name(),
            grown / f64::from(self.streams),
            kib(self.before) / 1024.0,
            kib(self.held) / 1024.0,
            self.streams,
            kib(self.after) / 1024.0,
            100.0 * (1.0 - kept / grown.max(1.0)),
        )
    }
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

/// The median of some figures, and the least and the greatest of them.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.filter(|figure| figure.is_finite()).collect();
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        let middle = figures.len() / 2;
        let median = if figures.len().is_multiple_of(2) && middle > 0 {
            f64::midpoint(at(middle - 1), at(middle))
        } else {
            at(middle)
        };
        Self {
            median,
            min: at(0),
            max: at(figures.len().saturating_sub(1)),
        }
    }

    fn value(self) -> Value {
        json!([round(self.median), round(self.min), round(self.max)])
    }
}

impl Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}..{:.2})", self.median, self.min, self.max)
    }
}

fn round(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

/// What is said of one target of one scenario, times in µs.
struct Line {
    target: Target,
    per_second: f64,
    first_p50: f64,
    first_p99: f64,
    last_p50: f64,
    last_p99: f64,
    cpu: f64,
    worker_cpu: f64,
    /// Of a stream.
    cpu_per_event: Option<f64>,
    postgres_cpu: f64,
}

impl Scenario {
    fn slices(&self, target: Target) -> impl Iterator<Item = &Slice> {
        let slices = self.rounds.iter().flatten();
        slices.filter(move |slice| slice.target == target)
    }

    fn line(&self, target: Target) -> Line {
        let median = |figure: fn(&Slice) -> f64| Spread::of(self.slices(target).map(figure)).median;
        let times = |pick: fn(&Tally) -> &Vec<u64>| {
            let mut times: Vec<u64> = self
                .slices(target)
                .flat_map(|slice| pick(&slice.tally).iter().copied())
                .collect();
            times.sort_unstable();
            times
        };
        let (first, last) = (
            times(|tally| &tally.first_byte),
            times(|tally| &tally.last_byte),
        );
        Line {
            target,
            per_second: median(Slice::per_second),
            first_p50: quantile_us(&first, 50),
            first_p99: quantile_us(&first, 99),
            last_p50: quantile_us(&last, 50),
            last_p99: quantile_us(&last, 99),
            cpu: median(Slice::cpu_us),
            worker_cpu: median(|slice| slice.worker_cpu_ns as f64 / 1e3 / slice.answers()),
            cpu_per_event: self
                .is_stream
                .then(|| median(|slice| slice.cpu_ns as f64 / 1e3 / slice.events())),
            postgres_cpu: median(|slice| slice.postgres_cpu_ns as f64 / 1e3 / slice.answers()),
        }
    }

    /// Turnpike against another target, round by round.
    fn against(&self, other: Target, figure: fn(&Slice, &Slice) -> f64) -> Spread {
        Spread::of(self.rounds.iter().filter_map(|round| {
            let of = |target| round.iter().find(|slice| slice.target == target);
            Some(figure(of(Target::Turnpike)?, of(other)?))
        }))
    }

    fn cpu_ratio(&self) -> Spread {
        self.against(Target::Relay, |ours, theirs| {
            ours.cpu_us() / theirs.cpu_us()
        })
    }

    fn rate_ratio(&self) -> Spread {
        self.against(Target::Relay, |ours, theirs| {
            ours.per_second() / theirs.per_second()
        })
    }

    fn added(&self, other: Target) -> [f64; 4] {
        let (ours, theirs) = (self.line(Target::Turnpike), self.line(other));
        [
            ours.first_p50 - theirs.first_p50,
            ours.first_p99 - theirs.first_p99,
            ours.last_p50 - theirs.last_p50,
            ours.last_p99 - theirs.last_p99,
        ]
    }

    pub(crate) fn answered(&self, target: Target) -> u64 {
        self.slices(target).map(|slice| slice.tally.answered).sum()
    }

    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        self.rounds.iter().flatten().flat_map(|slice| {
            let failures = slice.tally.failures.iter();
            failures.map(|failure| format!("{}, {}: {failure}", self.name, slice.target.name()))
        })
    }

    pub(crate) fn value(&self) -> Value {
        let lines: Vec<Value> = Target::ALL
            .iter()
            .map(|target| self.line(*target).value())
            .collect();
        json!({
            "name": self.name,
            "targets": lines,
            "cpu_ratio_to_relay": self.cpu_ratio().value(),
            "rate_ratio_to_relay": self.rate_ratio().value(),
            "added_to_direct_us": self.added(Target::Direct).map(round),
            "added_to_relay_us": self.added(Target::Relay).map(round),
        })
    }
}

impl Line {
    fn value(&self) -> Value {
        json!({
            "target": self.target.name(),
            "per_second": round(self.per_second),
            "first_byte_us": { "p50": self.first_p50, "p99": self.first_p99 },
            "last_byte_us": { "p50": self.last_p50, "p99": self.last_p99 },
            "cpu_us_per_request": round(self.cpu),
            "worker_cpu_us_per_request": round(self.worker_cpu),
            "cpu_us_per_event": self.cpu_per_event.map(round),
            "postgres_cpu_us_per_request": round(self.postgres_cpu),
        })
    }
}

/// A quantile of sorted times in ns.
fn quantile_us(sorted: &[u64], percent: usize) -> f64 {
    let place = sorted.len() * percent / 100;
    let at = sorted.get(place.min(sorted.len().saturating_sub(1)));
    at.map_or(f64::NAN, |ns| *ns as f64 / 1e3)
}

impl Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<36} {:>8} | {:>9} {:>9} | {:>9} {:>9} | {:>9} {:>9} {:>9} | {:>9}",
            self.name,
            "per s",
            "first p50",
            "p99",
            "last p50",
            "p99",
            "CPU",
            "workers",
            "per event",
            "Postgres"
        )?;
        for target in Target::ALL {
            let line = self.line(target);
            write!(
                f,
                "  {:<34} {:>8.0} | {:>9.0} {:>9.0} | {:>9.0} {:>9.0} |",
                target.name(),
                line.per_second,
                line.first_p50,
                line.first_p99,
                line.last_p50,
                line.last_p99,
            )?;
            match target {
                Target::Direct => writeln!(f)?,
                Target::Relay | Target::Turnpike => {
                    write!(f, " {:>9.1} {:>9.1}", line.cpu, line.worker_cpu)?;
                    match line.cpu_per_event {
                        Some(cpu) => write!(f, " {cpu:>9.2}")?,
                        None => write!(f, " {:>9}", "")?,
                    }
                    if target == Target::Turnpike {
                        write!(f, " | {:>9.1}", line.postgres_cpu)?;
                    }
                    writeln!(f)?;
                }
            }
        }
        let [first_p50, first_p99, last_p50, last_p99] = self.added(Target::Direct);
        writeln!(
            f,
            "  {:<43} | {first_p50:>+9.0} {first_p99:>+9.0} | {last_p50:>+9.0} {last_p99:>+9.0} |",
            "turnpike adds to direct"
        )?;
        writeln!(
            f,
            "  turnpike / relay, by round: CPU × {}, per second × {}",
            self.cpu_ratio(),
            self.rate_ratio()
        )
    }
}
