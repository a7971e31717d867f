//! LatencyRemediations: creation, compare-and-swap of the status, the finalizer, deletion, and what a watch shows of them.

use controller::objects::{NewRemediation, Stored};
use controller::ports;
use engine::model::{
    EffectSeen, EntryKey, Executing, Phase, Remediation, RemediationSpec, RemediationStatus,
};
use kube::api::DeleteParams;
use kube::{Api, Client, ResourceExt};
use latency_operator::api::{FINALIZER, LatencyRemediation, convert};
use serde_json::json;
use sim::bench;
use sim::dice::Dice;
use sim::world::START;
use sim::world::api::{Answer, Shown};

use crate::names::Names;
use crate::written;

/// In the order in which they are listed.
const NAMES: [&str; 3] = ["orders-api-1-grow-1", "orders-api-1-grow-10", "orders-api-1-grow-2"];
const CALLS: u64 = 120;

/// A call. A `known` is the number of an object that an earlier call has returned: whoever holds it may be late.
#[derive(Debug, Clone, Copy)]
enum Call {
    Create {
        name: usize,
        held: bool,
    },
    Write {
        known: usize,
        phase: Phase,
    },
    Release {
        known: usize,
    },
    Delete {
        known: usize,
    },
    /// People delete it, whatever version it has.
    Kubectl {
        name: usize,
    },
    Read {
        name: usize,
    },
    IsDeleting {
        name: usize,
    },
    List,
}

/// What the operator is answered.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    One(Option<Box<Stored<Remediation>>>),
    Deleting(Option<bool>),
    All(Vec<Remediation>),
    Done,
}

impl Call {
    fn any(dice: &mut Dice, many: usize) -> Self {
        // The newest is what an operator mostly has.
        let known = if dice.percent(65) { many.saturating_sub(1) } else { dice.below(many) };
        let (name, held) = (dice.below(NAMES.len()), dice.percent(60));
        match dice.between(1, 100) {
            _ if many == 0 => Self::Create { name, held },
            1..=22 => Self::Create { name, held },
            23..=58 => {
                let phases = [Phase::Executing, Phase::Verifying, Phase::Completed];
                Self::Write { known, phase: phases[dice.below(3)] }
            }
            59..=70 => Self::Release { known },
            71..=77 => Self::Delete { known },
            78..=84 => Self::Kubectl { name },
            85..=90 => Self::Read { name },
            91..=93 => Self::IsDeleting { name },
            _ => Self::List,
        }
    }
}

fn status(phase: Phase) -> RemediationStatus {
    RemediationStatus {
        phase,
        executing: Some(Executing {
            holder: "operator-1".into(),
            epoch: 3,
            started_at: START,
            deadline: engine::model::DEADLINE,
        }),
        acted_at: Some(START),
        effect: (phase != Phase::Executing).then_some(EffectSeen::Confirmed),
        message: format!("it is {phase}"),
        ..RemediationStatus::default()
    }
}

fn spec(namespace: &str) -> RemediationSpec {
    let spec = json!({
        "policyRef": {"name": "orders-api", "uid": "p"}, "targetRef": {"name": "orders-api"},
        "incident": "orders-api-1", "remediation": "grow", "attempt": 1, "mode": "Auto",
        "cause": {"name": "WorkersSaturated", "confidence": "Certain", "message": "because"}, "cooldown": "5m", "deadline": "5s",
        "action": {"type": "Scale", "scale": {
            "targetRef": {"name": "orders-api"}, "uid": "u", "from": 2, "to": 3,
        }},
        "verification": {"after": "1s", "within": "30s", "window": "5s"},
        "rollback": {"maxHold": "1h", "step": 1, "watch": {"evaluation": {}, "objectives": [{
                "name": "p95", "type": "Latency", "latency": {"threshold": "500ms"},
                "source": {"type": "Prometheus", "prometheus": {"preset": "Django"}},
            }]}},
    });
    let mut object = LatencyRemediation::new(NAMES[0], serde_json::from_value(spec).expect("a spec"));
    object.metadata.namespace = Some(namespace.to_owned());
    convert::remediation(&object).expect("a remediation").spec
}

