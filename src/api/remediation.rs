//! `LatencyRemediation`: one action, from admission to outcome.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::actions;
use super::dependencies::{Dependency, SecretRef};
use super::incident::PolicyReference;
use super::policy::{Evaluation, Objective, TargetRef};
use super::text::{Duration, Instant, Label, ObjectName, RoleName, Sentence, Word};

/// One action, from admission to outcome; or, as a dry run, what would have been done. Written by the operator. It outlives
/// its policy: all of them together are the ledger of what was done to which resource.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "latency-operator.dev",
    version = "v1alpha1",
    kind = "LatencyRemediation",
    plural = "latencyremediations",
    shortname = "lr",
    category = "latency",
    namespaced,
    status = "LatencyRemediationStatus",
    derive = "PartialEq",
    doc = "One action, from admission to outcome; or, as a dry run, what would have been done. Written by the operator.",
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name"),
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action.type"),
    printcolumn(name = "Cause", type_ = "string", json_path = ".spec.cause"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "Undo", type_ = "string", json_path = ".status.undo.state"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self == oldSelf").message("the spec of a LatencyRemediation is immutable"))]
#[serde(rename_all = "camelCase")]
pub struct LatencyRemediationSpec {
    /// The policy that it was made for.
    pub policy_ref: PolicyReference,
    /// The workload that is guarded.
    pub target_ref: TargetRef,
    /// The incident.
    pub incident: ObjectName,
    /// The rung of the policy's ladder.
    pub rung: Label,
    /// Counts from 1 within incident and rung.
    #[schemars(range(min = 1))]
    pub attempt: i32,
    /// It is only written down, never done.
    #[serde(default)]
    pub dry_run: bool,
    /// The cause that it answers.
    pub cause: Word,
    /// How sure that was: Possible, Likely or Certain.
    pub confidence: Word,
    /// What was found, with the numbers.
    pub reason: Sentence,
    /// What is to be done.
    pub action: Action,
    /// Rest of the resource after it.
    pub cooldown: Duration,
    /// Length of time from the passing of the gate after which nothing is sent any more.
    pub deadline: Duration,
    /// How it is judged.
    pub verify: Verify,
    /// How it is taken back, where it can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<UndoSpec>,
}

/// How an act is taken back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct UndoSpec {
    /// It is due so long after the act, if nothing else has made it due before.
    pub max_hold: Duration,
    /// So many replicas are taken away at a time, a full window apart.
    #[schemars(range(min = 1))]
    pub step: i32,
    /// What must be seen to be well before capacity is taken back: a copy of the policy's, which may be gone by then.
    pub watch: Watch,
}

/// What is looked at while something is owed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Watch {
    /// How it is looked.
    pub evaluation: Evaluation,
    /// What users are promised.
    #[schemars(length(max = 8))]
    pub objectives: Vec<Objective>,
    /// What the target depends on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub dependencies: Vec<Dependency>,
}

/// What is to be done.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// CancelQuery, TerminateIdle, Scale or WarmCache.
    pub r#type: Word,
    /// For type CancelQuery: the statement that is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_query: Option<SessionTarget>,
    /// For type CancelQuery: the session that is ended, because its statement was cancelled and runs all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate_query: Option<SessionTarget>,
    /// For type TerminateIdle: the session that is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate_idle: Option<TerminateIdle>,
    /// For type Scale: the replicas that are set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// For type WarmCache: the cache that is warmed, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_cache: Option<WarmCache>,
}

/// Warm one cache.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WarmCache {
    /// The dependency's name in the policy.
    pub dependency: Label,
    /// The Secret that leads to the cache.
    pub secret_ref: SecretRef,
    /// The cache that was found cold; another one is not warmed.
    pub cache: CacheServer,
    /// How, as the rung said it.
    pub settings: actions::WarmCache,
}

/// One database of one Redis server. A restart makes no other one of it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CacheServer {
    /// The host as the Secret names it, qualified with the namespace.
    #[schemars(length(max = 253))]
    pub host: String,
    /// The port.
    #[schemars(range(min = 0, max = 65_535))]
    pub port: i32,
    /// The number of the database.
    #[schemars(range(min = 0))]
    pub database: i32,
    /// The address that the operator connected to.
    #[schemars(length(max = 320))]
    pub peer: String,
}

