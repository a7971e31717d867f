//! What is wrong with the ways between operators and the rest of the world.

use serde::{Deserialize, Serialize};

use crate::exec::{Micros, Node};

/// What a request to the API server, or a signal, is for. An ambush waits for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Op {
    /// Creates a LatencyRemediation.
    Create,
    /// Passes the gate.
    Gate,
    /// Signals a session.
    Signal,
    /// Sets replicas.
    Scale,
    /// Writes another status of a LatencyRemediation.
    Status,
    /// Sets replicas back.
    Restore,
    /// Takes the finalizer away.
    Release,
    /// Creates or writes an incident.
    Incident,
    /// Writes a policy's status.
    PolicyStatus,
    /// Writes a budget's status.
    BudgetStatus,
    /// Takes or renews the Lease.
    Lease,
    /// Asks a workload for something, to warm its cache.
    Warm,
    /// Reads a last time before the gate whether what was judged is still so.
    Confirm,
    /// Reads a workload a last time before its replicas are set.
    ReadScale,
    /// Deletes what is old.
    Delete,
    /// Reads.
    Read,
}

/// Those that change something and lead to acts.
pub const MUTATING: [Op; 12] = [
    Op::Create,
    Op::Gate,
    Op::Signal,
    Op::Scale,
    Op::Warm,
    Op::ReadScale,
    Op::Confirm,
    Op::Status,
    Op::Restore,
    Op::Release,
    Op::Incident,
    Op::PolicyStatus,
];

/// What befalls a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Blow {
    /// The process is killed before it is sent.
    CrashBefore,
    /// The process is killed after it has arrived and before the answer has.
    CrashAfter,
    /// It has arrived, and the answer is lost.
    AnswerLost,
    /// It has arrived, and the answer comes so many seconds later: sooner than nobody waits for it any more.
    AnswerLate(u64),
    /// It is lost itself.
    RequestLost,
    /// It arrives so many seconds later; nobody waits for so long.
    Late(u64),
    /// The connection breaks at once; it arrives all the same, so many seconds later.
    BrokenOff(u64),
    /// A person sets the replicas that the operator is about to set, just before it arrives.
    Overtaken,
    /// Somebody else was faster (409).
    Conflict,
    /// Too many requests (429).
    Throttled,
    /// 500, and it was not written.
    Failed,
    /// The process is frozen for so many seconds before it is sent.
    FrozenBefore(u64),
    /// The process is frozen for so many seconds before it hears the answer.
    FrozenAfter(u64),
}

impl Blow {
    /// Its name, for the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CrashBefore => "killed before a request",
            Self::CrashAfter => "killed before the answer",
            Self::AnswerLost => "answer lost",
            Self::AnswerLate(_) => "answer late",
            Self::RequestLost => "request lost",
            Self::Late(_) => "request late",
            Self::BrokenOff(_) => "connection broken, request late",
            Self::Overtaken => "overtaken by a person",
            Self::Conflict => "conflict (409)",
            Self::Throttled => "throttled (429)",
            Self::Failed => "failed (500)",
            Self::FrozenBefore(_) => "frozen before a request",
            Self::FrozenAfter(_) => "frozen before the answer",
        }
    }
}

/// A blow that waits for its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ambush {
    /// Of which node.
    pub node: Node,
    /// For which request.
    pub op: Op,
    /// What befalls it.
    pub blow: Blow,
    /// It waits no longer.
    pub until: Micros,
}

/// What is wrong now. Per node: an instant until which it is.
#[derive(Debug, Default)]
pub struct Faults {
    /// The API server does not answer.
    pub api_down: [Micros; 2],
    /// Requests fail now and then.
    pub api_flaky: [Micros; 2],
    /// Watches show nothing new.
    pub watch_stalled: [Micros; 2],
    /// Metrics cannot be read.
    pub metrics_down: [Micros; 2],
    /// The node's clock is ahead by so many microseconds; a process reads it when it starts.
    pub skew: [i64; 2],
    /// Blows that wait.
    pub ambushes: Vec<Ambush>,
}

impl Faults {
    /// The blow that has waited for this request.
    pub fn ambushed(&mut self, now: Micros, node: Node, op: Op) -> Option<Blow> {
        self.ambushes.retain(|ambush| now < ambush.until);
        let place = self.ambushes.iter().position(|ambush| ambush.node == node && ambush.op == op)?;
        Some(self.ambushes.remove(place).blow)
    }

    /// Nothing is wrong any more.
    pub fn end(&mut self) {
        let skew = self.skew;
        *self = Self { skew, ..Self::default() };
    }
}
