//! One look at a Redis server: a PING that is timed, then INFO by section and the newest entries of the slow log, in one round
//! trip. Nothing of it reads a key, and no command is sent that a managed server does not know.

mod info;

#[cfg(test)]
mod hostile;

use std::time::Duration;

use engine::model::{NoData, NoDataReason, Observed, RedisFacts, RedisHistory, RedisLook, RedisServer};
use jiff::Timestamp;
use redis::Value;

use super::dependencies::DependencyReader;
use crate::clock::Clock;
use crate::connections::redis::{Answer, Command, refusal};
use crate::connections::{self, RedisCredentials};

/// Alone, so that its time is that of nothing else.
const PING: &[Command] = &[&["PING"]];

/// Older servers take one section a command.
const LOOK: &[Command] = &[
    &["INFO", "server"],
    &["INFO", "clients"],
    &["INFO", "memory"],
    &["INFO", "stats"],
    &["INFO", "replication"],
    &["INFO", "persistence"],
    &["INFO", "keyspace"],
    &["INFO", "commandstats"],
    &["SLOWLOG", "GET", "32"],
];

/// Redis servers.
pub struct Redis;

impl DependencyReader for Redis {
    type Store = connections::Redis;
    type Facts = RedisFacts;
    const SOURCE: &'static str = "redis";

    async fn look(
        connection: &connections::Redis,
        clock: Clock,
        before: Option<RedisFacts>,
    ) -> Observed<RedisFacts> {
        match look(connection, clock.now()).await {
            Ok(look) => {
                let at = clock.now();
                Observed::Known { at, value: look.after(at, before.as_deref()) }
            }
            Err(no_data) => Observed::Missing(no_data),
        }
    }
}

/// One look. `now` stands for the clock of a server that does not tell its own.
///
/// # Errors
/// The server cannot be reached, refuses, is still loading, or answers with something else.
pub async fn look(connection: &connections::Redis, now: Timestamp) -> Result<RedisLook, NoData> {
    let credentials = connection.credentials();
    let pong = connection.run(PING).await?;
    answered(credentials, pong.values.first())?;
    let Answer { values, peer, .. } = connection.run(LOOK).await?;
    understood(credentials, &values, pong.took, peer, now)
}

/// Whether it has answered to PING: also who may not serve its copy, or write, has.
fn answered(credentials: &RedisCredentials, answer: Option<&Value>) -> Result<(), NoData> {
    match answer {
        Some(Value::SimpleString(pong)) if pong == "PONG" => Ok(()),
        Some(Value::ServerError(error)) if matches!(error.code(), "MASTERDOWN" | "MISCONF") => Ok(()),
        Some(Value::ServerError(error)) => Err(refusal(credentials, "PING", error)),
        _ => {
            let detail = format!("what {} answers to PING is not PONG", credentials.place());
            Err(NoData::new(NoDataReason::BadAnswer, detail))
        }
    }
}

/// What the answers to [`LOOK`] say, in their order.
fn understood(
    credentials: &RedisCredentials,
    answers: &[Value],
    ping: Duration,
    peer: String,
    now: Timestamp,
) -> Result<RedisLook, NoData> {
    let [server, clients, memory, stats, replication, persistence, keyspace, commands, slow] = answers else {
        let detail =
            format!("{} answered to {} of {} commands", credentials.place(), answers.len(), LOOK.len());
        return Err(NoData::new(NoDataReason::BadAnswer, detail));
    };
    let read = |section, answer| info::Section::read(credentials, section, answer);
    let server = read("server", server)?;
    server.is_no_sentinel()?;
    if read("persistence", persistence)?.is_loading() {
        let detail = format!("{} is loading its data after a start", credentials.place());
        return Err(NoData::new(NoDataReason::Loading, detail));
    }
    let clients = read("clients", clients)?.clients()?;
    let memory = read("memory", memory)?.memory()?;
    let counters = read("stats", stats)?.counters()?;
    let role = read("replication", replication)?.role()?;
    let keys = read("keyspace", keyspace)?.keys(credentials.database)?;
    let mut unreadable = Vec::new();
    let commands = info::commands(credentials, commands, &mut unreadable);
    let slow = info::slow(credentials, slow, &mut unreadable);
    Ok(RedisLook {
        version: server.word("redis_version")?,
        clock: server.clock().unwrap_or(now),
        uptime: server.uptime()?,
        server: RedisServer {
            host: credentials.host.clone(),
            port: credentials.port,
            database: credentials.database,
            peer,
            run_id: server.word("run_id")?,
        },
        role,
        ping,
        counters,
        keys,
        memory,
        clients,
        commands,
        slow,
        unreadable,
        history: RedisHistory::default(),
    })
}
