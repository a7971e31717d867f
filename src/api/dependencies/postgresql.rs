//! PostgreSQL.

use engine::model::{PostgresDependency, SecretRef as Secret};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::SecretRef;
use crate::api::convert::Reader;
use crate::api::text::{ApplicationName, RoleName};

/// A PostgreSQL database. The operator logs in as the user of the Secret, best a role of its own with pg_monitor.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Postgresql {
    /// Roles that the target connects as: their sessions count as victims. Default: the user of the Secret. A role stands for
    /// its members, too. Example: [orders]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub client_roles: Vec<RoleName>,
    /// Beginnings of application_name that tell the target's sessions from those of other programs with the same role. Default:
    /// every program. Example: [gunicorn]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub client_applications: Vec<ApplicationName>,
    /// Roles whose statements may be cancelled and whose sessions may be ended; [] for none. Required where a CancelQuery or
    /// TerminateIdle may run in mode Approve or Auto. The operator's own role is never touched. Example: [orders, reporting]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub cancellable_roles: Option<Vec<RoleName>>,
    /// CPU cores of the database server, for judging its load. Default: 4. Example: 8
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub cores: Option<i32>,
    /// Connections that one pod of the target opens to this database. Scale adds no pod that would take it above 90% of its
    /// slots, and adds none at all where this is not known. Example: 10
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub connections_per_pod: Option<i32>,
    /// Secret with the login of the tables' owner, for actions that create an index or vacuum. This version has no such action.
    /// Example: {name: orders-db-owner}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_secret_ref: Option<SecretRef>,
}

impl Postgresql {
    pub(super) fn read(&self, reader: &mut Reader, path: &str, secret: Secret) -> Option<PostgresDependency> {
        let names = |roles: &[RoleName]| roles.iter().map(|role| role.0.clone()).collect();
        let mut count = |field: &str, number: Option<i32>, least: u32| {
            number.map(|number| reader.count(&format!("{path}.postgresql.{field}"), number, least))
        };
        Some(PostgresDependency {
            secret,
            client_roles: names(&self.client_roles),
            client_applications: self.client_applications.iter().map(|name| name.0.clone()).collect(),
            cancellable_roles: self.cancellable_roles.as_deref().map(names),
            cores: count("cores", self.cores, 1),
            connections_per_pod: count("connectionsPerPod", self.connections_per_pod, 0),
        })
    }

    pub(super) fn stored(postgres: &PostgresDependency) -> Self {
        let roles = |roles: &[String]| roles.iter().map(|role| RoleName(role.clone())).collect();
        let count = |number: Option<u32>| number.map(|number| i32::try_from(number).unwrap_or(i32::MAX));
        Self {
            client_roles: roles(&postgres.client_roles),
            client_applications: postgres.client_applications.iter().cloned().map(ApplicationName).collect(),
            cancellable_roles: postgres.cancellable_roles.as_deref().map(roles),
            cores: count(postgres.cores),
            connections_per_pod: count(postgres.connections_per_pod),
            maintenance_secret_ref: None,
        }
    }
}
