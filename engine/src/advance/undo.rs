//! Taking back what was done, by compare-and-swap: only what nobody else has changed since.
//!
//! It does not ask whether the policy acts at the moment (mode, pause, suspension), nor for budgets and rests: it is part of
//! an act that was allowed. What stops it: somebody else's later value, a freeze of All, and, for capacity that was added,
//! anything but fresh health of objectives and databases. Capacity that was taken away is given back in any case: once it is calm or
//! after `maxHold`, and at once where it was in vain. What an operator that is being uninstalled cannot take back in time is given
//! up: people are told the command. Each step is written down before it is done, so that a successor knows it for ours; doing it
//! twice does no more than once.

use std::time::Duration;

use jiff::Timestamp;

use super::{Seen, Step, wait};
use crate::causes;
use crate::effects::{Effect, Inspection};
use crate::model::{
    DEADLINE, DueBy, Freeze, Limits, Outcome, Remediation, RemediationSpec, RemediationStatus, Snapshot,
    Undo, UndoSpec, UndoState, duration::human, elapsed, later,
};
use crate::model::{Overall, Situation};
use crate::record::RecordKind;
use crate::rollback::{self, Pace, Place, Revert, Stands, revert};

/// So long what was sent and never answered may yet arrive.
pub(super) const LATE: Duration = Duration::from_secs(60);
/// Databases are looked at so often while all is well, and the look may take its time.
const CALM_LOOK: Duration = Duration::from_secs(75);

