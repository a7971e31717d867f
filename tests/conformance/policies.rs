//! LatencyPolicies and LatencyIncidents: people's edits, compare-and-swap of both statuses, numbers that are names, removal,
//! what goes with a policy, and what a watch shows of it.

use std::time::Duration;

use controller::objects::{
    FoundIncident, IncidentSpec, IncidentSummary, StoredIncident, StoredPolicy, StoredReport, Version,
};
use controller::ports::Cluster;
use controller::report::{IncidentPhase, IncidentReport, PolicyReport, Reopening};
use engine::model::{Incident, Policy, PolicyRef, Severity, TargetKind, TargetRef, later};
use futures::TryStreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use latency_operator::api::{LatencyIncident, LatencyPolicy, convert};
use serde_json::json;
use sim::dice::Dice;
use sim::world::World;
use sim::world::api::{ApiError, PolicyObject, Shown};

use crate::{Answer, Failed, Simulated, Versions, kubernetes, understood};

const NAME: &str = "orders-api";
const CALLS: u64 = 100;
const PAUSED: &str = "latency-operator.dev/paused-until";
/// The garbage collector looks for kinds that it does not know yet twice a minute.
const COLLECTED_WITHIN: Duration = Duration::from_secs(120);

/// A call. A `known` is the number of something that an earlier call has returned: it may be outdated.
#[derive(Debug, Clone, Copy)]
enum Call {
    /// By people.
    Create,
    Edit {
        cooldown: u64,
    },
    Pause {
        until: Option<&'static str>,
    },
    Delete,
    /// By the operator.
    Read,
    Report {
        known: usize,
        ordinal: u64,
        severity: Option<Severity>,
    },
    Open {
        known: usize,
        ordinal: u64,
    },
    Find {
        known: usize,
        ordinal: u64,
    },
    Tell {
        known: usize,
        severity: Severity,
        reopened: u32,
        closed: bool,
    },
    List,
    Remove {
        known: usize,
    },
}

impl Call {
    fn any(dice: &mut Dice, known: &Known) -> Self {
        let (policies, incidents) = (known.policies.len(), known.incidents.len());
        // The newest is what an operator mostly has.
        let mut place =
            |of: usize| if dice.percent(65) { of.saturating_sub(1) } else { dice.below(of.max(1)) };
        let (policy, incident, summary) = (place(policies), place(incidents), place(known.summaries.len()));
        let ordinal = dice.between(1, 4);
        let severity = [Severity::P2, Severity::P1][dice.below(2)];
        let reopened = u32::try_from(dice.below(2)).unwrap_or(0);
        let closed = dice.percent(40);
        match dice.between(1, 100) {
            _ if policies == 0 => Self::Create,
            1..=14 => Self::Create,
            15..=22 => Self::Edit { cooldown: dice.between(10, 12) },
            23..=28 => {
                Self::Pause { until: [None, Some("forever"), Some("2030-01-01T00:00:00Z")][dice.below(3)] }
            }
            29..=31 => Self::Delete,
            32..=36 => Self::Read,
            37..=55 => Self::Report { known: policy, ordinal, severity: closed.then_some(severity) },
            56..=73 => Self::Open { known: policy, ordinal },
            74..=76 => Self::Find { known: policy, ordinal },
            _ if incidents == 0 => Self::Open { known: policy, ordinal },
            77..=89 => Self::Tell { known: incident, severity, reopened, closed },
            90..=94 => Self::List,
            _ if known.summaries.is_empty() => Self::List,
            _ => Self::Remove { known: summary },
        }
    }
}

