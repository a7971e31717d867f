//! How the objectives are evaluated, and when an action is judged.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::text::Duration;

/// How often and over which span the objectives are evaluated.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Time between two evaluations while the target is healthy; during a breach they come every second. 1s to 1h. Default: 15s.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("must be from 1s to 1h, such as 15s"))]
    #[serde(default = "Evaluation::interval")]
    pub interval: Duration,
    /// Span of traffic that one evaluation judges; at least four scrapes of the metrics backend. 5s to 1h. Default: 2m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('1h')").message("must be from 5s to 1h, such as 2m"))]
    #[serde(default = "Evaluation::window")]
    pub window: Duration,
    /// How long a breach must last before it opens an incident. 1s to 24h. Default: 1m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("must be from 1s to 24h, such as 1m"))]
    #[serde(default = "Evaluation::breach_for")]
    pub breach_for: Duration,
    /// How long the objectives must be met before an incident is closed. 1s to 24h. Default: 3m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("must be from 1s to 24h, such as 3m"))]
    #[serde(default = "Evaluation::recover_for")]
    pub recover_for: Duration,
    /// How long an objective may be without data before its data counts as unavailable; counted in whole intervals. 1s to 24h.
    /// Default: 45s.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("must be from 1s to 24h, such as 45s"))]
    #[serde(default = "Evaluation::no_data_after")]
    pub no_data_after: Duration,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            interval: Self::interval(),
            window: Self::window(),
            breach_for: Self::breach_for(),
            recover_for: Self::recover_for(),
            no_data_after: Self::no_data_after(),
        }
    }
}

impl Evaluation {
    fn interval() -> Duration {
        Duration::text("15s")
    }

    fn window() -> Duration {
        Duration::text("2m")
    }

    fn breach_for() -> Duration {
        Duration::text("1m")
    }

    fn recover_for() -> Duration {
        Duration::text("3m")
    }

    fn no_data_after() -> Duration {
        Duration::text("45s")
    }
}

/// When the effect of an action is judged.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// Time between the effect of an action and the beginning of the window that is judged. 1s to 1h. Default: 30s.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("must be from 1s to 1h, such as 30s"))]
    #[serde(default = "Verification::after")]
    pub after: Duration,
    /// Without a verdict by then the action is inconclusive; at least after + evaluation.window + 2 x evaluation.interval. 1s to
    /// 24h. Default: that sum, and no less than 5m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("must be from 1s to 24h, such as 5m"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Duration>,
}

impl Default for Verification {
    fn default() -> Self {
        Self { after: Self::after(), within: None }
    }
}

impl Verification {
    fn after() -> Duration {
        Duration::text("30s")
    }
}
