//! Hands announcements and measurements to the port.

use engine::model::{Remediation, RemediationStatus, Snapshot, Verdict};
use engine::record::RecordKind;
use engine::{Overall, State, Tick};

use crate::Controllers;
use crate::announcement::{Announcement, Context};
use crate::conditions::Status;
use crate::fleet::Evaluated;
use crate::objects::Measurement;
use crate::ports::{Announce, Environment};

impl<E: Environment> Controllers<E> {
    /// Announces what an evaluation has newly decided, and returns it.
    pub(crate) fn announce_decisions(
        &self,
        evaluated: &Evaluated,
        before: &State,
        ticked: &Tick,
    ) -> Vec<Announcement> {
        let snapshot = &evaluated.snapshot;
        let open = ticked.situation.incident.as_ref().or(snapshot.incident.as_ref());
        let context = Context {
            target: &snapshot.policy.target,
            severity: open.map(|incident| incident.severity),
            reopened: open.map_or(0, |incident| incident.reopened),
        };
        let changed = ticked.records.iter().filter(|record| record.changed);
        let announcements = changed.map(|record| {
            let last = before.said.get(&record.slot()).map(|said| &said.key);
            Announcement::of_decision(record, last, &context)
        });
        let announcements: Vec<Announcement> = announcements.collect();
        for announcement in &announcements {
            self.ports.announce.announce(announcement);
        }
        announcements
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
        let evaluated = self.evaluation_for(remediation);
        let open = evaluated.as_ref().and_then(|evaluated| evaluated.situation.incident.as_ref());
        let open = open.filter(|incident| incident.name == remediation.spec.incident);
        let severity = open.map(|incident| incident.severity);
        if let Some(step) = Announcement::of_step(self.now(), remediation, status, record, severity) {
            self.ports.announce.announce(&step);
        }
    }
}
