//! Logs on standard error: text for people, JSON for machines.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `filter` is a level (`info`) or directives (`info,latency_operator=debug`).
///
/// # Errors
/// The filter cannot be understood, or logging has been started before.
pub fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    // Of an answer that it cannot read kube's client logs the whole, as a warning: of a Secret, the passwords. What a database
    // server notices is logged in its own words: they may be anything that it was told. Whoever asks for that by name gets it.
    let quiet = "kube_client::client=error,sqlx::postgres::notice=off";
    let filter = EnvFilter::try_new(format!("{quiet},{filter}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}
