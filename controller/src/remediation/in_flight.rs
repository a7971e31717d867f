//! What this very process knows about the remediations that it carries out. It is lost with the process, on purpose: a
//! successor knows nothing, and looks.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use engine::advance::EffectReport;
use engine::model::{Phase, Remediation};
use jiff::Timestamp;

/// What is known of one remediation.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// When the write that passed the gate was sent, if this process sent it.
    pub(super) passed_gate_at: Option<Timestamp>,
    /// What the effect has answered, if this process sent it.
    pub(super) effect: Option<EffectReport>,
    /// When this process first saw it executing.
    pub(super) executing_seen_at: Option<Timestamp>,
}

/// Namespace, name and creation: an object that was deleted and created again under its name is another one.
pub(super) type Key = (String, String, Timestamp);

pub(super) fn key_of(remediation: &Remediation) -> Key {
    (remediation.namespace.clone(), remediation.name.clone(), remediation.created_at)
}

/// The remediations that this process carries out.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    known: Mutex<HashMap<Key, Progress>>,
}

impl InFlight {
    /// What is known. Seeing it executing for the first time is noted.
    pub(super) fn of(&self, remediation: &Remediation, now: Timestamp) -> Progress {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key_of(remediation);
        if remediation.status.phase == Phase::Executing {
            known.entry(key.clone()).or_default().executing_seen_at.get_or_insert(now);
        }
        known.get(&key).cloned().unwrap_or_default()
    }

    /// This process has passed the gate.
    pub(super) fn passed_gate(&self, remediation: &Remediation, sent_at: Timestamp) {
        self.change(remediation, |progress| progress.passed_gate_at = Some(sent_at));
    }

    /// This process has sent the effect; what was answered.
    pub(super) fn sent(&self, remediation: &Remediation, report: EffectReport) {
        self.change(remediation, |progress| progress.effect = Some(report));
    }

    /// It is over.
    pub(super) fn forget(&self, remediation: &Remediation) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key_of(remediation));
    }

    fn change(&self, remediation: &Remediation, change: impl FnOnce(&mut Progress)) {
        let key = key_of(remediation);
        change(self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
    }
}
