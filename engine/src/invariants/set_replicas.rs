//! What must be true of replicas that were set, until they are taken back.

use jiff::Timestamp;

use super::act::Found;
use super::{Checker, EntryKey, Intent, MANAGER, Replicas, Seen, Thing, act::newest, ceilings::covers};
use crate::effects::{Effect, SetReplicas};
use crate::model::{
    Change, Draining, DueBy, Freeze, Phase, Policy, Remediation, ReplicasChange, RungAction, ScaleStep, Undo,
    UndoState, duration::human, earlier, elapsed, later,
};

/// Managers whose value is Git's.
const GITOPS: [&str; 4] =
    ["argocd-controller", "argocd-application-controller", "kustomize-controller", "helm-controller"];

impl Checker {
    /// The operator has written replicas.
    pub(super) fn scaled(&mut self, at: Timestamp, replicas: &Replicas) {
        match replicas.remediation.clone().or_else(|| self.intent_of(replicas)) {
            Some(key) if self.intents.get(&key).is_some_and(|intent| is_step(intent, replicas)) => {
                self.stepped(at, replicas, &key);
            }
            Some(key) if self.intents.contains_key(&key) => self.scaled_up(at, replicas, &key),
            Some((_, name)) => {
                let message = format!("{} was written for {name}, which is not stored", replicas.to);
                self.violated("S3", at, message);
            }
            None => {
                let target = &replicas.workload.target;
                let message = format!("{target} was set to {}, and no stored intent says so", replicas.to);
                self.violated("S3", at, message);
            }
        }
        self.stands(replicas);
    }

    fn intent_of(&self, replicas: &Replicas) -> Option<EntryKey> {
        let fits = |intent: &(&EntryKey, &Intent)| {
            let (_, intent) = intent;
            let Effect::SetReplicas(set) = &intent.effect else { return false };
            let acts = intent.landed.is_none() && intent.executing_at.is_some() && set.to == replicas.to;
            set.uid == replicas.workload.uid && (is_step(intent, replicas) || acts)
        };
        // Of several that fit, one that says so at this moment, or else the last one.
        let likely = |(_, intent): &(&EntryKey, &Intent)| {
            let undo = intent.stored.status.undo.as_ref();
            let steps = undo.is_some_and(|undo| {
                undo.state == UndoState::Pending && stepping_to(undo) == Some(replicas.to)
            });
            (steps || intent.stored.status.phase == Phase::Executing, intent.executing_at)
        };
        self.intents.iter().filter(fits).max_by_key(likely).map(|(key, _)| key.clone())
    }

    /// The operator has written replicas that are no step of an undo.
    pub(super) fn scaled_up(&mut self, at: Timestamp, replicas: &Replicas, key: &EntryKey) {
        let Some(intent) = self.intents.get(key) else { return };
        let mut found = Found::new();
        let before = self.standing.get(&replicas.workload.uid);
        let from = replicas.from.or(before.map(|standing| standing.replicas));
        if let Effect::SetReplicas(decided) = &intent.effect {
            self.right_replicas(at, replicas, decided, from, intent, &mut found);
        } else {
            found.push(("S3", "replicas were written by an act on something else".to_owned()));
        }
        if before.is_some_and(|standing| GITOPS.contains(&standing.manager.as_str())) {
            found.push(("S7", "a GitOps controller had set the replicas".to_owned()));
        }
        let place = (replicas.workload.namespace.clone(), replicas.workload.target.clone());
        if let Some(scalers) = self.scalers.get(&place) {
            // Where it is not known: after its gate, and no longer ago than a write may be under way.
            let gate = intent.executing_at.unwrap_or(at);
            let sent = replicas.sent.unwrap_or_else(|| earlier(at, self.tolerance.late).max(gate));
            let versions = scalers.during(at, elapsed(at, sent).saturating_add(self.tolerance.hearing));
            if !versions.is_empty() && versions.iter().all(|(_, scalers)| !scalers.is_empty()) {
                found.push(("S7", format!("{} is scaled by an autoscaler", replicas.workload.target)));
            }
        }
        self.acted(at, key, self.tolerance.late, found);
    }