/// What earlier calls have returned.
#[derive(Debug, Clone, Default)]
struct Known {
    policies: Vec<(PolicyRef, Version)>,
    incidents: Vec<StoredIncident>,
    summaries: Vec<IncidentSummary>,
    /// Policies are told apart by the order in which they were created.
    lives: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Returned {
    Policy(Box<StoredPolicy>),
    Report(PolicyRef, StoredReport),
    Incident(Box<StoredIncident>),
    Incidents(Vec<IncidentSummary>),
    Nothing,
}

/// The operator's calls, on either server.
async fn ask<C: Cluster>(cluster: &C, call: Call, namespace: String, known: Known) -> Answer<Returned> {
    let incident = |stored| Returned::Incident(Box::new(stored));
    Ok(match call {
        Call::Read => match cluster.policy(&(namespace, NAME.to_owned())).await? {
            Some(stored) => Returned::Policy(Box::new(stored)),
            None => Returned::Nothing,
        },
        Call::Report { known: place, ordinal, severity } => {
            let (id, version) = &known.policies[place];
            let active_incident = severity.map(|_| Incident::name_of(id, ordinal));
            let report = PolicyReport { ordinal, severity, active_incident, ..PolicyReport::default() };
            Returned::Report(id.clone(), cluster.write_policy_status(id, version, &report).await?)
        }
        Call::Open { known: place, ordinal } => {
            let (policy, at) = (known.policies[place].0.clone(), sim::world::START);
            let name = Incident::name_of(&policy, ordinal);
            let target = TargetRef { kind: TargetKind::Deployment, name: NAME.into() };
            let spec = IncidentSpec { policy, target, ordinal, first_breached_at: at, opened_at: at };
            incident(cluster.create_incident(&name, &spec).await?)
        }
        Call::Find { known: place, ordinal } => {
            let name = Incident::name_of(&known.policies[place].0, ordinal);
            match cluster.incident(&namespace, &name).await? {
                Some(FoundIncident::Readable(stored)) => Returned::Incident(stored),
                Some(FoundIncident::Undecodable(error)) => panic!("{error}"),
                None => Returned::Nothing,
            }
        }
        Call::Tell { known: place, severity, reopened, closed } => {
            let report = story(severity, reopened, closed);
            incident(cluster.write_incident(&known.incidents[place], &report).await?)
        }
        Call::List => Returned::Incidents(cluster.incidents(&(namespace, NAME.to_owned())).await?),
        Call::Remove { known: place } => {
            cluster.delete_incident(&namespace, &known.summaries[place]).await?;
            Returned::Nothing
        }
        Call::Create | Call::Edit { .. } | Call::Pause { .. } | Call::Delete => {
            unreachable!("people do that")
        }
    })
}

fn story(severity: Severity, reopened: u32, closed: bool) -> IncidentReport {
    let again = later(sim::world::START, Duration::from_secs(60 * u64::from(reopened)));
    IncidentReport {
        phase: Some(if closed { IncidentPhase::Closed } else { IncidentPhase::Open }),
        severity: Some(severity),
        closed_at: closed.then(|| later(sim::world::START, Duration::from_secs(600))),
        reopened: (reopened > 0).then_some(Reopening {
            times: reopened,
            first_breached_at: again,
            at: again,
        }),
        escalation: Some(format!("it is {severity}")),
        ..IncidentReport::default()
    }
}

impl Known {
    fn life(&mut self, uid: &str) -> String {
        let life = self.lives.iter().position(|known| known == uid).unwrap_or_else(|| {
            self.lives.push(uid.to_owned());
            self.lives.len() - 1
        });
        life.to_string()
    }

    /// Keeps what was returned for later calls, with the version of an object.
    fn keep(&mut self, returned: &Returned) -> Option<Version> {
        match returned {
            Returned::Policy(stored) => {
                self.policies.push((stored.id.clone(), stored.version.clone()));
                Some(stored.version.clone())
            }
            Returned::Report(id, stored) => {
                self.policies.push((id.clone(), stored.version.clone()));
                Some(stored.version.clone())
            }
            Returned::Incident(stored) => {
                self.incidents.push((**stored).clone());
                Some(stored.version.clone())
            }
            Returned::Incidents(all) => {
                self.summaries.extend(all.iter().cloned());
                None
            }
            Returned::Nothing => None,
        }
    }

    /// The same with nothing that differs from server to server.
    fn plain(&mut self, returned: Returned) -> Returned {
        let none = || Version("".into());
        match returned {
            Returned::Policy(mut stored) => {
                let uid = self.life(&stored.id.uid);
                (stored.id.uid, stored.version) = (uid, none());
                stored.report = self.plain_report(&stored.report);
                if let Ok(policy) = &mut stored.spec {
                    (policy.id, policy.created_at) = (stored.id.clone(), sim::world::START);
                }
                Returned::Policy(stored)
            }
            Returned::Report(mut id, mut stored) => {
                (id.uid, stored.version) = (self.life(&id.uid), none());
                stored.report = self.plain_report(&stored.report);
                Returned::Report(id, stored)
            }
            Returned::Incident(mut stored) => {
                (stored.name, stored.version) = (number(&stored.name), none());
                Returned::Incident(stored)
            }
            Returned::Incidents(mut all) => {
                for one in &mut all {
                    (one.name, one.version, one.uid) = (number(&one.name), none(), String::new());
                }
                all.sort_by(|a, b| a.name.cmp(&b.name));
                Returned::Incidents(all)
            }
            Returned::Nothing => Returned::Nothing,
        }
    }

