//! The policy's own limits, and how people are asked.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::text::{Duration, Label, Ratio, Schedule, TimeZone, Word};

/// Limits of this policy.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Guards {
    /// Maximum number of actions of this policy in any 60 minutes. Default: 6.
    #[schemars(range(min = 0, max = 1000))]
    #[serde(default = "Guards::max_actions_per_hour")]
    pub max_actions_per_hour: i32,
    /// Maximum number of attempts in one incident. Default: 3.
    #[schemars(range(min = 0, max = 100))]
    #[serde(default = "Guards::max_attempts_per_incident")]
    pub max_attempts_per_incident: i32,
    /// Time between two actions on the same resource. 1s to 24h. Default: 5m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("must be from 1s to 24h, such as 5m"))]
    #[serde(default = "Guards::cooldown")]
    pub cooldown: Duration,
    /// Share of the target's replicas that must be ready before any are added: with fewer, something else is wrong. Default: 60%.
    #[serde(default = "Guards::min_available")]
    pub min_available: Ratio,
    /// Times in which nothing, or in which alone something, is done. This version stores them and does not act on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub windows: Vec<Window>,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            max_actions_per_hour: Self::max_actions_per_hour(),
            max_attempts_per_incident: Self::max_attempts_per_incident(),
            cooldown: Self::cooldown(),
            min_available: Self::min_available(),
            windows: Vec::new(),
        }
    }
}

impl Guards {
    fn max_actions_per_hour() -> i32 {
        6
    }

    fn max_attempts_per_incident() -> i32 {
        3
    }

    fn cooldown() -> Duration {
        Duration::text("5m")
    }

    fn min_available() -> Ratio {
        Ratio("60%".to_owned())
    }
}

/// Words of a window's `type`.
pub const WINDOW_TYPES: &[&str] = &["Deny", "Allow"];

/// A time that comes again.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Name of the window; a refusal names it. Example: friday
    pub name: Label,
    /// Deny (nothing is begun while it is open) or Allow (something is begun only while one of these is open).
    pub r#type: Word,
    /// When it opens, in cron format: minute, hour, day of month, month, day of week. Example: "0 9 * * FRI"
    pub schedule: Schedule,
    /// How long it stays open. 1m to 168h. Example: 8h
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')").message("must be from 1m to 168h, such as 8h"))]
    pub duration: Duration,
    /// Time zone of the schedule, by its IANA name. Default: UTC. Example: Europe/Berlin
    #[serde(default = "Window::time_zone")]
    pub time_zone: TimeZone,
}

impl Window {
    fn time_zone() -> TimeZone {
        TimeZone("UTC".to_owned())
    }
}

/// Words of an approval's `scope`.
pub const APPROVAL_SCOPES: &[&str] = &["Once"];

/// How approvals are asked for, in mode Approve.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// How long an approval is waited for. 1m to 24h. Default: 15m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('24h')").message("must be from 1m to 24h, such as 15m"))]
    #[serde(default = "Approval::timeout")]
    pub timeout: Duration,
    /// What one approval covers: Once (one action). Default: Once.
    #[serde(default = "Approval::scope")]
    pub scope: Word,
}

impl Default for Approval {
    fn default() -> Self {
        Self { timeout: Self::timeout(), scope: Self::scope() }
    }
}

impl Approval {
    fn timeout() -> Duration {
        Duration::text("15m")
    }

    fn scope() -> Word {
        Word::text("Once")
    }
}
