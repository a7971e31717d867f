//! What the target depends on: where causes are looked for.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::text::{Label, ObjectName, RoleName, Word};

/// Something that the target depends on.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.type == 'PostgreSQL' ? has(self.postgres) : true").message("type PostgreSQL needs postgres"))]
pub struct Dependency {
    /// Its name.
    pub name: Label,
    /// PostgreSQL.
    pub r#type: Word,
    /// For type PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresDependency>,
}

/// A PostgreSQL database (14 or later), reached directly and not through a pooler.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PostgresDependency {
    /// The Secret with `uri`, or with `host`, `port`, `dbname`, `user` and `password`; also `sslmode` and `ca.crt`. It must
    /// carry the label latency-operator.dev/allowed: "true".
    pub secret_ref: SecretRef,
    /// Roles that the target connects as; the Secret's user where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub users: Vec<RoleName>,
    /// Roles whose statements may be cancelled; the same as `users` where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub roles: Vec<RoleName>,
}

/// A Secret of the policy's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct SecretRef {
    /// Its name.
    pub name: ObjectName,
}