    fn plain_report(&self, report: &PolicyReport) -> PolicyReport {
        PolicyReport { active_incident: report.active_incident.as_deref().map(number), ..report.clone() }
    }
}

/// The number of an incident: its name says the uid of its policy as well.
fn number(name: &str) -> String {
    name.rsplit('-').next().unwrap_or_default().to_owned()
}

fn policy() -> LatencyPolicy {
    serde_json::from_value(json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "targetRef": {"name": NAME},
            "dependencies": [{
                "name": "db", "type": "PostgreSQL", "postgres": {"secretRef": {"name": "orders-db"}},
            }],
            "guards": {"cooldown": "10s"},
        },
    }))
    .expect("a policy")
}

struct Real {
    cluster: latency_operator::kube::Cluster,
    policies: Api<LatencyPolicy>,
    incidents: Api<LatencyIncident>,
}

impl Real {
    async fn call(&self, call: Call, namespace: &str, known: Known) -> Answer<Returned> {
        let by_people = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
        let written = match call {
            Call::Create => {
                let manager = Some("kubectl-create".into());
                let params = PostParams { field_manager: manager, ..PostParams::default() };
                self.policies.create(&params, &policy()).await
            }
            Call::Edit { cooldown } => {
                let patch = json!({"spec": {"guards": {"cooldown": format!("{cooldown}s")}}});
                self.policies.patch(NAME, &by_people, &Patch::Merge(&patch)).await
            }
            Call::Pause { until } => {
                let patch = json!({"metadata": {"annotations": {PAUSED: until}}});
                self.policies.patch(NAME, &by_people, &Patch::Merge(&patch)).await
            }
            Call::Delete => {
                understood(self.policies.delete(NAME, &DeleteParams::default()).await)?;
                self.collected().await;
                return Ok(Returned::Nothing);
            }
            Call::Open { .. } => {
                let opened = ask(&self.cluster, call, namespace.to_owned(), known).await;
                self.collected().await;
                return opened;
            }
            Call::Read
            | Call::Report { .. }
            | Call::Find { .. }
            | Call::Tell { .. }
            | Call::List
            | Call::Remove { .. } => return ask(&self.cluster, call, namespace.to_owned(), known).await,
        };
        understood(written).map(|object| Returned::Policy(Box::new(self.cluster.policy_of(&object))))
    }

    /// Waits until there is no incident whose policy is not there: the garbage collector has time of its own.
    async fn collected(&self) {
        let collected = lab::until(COLLECTED_WITHIN, async || {
            let now = self.policies.get_opt(NAME).await.expect("an answer").and_then(|policy| policy.uid());
            let all = self.incidents.list(&ListParams::default()).await.expect("a list").items;
            all.iter().all(|one| Some(&one.spec.policy_ref.uid) == now.as_ref()).then_some(())
        });
        collected.await.expect("incidents without their policy were never removed");
    }

    /// What a watch has shown: policies, and that one is gone.
    async fn watched(&self, known: &mut Known, since: &str, many: usize) -> Vec<Returned> {
        let stream = self.policies.watch(&WatchParams::default(), since).await.expect("a watch");
        let mut stream = std::pin::pin!(stream);
        let mut shown = Vec::new();
        while shown.len() < many {
            let next = tokio::time::timeout(Duration::from_secs(10), stream.try_next()).await;
            match next.unwrap_or_else(|_| panic!("{} of {many} changes were shown", shown.len())) {
                Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    let stored = self.cluster.policy_of(&object);
                    shown.push(known.plain(Returned::Policy(Box::new(stored))));
                }
                Ok(Some(WatchEvent::Deleted(_))) => shown.push(Returned::Nothing),
                Ok(Some(WatchEvent::Bookmark(_))) => {}
                other => panic!("{other:?}"),
            }
        }
        shown
    }
}

