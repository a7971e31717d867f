//! What a lock, a rest or a budget is about.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{RedisServer, ServerIdentity, TargetRef};

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DatabaseKey {
    /// The namespace of the policy that reaches it.
    pub namespace: String,
    /// See [`ServerIdentity::system_identifier`].
    pub system_identifier: String,
    /// The database's name.
    pub database: String,
    /// See [`ServerIdentity::peer`].
    pub peer: String,
}

/// One life of one workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkloadKey {
    /// Its namespace.
    pub namespace: String,
    /// What it is called.
    pub target: TargetRef,
    /// Its uid: a workload that was deleted and created again is another one.
    pub uid: String,
}

/// One database of one Redis server. Its `run_id` is not here: a server that was started anew is the same resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CacheKey {
    /// The namespace of the policy that reaches it.
    pub namespace: String,
    /// See [`RedisServer::host`].
    pub host: String,
    /// See [`RedisServer::port`].
    pub port: u16,
    /// See [`RedisServer::database`].
    pub database: u32,
    /// See [`RedisServer::peer`].
    pub peer: String,
}

/// What an action affects. Compare with [`ResourceKey::same_as`], not by equality.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResourceKey {
    /// A database: shared, owned by nobody.
    Database(DatabaseKey),
    /// A database of a Redis server: shared, owned by nobody.
    Cache(CacheKey),
    /// A workload: it has one owner.
    Workload(WorkloadKey),
}

impl ResourceKey {
    /// The database behind a server, as it is reached from `namespace`.
    #[must_use]
    pub fn database(namespace: &str, server: &ServerIdentity) -> Self {
        Self::Database(DatabaseKey {
            namespace: namespace.to_owned(),
            system_identifier: server.system_identifier.clone(),
            database: server.database.clone(),
            peer: server.peer.clone(),
        })
    }

    /// The database of a Redis server, as it is reached from `namespace`.
    #[must_use]
    pub fn cache(namespace: &str, server: &RedisServer) -> Self {
        Self::Cache(CacheKey {
            namespace: namespace.to_owned(),
            host: server.host.clone(),
            port: server.port,
            database: server.database,
            peer: server.peer.clone(),
        })
    }

    /// Whether both name one thing.
    ///
    /// Of databases: within a namespace the system identifier and the database decide. Across namespaces the peer address
    /// must agree as well: identifiers are self-reported, and a tenant's server that claims another's must not lock it. Of
    /// Redis servers the host, the port and the number of the database decide within a namespace, whatever address they have
    /// after a restart; across namespaces, where a host may mean anything, the peer address and the number. Of workloads the uid decides, which the API server gives.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Database(one), Self::Database(two)) => {
                one.system_identifier == two.system_identifier
                    && one.database == two.database
                    && (one.namespace == two.namespace || one.peer == two.peer)
            }
            (Self::Workload(one), Self::Workload(two)) => {
                one.namespace == two.namespace && one.uid == two.uid
            }
            (Self::Cache(one), Self::Cache(two)) => {
                let named = one.namespace == two.namespace && (&one.host, one.port) == (&two.host, two.port);
                one.database == two.database && (named || one.peer == two.peer)
            }
            (Self::Database(_) | Self::Cache(_) | Self::Workload(_), _) => false,
        }
    }
}

#[cfg(test)]
impl ResourceKey {
    /// The database that it names.
    pub(crate) fn as_database(&mut self) -> &mut DatabaseKey {
        let Self::Database(key) = self else { panic!("it is no database") };
        key
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(key) => write!(f, "PostgreSQL database {} at {}", key.database, key.peer),
            Self::Cache(key) => write!(f, "Redis database {} of {}:{}", key.database, key.host, key.port),
            Self::Workload(key) => write!(f, "{} in {}", key.target, key.namespace),
        }
    }
}
