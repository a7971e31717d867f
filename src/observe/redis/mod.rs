//! One look at a Redis server: a PING that is timed, then INFO by section and the newest entries of the slow log, in one round
//! trip. Nothing of it reads a key, and no command is sent that a managed server does not know.

mod info;

#[cfg(test)]
mod hostile;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::model::{
    NoData, NoDataReason, Observed, RedisFacts, RedisHistory, RedisLook, RedisServer, SecretRef,
};
use jiff::Timestamp;
use redis::Value;

use super::looks::Looks;
use crate::clock::Clock;
use crate::connections::redis::{Answer, Command, refusal};
use crate::connections::{Redis, RedisCredentials, Registry, Secrets};
use crate::telemetry::Metrics;

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

/// All Redis servers, each looked at once for everybody who asks at the same time.
#[derive(Clone)]
pub struct Caches {
    secrets: Secrets,
    registry: Registry,
    clock: Clock,
    metrics: Metrics,
    looks: Looks<RedisCredentials, RedisFacts>,
}

impl Caches {
    /// Reads through these connections.
    #[must_use]
    pub fn new(secrets: Secrets, registry: Registry, clock: Clock, metrics: Metrics) -> Self {
        Self { secrets, registry, clock, metrics, looks: Looks::default() }
    }

    /// What the server behind a Secret says, not older than `max_age`.
    pub async fn facts(
        &self,
        namespace: &str,
        secret: &SecretRef,
        max_age: Duration,
    ) -> Observed<RedisFacts> {
        let credentials = match self.secrets.redis(namespace, secret).await {
            Ok(credentials) => credentials,
            Err(no_data) => return Observed::Missing(no_data),
        };
        let key = credentials.clone();
        let look = |before: Option<RedisFacts>| async move {
            let started = Instant::now();
            let observed = self.read(&credentials, before.as_deref()).await;
            self.metrics.read("redis", started.elapsed());
            if let Observed::Missing(_) = &observed {
                // A new password, or another host: the Secret knows.
                self.secrets.doubt(namespace, secret);
            }
            observed
        };
        self.looks.at(&key, max_age, look).await
    }

    async fn read(
        &self,
        credentials: &Arc<RedisCredentials>,
        before: Option<&RedisLook>,
    ) -> Observed<RedisFacts> {
        let connection = self.registry.redis(credentials);
        match look(&connection, self.clock.now()).await {
            Ok(look) => {
                let at = self.clock.now();
                Observed::Known { at, value: look.after(at, before) }
            }
            Err(no_data) => Observed::Missing(no_data),
        }
    }
}

/// One look. `now` stands for the clock of a server that does not tell its own.
///
/// # Errors
/// The server cannot be reached, refuses, is still loading, or answers with something else.
pub async fn look(connection: &Redis, now: Timestamp) -> Result<RedisLook, NoData> {
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