    /// S5, S6, S7 and U1, for the numbers.
    fn right_replicas(
        &self,
        at: Timestamp,
        replicas: &Replicas,
        decided: &SetReplicas,
        from: Option<u32>,
        intent: &Intent,
        found: &mut Found,
    ) {
        let (to, target) = (replicas.to, &replicas.workload.target);
        if decided.uid != replicas.workload.uid
            || decided.to != to
            || from.is_some_and(|from| from != decided.from)
        {
            found.push((
                "S6",
                format!(
                    "{target} went from {from:?} to {to}; {} to {} was decided",
                    decided.from, decided.to
                ),
            ));
        }
        let rung = &intent.stored.spec.rung;
        let allowed = |policy: &Policy| {
            policy.rungs.iter().any(|r| r.name == *rung && lets(&r.action, decided.from, to))
        };
        if !self.some_version_within(at, self.tolerance.late, &intent.stored.spec.policy, allowed) {
            found.push((
                "S5",
                format!(
                    "{target} went from {} to {to}, which remediation {rung} does not allow",
                    decided.from
                ),
            ));
        }
        let owes = intent.stored.status.undo.as_ref().is_some_and(|undo| {
            let ReplicasChange { baseline, wrote, .. } = *changed(undo);
            undo.state == UndoState::Pending && baseline == decided.from && wrote == decided.to
        });
        if !owes {
            found.push(("U1", format!("{target} was set to {to}, and nothing stored owes it")));
        }
        let other = self.intents.iter().find(|(_, other)| {
            let owes = other.stored.status.undo.as_ref().is_some_and(|undo| undo.state == UndoState::Pending);
            owes && other.landed.is_some()
                && other.stored.spec.policy != intent.stored.spec.policy
                && other.thing == Thing::Workload(replicas.workload.uid.clone())
        });
        if let Some(((_, name), _)) = other {
            found.push((
                "S7",
                format!("{name} of another policy has changed {target} and not yet taken it back"),
            ));
        }
    }

    /// A step of an undo was written.
    fn stepped(&mut self, at: Timestamp, replicas: &Replicas, key: &EntryKey) {
        let Some(intent) = self.intents.get(key) else { return };
        let Some(undo) = intent.stored.status.undo.clone() else { return };
        let ReplicasChange { baseline, wrote, writing } = *changed(&undo);
        let mut found = Found::new();
        let (to, target) = (replicas.to, &replicas.workload.target);
        let before = self.standing.get(&replicas.workload.uid);
        let from = replicas.from.or(before.map(|standing| standing.replicas));
        if from.is_some_and(|from| from != wrote) {
            found.push(("S6", format!("{target} went from {from:?} to {to}, {wrote} were ours")));
        }
        if let Some(other) = before.filter(|standing| standing.manager != MANAGER) {
            let (manager, theirs) = (&other.manager, other.replicas);
            found.push(("S21", format!("{manager} had set {theirs} replicas of {target}, we set {to}")));
        }
        let leads_back =
            if wrote < baseline { wrote < to && to <= baseline } else { baseline <= to && to < wrote };
        if writing != Some(to) || undo.state != UndoState::Pending || !leads_back {
            found.push((
                "U3",
                format!(
                    "{target} was set to {to}; stored is {:?} to {writing:?}, and {baseline} before the act",
                    undo.state
                ),
            ));
        }
        self.step_size(at, replicas, intent, &undo, &mut found);
        self.healthy_step(at, replicas.sent, intent, &undo, &mut found);
        self.frozen(at, key, &mut found);
        if let Some(intent) = self.intents.get_mut(key) {
            intent.stepped = Some(at);
        }
        for (id, message) in found {
            self.violated(id, at, format!("{}: {message}", key.1));
        }
    }

