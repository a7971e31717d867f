//! What must be true of a signal to a session.

use std::time::Duration;

use jiff::Timestamp;

use super::act::Found;
use super::{Checker, Intent, Signal, SignalKind};
use crate::effects::{Effect, SessionTarget, Signal as How, SignalSession};
use crate::model::{Dependency, EntryKey, Phase, Policy, UncommittedWrites, duration::human, elapsed};

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
        if let Effect::SignalSession(decided) = &intent.effect {
            identity(signal, decided, &mut found);
            self.victim(at, signal, intent, &decided.target, &mut found);
        } else {
            found.push(("S3", "a session was signalled by an act on something else".to_owned()));
        }
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

    fn intent_of_signal(&self, signal: &Signal) -> Option<EntryKey> {
        let fits = |intent: &Intent| {
            intent.stored.status.phase == Phase::Executing
                && intent.effect.session().is_some_and(|target| {
                    target.session.pid == signal.pid
                        && target.server.system_identifier == signal.system_identifier
                        && target.server.database == signal.database
                })
        };
        self.intents.iter().find(|(_, intent)| fits(intent)).map(|(key, _)| key.clone())
    }

    /// S9: who may be hit.
    fn victim(
        &self,
        at: Timestamp,
        signal: &Signal,
        intent: &Intent,
        target: &SessionTarget,
        found: &mut Found,
    ) {
        let Some(victim) = &signal.victim else { return };
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
        let allows = |policy: &Policy| {
            let declared = policy.dependencies.get(&target.dependency).and_then(Dependency::postgres);
            let roles = declared.and_then(|declared| declared.cancellable_roles.as_ref());
            roles.is_some_and(|roles| roles.contains(&victim.role))
        };
        if !self.some_version(at, &intent.stored.spec.policy, allows) {
            found.push(("S9", format!("the policy does not list role {} of pid {pid}", victim.role)));
        }
    }
}

/// S8 and S10.
fn identity(signal: &Signal, decided: &SignalSession, found: &mut Found) {
    let target = &decided.target;
    let kind = match decided.signal {
        How::Cancel => SignalKind::Cancel,
        How::Terminate | How::TerminateIdle(_) => SignalKind::Terminate,
    };
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
