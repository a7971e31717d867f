//! What the target depends on: where causes are looked for.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::text::{Label, ObjectName, RoleName, Word};

/// Something that the target depends on: exactly the part that its type names.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.type == 'PostgreSQL' ? has(self.postgres) : true").message("type PostgreSQL needs postgres"))]
#[x_kube(validation = Rule::new("self.type == 'Redis' ? has(self.redis) : true").message("type Redis needs redis"))]
#[x_kube(validation = Rule::new("!(has(self.postgres) && has(self.redis))").message("a dependency is one thing: postgres or redis"))]
pub struct Dependency {
    /// Its name.
    pub name: Label,
    /// PostgreSQL or Redis.
    pub r#type: Word,
    /// For type PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresDependency>,
    /// For type Redis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisDependency>,
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

/// A Redis server (6 or later), reached directly.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RedisDependency {
    /// The Secret with `uri` (`redis://` or `rediss://`), or with `host`, `port`, `user`, `password` and `db`; also `tls` and
    /// `ca.crt`. It must carry the label latency-operator.dev/allowed: "true".
    pub secret_ref: SecretRef,
    /// What it is for: Cache (what it holds can be computed again) or Broker (it hands tasks to workers).
    #[serde(default = "cache")]
    pub r#use: Word,
}

fn cache() -> Word {
    Word::text("Cache")
}

/// A Secret of the policy's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct SecretRef {
    /// Its name.
    pub name: ObjectName,
}
