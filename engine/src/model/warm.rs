//! Warming a cache: requests to the target that make it fill the cache itself.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CacheKey, Scheme, SecretRef};

/// How a rung warms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmSettings {
    /// The Service that leads to the target, in the policy's namespace.
    pub service: String,
    /// Its port, by name or number.
    pub port: String,
    /// How it is spoken to.
    pub scheme: Scheme,
    /// What is asked for, one after the other.
    pub paths: Vec<String>,
    /// So often each path is asked for, at most.
    pub requests_per_path: u32,
    /// Requests a second, at most.
    pub rate_per_second: u32,
    /// Requests that are not answered yet, at most.
    pub in_flight: u32,
    /// It ends after this time at the latest.
    pub within: Duration,
}

impl WarmSettings {
    /// All requests of a full run.
    #[must_use]
    pub fn planned(&self) -> u32 {
        u32::try_from(self.paths.len()).unwrap_or(u32::MAX).saturating_mul(self.requests_per_path)
    }
}

/// Warm one cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmCache {
    /// The Redis dependency's name in the policy.
    pub dependency: String,
    /// The Secret that leads to it.
    pub secret: SecretRef,
    /// Which cache was found cold.
    pub cache: CacheKey,
    /// How.
    pub settings: WarmSettings,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warmed {
    /// Requests of a full run.
    pub planned: u32,
    /// Requests that were sent.
    pub sent: u32,
    /// Those that were answered with success.
    pub answered: u32,
    /// Why it ended before all were sent.
    pub stopped: Option<String>,
}

impl fmt::Display for Warmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { planned, sent, answered, stopped } = self;
        write!(f, "{sent} of {planned} requests were sent, {answered} succeeded")?;
        match stopped {
            Some(why) => write!(f, "; it was stopped: {why}"),
            None => Ok(()),
        }
    }
}
