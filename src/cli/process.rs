//! What `run` and `drain` share: the process around the controllers.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use controller::Settings;
use controller::ledger_store::LedgerStore;
use controller::ports::{Leading, Ports};
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::ALLOWED;
use crate::clock::Clock;
use crate::config::{Config, SecretRule};
use crate::connections::services::DevOverride;
use crate::connections::{Registry, Secrets, Services};
use crate::kube::Leadership;
use crate::kube::budgets::Budgets;
use crate::kube::{
    Actor, Announcer, Cluster, Controllers, Dates, Kubernetes, Led, Namespaces, ObservePort, Timers, Watched,
    lead, list_remediations,
};
use crate::notify::{self, Publisher};
use crate::observe::dependencies::Access;
use crate::observe::probe::Probes;
use crate::observe::prometheus::Prometheus;
use crate::observe::scrape::Scraper;
use crate::observe::{Dependencies, Observer, Sources};
use crate::scope::Scope;
use crate::telemetry::logs::{self, LogFormat};
use crate::telemetry::{Health, Metrics, Recorder};

/// What is under way may take so long after a signal to stop; shorter than a Pod's usual grace of 30 s.
const GRACE: Duration = Duration::from_secs(20);

/// How the process logs.
#[derive(Debug, clap::Args)]
pub(super) struct Logging {
    /// How log lines look.
    #[arg(long, value_enum, default_value = "json")]
    log_format: LogFormat,
    /// What is logged: a level, or directives such as info,latency_operator=debug.
    #[arg(long, default_value = "info")]
    log_level: String,
}

