//! Connections to the data stores: one for each host, database, user and credential, kept open, used for looking and for
//! acting alike; and requests to the users' own Services. Who looks is in `observe`, who acts in `act`; neither knows the
//! other.

mod bounded;
pub(crate) mod cached;
pub mod credentials;
pub(crate) mod hidden;
pub mod http;
pub mod pgbouncer;
pub mod postgres;
pub mod redis;
pub mod redis_credentials;
pub mod registry;
pub mod secrets;
pub mod services;
pub(crate) mod sql;
pub mod workload;

pub use credentials::{Credentials, SslMode};
pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use redis::Redis;
pub use redis_credentials::RedisCredentials;
pub use registry::{Registry, Store};
pub use secrets::Secrets;
pub use services::Services;
