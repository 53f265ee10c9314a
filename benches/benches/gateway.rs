//! Turnpike against a bare relay and a direct call, in alternating slices of one run, with metering, holds and durable
//! charges on.
//!
//! `cargo bench --package benches --bench gateway [-- [--quick] [--workers N] [FILTER]]`. Nothing of it is asserted but
//! the books: what was answered is what was charged. Figures drift with the machine; the ratios of one run are what counts.

#![expect(
    clippy::float_arithmetic,
    reason = "ratios of measurements; no money is computed here"
)]

#[path = "gateway/load.rs"]
mod load;
#[path = "gateway/process.rs"]
mod process;
#[path = "gateway/report.rs"]
mod report;
#[path = "gateway/turnpike.rs"]
mod turnpike;
#[path = "gateway/upstream.rs"]
mod upstream;

use std::{
    collections::BTreeMap,
    fs::Permissions,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{task::LocalSet, time::sleep};

use self::{
    load::{Client, Load},
    process::Server,
    report::{Memory, Scenario, Slice, Target},
    turnpike::Turnpike,
    upstream::{Answer, Upstream},
};

/// Whatever keeps the bench from measuring.
pub(crate) type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::from(64);
        }
    };
    let plan = options.plan();
    let wants_memory = options.wants(MEMORY);
    if plan.is_empty() && !wants_memory {
        return ExitCode::SUCCESS;
    }
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| {
            LocalSet::new().block_on(&runtime, measure(&options, &plan, wants_memory))
        });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
struct Options {
    is_quick: bool,
    workers: usize,
    /// Scenarios whose name has this in it.
    filter: String,
}

impl Options {
    /// `None` when it is not `cargo bench` that runs this: `cargo test --all-targets` does, too.
    fn read(arguments: impl Iterator<Item = String>) -> Result<Option<Self>, Failure> {
        let mut options = Self {
            is_quick: false,
            workers: 1,
            filter: String::new(),
        };
        let mut is_bench = false;
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => is_bench = true,
                "--quick" => options.is_quick = true,
                "--workers" => options.workers = arguments.next().unwrap_or_default().parse()?,
                flag if flag.starts_with('-') => {
                    return Err(
                        format!("{flag}? There are --quick, --workers N and a filter").into(),
                    );
                }
                _ => options.filter = argument,
            }
        }
        Ok(is_bench.then_some(options))
    }

    fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    fn plan(&self) -> Vec<Planned> {
        let mut plan = vec![
            Planned::new("json, 16 connections", Answer::Json, 16),
            Planned::new("json, 64 connections", Answer::Json, 64),
            // Here a wake-up serves one request, on either side: what closed loops hide, and what most days are like.
            Planned {
                rate: Some(1000),
                ..Planned::new("json, 1000 per second", Answer::Json, 64)
            },
            Planned::new("sse burst, 32 connections", Answer::Burst, 32),
            Planned::new("sse paced 20 ms, 300 streams", Answer::Paced, 300),
        ];
        plan.retain(|planned| self.wants(planned.name));
        plan
    }

    const fn rounds(&self) -> usize {
        if self.is_quick { 3 } else { 4 }
    }

    const fn slice(&self) -> Duration {
        Duration::from_millis(if self.is_quick { 200 } else { 500 })
    }
}

struct Planned {
    name: &'static str,
    answer: Answer,
    connections: u32,
    rate: Option<u32>,
}

impl Planned {
    const fn new(name: &'static str, answer: Answer, connections: u32) -> Self {
        Self {
            name,
            answer,
            connections,
            rate: None,
        }
    }
}

const MEMORY: &str = "memory, 1000 held streams";
const HELD_STREAMS: u32 = 1000;
/// Files that a held stream needs in this process, client and upstream, and some to spare.
const FILES_PER_STREAM: u32 = 2;
const FILES_BESIDES: u32 = 200;

/// How long a slice runs before it counts.
const WARM: Duration = Duration::from_millis(150);
/// How long memory is given to settle.
const SETTLE: Duration = Duration::from_millis(1500);
/// How long is waited for what must come.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whom to measure.
struct Stage {
    upstream: Upstream,
    relay: Server,
    turnpike: Turnpike,
    /// Answers of Turnpike besides those of scenarios.
    answered: u64,
}

