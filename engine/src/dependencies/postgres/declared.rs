//! What a policy declares of a PostgreSQL database.

use serde::{Deserialize, Serialize};

use crate::base::SecretRef;

/// A PostgreSQL database that the target depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresDependency {
    /// The Secret that says where it is and how to log in.
    pub secret: SecretRef,
    /// Roles that the target connects as; empty means the Secret's user.
    pub client_roles: Vec<String>,
    /// Beginnings of the application names of the target's sessions; empty means all.
    pub client_applications: Vec<String>,
    /// Roles whose sessions may be signalled. Undeclared, none may be; a dry run then passes for every role.
    pub cancellable_roles: Option<Vec<String>>,
    /// CPU cores of the server, where they are declared.
    pub cores: Option<u32>,
    /// Connections that one pod of the target opens, where they are declared.
    pub connections_per_pod: Option<u32>,
}
