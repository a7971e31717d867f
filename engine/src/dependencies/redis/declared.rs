//! What a policy declares of a Redis server.

use serde::{Deserialize, Serialize};

use crate::base::SecretRef;

/// What a Redis server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheUse {
    /// What it holds can be computed again.
    Cache,
    /// It hands tasks to workers: what it holds exists nowhere else, and lookups that find nothing are normal.
    Broker,
    /// It is both, so its hit ratio says nothing about the cache.
    Shared,
}

/// A Redis server that the target depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisDependency {
    /// The Secret that says where it is and how to log in.
    pub secret: SecretRef,
    /// What it is for.
    pub usage: CacheUse,
}
