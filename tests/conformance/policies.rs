//! LatencyPolicies and LatencyIncidents: people's edits, compare-and-swap of both statuses, numbers that are names, removal,
//! what goes with a policy, and what a watch shows of it.

use std::time::Duration;

use controller::PolicyKey;
use controller::conditions::ConditionReport;
use controller::objects::{
    FoundIncident, IncidentSpec, IncidentSummary, PolicyMeta, StoredIncident, StoredPolicy, StoredReport,
};
use controller::ports;
use controller::report::{
    IncidentOutcome, IncidentPhase, IncidentReport, Judged, Notified, ObjectiveReport, PolicyReport,
    PolicyState, RefusalReport, Reopening, TimelineEntry, resolved,
};
use engine::model::{Incident, Policy, PolicyRef, Severity, TargetKind, TargetRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use latency_operator::api::{LatencyIncident, LatencyPolicy, PAUSED_UNTIL, convert};
use serde_json::json;
use sim::bench;
use sim::dice::Dice;
use sim::world::api::{Answer, PolicyObject, Shown};
use sim::world::{START, World};

use crate::names::Names;
use crate::written;

const NAME: &str = "orders-api";
const CALLS: u64 = 100;
/// The garbage collector looks for kinds that it does not know yet twice a minute.
const COLLECTED_WITHIN: Duration = Duration::from_secs(120);

/// A call. A `known` is the number of an object that an earlier call has returned: whoever holds it may be late.
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
    Meta,
    Report {
        known: usize,
        ordinal: u64,
        said: &'static str,
    },
    Conditions {
        known: usize,
        said: &'static str,
    },
    Open {
        known: usize,
        ordinal: u64,
    },
    Find {
        known: usize,
        ordinal: u64,
    },
    List,
    Write {
        known: usize,
        severity: Severity,
        reopened: u32,
        closed: bool,
    },
    Remove {
        known: usize,
    },
}

/// What the operator is answered.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Policy(Option<Box<StoredPolicy>>),
    Meta(Option<PolicyMeta>),
    Report(StoredReport),
    Incident(Option<StoredIncident>),
    Incidents(Vec<IncidentSummary>),
    Done,
}

impl Call {
    fn any(dice: &mut Dice, (policies, incidents, listed): (usize, usize, usize)) -> Self {
        // The newest is what an operator mostly has.
        let mut place =
            |of: usize| if dice.percent(65) { of.saturating_sub(1) } else { dice.below(of.max(1)) };
        let (known, incident, one) = (place(policies), place(incidents), place(listed));
        let ordinal = dice.between(1, 4);
        let said = ["1h", "forever", "2030-01-01T00:00:00Z"][dice.below(3)];
        let severity = [Severity::P2, Severity::P1][dice.below(2)];
        let reopened = u32::try_from(dice.below(2)).unwrap_or(0);
        let closed = dice.percent(40);
        match dice.between(1, 100) {
            _ if policies == 0 => Self::Create,
            1..=12 => Self::Create,
            13..=20 => Self::Edit { cooldown: dice.between(10, 12) },
            21..=26 => Self::Pause { until: Some(said).filter(|_| dice.percent(60)) },
            27..=29 => Self::Delete,
            30..=32 => Self::Read,
            33..=34 => Self::Meta,
            35..=50 => Self::Report { known, ordinal, said },
            51..=53 => Self::Conditions { known, said },
            54..=70 => Self::Open { known, ordinal },
            71..=73 => Self::Find { known, ordinal },
            _ if incidents == 0 => Self::Open { known, ordinal },
            74..=87 => Self::Write { known: incident, severity, reopened, closed },
            _ if listed == 0 => Self::List,
            88..=94 => Self::List,
            _ => Self::Remove { known: one },
        }
    }
}

fn conditions(generation: i64, said: &str) -> Vec<ConditionReport> {
    vec![ConditionReport {
        r#type: "Ready".into(),
        status: "True".into(),
        reason: "Accepted".into(),
        message: format!("it is paused until {said}"),
        observed_generation: Some(generation),
        since: START,
    }]
}

fn policy_report(policy: &PolicyRef, generation: i64, ordinal: u64, said: &str) -> PolicyReport {
    PolicyReport {
        observed_generation: Some(generation),
        conditions: conditions(generation, said),
        severity: Some(Severity::P1),
        active_incident: Some(Incident::name_of(policy, ordinal)),
        ordinal,
        paused: Some(said.to_owned()),
        state: Some(PolicyState::Paused),
        objectives: vec![ObjectiveReport {
            name: "p95".into(),
            verdict: Judged::Breached,
            measured: Some("812ms".into()),
            threshold: "500ms".into(),
            bucket_bound: Some("500ms".into()),
            requests: Some(379),
            since: START,
            measured_at: START,
        }],
        refusals: vec![RefusalReport {
            remediation: "cancel".into(),
            guard: "Paused".into(),
            message: said.to_owned(),
        }],
        ..PolicyReport::default()
    }
}

