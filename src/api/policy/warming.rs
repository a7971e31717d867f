//! Warming a cache.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::text::{Duration, HttpPath, ServiceName, ServicePort, Word};

/// Sends GET requests to the target, so that it fills the cache itself: at a bounded rate, with few in flight, each path at
/// most so often. It stops when a database gets worse, when keys are evicted, or when the objectives are kept again.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("size(self.paths) * self.requestsPerPath <= 1000").message("it would send more than 1000 requests; name fewer paths, or fewer requestsPerPath"))]
#[serde(rename_all = "camelCase")]
pub struct WarmCache {
    /// The Service that leads to the target, in the policy's namespace. Only those of its Pods are asked that are the
    /// target's.
    pub service: ServiceName,
    /// Its port, by name or number.
    pub port: ServicePort,
    /// HTTP or HTTPS.
    #[serde(default = "http")]
    pub scheme: Word,
    /// What is asked for, in this order; each path once.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub paths: Vec<HttpPath>,
    /// So often each path is asked for, at most: one round after the other.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub requests_per_path: i32,
    /// Requests a second, at most.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 50))]
    pub rate_per_second: i32,
    /// Requests that have not been answered, at most.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub in_flight: i32,
    /// It ends after this time at the latest.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')").message("must be from 1s to 10m"))]
    #[serde(default = "within")]
    pub within: Duration,
    /// The target uses no database. Without this, and with none declared, nothing is sent: that a database is well is not
    /// known.
    #[serde(default)]
    pub no_database: bool,
}

fn http() -> Word {
    Word::text("HTTP")
}

fn one() -> i32 {
    1
}

fn within() -> Duration {
    Duration::text("1m")
}
