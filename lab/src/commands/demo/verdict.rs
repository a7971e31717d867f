//! Whether it was what the demo promises: broken, healed by the operator, and by nothing else.

use std::time::SystemTime;

use lab::{Error, Result};

use super::cluster;
use super::edge::{STEADY, TARGET};
use super::fault::{How, Kind};
use super::mode::Mode;
use super::news::{Remediation, Told};
use super::story::Story;

/// A hit ratio above this share of the usual one is as good as that.
const STILL_USUAL: f64 = 0.8;
/// `requestsPerPath` of demo/policies/coldcache.yaml, which has one path.
const MOST_FILLING: f64 = 2.0;

impl Story {
    /// What the demo promises and this story has not got.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let target = TARGET * 1000.0;
        if self.over_at().is_none() {
            missing.push(format!("p95 at the edge never passed {target} ms: nothing was broken"));
        }
        match self.mode {
            Mode::Auto => self.healing_is_missing(&mut missing),
            Mode::Observe => self.restraint_is_missing(&mut missing),
        }
        if self.over_at().is_some() && self.back_at().is_none() {
            missing.push(format!(
                "p95 at the edge was not back under {target} ms for {STEADY} seconds in a row"
            ));
        }
        let outcome = match self.mode {
            Mode::Auto => "Healed",
            Mode::Observe => "RecoveredAlone",
        };
        match self.closed() {
            Some(incident) if incident.outcome == outcome => {}
            Some(incident) => {
                missing.push(format!("the incident was closed as {}, not as {outcome}", incident.outcome));
            }
            None => missing.push("no incident was closed".to_owned()),
        }
        missing
    }

    /// The operator acted, it was the cure, and what it left behind is in order.
    fn healing_is_missing(&self, missing: &mut Vec<String>) {
        self.remedy_is_missing(missing);
        match self.fault.kind() {
            Kind::Session { ends_with, .. } => self.end_is_missing(ends_with, missing),
            Kind::Upstream { .. } => self.undo_is_missing(missing),
            Kind::Cache => self.warmth_is_missing(missing),
        }
        self.signal_is_missing(missing);
    }

    /// The operator wrote down what it would do, and did nothing.
    fn restraint_is_missing(&self, missing: &mut Vec<String>) {
        if let Some(one) = self.one_remediation(missing) {
            if one.phase != "DryRun" {
                missing.push(format!(
                    "LatencyRemediation {} should be a dry run; its phase is {:?}",
                    one.name, one.phase
                ));
            }
            if one.began_at.is_some() || one.acted_at.is_some() {
                missing.push(format!("LatencyRemediation {} says that it acted", one.name));
            }
        }
        if !self.signalled.is_empty() {
            missing.push(format!(
                "nobody but the demo should have signalled a session; PostgreSQL signalled {:?}",
                self.signalled
            ));
        }
        if self.replicas.len() > 1 {
            missing.push(format!("the replicas should have stayed and were {}", self.steps()));
        }
        if self.fault.kind() == Kind::Cache {
            self.flush_is_missing(missing);
        }
        if self.filling() > 0.0 {
            missing.push(format!("nobody should have filled the cache; {:.0} requests came", self.filling()));
        }
        if self.mended_at().is_none() {
            missing.push("the fault ended before the demo ended it".to_owned());
        }
    }

    /// The one that there should be, for the remedy and the session that are meant.
    fn one_remediation(&self, missing: &mut Vec<String>) -> Option<&Remediation> {
        let all: Vec<&Remediation> = self.remediations.values().collect();
        let [one] = all.as_slice() else {
            missing.push(format!("there should be one LatencyRemediation, and there are {}", all.len()));
            return None;
        };
        if one.action != self.fault.remedy() {
            missing.push(format!(
                "LatencyRemediation {} should be of action {} and is of {:?}",
                one.name,
                self.fault.remedy(),
                one.action
            ));
        }
        if one.pid != self.pid.map(i64::from) {
            let about = one.pid.map_or_else(|| "no session".to_owned(), |pid| format!("session {pid}"));
            missing.push(format!(
                "LatencyRemediation {} is about {about}, and the fault is {}",
                one.name,
                self.session()
            ));
        }
        Some(one)
    }

    /// One act of the operator, that it proved to be the cure.
    fn remedy_is_missing(&self, missing: &mut Vec<String>) {
        let Some(one) = self.one_remediation(missing) else { return };
        if (one.phase.as_str(), one.outcome.as_str()) != ("Completed", "Healed") {
            missing.push(format!(
                "LatencyRemediation {} should be Completed and Healed; its phase is {:?}, its outcome {:?}",
                one.name, one.phase, one.outcome
            ));
        }
        if one.acted_at.is_none() {
            missing.push(format!("LatencyRemediation {} does not say when it acted", one.name));
        }
    }

    /// The flush was felt, and the operator has told that it was one.
    fn flush_is_missing(&self, missing: &mut Vec<String>) {
        let found = |told: &Told| told.reason == "CauseFound" && told.note.contains("it was flushed");
        if !self.events.iter().any(found) {
            missing.push("no Event CauseFound says that the cache was flushed".to_owned());
        }
        match self.hits() {
            Some((usual, worst, last)) if worst < usual * STILL_USUAL && last >= usual * STILL_USUAL => {}
            Some((usual, worst, last)) => missing.push(format!(
                "the share of lookups that find their key should have fallen and come back: it was {usual:.2}, {worst:.2} \
                 at worst, and {last:.2} at the end"
            )),
            None => missing.push("nothing was looked up in the cache".to_owned()),
        }
    }

    /// The cache was filled by the operator, with no more requests than its policy allows.
    fn warmth_is_missing(&self, missing: &mut Vec<String>) {
        self.flush_is_missing(missing);
        let filling = self.filling();
        if !(1.0..=MOST_FILLING).contains(&filling) {
            missing.push(format!(
                "1 to {MOST_FILLING:.0} requests should have filled the cache; {filling:.0} came"
            ));
        }
        match &self.fault_ended {
            Some(ended) if ended.how == How::Warmed => self.order_is_missing(ended.at, missing),
            Some(_) | None => missing.push("the cache was not filled again".to_owned()),
        }
    }

    /// It ended before the operator acted, so that something else ended it.
    fn order_is_missing(&self, ended: SystemTime, missing: &mut Vec<String>) {
        // Not by the time of the Event: that is written aside, and may come after the effect.
        let began = self.remediations.values().filter_map(|one| one.began_at).min();
        if began.is_some_and(|began| ended < began) {
            missing.push("the fault had ended before the operator acted".to_owned());
        }
    }

    /// What was added is taken back.
    fn undo_is_missing(&self, missing: &mut Vec<String>) {
        if self.is_taken_back() {
            return;
        }
        let states: Vec<&str> = self.undo.values().map(|undo| undo.state.as_str()).collect();
        missing.push(format!(
            "the undo should be Done and Deployment {} back at its replicas; the undo is {states:?}, the replicas were {}",
            cluster::TARGET,
            self.steps()
        ));
    }

    /// The fault's session was ended, not before the operator acted.
    fn end_is_missing(&self, ends_with: &str, missing: &mut Vec<String>) {
        match self.fault_ended.as_ref().map(|ended| &ended.how) {
            None => missing.push("the fault's session still goes on: nobody signalled it".to_owned()),
            Some(How::Told(told)) if told == ends_with => {}
            Some(How::Told(told)) => {
                missing.push(format!(
                    "the fault's session was to end with {ends_with:?} and ended with {told:?}"
                ));
            }
            Some(How::ByItself | How::Mended | How::Warmed) => {
                missing.push("the fault's session ended by itself".to_owned());
            }
        }
        if let Some(ended) = &self.fault_ended {
            self.order_is_missing(ended.at, missing);
        }
    }

    /// The fault's session was signalled, where it is one, and no other.
    fn signal_is_missing(&self, missing: &mut Vec<String>) {
        if self.signalled.as_slice() != self.pid.as_slice() {
            let own = match self.pid {
                Some(pid) => format!("session {pid} and no other"),
                None => "no session".to_owned(),
            };
            missing
                .push(format!("PostgreSQL should have signalled {own}; it signalled {:?}", self.signalled));
        }
    }
}

