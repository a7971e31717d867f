//! One look at a PgBouncer: `SHOW POOLS` and `SHOW DATABASES`, and only while clients wait what else may limit them. Columns are
//! read by name; those that a version lacks are as if they had their default.
//!
//! `SHOW FDS`, which stops the whole PgBouncer, is never sent, nor is anything that changes it.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::dependencies::pgbouncer::{
    PgBouncerFacts, PgBouncerLook, Pool, PoolClients, PoolId, PoolServers, Share,
};
use engine::model::{NoData, NoDataReason, Observed};

use super::dependencies::DependencyReader;
use crate::clock::Clock;
use crate::connections;
use crate::connections::pgbouncer::{Answer, Failure, Record};

/// The console's own pool.
const CONSOLE: &str = "pgbouncer";

/// PgBouncers.
pub struct PgBouncer;

impl DependencyReader for PgBouncer {
    type Store = connections::PgBouncer;
    type Facts = PgBouncerFacts;
    const SOURCE: &'static str = "pgbouncer";

    async fn look(
        connection: &connections::PgBouncer,
        clock: Clock,
        _: Option<PgBouncerFacts>,
    ) -> Observed<PgBouncerFacts> {
        match look(connection).await {
            Ok(look) => Observed::Known { at: clock.now(), value: look.into() },
            Err(no_data) => Observed::Missing(no_data),
        }
    }
}

/// One look.
///
/// # Errors
/// The console cannot be reached, refuses, or answers with something else.
pub async fn look(connection: &connections::PgBouncer) -> Result<PgBouncerLook, NoData> {
    let Answer { rows: pools, version } = connection.run("SHOW POOLS").await.map_err(Failure::no_data)?;
    let databases = connection.run("SHOW DATABASES").await.map_err(Failure::no_data)?.rows;
    let mut look = understood(version, &pools, &databases)?;
    // The limit of a user matters only to clients that wait, and the list of users is long.
    if look.pools.iter().any(|pool| pool.holds_up() && !pool.paused) {
        let users = readable(connection, "SHOW USERS", &mut look.unreadable).await?;
        let config = readable(connection, "SHOW CONFIG", &mut look.unreadable).await?;
        limit_users(&mut look.pools, &users, &config);
    }
    Ok(look)
}

/// The rows of a command without which the rest is right all the same.
async fn readable(
    connection: &connections::PgBouncer,
    command: &'static str,
    unreadable: &mut Vec<String>,
) -> Result<Vec<Record>, NoData> {
    match connection.run(command).await {
        Ok(answer) => Ok(answer.rows),
        Err(Failure::Refused(no_data)) => {
            unreadable.push(no_data.detail);
            Ok(Vec::new())
        }
        Err(Failure::Broken(no_data)) => Err(no_data),
    }
}

/// What the rows of `SHOW POOLS` and `SHOW DATABASES` say.
///
/// # Errors
/// A column is missing that every version has, or is no number.
pub fn understood(version: String, pools: &[Record], databases: &[Record]) -> Result<PgBouncerLook, NoData> {
    let mut known = BTreeMap::new();
    for row in databases {
        known.insert(word(row, "name")?, row);
    }
    let own = pools.iter().filter(|row| row.get("database").is_none_or(|name| name != CONSOLE));
    let pools = own.map(|row| pool(row, &known)).collect::<Result<_, NoData>>()?;
    Ok(PgBouncerLook { version, pools, unreadable: Vec::new() })
}

fn pool(row: &Record, databases: &BTreeMap<&str, &Record>) -> Result<Pool, NoData> {
    let (name, user) = (word(row, "database")?, word(row, "user")?);
    let database = databases.get(name).copied().ok_or_else(|| {
        let detail = format!("SHOW DATABASES has no row for {name}, which SHOW POOLS names");
        NoData::new(NoDataReason::BadAnswer, detail)
    })?;
    let maybe = |row: &Record, column: &str| row.get(column).map_or(Ok(0), |text| number(column, text));
    let micros = u64::from(maybe(row, "maxwait")?) * 1_000_000 + u64::from(maybe(row, "maxwait_us")?);
    let most = maybe(database, "max_connections")?;
    // Its name before 1.24.
    let reserve =
        if database.contains_key("reserve_pool_size") { "reserve_pool_size" } else { "reserve_pool" };
    Ok(Pool {
        id: PoolId { name: name.to_owned(), user: user.to_owned() },
        database: database.get("database").map_or(name, String::as_str).to_owned(),
        role: database.get("force_user").map_or(user, String::as_str).to_owned(),
        clients: PoolClients {
            active: count(row, "cl_active")?,
            waiting: count(row, "cl_waiting")?,
            longest_wait: Duration::from_micros(micros),
        },
        servers: PoolServers {
            active: sum(&[
                count(row, "sv_active")?,
                maybe(row, "sv_active_cancel")?,
                maybe(row, "sv_being_canceled")?,
            ]),
            idle: sum(&[count(row, "sv_idle")?, maybe(row, "sv_used")?, maybe(row, "sv_tested")?]),
            login: count(row, "sv_login")?,
        },
        size: count(database, "pool_size")?,
        reserve: maybe(database, reserve)?,
        database_limit: (most > 0)
            .then(|| Ok(Share { used: maybe(database, "current_connections")?, most }))
            .transpose()?,
        user_limit: None,
        paused: maybe(database, "paused")? > 0,
        disabled: maybe(database, "disabled")? > 0,
    })
}

/// Takes in `SHOW USERS` and `SHOW CONFIG`: what a user may have, and what may be in the pool of one. What is no number there is
/// as if it were not set.
pub fn limit_users(pools: &mut [Pool], users: &[Record], config: &[Record]) {
    let setting = |key: &str| {
        let row = config.iter().find(|row| row.get("key").is_some_and(|known| known == key));
        row.and_then(|row| row.get("value")?.parse::<u32>().ok())
    };
    let general = setting("max_user_connections").unwrap_or_default();
    let mut used: BTreeMap<String, u32> = BTreeMap::new();
    for pool in pools.iter() {
        let PoolServers { active, idle, login } = pool.servers;
        let of_user = used.entry(pool.id.user.clone()).or_default();
        *of_user = sum(&[*of_user, active, idle, login]);
    }
    for pool in pools {
        let row = users.iter().find(|row| row.get("name") == Some(&pool.id.user));
        let own = |column: &str| row.and_then(|row| row.get(column)?.parse::<u32>().ok());
        // From 1.23 on a user may have a size of its own; 0 stands for none there.
        pool.size = own("pool_size").filter(|size| *size > 0).unwrap_or(pool.size);
        let most = own("max_user_connections").filter(|most| *most > 0).unwrap_or(general);
        let used = used.get(&pool.id.user).copied().unwrap_or_default();
        pool.user_limit = (most > 0).then_some(Share { used, most });
    }
}

fn sum(counts: &[u32]) -> u32 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

fn word<'a>(row: &'a Record, column: &str) -> Result<&'a str, NoData> {
    row.get(column).map(String::as_str).ok_or_else(|| missing(column))
}

fn count(row: &Record, column: &str) -> Result<u32, NoData> {
    number(column, word(row, column)?)
}

fn number(column: &str, text: &str) -> Result<u32, NoData> {
    text.parse().map_err(|_| {
        NoData::new(NoDataReason::BadAnswer, format!("PgBouncer has something else than a count as {column}"))
    })
}

fn missing(column: &str) -> NoData {
    NoData::new(NoDataReason::BadAnswer, format!("an answer of PgBouncer has no {column}"))
}
