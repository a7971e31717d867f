//! From traffic to verdicts: `Breached`, `Healthy` or `NoData(why)`, by counts and never by interpolation.

mod errors;
mod hanging;
mod latency;

use jiff::Timestamp;

use crate::model::{
    BaselineWindow, Breach, Evaluation, Measured, NoData, NoDataReason, Objective, ObjectiveKind,
    ObjectiveMemory, Observed, Reading, Traffic, Verdict,
};

pub use latency::quantile;

/// The verdict on one objective, from its traffic and its healthy windows.
#[must_use]
pub fn judge(
    objective: &Objective,
    traffic: Option<&Observed<Traffic>>,
    memory: &ObjectiveMemory,
    evaluation: &Evaluation,
    now: Timestamp,
) -> Reading {
    let (at, traffic) = match traffic {
        Some(Observed::Known { at, value }) => (*at, value),
        Some(Observed::Missing(no_data)) => return no_reading(objective, now, no_data.clone()),
        None => {
            let no_data =
                NoData::new(NoDataReason::NotYetRead, "nothing has been read for this objective yet");
            return no_reading(objective, now, no_data);
        }
    };
    let (verdict, measured) = match hanging::judge(objective, traffic, memory, evaluation, now) {
        hanging::Answer::Hangs(measured, breach) => (Verdict::Breached(breach), Some(measured)),
        hanging::Answer::CannotTell(no_data) => (Verdict::NoData(no_data), Some(counted(traffic))),
        hanging::Answer::Flows => match &objective.kind {
            ObjectiveKind::Latency { quantile, target, severities } => {
                latency::judge(traffic, *quantile, *target, severities)
            }
            ObjectiveKind::ErrorRatio { target, severities } => errors::judge(traffic, *target, severities),
        },
    };
    Reading { objective: objective.name.clone(), at, verdict, measured }
}

/// Takes a reading into the objective's memory: healthy windows become the baseline, missing ones are counted.
pub fn remember(memory: &mut ObjectiveMemory, reading: &Reading, traffic: Option<&Traffic>) {
    match (&reading.verdict, traffic) {
        (Verdict::NoData(_), _) => memory.missing = memory.missing.saturating_add(1),
        (Verdict::Breached(_), _) | (Verdict::Healthy, None) => memory.missing = 0,
        (Verdict::Healthy, Some(traffic)) => {
            memory.missing = 0;
            if let Some(in_flight) = traffic.in_flight.known() {
                memory.baseline.learn(BaselineWindow {
                    at: reading.at,
                    completed: traffic.completed(),
                    in_flight: *in_flight,
                });
            }
        }
    }
}

fn no_reading(objective: &Objective, at: Timestamp, no_data: NoData) -> Reading {
    Reading { objective: objective.name.clone(), at, verdict: Verdict::NoData(no_data), measured: None }
}

fn counted(traffic: &Traffic) -> Measured {
    Measured {
        requests: traffic.completed(),
        value: None,
        sentence: format!("{:.0} requests completed", traffic.completed()),
        notes: Vec::new(),
    }
}

/// A breach, as bad as the worst level that `exceeds` says yes to.
fn breach_of(kind: crate::model::BreachKind, levels: impl Iterator<Item = crate::model::Severity>) -> Breach {
    Breach { kind, severity: levels.max().unwrap_or(crate::model::Severity::P2) }
}
