//! What the target depends on, one file for each type: its fields, and how the engine gets them.

mod pgbouncer;
mod postgresql;
mod redis;
mod workers;

use engine::model;
use kube::KubeSchema;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::pgbouncer::{Pgbouncer, PoolName};
pub use self::postgresql::Postgresql;
pub use self::redis::{ROLES, Redis};
pub use self::workers::Workers;
use super::convert::Reader;
use super::text::{Label, ObjectName, SecretKey, Word};
use super::unions::Union;

/// Makes the list of types and both conversions from each line of the table: the type, the member, its settings, and the kind in
/// the engine.
macro_rules! types {
    ($($word:literal: $member:ident, $settings:ident => $kind:ident in $place:ident;)*) => {
        /// The types of dependencies.
        pub const TYPES: Union = Union::new(&[$(($word, Some(stringify!($member)))),*]);
        /// Where each type is read.
        const PLACES: &[(&str, Place)] = &[$(($word, Place::$place)),*];

        impl Dependency {
            /// What the engine knows about it; `None` when a problem was found.
            pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<model::Dependency> {
                let set = [$((stringify!($member), self.$member.is_some())),*];
                reader.fits(path, &TYPES, &self.r#type, &set)?;
                $(
                    if let Some(settings) = &self.$member {
                        return types!(@read $place, self, settings, reader, path).map(model::Dependency::from);
                    }
                )*
                None
            }

            /// How the operator stores a copy of it.
            pub(super) fn stored(name: &str, dependency: &model::Dependency) -> Self {
                let r#type = match dependency {
                    $(model::Dependency::$kind(_) => Word::text($word),)*
                };
                Self {
                    name: Label(name.to_owned()),
                    r#type,
                    secret_ref: dependency.secret().map(SecretRef::stored),
                    $($member: match dependency {
                        model::Dependency::$kind(declared) => Some($settings::stored(declared)),
                        _ => None,
                    },)*
                }
            }
        }
    };
    (@read Store, $self:ident, $settings:ident, $reader:ident, $path:ident) => {
        $self.secret($reader, $path).and_then(|secret| $settings.read($reader, $path, secret))
    };
    (@read Workload, $self:ident, $settings:ident, $reader:ident, $path:ident) => {
        $self.no_secret($reader, $path).and_then(|()| $settings.read($reader, $path))
    };
}

types! {
    "PostgreSQL": postgresql, Postgresql => Postgres in Store;
    "PgBouncer": pgbouncer, Pgbouncer => PgBouncer in Store;
    "Redis": redis, Redis => Redis in Store;
    "Workers": workers, Workers => Workers in Workload;
}

/// Where a type is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At a server that a Secret leads to.
    Store,
    /// In Kubernetes, without a Secret.
    Workload,
}

/// Types that are read at a server need a Secret, and others must not name one.
fn secret_rule() -> Rule {
    let types = |wanted: Place| {
        let words = PLACES.iter().filter(move |(_, place)| *place == wanted);
        words.map(|(word, _)| *word).collect::<Vec<_>>()
    };
    let among = |types: &[&str]| {
        let quoted: Vec<String> = types.iter().map(|word| format!("'{word}'")).collect();
        format!("(self.type in [{}])", quoted.join(", "))
    };
    let (stores, workloads) = (types(Place::Store), types(Place::Workload));
    let mut rule = format!("(!{} || has(self.secretRef))", among(&stores));
    if !workloads.is_empty() {
        rule.push_str(&format!(" && (!{} || !has(self.secretRef))", among(&workloads)));
    }
    let message = format!("secretRef belongs to the types that are servers: {}", stores.join(", "));
    Rule::new(rule).message(&*message)
}

/// Something that the target depends on. Set the member that belongs to the type: postgresql for PostgreSQL, pgbouncer for
/// PgBouncer, redis for Redis, workers for Workers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = TYPES.rule(), validation = secret_rule())]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// Name of the dependency within the policy; Events and status use it. Example: db
    pub name: Label,
    /// What it is: PostgreSQL (14 or later; the operator connects to it directly, not through a pooler), PgBouncer (1.18 or
    /// later), Redis (6 or later) or Workers (background workers; a workload in Kubernetes, without a Secret).
    pub r#type: Word,
    /// Secret of the policy's namespace with the address and the login, for every type that is a server. Example: {name:
    /// orders-db}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Settings for type PostgreSQL. Example: {clientRoles: [orders], cancellableRoles: [orders, reporting]}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgresql: Option<Postgresql>,
    /// Settings for type PgBouncer. Example: {poolName: orders, databaseDependencyName: db}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgbouncer: Option<Pgbouncer>,
    /// Settings for type Redis. Example: {role: Cache}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// Settings for type Workers. Example: {targetRef: {name: orders-celery}, clientRoles: [celery]}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<Workers>,
}

