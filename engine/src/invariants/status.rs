//! What must be true of what is stored.

use jiff::Timestamp;

use super::{Checker, EntryKey, Intent, MANAGER, thing_of};
use crate::effects::Effect;
use crate::model::{EffectSeen, Outcome, Phase, Remediation, UndoState};

impl Checker {
    /// A LatencyRemediation was written.
    pub(super) fn stored(&mut self, at: Timestamp, stored: &Remediation) {
        if stored.spec.is_dry_run() {
            return;
        }
        let key = (stored.namespace.clone(), stored.name.clone());
        let before = self.intents.remove(&key);
        // An object that was deleted and created again under its name is another one.
        let before = before.filter(|before| before.stored.created_at == stored.created_at);
        let effect = stored.spec.action.act().effect();
        let thing = thing_of(&effect);
        let mut intent = match &before {
            Some(before) => Intent { stored: stored.clone(), effect, thing, ..before.clone() },
            None => Intent {
                stored: stored.clone(),
                effect,
                thing,
                executing_at: None,
                landed: None,
                stepped: None,
                writing_since: None,
                requests: std::collections::BTreeMap::new(),
                doubts: Vec::new(),
            },
        };
        let writing =
            |stored: &Remediation| stored.status.undo.as_ref().and_then(|undo| undo.change.writing());
        if writing(stored) != before.as_ref().and_then(|before| writing(&before.stored)) {
            intent.writing_since = writing(stored).map(|_| at);
        }
        if let Some(message) = goes_back(before.as_ref().map(|before| &before.stored), stored) {
            self.violated("S2", at, format!("{}: {message}", key.1));
        }
        if stored.status.phase == Phase::Executing && intent.executing_at.is_none() {
            intent.executing_at = Some(at);
            intent.doubts = self.doubts(at, stored);
        }
        let theirs = match &intent.effect {
            Effect::SetReplicas(set) => self.standing.get(&set.uid).is_none_or(|now| now.manager != MANAGER),
            Effect::SignalSession(_) | Effect::SendRequests(_) => false,
        };
        for (id, message) in dishonest(&intent, theirs) {
            self.violated(id, at, format!("{}: {message}", key.1));
        }
        if let Some(before) = &before {
            self.settled(at, before, Some(stored));
        }
        self.intents.insert(key, intent);
    }

    /// A LatencyRemediation has gone.
    pub(super) fn gone(&mut self, at: Timestamp, key: &EntryKey) {
        let recent = crate::model::earlier(at, self.tolerance.hearing.saturating_mul(4));
        self.gone.retain(|_, then| *then >= recent);
        self.gone.insert(key.clone(), at);
        if let Some(intent) = self.intents.remove(key) {
            self.settled(at, &intent, None);
        }
    }
}

/// The rank of what is over.
const OVER: u8 = 4;

fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::AwaitingApproval => 0,
        Phase::Admitted => 1,
        Phase::Executing => 2,
        Phase::Verifying => 3,
        Phase::Completed
        | Phase::Denied
        | Phase::Expired
        | Phase::Refused
        | Phase::Failed
        | Phase::DryRun
        | Phase::OutcomeUnknown => OVER,
    }
}

/// S2, as far as what is stored shows it.
fn goes_back(before: Option<&Remediation>, now: &Remediation) -> Option<String> {
    let before = before?;
    let (was, is) = (before.status.phase, now.status.phase);
    if rank(is) < rank(was) || (rank(was) == OVER && is != was) {
        return Some(format!("it went from {was} to {is}"));
    }
    if before.spec != now.spec {
        return Some("what is to be done has changed".to_owned());
    }
    let (was, is) = (&before.status.executing, &now.status.executing);
    (was.is_some() && was != is).then(|| format!("its gate was passed by {was:?}, and now by {is:?}"))
}

/// H2 and H3.
fn dishonest(intent: &Intent, theirs: bool) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let status = &intent.stored.status;
    let landed = intent.landed.is_some();
    let claims = status.effect == Some(EffectSeen::Confirmed) || status.outcome == Some(Outcome::Healed);
    if claims && !landed {
        found.push(("H2", "an effect is claimed that never reached the world".to_owned()));
    }
    let denies = match status.phase {
        Phase::AwaitingApproval | Phase::Admitted | Phase::Denied | Phase::Expired | Phase::Refused => true,
        // Interrupted, and it had no effect that can be seen: that does not deny that it was done.
        Phase::Failed => status.acted_at.is_none() && status.effect.is_none(),
        Phase::Executing | Phase::Verifying | Phase::Completed | Phase::OutcomeUnknown | Phase::DryRun => {
            false
        }
    };
    // Interrupted, and somebody has set the replicas since: nothing of ours stands, and that is all that can be told.
    let excused = theirs && status.effect == Some(EffectSeen::NotSeen);
    let nothing = !excused && status.undo.as_ref().is_some_and(|undo| undo.state == UndoState::None);
    if (denies || nothing) && landed {
        found.push(("H2", format!("{} denies an effect that reached the world", status.phase)));
    }
    if status.phase == Phase::Refused {
        let named = status.refused.as_ref().is_some_and(|r| !r.guard.is_empty() && !r.message.is_empty());
        if !named {
            found.push(("H3", "it was refused, and no guard is named".to_owned()));
        }
    }
    found
}
