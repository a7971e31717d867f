//! What is worth saying: a record whose key differs from the last word on its slot.

use std::collections::BTreeSet;

use litemap::LiteMap;

use super::{Overall, Situation};
use crate::model::Snapshot;
use crate::record::{DecisionRecord, RecordKind, Said, Slot};

/// Turns what was decided into records, marks those that say something new, and remembers them. A slot on which nothing
/// is said any more is forgotten, but for what is merely unreadable at the moment and for what `later` will speak about.
pub(super) fn publishable(
    snapshot: &Snapshot,
    words: &mut LiteMap<Slot, Said>,
    situation: &Situation,
    kinds: Vec<RecordKind>,
    later: &[Slot],
) -> Vec<DecisionRecord> {
    let open = situation.incident.as_ref();
    let incident = open.or(snapshot.incident.as_ref()).map(|incident| incident.name.clone());
    let mut spoken: BTreeSet<Slot> = later.iter().cloned().collect();
    let mut records = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let record = say(snapshot, words, incident.clone(), kind);
        spoken.insert(record.slot());
        records.push(record);
    }
    words.retain(|slot, said| spoken.contains(slot) || waits(snapshot, situation, &said.record));
    records
}

/// One record, `changed` where its key is not the last word on its slot.
pub(super) fn say(
    snapshot: &Snapshot,
    words: &mut LiteMap<Slot, Said>,
    incident: Option<String>,
    kind: RecordKind,
) -> DecisionRecord {
    let known = words.values().next().map(|said| &said.record.policy);
    let policy = known.filter(|known| ***known == snapshot.policy.id).cloned();
    let mut record = DecisionRecord {
        at: snapshot.now,
        policy: policy.unwrap_or_else(|| snapshot.policy.id.clone().into()),
        incident,
        kind,
        changed: false,
    };
    let (slot, key) = (record.slot(), record.key());
    record.changed = words.get(&slot).is_none_or(|said| said.key != key);
    if record.changed {
        words.insert(slot, Said { key, record: record.clone().into() });
    }
    record
}

/// Objectives and dependencies that have not been missing for long enough to be called missing keep their last word, and so
/// does what was decided in an incident while nothing can be seen.
fn waits(snapshot: &Snapshot, situation: &Situation, record: &DecisionRecord) -> bool {
    let same_incident = record.incident.is_some()
        && record.incident.as_ref() == situation.incident.as_ref().map(|incident| &incident.name);
    match &record.kind {
        RecordKind::Objective(reading) => {
            snapshot.policy.objectives.iter().any(|o| o.name == reading.objective)
        }
        RecordKind::Dependency { name, .. } => snapshot.policy.dependencies.contains_key(name),
        RecordKind::Target { .. }
        | RecordKind::BreachSuspected { .. }
        | RecordKind::Incident { .. }
        | RecordKind::Calm { .. }
        | RecordKind::Cause(_)
        | RecordKind::Remediation { .. }
        | RecordKind::Undo { .. } => false,
        RecordKind::Blocked { .. } | RecordKind::Proposed { .. } | RecordKind::Escalated { .. } => {
            same_incident && situation.overall == Overall::NoData
        }
    }
}
