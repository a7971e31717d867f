//! The laboratory: a real control plane and real data stores as plain processes, for tests, the demo and benches.

mod account;
mod apt;
pub mod bottle;
mod cache;
pub mod caddy;
pub mod control_plane;
pub mod cpus;
mod error;
pub mod exporter;
mod files;
pub mod forward;
mod gitops;
pub mod helm;
pub mod http;
pub mod image;
pub mod node;
pub mod operator;
pub mod packages;
pub mod patience;
pub mod pgbouncer;
mod pki;
mod poll;
mod ports;
pub mod postgres;
mod process;
mod procfs;
pub mod prometheus;
pub mod proxy;
mod random;
pub mod redis;
mod say;
pub mod sbom;
mod session;
mod spawner;
mod spec;
mod toolchain;
mod venv;
pub mod workspace;

pub use account::Account;
pub use cache::Cache;
pub use caddy::{Caddy, CaddyOptions};
pub use control_plane::{ControlPlane, ControlPlaneOptions};
pub use error::{Error, ProcessTrouble, Result};
pub use exporter::{Crowd, Exporter, ExporterOptions, Traffic};
pub use gitops::{GitOps, Health, Seen};
pub use helm::{Helm, Release};
pub use node::{Cluster, ClusterOptions};
pub use operator::{Operator, OperatorOptions};
pub use patience::{patience, within};
pub use pgbouncer::{PgBouncer, PgBouncerOptions};
pub use poll::until;
pub use postgres::{Postgres, PostgresOptions};
pub use process::Process;
pub use procfs::Identity;
pub use prometheus::{Prometheus, PrometheusOptions};
pub use random::password;
pub use redis::{Redis, RedisOptions};
pub use rustix::process::Signal;
pub use say::{Say, Stderr, Voice};
pub use session::{Finished, Session};
pub use spec::{Ending, Spec};
pub use toolchain::{NodeTools, Toolchain, helm};
pub use venv::Venv;

#[cfg(test)]
mod tests {
    use super::*;

    /// Others start servers from tasks of their own.
    #[test]
    fn what_starts_servers_can_move_between_threads() {
        fn is_send(_: impl Send) {}
        fn all(session: &Session) {
            is_send(ControlPlane::start(session, ControlPlaneOptions::default()));
            is_send(Postgres::start(session, PostgresOptions::default()));
            is_send(Prometheus::start(session, PrometheusOptions::default()));
            is_send(Caddy::start(session, CaddyOptions::default()));
            is_send(Redis::start(session, RedisOptions::default()));
            is_send(PgBouncer::start(session, PgBouncerOptions::default()));
        }
        let _ = all;
    }
}
