//! From traffic to verdicts: `Breached`, `Healthy` or `NoData(why)`, by counts and never by interpolation.

mod errors;
mod hanging;
mod latency;
pub mod probe;
mod scope;

use jiff::Timestamp;

use crate::model::{
    BaselineWindow, Breach, BreachKind, Measured, NoData, NoDataReason, Objective, ObjectiveKind,
    ObjectiveMemory, Read, Reading, Scope, Severity, Traffic, Verdict,
};

pub use latency::quantile;

/// Minimum number of requests in a window: with fewer it says nothing, unless requests hang.
pub const MIN_REQUESTS: u64 = 50;

/// The verdict on one objective, from its traffic and its healthy windows. `hung` names a probe of the same policy that is
/// not answered in time, if there is one.
#[must_use]
pub fn judge(
    objective: &Objective,
    traffic: Option<Read<'_, Traffic>>,
    hung: Option<&str>,
    memory: &ObjectiveMemory,
    now: Timestamp,
) -> Reading {
    let (at, traffic) = match traffic {
        Some(Ok(reading)) => reading,
        Some(Err(no_data)) => return no_reading(objective, now, no_data.clone()),
        None => {
            let no_data =
                NoData::new(NoDataReason::NotYetRead, "nothing has been read for this objective yet");
            return no_reading(objective, now, no_data);
        }
    };
    let (verdict, measured) = match hanging::judge(objective, traffic, hung, memory, now) {
        hanging::Answer::Hangs(measured, breach) => (Verdict::Breached(breach), Some(measured)),
        hanging::Answer::CannotTell(no_data) => (Verdict::NoData(no_data), Some(counted(traffic))),
        hanging::Answer::Flows => match &objective.kind {
            ObjectiveKind::Latency { quantile, target, severities } => {
                latency::judge(traffic, *quantile, *target, severities, objective.severity)
            }
            ObjectiveKind::ErrorRatio { target, severities } => {
                errors::judge(traffic, *target, severities, objective.severity)
            }
        },
    };
    let scope = scope_of(objective, traffic, &verdict);
    Reading { objective: objective.name.clone(), at, verdict, measured, scope }
}

/// How much of the target is slow, where something is.
fn scope_of(objective: &Objective, traffic: &Traffic, verdict: &Verdict) -> Option<Scope> {
    let Verdict::Breached(breach) = verdict else { return None };
    match (breach.kind, &objective.kind) {
        (BreachKind::Slow, ObjectiveKind::Latency { quantile, target, .. }) => {
            Some(scope::judge(traffic, *quantile, *target))
        }
        (BreachKind::Hanging, _) => Some(Scope::Unknown(NoData::new(
            NoDataReason::Empty,
            "requests that never finish are counted in no view",
        ))),
        (BreachKind::Slow, ObjectiveKind::ErrorRatio { .. }) | (BreachKind::Errors, _) => None,
    }
}

/// Takes a reading into the objective's memory: healthy windows become the baseline, missing ones are counted.
pub fn remember(memory: &mut ObjectiveMemory, reading: &Reading, traffic: Option<&Traffic>) {
    memory.missing.note(matches!(reading.verdict, Verdict::NoData(_)), reading.at);
    if let (Verdict::Healthy, Some(traffic)) = (&reading.verdict, traffic)
        && let Some(in_flight) = traffic.in_flight.known()
    {
        memory.baseline.learn(BaselineWindow {
            at: reading.at,
            completed: traffic.completed(),
            in_flight: *in_flight,
        });
    }
}

fn no_reading(objective: &Objective, at: Timestamp, no_data: NoData) -> Reading {
    Reading {
        objective: objective.name.clone(),
        at,
        verdict: Verdict::NoData(no_data),
        measured: None,
        scope: None,
    }
}

fn counted(traffic: &Traffic) -> Measured {
    Measured {
        requests: traffic.completed(),
        value: None,
        bound: None,
        sentence: format!("{:.0} requests completed", traffic.completed()),
        notes: Vec::new(),
    }
}

/// A breach, as bad as the worst level that `exceeds` says yes to.
/// A breach is as bad as the worst of the levels that it exceeds, and at least as bad as the objective says.
fn breach_of(kind: BreachKind, least: Severity, levels: impl Iterator<Item = Severity>) -> Breach {
    Breach { kind, severity: levels.fold(least, Severity::max) }
}

#[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
fn f64_of(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guards::testing::Setup;
    use crate::model::{Bucket, Observed, RatioSeverity, TrafficWindow};

    fn scope(kind: ObjectiveKind, completed: f64, within: f64, errors: f64) -> Option<Scope> {
        let policy = Setup::acting().snapshot.policy;
        let objective = Objective { kind, ..policy.objectives[0].clone() };
        let now = Timestamp::UNIX_EPOCH;
        let known = |value| Observed::Known { at: now, value };
        let traffic = Traffic::from(TrafficWindow {
            window: policy.evaluation.window,
            buckets: vec![Bucket { le: 0.5, count: within }, Bucket { le: f64::INFINITY, count: completed }],
            in_flight: known(80.0),
            errors: known(errors),
            views: Observed::missing(NoDataReason::NotYetRead, "not yet"),
        });
        let mut memory = ObjectiveMemory::default();
        for at in [now; 3] {
            memory.baseline.learn(BaselineWindow { at, completed: 1000.0, in_flight: 4.0 });
        }
        judge(&objective, Some(Ok((now, &traffic))), None, &memory, now).scope
    }

    #[test]
    fn only_what_is_slow_or_hangs_has_a_scope() {
        let latency = || ObjectiveKind::Latency {
            quantile: 0.95,
            target: Duration::from_millis(500),
            severities: vec![],
        };
        let errors = || ObjectiveKind::ErrorRatio {
            target: 0.01,
            severities: vec![RatioSeverity { level: Severity::P1, above: 0.05 }],
        };
        let not_yet = Scope::Unknown(NoData::new(NoDataReason::NotYetRead, "not yet"));
        assert_eq!(scope(latency(), 1000.0, 900.0, 0.0), Some(not_yet), "slow");
        assert_eq!(scope(latency(), 1000.0, 1000.0, 900.0), None, "healthy");
        assert_eq!(scope(errors(), 1000.0, 0.0, 900.0), None, "failing");
        for kind in [latency(), errors()] {
            let Some(Scope::Unknown(no_data)) = scope(kind, 0.0, 0.0, 0.0) else { panic!("hanging") };
            assert!(no_data.detail.contains("in no view"), "{no_data}");
        }
    }
}