fn incident_report(severity: Severity, reopened: u32, closed: bool) -> IncidentReport {
    let again = Reopening { times: reopened, first_breached_at: START, at: START };
    let outcome = closed.then_some(IncidentOutcome::Healed);
    IncidentReport {
        conditions: resolved(&[], outcome, START),
        phase: Some(if closed { IncidentPhase::Closed } else { IncidentPhase::Open }),
        severity: Some(severity),
        closed_at: closed.then_some(START),
        reopened: (reopened > 0).then_some(again),
        outcome,
        notified: vec![Notified { route: "oncall".into(), key: "opened/P1".into(), at: START }],
        timeline: vec![TimelineEntry { at: START, reason: "CauseFound".into(), message: "m".into() }],
        ..IncidentReport::default()
    }
}

/// An operator before one of the API servers, and what it has been answered.
struct Operator<C> {
    cluster: C,
    key: PolicyKey,
    names: Names,
    policies: Vec<(PolicyRef, StoredReport)>,
    incidents: Vec<StoredIncident>,
    listed: Vec<IncidentSummary>,
}

impl<C: ports::Cluster> Operator<C> {
    fn new(cluster: C, namespace: &str) -> Self {
        let key = (namespace.to_owned(), NAME.to_owned());
        let (policies, incidents, listed) = (Vec::new(), Vec::new(), Vec::new());
        Self { cluster, key, names: Names::default(), policies, incidents, listed }
    }

    fn keep(&mut self, stored: StoredIncident) -> Seen {
        self.incidents.push(stored.clone());
        Seen::Incident(Some(self.names.stored_incident(stored)))
    }

    async fn ask(&mut self, call: Call) -> Answer<Seen> {
        let (cluster, namespace) = (&self.cluster, &self.key.0);
        Ok(match call {
            Call::Create | Call::Edit { .. } | Call::Pause { .. } | Call::Delete | Call::Read => {
                let found = cluster.policy(&self.key).await.expect("a read");
                self.policies.extend(found.iter().map(|found| (found.id.clone(), found.stored_report())));
                Seen::Policy(found.map(|found| Box::new(self.names.policy(found))))
            }
            Call::Meta => {
                let found = cluster.policy_meta(&self.key).await.expect("a read");
                Seen::Meta(found.map(|found| PolicyMeta { uid: self.names.uid(&found.uid), ..found }))
            }
            Call::Report { known, ordinal, said } => {
                let (policy, known) = self.policies[known].clone();
                let report = policy_report(&policy, known.generation, ordinal, said);
                let stored = written(cluster.write_policy_status(&policy, &known.version, &report).await)?;
                self.policies.push((policy, stored.clone()));
                Seen::Report(self.names.stored_report(stored))
            }
            Call::Conditions { known, said } => {
                let generation = self.policies[known].1.generation;
                let conditions = conditions(generation, said);
                written(cluster.write_conditions(&self.key, generation, &conditions).await)?;
                Seen::Done
            }
            Call::Open { known, ordinal } => {
                let policy = self.policies[known].0.clone();
                let name = Incident::name_of(&policy, ordinal);
                let target = TargetRef { kind: TargetKind::Deployment, name: NAME.to_owned() };
                let (first_breached_at, opened_at) = (START, START);
                let spec = IncidentSpec { policy, target, ordinal, first_breached_at, opened_at };
                let created = written(cluster.create_incident(&name, &spec).await)?;
                self.keep(created)
            }
            Call::Find { known, ordinal } => {
                let name = Incident::name_of(&self.policies[known].0, ordinal);
                match cluster.incident(namespace, &name).await.expect("a read") {
                    Some(FoundIncident::Readable(found)) => self.keep(*found),
                    Some(FoundIncident::Undecodable(why)) => panic!("{why}"),
                    None => Seen::Incident(None),
                }
            }
            Call::List => {
                let listed = cluster.incidents(&self.key).await.expect("a list");
                self.listed.extend(listed.clone());
                Seen::Incidents(listed.into_iter().map(|one| self.names.summary(one)).collect())
            }
            Call::Write { known, severity, reopened, closed } => {
                let report = incident_report(severity, reopened, closed);
                let stored = written(cluster.write_incident(&self.incidents[known], &report).await)?;
                self.keep(stored)
            }
            Call::Remove { known } => {
                written(cluster.delete_incident(namespace, &self.listed[known]).await)?;
                Seen::Done
            }
        })
    }
}

