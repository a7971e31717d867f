//! The nouns of the engine. They hold values and answer questions about themselves; they decide nothing.

mod budget;
pub mod duration;
mod escalation;
mod finding;
mod incident;
mod ledger;
mod memory;
mod nodata;
mod observations;
mod policy;
mod probe;
mod proposal;
pub mod ratio;
mod remediation;
mod resource;
mod secret;
mod situation;
mod snapshot;
mod survey;
mod traffic;
mod undo;
mod warm;
mod workload;

pub(crate) use crate::base::forget;
pub use crate::base::{ByName, Name, Shared, earlier, elapsed, later};
pub use crate::dependencies::postgres::{
    Coverage, DatabaseGlance, DatabaseMemory, LockWait, PostgresFacts, PostgresLook, ServerIdentity, Session,
    SessionIdentity, SessionState, Slots, TransactionIdentity,
};
pub use crate::dependencies::redis::{
    COLD, CacheBaseline, CacheLoss, CacheMemory, CacheTrend, CommandUse, LossKind, RedisClients,
    RedisCounters, RedisFacts, RedisHistory, RedisLook, RedisMemory, RedisRole, RedisServer, SLOW_PING,
    SlowCommand,
};
pub use crate::dependencies::{DependencyKind, DependencyMemory, Facts, Learning};
pub use budget::{Budget, Freeze, FreezeWindow, Limits};
pub use escalation::Escalation;
pub use finding::{Confidence, Evidence, Finding, Subject};
pub use incident::{ClosedIncident, Incident};
pub(crate) use ledger::in_the_last_hour;
pub use ledger::{Admission, Draining, Entry, EntryKey, Fleet, LONGEST_COOLDOWN, Ledger};
pub use memory::{Baseline, BaselineWindow, BreachMemory, Memory, ObjectiveMemory};
pub use nodata::{NoData, NoDataReason, Observed};
pub use observations::{Measurement, Observations, Read};
pub use policy::{
    CacheUse, Databases, Dependency, Evaluation, GuardSettings, LatencySeverity, Mode, Objective,
    ObjectiveKind, Policy, PolicyRef, PostgresDependency, Preset, ProbeSource, RatioSeverity,
    RedisDependency, Rung, RungAction, ScaleSettings, ScaleStep, Severity, Source, TargetKind, TargetRef,
    Thresholds, UncommittedWrites, Verification, ViewSource,
};
pub use probe::{ProbeAnswer, Probed, Scheme, Timing};
pub use proposal::{Action, ActionKind, Candidate, Scale, SessionTarget, TerminateIdle};
pub use remediation::{
    DEADLINE, EffectSeen, Executing, ObjectiveAfter, Outcome, Phase, Refusal, Remediation, RemediationSpec,
    RemediationStatus, VerifySpec,
};
pub use resource::{CacheKey, DatabaseKey, ResourceKey, WorkloadKey};
pub use secret::{SecretKeys, SecretRef};
pub use situation::{Overall, Situation};
pub use snapshot::{OperatorHealth, PastAct, Pause, PausedBy, Snapshot, Target};
pub use survey::{Root, STORM, Storm, StormOf, Survey, Tally};
pub use traffic::{
    Breach, BreachKind, Bucket, Measured, Reading, Scope, Traffic, TrafficWindow, Verdict, ViewTraffic,
};
pub use undo::{DueBy, Undo, UndoSpec, UndoState, Watch};
pub use warm::{WarmCache, WarmSettings, Warmed};
pub use workload::{Autoscaler, FieldManager, MANAGER, Unsettled, Workload, WorkloadNow};
