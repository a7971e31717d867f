//! When people have to decide.

use serde::{Deserialize, Serialize};

/// Why people have to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Escalation {
    /// Everything could be read, and no known cause was found.
    NoCauseFound,
    /// No rung answers what was found.
    NoRemedy,
    /// What was tried did not help, and no rung is left.
    LadderExhausted,
    /// The incident has used up its attempts.
    AttemptsExhausted,
    /// The same fix is needed again and again.
    Flapping,
    /// What might help has not helped of late.
    Ineffective,
    /// Whether an act was done is not known.
    OutcomeUnknown,
    /// Whether an act helped is not known.
    Inconclusive,
}
