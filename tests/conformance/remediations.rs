//! LatencyRemediations: creation, compare-and-swap of the status, the finalizer, deletion, and what a watch shows of it.

use std::time::Duration;

use engine::model::{Phase, Remediation, RemediationStatus};
use futures::TryStreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use latency_operator::api::{FINALIZER, LatencyRemediation, convert};
use serde_json::json;
use sim::dice::Dice;
use sim::world::World;
use sim::world::api::{ApiError, Shown, Stored};

use crate::{Answer, understood};

const NAME: &str = "orders-api-1-grow-1";
const CALLS: u64 = 60;

/// A call. The number is that of an object that an earlier call has returned: whoever holds it may be late.
#[derive(Debug, Clone, Copy)]
enum Call {
    Create { held: bool },
    Status { known: usize, phase: Phase },
    Release { known: usize },
    Delete { known: Option<usize> },
    Read,
}

impl Call {
    fn any(dice: &mut Dice, known: usize) -> Self {
        // The newest is what an operator mostly has.
        let place = if dice.percent(65) { known.saturating_sub(1) } else { dice.below(known) };
        match dice.between(1, 100) {
            _ if known == 0 => Self::Create { held: dice.percent(60) },
            1..=18 => Self::Create { held: dice.percent(60) },
            19..=58 => {
                let phases = [Phase::Executing, Phase::Verifying, Phase::Completed];
                Self::Status { known: place, phase: phases[dice.below(3)] }
            }
            59..=72 => Self::Release { known: place },
            73..=84 => Self::Delete { known: dice.percent(60).then_some(place) },
            _ => Self::Read,
        }
    }
}

/// What an object looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    phase: Phase,
    held: bool,
    deleting: bool,
}

/// One of the two API servers: what it returns, with its version.
trait Side {
    async fn call(&mut self, call: Call) -> Answer<Option<(Seen, String)>>;
}

fn status(phase: Phase) -> RemediationStatus {
    RemediationStatus { phase, message: format!("it is {phase}"), ..RemediationStatus::default() }
}

fn object(namespace: &str) -> LatencyRemediation {
    let spec = json!({
        "policyRef": {"name": "orders-api", "uid": "p"}, "targetRef": {"name": "orders-api"},
        "incident": "orders-api-1", "rung": "grow", "attempt": 1, "dryRun": false, "cause": "WorkersSaturated",
        "confidence": "Certain", "reason": "because", "cooldown": "5m", "deadline": "5s",
        "action": {"type": "Scale", "scale": {
            "targetRef": {"name": "orders-api"}, "uid": "u", "from": 2, "to": 3,
        }},
        "verify": {"after": "1s", "within": "30s", "window": "5s"},
        "undo": {"maxHold": "1h", "step": 1, "watch": {"evaluation": {}, "objectives": []}},
    });
    let mut object = LatencyRemediation::new(NAME, serde_json::from_value(spec).expect("a spec"));
    object.metadata.namespace = Some(namespace.to_owned());
    object
}

struct Real {
    api: Api<LatencyRemediation>,
    namespace: String,
    known: Vec<LatencyRemediation>,
}

fn phase(object: &LatencyRemediation) -> Phase {
    convert::remediation(object).expect("a remediation").status.phase
}

impl Real {
    fn keep(&mut self, object: LatencyRemediation) -> Option<(Seen, String)> {
        let seen = Seen {
            phase: phase(&object),
            held: object.finalizers().iter().any(|known| known == FINALIZER),
            deleting: object.metadata.deletion_timestamp.is_some(),
        };
        let version = object.resource_version()?;
        self.known.push(object);
        Some((seen, version))
    }
}

impl Side for Real {
    async fn call(&mut self, call: Call) -> Answer<Option<(Seen, String)>> {
        let api = self.api.clone();
        let written = match call {
            Call::Create { held } => {
                let mut object = object(&self.namespace);
                object.metadata.finalizers = held.then(|| vec![FINALIZER.to_owned()]);
                understood(api.create(&PostParams::default(), &object).await)?
            }
            Call::Status { known, phase } => {
                let mut object = self.known[known].clone();
                object.status = Some(convert::status_of(&status(phase)));
                understood(api.replace_status(NAME, &PostParams::default(), &object).await)?
            }
            Call::Release { known } => {
                let version = self.known[known].resource_version();
                let patch = json!({"metadata": {"resourceVersion": version, "finalizers": []}});
                understood(api.patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await)?
            }
            Call::Delete { known } => {
                let preconditions = known.map(|known| Preconditions {
                    resource_version: self.known[known].resource_version(),
                    uid: self.known[known].uid(),
                });
                let params = DeleteParams { preconditions, ..DeleteParams::default() };
                understood(api.delete(NAME, &params).await)?;
                return Ok(None);
            }
            Call::Read => understood(api.get(NAME).await)?,
        };
        Ok(self.keep(written))
    }
}

