//! The life of an incident: adopted, opened, opened again, confirmed, closed. It is durable before anything is done in its
//! name.

use std::time::Duration;

use engine::model::{ClosedIncident, Incident, PolicyRef, Severity, Snapshot, elapsed, later};
use engine::{Overall, Tick};
use jiff::Timestamp;

use super::EvaluationError;
use super::memory::{LastIncident, OpenIncident, PolicyMemory};
use crate::announcement::Announcement;
use crate::conditions::types;
use crate::objects::{Episode, FoundIncident, IncidentSpec, Measurement, StoredIncident, StoredPolicy};
use crate::ports::{Announce, Cluster, Environment, WriteError};
use crate::report::{self, IncidentPhase, IncidentReport, PolicyReport, Reopening};
use crate::{Controllers, planted};

impl<E: Environment> Controllers<E> {
    /// Finds the incident that an earlier leader left open, or that ended so recently that a breach would open it again. Done
    /// once for each policy and leader, and after a write whose result is unknown.
    pub(super) async fn adopt(
        &self,
        memory: &mut PolicyMemory,
        object: &StoredPolicy,
    ) -> Result<(), EvaluationError> {
        let report = &object.report;
        memory.ordinal = memory.ordinal.max(report.ordinal);
        if memory.adopted {
            return Ok(());
        }
        let policy = &object.id;
        let last = || {
            let told = report.ordinal == memory.ordinal;
            let recent = memory.ordinal > 0 && !(told && long_within(report, self.now()));
            recent.then(|| Incident::name_of(policy, memory.ordinal))
        };
        if let Some(name) = &report.active_incident.clone().or_else(last) {
            let found = self.ports.cluster.incident(&policy.namespace, name).await?;
            let missing = found.is_none() && report.active_incident.is_some();
            (memory.incident, memory.closed) = match found {
                Some(FoundIncident::Readable(incident)) => known(*incident),
                Some(FoundIncident::Undecodable(error)) => {
                    tracing::warn!(name, error, "the open incident cannot be decoded; it is left as it is");
                    (None, None)
                }
                None => (None, None),
            };
            memory.unconfirmed = memory.closed.is_some() && !planted::is("closed_is_taken_for_granted");
            // Its number was taken, and a leader that was frozen in between may yet create it. Its name is taken up.
            let ours = *name == Incident::name_of(policy, report.ordinal);
            let taken_up = missing && ours && !planted::is("late_incident_is_nobodys");
            memory.reserved = taken_up.then_some(report.ordinal);
        }
        memory.adopted = true;
        Ok(())
    }

    /// Confirms that a closed incident stays closed: the object is changed, so that a write of an earlier leader that is still
    /// under way is a conflict when it arrives. Until that has succeeded it is tried at each evaluation.
    pub(super) async fn confirm(&self, memory: &mut PolicyMemory) -> Result<(), EvaluationError> {
        let now = self.now();
        memory.unconfirmed &=
            memory.closed.as_ref().is_some_and(|closed| closed.facts().may_be_opened_again(now));
        let Some(LastIncident { last, .. }) = memory.closed.as_mut().filter(|_| memory.unconfirmed) else {
            return Ok(());
        };
        // Never the stored value: that would change nothing.
        let before = last.report.closure_confirmed_at.map(|known| later(known, Duration::from_millis(1)));
        let confirmed_at = before.map_or(now, |before| before.max(now));
        let report = IncidentReport { closure_confirmed_at: Some(confirmed_at), ..(*last.report).clone() };
        match self.ports.cluster.write_incident(&last.object, &report).await {
            Ok(written) => {
                (*last.object, *last.report, memory.unconfirmed) = (written, report, false);
            }
            Err(WriteError::Gone(_)) => (memory.closed, memory.unconfirmed) = (None, false),
            // Nothing was written, and evaluating the policy does not depend on it.
            Err(WriteError::Refused(why)) => {
                tracing::warn!(
                    name = last.facts.name,
                    why,
                    "the closure of an incident could not be confirmed"
                );
            }
            // The object was changed by somebody else, or may have been: what is stored is read again.
            Err(error @ (WriteError::Conflict(_) | WriteError::Lost(_))) => {
                memory.adopted = false;
                return Err(EvaluationError::write("LatencyIncident", error));
            }
        }
        Ok(())
    }

