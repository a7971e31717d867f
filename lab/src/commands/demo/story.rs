//! What happened, and whether it was what the demo promises: broken, healed by the operator, and by nothing else.

use std::collections::BTreeMap;
use std::time::SystemTime;

use lab::{Error, Result};

use super::edge::{STEADY, Sample, TARGET};
use super::fault::{Ended, Fault};
use super::news::{Incident, News, Remediation, Told};

/// Everything that was seen since the fault began.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) begun: SystemTime,
    pub(super) fault: Fault,
    /// The process id of the fault's session.
    pub(super) pid: i32,
    pub(super) samples: Vec<Sample>,
    pub(super) events: Vec<Told>,
    pub(super) remediations: BTreeMap<String, Remediation>,
    pub(super) incident: Option<Incident>,
    pub(super) fault_ended: Option<Ended>,
    /// All sessions that were signalled, as the database itself tells it.
    pub(super) signalled: Vec<i32>,
}

impl Story {
    pub(super) fn new(begun: SystemTime, fault: Fault, pid: i32) -> Self {
        Self {
            begun,
            fault,
            pid,
            samples: Vec::new(),
            events: Vec::new(),
            remediations: BTreeMap::new(),
            incident: None,
            fault_ended: None,
            signalled: Vec::new(),
        }
    }

    /// Writes news down; `false` for what is not new.
    pub(super) fn hears(&mut self, news: &News) -> bool {
        match news {
            News::Event(told) => {
                let is_new = told.at >= self.begun && self.events.iter().all(|known| known.uid != told.uid);
                if is_new {
                    self.events.push(told.clone());
                }
                is_new
            }
            News::Remediation(now) => {
                let before = self.remediations.insert(now.name.clone(), now.clone());
                before.is_none_or(|before| before.phase != now.phase)
            }
            News::Incident(now) => {
                let before = self.incident.replace(now.clone());
                before.is_none_or(|before| before.phase != now.phase)
            }
        }
    }

    /// Seconds since the fault began.
    pub(super) fn seconds(&self, at: SystemTime) -> f64 {
        match at.duration_since(self.begun) {
            Ok(after) => after.as_secs_f64(),
            Err(before) => -before.duration().as_secs_f64(),
        }
    }

    /// When p95 was over the target for the first time.
    pub(super) fn over_at(&self) -> Option<SystemTime> {
        self.samples.iter().find(|sample| sample.is_over()).map(|sample| sample.at)
    }

    /// When p95 came back under the target, to stay for some seconds at least.
    pub(super) fn back_at(&self) -> Option<SystemTime> {
        let last_over = self.samples.iter().rposition(Sample::is_over)?;
        let after = self.samples.get(last_over + 1..)?;
        let is_steady = after.len() >= STEADY && after.iter().all(Sample::is_under);
        after.first().filter(|_| is_steady).map(|sample| sample.at)
    }

    /// The worst p95, in seconds.
    pub(super) fn worst(&self) -> f64 {
        self.samples.iter().filter_map(|sample| sample.p95).fold(0.0, f64::max)
    }

    /// When the operator believed that something is broken, and opened an incident.
    pub(super) fn believed_at(&self) -> Option<SystemTime> {
        self.incident.as_ref().and_then(|incident| incident.opened_at)
    }

    pub(super) fn acted_at(&self) -> Option<SystemTime> {
        self.remediations.values().filter_map(|one| one.acted_at).min()
    }

    pub(super) fn closed(&self) -> Option<&Incident> {
        self.incident.as_ref().filter(|incident| incident.phase == "Closed")
    }

    /// Nothing more is to come.
    pub(super) fn is_over(&self) -> bool {
        self.closed().is_some() && self.back_at().is_some() && self.fault_ended.is_some()
    }