/// Fails with a plain sentence for each thing that is missing in any of them.
pub(super) fn judge(stories: &[Story]) -> Result<()> {
    let missing: Vec<String> = stories.iter().flat_map(Story::missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::setup(
        "the demo did not show what it should",
        missing.join("; "),
        "read the timeline and the end of the operator's log; on a machine that is busy with other things, try again",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::fault::{Ended, Fault};
    use super::super::story::tests::{at, healed, observed, taken_back, warmed};
    use super::*;

    #[test]
    fn each_thing_that_is_missing_is_named() {
        type Change = fn(&mut Story);
        let cases: [(Change, &str); 12] = [
            (|story| story.samples.retain(|sample| !sample.is_over()), "nothing was broken"),
            (|story| story.samples.truncate(3), "not back under 500 ms"),
            (|story| story.remediations.clear(), "there are 0"),
            (
                |story| story.remediations.values_mut().for_each(|one| one.outcome = "Ineffective".into()),
                "Ineffective",
            ),
            (
                |story| story.remediations.values_mut().for_each(|one| one.pid = Some(7)),
                "is about session 7, and the fault is session 42",
            ),
            (|story| story.fault_ended = Some(Ended { at: at(180), how: How::ByItself }), "ended by itself"),
            (
                |story| story.fault_ended.iter_mut().for_each(|ended| ended.at = at(101)),
                "before the operator",
            ),
            (|story| story.fault = Fault::Idle, "was to end with \"terminating connection"),
            (|story| story.fault = Fault::Idle, "should be of action TerminateIdle"),
            (|story| story.remediations.values_mut().for_each(|one| one.acted_at = None), "when it acted"),
            (|story| story.signalled.push(43), "it signalled [42, 43]"),
            (|story| story.incident = None, "no incident was closed"),
        ];
        for (change, expected) in cases {
            let mut story = healed();
            assert!(story.missing().is_empty(), "{:?}", story.missing());
            change(&mut story);
            let missing = story.missing().join("; ");
            assert!(missing.contains(expected), "{expected:?} is missing in {missing:?}");
            assert!(judge(&[healed(), story]).is_err());
        }
    }

    #[test]
    fn who_only_looks_must_not_have_touched_anything() {
        type Change = fn(&mut Story);
        let cases: [(Change, &str); 8] = [
            (|story| story.remediations.clear(), "there are 0"),
            (
                |story| story.remediations.values_mut().for_each(|one| one.phase = "Completed".into()),
                "should be a dry run",
            ),
            (
                |story| story.remediations.values_mut().for_each(|one| one.acted_at = Some(at(106))),
                "says that it acted",
            ),
            (|story| story.remediations.values_mut().for_each(|one| one.pid = Some(7)), "is about session 7"),
            (|story| story.signalled.push(42), "nobody but the demo should have signalled"),
            (|story| story.replicas = vec![2, 4], "the replicas should have stayed and were 2 -> 4"),
            (|story| story.fault_ended = None, "before the demo ended it"),
            (
                |story| story.incident.iter_mut().for_each(|one| one.outcome = "Healed".into()),
                "closed as Healed, not as RecoveredAlone",
            ),
        ];
        for (change, expected) in cases {
            let mut story = observed();
            assert!(story.missing().is_empty(), "{:?}", story.missing());
            change(&mut story);
            let missing = story.missing().join("; ");
            assert!(missing.contains(expected), "{expected:?} is missing in {missing:?}");
        }
    }

    #[test]
    fn of_a_cold_cache_other_things_may_be_missing() {
        type Change = fn(&mut Story);
        let cases: [(Change, &str); 9] = [
            (|story| story.events.clear(), "no Event CauseFound says that the cache was flushed"),
            (
                |story| story.samples.iter_mut().for_each(|sample| sample.hits = Some(1.0)),
                "should have fallen and come back: it was 1.00, 1.00 at worst, and 1.00",
            ),
            (
                |story| story.samples.iter_mut().for_each(|sample| sample.hits = Some(0.1)),
                "and 0.10 at the end",
            ),
            (|story| story.before.clear(), "nothing was looked up"),
            (
                |story| story.samples.iter_mut().for_each(|sample| sample.counts.filling = 1.0),
                "1 to 2 requests should have filled the cache; 0 came",
            ),
            (|story| story.samples.iter_mut().for_each(|sample| sample.counts.filling = 4.0), "3 came"),
            (|story| story.fault_ended = None, "the cache was not filled again"),
            (
                |story| story.fault_ended.iter_mut().for_each(|ended| ended.at = at(101)),
                "had ended before the operator acted",
            ),
            (|story| story.signalled.push(42), "signalled no session; it signalled [42]"),
        ];
        for (change, expected) in cases {
            let mut story = warmed();
            assert!(story.missing().is_empty(), "{:?}", story.missing());
            change(&mut story);
            let missing = story.missing().join("; ");
            assert!(missing.contains(expected), "{expected:?} is missing in {missing:?}");
        }
    }

    #[test]
    fn who_only_looks_fills_no_cache() {
        let mut story = Story { fault: Fault::Coldcache, pid: None, ..observed() };
        story.remediations.values_mut().for_each(|one| (one.action, one.pid) = ("WarmCache".into(), None));
        (story.before, story.events) = (warmed().before, warmed().events);
        for sample in &mut story.samples {
            let filled = if sample.at < at(160) { (Some(0.0), 1.0) } else { (Some(1.0), 2.0) };
            (sample.hits, sample.counts.filling) = filled;
        }
        assert!(story.missing().is_empty(), "{:?}", story.missing());
        story.samples.iter_mut().for_each(|sample| sample.counts.filling = 2.0);
        let missing = story.missing().join("; ");
        assert!(missing.contains("nobody should have filled the cache; 1 requests came"), "{missing}");
    }

    #[test]
    fn of_a_slow_upstream_other_things_may_be_missing() {
        type Change = fn(&mut Story);
        let cases: [(Change, &str); 5] = [
            (|story| story.undo.clear(), "the undo should be Done"),
            (
                |story| story.undo.values_mut().for_each(|undo| undo.state = "Pending".into()),
                "the undo is [\"Pending\"]",
            ),
            (|story| story.replicas.push(3), "back at its replicas"),
            (|story| story.signalled.push(42), "signalled no session; it signalled [42]"),
            (
                |story| story.remediations.values_mut().for_each(|one| one.pid = Some(42)),
                "is about session 42, and the fault is no session",
            ),
        ];
        for (change, expected) in cases {
            let mut story = taken_back();
            assert!(story.missing().is_empty(), "{:?}", story.missing());
            change(&mut story);
            let missing = story.missing().join("; ");
            assert!(missing.contains(expected), "{expected:?} is missing in {missing:?}");
        }
    }
}