    /// Creates the incident that the tick has opened, and takes over its severity where it goes on. Closing is reported, not
    /// done here.
    pub(super) async fn follow_incident(
        &self,
        memory: &mut PolicyMemory,
        object: &StoredPolicy,
        snapshot: &Snapshot,
        ticked: &Tick,
    ) -> Result<(), EvaluationError> {
        match (&snapshot.incident, &ticked.situation.incident) {
            (None, Some(opened)) if opened.reopened > 0 => self.reopen(memory, opened).await,
            (None, Some(opened)) => self.open(memory, object, snapshot, opened).await,
            (Some(_), Some(known)) => {
                if let Some(open) = &mut memory.incident {
                    open.facts = known.clone();
                }
                Ok(())
            }
            // The breach is over before its incident could be created. A write that is under way may still create it, and
            // nobody would close it.
            (None, None) if ticked.situation.overall == Overall::Healthy => match memory.reserved {
                Some(ordinal) => self.open(memory, object, snapshot, &over(snapshot, ordinal)).await,
                None => Ok(()),
            },
            (Some(_) | None, None) => Ok(()),
        }
    }

    async fn open(
        &self,
        memory: &mut PolicyMemory,
        object: &StoredPolicy,
        snapshot: &Snapshot,
        opened: &Incident,
    ) -> Result<(), EvaluationError> {
        let cluster = &self.ports.cluster;
        if memory.reserved != Some(opened.ordinal) {
            let highest = self.highest(object).await?;
            if highest >= opened.ordinal {
                // Whether that one is open is not known, either.
                (memory.ordinal, memory.adopted) = (highest, false);
                return Err(EvaluationError::Read(format!(
                    "incident {highest} is known already; the next one gets another number"
                )));
            }
            self.reserve(memory, object, opened).await?;
            memory.reserved = Some(opened.ordinal);
        }
        let spec = IncidentSpec {
            policy: object.id.clone(),
            target: snapshot.policy.target.clone(),
            ordinal: opened.ordinal,
            first_breached_at: opened.first_breached_at,
            opened_at: opened.opened_at,
        };
        let stored = match cluster.create_incident(&opened.name, &spec).await {
            Ok(stored) => stored,
            // It was created by a write whose answer was lost, or by the leader before us.
            Err(WriteError::Conflict(_) | WriteError::Lost(_)) => {
                match cluster.incident(&object.id.namespace, &opened.name).await? {
                    Some(FoundIncident::Readable(stored)) => *stored,
                    Some(FoundIncident::Undecodable(error)) => return Err(EvaluationError::Read(error)),
                    None => {
                        let why = format!("incident {} does not exist yet", opened.name);
                        return Err(EvaluationError::Read(why));
                    }
                }
            }
            Err(error) => return Err(EvaluationError::write("LatencyIncident", error)),
        };
        memory.reserved = None;
        self.ports.announce.measure(Measurement::Incident(opened.severity));
        (memory.incident, memory.closed) = known(stored);
        if let Some(open) = &mut memory.incident {
            open.facts = opened.clone();
        }
        Ok(())
    }

    /// The incident goes on, with its attempts. If that cannot be written, what is stored is read again and decides.
    async fn reopen(&self, memory: &mut PolicyMemory, opened: &Incident) -> Result<(), EvaluationError> {
        memory.adopted = false;
        let Some(LastIncident { last, .. }) = memory.closed.take() else {
            let why = format!("the closed incident {} is not known any more", opened.name);
            return Err(EvaluationError::Read(why));
        };
        let report = IncidentReport {
            conditions: report::resolved(&last.report.conditions, None, self.now()),
            phase: Some(IncidentPhase::Open),
            severity: Some(opened.severity),
            closed_at: None,
            closure_confirmed_at: None,
            outcome: None,
            escalation: None,
            reopened: Some(Reopening {
                times: opened.reopened,
                first_breached_at: opened.first_breached_at,
                at: opened.opened_at,
            }),
            ..*last.report
        };
        let written = self.ports.cluster.write_incident(&last.object, &report).await;
        let object = written.map_err(|error| EvaluationError::write("LatencyIncident", error))?;
        memory.incident =
            Some(OpenIncident { facts: opened.clone(), object: Box::new(object), report: Box::new(report) });
        memory.adopted = true;
        Ok(())
    }

    /// The highest number that an existing incident of the policy has. By name: the number of an incident that cannot be
    /// decoded is taken, too.
    async fn highest(&self, object: &StoredPolicy) -> Result<u64, EvaluationError> {
        let known = self.ports.cluster.incidents(&object.key()).await?;
        let ours = Incident::name_of(&object.id, 0);
        let ours = ours.trim_end_matches('0');
        let numbers = known.iter().filter_map(|one| one.name.strip_prefix(ours)?.parse::<u64>().ok());
        Ok(numbers.max().unwrap_or_default())
    }