/// An operator before one of the API servers, and what it has been answered.
struct Operator<C> {
    cluster: C,
    namespace: String,
    names: Names,
    known: Vec<Stored<Remediation>>,
}

impl<C: ports::Cluster> Operator<C> {
    fn new(cluster: C, namespace: &str) -> Self {
        Self { cluster, namespace: namespace.to_owned(), names: Names::default(), known: Vec::new() }
    }

    fn key(&self, name: usize) -> EntryKey {
        (self.namespace.clone(), NAMES[name].to_owned())
    }

    async fn ask(&mut self, call: Call) -> Answer<Seen> {
        let cluster = &self.cluster;
        let stored = match call {
            Call::Create { name, held } => {
                let new = NewRemediation { key: self.key(name), spec: spec(&self.namespace), held };
                written(cluster.create_remediation(&new).await)?
            }
            Call::Write { known, phase } => {
                written(cluster.write_remediation(&self.known[known], &status(phase)).await)?
            }
            Call::Release { known } => written(cluster.release_remediation(&self.known[known]).await)?,
            Call::Read { name } => match cluster.remediation(&self.key(name)).await.expect("a read") {
                Some(found) => found,
                None => return Ok(Seen::One(None)),
            },
            Call::Delete { known } => {
                written(cluster.delete_remediation(&self.known[known]).await)?;
                return Ok(Seen::Done);
            }
            Call::IsDeleting { name } | Call::Kubectl { name } => {
                return Ok(Seen::Deleting(cluster.is_deleting(&self.key(name)).await.expect("a read")));
            }
            Call::List => {
                let mut all = cluster.remediations().await.expect("a list");
                all.iter_mut().for_each(|one| one.created_at = START);
                return Ok(Seen::All(all));
            }
        };
        self.known.push(stored.clone());
        Ok(Seen::One(Some(Box::new(self.names.remediation(stored)))))
    }
}

/// What the real API server's watch shows.
fn shown(object: &LatencyRemediation) -> Stored<Remediation> {
    let others = object.finalizers().iter().filter(|known| *known != FINALIZER);
    Stored {
        value: convert::remediation(object).expect("a remediation"),
        uid: object.uid().expect("a uid"),
        version: controller::objects::Version(object.resource_version().expect("a version").into()),
        other_finalizers: others.cloned().collect(),
    }
}

pub(crate) async fn compare(client: &Client, namespace: &str, seed: u64) {
    let people: Api<LatencyRemediation> = Api::namespaced(client.clone(), namespace);
    let (sim, port) = bench::port(seed);
    let mut real = Operator::new(crate::cluster(client, namespace), namespace);
    let mut simulated = Operator::new(port, namespace);
    let begin = crate::beginning(&people).await;
    let mut dice = Dice::new(seed);
    let mut told = Vec::new();
    for _ in 0..CALLS {
        let call = Call::any(&mut dice, real.known.len());
        if let Call::Kubectl { name } = call {
            let one = crate::understood(people.delete(NAMES[name], &DeleteParams::default()).await);
            let two = sim.world().delete_remediation(&simulated.key(name), None);
            assert_eq!(one.map(drop), two, "seed {seed}: {call:?}; {told:#?}");
        }
        let one = real.ask(call).await;
        let two = bench::answer(&sim, simulated.ask(call)).expect("an answer");
        told.push(format!("{call:?}: {one:?}"));
        assert_eq!(one, two, "seed {seed}: {call:?}; {told:#?}");
    }
    let ours: Vec<Option<Stored<Remediation>>> = sim
        .world()
        .api
        .news
        .iter()
        .filter_map(|(_, shown)| match shown {
            Shown::Remediation(stored) => Some(Some(simulated.names.remediation(Stored::from(&**stored)))),
            Shown::RemediationGone(_) => Some(None),
            Shown::Policy(_) | Shown::PolicyGone(_) | Shown::Budgets(_) => None,
        })
        .collect();
    assert!(ours.len() > 10, "seed {seed} changes nothing");
    let watched = crate::watched(&people, &begin, ours.len()).await;
    let theirs: Vec<Option<Stored<Remediation>>> =
        watched.iter().map(|object| Some(real.names.remediation(shown(object.as_ref()?)))).collect();
    assert_eq!(theirs, ours, "seed {seed}: what a watch shows; {told:#?}");
}