/// What is owed from the passing of the gate on.
pub(super) fn owed(spec: &RemediationSpec, now: Timestamp) -> Option<Undo> {
    #[cfg(planted_bugs)]
    if crate::planted::is("undo_not_recorded") {
        return None;
    }
    let undo = spec.undo.as_ref()?;
    Some(Undo {
        state: UndoState::Pending,
        change: rollback::change(&spec.action.act().effect())?,
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
    effect: &'a Effect,
    made: Box<dyn Revert + 'a>,
    spec: &'a UndoSpec,
    undo: &'a Undo,
}

/// The next step of a remediation that is over.
pub(super) fn next(remediation: &Remediation, seen: &Seen<'_>) -> Step {
    let owed = remediation.status.undo.as_ref().filter(|undo| undo.state == UndoState::Pending);
    let effect = remediation.spec.action.act().effect();
    let made = owed.and_then(|undo| revert(&effect, &undo.change));
    let (Some(undo), Some(made), Some(spec)) = (owed, made, &remediation.spec.undo) else {
        return if remediation.held { Step::Release } else { Step::Done };
    };
    let case = Case { remediation, seen, effect: &effect, made, spec, undo };
    if !seen.leading {
        return case.wait("the Lease is not provably held");
    }
    match seen.inspection {
        None => Step::Inspect(effect.clone()),
        Some(Inspection::Unreadable(no_data)) if case.is_late() => {
            case.end(UndoState::Abandoned, case.given_up(&no_data.to_string()))
        }
        Some(Inspection::Unreadable(no_data)) => case.wait(&no_data.to_string()),
        Some(inspection) => match case.made.stands(inspection) {
            Some(Stands::At { ours, place }) => case.with(inspection, ours, place),
            Some(Stands::Gone(how)) => {
                let sentence = format!("{} is {how}: nothing is left to take back", case.made.thing());
                case.end(UndoState::Abandoned, sentence)
            }
            None => case.wait("what was changed has not been seen"),
        },
    }
}

impl Case<'_> {
    fn with(&self, inspection: &Inspection, ours: bool, place: Place) -> Step {
        let made = &self.made;
        if let Some(later) = self.later_act() {
            return self.wait(&later);
        }
        if let Some(step) = self.arrived_late(ours, place) {
            return step;
        }
        // What was begun may arrive after something smaller was decided instead.
        if self.undo.change.writing().is_some() && ours && (Place::Before..Place::Wrote).contains(&place) {
            return self.stepped(inspection);
        }
        if self.remediation.status.acted_at.is_none() && place == Place::Before {
            return self.never_arrived();
        }
        if self.is_late() && ours && place > Place::Before {
            // Also where a later act's stand, which has been given up as well.
            let why = self.may_step(DueBy::Drain).err();
            let why = why.unwrap_or_else(|| "there was no time for a look after the last step".to_owned());
            return self.end(UndoState::Abandoned, self.given_up(&why));
        }
        if place != Place::Wrote || !ours {
            let theirs = made.set_by_others(inspection);
            let sentence = format!("{theirs} after we had set {}: theirs stands", made.wrote());
            return self.end(UndoState::Contested, sentence);
        }
        if let Some(breach) = self.abandoned() {
            return self.end(UndoState::Abandoned, breach);
        }
        match self.due() {
            None => self.wait("it is not due yet"),
            // Also where a step is written down: it may be one that was for Worse, or a later act has been stepped down since.
            Some(by) if !self.is_at_once(by) && !self.has_been_seen(by) => {
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
                format!("{name} acted on {} later and is taken back first", self.made.thing())
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
        let (thing, before, unit) = (self.made.thing(), self.made.before(), self.made.unit());
        self.end(UndoState::None, format!("{thing} has {before} {unit}: nothing was done"))
    }

    /// Interrupted, and taken for not done; then what was sent arrived. That is said before anything else happens to it: once
    /// somebody sets the replicas back, nobody could tell any more.
    fn arrived_late(&self, ours: bool, place: Place) -> Option<Step> {
        let (undo, status) = (self.undo, &self.remediation.status);
        let stands = ours && place == Place::Wrote && undo.change.writing().is_none();
        if status.acted_at.is_some() || !stands {
            return None;
        }
        let acted_at = Some(status.executing.as_ref()?.started_at);
        let (thing, wrote, unit) = (self.made.thing(), self.made.wrote(), self.made.unit());
        let sentence = format!("it was interrupted, and done after all: {thing} has {wrote} {unit}");
        let message = sentence.clone();
        let status = Box::new(RemediationStatus { acted_at, message, ..status.clone() });
        let (state, overdue) = (undo.state, undo.overdue);
        let record = RecordKind::Undo { name: self.remediation.name.clone(), state, overdue, sentence };
        Some(Step::Write { status, record })
    }

    /// The policy was deleted in the middle of a breach: nobody is left who wants it back, and taking it away would hurt.
    fn abandoned(&self) -> Option<String> {
        if self.made.gives_back() {
            return None;
        }
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
        let (thing, wrote, unit) = (self.made.thing(), self.made.wrote(), self.made.unit());
        format!("{thing} keeps its {wrote} {unit}; to take them back: {command}")
    }

    /// What makes it due, whichever comes first.
    fn due(&self) -> Option<DueBy> {
        if self.made.gives_back() {
            return self.due_to_give_back();
        }
        if self.is_worse() {
            return Some(DueBy::Worse);
        }
        let calm = self.is_calm();
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

    /// What makes it due to give capacity back. Nobody waits for ever for what was taken away.
    fn due_to_give_back(&self) -> Option<DueBy> {
        if self.seen.draining().is_some() {
            Some(DueBy::Drain)
        } else if self.is_in_vain() {
            Some(DueBy::InVain)
        } else if seen_overdue(self) {
            Some(DueBy::MaxHold)
        } else if self.undo.due_by == Some(DueBy::Calm) || self.is_calm() {
            Some(DueBy::Calm)
        } else {
            None
        }
    }

    /// What was taken away does not help, or nobody is left who wants it.
    fn is_in_vain(&self) -> bool {
        let outcome = self.remediation.status.outcome;
        self.seen.policy_gone || matches!(outcome, Some(Outcome::Ineffective | Outcome::Worse))
    }

    /// The objectives have been kept for long enough.
    fn is_calm(&self) -> bool {
        self.fresh_view().is_ok_and(|(snapshot, situation)| {
            // The incident is over, its story told: a step that hurts would be a new one.
            situation.overall == Overall::Healthy
                && situation.incident.is_none()
                && situation.calm >= snapshot.policy.evaluation.recover_for
        })
    }

    /// Whether a step that is due by this needs fresh health. What gives capacity back is a load on the databases while all is well,
    /// and owed in any case later.
    fn asks_for_health(&self, by: DueBy) -> bool {
        match by {
            DueBy::Calm => true,
            DueBy::MaxHold | DueBy::Drain => !self.made.gives_back(),
            DueBy::Worse | DueBy::InVain => false,
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
        if !self.asks_for_health(by) {
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
        if crate::planted::is("written_steps_need_no_window") && self.undo.change.writing().is_some() {
            return true;
        }
        let resource = &self.remediation.spec.resource;
        let own = (self.remediation.namespace.clone(), self.remediation.name.clone());
        let others = self.seen.admission.iter().flat_map(|admission| admission.ledger.others(&own));
        let others = others.filter(|(_, entry)| entry.resource.same_as(resource));
        let last = others.filter_map(|(_, entry)| entry.stepped_at).chain(self.undo.stepped_at).max();
        let Some(last) = last else { return true };
        if !self.asks_for_health(by) {
            // Nothing has to be seen in the meantime, which may show nothing.
            return later(last, self.spec.watch.evaluation.window) <= self.seen.now;
        }
        let Some((snapshot, situation)) = self.seen.view else { return false };
        let newest = situation.readings.iter().map(|reading| reading.at).min();
        let evaluation = &snapshot.policy.evaluation;
        let pause = if by == DueBy::Drain { evaluation.interval } else { evaluation.window };
        newest.is_some_and(|at| at >= later(last, pause))
    }

    /// Whether all of it is taken back in one step, without a look at what comes of it.
    fn is_at_once(&self, by: DueBy) -> bool {
        match by {
            DueBy::Worse | DueBy::InVain => true,
            DueBy::Drain => self.made.gives_back(),
            DueBy::Calm | DueBy::MaxHold => false,
        }
    }

    /// A freeze of ActionsAndRollbacks stops this too, and one that cannot be ruled out may be one.
    fn not_frozen(&self, limits: &Limits) -> Result<(), String> {
        if let Some(why) = &limits.unreadable {
            return Err(format!("not all RemediationBudgets are known: {why}"));
        }
        let here = limits.budgets.iter().filter(|budget| budget.applies(&self.remediation.namespace));
        match here.into_iter().find(|budget| budget.frozen(self.seen.now) == Freeze::ActionsAndRollbacks) {
            Some(budget) => {
                Err(format!("RemediationBudget {} is frozen ({})", budget.name, Freeze::ActionsAndRollbacks))
            }
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
        if let Some(effect) = self.made.step().filter(|_| stands) {
            return Step::Restore { effect, fence: later(self.seen.now, DEADLINE) };
        }
        let pace = match by {
            by if self.is_at_once(by) => Pace::AtOnce,
            DueBy::Drain => Pace::By(self.step_in_time()),
            DueBy::Calm | DueBy::MaxHold | DueBy::Worse | DueBy::InVain => Pace::By(self.spec.step),
        };
        let (thing, wrote, unit) = (self.made.thing(), self.made.wrote(), self.made.unit());
        let Some((change, to)) = self.made.next(pace) else {
            return self.end(UndoState::Done, format!("{thing} has {wrote} {unit}"));
        };
        let why = match by {
            DueBy::Calm => "calm has returned".to_owned(),
            DueBy::MaxHold => format!("it was held for {}", human(self.spec.max_hold)),
            DueBy::Worse => "it made things worse".to_owned(),
            DueBy::InVain if self.seen.policy_gone => "the policy was deleted".to_owned(),
            DueBy::InVain => "it did not help".to_owned(),
            DueBy::Drain => "the operator is being uninstalled".to_owned(),
        };
        let sentence = format!("{why}: {thing} goes from {wrote} to {to} {unit}");
        let due_at = match (by, undo.due_by) {
            // Should the operator stay after all, it is held for as long as it was meant to.
            (DueBy::Drain, _) | (_, Some(DueBy::Calm | DueBy::MaxHold | DueBy::Worse | DueBy::InVain)) => {
                undo.due_at
            }
            (DueBy::Calm | DueBy::MaxHold | DueBy::Worse | DueBy::InVain, None | Some(DueBy::Drain)) => {
                undo.due_at.min(self.seen.now)
            }
        };
        self.write(Undo { change, due_by: Some(by), due_at, ..undo.clone() }, sentence)
    }

    /// As far as usual at a time, or further where there would not be time for all of it: each step is followed by an interval
    /// and a look that may come another one later.
    fn step_in_time(&self) -> u32 {
        let left = self.seen.draining().map(|draining| elapsed(draining.until, self.seen.now));
        let each = self.spec.watch.evaluation.interval.saturating_mul(2).as_millis().max(1);
        let steps = left.unwrap_or_default().as_millis() / each;
        let steps = u32::try_from(steps).unwrap_or(u32::MAX).max(1);
        self.spec.step.max(self.made.left().div_ceil(steps))
    }

    fn stepped(&self, inspection: &Inspection) -> Step {
        let Some(change) = self.made.arrived(inspection) else { return self.wait("the step") };
        let Some(now) = revert(self.effect, &change) else { return self.wait("the step") };
        let (thing, value, unit) = (now.thing(), now.wrote(), now.unit());
        let (state, sentence) = if now.left() == 0 {
            (UndoState::Done, format!("{thing} is back at {value} {unit}"))
        } else {
            let before = now.before();
            (UndoState::Pending, format!("{thing} is at {value} {unit}, {before} were there before"))
        };
        let stepped_at = Some(self.seen.now);
        let undo = Undo { state, change: change.clone(), stepped_at, overdue: false, ..self.undo.clone() };
        self.write(undo, sentence)
    }

    fn overdue(&self, why: &str) -> Step {
        if self.undo.overdue {
            return self.wait(why);
        }
        let made = &self.made;
        let sentence = format!(
            "{} keeps {} {}, {} were there before; they have been held for {} and cannot be taken back yet: {why}",
            made.thing(),
            made.wrote(),
            made.unit(),
            made.before(),
            human(self.spec.max_hold)
        );
        self.write(Undo { overdue: true, ..self.undo.clone() }, sentence)
    }

    fn end(&self, state: UndoState, sentence: String) -> Step {
        self.write(Undo { state, change: self.made.at_rest(), ..self.undo.clone() }, sentence)
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
        DueBy::Worse | DueBy::InVain => "at once",
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