fn call(simulated: &Simulated, call: Call, original: &Policy, known: Known) -> Answer<Returned> {
    let key = (original.id.namespace.clone(), NAME.to_owned());
    let failed = |error| match error {
        ApiError::NotFound => Failed::Gone,
        ApiError::Conflict => Failed::Conflict,
        ApiError::Refused | ApiError::Lost => Failed::Refused,
    };
    let written = match call {
        Call::Create => {
            let mut policy = original.clone();
            policy.id.uid = known.lives.len().to_string();
            let report = PolicyReport { ordinal: 7, ..PolicyReport::default() };
            simulated.sim.world().create_policy(PolicyObject { policy, version: 0, paused: None, report })
        }
        Call::Edit { cooldown } => simulated.sim.world().edit_policy(&key, |object| {
            object.policy.guards.cooldown = Duration::from_secs(cooldown);
        }),
        Call::Pause { until } => {
            simulated.sim.world().edit_policy(&key, |object| object.paused = until.map(str::to_owned))
        }
        Call::Delete => {
            let deleted = simulated.sim.world().delete_policy(&key);
            return deleted.map(|()| Returned::Nothing).map_err(failed);
        }
        Call::Read
        | Call::Report { .. }
        | Call::Open { .. }
        | Call::Find { .. }
        | Call::Tell { .. }
        | Call::List
        | Call::Remove { .. } => {
            return simulated.ask(|port| async move { ask(&port, call, key.0, known).await });
        }
    };
    written.map(|object| Returned::Policy(Box::new(StoredPolicy::from(&object)))).map_err(failed)
}

pub(crate) async fn compare(client: &Client, namespace: &str, seed: u64) {
    let mut stored = policy();
    stored.metadata.namespace = Some(namespace.to_owned());
    stored.metadata.creation_timestamp = Some(Time(sim::world::START));
    stored.metadata.generation = Some(1);
    let original = convert::policy(&stored).expect("a policy");
    let real = Real {
        cluster: kubernetes(client),
        policies: Api::namespaced(client.clone(), namespace),
        incidents: Api::namespaced(client.clone(), namespace),
    };
    let simulated = Simulated::new(World::new(seed));
    let (mut theirs, mut ours) = (Known::default(), Known::default());
    let (mut their_versions, mut our_versions) = (Versions::default(), Versions::default());
    let listed = real.policies.list_metadata(&ListParams::default()).await.expect("a list");
    let begin = listed.metadata.resource_version.expect("a version");
    let (mut dice, mut calls) = (Dice::new(seed), Vec::new());
    for _ in 0..CALLS {
        let chosen = Call::any(&mut dice, &theirs);
        let one = real.call(chosen, namespace, theirs.clone()).await;
        let two = call(&simulated, chosen, &original, ours.clone());
        calls.push(format!("{chosen:?}: {one:?}"));
        let same = (
            their_versions.same_as(one.as_ref().ok().and_then(|returned| theirs.keep(returned))),
            our_versions.same_as(two.as_ref().ok().and_then(|returned| ours.keep(returned))),
        );
        let (one, two) = (one.map(|one| theirs.plain(one)), two.map(|two| ours.plain(two)));
        assert_eq!(one, two, "seed {seed}: {chosen:?}; {calls:#?}");
        assert_eq!(same.0, same.1, "seed {seed}: {chosen:?}: versions that are the same; {calls:#?}");
    }
    let news = std::mem::take(&mut simulated.sim.world().api.news);
    let shown: Vec<Returned> = news
        .iter()
        .filter_map(|(_, shown)| match shown {
            Shown::Policy(object) => {
                Some(ours.plain(Returned::Policy(Box::new(StoredPolicy::from(&**object)))))
            }
            Shown::PolicyGone(_) => Some(Returned::Nothing),
            Shown::Remediation(_) | Shown::RemediationGone(_) | Shown::Budgets(_) => None,
        })
        .collect();
    assert!(shown.len() > 10 && ours.incidents.len() > 5, "seed {seed} changes nothing");
    let watched = real.watched(&mut theirs, &begin, shown.len()).await;
    assert_eq!(watched, shown, "seed {seed}: what a watch shows; {calls:#?}");
}
