//! What each of the two API servers names in its own way: uids, versions, instants. They are told apart by the order in
//! which they were first seen: what an operator may conclude from them is which of them are equal.

use controller::objects::{IncidentSummary, Stored, StoredIncident, StoredPolicy, StoredReport, Version};
use controller::report::PolicyReport;
use engine::model::Remediation;
use sim::world::START;

/// The uids and versions that one API server has shown.
#[derive(Debug, Default)]
pub(crate) struct Names {
    uids: Vec<String>,
    versions: Vec<Version>,
}

/// The place of something among what has been seen.
fn place<T: PartialEq + Clone>(seen: &mut Vec<T>, one: &T) -> usize {
    seen.iter().position(|known| known == one).unwrap_or_else(|| {
        seen.push(one.clone());
        seen.len() - 1
    })
}

impl Names {
    pub(crate) fn uid(&mut self, uid: &str) -> String {
        place(&mut self.uids, &uid.to_owned()).to_string()
    }

    pub(crate) fn version(&mut self, version: &Version) -> Version {
        Version(place(&mut self.versions, version).to_string().into())
    }

    /// An incident's name, with the life of the policy that its middle part says.
    pub(crate) fn incident(&self, name: &str) -> String {
        let mut parts = name.rsplit('-');
        let (ordinal, uid) = (parts.next().expect("a number"), parts.next().expect("a part of a uid"));
        let life = self.uids.iter().position(|known| known.starts_with(uid)).expect("a policy's life");
        format!("{life}-{ordinal}")
    }

    fn report(&self, report: PolicyReport) -> PolicyReport {
        let active_incident = report.active_incident.map(|name| self.incident(&name));
        PolicyReport { active_incident, ..report }
    }

    pub(crate) fn policy(&mut self, mut stored: StoredPolicy) -> StoredPolicy {
        stored.id.uid = self.uid(&stored.id.uid);
        stored.version = self.version(&stored.version);
        stored.report = self.report(stored.report);
        let spec = stored.spec.as_mut().expect("a policy");
        (spec.id.uid, spec.created_at) = (stored.id.uid.clone(), START);
        stored
    }

    pub(crate) fn stored_report(&mut self, stored: StoredReport) -> StoredReport {
        let version = self.version(&stored.version);
        StoredReport { version, report: self.report(stored.report), ..stored }
    }

    pub(crate) fn stored_incident(&mut self, stored: StoredIncident) -> StoredIncident {
        let (name, version) = (self.incident(&stored.name), self.version(&stored.version));
        StoredIncident { name, version, ..stored }
    }

    pub(crate) fn summary(&mut self, one: IncidentSummary) -> IncidentSummary {
        let (name, uid) = (self.incident(&one.name), self.uid(&one.uid));
        IncidentSummary { name, uid, version: self.version(&one.version), ..one }
    }

    pub(crate) fn remediation(&mut self, mut stored: Stored<Remediation>) -> Stored<Remediation> {
        stored.uid = self.uid(&stored.uid);
        stored.version = self.version(&stored.version);
        stored.value.created_at = START;
        stored
    }
}