    /// U3: one step a window, of one workload, whichever act it takes back.
    fn step_size(&self, at: Timestamp, replicas: &Replicas, intent: &Intent, undo: &Undo, found: &mut Found) {
        let Some(spec) = &intent.stored.spec.undo else { return };
        // All of it at once.
        if matches!(undo.due_by, Some(DueBy::Worse | DueBy::InVain)) {
            return;
        }
        let drains = undo.due_by == Some(DueBy::Drain);
        let marked = |mark: Draining| later(mark.over_at(), self.tolerance.clock);
        if drains && !self.some_mark(at, |mark| marked(mark) >= earlier(at, self.tolerance.late)) {
            found.push(("U3", "it was taken back for an uninstallation that there was not".to_owned()));
        }
        let wrote = changed(undo).wrote;
        if !drains && wrote.abs_diff(replicas.to) > spec.step {
            found.push(("U3", format!("it went from {wrote} to {}, a step is {}", replicas.to, spec.step)));
        }
        let evaluation = &spec.watch.evaluation;
        let pause = if drains { evaluation.interval } else { evaluation.window };
        let of_thing = self.intents.values().filter(|other| other.thing == intent.thing);
        if let Some(last) = of_thing.filter_map(|other| other.stepped).max() {
            let apart = elapsed(at, last);
            // The last step was noted a moment after it was done.
            if apart.saturating_add(self.tolerance.clock) < pause {
                found.push((
                    "U3",
                    format!("the last step was {} before, {} must lie between", human(apart), human(pause)),
                ));
            }
        }
    }

    /// U2.
    fn healthy_step(
        &self,
        at: Timestamp,
        sent: Option<Timestamp>,
        intent: &Intent,
        undo: &Undo,
        found: &mut Found,
    ) {
        let Some(spec) = intent.stored.spec.undo.as_ref().filter(|_| self.knows_readings()) else { return };
        // What was taken away is given back without a look, unless calm is the reason.
        if gives_back(intent) && undo.due_by != Some(DueBy::Calm) {
            return;
        }
        let holders = self.lease.during(at, self.tolerance.late);
        let mut readers: Vec<&String> =
            holders.iter().filter_map(|(_, (holder, _))| holder.as_ref()).collect();
        readers.extend(intent.stored.status.executing.iter().map(|executing| &executing.holder));
        // Where it is not known: after it was written down, and no longer ago than a write may be under way.
        let sent =
            sent.unwrap_or_else(|| earlier(at, self.tolerance.late).max(intent.writing_since.unwrap_or(at)));
        let slack = elapsed(at, sent).saturating_add(self.tolerance.hearing);
        let span = spec.watch.evaluation.interval.saturating_mul(2).saturating_add(slack);
        let worse = undo.due_by == Some(DueBy::Worse);
        let enough = readers
            .iter()
            .filter_map(|reader| self.readings_of(&intent.stored.spec.policy, reader))
            .any(|readings| {
                newest(readings, at, slack).any(|(then, objectives, databases)| {
                    let fresh = *then >= earlier(at, span);
                    let healthy = matches!(objectives, Seen::Healthy | Seen::Ambiguous)
                        && databases.is_none_or(|databases| databases == Seen::Healthy);
                    fresh && if worse { *objectives == Seen::Breached } else { healthy }
                })
            });
        if !enough {
            let wanted =
                if worse { "Breached, as it must where the act made things worse" } else { "Healthy" };
            found.push(("U2", format!("replicas were taken back, and no fresh reading said {wanted}")));
        }
    }

    /// Whether some mark on the Lease that was in force of late satisfies `allows`.
    fn some_mark(&self, at: Timestamp, allows: impl Fn(Draining) -> bool) -> bool {
        let marks = self.draining.during(at, self.tolerance.late);
        marks.iter().filter_map(|(_, mark)| *mark).any(allows)
    }

    fn frozen(&self, at: Timestamp, key: &EntryKey, found: &mut Found) {
        let late = self.tolerance.late;
        let versions = self.budgets.during(at, late);
        let all = |budgets: &Vec<crate::model::Budget>| {
            budgets
                .iter()
                .any(|budget| covers(budget, &key.0) && budget.freeze == Freeze::ActionsAndRollbacks)
        };
        let since = versions.first().is_some_and(|(since, _)| *since <= earlier(at, late));
        if since && versions.iter().all(|(_, budgets)| all(budgets)) {
            found.push((
                "U3",
                format!("everything has been frozen (ActionsAndRollbacks) for {}", human(late)),
            ));
        }
    }

