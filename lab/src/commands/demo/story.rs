//! What happened, as it happened.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::chart::Mark;
use super::edge::{Counts, STEADY, Sample};
use super::fault::{Ended, Fault, How, Kind};
use super::mode::Mode;
use super::news::{Incident, News, Remediation, Told, Undo};

/// So long nobody does anything where the operator only looks.
pub(super) const OBSERVED: Duration = Duration::from_secs(60);

/// Everything that was seen since the fault began.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) begun: SystemTime,
    pub(super) fault: Fault,
    pub(super) mode: Mode,
    /// The process id of the fault's session, where it is one.
    pub(super) pid: Option<i32>,
    /// How it was before.
    pub(super) before: Vec<Sample>,
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
    pub(super) fn new(begun: SystemTime, fault: Fault, mode: Mode, pid: Option<i32>) -> Self {
        Self {
            begun,
            fault,
            mode,
            pid,
            before: Vec::new(),
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
            // Kubernetes knows the second of a creation only.
            News::Remediation(now) if self.is_older(now.created_at.map(|at| at + Duration::from_secs(1))) => {
                false
            }
            News::Undo(now) if !self.remediations.contains_key(&now.name) => false,
            News::Incident(now) if self.is_older(now.opened_at) => false,
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

    /// Whether the operator has told something of this reason.
    pub(super) fn has_told(&self, reason: &str) -> bool {
        self.events.iter().any(|told| told.reason == reason)
    }

    /// It was there before the fault began: another run has left it.
    fn is_older(&self, at: Option<SystemTime>) -> bool {
        at.is_some_and(|at| at < self.begun)
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

    /// When p95 came back under the target, to stay for some seconds at least; where the demo ended a fault that the operator
    /// was to answer, before that.
    pub(super) fn back_at(&self) -> Option<SystemTime> {
        let mended = match self.mode {
            Mode::Auto => self.mended_at(),
            Mode::Observe => None,
        };
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

    /// For how long p95 was over the target, in seconds: each look counts until the next one.
    pub(super) fn seconds_over(&self) -> f64 {
        let until_next = |pair: &[Sample]| match pair {
            [one, next] if one.is_over() => next.at.duration_since(one.at).unwrap_or_default().as_secs_f64(),
            _ => 0.0,
        };
        self.samples.windows(2).map(until_next).sum()
    }

    /// The requests that were finished since the fault began.
    pub(super) fn counts(&self) -> Counts {
        let first = self.before.last().or(self.samples.first()).map(|sample| sample.counts);
        let last = self.samples.last().map(|sample| sample.counts);
        last.unwrap_or_default().since(first.unwrap_or_default())
    }

    /// The requests that filled the cache since the fault began, the demo's own not among them.
    pub(super) fn filling(&self) -> f64 {
        let mended = self.mended_at();
        let last = self.samples.iter().rfind(|sample| mended.is_none_or(|mended| sample.at <= mended));
        let first = self.before.last().or(self.samples.first());
        last.zip(first).map_or(0.0, |(last, first)| last.counts.since(first.counts).filling)
    }

    /// The share of lookups that found their key: as it was, at worst, and as it is at the end.
    pub(super) fn hits(&self) -> Option<(f64, f64, f64)> {
        let shares = |samples: &[Sample]| samples.iter().filter_map(|sample| sample.hits).collect::<Vec<_>>();
        let mean = |shares: &[f64]| {
            let count = u32::try_from(shares.len()).ok().filter(|count| *count > 0)?;
            Some(shares.iter().sum::<f64>() / f64::from(count))
        };
        let after = shares(&self.samples);
        let last = after.get(after.len().saturating_sub(STEADY)..)?;
        Some((mean(&shares(&self.before))?, after.iter().copied().reduce(f64::min)?, mean(last)?))
    }

    /// What is to be marked in a chart, in order.
    pub(super) fn marks(&self) -> Vec<Mark> {
        let closed_at = self.closed().and_then(|incident| incident.closed_at);
        let known = [
            (Some(self.begun), 'F', "fault"),
            (self.believed_at(), 'S', "seen"),
            (self.acted_at(), 'A', "acted"),
            (self.mended_at(), 'E', "fault ended by the demo"),
            (self.undone_at, 'U', "undone"),
            (closed_at, 'C', "closed"),
        ];
        let marks = known.into_iter().filter_map(|(at, letter, what)| Some(Mark { at: at?, letter, what }));
        let mut marks: Vec<Mark> = marks.collect();
        marks.sort_by_key(|mark| mark.at);
        marks
    }

    /// Whether the demo has to end the fault now.
    pub(super) fn is_to_be_mended(&self, now: SystemTime) -> bool {
        let is_long = now.duration_since(self.begun).is_ok_and(|since| since >= OBSERVED);
        self.fault_ended.is_none()
            && match (self.mode, self.fault.kind()) {
                (Mode::Observe, _) => is_long,
                (Mode::Auto, Kind::Session { .. } | Kind::Cache) => false,
                (Mode::Auto, Kind::Upstream { .. }) => self.helped_in_spite_of_it(),
            }
    }

    /// All is well and proven, although the fault goes on: now it may end.
    fn helped_in_spite_of_it(&self) -> bool {
        let mut all = self.remediations.values();
        self.back_at().is_some() && !self.remediations.is_empty() && all.all(|one| one.phase == "Completed")
    }

    /// Nothing more is to come.
    pub(super) fn is_over(&self) -> bool {
        let is_settled = match (self.mode, self.fault.kind()) {
            (Mode::Observe, _) | (Mode::Auto, Kind::Session { .. } | Kind::Cache) => true,
            (Mode::Auto, Kind::Upstream { .. }) => self.is_taken_back() || self.is_left(),
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
    use super::*;

    pub(in super::super) fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn sample(seconds: u64, p95: f64) -> Sample {
        Sample { p95: Some(p95), ..Sample::quiet(at(seconds)) }
    }

    /// As it should go.
    pub(in super::super) fn healed() -> Story {
        let mut story = Story::new(at(100), Fault::Runaway, Mode::Auto, Some(42));
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
            action: "CancelQuery".into(),
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
        assert!(
            !story.hears(&undo("None")) && story.hears(&undo("Pending")) && !story.hears(&undo("Pending"))
        );
        story
    }

    fn undo(state: &str) -> News {
        News::Undo(Undo { name: "one".into(), state: state.into(), baseline: Some(2) })
    }

    /// The same fault where the operator only looks.
    pub(in super::super) fn observed() -> Story {
        let mut story = Story { mode: Mode::Observe, ..healed() };
        story.signalled.clear();
        story.events.clear();
        story.samples.retain(Sample::is_over);
        story.samples.extend((170..176).map(|when| sample(when, 0.1)));
        story.remediations.values_mut().for_each(|one| {
            (one.phase, one.outcome) = ("DryRun".into(), String::new());
            (one.began_at, one.acted_at) = (None, None);
        });
        story.incident.iter_mut().for_each(|one| one.outcome = "RecoveredAlone".into());
        story.fault_ended = Some(Ended { at: at(160), how: How::Mended });
        story
    }

    /// The same of a cache that was flushed.
    pub(in super::super) fn warmed() -> Story {
        let mut story = Story { fault: Fault::Coldcache, pid: None, ..healed() };
        story.signalled.clear();
        story.remediations.values_mut().for_each(|one| {
            one.action = "WarmCache".into();
            one.pid = None;
        });
        let looked = |sample: &mut Sample, hits: f64, filling: f64| {
            (sample.hits, sample.counts.filling) = (Some(hits), filling);
        };
        story.before = vec![Sample::quiet(at(99))];
        story.before.iter_mut().for_each(|sample| looked(sample, 1.0, 1.0));
        let warm_at = at(108);
        for sample in &mut story.samples {
            if sample.at < warm_at { looked(sample, 0.1, 1.0) } else { looked(sample, 0.99, 2.0) }
        }
        story.fault_ended = Some(Ended { at: warm_at, how: How::Warmed });
        let note = "ColdCache (Certain): in cache ...: it was flushed (keys: 100, then 0)".to_owned();
        let (uid, reason) = ("flush".to_owned(), "CauseFound".to_owned());
        story.events.push(Told { uid, at: at(105), reason, note });
        story
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
        assert!(story.is_over() && story.has_told("RemediationStarted") && !story.has_told("CauseFound"));
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
        assert!(story.is_to_be_mended(at(115)) && !story.is_over());
        assert_eq!((story.steps().as_str(), story.goes_down()), ("2 -> 4", false));
        story.remediations.values_mut().for_each(|one| one.phase = "Verifying".into());
        assert!(!story.is_to_be_mended(at(115)));
        assert!(!healed().is_to_be_mended(at(500)), "its session is gone");
    }

    #[test]
    fn what_nobody_mends_is_ended_by_the_demo() {
        let mut story = observed();
        assert!(story.is_over() && !story.is_to_be_mended(at(500)), "it has ended");
        assert_eq!(story.back_at(), Some(at(170)), "after that");
        story.fault_ended = None;
        assert!(!story.is_to_be_mended(at(159)) && story.is_to_be_mended(at(160)) && !story.is_over());
    }

    #[test]
    fn what_another_run_has_left_is_no_news() {
        let mut story = healed();
        let (remediations, incident) = (story.remediations.len(), story.incident.clone());
        let created_at = Some(at(98));
        assert!(!story.hears(&News::Remediation(Remediation {
            name: "old".into(),
            created_at,
            ..Default::default()
        })));
        let owed = Undo { name: "old".into(), state: "Pending".into(), baseline: None };
        assert!(!story.hears(&News::Undo(owed)));
        assert!(!story.hears(&News::Incident(Incident { opened_at: Some(at(50)), ..Default::default() })));
        assert_eq!((story.remediations.len(), story.undo.len()), (remediations, 0));
        assert_eq!(story.incident.map(|one| one.opened_at), incident.map(|one| one.opened_at));
    }

    #[test]
    fn it_counts_what_users_had_of_it() {
        let mut story = healed();
        assert!((story.seconds_over() - 7.0).abs() < 1e-9, "from 103 to 110");
        let counts = |all, bad, failed| Counts { all, bad, failed, filling: 0.0 };
        story.before = vec![Sample { counts: counts(100.0, 1.0, 1.0), ..Sample::quiet(at(99)) }];
        story.samples.iter_mut().for_each(|sample| sample.counts = counts(400.0, 41.0, 2.0));
        assert_eq!(story.counts(), counts(300.0, 40.0, 1.0));
        let letters: String = story.marks().iter().map(|mark| mark.letter).collect();
        assert_eq!(letters, "FSAC");
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