/// Measures and reports. `false` when the books are wrong or a request failed.
async fn measure(options: &Options, plan: &[Planned], wants_memory: bool) -> Result<bool, Failure> {
    // Postgres, which may run as another user, must reach what is its own inside.
    let dir = tempfile::Builder::new()
        .prefix("turnpike-bench-")
        .permissions(Permissions::from_mode(0o711))
        .tempdir()?;
    let upstream = Upstream::start()?;
    let turnpike = Turnpike::start(dir.path(), upstream.address, options.workers).await?;
    let mut relay = Command::new(env!("CARGO_BIN_EXE_bare-relay"));
    relay.args([
        "127.0.0.1:0",
        &upstream.address.to_string(),
        &options.workers.to_string(),
    ]);
    let relay = Server::start(relay, "listening on", dir.path(), "relay")?;
    let mut stage = Stage {
        upstream,
        relay,
        turnpike,
        answered: 0,
    };
    println!(
        "{} worker(s) each, {} rounds of {} ms slices; times in µs; CPU in µs per request, of the proxy's process\n",
        options.workers,
        options.rounds(),
        options.slice().as_millis()
    );

    // Memory first: before the busy scenarios have filled any allocator's reserves.
    let mut memory = Vec::new();
    if wants_memory {
        println!("{MEMORY}");
        for target in [Target::Relay, Target::Turnpike] {
            let measured = stage.memory(target).await?;
            println!("{measured}");
            memory.push(measured);
        }
        println!();
    }
    let mut scenarios = Vec::new();
    for planned in plan {
        let scenario = stage.scenario(planned, options).await?;
        println!("{scenario}");
        scenarios.push(scenario);
    }
    stage.conclude(options, &scenarios, &memory).await
}

impl Stage {
    const fn address(&self, target: Target) -> SocketAddr {
        match target {
            Target::Direct => self.upstream.address,
            Target::Relay => self.relay.address,
            Target::Turnpike => self.turnpike.server.address,
        }
    }

    fn pid(&self, target: Target) -> Option<u32> {
        match target {
            Target::Direct => None,
            Target::Relay => Some(self.relay.pid()),
            Target::Turnpike => Some(self.turnpike.server.pid()),
        }
    }

    async fn scenario(&self, planned: &Planned, options: &Options) -> Result<Scenario, Failure> {
        let load = Load {
            answer: planned.answer,
            connections: planned.connections,
            rate: planned.rate,
            warm: WARM + planned.answer.lasts(),
            counted: options.slice() + planned.answer.lasts() / 4,
        };
        let mut rounds = Vec::new();
        for number in 0..options.rounds() {
            // What comes after what changes from round to round.
            let mut order = Target::ALL;
            order.rotate_left(number % Target::ALL.len());
            let mut round = Vec::new();
            for target in order {
                round.push(self.slice(target, &load).await?);
            }
            rounds.push(round);
        }
        Ok(Scenario {
            name: planned.name.to_owned(),
            is_stream: planned.answer.is_stream(),
            rounds,
        })
    }

    async fn slice(&self, target: Target, load: &Load) -> Result<Slice, Failure> {
        let mut marks = Vec::new();
        let mark = || marks.push(self.mark(target));
        let tally = load::run(self.address(target), &self.turnpike.token, load, mark).await?;
        let [begun, ended] = marks.as_slice() else {
            return Err("a slice has two marks".into());
        };
        Ok(Slice {
            target,
            tally,
            events: load.answer.events(),
            body_bytes: load.answer.body_bytes(),
            cpu_ns: ended.cpu_ns() - begun.cpu_ns(),
            worker_cpu_ns: ended.worker_cpu_ns() - begun.worker_cpu_ns(),
            postgres_cpu_ns: ended.postgres.saturating_sub(begun.postgres),
        })
    }

    fn mark(&self, target: Target) -> Mark {
        Mark {
            by_thread: self
                .pid(target)
                .map(process::cpu_ns_by_thread)
                .unwrap_or_default(),
            postgres: match target {
                Target::Turnpike => process::cpu_ns(self.turnpike.postgres_pid),
                Target::Direct | Target::Relay => 0,
            },
        }
    }

