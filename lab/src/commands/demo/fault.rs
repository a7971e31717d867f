//! What breaks the API, and what has to become of it.

use std::time::{Duration, SystemTime};

use lab::Result;

use super::cache::Cache;
use super::culprit::Culprit;
use super::stack::Stack;
use super::upstream::{Slow, USUAL};

/// What to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Fault {
    /// A report without its join condition takes the database's CPU: every page is slow.
    Runaway,
    /// A batch keeps locks that every payment needs: payments fail, and everybody queues behind them.
    Blocker,
    /// A console locks the rows of every payment and is forgotten, in the middle of its transaction.
    Idle,
    /// All workers wait for a slow price service: every page queues, and the database is idle.
    Saturation,
    /// The cache is flushed: what was a lookup is a long query again, and nobody fills it.
    Coldcache,
}

/// Where a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A session of the database: the operator ends it.
    Session {
        /// The file that it runs.
        sql: &'static str,
        /// It is left open after the last statement.
        stays: bool,
        /// In PostgreSQL's words, what becomes of it when it is healed.
        ends_with: &'static str,
    },
    /// What the API keeps in Redis: it is lost, and stays lost until something fills it.
    Cache,
    /// A service that the API waits for: it stays slow, and capacity helps until it is fast again.
    Upstream {
        /// What it takes meanwhile.
        delay: Duration,
    },
}

const CANCELLED: &str = "canceling statement due to user request";
const TERMINATED: &str = "terminating connection due to administrator command";

impl Fault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Runaway => "runaway",
            Self::Blocker => "blocker",
            Self::Idle => "idle",
            Self::Saturation => "saturation",
            Self::Coldcache => "coldcache",
        }
    }

    /// One sentence for people.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Runaway => {
                "a report without its join condition takes the database's CPU: every page is slow"
            }
            Self::Blocker => {
                "a batch keeps locks that every payment needs: payments fail, and everybody queues behind them"
            }
            Self::Idle => {
                "somebody locks the rows of every payment, has a look at one, and goes to lunch in the middle of the \
                 transaction: there is no statement to cancel"
            }
            Self::Saturation => {
                "the price service that every tenth request waits for gets slow: all workers wait, every page queues \
                 for one of them, and the database is idle"
            }
            Self::Coldcache => {
                "somebody flushes the cache: each portfolio is a long query again, none of them is stored, and every page \
                 queues behind them"
            }
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Runaway => {
                Kind::Session { sql: "demo/sql/fault-runaway.sql", stays: false, ends_with: CANCELLED }
            }
            Self::Blocker => {
                Kind::Session { sql: "demo/sql/fault-blocker.sql", stays: false, ends_with: CANCELLED }
            }
            Self::Idle => {
                Kind::Session { sql: "demo/sql/fault-idle.sql", stays: true, ends_with: TERMINATED }
            }
            // Below the promise of 500 ms: a quote alone breaks nothing, whatever waits for a worker does.
            Self::Saturation => Kind::Upstream { delay: Duration::from_millis(400) },
            Self::Coldcache => Kind::Cache,
        }
    }

    /// How many users there are.
    pub(super) fn users(self) -> u16 {
        match self {
            // As many as one CPU for the database serves with ease.
            Self::Runaway | Self::Blocker | Self::Idle => 100,
            // Their ten quotes a second of 400 ms take four workers, which is all that two Pods have, and half of what
            // four have.
            Self::Saturation => 210,
            Self::Coldcache => 150,
        }
    }

    /// How many of 90 plus as many requests ask for a portfolio.
    pub(super) fn portfolios(self) -> u16 {
        match self {
            Self::Runaway | Self::Blocker | Self::Idle | Self::Saturation => 10,
            // Why there is a cache.
            Self::Coldcache => 40,
        }
    }

    /// More than the usual rows, where a query has to take longer.
    pub(super) fn more_rows(self) -> Option<&'static str> {
        match self {
            Self::Runaway | Self::Blocker | Self::Idle | Self::Saturation => None,
            Self::Coldcache => Some("more-payments.sql"),
        }
    }

    /// The action that heals it.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Runaway | Self::Blocker => "CancelQuery",
            Self::Idle => "TerminateIdle",
            Self::Saturation => "Scale",
            Self::Coldcache => "WarmCache",
        }
    }

    /// What the operator has done when it is healed.
    pub(super) fn cured_by(self) -> &'static str {
        match self {
            Self::Runaway | Self::Blocker => "cancelled the one statement that broke it",
            Self::Idle => "ended the one session that broke it",
            Self::Saturation => "added Pods, took them back when it was calm",
            Self::Coldcache => "filled the cache again, through the API itself",
        }
    }

    pub(super) fn policy(self) -> String {
        format!("demo/policies/{}.yaml", self.name())
    }

    /// All, for those who want to see the others too.
    pub(super) const ALL: [Self; 5] =
        [Self::Runaway, Self::Blocker, Self::Idle, Self::Saturation, Self::Coldcache];
}

