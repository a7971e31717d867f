//! The objectives of a policy's status, and the values in force.

use controller::report::{EffectiveReport, Judged, ObjectiveReport, ThresholdReport};

use super::named;
use crate::api::policy::{Effective, EffectiveEvaluation, EffectiveVerification, ObjectiveStatus, Threshold};
use crate::api::text::{Duration, Instant, Label, Ratio, Word};

/// One whose verdict this version does not know is left out: it is judged and written again.
pub(super) fn objective(status: &ObjectiveStatus) -> Option<ObjectiveReport> {
    Some(ObjectiveReport {
        name: status.name.0.clone(),
        verdict: named(Judged::ALL, &status.verdict)?,
        measured: status.measured.clone(),
        threshold: status.threshold.clone(),
        bucket_bound: status.bucket_bound.clone(),
        requests: status.requests,
        since: status.since.0,
        measured_at: status.measured_at.0,
    })
}

pub(super) fn objective_of(report: &ObjectiveReport) -> ObjectiveStatus {
    ObjectiveStatus {
        name: Label(report.name.clone()),
        verdict: Word(report.verdict.to_string()),
        measured: report.measured.clone(),
        threshold: report.threshold.clone(),
        bucket_bound: report.bucket_bound.clone(),
        requests: report.requests,
        since: Instant(report.since),
        measured_at: Instant(report.measured_at),
    }
}

pub(super) fn effective(status: &Effective) -> EffectiveReport {
    let text = |duration: &Duration| duration.0.clone();
    EffectiveReport {
        no_data_after: text(&status.evaluation.no_data_after),
        resolution: status.evaluation.resolution.as_ref().map(text),
        within: text(&status.verification.within),
        thresholds: status.thresholds.iter().map(threshold).collect(),
    }
}

pub(super) fn effective_of(report: &EffectiveReport) -> Effective {
    Effective {
        evaluation: EffectiveEvaluation {
            no_data_after: Duration(report.no_data_after.clone()),
            resolution: report.resolution.clone().map(Duration),
        },
        verification: EffectiveVerification { within: Duration(report.within.clone()) },
        thresholds: report.thresholds.iter().map(threshold_of).collect(),
    }
}

fn threshold(status: &Threshold) -> ThresholdReport {
    ThresholdReport {
        cause: status.cause.0.clone(),
        older_than: status.older_than.as_ref().map(|text| text.0.clone()),
        above: status.above.as_ref().map(|text| text.0.clone()),
        below: status.below.as_ref().map(|text| text.0.clone()),
        more_than: status.more_than,
    }
}

fn threshold_of(report: &ThresholdReport) -> Threshold {
    Threshold {
        cause: Word(report.cause.clone()),
        older_than: report.older_than.clone().map(Duration),
        above: report.above.clone().map(Ratio),
        below: report.below.clone().map(Ratio),
        more_than: report.more_than,
    }
}
