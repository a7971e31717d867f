//! The application's cache: who may do what in it, how it is lost, and how it does.

use std::time::{Duration, SystemTime};

use futures::lock::Mutex;
use lab::redis::Redis;
use lab::{Error, RedisOptions, Result, Session};
use redis::aio::MultiplexedConnection;

use super::fault::{Ended, How};

/// As whom the application comes.
const APPLICATION: &str = "orders";
/// As whom the operator comes: it sees how the cache does, and can neither read nor change what is in it.
pub(super) const OPERATOR: &str = "latency_operator";
const OPERATOR_MAY: &str = "resetkeys -@all +ping +info +slowlog|get";
const APPLICATION_MAY: &str = "~* -@all +@read +@write +@transaction +@connection";
/// What fills it: the totals of all portfolios. The users never ask for it.
pub(super) const FILLED_BY: &str = "/api/v1/portfolios";
/// One key for each agency of demo/sql/seed.sql.
const KEYS: u64 = 100;

pub(super) struct Cache {
    pub(super) server: Redis,
    application: String,
    pub(super) operator: String,
    connection: Mutex<Connection>,
}

struct Connection {
    inner: MultiplexedConnection,
    seen: Lookups,
}

/// Lookups since the server was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lookups {
    hits: u64,
    misses: u64,
}

impl Lookups {
    /// The share that found its key between two looks; none where there was no lookup.
    #[expect(clippy::cast_precision_loss, reason = "a share for comparing")]
    fn ratio_since(self, then: Self) -> Option<f64> {
        let hits = self.hits.saturating_sub(then.hits);
        let all = hits.saturating_add(self.misses.saturating_sub(then.misses));
        (all > 0).then(|| hits as f64 / all as f64)
    }
}

impl Cache {
    pub(super) async fn start(session: &Session) -> Result<Self> {
        let (application, operator) = (lab::password()?, lab::password()?);
        let options = RedisOptions::default()
            .setting("maxmemory", "64mb")
            .setting("maxmemory-policy", "allkeys-lru")
            .password(lab::password()?)
            .user(APPLICATION, format!("on >{application} {APPLICATION_MAY}"))
            .user(OPERATOR, format!("on >{operator} {OPERATOR_MAY}"));
        let server = Redis::start(session, options).await?;
        let connection = Mutex::new(Connection { inner: server.admin().await?, seen: Lookups::default() });
        Ok(Self { server, application, operator, connection })
    }

    /// Where the application finds it.
    pub(super) fn url(&self) -> String {
        self.url_at(&format!("127.0.0.1:{}", self.server.port()))
    }

    /// The same for somebody who reaches it at another address.
    pub(super) fn url_at(&self, address: &str) -> String {
        format!("redis://{APPLICATION}:{}@{address}/0", self.application)
    }

    /// Throws everything away, as somebody who has mistaken the server.
    pub(super) async fn flush(&self) -> Result<()> {
        self.ask::<()>(redis::cmd("FLUSHALL")).await
    }

    /// The share of lookups that found their key since this was asked last (0 to 1); none where there was none.
    pub(super) async fn hits(&self) -> Result<Option<f64>> {
        let info: redis::InfoDict = self.ask(redis::cmd("INFO").arg("stats").to_owned()).await?;
        let number = |name: &str| info.get::<u64>(name).unwrap_or_default();
        let now = Lookups { hits: number("keyspace_hits"), misses: number("keyspace_misses") };
        let then = std::mem::replace(&mut self.connection.lock().await.seen, now);
        Ok(now.ratio_since(then))
    }

    /// Waits until it holds what it held; to be asked once.
    pub(super) async fn is_warm(&self) -> Ended {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        loop {
            looks.tick().await;
            if self.ask::<u64>(redis::cmd("DBSIZE")).await.is_ok_and(|keys| keys >= KEYS) {
                return Ended { at: SystemTime::now(), how: How::Warmed };
            }
        }
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: redis::Cmd) -> Result<T> {
        let failed = || Error::request("asking the cache", self.server.log());
        let mut connection = self.connection.lock().await;
        command.query_async(&mut connection.inner).await.map_err(failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_since_the_last_look_counts() {
        let lookups = |hits, misses| Lookups { hits, misses };
        assert_eq!(lookups(130, 20).ratio_since(lookups(100, 10)), Some(0.75));
        assert_eq!(lookups(100, 20).ratio_since(lookups(100, 10)), Some(0.0));
        assert_eq!(lookups(100, 10).ratio_since(lookups(100, 10)), None);
    }
}