    /// U1: an undo that is not owed any more, or whose object is gone, left nothing of ours standing.
    pub(super) fn settled(&mut self, at: Timestamp, before: &Intent, after: Option<&Remediation>) {
        let was = before.stored.status.undo.as_ref().filter(|undo| undo.state == UndoState::Pending);
        let (Some(was), Effect::SetReplicas(set)) = (was, &before.effect) else { return };
        let undo = after.and_then(|after| after.status.undo.as_ref());
        if undo.is_some_and(|undo| undo.state == UndoState::Pending) {
            return;
        }
        // What was written last may be the step that is about to be noted.
        let ours = self.standing.get(&set.uid).filter(|standing| standing.manager == MANAGER);
        let stands = |replicas: u32| {
            let baseline = changed(was).baseline;
            if set.takes_away() { replicas < baseline } else { replicas > baseline }
        };
        let Some(ours) = ours.filter(|ours| before.landed.is_some() && stands(ours.replicas)) else { return };
        let policy = (before.stored.spec.policy.namespace.clone(), before.stored.spec.policy.name.clone());
        let versions = self.policies.get(&policy).map(|versions| versions.during(at, self.tolerance.late));
        let policy_gone = versions.is_some_and(|versions| {
            let another = |policy: &Policy| policy.id.uid != before.stored.spec.policy.uid;
            versions.iter().any(|(_, version)| version.as_ref().is_none_or(another))
        });
        let state = undo.map(|undo| undo.state);
        let excused = match state {
            Some(UndoState::Abandoned) => {
                let late = |mark: Draining| mark.is_late(later(at, self.tolerance.clock));
                // What was taken away is nobody's to keep.
                (policy_gone && !set.takes_away()) || self.policies.is_empty() || self.some_mark(at, late)
            }
            Some(UndoState::Contested) => ours.replicas != changed(was).wrote,
            Some(UndoState::None | UndoState::Done | UndoState::Pending) | None => false,
        };
        if !excused {
            let message = format!(
                "{} stands at {} replicas that we set, {} were there before, and what was owed is {}",
                set.target,
                ours.replicas,
                changed(was).baseline,
                state.map_or("gone".to_owned(), |state| state.to_string())
            );
            self.violated("U1", at, format!("{}: {message}", before.stored.name));
        }
    }
}

/// Whether a rung lets replicas be set from one number to another. What each action that sets replicas may do is said here once
/// more; one that is not here may do nothing.
fn lets(action: &RungAction, from: u32, to: u32) -> bool {
    if let RungAction::ShedWorkers(settings) = action {
        return to < from && to >= settings.min.max(1);
    }
    let RungAction::Scale(settings) = action else { return false };
    let most = match settings.step {
        ScaleStep::Share(share) => (f64::from(from) * share).ceil().max(1.0),
        ScaleStep::Count(count) => f64::from(count.max(1)),
    };
    to > from && to <= settings.max && f64::from(to - from) <= most
}

/// The replicas that an undo is about.
pub(super) fn changed(undo: &Undo) -> &ReplicasChange {
    let Change::Replicas(replicas) = &undo.change;
    replicas
}

fn stepping_to(undo: &Undo) -> Option<u32> {
    changed(undo).writing
}

/// Whether it is a step of the intent's undo, and not its act.
fn is_step(intent: &Intent, replicas: &Replicas) -> bool {
    let undo = intent.stored.status.undo.as_ref();
    let begun = undo.is_some_and(|undo| stepping_to(undo) == Some(replicas.to));
    let acted = intent.landed.is_some() && intent.stored.status.phase != Phase::Executing;
    let leads_back = |undo: &Undo| {
        let wrote = changed(undo).wrote;
        if gives_back(intent) { replicas.to > wrote } else { replicas.to < wrote }
    };
    begun || (acted && undo.is_some_and(leads_back))
}

/// Whether taking it back gives replicas back that it took away.
fn gives_back(intent: &Intent) -> bool {
    matches!(&intent.effect, Effect::SetReplicas(set) if set.takes_away())
}
