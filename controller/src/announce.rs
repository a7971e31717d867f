//! From records to announcements and measurements. Pure, but for the port that they are handed to.

use engine::model::{Remediation, RemediationStatus, Snapshot, UndoState, Verdict};
use engine::record::{DecisionRecord, RecordKind};
use engine::{Overall, State, Tick};

use crate::Controllers;
use crate::conditions::Status;
use crate::fleet::Evaluated;
use crate::objects::{Announcement, Measurement};
use crate::ports::{Announce, Environment};
use crate::reasons::{self, Reason};

impl<E: Environment> Controllers<E> {
    /// Announces what an evaluation has newly decided.
    pub(crate) fn announce_records(&self, evaluated: &Evaluated, before: &State, ticked: &Tick) {
        let snapshot = &evaluated.snapshot;
        let open = ticked.situation.incident.as_ref().or(snapshot.incident.as_ref());
        for record in ticked.records.iter().filter(|record| record.changed) {
            let last = before.said.get(&record.slot()).map(|said| &said.key);
            self.ports.announce.record(record);
            for refusal in record.kind.refusals() {
                self.ports.announce.measure(Measurement::Refused(refusal.guard.as_str()));
            }
            let Some(reason) = reasons::of(record, last) else { continue };
            let again = open.map_or(0, |incident| incident.reopened);
            self.ports.announce.announce(Announcement {
                policy: snapshot.policy.id.clone(),
                target: Some(snapshot.policy.target.clone()),
                reason,
                action: verb(&record.kind).to_owned(),
                note: record.sentence(),
                identity: identity(record, again),
            });
        }
    }

    /// Sets the gauges of a policy after an evaluation.
    pub(crate) fn measure_policy(&self, snapshot: &Snapshot, ticked: &Tick, ready: Status) {
        let key = (snapshot.policy.id.namespace.clone(), snapshot.policy.id.name.clone());
        let within = match ticked.situation.overall {
            Overall::Breached(_) => Some(false),
            Overall::Healthy => Some(true),
            Overall::NoData => None,
        };
        let first = ticked.situation.readings.first();
        let value = first.and_then(|reading| reading.measured.as_ref()).and_then(|measured| measured.value);
        let announce = &self.ports.announce;
        announce.measure(Measurement::Policy { policy: &key, ready: ready == Status::True, within, value });
        for reading in &ticked.situation.readings {
            if let Verdict::NoData(no_data) = &reading.verdict {
                announce.measure(Measurement::NoData(no_data.reason));
            }
        }
    }

    /// Announces a step of a remediation that was written.
    pub(crate) fn announce_step(
        &self,
        remediation: &Remediation,
        status: &RemediationStatus,
        record: &RecordKind,
    ) {
        let Some(step) = Step::of(remediation, status, record) else { return };
        let (name, spec) = (&remediation.name, &remediation.spec);
        self.ports.announce.record(&DecisionRecord {
            at: self.now(),
            policy: spec.policy.clone().into(),
            incident: Some(spec.incident.clone()),
            kind: record.clone(),
            changed: true,
        });
        if status.phase.is_terminal() && !remediation.status.phase.is_terminal() {
            self.ports.announce.measure(Measurement::Remediated(status, remediation));
        }
        let Some(reason) = step.reason else { return };
        self.ports.announce.announce(Announcement {
            policy: spec.policy.clone(),
            target: Some(spec.target.clone()),
            reason,
            action: spec.action.kind().to_string(),
            note: format!("{name}: {}", step.sentence),
            identity: format!("{name}/{}", step.identity),
        });
    }
}

/// Within an incident the same is announced once each time that it is open, also when the leader changes. Outside of one every change is
/// news.
fn identity(record: &DecisionRecord, again: u32) -> String {
    match &record.incident {
        Some(incident) => format!("{incident}/{again}/{}/{:?}", record.slot(), record.key()),
        None => format!("{}/{}/{:?}", record.at, record.slot(), record.key()),
    }
}

/// What the operator did, in one word.
fn verb(kind: &RecordKind) -> &'static str {
    match kind {
        RecordKind::Objective(_)
        | RecordKind::Dependency { .. }
        | RecordKind::Target { .. }
        | RecordKind::BreachSuspected { .. }
        | RecordKind::Incident { .. }
        | RecordKind::Calm { .. } => "Evaluate",
        RecordKind::Cause(_) => "Diagnose",
        RecordKind::Blocked { .. } | RecordKind::Proposed { .. } => "Decide",
        RecordKind::Escalated { .. } => "Escalate",
        RecordKind::Remediation { .. } => "Remediate",
        RecordKind::Undo { .. } => "Undo",
    }
}

/// A step of a remediation, as it is announced.
struct Step<'a> {
    sentence: &'a str,
    reason: Option<Reason>,
    identity: String,
}

impl<'a> Step<'a> {
    fn of(remediation: &Remediation, status: &RemediationStatus, record: &'a RecordKind) -> Option<Self> {
        if let RecordKind::Remediation { sentence, .. } = record {
            let stepped = status.phase != remediation.status.phase;
            let reason = reasons::remediation(status.phase, status.outcome).filter(|_| stepped);
            return Some(Self { sentence, reason, identity: status.phase.to_string() });
        }
        let RecordKind::Undo { state, overdue, sentence, .. } = record else { return None };
        let writing = status.undo.as_ref().and_then(|undo| undo.writing);
        // A step of a rollback is announced when it begins; that they are done is announced when all are.
        let told = *state != UndoState::Pending || *overdue || writing.is_some();
        let reason = reasons::undo(*state, *overdue && writing.is_none()).filter(|_| told);
        Some(Self { sentence, reason, identity: format!("undo/{state}/{overdue}/{writing:?}") })
    }
}