    /// What the demo promises and this story has not got.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let target = TARGET * 1000.0;
        if self.over_at().is_none() {
            missing.push(format!("p95 at the edge never passed {target} ms: nothing was broken"));
        }
        self.remedy_is_missing(&mut missing);
        self.signal_is_missing(&mut missing);
        if self.over_at().is_some() && self.back_at().is_none() {
            missing.push(format!(
                "p95 at the edge was not back under {target} ms for {STEADY} seconds in a row"
            ));
        }
        match self.closed() {
            Some(incident) if incident.outcome == "Healed" => {}
            Some(incident) => {
                missing.push(format!("the incident was closed as {}, not as Healed", incident.outcome))
            }
            None => missing.push("no incident was closed".to_owned()),
        }
        missing
    }

    /// One act of the operator, that it proved to be the cure.
    fn remedy_is_missing(&self, missing: &mut Vec<String>) {
        let all: Vec<&Remediation> = self.remediations.values().collect();
        let [one] = all.as_slice() else {
            missing.push(format!("there should be one LatencyRemediation, and there are {}", all.len()));
            return;
        };
        if (one.phase.as_str(), one.outcome.as_str()) != ("Completed", "Healed") {
            missing.push(format!(
                "LatencyRemediation {} should be Completed and Healed; its phase is {:?}, its outcome {:?}",
                one.name, one.phase, one.outcome
            ));
        }
        if one.pid != Some(i64::from(self.pid)) {
            missing.push(format!(
                "LatencyRemediation {} is about session {:?}, and the fault's is {}",
                one.name, one.pid, self.pid
            ));
        }
    }

    /// The fault's session, and no other, was signalled, not before the operator acted.
    fn signal_is_missing(&self, missing: &mut Vec<String>) {
        match &self.fault_ended {
            None => missing.push("the fault's session still goes on: nobody signalled it".to_owned()),
            Some(Ended { error: Some(error), .. }) if error == self.fault.ends_with() => {}
            Some(Ended { error: Some(error), .. }) => {
                missing.push(format!(
                    "the fault's session was to end with {:?} and ended with {error:?}",
                    self.fault.ends_with()
                ));
            }
            Some(Ended { error: None, .. }) => missing.push("the fault's session ended by itself".to_owned()),
        }
        // Not by the time of the Event: that is written aside, and may come after the effect.
        let began = self.remediations.values().filter_map(|one| one.began_at).min();
        if let (Some(ended), Some(began)) = (&self.fault_ended, began)
            && ended.at < began
        {
            missing.push("the fault's session had ended before the operator acted".to_owned());
        }
        if self.signalled != [self.pid] {
            missing.push(format!(
                "PostgreSQL should have signalled session {} and no other; it signalled {:?}",
                self.pid, self.signalled
            ));
        }
    }

    /// Fails with a plain sentence for each thing that is missing.
    pub(super) fn judged(&self) -> Result<()> {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::setup(
            "the demo did not show what it should",
            missing.join("; "),
            "read the timeline and the end of the operator's log; on a machine that is busy with other things, try again",
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn sample(seconds: u64, p95: f64) -> Sample {
        Sample { at: at(seconds), p95: Some(p95), rate: 48.0, errors: 0.0, in_flight: 1.0 }
    }

    /// As it should go.
    fn healed() -> Story {
        let mut story = Story::new(at(100), Fault::Runaway, 42);
        story.samples = [(101, 0.04), (103, 1.2), (104, 4.0)].map(|(when, p95)| sample(when, p95)).to_vec();
        story.samples.extend((110..116).map(|when| sample(when, 0.1)));
        let event = |uid: &str, when, reason: &str| {
            let (uid, reason) = (uid.to_owned(), reason.to_owned());
            News::Event(Told { uid, at: at(when), reason, note: String::new() })
        };
        for news in [event("a", 105, "ObjectiveBreached"), event("b", 106, "RemediationStarted")] {
            assert!(story.hears(&news) && !story.hears(&news));
        }
        assert!(!story.hears(&event("c", 99, "DataUnavailable")), "it is older than the fault");
        story.hears(&News::Remediation(Remediation {
            name: "one".into(),
            pid: Some(42),
            phase: "Completed".into(),
            outcome: "Healed".into(),
            began_at: Some(at(106)),
            acted_at: Some(at(106)),
            ..Default::default()
        }));
        story.hears(&News::Incident(Incident {
            opened_at: Some(at(105)),
            phase: "Closed".into(),
            outcome: "Healed".into(),
            closed_at: Some(at(115)),
        }));
        story.fault_ended = Some(Ended { at: at(106), error: Some(Fault::Runaway.ends_with().into()) });
        story.signalled = vec![42];
        story
    }

    #[test]
    fn a_healed_incident_misses_nothing() {
        let story = healed();
        assert_eq!(story.missing(), Vec::<String>::new());
        assert!(story.is_over() && story.judged().is_ok());
        assert_eq!(story.over_at(), Some(at(103)));
        assert_eq!(story.back_at(), Some(at(110)));
        assert_eq!((story.believed_at(), story.acted_at()), (Some(at(105)), Some(at(106))));
        assert!((story.seconds(at(106)) - 6.0).abs() < 1e-9);
    }

    #[test]
    fn each_thing_that_is_missing_is_named() {
        type Change = fn(&mut Story);
        let cases: [(Change, &str); 10] = [
            (|story| story.samples.retain(|sample| !sample.is_over()), "nothing was broken"),
            (|story| story.samples.truncate(3), "not back under 500 ms"),
            (|story| story.remediations.clear(), "there are 0"),
            (
                |story| story.remediations.values_mut().for_each(|one| one.outcome = "Ineffective".into()),
                "Ineffective",
            ),
            (
                |story| story.remediations.values_mut().for_each(|one| one.pid = Some(7)),
                "is about session Some(7)",
            ),
            (|story| story.fault_ended = Some(Ended { at: at(180), error: None }), "ended by itself"),
            (
                |story| {
                    story.fault_ended =
                        Some(Ended { at: at(101), error: Some(Fault::Runaway.ends_with().into()) })
                },
                "before the operator",
            ),
            (|story| story.fault = Fault::Idle, "was to end with \"terminating connection"),
            (|story| story.signalled.push(43), "it signalled [42, 43]"),
            (|story| story.incident = None, "no incident was closed"),
        ];
        for (change, expected) in cases {
            let mut story = healed();
            change(&mut story);
            let missing = story.missing().join("; ");
            assert!(missing.contains(expected), "{expected:?} is missing in {missing:?}");
            assert!(story.judged().is_err());
        }
    }

    #[test]
    fn a_dip_in_the_middle_is_not_the_end() {
        let mut story = healed();
        story.samples.push(sample(116, 3.0));
        assert_eq!(story.back_at(), None);
        story.samples.extend((117..121).map(|when| sample(when, 0.1)));
        assert_eq!(story.back_at(), None, "four seconds are not enough");
        story.samples.push(sample(121, 0.1));
        assert_eq!(story.back_at(), Some(at(117)));
    }
}
