//! Taking back what was done, by compare-and-swap: only what nobody else has changed since.
//!
//! It does not ask whether the policy acts at the moment (mode, pause, suspension), nor for budgets and rests: it is part of
//! an act that was allowed. What stops it: somebody else's later value, a freeze of All, and, for capacity that was added,
//! anything but fresh health of objectives and databases. (Nothing takes capacity away yet.) What an operator that is being
//! uninstalled cannot take back in time is given up: people are told the command. Each step is written down before it is done, so that a successor
//! knows it for ours; doing it twice does no more than once.

use std::time::Duration;

use jiff::Timestamp;

use super::{Look, Seen, Step, wait};
use crate::causes;
use crate::model::{
    Action, DEADLINE, DueBy, Freeze, Limits, Outcome, Remediation, RemediationSpec, RemediationStatus, Scale,
    Snapshot, Undo, UndoSpec, UndoState, WorkloadNow, duration::human, elapsed, later,
};
use crate::model::{Overall, Situation};
use crate::record::RecordKind;

/// So long what was sent and never answered may yet arrive.
pub(super) const LATE: Duration = Duration::from_secs(60);
/// Databases are looked at so often while all is well, and the look may take its time.
const CALM_LOOK: Duration = Duration::from_secs(75);

/// What is owed from the passing of the gate on.
pub(super) fn owed(spec: &RemediationSpec, now: Timestamp) -> Option<Undo> {
    let Action::Scale(scale) = &spec.action else { return None };
    #[cfg(planted_bugs)]
    if crate::planted::is("undo_not_recorded") {
        return None;
    }
    let undo = spec.undo.as_ref()?;
    Some(Undo {
        state: UndoState::Owed,
        baseline: scale.from,
        wrote: scale.to,
        writing: None,
        due_at: later(now, undo.max_hold),
        due_by: None,
        stepped_at: None,
        overdue: false,
    })
}

/// An undo that is owed, with all that is known about it.
struct Case<'a> {
    remediation: &'a Remediation,
    seen: &'a Seen<'a>,
    scale: &'a Scale,
    spec: &'a UndoSpec,
    undo: &'a Undo,
}

/// The next step of a remediation that is over.
pub(super) fn next(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    let owed = remediation.status.undo.as_ref().filter(|undo| undo.state == UndoState::Owed);
    let (Some(undo), Action::Scale(scale), Some(spec)) =
        (owed, &remediation.spec.action, &remediation.spec.undo)
    else {
        return if remediation.held { Step::Release } else { Step::Done };
    };
    let case = Case { remediation, seen, scale, spec, undo };
    if !seen.leading {
        return case.wait("the Lease is not provably held");
    }
    match seen.look {
        None => Step::Look(remediation.spec.action.clone()),
        Some(Look::Unreadable(no_data)) if case.is_late() => {
            case.end(UndoState::Abandoned, case.given_up(&no_data.to_string()))
        }
        Some(Look::Unreadable(no_data)) => case.wait(&no_data.to_string()),
        Some(Look::Gone | Look::Running) => {
            case.end(UndoState::Abandoned, format!("{} is gone: nothing is left to take back", scale.target))
        }
        Some(Look::Workload(now)) => case.with(now),
    }
}

