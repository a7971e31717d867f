//! The ladder of remedies.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::warming::WarmCache;
use crate::api::text::{Duration, Label, Ratio, Word};

/// One rung of the ladder.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Rung {
    /// Its name.
    pub name: Label,
    /// The causes that it answers.
    #[schemars(length(min = 1, max = 16))]
    pub causes: Vec<Word>,
    /// What it does.
    pub action: Action,
    /// A mode of its own; it lowers the policy's and cannot raise it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Word>,
    /// What can be taken back (Scale) is due to be taken back after this time at the latest.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('168h')").message("must be from 1s to 168h"))]
    #[serde(default = "Rung::max_hold")]
    pub max_hold: Duration,
}

impl Rung {
    fn max_hold() -> Duration {
        Duration::text("1h")
    }
}

/// What a rung does.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("self.type == 'Scale' ? has(self.scale) : true").message("type Scale needs scale"))]
#[x_kube(validation = Rule::new("self.type == 'WarmCache' ? has(self.warmCache) : true").message("type WarmCache needs warmCache"))]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// CancelQueries, TerminateIdle, Scale or WarmCache.
    pub r#type: Word,
    /// For type CancelQueries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel_queries: Option<CancelQueries>,
    /// For type TerminateIdle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate_idle: Option<TerminateIdle>,
    /// For type Scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// For type WarmCache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_cache: Option<WarmCache>,
}

/// Adds replicas to the target, and takes them away again when calm has returned.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("has(self.connectionsPerPod) || self.noDatabase").message("connectionsPerPod says how many connections a pod opens to each declared database; where the target uses none, say noDatabase: true"))]
#[serde(rename_all = "camelCase")]
pub struct Scale {
    /// How much is added at a time, as a share of the replicas there are; at least one replica.
    #[serde(default = "Scale::step")]
    pub step: Ratio,
    /// Never more replicas than these.
    #[schemars(range(min = 1, max = 10_000))]
    pub max: i32,
    /// Connections that one pod opens to each declared database: nothing is added that would take one of them above 90% of
    /// its slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub connections_per_pod: Option<i32>,
    /// The target uses no database. Without this, and with none declared, nothing is added: that a database is well is not
    /// known.
    #[serde(default)]
    pub no_database: bool,
}

impl Scale {
    fn step() -> Ratio {
        Ratio("50%".to_owned())
    }
}

/// Cancels the one statement that is the cause.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CancelQueries {
    /// Whether a transaction that has written may be cancelled: Deny or Allow. What blocks others nearly always has written
    /// (`FOR UPDATE` counts too), so curing a BlockingQuery in practice needs Allow.
    #[serde(default = "deny")]
    pub writers: Word,
    /// When the statement still runs so long after it was cancelled, and the breach goes on, its session is ended, by an act
    /// of its own; never where it is left out.
    /// Needs TerminateIdle to be allowed too: it ends a session.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("must be from 1s to 1h"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate_after: Option<Duration>,
}

/// Ends the session that is idle in a transaction and keeps others waiting. There is no statement that could be cancelled.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TerminateIdle {
    /// So long it must have been idle.
    #[serde(default = "TerminateIdle::min_idle")]
    pub min_idle: Duration,
    /// Whether a transaction that has written may be ended, its work lost: Deny or Allow. Who holds a row's lock has nearly
    /// always written (`FOR UPDATE` counts too).
    #[serde(default = "deny")]
    pub writers: Word,
}

impl TerminateIdle {
    fn min_idle() -> Duration {
        Duration::of(std::time::Duration::from_secs(120))
    }
}

impl Default for TerminateIdle {
    fn default() -> Self {
        Self { min_idle: Self::min_idle(), writers: deny() }
    }
}

fn deny() -> Word {
    Word::text("Deny")
}
