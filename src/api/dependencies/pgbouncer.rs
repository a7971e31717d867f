//! PgBouncer.

use engine::dependencies::pgbouncer::PgBouncerDependency;
use engine::model::SecretRef as Secret;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::convert::Reader;
use crate::api::text::Label;

/// A PgBouncer through which the target connects to PostgreSQL. The operator logs in to its admin console, best as a user of
/// stats_users, and only reads.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Pgbouncer {
    /// Database that the target connects to, as PgBouncer names it: only its pools count, those of all users. Default: every
    /// pool. A starved one is then Likely at most, unless its user is in clientRoles of the database behind it. Example: orders
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_name: Option<PoolName>,
    /// Name of the dependency of type PostgreSQL that PgBouncer connects to. A cause in that database then explains a starved
    /// pool. Default: no such dependency. Example: db
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_dependency_name: Option<Label>,
}

/// The name of a database in PgBouncer.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(extend("minLength" = 1), extend("maxLength" = 63))]
pub struct PoolName(pub String);

impl Pgbouncer {
    pub(super) fn read(
        &self,
        reader: &mut Reader,
        path: &str,
        secret: Secret,
    ) -> Option<PgBouncerDependency> {
        let database = self.database_dependency_name.as_ref().map(|name| name.0.clone());
        if let Some(name) = &database {
            reader.refers(format!("{path}.pgbouncer.databaseDependencyName"), name, "PostgreSQL");
        }
        let pool_name = self.pool_name.as_ref().map(|name| name.0.clone());
        Some(PgBouncerDependency { secret, pool_name, database })
    }

    pub(super) fn stored(pgbouncer: &PgBouncerDependency) -> Self {
        Self {
            pool_name: pgbouncer.pool_name.clone().map(PoolName),
            database_dependency_name: pgbouncer.database.clone().map(Label),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::api::{LatencyPolicy, convert};

    fn problems(name: &str) -> Vec<String> {
        let dependency = |name: &str, word: &str, member: &str, settings: Value| json!({"name": name, "type": word, "secretRef": {"name": "s"}, (member): settings});
        let object: LatencyPolicy = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"targetRef": {"name": "t"}, "dependencies": [
                // The order does not matter.
                dependency("pool", "PgBouncer", "pgbouncer", json!({"databaseDependencyName": name})),
                dependency("db", "PostgreSQL", "postgresql", json!({})),
                dependency("cache", "Redis", "redis", json!({})),
            ]},
        }))
        .unwrap();
        convert::policy(&object).err().into_iter().flatten().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn the_database_behind_it_is_a_declared_one() {
        assert_eq!(problems("db"), [""; 0]);
        let path = "spec.dependencies[0].pgbouncer.databaseDependencyName";
        let unknown = "no dependency is called orders; name one of type PostgreSQL in spec.dependencies";
        assert_eq!(problems("orders"), [format!("{path}: {unknown}")]);
        for (other, kind) in [("cache", "Redis"), ("pool", "PgBouncer")] {
            let wrong = format!(
                "{path}: {other} is of type {kind}; name a dependency of type PostgreSQL in spec.dependencies"
            );
            assert_eq!(problems(other), [wrong]);
        }
    }
}
