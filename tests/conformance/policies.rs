//! LatencyPolicies and LatencyIncidents: people's edits, compare-and-swap of both statuses, numbers that are names, removal,
//! what goes with a policy, and what a watch shows of it.

use std::time::Duration;

use engine::model::{ClosedIncident, Incident, Policy, PolicyRef, Severity};
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use latency_operator::api::convert::{self, Episode};
use latency_operator::api::incident::{LatencyIncidentStatus, PolicyReference, Reopening};
use latency_operator::api::text::{Instant, ObjectName, Sentence, Word};
use latency_operator::api::{LatencyIncident, LatencyIncidentSpec, LatencyPolicy};
use serde_json::json;
use sim::dice::Dice;
use sim::world::World;
use sim::world::api::{ApiError, IncidentObject, PolicyObject, Shown};

use crate::{Answer, understood};

const NAME: &str = "orders-api";
const CALLS: u64 = 100;
const PAUSED: &str = "latency-operator.dev/paused-until";
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
    Say {
        known: usize,
        ordinal: u64,
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
    Tell {
        known: usize,
        severity: Severity,
        reopened: u32,
        closed: bool,
    },
    Remove {
        known: usize,
    },
}

impl Call {
    fn any(dice: &mut Dice, policies: usize, incidents: usize) -> Self {
        // The newest is what an operator mostly has.
        let mut place =
            |of: usize| if dice.percent(65) { of.saturating_sub(1) } else { dice.below(of.max(1)) };
        let (known, incident) = (place(policies), place(incidents));
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
            37..=55 => {
                Self::Say { known, ordinal, said: ["Healthy", "NoData", "Breached P1"][dice.below(3)] }
            }
            56..=73 => Self::Open { known, ordinal },
            74..=78 => Self::Find { known, ordinal },
            _ if incidents == 0 => Self::Open { known, ordinal },
            79..=93 => Self::Tell { known: incident, severity, reopened, closed },
            _ => Self::Remove { known: incident },
        }
    }
}

/// What an object looks like. Policies are told apart by the order in which they were created.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Policy { policy: Box<Policy>, paused: Option<String>, active: Option<u64>, ordinal: u64, said: String },
    Incident { life: String, facts: Incident, closed_at: Option<Timestamp>, said: String },
}

/// What is returned, with its version.
type Returned = Option<(Seen, String)>;

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

fn incident(ordinal: u64, of: &PolicyRef) -> Incident {
    Incident {
        name: Incident::name_of(of, ordinal),
        ordinal,
        first_breached_at: sim::world::START,
        opened_at: sim::world::START,
        severity: Severity::P1,
        reopened: 0,
    }
}

/// As the operator changes what it knows of it.
fn told(known: &Incident, severity: Severity, reopened: u32) -> Incident {
    let later = engine::model::later(sim::world::START, Duration::from_secs(60 * u64::from(reopened)));
    Incident { severity, reopened, first_breached_at: later, opened_at: later, ..known.clone() }
}

/// When it was closed.
fn closed_at(closed: bool) -> Option<Timestamp> {
    closed.then(|| engine::model::later(sim::world::START, Duration::from_secs(600)))
}

fn number(name: &str) -> Option<u64> {
    name.rsplit('-').next()?.parse().ok()
}

struct Real {
    policies: Api<LatencyPolicy>,
    incidents: Api<LatencyIncident>,
    /// The uids in the order of their creation.
    lives: Vec<String>,
    known: Vec<LatencyPolicy>,
    told: Vec<LatencyIncident>,
}

impl Real {
    fn life(&self, uid: &str) -> String {
        let life = self.lives.iter().position(|known| known == uid).expect("a life");
        life.to_string()
    }

    fn seen(&self, object: &LatencyPolicy) -> Seen {
        let status = object.status.clone().unwrap_or_default();
        let mut policy = convert::policy(object).expect("a policy");
        policy.id.uid = self.life(&policy.id.uid);
        policy.created_at = sim::world::START;
        Seen::Policy {
            policy: Box::new(policy),
            paused: object.annotations().get(PAUSED).cloned(),
            active: status.active_incident.and_then(|name| number(&name.0)),
            ordinal: status.incident_ordinal.and_then(|ordinal| u64::try_from(ordinal).ok()).unwrap_or(0),
            said: status.paused.unwrap_or_default(),
        }
    }

