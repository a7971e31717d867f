//! The operator under test, as a process: a given binary with a configuration, watched and tormented.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http;
use crate::patience::patience;
use crate::process::Process;
use crate::session::Session;
use crate::spec::{Ending, Spec};

const READY_LIMIT: Duration = Duration::from_secs(30);

/// How the operator is started.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// The program.
    pub binary: PathBuf,
    /// As whom it talks to the API server.
    pub kubeconfig: PathBuf,
    /// The content of its configuration file.
    pub config: String,
    /// Arguments after `run --config <file> --listen <address>`.
    pub args: Vec<OsString>,
    /// Variables beside `KUBECONFIG`.
    pub env: Vec<(OsString, OsString)>,
}

impl OperatorOptions {
    /// The binary, whose kubeconfig it uses, and its configuration file.
    pub fn new(binary: &Path, kubeconfig: &Path, config: &str) -> Self {
        Self {
            binary: binary.to_owned(),
            kubeconfig: kubeconfig.to_owned(),
            config: config.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// The Lease in the operator's configuration: one that a successor takes over soon.
///
/// That a leader renews it in time is a deadline, too: a slow machine gets longer, or its leader would lose the Lease for being
/// slow.
pub fn lease(namespace: &str, name: &str) -> Value {
    // The operator wants whole seconds.
    let duration = patience(Duration::from_secs(3)).as_secs_f64().ceil();
    json!({
        "namespace": namespace,
        "name": name,
        "duration": format!("{duration}s"),
        "renewDeadline": format!("{}ms", Duration::from_secs_f64(duration * 2.0 / 3.0).as_millis()),
        "retryPeriod": "500ms",
    })
}

/// A running (or ended) operator.
#[derive(Debug)]
pub struct Operator {
    listen: String,
    process: Process,
}

impl Operator {
    /// Starts it and waits until `/healthz` is answered with success.
    pub async fn start(session: &Session, options: OperatorOptions) -> Result<Self> {
        let operator = Self::launch(session, options).await?;
        let url = format!("http://{}/healthz", operator.listen);
        let look = || async { http::get(&operator.process, &url).await.ok() };
        operator.process.ready("answers on /healthz", READY_LIMIT, look).await?;
        Ok(operator)
    }

    /// Starts it without waiting for anything: for configurations that it is expected to refuse.
    pub async fn launch(session: &Session, options: OperatorOptions) -> Result<Self> {
        let (name, folder) = session.new_folder("operator", None)?;
        let config = folder.join("config.yaml");
        std::fs::write(&config, &options.config).map_err(Error::path("writing", &config))?;
        let listen = format!("127.0.0.1:{}", session.free_port()?);
        let spec = Spec::new("operator", &options.binary)
            .args(["run", "--config"])
            .arg(&config)
            .args(["--listen", &listen])
            .args(options.args)
            .env("KUBECONFIG", &options.kubeconfig)
            .env("RUST_BACKTRACE", "1")
            .envs(options.env)
            .ending(Ending::Kill);
        let process = session.spawn_in(spec, name, &folder).await?;
        Ok(Self { listen, process })
    }

    /// Starts `drain --within <within>` of the same program, with the same configuration; what it says is in the log.
    pub async fn drain(session: &Session, options: OperatorOptions, within: &str) -> Result<Process> {
        let (name, folder) = session.new_folder("drain", None)?;
        let config = folder.join("config.yaml");
        std::fs::write(&config, &options.config).map_err(Error::path("writing", &config))?;
        let spec = Spec::new("drain", &options.binary)
            .args(["drain", "--config"])
            .arg(&config)
            .args(["--within", within])
            .args(options.args)
            .env("KUBECONFIG", &options.kubeconfig)
            .env("RUST_BACKTRACE", "1")
            .envs(options.env)
            .ending(Ending::Kill);
        session.spawn_in(spec, name, &folder).await
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.listen
    }

    /// The body at a path of its listener, if it is answered with success.
    pub async fn get(&self, path: &str) -> Result<String> {
        http::get(&self.process, &format!("http://{}{path}", self.listen)).await
    }

    /// What it exposes at `/metrics`.
    pub async fn metrics(&self) -> Result<String> {
        self.get("/metrics").await
    }

    /// `kill -9`: it can tidy nothing up.
    pub async fn kill(&self) -> Result<ExitStatus> {
        self.process.kill().await
    }

    /// Asks it to stop; kills it when it does not within the limit.
    pub async fn stop(&self, limit: Duration) -> Result<ExitStatus> {
        self.process.stop(Signal::TERM, limit).await
    }

    /// Stops it in mid-air, as a node that hangs: its Lease runs out meanwhile.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Goes on after [`Operator::pause`], believing that no time has passed.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&self, limit: Duration) -> Result<ExitStatus> {
        self.process.ended(limit).await
    }

    /// What it has logged so far.
    pub fn log_text(&self) -> String {
        self.process.log_text()
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
