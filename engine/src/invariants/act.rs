//! What must be true at the instant at which an act reaches the world.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::{
    Act, Checker, Intent, Replicas, Request, Seen, Signal, SignalKind, Thing, ceilings::covers, kinds_of,
    thing_of, timeline::Timeline,
};
use crate::model::{
    Action, Budget, Dependency, EntryKey, Freeze, Mode, Phase, Policy, PolicyRef, Rung, RungAction, Scale,
    ScaleSettings, ScaleStep, SessionTarget, UncommittedWrites, UndoState, duration::human, earlier, elapsed,
    later,
};

/// Managers whose value is Git's.
const GITOPS: [&str; 4] =
    ["argocd-controller", "argocd-application-controller", "kustomize-controller", "helm-controller"];
/// Fewer targets make no storm.
const STORM: usize = 5;

pub(super) type Found = Vec<(&'static str, String)>;

impl Checker {
    /// A session was signalled.
    pub(super) fn signalled(&mut self, at: Timestamp, signal: &Signal) {
        let Some(key) = signal.remediation.clone().or_else(|| self.intent_of_signal(signal)) else {
            let message = format!("pid {} was signalled, and no stored intent says so", signal.pid);
            return self.violated("S3", at, message);
        };
        let Some(intent) = self.intents.get(&key) else {
            let message = format!("pid {} was signalled for {}, which is not stored", signal.pid, key.1);
            return self.violated("S3", at, message);
        };
        let mut found = Found::new();
        match intent.stored.spec.action.clone() {
            Action::CancelQuery(target) => identity(signal, SignalKind::Cancel, &target, &mut found),
            Action::TerminateQuery(target) => identity(signal, SignalKind::Terminate, &target, &mut found),
            Action::TerminateIdle(idle) => {
                identity(signal, SignalKind::Terminate, &idle.target, &mut found);
            }
            Action::Scale(_) | Action::WarmCache(_) => {
                found.push(("S3", "a session was signalled by an act on something else".to_owned()));
            }
        }
        self.victim(at, signal, intent, &mut found);
        if let Some(executing_at) = intent.executing_at {
            let late = elapsed(at, executing_at);
            if late > intent.stored.spec.deadline.saturating_add(Duration::from_secs(1)) {
                let deadline = human(intent.stored.spec.deadline);
                found.push((
                    "S19",
                    format!("it arrived {} after the gate, with {deadline} of time", human(late)),
                ));
            }
        }
        if intent.stored.status.phase != Phase::Executing {
            let phase = intent.stored.status.phase;
            found.push(("S3", format!("it arrived while {} was stored as {phase}", key.1)));
        }
        self.acted(at, &key, self.tolerance.hearing, found);
    }

    /// The target was asked for something. The first request of a remediation is its act; the others belong to it, and what let
    /// it begin must last. One that was under way for long is judged by when it was sent.
    pub(super) fn requested(&mut self, at: Timestamp, request: &Request) {
        let key = &request.remediation;
        let sent = request.sent.unwrap_or(at);
        let late = elapsed(at, sent).max(self.tolerance.hearing);
        let Some(intent) = self.intents.get(key) else {
            if self.gone.get(key).is_some_and(|then| elapsed(at, *then) <= late) {
                return;
            }
            let message = format!("{} was asked for, for {}, which is not stored", request.path, key.1);
            return self.violated("S3", at, message);
        };
        let mut found = request_found(sent, request, intent);
        let first = intent.landed.is_none();
        if !first {
            let act = self.act_of(at, key, intent);
            self.terms(&act, late, &mut found);
            self.permitted(&act, late, &mut found);
            self.storm(&act, late, &mut found);
            // What was read since a late one was sent says nothing about it.
            if elapsed(at, sent) <= Duration::from_secs(1) {
                // How long the breach had been seen was asked before the first.
                found.extend(self.doubts(sent, &intent.stored).into_iter().filter(|(id, _)| *id != "S14"));
            }
        }
        if let Some(intent) = self.intents.get_mut(key) {
            *intent.requests.entry(request.path.clone()).or_default() += 1;
        }
        if first {
            return self.acted(at, key, late, found);
        }
        for (id, message) in found {
            self.violated(id, at, format!("{}: {message}", key.1));
        }
    }

    fn intent_of_signal(&self, signal: &Signal) -> Option<EntryKey> {
        let fits = |intent: &Intent| {
            let target = intent.stored.spec.action.session();
            intent.stored.status.phase == Phase::Executing
                && target.is_some_and(|target| {
                    target.session.pid == signal.pid
                        && target.server.system_identifier == signal.system_identifier
                        && target.server.database == signal.database
                })
        };
        self.intents.iter().find(|(_, intent)| fits(intent)).map(|(key, _)| key.clone())
    }

    /// S9: who may be hit.
    fn victim(&self, at: Timestamp, signal: &Signal, intent: &Intent, found: &mut Found) {
        let (Some(victim), Some(target)) = (&signal.victim, intent.stored.spec.action.session()) else {
            return;
        };
        let pid = signal.pid;
        if victim.untouchable || victim.protected {
            found.push(("S9", format!("pid {pid} (role {}) must never be signalled", victim.role)));
        }
        if victim.wrote && target.writes != UncommittedWrites::RollBack {
            found.push((
                "S9",
                format!("the transaction of pid {pid} has written, and uncommitted writes are protected"),
            ));
        }
        let allows = |policy: &Policy| match policy.dependencies.get(&target.dependency) {
            Some(Dependency::Postgres(declared)) => {
                declared.cancellable_roles.as_ref().is_some_and(|roles| roles.contains(&victim.role))
            }
            Some(Dependency::Redis(_)) | None => false,
        };
        if !self.some_version(at, &intent.stored.spec.policy, allows) {
            found.push(("S9", format!("the policy does not list role {} of pid {pid}", victim.role)));
        }
    }

    /// The operator has written replicas that are no step of an undo.
    pub(super) fn scaled_up(&mut self, at: Timestamp, replicas: &Replicas, key: &EntryKey) {
        let Some(intent) = self.intents.get(key) else { return };
        let mut found = Found::new();
        let before = self.standing.get(&replicas.workload.uid);
        let from = replicas.from.or(before.map(|standing| standing.replicas));
        match &intent.stored.spec.action {
            Action::Scale(scale) => self.right_replicas(at, replicas, scale, from, intent, &mut found),
            Action::CancelQuery(_)
            | Action::TerminateQuery(_)
            | Action::TerminateIdle(_)
            | Action::WarmCache(_) => {
                found.push(("S3", "replicas were written by an act on something else".to_owned()));
            }
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
        scale: &Scale,
        from: Option<u32>,
        intent: &Intent,
        found: &mut Found,
    ) {
        let (to, target) = (replicas.to, &replicas.workload.target);
        if scale.uid != replicas.workload.uid || scale.to != to || from.is_some_and(|from| from != scale.from)
        {
            found.push((
                "S6",
                format!("{target} went from {from:?} to {to}; {} to {} was decided", scale.from, scale.to),
            ));
        }
        let allows = |settings: &ScaleSettings| {
            let most = match settings.step {
                ScaleStep::Share(share) => (f64::from(scale.from) * share).ceil().max(1.0),
                ScaleStep::Count(count) => f64::from(count.max(1)),
            };
            to > scale.from && to <= settings.max && f64::from(to - scale.from) <= most
        };
        let rung_allows = |rung: &Rung| match &rung.action {
            RungAction::Scale(settings) => allows(settings),
            RungAction::CancelQuery { .. } | RungAction::TerminateIdle { .. } | RungAction::WarmCache(_) => {
                false
            }
        };
        let rung = &intent.stored.spec.rung;
        let allowed = |policy: &Policy| policy.rungs.iter().any(|r| r.name == *rung && rung_allows(r));
        if !self.some_version_within(at, self.tolerance.late, &intent.stored.spec.policy, allowed) {
            found.push((
                "S5",
                format!("{target} went from {} to {to}, which remediation {rung} does not allow", scale.from),
            ));
        }
        let owes = intent.stored.status.undo.as_ref().is_some_and(|undo| {
            undo.state == UndoState::Pending && undo.baseline == scale.from && undo.wrote == scale.to
        });
        if !owes {
            found.push(("U1", format!("{target} was set to {to}, and nothing stored owes it")));
        }
        let other = self.intents.iter().find(|(_, other)| {
            let owes = other.stored.status.undo.as_ref().is_some_and(|undo| undo.state == UndoState::Pending);
            owes && other.landed.is_some()
                && other.stored.spec.policy != intent.stored.spec.policy
                && thing_of(&other.stored.spec.action) == Thing::Workload(replicas.workload.uid.clone())
        });
        if let Some(((_, name), _)) = other {
            found.push((
                "S7",
                format!("{name} of another policy has changed {target} and not yet taken it back"),
            ));
        }
    }

    /// What holds for every act. `late`: how long it may have been under way.
    fn acted(&mut self, at: Timestamp, key: &EntryKey, late: Duration, mut found: Found) {
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
                && (before.rung != act.rung || matches!(act.action, Action::TerminateQuery(_)))
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
    fn terms(&self, act: &Act, late: Duration, found: &mut Found) {
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
    fn permitted(&self, act: &Act, heard: Duration, found: &mut Found) {
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
    fn storm(&self, act: &Act, heard: Duration, found: &mut Found) {
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
    fn some_version(&self, at: Timestamp, policy: &PolicyRef, allows: impl Fn(&Policy) -> bool) -> bool {
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

    fn act_of(&self, at: Timestamp, key: &EntryKey, intent: &Intent) -> Act {
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
            action: spec.action.clone(),
            thing: thing_of(&spec.action),
            cooldown: spec.cooldown,
            term,
        }
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

/// S22: what was decided, as often as was decided, in time.
fn request_found(sent: Timestamp, request: &Request, intent: &Intent) -> Found {
    let mut found = Found::new();
    if let Action::WarmCache(warm) = &intent.stored.spec.action {
        if !warm.settings.paths.contains(&request.path) {
            found.push(("S22", format!("{} was asked for, which was not decided", request.path)));
        }
        let before = intent.requests.get(&request.path).copied().unwrap_or_default();
        if before >= warm.settings.requests_per_path {
            found.push(("S22", format!("{} was asked for {} times", request.path, before + 1)));
        }
    } else {
        found.push(("S3", "the target was asked for something by an act on something else".to_owned()));
    }
    let late = intent.executing_at.map(|gate| elapsed(sent, gate));
    let deadline = intent.stored.spec.deadline;
    if late.is_none_or(|late| late > deadline.saturating_add(Duration::from_secs(1))) {
        let deadline = human(deadline);
        found.push(("S22", format!("it was sent {late:?} after the gate, with {deadline} of time")));
    }
    found
}

/// S8 and S10.
fn identity(signal: &Signal, kind: SignalKind, target: &SessionTarget, found: &mut Found) {
    let same = |seen: Option<Timestamp>, meant: Timestamp| seen.is_none_or(|seen| seen == meant);
    let meant = &target.session;
    if signal.kind != kind {
        found.push(("S3", format!("pid {} was hit by {:?}, {kind:?} was decided", signal.pid, signal.kind)));
    }
    let session = signal.pid == meant.pid
        && same(signal.backend_start, meant.backend_start)
        && same(signal.query_start, meant.query_start);
    let server = signal.system_identifier == target.server.system_identifier
        && signal.database == target.server.database;
    if !session || !server {
        found.push((
            "S8",
            format!(
                "pid {} (session of {:?}, statement of {:?}) was hit, {meant} was diagnosed",
                signal.pid, signal.backend_start, signal.query_start
            ),
        ));
    }
    if !same(signal.started_at, target.server.started_at) {
        found.push(("S10", "the server has been restarted since the diagnosis".to_owned()));
    }
    if signal.standby == Some(true) {
        found.push(("S10", "the server is a standby".to_owned()));
    }
}

fn stops(budget: &Budget, act: &Act) -> bool {
    let window = budget.windows.iter().find(|window| window.from <= act.at && act.at < window.until);
    let frozen = budget.freeze != Freeze::None || window.is_some_and(|window| window.freeze != Freeze::None);
    let observes = |kind| budget.max_modes.iter().any(|max| max.action == kind && max.mode == Mode::Observe);
    let kinds = kinds_of(&act.action);
    let forbidden = kinds.iter().any(|kind| budget.denied.contains(kind) || observes(*kind));
    covers(budget, &act.policy.namespace) && (frozen || forbidden)
}
