//! The nouns of the engine. They hold values and answer questions about themselves; they decide nothing.
//!
//! Instants are [`jiff::Timestamp`]s (UTC), spans are [`std::time::Duration`]s. Every map is ordered, so that the same
//! input always yields the same output, byte for byte.

mod budget;
mod cache;
pub mod duration;
mod finding;
mod incident;
mod ledger;
mod nodata;
mod policy;
mod postgres;
mod probe;
mod proposal;
pub mod ratio;
mod record;
mod redis;
mod remediation;
mod resource;
mod shared;
mod situation;
mod snapshot;
mod state;
mod survey;
mod traffic;
mod undo;
mod warm;
mod workload;

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;

pub use budget::{Budget, Freeze, FreezeWindow, Limits};
pub use cache::{COLD, CacheBaseline, CacheLoss, CacheMemory, CacheTrend, LossKind, SLOW_PING};
pub use finding::{Confidence, Evidence, Finding, Subject};
pub use incident::{ClosedIncident, Incident};
pub(crate) use ledger::in_the_last_hour;
pub use ledger::{Admission, Draining, Entry, EntryKey, Fleet, LONGEST_COOLDOWN, Ledger};
pub use nodata::{NoData, NoDataReason, Observed};
pub use policy::{
    CacheUse, Dependency, Evaluation, GuardSettings, LatencySeverity, Mode, Objective, ObjectiveKind, Policy,
    PolicyRef, PostgresDependency, Preset, ProbeSource, RatioSeverity, RedisDependency, Rung, RungAction,
    ScaleSettings, Severity, Source, TargetKind, TargetRef, Thresholds, Verification, ViewSource, Writers,
};
pub use postgres::{
    Coverage, LockWait, PostgresFacts, PostgresLook, ServerIdentity, Session, SessionIdentity, SessionState,
    Slots,
};
pub use probe::{ProbeAnswer, Probed, Scheme, Timing};
pub use proposal::{
    Action, ActionKind, Candidate, GuardVerdict, Proposal, Scale, SessionTarget, TerminateIdle,
};
pub use record::{DecisionRecord, RecordKind, Said, Slot};
pub use redis::{
    CommandUse, RedisClients, RedisCounters, RedisFacts, RedisMemory, RedisRole, RedisServer, SlowCommand,
};
pub use remediation::{
    DEADLINE, EffectSeen, Executing, ObjectiveAfter, Outcome, Phase, Refusal, Remediation, RemediationSpec,
    RemediationStatus, VerifySpec,
};
pub use resource::{CacheKey, DatabaseKey, ResourceKey, WorkloadKey};
pub use shared::{ByName, Shared};
pub use situation::{Overall, Situation};
pub use snapshot::{OperatorHealth, PastAct, Pause, PausedBy, Snapshot, Target};
pub use state::{
    Baseline, BaselineWindow, BreachMemory, DatabaseGlance, DatabaseMemory, ObjectiveMemory, State,
    TransactionIdentity,
};
pub use survey::{Root, STORM, Survey, Tally};
pub use traffic::{
    Breach, BreachKind, Bucket, Measured, Reading, Scope, Traffic, TrafficWindow, Verdict, ViewTraffic,
};
pub use undo::{DueBy, Undo, UndoSpec, UndoState, Watch};
pub use warm::{WarmCache, WarmSettings, Warmed};
pub use workload::{Autoscaler, FieldManager, MANAGER, Workload, WorkloadNow};

/// The name of a cause, a guard or an action: a constant of the engine's tables, or the text of a stored record.
pub type Name = Cow<'static, str>;

/// How long ago `then` was at `now`; zero where `then` is not in the past (clocks differ, and time must not run backwards).
#[must_use]
pub fn elapsed(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO)
}

/// `at + span`, held at the end of representable time instead of failing.
#[must_use]
pub fn later(at: Timestamp, span: Duration) -> Timestamp {
    at.saturating_add(span).unwrap_or(Timestamp::MAX)
}

/// `at - span`, held at the beginning of representable time instead of failing.
#[must_use]
pub fn earlier(at: Timestamp, span: Duration) -> Timestamp {
    at.saturating_sub(span).unwrap_or(Timestamp::MIN)
}
