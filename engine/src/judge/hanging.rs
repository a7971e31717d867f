//! Requests that never finish are in no histogram: the worst incident looks like silence.
//!
//! A window hangs when its completions are below 10% of the median of the healthy windows while the requests in flight
//! are at or above their own median, and not none. A window with few completions and few in flight is merely quiet.
//! A probe of the same policy that is not answered in time waits as well, whatever the exporter says about others; and
//! without a baseline it alone tells too few requests from none that are served.

use jiff::Timestamp;

use super::{MIN_REQUESTS, breach_of, f64_of};
use crate::model::{
    Breach, BreachKind, Measured, NoData, NoDataReason, Objective, ObjectiveKind, ObjectiveMemory, Severity,
    Traffic,
};

/// Completions below this share of their median are a standstill.
const STANDSTILL: f64 = 0.1;

pub(super) enum Answer {
    /// Requests hang.
    Hangs(Measured, Breach),
    /// Requests flow: judge their latency.
    Flows,
    /// There are too few requests to judge, and hanging cannot be told from quiet.
    CannotTell(NoData),
}

pub(super) fn judge(
    objective: &Objective,
    traffic: &Traffic,
    hung: Option<&str>,
    memory: &ObjectiveMemory,
    now: Timestamp,
) -> Answer {
    let completed = traffic.completed();
    let needed = f64_of(MIN_REQUESTS);
    let in_flight = traffic.in_flight.known().copied();
    let medians = memory.baseline.medians(now);
    let hangs = |sentence: String| {
        Answer::Hangs(
            Measured { requests: completed, value: None, bound: None, sentence, notes: Vec::new() },
            breach_of(BreachKind::Hanging, objective.severity, std::iter::once(worst_level(objective))),
        )
    };
    let probe = |name: &str| format!("and the probe {name} is not answered in time");
    if let Some((usual, usual_in_flight)) = medians {
        let waiting = in_flight.filter(|now| *now >= usual_in_flight && *now > 0.0);
        let waiting =
            waiting.map(|now| format!("with {now:.0} in flight where {usual_in_flight:.0} are usual"));
        if let Some(waiting) = waiting.or_else(|| hung.map(probe))
            && usual >= needed
            && completed < STANDSTILL * usual
        {
            return hangs(format!(
                "requests hang: {completed:.0} completed in the window where {usual:.0} are usual, {waiting}"
            ));
        }
    }
    if completed >= needed && completed > 0.0 {
        return Answer::Flows;
    }
    let too_few = format!("{completed:.0} requests in the window, {needed:.0} are needed to judge");
    if let (None, Some(name)) = (medians, hung) {
        return hangs(format!("requests hang: {too_few}, {}", probe(name)));
    }
    // The reason must not change with who happens to be in flight: each change of a reason is told.
    match (in_flight, medians) {
        (Some(in_flight), None) => Answer::CannotTell(NoData::new(
            NoDataReason::NoBaseline,
            format!(
                "{too_few}; {in_flight:.0} are in flight, and no healthy windows have been seen yet to compare with"
            ),
        )),
        _ => Answer::CannotTell(NoData::new(NoDataReason::TooFewRequests, too_few)),
    }
}