    fn keep(&mut self, object: LatencyPolicy) -> Returned {
        let uid = object.uid().expect("a uid");
        if !self.lives.contains(&uid) {
            self.lives.push(uid);
        }
        let returned = (self.seen(&object), object.resource_version().expect("a version"));
        self.known.push(object);
        Some(returned)
    }

    fn hold(&mut self, object: LatencyIncident) -> Returned {
        let status = object.status.clone().unwrap_or_default();
        let (mut facts, closed_at) = match convert::incident(&object.name_any(), &object) {
            Episode::Open(facts) => (facts, None),
            Episode::Closed(ClosedIncident { incident, at }) => (incident, Some(at)),
            Episode::Over => panic!("closed without saying when"),
        };
        facts.name = NAME.to_owned();
        let life = self.life(&object.spec.policy_ref.uid);
        let said = status.escalation.map(|sentence| sentence.0).unwrap_or_default();
        let returned =
            (Seen::Incident { life, facts, closed_at, said }, object.resource_version().expect("a version"));
        self.told.push(object);
        Some(returned)
    }

    async fn call(&mut self, call: Call) -> Answer<Returned> {
        let by_people = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
        let (policies, incidents, post) =
            (self.policies.clone(), self.incidents.clone(), PostParams::default());
        let written = match call {
            Call::Create => {
                let params = PostParams { field_manager: Some("kubectl-create".into()), ..post };
                policies.create(&params, &policy()).await
            }
            Call::Edit { cooldown } => {
                let patch = json!({"spec": {"guards": {"cooldown": format!("{cooldown}s")}}});
                policies.patch(NAME, &by_people, &Patch::Merge(&patch)).await
            }
            Call::Pause { until } => {
                let patch = json!({"metadata": {"annotations": {PAUSED: until}}});
                policies.patch(NAME, &by_people, &Patch::Merge(&patch)).await
            }
            Call::Delete => {
                understood(policies.delete(NAME, &DeleteParams::default()).await)?;
                self.collected().await;
                return Ok(None);
            }
            Call::Read => policies.get(NAME).await,
            Call::Say { known, ordinal, said } => {
                let mut object = self.known[known].clone();
                let status = object.status.get_or_insert_default();
                status.incident_ordinal = i64::try_from(ordinal).ok();
                let of = reference(&self.known[known]);
                status.active_incident = Some(ObjectName(Incident::name_of(&of, ordinal)));
                status.paused = Some(said.to_owned());
                policies.replace_status(NAME, &post, &object).await
            }
            Call::Open { known, ordinal } => {
                let object = opened(&self.known[known], ordinal);
                let created = understood(incidents.create(&post, &object).await)?;
                self.collected().await;
                return Ok(self.hold(created));
            }
            Call::Find { known, ordinal } => {
                let name = Incident::name_of(&reference(&self.known[known]), ordinal);
                let found = understood(incidents.get(&name).await)?;
                return Ok(self.hold(found));
            }
            Call::Tell { known, severity, reopened, closed } => {
                let mut object = self.told[known].clone();
                object.status = Some(story(severity, reopened, closed));
                let name = object.name_any();
                let written = understood(incidents.replace_status(&name, &post, &object).await)?;
                return Ok(self.hold(written));
            }
            Call::Remove { known } => {
                let object = &self.told[known];
                let exactly = DeleteParams::default().preconditions(Preconditions {
                    uid: object.uid(),
                    resource_version: object.resource_version(),
                });
                understood(incidents.delete(&object.name_any(), &exactly).await)?;
                return Ok(None);
            }
        };
        understood(written).map(|object| self.keep(object))
    }

    /// Waits until there is no incident whose policy is not there: the garbage collector has time of its own.
    async fn collected(&self) {
        let collected = lab::until(COLLECTED_WITHIN, async || {
            let now = self.policies.get_opt(NAME).await.expect("an answer").and_then(|policy| policy.uid());
            let all = self.incidents.list(&kube::api::ListParams::default()).await.expect("a list").items;
            all.iter().all(|one| Some(&one.spec.policy_ref.uid) == now.as_ref()).then_some(())
        });
        collected.await.expect("incidents without their policy were never removed");
    }
}

