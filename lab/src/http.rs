//! A small HTTP client for what runs on loopback.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::patience::patience;
use crate::process::Process;

/// Loopback answers at once or not at all.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// rustls wants to be told once which cryptography it uses; somebody else in this program may have told it already.
pub(crate) fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client that keeps no connection: the next call may come from another runtime (each test has its own), where a
/// kept connection would be dead.
pub(crate) fn client(process: &Process) -> Result<reqwest::Client> {
    install_crypto();
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(patience(REQUEST_LIMIT))
        .build()
        .map_err(Error::request("making an HTTP client", process.log()))
}

/// The body at `url`, if it is answered with success.
pub async fn get(process: &Process, url: &str) -> Result<String> {
    let doing = format!("GET {url}");
    let failed = || Error::request(doing.clone(), process.log());
    let response = client(process)?.get(url).send().await.map_err(failed())?;
    response.error_for_status().map_err(failed())?.text().await.map_err(failed())
}
