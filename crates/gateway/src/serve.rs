//! `turnpike serve`: start everything, say where, wait for a signal, drain, say how it ended.

use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use fronts::Fronts;
use ledger::{CostBy, Dialect, Ledger};
use proxy::{
    Doors, DoorsLimits, Egress, Pool, PoolLimits, Target,
    headers::Credential,
    server::listener,
    tls::{self, Certificate},
};
use rustls::ClientConfig;
use tokio::{
    runtime::{Handle, Runtime},
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    activation::{self, Passed},
    admin::Admin,
    azure, certificate,
    fatal::{Code, Fatal, io_code},
    front_doors,
    gateway::Gateway,
    jobs,
    limits::Limits,
    places::{Place, Places},
    sandbox::{self, Sandbox},
    settings::{self, Secret, Settings, TraceContext},
    sound::SOUNDS_MAX,
    startup::{self, Database, FirstStart, Use},
    strangers::Strangers,
    telemetry::{self, Metrics, Otlp},
    webhooks,
    workers::{self, Equipment},
};

/// The provider where only `OPENAI_API_KEY` is set.
const OPENAI: &str = "https://api.openai.com/v1";
/// What `OPENAI_URL` may end in, and a base URL does not.
const CHAT_SUFFIX: &str = "/chat/completions";
/// How long the last charges get to become durable after the last connection is gone.
const LEDGER_DRAIN: Duration = Duration::from_secs(10);
/// How much longer than their exchanges workers may take to end.
const LAST_WORKERS: Duration = Duration::from_secs(5);
/// Threads for Postgres, the admin address and tokenizers.
const CONTROL_THREADS: usize = 1;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When something needed is missing: one line, and an exit code that says what kind.
pub(crate) fn serve(settings: Settings) -> Result<(), Fatal> {
    let passed = Passed::take()?;
    let control = control_runtime()?;
    let database = startup::open(&settings.database, Use::Serve, &control)?;
    let served = control.block_on(serve_with(settings, passed, &database));
    // Its tasks hold connections to the database, which must go first.
    control.shutdown_timeout(Duration::from_secs(1));
    database.close();
    served
}

fn control_runtime() -> Result<Runtime, Fatal> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| Fatal::because(Code::System, "the system gives no threads", &error))
}

async fn serve_with(settings: Settings, passed: Passed, database: &Database) -> Result<(), Fatal> {
    let hangup = certificate::hangup()?;
    startup::migrate(
        &database.config,
        settings.database.migrate || database.is_private(),
    )
    .await?;
    let first = if database.is_private() {
        startup::first_start(&database.config).await?
    } else {
        None
    };
    let config = startup::keeping(database.serving().await?, &settings.database)
        .with_exchanges_max(settings.exchange.open_exchanges_max.get());
    let ledger = Ledger::connect(config).await?;

    let (places, sandbox) = match azure::deployments(&settings.front_doors)? {
        Some(azure) if settings.upstream.openai_url.is_none() => {
            (Places::new(azure.main).with_second(azure.second), None)
        }
        _ => {
            let (place, sandbox) = fallback(&settings.upstream).await?;
            (Places::new(place), sandbox)
        }
    };
    let collector = Pool::new(tls(&settings.upstream)?, PoolLimits::default());
    let gateway = Arc::new(Gateway {
        otlp: Otlp::new(&settings.telemetry, &collector, &Handle::current())?,
        settings: settings.exchange.clone(),
        fronts: Fronts::new(settings.front_doors.fronts()),
        door_bytes: Arc::new(Semaphore::new(front_doors::BYTES_MAX)),
        front_doors: settings.front_doors.clone(),
        jobs: settings.jobs.clone(),
        ledger,
        limits: Limits::new(&settings.rates),
        strangers: Strangers::new(NonZeroU32::new(
            settings.rates.address_unknown_tokens_per_minute,
        )),
        metrics: Arc::new(Metrics::new()),
        places,
        passes_traces: settings.telemetry.trace_context == TraceContext::Forward,
        control: Handle::current(),
        open: Arc::new(Semaphore::new(settings.exchange.open_exchanges_max.get())),
        sounds: Arc::new(Semaphore::new(SOUNDS_MAX)),
        draining: Arc::default(),
        closed: AtomicBool::new(false),
        hurry: CancellationToken::new(),
    });
    gateway.metrics.watch(Handle::current());
    tokio::task::spawn_blocking(meter::warm_tokenizer);
    if gateway.fronts.is_some() {
        tokio::spawn(front_doors::forget(Arc::clone(&gateway)));
    }

    let shutdown = CancellationToken::new();
    let certificate = certificate::read(
        settings.listen.tls_cert.as_deref(),
        settings.listen.tls_key.as_deref(),
    )?;
    let listening = listen(&settings, passed, certificate.clone(), &gateway, &shutdown)?;
    let expires_at = gateway.metrics.certificate_expires_at.clone();
    tokio::spawn(certificate::follow(certificate, hangup, expires_at));
    print!(
        "{}",
        banner(
            &settings,
            database,
            &listening,
            first.as_ref(),
            sandbox.is_some() && gateway.ledger.catalog().upstreams().is_empty()
        )
    );
    info!(clients = %listening.clients, admin = %listening.admin, workers = listening.workers.len(), "listening");
    activation::ready(listening.clients);

    wait_for_signal().await?;
    activation::stopping();
    drain(&gateway, listening, &shutdown, &settings.listen).await
}

