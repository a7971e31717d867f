//! Caddy as the edge in front of an application: its histogram has the waiting in it that the application itself
//! never sees.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http;
use crate::packages::{CADDY, Programs};
use crate::process::Process;
use crate::session::Session;

const READY_LIMIT: Duration = Duration::from_secs(30);

/// How Caddy is started.
#[derive(Debug, Clone)]
pub struct CaddyOptions {
    /// The value of the label `server` of its metrics.
    pub server: String,
    /// Host and port of each upstream.
    pub upstreams: Vec<String>,
}

impl Default for CaddyOptions {
    fn default() -> Self {
        Self { server: "edge".to_owned(), upstreams: Vec::new() }
    }
}

/// A running Caddy with one server that forwards everything.
#[derive(Debug)]
pub struct Caddy {
    server: String,
    address: String,
    admin: String,
    process: Process,
}

impl Caddy {
    /// Starts it and waits until it listens.
    pub async fn start(session: &Session, options: CaddyOptions) -> Result<Self> {
        let programs = Programs::find(session, &CADDY).await?;
        let (name, folder) = session.new_folder("caddy", None)?;
        let address = format!("127.0.0.1:{}", session.free_port()?);
        let admin = format!("127.0.0.1:{}", session.free_port()?);
        let config = folder.join("caddy.json");
        let text = config_text(&options, &address, &admin).to_string();
        std::fs::write(&config, text).map_err(Error::path("writing", &config))?;
        let spec = programs
            .spec("caddy", "caddy")
            .args(["run", "--config"])
            .arg(&config)
            // It keeps certificates and its last configuration there otherwise.
            .env("XDG_DATA_HOME", folder.join("data"))
            .env("XDG_CONFIG_HOME", folder.join("config"));
        let process = session.spawn_in(spec, name, &folder).await?;
        let caddy = Self { server: options.server, address, admin, process };
        let url = format!("http://{}/config/apps/http/servers/{}", caddy.admin, caddy.server);
        let look = || async {
            http::get(&caddy.process, &url).await.ok()?;
            // The server itself listens a moment after the administration.
            tokio::net::TcpStream::connect(&caddy.address).await.ok()
        };
        caddy.process.ready("listens", READY_LIMIT, look).await?;
        Ok(caddy)
    }

    /// Where clients reach it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Host and port where clients reach it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Host and port of its administration, which also serves `/metrics`.
    pub fn metrics_address(&self) -> &str {
        &self.admin
    }

    /// Replaces the upstreams without losing a request or a counter.
    pub async fn set_upstreams(&self, upstreams: &[String]) -> Result<()> {
        let path = format!("config/apps/http/servers/{}/routes/0/handle/0/upstreams", self.server);
        let url = format!("http://{}/{path}", self.admin);
        let failed = || Error::request("changing Caddy's upstreams", self.log());
        let request = http::client(&self.process)?.patch(url).json(&dials(upstreams));
        let response = request.send().await.map_err(failed())?;
        response.error_for_status().map(drop).map_err(failed())
    }

    /// What it exposes at `/metrics`.
    pub async fn metrics(&self) -> Result<String> {
        http::get(&self.process, &format!("http://{}/metrics", self.admin)).await
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        self.process.log()
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn dials(upstreams: &[String]) -> Value {
    upstreams.iter().map(|address| json!({"dial": address})).collect()
}

/// Its own language rather than the Caddyfile's: only here can the server have a name, which becomes a label.
fn config_text(options: &CaddyOptions, address: &str, admin: &str) -> Value {
    json!({
        "admin": {"listen": admin, "config": {"persist": false}},
        "apps": {"http": {"servers": {(options.server.as_str()): {
            "listen": [address],
            "automatic_https": {"disable": true},
            "metrics": {},
            "routes": [{"handle": [{
                "handler": "reverse_proxy",
                "upstreams": dials(&options.upstreams),
                "load_balancing": {"selection_policy": {"policy": "least_conn"}},
            }]}],
        }}}},
    })
}
