//! Values in force that a policy leaves out, or that are derived from it. Pure.

use std::time::Duration;

use engine::causes::{self, CAUSES};
use engine::model::duration::format;
use engine::model::{Policy, Thresholds};

use super::objectives::percent;

/// Values as the status stores them: texts in the syntax of the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveReport {
    /// The time without data after which an objective is NoData.
    pub no_data_after: String,
    /// The time between two readings that can differ.
    pub resolution: Option<String>,
    /// The time after which an action without a verdict is inconclusive.
    pub within: String,
    /// The thresholds of causes.
    pub thresholds: Vec<ThresholdReport>,
}

/// The threshold of a cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdReport {
    /// The cause.
    pub cause: String,
    /// The age from which on it counts.
    pub older_than: Option<String>,
    /// The share above which it counts.
    pub above: Option<String>,
    /// The share below which it counts.
    pub below: Option<String>,
    /// The number above which it counts.
    pub more_than: Option<i32>,
}

/// The values in force of a policy. `resolution`: how often its sources can say something new.
pub(super) fn effective(policy: &Policy, resolution: Option<Duration>) -> EffectiveReport {
    let evaluation = &policy.evaluation;
    let thresholds = CAUSES.iter().filter(|cause| cause.thresholds != Thresholds::NONE).map(|cause| {
        let in_force = causes::thresholds(policy, cause);
        ThresholdReport {
            cause: cause.name.to_owned(),
            older_than: in_force.older_than.map(format),
            above: in_force.above.map(|share| percent(share, 6)),
            below: in_force.below.map(|share| percent(share, 6)),
            more_than: in_force.more_than.and_then(|count| i32::try_from(count).ok()),
        }
    });
    EffectiveReport {
        no_data_after: format(evaluation.interval.saturating_mul(evaluation.missing_data_after)),
        resolution: resolution.map(format),
        within: format(policy.verification.within),
        thresholds: thresholds.collect(),
    }
}
