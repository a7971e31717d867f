//! `latency-operator run`

use std::net::SocketAddr;
use std::path::PathBuf;

use controller::ports::Leading;
use tokio::sync::watch;

use super::process::{self, Clients, Logging, Reporting};
use crate::config::Config;
use crate::connections::services::DevOverride;
use crate::kube::leader::{Elector, Lost};
use crate::telemetry::{Health, Metrics, Recorder, server};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The operator's configuration; without it there is no metrics backend.
    #[arg(long, env = "LATENCY_OPERATOR_CONFIG")]
    config: Option<PathBuf>,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    #[command(flatten)]
    logging: Logging,
    /// Record every evaluation in this new file, one JSON object a line, for `latency-operator replay`. It grows by some
    /// kilobytes with each evaluation, and holds names of roles, applications and hosts, but no query texts.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// For laboratories only, whose Pods have no address that can be reached: asks a Service's port at this address of
    /// loopback in place of its Pods. May be given several times; those of one port take turns.
    #[arg(long, value_name = "NAMESPACE/SERVICE:PORT=127.0.0.1:PORT")]
    dev_service_override: Vec<DevOverride>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let config = Config::read(args.config.as_deref())?;
    let recorder = args.record.as_deref().map(Recorder::create).transpose()?;
    let metrics = Metrics::new(config.policy_metrics);
    let reporting = Reporting { metrics, health: Health::default(), recorder };
    process::start(&args.logging, operate(args.listen, args.dev_service_override, config, reporting))
}

async fn operate(
    listen: SocketAddr,
    overrides: Vec<DevOverride>,
    config: Config,
    reporting: Reporting,
) -> anyhow::Result<()> {
    process::say_which_secrets(config.secrets);
    let clients = process::clients(overrides).await?;
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(process::wait_for_signal(stop));

    // Served to the very end: who stops slowly should be seen to do so.
    let serving = server::serve(listen, reporting.metrics.clone(), reporting.health.clone());
    let leading = lead(config, clients, reporting, stopping);
    tokio::select! {
        served = serving => served,
        led = leading => led,
    }
}

/// Waits for its turn, and works until it is over.
async fn lead(
    config: Config,
    clients: Clients,
    reporting: Reporting,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let identity = process::identity();
    let Reporting { metrics, health, .. } = reporting.clone();
    let namespace =
        config.lease.namespace.clone().unwrap_or_else(|| clients.reading.default_namespace().to_owned());
    let elector = Elector::new(clients.electing(), &namespace, config.lease.clone(), &identity, health);
    tracing::info!(
        identity,
        namespace,
        lease = config.lease.name,
        version = env!("CARGO_PKG_VERSION"),
        "waiting for the Lease"
    );
    let mut stopped = stopping.clone();
    let leadership = tokio::select! {
        leadership = elector.acquire() => leadership,
        _ = stopped.wait_for(|stop| *stop) => return Ok(()),
    };
    tracing::info!(epoch = leadership.epoch(), "leading");
    metrics.leading(true);

    let work = process::work(config, clients, leadership.clone(), reporting, stopping.clone());
    let lost = tokio::select! {
        lost = elector.keep(&leadership) => lost,
        worked = process::finish(work, stopping) => {
            elector.release(&leadership).await;
            return worked;
        }
    };
    metrics.leading(false);
    if lost == Lost::Drained {
        tracing::info!("everything has been taken back, and the Lease deleted; waiting to be ended");
        tokio::select! {
            () = elector.linger() => {}
            _ = stopped.wait_for(|stop| *stop) => return Ok(()),
        }
    }
    anyhow::bail!("the Lease was lost: {lost}")
}
