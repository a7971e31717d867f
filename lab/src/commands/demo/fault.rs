//! What breaks the API, and what has to become of it.

use std::time::{Duration, SystemTime};

use lab::Result;

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
        }
    }

    /// The action that heals it.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Runaway | Self::Blocker => "CancelQueries",
            Self::Idle => "TerminateIdle",
            Self::Saturation => "Scale",
        }
    }

    /// What the operator has done when it is healed.
    pub(super) fn cured_by(self) -> &'static str {
        match self {
            Self::Runaway | Self::Blocker => "cancelled the one statement that broke it",
            Self::Idle => "ended the one session that broke it",
            Self::Saturation => "added Pods, took them back when it was calm",
        }
    }

    pub(super) fn policy(self) -> String {
        format!("demo/policies/{}.yaml", self.name())
    }

    /// All, for those who want to see the others too.
    pub(super) const ALL: [Self; 4] = [Self::Runaway, Self::Blocker, Self::Idle, Self::Saturation];
}

/// A fault that was begun. Dropping it ends it.
pub(super) enum Running {
    Session(Culprit),
    Upstream(Slow),
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
    /// The demo ended it: the operator had healed the API in spite of it, or was only to look.
    Mended,
}

/// Begins a fault.
pub(super) async fn begin(stack: &Stack, fault: Fault) -> Result<Running> {
    match fault.kind() {
        Kind::Session { sql, stays, ends_with: _ } => {
            Ok(Running::Session(Culprit::begin(&stack.database, sql, stays).await?))
        }
        Kind::Upstream { delay } => Ok(Running::Upstream(Slow::begin(&stack.session, delay)?)),
    }
}

impl Running {
    pub(super) fn begun(&self) -> SystemTime {
        match self {
            Self::Session(culprit) => culprit.begun,
            Self::Upstream(slow) => slow.begun,
        }
    }

    /// The process id of its session, where it is one.
    pub(super) fn pid(&self) -> Option<i32> {
        match self {
            Self::Session(culprit) => Some(culprit.pid),
            Self::Upstream(_) => None,
        }
    }

    /// Waits until somebody else ends it, which nobody can do to an upstream; to be asked once.
    pub(super) async fn ended(&mut self) -> Ended {
        match self {
            Self::Session(culprit) => culprit.ended().await,
            Self::Upstream(_) => std::future::pending().await,
        }
    }

    /// Ends it, as people would.
    pub(super) async fn mend(&self, stack: &Stack) -> Result<Ended> {
        match self {
            Self::Session(culprit) => stack.database.end(culprit.pid).await?,
            Self::Upstream(slow) => slow.mend()?,
        }
        Ok(Ended { at: SystemTime::now(), how: How::Mended })
    }
}

/// `400 ms instead of 20 ms`.
pub(super) fn slower(delay: Duration) -> String {
    format!("{} ms instead of {} ms", delay.as_millis(), USUAL.as_millis())
}

#[cfg(test)]
mod tests {
    use super::super::culprit::statements;
    use super::super::{database, edge};
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
        assert!(gunicorn.contains("\"WEB_CONCURRENCY\", \"2\"") && policy.contains("workersPerPod: 2"));
    }
}