fn reference(object: &LatencyPolicy) -> PolicyRef {
    PolicyRef {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
    }
}

fn opened(policy: &LatencyPolicy, ordinal: u64) -> LatencyIncident {
    let of = reference(policy);
    let facts = incident(ordinal, &of);
    let spec = LatencyIncidentSpec {
        policy_ref: PolicyReference { name: ObjectName(of.name), uid: of.uid },
        target: format!("Deployment/{NAME}"),
        ordinal: i64::try_from(ordinal).expect("a small number"),
        first_breached_at: Instant(facts.first_breached_at),
        opened_at: Instant(facts.opened_at),
    };
    let mut object = LatencyIncident::new(&facts.name, spec);
    object.metadata.namespace = policy.namespace();
    object.metadata.owner_references = policy.controller_owner_ref(&()).map(|owner| vec![owner]);
    object
}

fn story(severity: Severity, reopened: u32, closed: bool) -> LatencyIncidentStatus {
    let facts = told(&incident(1, &reference(&policy())), severity, reopened);
    LatencyIncidentStatus {
        phase: Some(Word(if closed { "Closed" } else { "Open" }.to_owned())),
        severity: Some(Word(severity.to_string())),
        closed_at: closed_at(closed).map(Instant),
        escalation: Some(Sentence(format!("it is {severity}"))),
        reopened: (reopened > 0).then(|| Reopening {
            times: i32::try_from(reopened).expect("a small number"),
            first_breached_at: Instant(facts.first_breached_at),
            at: Instant(facts.opened_at),
        }),
        ..LatencyIncidentStatus::default()
    }
}

struct Simulated {
    world: World,
    original: Policy,
    lives: u64,
    known: Vec<PolicyObject>,
    told: Vec<IncidentObject>,
}

fn seen(object: &PolicyObject) -> Seen {
    Seen::Policy {
        policy: Box::new(object.policy.clone()),
        paused: object.paused.clone(),
        active: object.active.as_deref().and_then(number),
        ordinal: object.ordinal,
        said: object.said.clone(),
    }
}

impl Simulated {
    fn keep(&mut self, object: PolicyObject) -> Returned {
        let returned = (seen(&object), object.version.to_string());
        self.known.push(object);
        Some(returned)
    }

    fn hold(&mut self, object: IncidentObject) -> Returned {
        let facts = Incident { name: NAME.to_owned(), ..object.facts.clone() };
        let life = object.policy.uid.clone();
        let seen = Seen::Incident { life, facts, closed_at: object.closed_at, said: object.story.clone() };
        let returned = (seen, object.version.to_string());
        self.told.push(object);
        Some(returned)
    }

    fn call(&mut self, call: Call) -> Answer<Returned> {
        let key = (self.original.id.namespace.clone(), NAME.to_owned());
        let written = match call {
            Call::Create => {
                let mut policy = self.original.clone();
                policy.id.uid = self.lives.to_string();
                let (active, said) = (Some("nobody hears this".to_owned()), "nor this".to_owned());
                let object = PolicyObject { policy, version: 0, paused: None, ordinal: 7, active, said };
                let created = self.world.create_policy(object)?;
                self.lives += 1;
                created
            }
            Call::Edit { cooldown } => self.world.edit_policy(&key, |object| {
                object.policy.guards.cooldown = Duration::from_secs(cooldown);
            })?,
            Call::Pause { until } => {
                self.world.edit_policy(&key, |object| object.paused = until.map(str::to_owned))?
            }
            Call::Delete => {
                self.world.delete_policy(&key)?;
                return Ok(None);
            }
            Call::Read => self.world.api.policies.get(&key).cloned().ok_or(ApiError::NotFound)?,
            Call::Say { known, ordinal, said } => {
                let known = &self.known[known];
                let active = Some(Incident::name_of(&known.policy.id, ordinal));
                let status = PolicyObject { ordinal, active, said: said.to_owned(), ..known.clone() };
                self.world.write_policy_status(&status)?
            }
            Call::Open { known, ordinal } => {
                let of = &self.known[known].policy.id;
                let created = self.world.create_incident(of, &incident(ordinal, of))?;
                return Ok(self.hold(created));
            }
            Call::Find { known, ordinal } => {
                let name = Incident::name_of(&self.known[known].policy.id, ordinal);
                let found =
                    self.world.api.incidents.get(&(key.0, name)).cloned().ok_or(ApiError::NotFound)?;
                return Ok(self.hold(found));
            }
            Call::Tell { known, severity, reopened, closed } => {
                let mut object = self.told[known].clone();
                object.facts = told(&object.facts, severity, reopened);
                (object.closed, object.closed_at) = (closed, closed_at(closed));
                object.story = format!("it is {severity}");
                let written = self.world.write_incident(&object)?;
                return Ok(self.hold(written));
            }
            Call::Remove { known } => {
                let object = &self.told[known];
                self.world.delete_incident(&(key.0, object.facts.name.clone()), object.version)?;
                return Ok(None);
            }
        };
        Ok(self.keep(written))
    }
}