/// Set the replicas of a workload.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Scale {
    /// Which workload.
    pub target_ref: TargetRef,
    /// Which life of it; another one of the same name is not touched.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The replicas that were seen; with any other number nothing is done.
    #[schemars(range(min = 0))]
    pub from: i32,
    /// The replicas that are to be.
    #[schemars(range(min = 0))]
    pub to: i32,
}

/// End a session that is idle in a transaction.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TerminateIdle {
    /// Which session.
    pub target: SessionTarget,
    /// Since when it is idle; another instant means that it has done something since, and it is left alone.
    pub idle_since: Instant,
    /// So long it must have been idle.
    pub min_idle: Duration,
}

/// One session of one database, and its statement.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SessionTarget {
    /// The dependency's name in the policy.
    pub dependency: Label,
    /// The Secret that leads to the database.
    pub secret_ref: SecretRef,
    /// The server that was diagnosed; another one is not touched.
    pub server: Server,
    /// The statement; another one of the same session is not touched.
    pub session: Session,
    /// What happens to a transaction that has written: Protect (it is not touched) or RollBack.
    pub uncommitted_writes: Word,
}

/// A database server, and which life of it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Its system identifier; clones share it.
    #[schemars(length(max = 32))]
    pub system_identifier: String,
    /// The database.
    #[schemars(length(max = 63))]
    pub database: String,
    /// The address that the operator connected to.
    #[schemars(length(max = 320))]
    pub peer: String,
    /// When it was started.
    pub started_at: Instant,
}

/// One statement of one session. Its text is not here.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The backend's process id.
    pub pid: i32,
    /// When the backend was started.
    pub backend_start: Instant,
    /// When the statement was started.
    pub query_start: Instant,
    /// The role.
    pub role: RoleName,
    /// The query id, or a hash of the text where the server computes none.
    #[schemars(length(max = 64))]
    pub fingerprint: String,
}

/// How an act is judged.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// The judged window begins this long after the effect.
    pub after: Duration,
    /// Without a verdict by then it is inconclusive.
    pub within: Duration,
    /// The window's length.
    pub window: Duration,
    /// Where something stronger follows: without an effect by then, and with the breach still there, the act has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect_within: Option<Duration>,
}

/// What has become of it. Written by the remediation controller only.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct LatencyRemediationStatus {
    /// Admitted (also where there is no status yet), Executing, Verifying, Completed, Refused, Failed, DryRun or
    /// OutcomeUnknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Word>,
    /// Who passed the gate: the intent, durable before the effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executing: Option<Executing>,
    /// When the effect was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acted_at: Option<Instant>,
    /// Whether the effect was seen: Confirmed, NotSeen or Unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<Word>,
    /// When that was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect_at: Option<Instant>,
    /// Where the objective stands: Recovered, NotRecovered, Worse or Inconclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<Word>,
    /// The two together: Healed, RecoveredUnattributed, Ineffective, Worse or Inconclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Word>,
    /// How taking it back stands, from the passing of the gate on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// The guard that refused, in the phase Refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<RefusedBy>,
    /// One sentence, with the numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Sentence>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Instant>,
}

/// How taking an act back stands. Written before the act.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Undo {
    /// None, Owed, Done, Contested (somebody else's later value stands) or Abandoned (it stays as it is).
    pub state: Word,
    /// The replicas before the act.
    #[schemars(range(min = 0))]
    pub baseline: i32,
    /// The replicas that the operator wrote last.
    #[schemars(range(min = 0))]
    pub wrote: i32,
    /// The replicas that are about to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub writing: Option<i32>,
    /// When it is due at the latest; once it is due, since when.
    pub due_at: Instant,
    /// What made it due: Calm, MaxHold, Worse or Drain (the operator was being uninstalled).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_by: Option<Word>,
    /// When the last step was seen to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stepped_at: Option<Instant>,
    /// It is due by MaxHold and cannot be carried out; that has been said.
    #[serde(default)]
    pub overdue: bool,
}

/// Who passed the gate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Executing {
    /// The operator's identity.
    #[schemars(length(max = 253))]
    pub holder: String,
    /// Its term: the Lease's transitions.
    #[schemars(range(min = 0))]
    pub epoch: i64,
    /// When, by its clock.
    pub started_at: Instant,
    /// How long an effect may take: counted by the holder from before the write was sent, by a successor from when it first
    /// saw it.
    pub deadline: Duration,
}

/// The guard that refused.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct RefusedBy {
    /// The guard.
    pub guard: Word,
    /// Why, with the numbers.
    pub message: Sentence,
}