fn policy() -> LatencyPolicy {
    serde_json::from_value(json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "targetRef": {"name": NAME},
            "dependencies": [{
                "name": "db", "type": "PostgreSQL", "secretRef": {"name": "orders-db"}, "postgresql": {},
            }],
            "guards": {"cooldown": "10s"},
        },
        "status": {"paused": "nobody hears this"},
    }))
    .expect("a policy")
}

/// People, with kubectl.
struct Real {
    policies: Api<LatencyPolicy>,
    incidents: Api<LatencyIncident>,
}

impl Real {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the other calls are the operator's")]
    async fn act(&self, call: Call) -> Answer<()> {
        let create = PostParams { field_manager: Some("kubectl-create".into()), ..PostParams::default() };
        let edit = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
        let patch = match call {
            Call::Create => {
                return crate::understood(self.policies.create(&create, &policy()).await).map(drop);
            }
            Call::Delete => {
                let deleted = self.policies.delete(NAME, &DeleteParams::default()).await;
                return crate::understood(deleted).map(drop);
            }
            Call::Edit { cooldown } => json!({"spec": {"guards": {"cooldown": format!("{cooldown}s")}}}),
            Call::Pause { until } => json!({"metadata": {"annotations": {PAUSED_UNTIL: until}}}),
            _ => return Ok(()),
        };
        crate::understood(self.policies.patch(NAME, &edit, &Patch::Merge(patch)).await).map(drop)
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
}

/// People, in the simulation. `original` is what they wrote, in the `life`-th life of its name.
#[allow(clippy::wildcard_enum_match_arm, reason = "the other calls are the operator's")]
fn act(world: &mut World, call: Call, original: &Policy, life: u64) -> Answer<()> {
    let key = (original.id.namespace.clone(), original.id.name.clone());
    match call {
        Call::Create => {
            let mut policy = original.clone();
            policy.id.uid = format!("{life:08}");
            let report = PolicyReport { paused: Some("nobody hears this".into()), ..PolicyReport::default() };
            world.create_policy(PolicyObject { policy, version: 0, paused: None, report }).map(drop)
        }
        Call::Edit { cooldown } => world
            .edit_policy(&key, |object| object.policy.guards.cooldown = Duration::from_secs(cooldown))
            .map(drop),
        Call::Pause { until } => {
            world.edit_policy(&key, |object| object.paused = until.map(str::to_owned)).map(drop)
        }
        Call::Delete => world.delete_policy(&key),
        _ => Ok(()),
    }
}

pub(crate) async fn compare(client: &Client, namespace: &str, seed: u64) {
    let mut object = policy();
    object.metadata.namespace = Some(namespace.to_owned());
    object.metadata.creation_timestamp = Some(Time(START));
    let original = convert::policy(&object).expect("a policy");
    let people = Real {
        policies: Api::namespaced(client.clone(), namespace),
        incidents: Api::namespaced(client.clone(), namespace),
    };
    let (sim, port) = bench::port(seed);
    let mut real = Operator::new(crate::cluster(client, namespace), namespace);
    let mut simulated = Operator::new(port, namespace);
    let begin = crate::beginning(&people.policies).await;
    let mut dice = Dice::new(seed);
    let mut told = Vec::new();
    for number in 0..CALLS {
        let call = Call::any(&mut dice, (real.policies.len(), real.incidents.len(), real.listed.len()));
        let (one, two) = (people.act(call).await, act(&mut sim.world(), call, &original, number));
        assert_eq!(one, two, "seed {seed}: {call:?}; {told:#?}");
        people.collected().await;
        let one = real.ask(call).await;
        let two = bench::answer(&sim, simulated.ask(call)).expect("an answer");
        told.push(format!("{call:?}: {one:?}"));
        assert_eq!(one, two, "seed {seed}: {call:?}; {told:#?}");
    }
    let shown: Vec<Option<StoredPolicy>> = sim
        .world()
        .api
        .news
        .iter()
        .filter_map(|(_, shown)| match shown {
            Shown::Policy(object) => Some(Some(simulated.names.policy(StoredPolicy::from(&**object)))),
            Shown::PolicyGone(_) => Some(None),
            Shown::Remediation(_) | Shown::RemediationGone(_) | Shown::Budgets(_) => None,
        })
        .collect();
    assert!(shown.len() > 10 && simulated.incidents.len() > 5, "seed {seed} changes nothing");
    let watched = crate::watched(&people.policies, &begin, shown.len()).await;
    let watched: Vec<Option<StoredPolicy>> = watched
        .iter()
        .map(|object| Some(real.names.policy(real.cluster.policy_of(object.as_ref()?))))
        .collect();
    assert_eq!(watched, shown, "seed {seed}: what a watch shows; {told:#?}");
}
