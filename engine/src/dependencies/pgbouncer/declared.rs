//! What a policy declares of a PgBouncer.

use serde::{Deserialize, Serialize};

use super::PoolId;
use crate::base::SecretRef;

/// A PgBouncer that the target connects through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PgBouncerDependency {
    /// The Secret that says where its console is and how to log in.
    pub secret: SecretRef,
    /// The target's pools: those of this database, as PgBouncer names it; `None`: all of them.
    pub pool_name: Option<String>,
    /// The PostgreSQL dependency behind it.
    pub database: Option<String>,
}

impl PgBouncerDependency {
    /// Whether the target may connect through that pool.
    #[must_use]
    pub fn names(&self, pool: &PoolId) -> bool {
        self.pool_name.as_ref().is_none_or(|name| *name == pool.name)
    }
}
