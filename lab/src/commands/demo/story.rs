//! What happened, as it happened.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::edge::{STEADY, Sample};
use super::fault::{Ended, Fault, How, Kind};
use super::news::{Incident, News, Remediation, Told, Undo};

/// Everything that was seen since the fault began.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) begun: SystemTime,
    pub(super) fault: Fault,
    /// The process id of the fault's session, where it is one.
    pub(super) pid: Option<i32>,
    pub(super) samples: Vec<Sample>,
    pub(super) events: Vec<Told>,
    pub(super) remediations: BTreeMap<String, Remediation>,
    pub(super) undo: BTreeMap<String, Undo>,
    /// When the last undo was done.
    pub(super) undone_at: Option<SystemTime>,
    /// What the Deployment's replicas were, one after the other.
    pub(super) replicas: Vec<i32>,
    pub(super) incident: Option<Incident>,
    pub(super) fault_ended: Option<Ended>,
    /// All sessions that were signalled, as the database itself tells it.
    pub(super) signalled: Vec<i32>,
}

impl Story {
    pub(super) fn new(begun: SystemTime, fault: Fault, pid: Option<i32>) -> Self {
        Self {
            begun,
            fault,
            pid,
            samples: Vec::new(),
            events: Vec::new(),
            remediations: BTreeMap::new(),
            undo: BTreeMap::new(),
            undone_at: None,
            replicas: Vec::new(),
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
            News::Undo(now) => {
                let before = self.undo.insert(now.name.clone(), now.clone());
                let is_new = before.as_ref().map_or("None", |before| before.state.as_str()) != now.state;
                if is_new && now.state == "Done" {
                    self.undone_at = Some(SystemTime::now());
                }
                is_new
            }
            News::Replicas(now) => {
                // The first is how it was.
                let is_change = self.replicas.last().is_some_and(|before| before != now);
                if is_change || self.replicas.is_empty() {
                    self.replicas.push(*now);
                }
                is_change
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

    /// When p95 came back under the target, to stay for some seconds at least; where the demo ended the fault, before that.
    pub(super) fn back_at(&self) -> Option<SystemTime> {
        let mended = self.mended_at();
        let counts = |sample: &Sample| mended.is_none_or(|mended| sample.at <= mended);
        let samples: Vec<&Sample> = self.samples.iter().filter(|sample| counts(sample)).collect();
        let last_over = samples.iter().rposition(|sample| sample.is_over())?;
        let after = samples.get(last_over + 1..)?;
        let is_steady = after.len() >= STEADY && after.iter().all(|sample| sample.is_under());
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

    /// When the demo itself ended the fault.
    pub(super) fn mended_at(&self) -> Option<SystemTime> {
        self.fault_ended.as_ref().filter(|ended| ended.how == How::Mended).map(|ended| ended.at)
    }

    /// All is well and proven, although the fault goes on: now it may end.
    pub(super) fn helped_in_spite_of_it(&self) -> bool {
        let mut all = self.remediations.values();
        self.fault_ended.is_none()
            && self.back_at().is_some()
            && !self.remediations.is_empty()
            && all.all(|one| one.phase == "Completed")
    }

    /// Nothing more is to come.
    pub(super) fn is_over(&self) -> bool {
        let is_settled = match self.fault.kind() {
            Kind::Session { .. } => true,
            Kind::Upstream { .. } => self.is_taken_back() || self.is_left(),
        };
        self.closed().is_some() && self.back_at().is_some() && self.fault_ended.is_some() && is_settled
    }

    /// What the operator added is gone again, by its own word and by the Deployment.
    pub(super) fn is_taken_back(&self) -> bool {
        let mut states = self.undo.values().map(|undo| undo.state.as_str());
        let is_back = self.replicas.len() > 1 && self.replicas.first() == self.replicas.last();
        is_back && !self.undo.is_empty() && states.all(|state| state == "Done")
    }

    /// The operator leaves to people what it added.
    fn is_left(&self) -> bool {
        self.undo.values().any(|undo| matches!(undo.state.as_str(), "Contested" | "Abandoned"))
    }

    /// `2 -> 4 -> 3`; from the most on, as soon as it goes down again.
    pub(super) fn steps(&self) -> String {
        let most = self.replicas.iter().max();
        let top = self.replicas.iter().rposition(|replicas| Some(replicas) == most).unwrap_or_default();
        let from = if self.goes_down() { top } else { 0 };
        let steps: Vec<String> = self.replicas.iter().skip(from).map(i32::to_string).collect();
        steps.join(" -> ")
    }

    /// The last change of the replicas made them fewer.
    pub(super) fn goes_down(&self) -> bool {
        matches!(self.replicas.as_slice(), [.., before, now] if now < before)
    }

    /// `session 42`.
    pub(super) fn session(&self) -> String {
        self.pid.map_or_else(|| "no session".to_owned(), |pid| format!("session {pid}"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    pub(in super::super) fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn sample(seconds: u64, p95: f64) -> Sample {
        Sample { at: at(seconds), p95: Some(p95), rate: 48.0, errors: 0.0, in_flight: 1.0 }
    }

    /// As it should go.
    pub(in super::super) fn healed() -> Story {
        let mut story = Story::new(at(100), Fault::Runaway, Some(42));
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
            action: "CancelQueries".into(),
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
        story.fault_ended = Some(Ended { at: at(106), how: told("canceling statement due to user request") });
        story.signalled = vec![42];
        story
    }

    pub(in super::super) fn told(message: &str) -> How {
        How::Told(message.to_owned())
    }

    /// The same of a slow upstream, until the operator has proven that more Pods help.
    fn helped() -> Story {
        let mut story = Story { fault: Fault::Saturation, pid: None, fault_ended: None, ..healed() };
        story.signalled.clear();
        story.remediations.values_mut().for_each(|one| {
            one.action = "Scale".into();
            one.pid = None;
        });
        assert!(!story.hears(&News::Replicas(2)), "it was so before");
        assert!(story.hears(&News::Replicas(4)) && !story.hears(&News::Replicas(4)));
        assert!(!story.hears(&undo("None")) && story.hears(&undo("Owed")) && !story.hears(&undo("Owed")));
        story
    }

    fn undo(state: &str) -> News {
        News::Undo(Undo { name: "one".into(), state: state.into(), baseline: Some(2) })
    }

    /// The same to its end.
    pub(in super::super) fn taken_back() -> Story {
        let mut story = helped();
        story.fault_ended = Some(Ended { at: at(115), how: How::Mended });
        for news in [News::Replicas(3), News::Replicas(2), undo("Done")] {
            assert!(!story.is_over() && story.hears(&news));
        }
        story
    }

    #[test]
    fn a_healed_incident_is_over() {
        let story = healed();
        assert!(story.is_over());
        assert_eq!(story.over_at(), Some(at(103)));
        assert_eq!(story.back_at(), Some(at(110)));
        assert_eq!((story.believed_at(), story.acted_at()), (Some(at(105)), Some(at(106))));
        assert!((story.seconds(at(106)) - 6.0).abs() < 1e-9);
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

    #[test]
    fn an_upstream_is_mended_once_it_is_proven_that_capacity_helps() {
        let mut story = helped();
        assert!(story.helped_in_spite_of_it() && !story.is_over());
        assert_eq!((story.steps().as_str(), story.goes_down()), ("2 -> 4", false));
        story.remediations.values_mut().for_each(|one| one.phase = "Verifying".into());
        assert!(!story.helped_in_spite_of_it());
        assert!(!healed().helped_in_spite_of_it(), "its session is gone");
    }

    #[test]
    fn what_was_added_has_to_go_before_it_is_over() {
        let mut story = taken_back();
        assert!(story.is_over() && story.undone_at.is_some());
        assert_eq!((story.steps().as_str(), story.goes_down()), ("4 -> 3 -> 2", true));
        assert_eq!((story.mended_at(), story.back_at()), (Some(at(115)), Some(at(110))));
        // Whatever comes after it was mended is no news of the remedy.
        story.samples.push(sample(120, 3.0));
        assert_eq!(story.back_at(), Some(at(110)));
        story.hears(&News::Replicas(3));
        assert!(!story.is_over());
        story.hears(&undo("Contested"));
        assert!(story.is_over(), "people have it now");
    }
}