/// What is open to the world.
struct Listening {
    clients: SocketAddr,
    admin: SocketAddr,
    workers: Vec<tokio::sync::oneshot::Receiver<io::Result<proxy::Drained>>>,
}

/// Opens both addresses and starts the workers.
fn listen(
    settings: &Settings,
    mut passed: Passed,
    certificate: Option<Arc<Certificate>>,
    gateway: &Arc<Gateway>,
    shutdown: &CancellationToken,
) -> Result<Listening, Fatal> {
    let listen = &settings.listen;
    let workers = listen
        .workers
        .or_else(|| thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get);
    let address = SocketAddr::new(listen.bind_address, listen.port);
    let listeners = match passed.listeners(workers)? {
        Some(listeners) => listeners,
        None => workers::listeners(address, workers)
            .map_err(|error| taken(address, "PORT or BIND_ADDRESS", &error))?,
    };
    let admin = passed
        .admin
        .take()
        .map_or_else(|| listener(listen.admin_address), Ok)
        .map_err(|error| taken(listen.admin_address, "ADMIN_ADDRESS", &error))?;
    let here =
        |error: io::Error| Fatal::because(Code::System, "the listening address is unknown", &error);
    let (clients, admin_address) = (
        listeners
            .first()
            .map_or(Ok(address), |first| first.local_addr())
            .map_err(here)?,
        admin.local_addr().map_err(here)?,
    );

    let equipment = Equipment {
        doors: doors(listen, workers, certificate)?.with_leaving(Arc::clone(&gateway.draining)),
        tls: tls(&settings.upstream)?,
        pool_limits: pool_limits(&settings.upstream),
        drain_places: settings.exchange.open_exchanges_max.get(),
        grace: Duration::from_secs(listen.shutdown_seconds),
        shutdown: shutdown.clone(),
    };
    let asking = Pool::new(Arc::clone(&equipment.tls), equipment.pool_limits.clone());
    tokio::spawn(jobs::run(Arc::clone(gateway), asking, shutdown.clone()));
    tokio::spawn(telemetry::push(Arc::clone(gateway), shutdown.clone()));
    let telling = Pool::new(Arc::clone(&equipment.tls), equipment.pool_limits.clone());
    tokio::spawn(webhooks::run(
        Arc::clone(gateway),
        telling,
        gateway.places.alarms(),
        shutdown.clone(),
    ));
    let workers = listeners.into_iter().enumerate().map(|(number, listener)| {
        workers::start(number, listener, Arc::clone(gateway), equipment.clone())
    });
    let workers = workers
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| Fatal::because(Code::System, "the system gives no threads", &error))?;

    let (doors, handler, shutdown) = (
        Doors::new(DoorsLimits::default()),
        Admin::new(Arc::clone(gateway), listen.admin_token.as_ref()),
        shutdown.clone(),
    );
    tokio::spawn(async move {
        if let Err(error) = doors
            .serve(admin, handler, shutdown, Duration::from_secs(1))
            .await
        {
            warn!(%error, "admin.stopped");
        }
    });
    Ok(Listening {
        clients,
        admin: admin_address,
        workers,
    })
}