struct Simulated {
    world: World,
    original: Remediation,
    known: Vec<Stored>,
}

fn seen(stored: &Stored) -> Seen {
    let object = &stored.object;
    Seen { phase: object.status.phase, held: object.held, deleting: object.deleting }
}

impl Side for Simulated {
    async fn call(&mut self, call: Call) -> Answer<Option<(Seen, String)>> {
        let key = (self.original.namespace.clone(), NAME.to_owned());
        let written = match call {
            Call::Create { held } => {
                self.world.create_remediation(Remediation { held, ..self.original.clone() })?
            }
            Call::Status { known, phase } => {
                self.world.write_remediation(&self.known[known], &status(phase))?
            }
            Call::Release { known } => self.world.release_remediation(&self.known[known])?,
            Call::Delete { known } => {
                self.world.delete_remediation(&key, known.map(|known| self.known[known].version))?;
                return Ok(None);
            }
            Call::Read => self.world.api.remediations.get(&key).cloned().ok_or(ApiError::NotFound)?,
        };
        let answer = (seen(&written), written.version.to_string());
        self.known.push(written);
        Ok(Some(answer))
    }
}

/// What a watch has shown: objects, and that one has gone.
async fn watched(api: &Api<LatencyRemediation>, since: &str, many: usize) -> Vec<Option<Seen>> {
    let stream = api.watch(&WatchParams::default(), since).await.expect("a watch");
    let mut stream = std::pin::pin!(stream);
    let mut shown = Vec::new();
    while shown.len() < many {
        let next = lab::within(Duration::from_secs(10), stream.try_next()).await;
        match next.unwrap_or_else(|| panic!("{} of {many} changes were shown", shown.len())) {
            Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => shown.push(Some(Seen {
                phase: phase(&object),
                held: !object.finalizers().is_empty(),
                deleting: object.metadata.deletion_timestamp.is_some(),
            })),
            Ok(Some(WatchEvent::Deleted(_))) => shown.push(None),
            Ok(Some(WatchEvent::Bookmark(_))) => {}
            other => panic!("{other:?}"),
        }
    }
    shown
}

pub(crate) async fn compare(client: &Client, namespace: &str, seed: u64) {
    let mut stored = object(namespace);
    stored.metadata.creation_timestamp = Some(Time(sim::world::START));
    let original = convert::remediation(&stored).expect("a remediation");
    let api: Api<LatencyRemediation> = Api::namespaced(client.clone(), namespace);
    let mut real = Real { api: api.clone(), namespace: namespace.to_owned(), known: Vec::new() };
    let mut simulated = Simulated { world: World::new(seed), original, known: Vec::new() };
    let begin = client_version(&api).await;
    let mut dice = Dice::new(seed);
    let (mut told, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let call = Call::any(&mut dice, real.known.len());
        let (one, two) = (real.call(call).await, simulated.call(call).await);
        told.push(format!("{call:?}: {one:?}"));
        let versions = |answer: &Answer<Option<(Seen, String)>>, all: &mut Vec<String>| {
            if let Ok(Some((_, version))) = answer {
                all.push(version.clone());
            }
            crate::same_as(all)
        };
        let same = (versions(&one, &mut theirs), versions(&two, &mut ours));
        let plain = |answer: Answer<Option<(Seen, String)>>| answer.map(|seen| seen.map(|(seen, _)| seen));
        assert_eq!(plain(one), plain(two.clone()), "seed {seed}: {call:?}: simulated {two:?}; {told:#?}");
        assert_eq!(same.0, same.1, "seed {seed}: {call:?}: versions that are the same; {told:#?}");
    }
    let shown: Vec<Option<Seen>> = simulated
        .world
        .api
        .news
        .iter()
        .filter_map(|(_, shown)| match shown {
            Shown::Remediation(stored) => Some(Some(seen(stored))),
            Shown::RemediationGone(_) => Some(None),
            Shown::Policy(_) | Shown::PolicyGone(_) | Shown::Budgets(_) => None,
        })
        .collect();
    assert!(shown.len() > 10, "seed {seed} changes nothing");
    assert_eq!(watched(&api, &begin, shown.len()).await, shown, "seed {seed}: what a watch shows; {told:#?}");
}

/// From where a watch shows everything that comes.
async fn client_version(api: &Api<LatencyRemediation>) -> String {
    let listed = api.list_metadata(&kube::api::ListParams::default()).await.expect("a list");
    listed.metadata.resource_version.expect("a version")
}