    /// Takes the number, by compare-and-swap on the policy's status.
    async fn reserve(
        &self,
        memory: &mut PolicyMemory,
        object: &StoredPolicy,
        opened: &Incident,
    ) -> Result<(), EvaluationError> {
        let (report, version) = memory.newest(object);
        let reserved = PolicyReport {
            ordinal: opened.ordinal,
            active_incident: Some(opened.name.clone()),
            ..report.clone()
        };
        let version = version.clone();
        match self.ports.cluster.write_policy_status(&object.id, &version, &reserved).await {
            Ok(written) => {
                memory.ordinal = opened.ordinal;
                memory.wrote(Some(written));
                Ok(())
            }
            Err(error) => {
                self.reread(memory, &object.id).await;
                Err(EvaluationError::write("the incident's number", error))
            }
        }
    }

    /// The status that was taken for the newest is not: the next try starts from what is stored.
    pub(super) async fn reread(&self, memory: &mut PolicyMemory, policy: &PolicyRef) {
        let key = (policy.namespace.clone(), policy.name.clone());
        let stored = self.ports.cluster.policy(&key).await.ok().flatten();
        memory.wrote(stored.map(|stored| stored.stored_report()));
    }

    /// Writes the incident's status where it says something new, and closes the incident where it is over.
    pub(super) async fn report_incident(
        &self,
        memory: &mut PolicyMemory,
        snapshot: &Snapshot,
        ticked: &Tick,
        announcements: &[Announcement],
    ) -> Result<(), EvaluationError> {
        let closed = ticked.situation.incident.is_none();
        let Some(open) = &mut memory.incident else { return Ok(()) };
        *open.report = report::incident(&open.report, &open.facts, snapshot, ticked, announcements);
        if open.object.report != *open.report {
            let cluster = &self.ports.cluster;
            match cluster.write_incident(&open.object, &open.report).await {
                Ok(written) => *open.object = written,
                Err(WriteError::Gone(_)) => {
                    let name = &open.facts.name;
                    tracing::warn!(name, "the incident was deleted while it was open");
                    memory.incident = None;
                    return Ok(());
                }
                Err(error) => {
                    let stored = cluster.incident(&open.object.namespace, &open.facts.name).await;
                    if let Ok(Some(FoundIncident::Readable(stored))) = stored {
                        open.object = stored;
                    }
                    return Err(EvaluationError::write("LatencyIncident", error));
                }
            }
        }
        if closed {
            let last = memory.incident.take();
            memory.closed = last.map(|last| LastIncident { last, at: snapshot.now });
        }
        Ok(())
    }
}

/// An incident of which nothing but its number is known. It is closed as soon as it is reported.
fn over(snapshot: &Snapshot, ordinal: u64) -> Incident {
    Incident {
        name: Incident::name_of(&snapshot.policy.id, ordinal),
        ordinal,
        first_breached_at: snapshot.now,
        opened_at: snapshot.now,
        severity: Severity::P2,
        reopened: 0,
    }
}

/// Whether the status says that the objectives have been kept for so long that no incident goes on, nor can be opened again.
/// An incident ends some minutes after that begins: when recovery has lasted, and its remediations have been judged.
fn long_within(report: &PolicyReport, now: Timestamp) -> bool {
    let within = report.conditions.iter().find(|known| known.r#type == types::WITHIN_OBJECTIVE);
    within.is_some_and(|known| {
        known.status == "True" && elapsed(now, known.since) > ClosedIncident::CONFIRMED_WITHIN
    })
}

/// What is remembered of a stored incident: as an open one or as a closed one.
fn known(object: StoredIncident) -> (Option<OpenIncident>, Option<LastIncident>) {
    let report = Box::new(object.report.clone());
    match object.episode() {
        Episode::Open(facts) => (Some(OpenIncident { facts, object: Box::new(object), report }), None),
        Episode::Closed(ClosedIncident { incident: facts, at }) => {
            let last = OpenIncident { facts, object: Box::new(object), report };
            (None, Some(LastIncident { last, at }))
        }
        Episode::Over => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use engine::model::earlier;

    use super::*;
    use crate::conditions::ConditionReport;

    #[test]
    fn the_last_incident_is_adopted_while_it_may_be_opened_again() {
        let now = Timestamp::UNIX_EPOCH;
        let kept = |status: &str, minutes: u64| {
            let condition = ConditionReport {
                r#type: types::WITHIN_OBJECTIVE.to_owned(),
                status: status.to_owned(),
                since: earlier(now, Duration::from_secs(minutes * 60)),
                reason: String::new(),
                message: String::new(),
                observed_generation: None,
            };
            let report = PolicyReport { conditions: vec![condition], ..PolicyReport::default() };
            long_within(&report, now)
        };
        assert!(kept("True", 91) && !kept("True", 89));
        assert!(!kept("False", 91) && !kept("Unknown", 91));
        assert!(!long_within(&PolicyReport::default(), now), "nothing is known");
    }
}
