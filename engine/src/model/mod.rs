//! The nouns of the engine. They hold values and answer questions about themselves; they decide nothing.

mod budget;
pub mod duration;
mod escalation;
mod finding;
mod incident;
mod ledger;
mod memory;
mod observations;
mod policy;
mod probe;
mod proposal;
pub mod ratio;
mod remediation;
mod resource;
mod situation;
mod snapshot;
mod source;
mod survey;
mod traffic;
mod undo;

pub use crate::actions::{Action, ActionKind, RungAction, ScaleStep};
pub(crate) use crate::base::forget;
pub use crate::base::{
    Autoscaler, ByName, FieldManager, MANAGER, Name, NoData, NoDataReason, Observed, SecretKeys, SecretRef,
    Shared, Target, TargetKind, TargetRef, Unsettled, Workload, WorkloadNow, earlier, elapsed, later,
};
pub use crate::dependencies::postgres::{
    Coverage, DatabaseGlance, DatabaseMemory, LockWait, PostgresDependency, PostgresFacts, PostgresLook,
    ServerIdentity, Session, SessionIdentity, SessionState, Slots, TransactionIdentity,
};
pub use crate::dependencies::redis::{
    COLD, CacheBaseline, CacheLoss, CacheMemory, CacheTrend, CacheUse, CommandUse, LossKind, RedisClients,
    RedisCounters, RedisDependency, RedisFacts, RedisHistory, RedisLook, RedisMemory, RedisRole, RedisServer,
    SLOW_PING, SlowCommand,
};
pub use crate::dependencies::{Dependency, DependencyKind, DependencyMemory, Facts, Learning, Place};
pub use budget::{Budget, BudgetUsage, Freeze, FreezeWindow, Limits, MaxMode, Reach};
pub use escalation::Escalation;
pub use finding::{Confidence, Evidence, Finding, Subject};
pub use incident::{ClosedIncident, Incident};
pub use ledger::{Admission, Draining, Entry, EntryKey, Fleet, LONGEST_COOLDOWN, Ledger};
pub(crate) use ledger::{in_the_last_hour, open_among};
pub use memory::{Baseline, BaselineWindow, BreachMemory, Memory, ObjectiveMemory};
pub use observations::{Measurement, Observations, Read};
pub use policy::{
    Databases, Evaluation, GuardSettings, LatencySeverity, Mode, Objective, ObjectiveKind, Policy, PolicyRef,
    RatioSeverity, Rung, Severity, Thresholds, UncommittedWrites, Verification,
};
pub use probe::{ProbeAnswer, Probed, Scheme, Timing};
pub use proposal::Candidate;
pub use remediation::{
    DEADLINE, EffectSeen, Executing, ObjectiveAfter, Outcome, Phase, Refusal, Remediation, RemediationSpec,
    RemediationStatus, VerifySpec,
};
pub use resource::{CacheKey, DatabaseKey, ResourceKey, WorkloadKey};
pub use situation::{Overall, Situation};
pub use snapshot::{OperatorHealth, PastAct, Pause, PausedBy, Snapshot};
pub use source::*;
pub use survey::{Root, STORM, Storm, StormOf, Survey, Tally};
pub use traffic::{
    Breach, BreachKind, Bucket, Measured, Reading, Scope, Traffic, TrafficWindow, Verdict, ViewTraffic,
};
pub use undo::{Change, DueBy, ReplicasChange, Undo, UndoSpec, UndoState, Watch};