fn taken(address: SocketAddr, setting: &str, error: &io::Error) -> Fatal {
    Fatal::because(
        io_code(error),
        &format!("cannot listen on {address} (set {setting})"),
        error,
    )
}

fn doors(
    listen: &settings::Listen,
    workers: usize,
    certificate: Option<Arc<Certificate>>,
) -> Result<Doors, Fatal> {
    let doors = Doors::new(DoorsLimits {
        connections_max: listen.connections_max.get().div_ceil(workers),
        header_timeout: Duration::from_secs(listen.client_idle_seconds.get()),
        reader_timeout: Duration::from_secs(listen.client_stall_seconds.get()),
        ..DoorsLimits::default()
    });
    let Some(certificate) = certificate else {
        return Ok(doors);
    };
    let config = tls::showing(certificate)
        .map_err(|error| Fatal::because(Code::Config, "TLS to clients cannot be set up", &error))?;
    Ok(doors.with_tls(config))
}

fn tls(upstream: &settings::Upstream) -> Result<Arc<ClientConfig>, Fatal> {
    tls::client_config(&roots(upstream))
        .map_err(|error| Fatal::because(Code::Config, "TLS to providers cannot be set up", &error))
}

pub(crate) fn roots(upstream: &settings::Upstream) -> tls::Roots {
    upstream
        .ssl_cert_file
        .clone()
        .map_or(tls::Roots::Platform, tls::Roots::File)
}

pub(crate) fn pool_limits(upstream: &settings::Upstream) -> PoolLimits {
    PoolLimits {
        connections_max: upstream.upstream_connections_max.get(),
        connect_timeout: Duration::from_secs(upstream.connect_timeout_seconds.get()),
        first_byte_timeout: Duration::from_secs(upstream.first_byte_timeout_seconds.get()),
        silence_timeout: Duration::from_secs(upstream.answer_idle_seconds.get()),
        answer_timeout: upstream
            .answer_seconds
            .map(|seconds| Duration::from_secs(seconds.get())),
        ..PoolLimits::default()
    }
}

/// Where requests go while table `upstream` is empty: what the settings name, or the sandbox.
async fn fallback(settings: &settings::Upstream) -> Result<(Place, Option<Sandbox>), Fatal> {
    let config = |setting: &str, error: &dyn std::fmt::Display| {
        Fatal::new(Code::Config, format!("{setting} cannot be used: {error}"))
    };
    let place = |name: &str, url: &str| -> Result<Place, Fatal> {
        Ok(Place {
            id: None,
            key_id: None,
            name: name.to_owned(),
            target: Target::parse(url).map_err(|error| config("OPENAI_URL", &error))?,
            egress: Egress::Direct,
            credential: None,
            query: None,
            dialect: Dialect::OpenAi,
            cost: CostBy::Price,
            health: Arc::default(),
        })
    };
    let key = settings
        .openai_api_key
        .as_ref()
        .filter(|key| !is_our_own(key, settings));
    if settings.openai_url.is_none() && key.is_none() {
        let sandbox = sandbox::start().await.map_err(|error| {
            Fatal::because(
                Code::System,
                "the sandbox model cannot listen on loopback",
                &error,
            )
        })?;
        let place = place("sandbox", &format!("http://{}/v1", sandbox.address()))?;
        return Ok((place, Some(sandbox)));
    }
    let url = settings
        .openai_url
        .as_deref()
        .unwrap_or(OPENAI)
        .trim_end_matches('/');
    let mut place = place("OPENAI_URL", url.strip_suffix(CHAT_SUFFIX).unwrap_or(url))?;
    if let Some(key) = key {
        place.credential = Some(Credential::bearer(key.expose()).map_err(|_| {
            config(
                "OPENAI_API_KEY",
                &"it has characters that a header cannot carry",
            )
        })?);
    }
    if let Some(proxy) = &settings.openai_proxy {
        place.egress =
            Egress::parse(proxy.expose()).map_err(|error| config("OPENAI_PROXY", &error))?;
    }
    Ok((place, None))
}

/// Whether the provider key is an access token of Turnpike's own: left in the shell from a client's `export` line,
/// where it would send every request to OpenAI with a key OpenAI has never heard of.
pub(crate) fn is_our_own(key: &Secret, settings: &settings::Upstream) -> bool {
    let is_ours = settings.openai_url.is_none() && key.expose().starts_with("tp-");
    if is_ours {
        warn!(
            "OPENAI_API_KEY is not used: it is a Turnpike access token, which clients show, not a provider's key"
        );
    }
    is_ours
}