impl Dependency {
    /// The Secret that leads to the server.
    fn secret(&self, reader: &mut Reader, path: &str) -> Option<model::SecretRef> {
        if self.secret_ref.is_none() {
            reader.problem(format!("{path}.secretRef"), format!("type {} needs it", self.r#type.0));
        }
        self.secret_ref.as_ref().map(SecretRef::read)
    }

    /// There is no Secret for what is read in Kubernetes.
    fn no_secret(&self, reader: &mut Reader, path: &str) -> Option<()> {
        if self.secret_ref.is_some() {
            let message = format!("it does not belong to type {}; remove it", self.r#type.0);
            reader.problem(format!("{path}.secretRef"), message);
            return None;
        }
        Some(())
    }
}

/// A Secret of the policy's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct SecretRef {
    /// Name of the Secret. Example: orders-db
    pub name: ObjectName,
    /// What this Secret calls what the operator looks for, where it uses names of its own. Left out: uri, or host, port, dbname,
    /// user and password, and ca.crt; the keys that CloudNativePG and common charts write are found as well. Example:
    /// {uri: DATABASE_URL}
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<SecretKeys>,
}

/// Keys of a Secret. With one of host, dbname or user the Secret's uri is not used.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretKeys {
    /// Key with a connection URI. Default: uri. Example: DATABASE_URL
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<SecretKey>,
    /// Key with the host. Default: host or hostname. Example: POSTGRES_HOST
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<SecretKey>,
    /// Key with the port. Default: port. Example: POSTGRES_PORT
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<SecretKey>,
    /// Key with the name of the database, for Redis its number. Default: dbname or database, for Redis db or database. Example:
    /// POSTGRES_DB
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dbname: Option<SecretKey>,
    /// Key with the user. Default: user or username. Example: POSTGRES_USER
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<SecretKey>,
    /// Key with the password. Default: password. Example: POSTGRES_PASSWORD
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretKey>,
    /// Key with the PEM certificates to trust instead of the system's. Default: ca.crt. Example: server-ca.pem
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<SecretKey>,
}

impl SecretRef {
    pub(super) fn read(&self) -> model::SecretRef {
        let name = |key: &Option<SecretKey>| key.as_ref().map(|key| key.0.clone());
        let keys = self.keys.as_ref().map_or_else(model::SecretKeys::default, |keys| model::SecretKeys {
            uri: name(&keys.uri),
            host: name(&keys.host),
            port: name(&keys.port),
            dbname: name(&keys.dbname),
            user: name(&keys.user),
            password: name(&keys.password),
            ca_cert: name(&keys.ca_cert),
        });
        model::SecretRef { name: self.name.0.clone(), keys }
    }

    pub(super) fn stored(secret: &model::SecretRef) -> Self {
        let key = |name: &Option<String>| name.clone().map(SecretKey);
        let model::SecretRef { name, keys } = secret;
        let stored = (*keys != model::SecretKeys::default()).then(|| SecretKeys {
            uri: key(&keys.uri),
            host: key(&keys.host),
            port: key(&keys.port),
            dbname: key(&keys.dbname),
            user: key(&keys.user),
            password: key(&keys.password),
            ca_cert: key(&keys.ca_cert),
        });
        Self { name: ObjectName(name.clone()), keys: stored }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(object: Value) -> (Option<model::Dependency>, Vec<String>) {
        let object: Dependency = serde_json::from_value(object).unwrap();
        let mut reader = Reader::default();
        let read = object.read(&mut reader, "dependencies[0]");
        (read, reader.problems().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_dependency_is_stored_as_it_was_read() {
        let keys = json!({"uri": "DATABASE_URL", "caCert": "server-ca.pem"});
        for object in [
            json!({"name": "db", "type": "PostgreSQL", "secretRef": {"name": "s", "keys": keys}, "postgresql": {
                "clientRoles": ["orders"], "clientApplications": ["gunicorn"], "cancellableRoles": [], "cores": 4,
                "connectionsPerPod": 10,
            }}),
            json!({"name": "pool", "type": "PgBouncer", "secretRef": {"name": "s"}, "pgbouncer": {
                "poolName": "orders", "databaseDependencyName": "db",
            }}),
            json!({"name": "pool", "type": "PgBouncer", "secretRef": {"name": "s"}, "pgbouncer": {}}),
            json!({"name": "cache", "type": "Redis", "secretRef": {"name": "s"}, "redis": {"role": "Shared"}}),
            json!({"name": "celery", "type": "Workers", "workers": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "orders-celery"}, "clientRoles": ["celery"],
                "acksLate": true, "maxTaskDuration": "20s",
            }}),
        ] {
            let (read, problems) = read(object.clone());
            assert_eq!(problems, [""; 0]);
            let name = object["name"].as_str().unwrap();
            assert_eq!(serde_json::to_value(Dependency::stored(name, &read.unwrap())).unwrap(), object);
        }
    }

    #[test]
    fn a_wrong_dependency_is_named_with_its_path() {
        let secret = json!({"name": "s"});
        for (object, problem) in [
            (
                json!({"name": "db", "type": "PostgreSQL", "secretRef": secret}),
                "dependencies[0].postgresql: type PostgreSQL needs it",
            ),
            (
                json!({"name": "db", "type": "PostgreSQL", "postgresql": {}}),
                "dependencies[0].secretRef: type PostgreSQL needs it",
            ),
            (
                json!({"name": "celery", "type": "Workers", "secretRef": secret, "workers": {
                    "targetRef": {"name": "orders-celery"}, "clientRoles": ["celery"],
                }}),
                "dependencies[0].secretRef: it does not belong to type Workers; remove it",
            ),
            (
                json!({"name": "celery", "type": "Workers", "workers": {
                    "targetRef": {"name": "orders-celery"}, "clientRoles": [],
                }}),
                "dependencies[0].workers.clientRoles: name the roles that the workers log in as: by these their sessions are known",
            ),
            (
                json!({"name": "db", "type": "Redis", "secretRef": secret, "redis": {}, "postgresql": {}}),
                "dependencies[0].postgresql: it does not belong to type Redis; remove it",
            ),
            (
                json!({"name": "db", "type": "MySQL", "secretRef": secret}),
                "dependencies[0].type: this version does not know MySQL; it knows PostgreSQL, PgBouncer, Redis and Workers",
            ),
            (
                json!({"name": "db", "type": "Redis", "secretRef": secret, "redis": {"role": "Queue"}}),
                "dependencies[0].redis.role: this version does not know Queue; it knows Cache, Broker and Shared",
            ),
        ] {
            assert_eq!(read(object).1, [problem]);
        }
    }
}
