//! A server with users of several rights, and connections of the operator to it.

use std::sync::Arc;
use std::time::Duration;

use engine::model::{NoData, NoDataReason, RedisLook};
use jiff::Timestamp;
use lab::RedisOptions;
use latency_operator::connections::redis::RIGHTS;
use latency_operator::connections::{Redis, RedisCredentials, Registry};
use latency_operator::observe::redis::look;

pub(crate) const PASSWORD: &str = "lab-password";
/// Long enough for a busy machine; what a test waits for takes a fraction of it.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The user with exactly the rights that the documentation names.
pub(crate) const WATCHER: &str = "watcher";
/// It may not read the slow log.
pub(crate) const SHORT_SIGHTED: &str = "short-sighted";
/// It may only PING.
pub(crate) const BLIND: &str = "blind";
/// It may not even do that.
pub(crate) const MUTE: &str = "mute";

/// A server with those users.
pub(crate) struct World {
    pub(crate) server: lab::Redis,
    pub(crate) session: lab::Session,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: RedisOptions) -> Self {
        let session = lab::Session::start().await.expect("a session");
        let server = lab::Redis::start(&session, options).await.expect("Redis");
        Self { server, session }
    }

    /// Runs a command as the laboratory.
    pub(crate) async fn admin(&self, command: &[&str]) -> redis::Value {
        self.server.execute(command).await.expect("a command of the laboratory")
    }

    /// What such a command answers, as text.
    pub(crate) async fn ask(&self, command: &[&str]) -> String {
        redis::from_redis_value(self.admin(command).await).expect("text")
    }

    /// How to log in.
    pub(crate) fn credentials(&self, user: &str) -> RedisCredentials {
        RedisCredentials { user: Some(user.to_owned()), ..nobody_at(self.server.port()) }
    }

    /// A new connection of the operator's, as that user.
    pub(crate) fn connection(&self, user: &str) -> Redis {
        connection(self.credentials(user))
    }
}

/// Users with their rights, and a slow log that has everything.
pub(crate) fn options() -> RedisOptions {
    let rights = |rights: &str| format!("on >{PASSWORD} resetkeys -@all {rights}");
    RedisOptions::default()
        .user(WATCHER, rights(RIGHTS))
        .user(SHORT_SIGHTED, rights("+ping +info"))
        .user(BLIND, rights("+ping"))
        .user(MUTE, rights(""))
        .setting("slowlog-log-slower-than", "0")
}

pub(crate) fn nobody_at(port: u16) -> RedisCredentials {
    RedisCredentials {
        host: "127.0.0.1".to_owned(),
        port,
        database: 0,
        user: None,
        password: Some(PASSWORD.to_owned()),
        tls: false,
        ca: None,
    }
}

/// A connection of the operator's, used by nobody else.
pub(crate) fn connection(credentials: RedisCredentials) -> Redis {
    Registry::default().connection(&Arc::new(credentials))
}

/// One look.
pub(crate) async fn read(connection: &Redis) -> Result<RedisLook, NoData> {
    look(connection, Timestamp::now()).await
}

/// Reads until `wanted` says so.
pub(crate) async fn until_facts(connection: &Redis, wanted: impl Fn(&RedisLook) -> bool) -> RedisLook {
    let mut last = None;
    let found = lab::until(SOON, async || {
        let read = read(connection).await;
        last = Some(read.clone());
        read.ok().filter(|facts| wanted(facts))
    });
    let found = found.await;
    found.unwrap_or_else(|| panic!("it never came; the last look is {last:#?}"))
}

/// What stands in the way of a look. Whatever it is, it does not quote the password.
pub(crate) async fn trouble(connection: &Redis) -> NoData {
    let read = lab::within(Duration::from_secs(10), read(connection)).await;
    let no_data = read.expect("an answer within the limit").expect_err("no facts");
    assert!(!no_data.to_string().contains(PASSWORD), "{no_data}");
    no_data
}

/// That exactly this stands in the way, and that it is said how to mend it.
pub(crate) async fn told(credentials: RedisCredentials, reason: NoDataReason, words: &str) {
    let no_data = trouble(&connection(credentials)).await;
    assert_eq!(no_data.reason, reason, "{no_data}");
    assert!(no_data.detail.contains(words), "{words:?} is not in {no_data}");
}