/// What a person needs to know now.
fn banner(
    settings: &Settings,
    database: &Database,
    listening: &Listening,
    first: Option<&FirstStart>,
    is_sandbox: bool,
) -> String {
    let scheme = if settings.listen.tls_cert.is_some() {
        "https"
    } else {
        "http"
    };
    let host = if listening.clients.ip().is_unspecified() {
        "127.0.0.1".to_owned()
    } else {
        listening.clients.ip().to_string()
    };
    let clients = format!("{scheme}://{host}:{}", listening.clients.port());
    let base = format!("{clients}/v1");
    let mut text = format!(
        "\nTurnpike is open.\n  clients   {base}\n  admin     http://{0}/metrics\n  console   http://{0}/\n",
        listening.admin
    );
    // Writing into a string cannot fail.
    if settings.exchange.usage_page.is_on() {
        let _ = writeln!(text, "  usage     {clients}/usage");
    }
    if let Some(url) = database.url() {
        let _ = writeln!(text, "  database  psql '{url}'");
    }
    if is_sandbox {
        text.push_str(
            "\n*** SANDBOX: no provider is configured, so a built-in model answers. Its answers are canned. ***\n    \
             Set OPENAI_API_KEY (and OPENAI_URL, if it is not OpenAI), or add an upstream by SQL:\n    \
             select turnpike.set_upstream('openai', 'https://api.openai.com/v1', key => 'env:OPENAI_API_KEY');\n",
        );
    }
    let model = if is_sandbox {
        sandbox::MODEL
    } else {
        "gpt-4o-mini"
    };
    if let Some(first) = first {
        let _ = write!(
            text,
            "\nFirst start: {} price rows imported, account `default` has {} USD, and this access token is shown once:\n\n  \
             export OPENAI_BASE_URL={base}\n  export OPENAI_API_KEY={}\n\n  \
             curl $OPENAI_BASE_URL/chat/completions -H \"Authorization: Bearer $OPENAI_API_KEY\" -H 'Content-Type: application/json' \\\n    \
             -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'\n",
            first.prices,
            startup::FIRST_CREDIT,
            first.token.expose(),
        );
    } else {
        let _ = write!(
            text,
            "\nClients set OPENAI_BASE_URL={base} and OPENAI_API_KEY to an access token.\n\
             Tokens are issued by `turnpike token issue ACCOUNT` or, in psql, select * from turnpike.issue_token('ACCOUNT');\n",
        );
    }
    text.push('\n');
    text
}

async fn wait_for_signal() -> Result<(), Fatal> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Fatal::because(Code::System, "signals cannot be heard", &error))
    };
    let (mut terminate, mut interrupt) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: draining"),
        _ = interrupt.recv() => info!("SIGINT: draining"),
    }
    Ok(())
}

/// Sends clients elsewhere, takes no new connections, lets open exchanges finish, and makes every charge durable.
async fn drain(
    gateway: &Arc<Gateway>,
    listening: Listening,
    shutdown: &CancellationToken,
    listen: &settings::Listen,
) -> Result<(), Fatal> {
    gateway.draining.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(listen.shutdown_delay_seconds)).await;
    shutdown.cancel();
    let grace = Duration::from_secs(listen.shutdown_seconds);
    let hurried = Arc::clone(gateway);
    tokio::spawn(async move {
        sleep(grace).await;
        hurried.closed.store(true, Ordering::Relaxed);
        hurried.hurry.cancel();
    });
    let mut cut = 0_usize;
    let ended = timeout(grace + LAST_WORKERS, async {
        for worker in listening.workers {
            if let Ok(Ok(drained)) = worker.await {
                cut = cut.saturating_add(drained.cut);
            }
        }
    });
    if ended.await.is_err() {
        warn!("shutdown.cut: a worker did not end in time");
    }
    let unsettled = gateway.ledger.drain(LEDGER_DRAIN).await;
    telemetry::finish(gateway).await;
    info!(connections_cut = cut, unsettled, "closed");
    if unsettled > 0 {
        return Err(Fatal::new(
            Code::Unavailable,
            format!(
                "{unsettled} charges are not durable: the database did not answer in time; what is known of them stays on disk and in turnpike.hold"
            ),
        ));
    }
    Ok(())
}