/// A fault that was begun. Dropping it ends it.
pub(super) enum Running<'a> {
    Session(Culprit),
    Upstream(Slow),
    Flushed { cache: &'a Cache, begun: SystemTime },
}

/// How a fault came to its end.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) at: SystemTime,
    pub(super) how: How,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// By somebody: what PostgreSQL said.
    Told(String),
    /// Its last statement was over.
    ByItself,
    /// Somebody has filled the cache again.
    Warmed,
    /// The demo ended it: the operator had healed the API in spite of it, or was only to look.
    Mended,
}

/// Begins a fault.
pub(super) async fn begin(stack: &Stack, fault: Fault) -> Result<Running<'_>> {
    match fault.kind() {
        Kind::Session { sql, stays, ends_with: _ } => {
            Ok(Running::Session(Culprit::begin(&stack.database, sql, stays).await?))
        }
        Kind::Upstream { delay } => Ok(Running::Upstream(Slow::begin(&stack.session, delay)?)),
        Kind::Cache => {
            let cache = stack.cache()?;
            let begun = SystemTime::now();
            cache.flush().await?;
            Ok(Running::Flushed { cache, begun })
        }
    }
}

impl Running<'_> {
    pub(super) fn begun(&self) -> SystemTime {
        match self {
            Self::Session(culprit) => culprit.begun,
            Self::Upstream(slow) => slow.begun,
            Self::Flushed { begun, .. } => *begun,
        }
    }

    /// The process id of its session, where it is one.
    pub(super) fn pid(&self) -> Option<i32> {
        match self {
            Self::Session(culprit) => Some(culprit.pid),
            Self::Upstream(_) | Self::Flushed { .. } => None,
        }
    }

    /// Waits until somebody else ends it, which nobody can do to an upstream; to be asked once.
    pub(super) async fn ended(&mut self) -> Ended {
        match self {
            Self::Session(culprit) => culprit.ended().await,
            Self::Upstream(_) => std::future::pending().await,
            Self::Flushed { cache, .. } => cache.is_warm().await,
        }
    }

    /// Ends it, as people would.
    pub(super) async fn mend(&self, stack: &Stack) -> Result<Ended> {
        let at = SystemTime::now();
        match self {
            Self::Session(culprit) => stack.database.end(culprit.pid).await?,
            Self::Upstream(slow) => slow.mend()?,
            Self::Flushed { .. } => stack.fill_cache().await?,
        }
        Ok(Ended { at, how: How::Mended })
    }
}

/// `400 ms instead of 20 ms`.
pub(super) fn slower(delay: Duration) -> String {
    format!("{} ms instead of {} ms", delay.as_millis(), USUAL.as_millis())
}

#[cfg(test)]
mod tests {
    use super::super::culprit::statements;
    use super::super::{cache, database, edge};
    use super::*;

    #[test]
    fn each_fault_has_its_files_and_what_hurts_is_in_them() {
        for fault in Fault::ALL {
            assert!(database::read(&fault.policy()).unwrap().contains("kind: LatencyPolicy"));
            match fault.kind() {
                Kind::Session { sql, stays, ends_with: _ } => {
                    let statements = statements(&database::read(sql).unwrap());
                    let hurts = if stays { "update " } else { "select count(*)" };
                    let is_there = statements.iter().any(|one| one.starts_with(hurts));
                    assert!(statements.len() > 1 && is_there, "{fault:?}");
                    let commits = statements.iter().any(|one| one.starts_with("commit"));
                    assert!(!commits || !stays, "it would not be idle in its transaction");
                }
                Kind::Cache => {
                    assert_eq!(fault.remedy(), "WarmCache");
                    let policy = database::read(&fault.policy()).unwrap();
                    assert!(policy.contains(&format!("paths: [{}]", cache::FILLED_BY)));
                    let more = fault.more_rows().unwrap();
                    assert!(database::read(&format!("demo/sql/{more}")).unwrap().contains("insert into"));
                }
                Kind::Upstream { delay } => {
                    assert!(delay > USUAL && delay.as_secs_f64() < edge::TARGET);
                }
            }
        }
    }

    #[test]
    fn the_api_assumes_what_the_price_service_usually_takes() {
        let views = database::read("demo/app/orders/views.py").unwrap();
        assert!(views.contains(&format!("UPSTREAM_DELAY_MS = {}", USUAL.as_millis())));
        let policy = database::read(&Fault::Saturation.policy()).unwrap();
        // Workers times threads of one Pod.
        let gunicorn = database::read("demo/app/gunicorn.conf.py").unwrap();
        assert!(gunicorn.contains("\"WEB_CONCURRENCY\", \"2\"") && policy.contains("concurrencyPerPod: 2"));
    }
}