/// Does `work` on a runtime of its own, with logs and TLS.
pub(super) fn start(logging: &Logging, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider has been installed"))?;
    logs::start(logging.log_format, &logging.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(work);
    // Whoever has lost the Lease ends, whatever a resolver of names is still waiting for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// Lets the work end by itself once the signal has come, and no longer than the grace.
pub(super) async fn finish(
    work: impl Future<Output = anyhow::Result<()>>,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let overdue = async {
        let _ = stopping.wait_for(|stop| *stop).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        worked = work => worked,
        () = overdue => {
            tracing::warn!("what was under way did not end in time; a successor resolves it");
            Ok(())
        }
    }
}

/// Whoever reads the log later knows what stood between a policy and the Secrets of its namespace.
pub(super) fn say_which_secrets(rule: SecretRule) {
    match rule {
        SecretRule::Labelled => tracing::info!(
            secrets = %rule,
            "Secrets are read only where they carry the label {ALLOWED}: \"true\""
        ),
        SecretRule::AuthorChecked => tracing::info!(
            secrets = %rule,
            "every Secret is read that a policy of its namespace names: that the policy's author may read it must have \
             been checked by an admission policy"
        ),
    }
}

/// Where a process reports how it does.
#[derive(Clone)]
pub(super) struct Reporting {
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// Writes evaluations down, where that is wanted.
    pub(super) recorder: Option<Recorder>,
}

/// Both controllers, for as long as this process leads.
pub(super) async fn work(
    config: Config,
    clients: Clients,
    leadership: Leadership,
    Reporting { metrics, health, recorder }: Reporting,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let Clients { reading, watching, .. } = &clients;
    let scopes = Scope::all(&config.watch_namespaces);
    let ledger = LedgerStore::default();
    let listed = list_remediations(reading, &scopes).await;
    ledger.build(listed.context("the LatencyRemediations cannot be listed, so nothing may be done")?);

    let namespaces = Namespaces::new(&scopes);
    let budgets = Budgets::new(namespaces.clone());
    let _ = budgets.refresh(reading).await;

    let clock = Clock::agreed(reading).await?;
    leadership.agree_on(clock);
    let led = |scope| Led::new(reading, watching, scope, &namespaces);
    let scopes: Vec<Led> = scopes.into_iter().map(led).collect();
    let (publisher, publishing) =
        Publisher::new(reading.clone(), leadership.identity().to_owned(), metrics.clone());
    let publishing = tokio::spawn(publishing);
    let marks = leadership.marks();
    let settings = Settings {
        enabled_actions: config.actions.clone().into(),
        protected_roles: config.protected_roles.clone().into(),
        api_contact_within: config.lease.duration,
        leading_since: clock.now(),
    };
    let parts = Parts { clock, leadership, metrics, recorder, budgets: budgets.clone(), publisher };
    let ports = ports(&config, &clients, &settings, &scopes, parts)?;
    let controllers: Arc<Controllers> = controller::Controllers::new(ports, settings, ledger);
    health.set_ready(true);
    tokio::select! {
        () = lead(controllers, watching.clone(), scopes, marks, stopping) => {}
        () = budgets.follow(watching.clone()) => anyhow::bail!("the watch of RemediationBudgets has ended"),
    }
    // Every publisher is gone with the controllers: what was handed in is written, and the task ends.
    if tokio::time::timeout(Duration::from_secs(3), publishing).await.is_err() {
        tracing::warn!("not every Event could be written in time");
    }
    Ok(())
}

/// What the ports share with the process around them.
struct Parts {
    clock: Clock,
    leadership: Leadership,
    metrics: Metrics,
    recorder: Option<Recorder>,
    budgets: Budgets,
    publisher: Publisher,
}

fn ports(
    config: &Config,
    clients: &Clients,
    settings: &Settings,
    scopes: &[Led],
    Parts { clock, leadership, metrics, recorder, budgets, publisher }: Parts,
) -> anyhow::Result<Ports<Kubernetes>> {
    let Clients { reading, mutating, services, .. } = clients;
    let scopes: Vec<Watched> = scopes.iter().map(|led| led.watched.clone()).collect();
    let secrets = Secrets::new(reading.clone(), config.secrets);
    let registry = Registry::default();
    let access =
        Access { secrets: secrets.clone(), registry: registry.clone(), clock, metrics: metrics.clone() };
    let observer = Observer {
        sources: Sources {
            prometheus: Prometheus::new(&config.backends, clock, metrics.clone())?,
            probes: Probes::new(services.clone(), clock, metrics.clone()),
            scraper: Scraper::new(services.clone(), clock, metrics.clone()),
        },
        dependencies: Dependencies::new(&access),
    };
    let observe = ObservePort { clock, observer, scopes: scopes.clone() };
    let act = Actor {
        client: reading.clone(),
        clock,
        secrets,
        registry,
        services: services.clone(),
        protected_roles: settings.protected_roles.clone(),
    };
    let enabled = settings.enabled_actions.clone();
    let clients = (reading.clone(), mutating.clone());
    let parts = notify::Parts { publisher, metrics: metrics.clone(), scopes: scopes.clone() };
    Ok(Ports {
        cluster: Cluster::new(clients, clock, metrics.clone(), budgets, enabled, scopes),
        observe,
        act,
        announce: Announcer { sinks: notify::sinks(parts), metrics, recorder },
        time: Timers::new(clock),
        leading: leadership,
    })
}

/// The operator's ways to the API server.
#[derive(Clone)]
pub(super) struct Clients {
    /// Reads; it retries by itself.
    pub(super) reading: Client,
    /// Watches: the server ends each after five minutes at most, so that a silence longer than that is a broken connection.
    watching: Client,
    /// Writes; it never repeats what it sends.
    mutating: Client,
    /// What the answers to all of them say about the time.
    dates: Dates,
    /// From Services to addresses.
    services: Services,
}

impl Clients {
    /// What an election needs.
    pub(super) fn electing(&self) -> (Client, Dates) {
        (self.mutating.clone(), self.dates.clone())
    }
}

/// What asks for one thing gets it in this time, or asks again: one API server of several may hang.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn clients(overrides: Vec<DevOverride>) -> anyhow::Result<Clients> {
    let mut config =
        kube::Config::infer().await.context("no access to a cluster: neither in a Pod nor by KUBECONFIG")?;
    let agent = concat!("latency-operator/", env!("CARGO_PKG_VERSION"));
    config.headers.push((reqwest::header::USER_AGENT, reqwest::header::HeaderValue::from_static(agent)));
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(Duration::from_secs(300));
    let dates = Dates::default();
    let watching = dates.client(config.clone())?;
    config.read_timeout = Some(ANSWER_WITHIN);
    let reading = dates.client(config.clone())?;
    for DevOverride { namespace, service, port, to } in &overrides {
        tracing::warn!(
            namespace,
            service,
            port,
            %to,
            "for a laboratory: a Service is asked at another address than its Pods'"
        );
    }
    let services = Services::new(reading.clone(), api_server(&config), overrides);
    config.default_retry = false;
    Ok(Clients { reading, watching, mutating: dates.client(config)?, dates, services })
}

/// Where the API server is reached, as far as that is said by address.
fn api_server(config: &kube::Config) -> impl Iterator<Item = IpAddr> {
    let inside = std::env::var("KUBERNETES_SERVICE_HOST").ok();
    let used = config.cluster_url.host().map(str::to_owned);
    let all = inside.into_iter().chain(used);
    all.filter_map(|host| host.trim_matches(['[', ']']).parse().ok())
}

/// Unique for each process, and telling where it runs.
pub(super) fn identity() -> String {
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| "latency-operator".to_owned());
    format!("{host}_{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// Tells once somebody asks the process to end.
pub(super) async fn wait_for_signal(stop: watch::Sender<bool>) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be waited for; the operator can only be killed");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping: what is under way is finished");
    let _ = stop.send(true);
}