/// A standstill is as bad as the objective's worst level, and never less than P1: nobody is served.
pub(super) fn worst_level(objective: &Objective) -> Severity {
    let worst = match &objective.kind {
        ObjectiveKind::Latency { severities, .. } => severities.iter().map(|s| s.level).max(),
        ObjectiveKind::ErrorRatio { severities, .. } => severities.iter().map(|s| s.level).max(),
    };
    worst.unwrap_or(objective.severity).max(objective.severity).max(Severity::P1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::model::{
        BaselineWindow, Bucket, Observed, Preset, PrometheusSource, Source, TrafficWindow, later,
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn answer(completed: f64, in_flight: f64, healthy: &[(f64, f64)]) -> Answer {
        answer_beside(None, completed, Some(in_flight), healthy)
    }

    fn answer_beside(
        hung: Option<&str>,
        completed: f64,
        in_flight: Option<f64>,
        healthy: &[(f64, f64)],
    ) -> Answer {
        let objective = Objective {
            name: "p95".into(),
            kind: ObjectiveKind::Latency {
                quantile: 0.95,
                target: Duration::from_millis(500),
                severities: vec![],
            },
            severity: Severity::P2,
            source: Source::Prometheus(PrometheusSource {
                backend: "b".into(),
                preset: Preset::Caddy,
                match_labels: BTreeMap::new(),
                views: None,
            }),
        };
        let mut memory = ObjectiveMemory::default();
        for (index, (completed, in_flight)) in healthy.iter().enumerate() {
            let at = later(NOW, Duration::from_secs(index as u64));
            memory.baseline.learn(BaselineWindow { at, completed: *completed, in_flight: *in_flight });
        }
        let traffic = Traffic::from(TrafficWindow {
            window: Duration::from_secs(10),
            buckets: vec![Bucket { le: f64::INFINITY, count: completed }],
            in_flight: match in_flight {
                Some(value) => Observed::Known { at: NOW, value },
                None => Observed::missing(NoDataReason::Empty, "no such series"),
            },
            errors: Observed::missing(NoDataReason::Empty, ""),
            views: Observed::missing(NoDataReason::NotYetRead, ""),
        });
        judge(&objective, &traffic, hung, &memory, later(NOW, Duration::from_secs(60)))
    }

    const USUAL: [(f64, f64); 3] = [(500.0, 4.0), (480.0, 3.0), (520.0, 5.0)];

    #[test]
    fn a_standstill_with_waiting_requests_hangs() {
        assert!(matches!(answer(0.0, 80.0, &USUAL), Answer::Hangs(_, Breach { severity: Severity::P1, .. })));
        assert!(matches!(answer(49.0, 4.0, &USUAL), Answer::Hangs(..)));
    }

    #[test]
    fn what_completes_too_few_but_more_than_a_tenth_does_not_hang() {
        assert!(matches!(answer(51.0, 80.0, &USUAL), Answer::Flows));
    }

    #[test]
    fn fewer_than_min_requests_are_not_judged() {
        assert!(matches!(answer(49.0, 0.0, &[]), Answer::CannotTell(_)));
        assert!(matches!(answer(50.0, 0.0, &[]), Answer::Flows));
    }

    #[test]
    fn silence_without_waiting_requests_is_no_data() {
        for in_flight in [0.0, 1.0] {
            let Answer::CannotTell(no_data) = answer(0.0, in_flight, &USUAL) else {
                panic!("judged silence")
            };
            assert_eq!(no_data.reason, NoDataReason::TooFewRequests);
        }
    }

    #[test]
    fn without_healthy_windows_nothing_hangs() {
        let Answer::CannotTell(no_data) = answer(0.0, 80.0, &USUAL[..2]) else {
            panic!("hangs without a baseline")
        };
        assert_eq!(no_data.reason, NoDataReason::NoBaseline);
    }

    #[test]
    fn a_probe_that_is_not_answered_waits_whatever_the_exporter_says() {
        let answer =
            |completed, in_flight, healthy| answer_beside(Some("health"), completed, in_flight, healthy);
        for in_flight in [Some(0.0), None] {
            let Answer::Hangs(measured, breach) = answer(3.0, in_flight, &USUAL) else { panic!("quiet") };
            assert_eq!(breach.severity, Severity::P1);
            assert_eq!(
                measured.sentence,
                "requests hang: 3 completed in the window where 500 are usual, and the probe health is not answered in time"
            );
            // Without healthy windows it is all there is.
            assert!(matches!(answer(3.0, in_flight, &[]), Answer::Hangs(..)));
        }
        assert!(matches!(answer(51.0, Some(0.0), &USUAL), Answer::Flows), "others are answered");
        assert!(matches!(answer(51.0, None, &[]), Answer::Flows));
        let quiet = [(40.0, 4.0), (40.0, 4.0), (40.0, 4.0)];
        assert!(matches!(answer(0.0, Some(0.0), &quiet), Answer::CannotTell(_)), "it is always quiet");
    }

    #[test]
    fn min_requests_is_asked_of_the_usual_window() {
        let quiet = [(40.0, 4.0), (40.0, 4.0), (40.0, 4.0)];
        assert!(matches!(answer(0.0, 80.0, &quiet), Answer::CannotTell(_)));
    }
}
