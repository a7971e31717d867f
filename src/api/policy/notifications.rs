//! Channels besides the Events.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::api::text::{Duration, Label, ObjectName, Word};

/// Words of a notification's `type`.
pub const NOTIFICATION_TYPES: &[&str] = &["Slack", "Teams", "PagerDuty", "Alertmanager", "Webhook"];
/// Words of a notification's `events`.
pub const NOTIFICATION_EVENTS: &[&str] = &["Opened", "Acted", "Escalated", "Closed"];

/// Channel that receives notifications of incidents.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Name of the notification. Example: oncall
    pub name: Label,
    /// Slack, Teams, PagerDuty, Alertmanager or Webhook.
    pub r#type: Word,
    /// Secret of the policy's namespace with the address and the key of the channel. Example: {name: slack}
    pub secret_ref: NotificationSecretRef,
    /// Least severity of an incident that is sent: P0, P1 or P2. Default: P1.
    #[serde(default = "Notification::min_severity")]
    pub min_severity: Word,
    /// What is sent: Opened, Acted, Escalated and Closed. Default: all of them. Example: [Opened, Escalated]
    #[serde(default = "Notification::events")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub events: Vec<Word>,
}

/// A Secret of the policy's namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct NotificationSecretRef {
    /// Name of the Secret. Example: slack
    pub name: ObjectName,
}

impl Notification {
    fn min_severity() -> Word {
        Word::text("P1")
    }

    fn events() -> Vec<Word> {
        NOTIFICATION_EVENTS.iter().map(|event| Word::text(event)).collect()
    }
}

/// When an open incident is escalated to people.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Escalation {
    /// How long an incident may be open before it is escalated to people in any case. 1m to 24h. This version stores it and does not act
    /// on it. Default: 30m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('24h')").message("must be from 1m to 24h, such as 30m"))]
    #[serde(default = "Escalation::after")]
    pub after: Duration,
}

impl Default for Escalation {
    fn default() -> Self {
        Self { after: Self::after() }
    }
}

impl Escalation {
    fn after() -> Duration {
        Duration::text("30m")
    }
}
