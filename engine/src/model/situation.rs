//! The assessment of a snapshot: verdicts, open incident and causes. `tick` makes it; guards and `advance` read it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BreachMemory, ByName, CacheTrend, Finding, Incident, Reading, Root, Severity};

/// All objectives together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Overall {
    /// At least one objective is broken; the worst severity.
    Breached(Severity),
    /// All objectives are kept.
    Healthy,
    /// None is known to be broken, and not all are known to be kept.
    NoData,
}

/// What was made of a snapshot. The gate looks at the newest one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Situation {
    /// The instant.
    pub now: Timestamp,
    /// The verdicts, in the policy's order.
    pub readings: Vec<Reading>,
    /// All of them together.
    pub overall: Overall,
    /// The breach that is being watched.
    pub breach: Option<BreachMemory>,
    /// The open incident, one that this tick opens included.
    pub incident: Option<Incident>,
    /// How each Redis dependency does, by its name; not there where it cannot be told yet.
    pub caches: ByName<CacheTrend>,
    /// The causes, roots before symptoms.
    pub findings: Vec<Finding>,
    /// The culprits that would be acted on, as far as it is this policy's to say.
    pub proposed: Vec<Root>,
    /// For how long the objectives have been kept without a break.
    pub calm: Duration,
}