/// What a watch has shown: policies, and that one has gone.
async fn watched(real: &Real, since: &str, many: usize) -> Vec<Option<Seen>> {
    let stream = real.policies.watch(&WatchParams::default(), since).await.expect("a watch");
    let mut stream = std::pin::pin!(stream);
    let mut shown = Vec::new();
    while shown.len() < many {
        let next = lab::within(Duration::from_secs(10), stream.try_next()).await;
        match next.unwrap_or_else(|| panic!("{} of {many} changes were shown", shown.len())) {
            Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                shown.push(Some(real.seen(&object)));
            }
            Ok(Some(WatchEvent::Deleted(_))) => shown.push(None),
            Ok(Some(WatchEvent::Bookmark(_))) => {}
            other => panic!("{other:?}"),
        }
    }
    shown
}

pub(crate) async fn compare(client: &Client, namespace: &str, seed: u64) {
    let mut stored = policy();
    stored.metadata.namespace = Some(namespace.to_owned());
    stored.metadata.creation_timestamp = Some(Time(sim::world::START));
    stored.metadata.generation = Some(1);
    let original = convert::policy(&stored).expect("a policy");
    let mut real = Real {
        policies: Api::namespaced(client.clone(), namespace),
        incidents: Api::namespaced(client.clone(), namespace),
        lives: Vec::new(),
        known: Vec::new(),
        told: Vec::new(),
    };
    let world = World::new(seed);
    let mut simulated = Simulated { world, original, lives: 0, known: Vec::new(), told: Vec::new() };
    let listed = real.policies.list_metadata(&kube::api::ListParams::default()).await.expect("a list");
    let begin = listed.metadata.resource_version.expect("a version");
    let mut dice = Dice::new(seed);
    let (mut calls, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let call = Call::any(&mut dice, real.known.len(), real.told.len());
        let (one, two) = (real.call(call).await, simulated.call(call));
        calls.push(format!("{call:?}: {one:?}"));
        let versions = |answer: &Answer<Returned>, all: &mut Vec<String>| {
            if let Ok(Some((_, version))) = answer {
                all.push(version.clone());
            }
            crate::same_as(all)
        };
        let same = (versions(&one, &mut theirs), versions(&two, &mut ours));
        let plain = |answer: Answer<Returned>| answer.map(|seen| seen.map(|(seen, _)| seen));
        assert_eq!(plain(one), plain(two), "seed {seed}: {call:?}; {calls:#?}");
        assert_eq!(same.0, same.1, "seed {seed}: {call:?}: versions that are the same; {calls:#?}");
    }
    let shown: Vec<Option<Seen>> = simulated
        .world
        .api
        .news
        .iter()
        .filter_map(|(_, shown)| match shown {
            Shown::Policy(object) => Some(Some(seen(object))),
            Shown::PolicyGone(_) => Some(None),
            Shown::Remediation(_) | Shown::RemediationGone(_) | Shown::Budgets(_) => None,
        })
        .collect();
    assert!(shown.len() > 10 && simulated.told.len() > 5, "seed {seed} changes nothing");
    assert_eq!(
        watched(&real, &begin, shown.len()).await,
        shown,
        "seed {seed}: what a watch shows; {calls:#?}"
    );
}
