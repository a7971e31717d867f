//! What must be true at the instant at which an act reaches the world.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{Act, Checker, Intent, Seen, ceilings::covers, timeline::Timeline};
use crate::effects::{Effect, Signal as How};
use crate::model::{
    ActionKind, Budget, EntryKey, Freeze, Mode, Policy, PolicyRef, duration::human, earlier, elapsed, later,
};

/// Fewer targets make no storm.
const STORM: usize = 5;

pub(super) type Found = Vec<(&'static str, String)>;

impl Checker {
    /// What holds for every act. `late`: how long it may have been under way.
    pub(super) fn acted(&mut self, at: Timestamp, key: &EntryKey, late: Duration, mut found: Found) {
        let Some(intent) = self.intents.get(key) else { return };
        let act = self.act_of(at, key, intent);
        if intent.executing_at.is_none() {
            found.push(("S3", format!("{} took effect and was never stored as Executing", key.1)));
        }
        if let Some(before) = intent.landed {
            found.push(("S2", format!("{} had taken effect {} before", key.1, human(elapsed(at, before)))));
        }
        found.extend(intent.doubts.iter().cloned());
        self.cooldown(&act, &mut found);
        self.terms(&act, late, &mut found);
        self.ceilings(&act, &mut found);
        // What was under way for long was sent when what was in force then was in force.
        let heard = late.max(self.tolerance.hearing);
        self.permitted(&act, heard, &mut found);
        self.storm(&act, heard, &mut found);
        self.forget_old(at);
        self.acts.push_back(act);
        if let Some(intent) = self.intents.get_mut(key) {
            intent.landed.get_or_insert(at);
        }
        for (id, message) in found {
            self.violated(id, at, format!("{}: {message}", key.1));
        }
    }

    /// S1.
    fn cooldown(&self, act: &Act, found: &mut Found) {
        let follows = |before: &Act| {
            before.policy.namespace == act.policy.namespace
                && before.incident == act.incident
                && (before.rung != act.rung || act.ends_what_was_cancelled())
        };
        let others = self.acts.iter().filter(|before| before.thing == act.thing && before.key != act.key);
        for before in others.filter(|before| !follows(before)) {
            let (rested, rest) =
                (elapsed(act.rests_from, before.rests_from), before.cooldown.max(act.cooldown));
            if rested.saturating_add(self.tolerance.clock) < rest {
                let (rested, rest) = (human(rested), human(rest));
                let name = &before.key.1;
                found.push((
                    "S1",
                    format!("{} was acted on by {name} {rested} before, it rests for {rest}", act.thing),
                ));
            }
        }
    }

    /// S16 and S18.
    pub(super) fn terms(&self, act: &Act, late: Duration, found: &mut Found) {
        let versions = self.lease.during(act.at, late);
        let over = |(_, (_, term)): &(Timestamp, (Option<String>, super::Term))| *term > act.term;
        if !versions.is_empty() && versions.iter().all(over) {
            found.push(("S16", format!("term {} was over {} before", act.term.1, human(late))));
        }
        let newer = self.acts.iter().find(|before| before.thing == act.thing && before.term > act.term);
        if let Some(newer) = newer {
            found.push((
                "S18",
                format!(
                    "{} of term {} reached {} before it, of term {}",
                    newer.key.1, newer.term.1, act.thing, act.term.1
                ),
            ));
        }
    }

    /// S15.
    pub(super) fn permitted(&self, act: &Act, heard: Duration, found: &mut Found) {
        let runs = |policy: &Policy| {
            let rung = policy.rungs.iter().find(|rung| rung.name == act.rung);
            policy.id.uid == act.policy.uid
                && policy.mode == Mode::Auto
                && rung.is_some_and(|rung| rung.mode.is_none_or(|mode| mode == Mode::Auto))
        };
        if !self.some_version_within(act.at, heard, &act.policy, runs) {
            let policy = &act.policy;
            found.push(("S15", format!("policy {policy} has been gone or observing for {}", human(heard))));
        }
        let policies = (act.policy.namespace.clone(), act.policy.name.clone());
        let current = self.policies.get(&policies).and_then(Timeline::last).and_then(Option::as_ref);
        for (place, pauses) in &self.pauses {
            let here = match place {
                super::Place::Policy(namespace, name) => (namespace, name) == (&policies.0, &policies.1),
                super::Place::Namespace(namespace) => *namespace == policies.0,
                super::Place::Target(namespace, target) => {
                    *namespace == policies.0 && current.is_some_and(|policy| policy.target == *target)
                }
            };
            let versions = pauses.during(act.at, heard);
            let paused = |(_, until): &(Timestamp, Option<String>)| {
                until.as_ref().is_some_and(|until| {
                    // The clock of the process that judges may be ahead.
                    let end: Option<Timestamp> = until.trim().parse().ok();
                    end.is_none_or(|end| later(act.at, self.tolerance.clock) < end)
                })
            };
            let since = versions.first().is_some_and(|(since, _)| *since <= earlier(act.at, heard));
            if here && since && versions.iter().all(paused) {
                found.push(("S15", format!("{place:?} has been paused for {}", human(heard))));
            }
        }
        if self.drained(act.at, heard) {
            found.push(("S23", format!("the operator has been uninstalled for {}", human(heard))));
        }
        let stops = |budgets: &[Budget]| budgets.iter().any(|budget| stops(budget, act));
        let versions = self.budgets.during(act.at, heard);
        let since = versions.first().is_some_and(|(since, _)| *since <= earlier(act.at, heard));
        if since && versions.iter().all(|(_, budgets)| stops(budgets)) {
            found.push(("S15", format!("a RemediationBudget has frozen or denied it for {}", human(heard))));
        }
    }

    /// Whether the Lease has been marked for all of that span.
    fn drained(&self, at: Timestamp, heard: Duration) -> bool {
        let versions = self.draining.during(at, heard);
        // The clock of the process that judges may be ahead.
        let judged = later(at, self.tolerance.clock);
        versions.first().is_some_and(|(since, _)| *since <= earlier(at, heard))
            && versions.iter().all(|(_, mark)| mark.is_some_and(|mark| mark.holds(judged)))
    }

    /// S17.
    pub(super) fn storm(&self, act: &Act, heard: Duration, found: &mut Found) {
        let Some(reader) = self.intents.get(&act.key).and_then(|intent| {
            intent.stored.status.executing.as_ref().map(|executing| executing.holder.clone())
        }) else {
            return;
        };
        let mut targets: BTreeMap<_, bool> = BTreeMap::new();
        for policy in self.policies.values().filter_map(|versions| versions.last().and_then(Option::as_ref)) {
            let span = policy.evaluation.interval.saturating_mul(2).saturating_add(heard);
            let dark = self.readings_of(&policy.id, &reader).is_some_and(|readings| {
                let recent = readings.newest.iter().filter(|(at, ..)| *at >= earlier(act.at, span));
                let all: Vec<Seen> = recent.map(|(_, seen, _)| *seen).collect();
                all.len() > 1 && all.iter().all(|seen| *seen == Seen::Dark)
            });
            *targets.entry((&policy.id.namespace, &policy.target)).or_default() |= dark;
        }
        let dark = targets.values().filter(|dark| **dark).count();
        if targets.len() >= STORM && dark * 2 > targets.len() {
            found.push(("S17", format!("{dark} of {} targets are without data", targets.len())));
        }
    }

    /// Whether some version of the policy that was in force of late satisfies `allows`; true where policies are not told.
    pub(super) fn some_version(
        &self,
        at: Timestamp,
        policy: &PolicyRef,
        allows: impl Fn(&Policy) -> bool,
    ) -> bool {
        self.some_version_within(at, self.tolerance.hearing, policy, allows)
    }

    pub(super) fn some_version_within(
        &self,
        at: Timestamp,
        span: Duration,
        policy: &PolicyRef,
        allows: impl Fn(&Policy) -> bool,
    ) -> bool {
        if self.policies.is_empty() {
            return true;
        }
        let versions = self.policies.get(&(policy.namespace.clone(), policy.name.clone()));
        versions.is_some_and(|versions| {
            versions.during(at, span).iter().filter_map(|(_, version)| version.as_ref()).any(&allows)
        })
    }

    /// S13 and S14: what speaks against an act whose gate is being passed, should it take effect.
    pub(super) fn doubts(&self, at: Timestamp, stored: &crate::model::Remediation) -> Found {
        let mut found = Found::new();
        let Some(executing) = &stored.status.executing else { return found };
        if !self.knows_readings() {
            return found;
        }
        let key = (stored.spec.policy.namespace.clone(), stored.spec.policy.name.clone());
        let policy = self.policies.get(&key).and_then(Timeline::last).and_then(Option::as_ref);
        let Some(evaluation) = policy.map(|policy| &policy.evaluation) else { return found };
        let Some(readings) = self.readings_of(&stored.spec.policy, &executing.holder) else {
            found.push(("S13", format!("{} had read nothing of the policy", executing.holder)));
            return found;
        };
        let span = evaluation.interval.saturating_mul(2).saturating_add(self.tolerance.hearing);
        let breached = newest(readings, at, self.tolerance.hearing)
            .any(|(then, seen, _)| *seen == Seen::Breached && *then >= earlier(at, span));
        if !breached {
            let last = readings.newest.back().map(|(then, seen, _)| (human(elapsed(at, *then)), *seen));
            found.push((
                "S13",
                format!("no fresh reading said Breached; the last one before the gate: {last:?}"),
            ));
        }
        let watched = readings.breached_since.map(|since| elapsed(at, since)).unwrap_or_default();
        let slack = Duration::from_secs(2);
        if breached
            && watched.saturating_add(slack).saturating_add(self.tolerance.hearing) < evaluation.breach_for
        {
            let needed = human(evaluation.breach_for);
            found.push((
                "S14",
                format!("the breach had been seen for {}, {needed} are needed", human(watched)),
            ));
        }
        found
    }

    pub(super) fn act_of(&self, at: Timestamp, key: &EntryKey, intent: &Intent) -> Act {
        let spec = &intent.stored.spec;
        let deadline = intent.executing_at.map_or(at, |gate| later(gate, spec.deadline));
        let executing = intent.stored.status.executing.as_ref();
        let term = executing.map_or((0, 0), |executing| {
            (self.lives.get(&executing.holder).copied().unwrap_or_default(), executing.epoch)
        });
        Act {
            at,
            rests_from: at.min(deadline),
            key: key.clone(),
            policy: spec.policy.clone(),
            incident: spec.incident.clone(),
            rung: spec.rung.clone(),
            kind: spec.action.kind(),
            thing: intent.thing.clone(),
            effect: intent.effect.clone(),
            cooldown: spec.cooldown,
            term,
        }
    }
}

impl Act {
    fn signal(&self) -> Option<How> {
        match &self.effect {
            Effect::SignalSession(signal) => Some(signal.signal),
            Effect::SetReplicas(_) | Effect::SendRequests(_) => None,
        }
    }

    fn ends_what_was_cancelled(&self) -> bool {
        self.signal() == Some(How::Terminate)
    }
}

/// The readings that a decision of the last `slack` may rest on: those since then, and the last one before.
pub(super) fn newest(
    readings: &super::Readings,
    at: Timestamp,
    slack: Duration,
) -> impl Iterator<Item = &(Timestamp, Seen, Option<Seen>)> {
    let from = earlier(at, slack);
    let first = readings.newest.iter().rposition(|(then, ..)| *then <= from).unwrap_or(0);
    readings.newest.iter().skip(first)
}

fn stops(budget: &Budget, act: &Act) -> bool {
    let window = budget.windows.iter().find(|window| window.from <= act.at && act.at < window.until);
    let frozen = budget.freeze != Freeze::None || window.is_some_and(|window| window.freeze != Freeze::None);
    let limited = |kind| budget.max_modes.iter().any(|max| max.action == kind && max.mode != Mode::Auto);
    // An administrator who denies that sessions are ended means every act that ends one.
    let ends = act.signal().is_some_and(|signal| signal != How::Cancel).then_some(ActionKind::TerminateIdle);
    let mut kinds = ends.into_iter().chain([act.kind]);
    let forbidden = kinds.any(|kind| budget.denied.contains(&kind) || limited(kind));
    covers(budget, &act.policy.namespace) && (frozen || forbidden)
}
