//! What a lock, a rest or a budget is about.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ServerIdentity, TargetRef};

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

/// What an action affects. Compare with [`ResourceKey::same_as`], not by equality.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResourceKey {
    /// A database: shared, owned by nobody.
    Database(DatabaseKey),
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

    /// Whether both name one thing.
    ///
    /// Of databases: within a namespace the system identifier and the database decide. Across namespaces the peer address
    /// must agree as well: identifiers are self-reported, and a tenant's server that claims another's must not lock it. Of
    /// workloads the uid decides, which the API server gives.
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
            (Self::Database(_), Self::Workload(_)) | (Self::Workload(_), Self::Database(_)) => false,
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
            Self::Workload(key) => write!(f, "{} in {}", key.target, key.namespace),
        }
    }
}
