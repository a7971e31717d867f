//! All connections, by credentials: policies that have the same ones share a connection.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Credentials, Postgres, Redis, RedisCredentials};

/// A connection that nobody has used for so long is closed.
const UNUSED: Duration = Duration::from_secs(600);

/// Connections with the time at which each was last asked for.
type Known<K, C> = Mutex<HashMap<Arc<K>, (Instant, C)>>;

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    postgres: Arc<Known<Credentials, Postgres>>,
    redis: Arc<Known<RedisCredentials, Redis>>,
}

impl Registry {
    /// The connection to PostgreSQL for these credentials. Connections that nobody has asked for lately are closed on the way.
    #[must_use]
    pub fn postgres(&self, credentials: &Arc<Credentials>) -> Postgres {
        of(&self.postgres, credentials, Postgres::new)
    }

    /// The connection to Redis for these credentials. Connections that nobody has asked for lately are closed on the way.
    #[must_use]
    pub fn redis(&self, credentials: &Arc<RedisCredentials>) -> Redis {
        of(&self.redis, credentials, Redis::new)
    }
}

fn of<K: Hash + Eq, C: Clone>(known: &Known<K, C>, credentials: &Arc<K>, new: impl FnOnce(Arc<K>) -> C) -> C {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|other, (used, _)| other == credentials || used.elapsed() < UNUSED);
    let entry =
        known.entry(credentials.clone()).or_insert_with(|| (Instant::now(), new(credentials.clone())));
    entry.0 = Instant::now();
    entry.1.clone()
}