    /// Holds many streams and looks at the proxy's memory before, meanwhile and after.
    async fn memory(&mut self, target: Target) -> Result<Memory, Failure> {
        let room = process::open_files_max().saturating_sub(FILES_BESIDES) / FILES_PER_STREAM;
        let streams = HELD_STREAMS.min(room);
        let pid = self.pid(target).ok_or("a direct call has no process")?;
        // What is set up once is no stream's.
        let load = Load {
            answer: Answer::Json,
            connections: 16,
            rate: None,
            warm: Duration::ZERO,
            counted: WARM,
        };
        let warm = self.slice(target, &load).await?.tally;
        sleep(SETTLE).await;
        let before = process::rss_bytes(pid);
        let request = load::request(self.address(target), &self.turnpike.token, Answer::Held);
        let mut clients = Vec::new();
        self.upstream.hold();
        for _ in 0..streams {
            let mut client = Client::connect(self.address(target)).await?;
            client.send(&request).await?;
            let mut body_bytes = 0;
            while body_bytes == 0 {
                body_bytes += client.receive().await?.body_bytes;
            }
            clients.push((client, body_bytes));
        }
        sleep(SETTLE).await;
        if self.upstream.held() != streams as usize {
            return Err(format!("{} streams are held", self.upstream.held()).into());
        }
        let held = process::rss_bytes(pid);
        self.upstream.release();
        for (client, body_bytes) in &mut clients {
            let mut is_end = false;
            while !is_end {
                let progress = client.receive().await?;
                *body_bytes += progress.body_bytes;
                is_end = progress.is_end;
            }
            if *body_bytes != Answer::Held.body_bytes() {
                return Err("a held stream lost bytes".into());
            }
        }
        drop(clients);
        sleep(SETTLE).await;
        if target == Target::Turnpike {
            self.answered += u64::from(streams) + warm.answered;
        }
        Ok(Memory {
            target,
            streams,
            before,
            held,
            after: process::rss_bytes(pid),
        })
    }

    /// Checks the books and says it all on one line of JSON.
    async fn conclude(
        self,
        options: &Options,
        scenarios: &[Scenario],
        memory: &[Memory],
    ) -> Result<bool, Failure> {
        let of_scenarios: u64 = scenarios
            .iter()
            .map(|scenario| scenario.answered(Target::Turnpike))
            .sum();
        let answered = i64::try_from(self.answered + of_scenarios)?;
        let mut books = self.turnpike.books().await?;
        let begun = Instant::now();
        // Charges are there before their answers end; holds are let go of with them.
        while (books.charges != answered || books.holds != 0) && begun.elapsed() < PATIENCE {
            sleep(WARM).await;
            books = self.turnpike.books().await?;
        }
        let failures: Vec<String> = scenarios.iter().flat_map(Scenario::failures).collect();
        let complaints = self.turnpike.server.complaints()?;
        let is_right = books.charges == answered
            && books.measured == answered
            && books.holds == 0
            && books.audit.is_empty()
            && failures.is_empty();
        println!(
            "books: {answered} answered, {} charged ({} as measured), {} holds open, {} rows of audit; fsync {}: {}",
            books.charges,
            books.measured,
            books.holds,
            books.audit.len(),
            books.fsync,
            if is_right { "right" } else { "WRONG" },
        );
        for line in books.audit.iter().chain(&failures).take(SHOWN_MAX) {
            println!("  {line}");
        }
        for line in &complaints {
            println!("  logged: {line}");
        }
        let summary = json!({
            "workers": options.workers,
            "scenarios": scenarios.iter().map(Scenario::value).collect::<Vec<_>>(),
            "memory": memory.iter().map(Memory::value).collect::<Vec<_>>(),
            "answered": answered,
            "charged": books.charges,
            "measured": books.measured,
            "holds": books.holds,
            "audit": books.audit.len(),
            "failures": failures.len(),
            "complaints": complaints.len(),
            "is_right": is_right,
        });
        println!("\n{summary}");
        Ok(is_right)
    }
}

/// Most complaints that are shown.
const SHOWN_MAX: usize = 20;

/// What had been used at one moment.
struct Mark {
    /// CPU time of the proxy's threads in ns, by name.
    by_thread: BTreeMap<String, u64>,
    postgres: u64,
}

impl Mark {
    fn cpu_ns(&self) -> u64 {
        self.by_thread.values().sum()
    }

    /// The relay's threads have no name of their own.
    fn worker_cpu_ns(&self) -> u64 {
        let workers = self.by_thread.iter();
        workers
            .filter(|(name, _)| name.starts_with("worker") || name.starts_with("bare-relay"))
            .map(|(_, ns)| ns)
            .sum()
    }
}
