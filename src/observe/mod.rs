//! Everything that is known at one instant: what is read, from where, and how it becomes a Snapshot.

pub mod dependencies;
#[cfg(test)]
#[path = "../../sim/src/dice.rs"]
#[allow(dead_code, missing_docs, reason = "the simulation uses all of it")]
mod dice;
pub mod kubernetes;
mod looks;
mod observer;
pub mod pgbouncer;
pub mod postgres;
pub mod probe;
pub mod prometheus;
pub mod redis;
pub mod scrape;
pub mod sources;

pub use self::observer::Observer;

// One line for each kind of data store: its kind in the engine, the field of its readings, and its reader.
dependencies::readers! {
    Postgres: databases, postgres::Postgres;
    PgBouncer: poolers, pgbouncer::PgBouncer;
    Redis: caches, redis::Redis;
}

// One line for each kind of source of objectives.
sources::sources! {
    prometheus: prometheus::Prometheus;
    probes: probe::Probes;
    scraper: scrape::Scraper;
}