impl Case<'_> {
    fn with(&self, now: &WorkloadNow) -> Step {
        let (scale, undo) = (self.scale, self.undo);
        if now.uid != scale.uid {
            let sentence = format!("{} is another one now: nothing is left to take back", scale.target);
            return self.end(UndoState::Abandoned, sentence);
        }
        if let Some(later) = self.later_act() {
            return self.wait(&later);
        }
        if let Some(step) = self.arrived_late(now) {
            return step;
        }
        // What was begun may arrive after something smaller was decided instead.
        let ours = now.is_ours() && (undo.baseline..undo.wrote).contains(&now.replicas);
        if undo.writing.is_some() && ours {
            return self.stepped(now.replicas);
        }
        if self.remediation.status.acted_at.is_none() && now.replicas == undo.baseline {
            return self.never_arrived();
        }
        if self.is_late() && now.is_ours() && now.replicas > undo.baseline {
            // Also where a later act's stand, which has been given up as well.
            let why = self.may_step(DueBy::Drain).err();
            let why = why.unwrap_or_else(|| "there was no time for a look after the last step".to_owned());
            return self.end(UndoState::Abandoned, self.given_up(&why));
        }
        if now.replicas != undo.wrote || !now.is_ours() {
            let sentence = format!(
                "{} has set {} replicas after we had set {}: theirs stands",
                now.others(),
                now.replicas,
                undo.wrote
            );
            return self.end(UndoState::Contested, sentence);
        }
        if let Some(breach) = self.abandoned() {
            return self.end(UndoState::Abandoned, breach);
        }
        match self.due() {
            None => self.wait("it is not due yet"),
            // Also where a step is written down: it may be one that was for Worse, or a later act has been stepped down since.
            Some(by) if by != DueBy::Worse && !self.has_been_seen(by) => {
                self.wait("what came of the last step has not been read for long enough yet")
            }
            Some(by) => match self.may_step(by) {
                Ok(()) => self.step(by),
                Err(why) if seen_overdue(self) => self.overdue(&why),
                Err(why) => self.wait(&why),
            },
        }
    }

    /// A later act on the same workload is taken back first: what it found is what we left.
    fn later_act(&self) -> Option<String> {
        let own = (self.remediation.namespace.clone(), self.remediation.name.clone());
        let Some(admission) = &self.seen.admission else {
            return Some("the ledger cannot be asked".to_owned());
        };
        if !admission.fleet.ledger_complete {
            return Some("the ledger is not complete yet".to_owned());
        }
        let acted_at = self.remediation.may_have_acted_at();
        let resource = &self.remediation.spec.resource;
        admission
            .ledger
            .others(&own)
            .find(|(key, entry)| {
                let later = (entry.acted_at, *key) > (acted_at, &own);
                entry.owes && later && entry.resource.same_as(resource)
            })
            .map(|((_, name), _)| {
                format!("{name} acted on {} later and is taken back first", self.scale.target)
            })
    }

    /// Interrupted, and nothing was done. What was sent may yet arrive for a while.
    fn never_arrived(&self) -> Step {
        if self.is_late() && self.seen.now < self.undo.due_at {
            let sentence = self.given_up("what was sent and never answered may yet arrive");
            return self.end(UndoState::Abandoned, sentence);
        }
        if self.seen.now < self.undo.due_at {
            return Step::Wait { until: self.undo.due_at, why: "what was sent may yet arrive".to_owned() };
        }
        let sentence = format!("{} has {} replicas: nothing was done", self.scale.target, self.undo.baseline);
        self.end(UndoState::None, sentence)
    }

    /// Interrupted, and taken for not done; then what was sent arrived. That is said before anything else happens to it: once
    /// somebody sets the replicas back, nobody could tell any more.
    fn arrived_late(&self, now: &WorkloadNow) -> Option<Step> {
        let (undo, status) = (self.undo, &self.remediation.status);
        let stands = now.is_ours() && now.replicas == undo.wrote && undo.writing.is_none();
        if status.acted_at.is_some() || !stands {
            return None;
        }
        let acted_at = Some(status.executing.as_ref()?.started_at);
        let sentence = format!(
            "it was interrupted, and done after all: {} has {} replicas",
            self.scale.target, now.replicas
        );
        let message = sentence.clone();
        let status = Box::new(RemediationStatus { acted_at, message, ..status.clone() });
        let (state, overdue) = (undo.state, undo.overdue);
        let record = RecordKind::Undo { name: self.remediation.name.clone(), state, overdue, sentence };
        Some(Step::Write { status, record })
    }

    /// The policy was deleted in the middle of a breach: nobody is left who wants it back, and taking it away would hurt.
    fn abandoned(&self) -> Option<String> {
        let (_, situation) = self.fresh_view().ok().filter(|_| self.seen.policy_gone)?;
        if !matches!(situation.overall, Overall::Breached(_)) || self.is_worse() {
            return None;
        }
        Some(format!("the policy was deleted while the objectives were broken: {}", self.stays()))
    }

    /// The operator is being uninstalled, and there is no time left.
    fn is_late(&self) -> bool {
        self.seen.draining().is_some_and(|draining| draining.is_late(self.seen.now))
    }

    fn given_up(&self, why: &str) -> String {
        format!("the operator is being uninstalled, and until then {why}: {}", self.stays())
    }

    /// What stays, and how people take it back.
    fn stays(&self) -> String {
        let command = self.remediation.by_hand().unwrap_or_default();
        let target = &self.scale.target;
        format!("{target} keeps its {} replicas; to take them back: {command}", self.undo.wrote)
    }

    /// What makes it due, whichever comes first.
    fn due(&self) -> Option<DueBy> {
        if self.is_worse() {
            return Some(DueBy::Worse);
        }
        let calm = self.fresh_view().is_ok_and(|(snapshot, situation)| {
            // The incident is over, its story told: a step that hurts would be a new one.
            situation.overall == Overall::Healthy
                && situation.incident.is_none()
                && situation.calm >= snapshot.policy.evaluation.recover_for
        });
        if self.seen.draining().is_some() {
            return Some(DueBy::Drain);
        }
        // What was due because of an uninstallation that was given up is so no more.
        let begun = self.undo.due_by.filter(|by| matches!(by, DueBy::Calm | DueBy::MaxHold));
        match begun {
            Some(by) => Some(by),
            None if calm => Some(DueBy::Calm),
            None if self.seen.now >= self.undo.due_at => Some(DueBy::MaxHold),
            None => None,
        }
    }

    /// A fresh reading of that same Worse for which it is to be taken back at once.
    fn is_worse(&self) -> bool {
        let status = &self.remediation.status;
        status.outcome == Some(Outcome::Worse)
            && self.fresh_view().is_ok_and(|(_, situation)| {
                matches!(situation.overall, Overall::Breached(_))
                    && causes::trouble_in_databases(&situation.findings, &self.remediation.spec.cause)
                        .next()
                        .is_some()
            })
    }

    /// The newest look, if it is no older than two intervals.
    fn fresh_view(&self) -> Result<(&Snapshot, &Situation), String> {
        let (snapshot, situation) = self.seen.view.ok_or("the objectives are not being looked at")?;
        let limit = snapshot.policy.evaluation.interval.saturating_mul(2);
        let age = elapsed(self.seen.now, snapshot.now);
        if age > limit {
            return Err(format!("the objectives were looked at {} ago", human(age)));
        }
        Ok((snapshot, situation))
    }

    /// Whether a step may be taken now, or why not.
    fn may_step(&self, by: DueBy) -> Result<(), String> {
        let admission = self.seen.admission.as_ref().ok_or("the ledger cannot be asked")?;
        self.not_frozen(admission.limits)?;
        if by == DueBy::Worse {
            return Ok(());
        }
        #[cfg(planted_bugs)]
        if crate::planted::is("undo_without_health") {
            return Ok(());
        }
        let (snapshot, situation) = self.fresh_view()?;
        match situation.overall {
            Overall::Healthy => {}
            Overall::Breached(severity) => return Err(format!("the objectives are broken ({severity})")),
            Overall::NoData => return Err("whether the objectives are kept is not known".to_owned()),
        }
        if let Some(trouble) = causes::database_trouble(snapshot, &situation.findings, "") {
            return Err(trouble.to_string());
        }
        for (name, _) in snapshot.policy.databases() {
            let Some(observed) = snapshot.observations.dependencies.get(name) else { continue };
            let age = observed.at().map(|at| elapsed(self.seen.now, at));
            if age
                .is_none_or(|age| age > CALM_LOOK.max(snapshot.policy.evaluation.interval.saturating_mul(2)))
            {
                return Err(format!("{name} has not been read for long"));
            }
        }
        Ok(())
    }

    /// Whether a full window has been read since the last step down of this workload, whichever act that took back. Who is being
    /// uninstalled has no time for that: an interval must do. A few bad seconds show in the window's quantile, too: of requests
    /// that come evenly, six of two minutes suffice to break a p95.
    fn has_been_seen(&self, by: DueBy) -> bool {
        #[cfg(planted_bugs)]
        if crate::planted::is("undo_steps_without_a_pause") {
            return true;
        }
        #[cfg(planted_bugs)]
        if crate::planted::is("written_steps_need_no_window") && self.undo.writing.is_some() {
            return true;
        }
        let Some((snapshot, situation)) = self.seen.view else { return false };
        let resource = &self.remediation.spec.resource;
        let own = (self.remediation.namespace.clone(), self.remediation.name.clone());
        let others = self.seen.admission.iter().flat_map(|admission| admission.ledger.others(&own));
        let others = others.filter(|(_, entry)| entry.resource.same_as(resource));
        let last = others.filter_map(|(_, entry)| entry.stepped_at).chain(self.undo.stepped_at).max();
        let newest = situation.readings.iter().map(|reading| reading.at).min();
        let evaluation = &snapshot.policy.evaluation;
        let pause = if by == DueBy::Drain { evaluation.interval } else { evaluation.window };
        match last.map(|at| later(at, pause)) {
            Some(since) => newest.is_some_and(|at| at >= since),
            None => true,
        }
    }

    /// A freeze of All stops this too, and one that cannot be ruled out may be one.
    fn not_frozen(&self, limits: &Limits) -> Result<(), String> {
        if let Some(why) = &limits.unreadable {
            return Err(format!("not all LatencyBudgets are known: {why}"));
        }
        let here = limits.budgets.iter().filter(|budget| budget.applies(&self.remediation.namespace));
        match here.into_iter().find(|budget| budget.frozen(self.seen.now) == Freeze::All) {
            Some(budget) => Err(format!("LatencyBudget {} is frozen (All)", budget.name)),
            None => Ok(()),
        }
    }

    /// Writes a step down, or does one that is.
    fn step(&self, by: DueBy) -> Step {
        let undo = self.undo;
        // All of it at once is for as long as things are worse: afterwards it goes step by step. And a step that calm allowed
        // is not carried out because things are worse again: that is said, and then it is all of it.
        // Nor are the longer steps of who is being uninstalled those of who stays.
        let stands = undo.due_by.is_some_and(|before| manner(before) == manner(by));
        #[cfg(planted_bugs)]
        let stands = stands || crate::planted::is("worse_is_undone_at_once_in_calm");
        if let Some(to) = undo.writing.filter(|_| stands) {
            let fence = later(self.seen.now, DEADLINE);
            let scale = Scale { from: undo.wrote, to, ..self.scale.clone() };
            return Step::Restore { scale, fence };
        }
        let to = match by {
            DueBy::Worse => undo.baseline,
            DueBy::Calm | DueBy::MaxHold => undo.wrote.saturating_sub(self.spec.step).max(undo.baseline),
            DueBy::Drain => undo.wrote.saturating_sub(self.step_in_time()).max(undo.baseline),
        };
        if to >= undo.wrote {
            return self.end(UndoState::Done, format!("{} has {} replicas", self.scale.target, undo.wrote));
        }
        let why = match by {
            DueBy::Calm => "calm has returned".to_owned(),
            DueBy::MaxHold => format!("it was held for {}", human(self.spec.max_hold)),
            DueBy::Worse => "it made things worse".to_owned(),
            DueBy::Drain => "the operator is being uninstalled".to_owned(),
        };
        let target = &self.scale.target;
        let sentence = format!("{why}: {target} goes from {} to {to} replicas", undo.wrote);
        let due_at = match (by, undo.due_by) {
            // Should the operator stay after all, it is held for as long as it was meant to.
            (DueBy::Drain, _) | (_, Some(DueBy::Calm | DueBy::MaxHold | DueBy::Worse)) => undo.due_at,
            (DueBy::Calm | DueBy::MaxHold | DueBy::Worse, None | Some(DueBy::Drain)) => {
                undo.due_at.min(self.seen.now)
            }
        };
        self.write(Undo { writing: Some(to), due_by: Some(by), due_at, ..undo.clone() }, sentence)
    }

    /// As far as usual at a time, or further where there would not be time for all of it: each step is followed by an interval
    /// and a look that may come another one later.
    fn step_in_time(&self) -> u32 {
        let left = self.seen.draining().map(|draining| elapsed(draining.until, self.seen.now));
        let each = self.spec.watch.evaluation.interval.saturating_mul(2).as_millis().max(1);
        let steps = left.unwrap_or_default().as_millis() / each;
        let steps = u32::try_from(steps).unwrap_or(u32::MAX).max(1);
        let added = self.undo.wrote.saturating_sub(self.undo.baseline);
        self.spec.step.max(added.div_ceil(steps))
    }

    fn stepped(&self, replicas: u32) -> Step {
        let undo = self.undo;
        let done = replicas <= undo.baseline;
        let target = &self.scale.target;
        let sentence = if done {
            format!("{target} is back at {replicas} replicas")
        } else {
            format!("{target} is at {replicas} replicas, {} were there before", undo.baseline)
        };
        let state = if done { UndoState::Done } else { UndoState::Owed };
        let stepped_at = Some(self.seen.now);
        self.write(
            Undo { state, wrote: replicas, writing: None, stepped_at, overdue: false, ..undo.clone() },
            sentence,
        )
    }

    fn overdue(&self, why: &str) -> Step {
        if self.undo.overdue {
            return self.wait(why);
        }
        let sentence = format!(
            "{} keeps {} replicas, {} were there before; they have been held for {} and cannot be taken back yet: {why}",
            self.scale.target,
            self.undo.wrote,
            self.undo.baseline,
            human(self.spec.max_hold)
        );
        self.write(Undo { overdue: true, ..self.undo.clone() }, sentence)
    }

    fn end(&self, state: UndoState, sentence: String) -> Step {
        self.write(Undo { state, writing: None, ..self.undo.clone() }, sentence)
    }

    fn write(&self, undo: Undo, sentence: String) -> Step {
        let record = RecordKind::Undo {
            name: self.remediation.name.clone(),
            state: undo.state,
            overdue: undo.overdue,
            sentence,
        };
        let status = RemediationStatus { undo: Some(undo), ..self.remediation.status.clone() };
        Step::Write { status: Box::new(status), record }
    }

    fn wait(&self, why: &str) -> Step {
        let interval = self.spec.watch.evaluation.interval;
        // Who is being uninstalled has little time.
        let longest = Duration::from_secs(if self.seen.draining().is_some() { 2 } else { 15 });
        wait(self.seen, interval.clamp(Duration::from_secs(1), longest), why)
    }
}

/// How far steps go, and what lies between them: a step is carried out in the manner in which it was written down, or written
/// down anew.
fn manner(by: DueBy) -> &'static str {
    match by {
        DueBy::Calm | DueBy::MaxHold => "a step and a window",
        DueBy::Drain => "in time",
        DueBy::Worse => "at once",
    }
}

/// It should have been taken back by now.
fn seen_overdue(case: &Case<'_>) -> bool {
    let held = case.remediation.may_have_acted_at().map(|at| elapsed(case.seen.now, at));
    held.is_some_and(|held| held >= case.spec.max_hold)
}

#[cfg(test)]
#[path = "undo_tests.rs"]
mod tests;
