//! LatencyRemediations: creation, compare-and-swap of the status, the finalizer, deletion, and what a watch shows of it.

use std::time::Duration;

use controller::objects::{NewRemediation, Stored, Version};
use controller::ports::Cluster;
use engine::model::{EntryKey, Phase, Remediation, RemediationSpec, RemediationStatus};
use futures::TryStreamExt;
use kube::api::{DeleteParams, ListParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use latency_operator::api::{LatencyRemediation, convert};
use serde_json::json;
use sim::dice::Dice;
use sim::world::World;
use sim::world::api::{ApiError, Shown};

use crate::{Answer, Failed, Simulated, Versions, kubernetes, understood};

const NAME: &str = "orders-api-1-grow-1";
const CALLS: u64 = 60;

/// A call. The number is that of an object that an earlier call has returned: it may be outdated.
#[derive(Debug, Clone, Copy)]
enum Call {
    Create {
        held: bool,
    },
    Status {
        known: usize,
        phase: Phase,
    },
    Release {
        known: usize,
    },
    Delete {
        known: usize,
    },
    /// By people.
    Erase,
    Read,
    IsDeleting,
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
            73..=79 => Self::Delete { known: place },
            80..=84 => Self::Erase,
            85..=88 => Self::IsDeleting,
            _ => Self::Read,
        }
    }
}

/// What an object says, with nothing that differs from server to server.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Object(Box<Remediation>),
    Deleting(Option<bool>),
    Nothing,
}

fn plain(value: &Remediation) -> Seen {
    Seen::Object(Box::new(Remediation { created_at: sim::world::START, ..value.clone() }))
}

/// The operator's calls, on either server. `known`: the objects that earlier calls have returned.
async fn ask<C: Cluster>(
    cluster: &C,
    call: Call,
    (key, spec): (EntryKey, RemediationSpec),
    known: Vec<Stored<Remediation>>,
) -> Answer<Result<Stored<Remediation>, Seen>> {
    Ok(match call {
        Call::Create { held } => Ok(cluster.create_remediation(&NewRemediation { key, spec, held }).await?),
        Call::Status { known: place, phase } => {
            Ok(cluster.write_remediation(&known[place], &status(phase)).await?)
        }
        Call::Release { known: place } => Ok(cluster.release_remediation(&known[place]).await?),
        Call::Delete { known: place } => {
            cluster.delete_remediation(&known[place]).await?;
            Err(Seen::Nothing)
        }
        Call::Read => cluster.remediation(&key).await?.ok_or(Seen::Nothing),
        Call::IsDeleting => Err(Seen::Deleting(cluster.is_deleting(&key).await?)),
        Call::Erase => unreachable!("people do that"),
    })
}

fn status(phase: Phase) -> RemediationStatus {
    RemediationStatus { phase, message: format!("it is {phase}"), ..RemediationStatus::default() }
}

fn spec(namespace: &str) -> RemediationSpec {
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
    object.metadata.creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(sim::world::START));
    convert::remediation(&object).expect("a remediation").spec
}

/// One of the servers: what it has returned.
#[derive(Default)]
struct Side {
    known: Vec<Stored<Remediation>>,
    versions: Versions,
}

impl Side {
    /// What was answered, and which earlier answer had the same version.
    fn keep(&mut self, answer: Answer<Result<Stored<Remediation>, Seen>>) -> (Answer<Seen>, Option<usize>) {
        let version = |stored: &Stored<Remediation>| -> Version { stored.version.clone() };
        let returned = answer.as_ref().ok().and_then(|found| found.as_ref().ok());
        let same = self.versions.same_as(returned.map(version));
        self.known.extend(returned.cloned());
        let seen = answer.map(|found| found.map_or_else(|seen| seen, |stored| plain(&stored.value)));
        (seen, same)
    }
}

/// What a watch has shown: objects, and that one is gone.
async fn watched(api: &Api<LatencyRemediation>, since: &str, many: usize) -> Vec<Option<Seen>> {
    let stream = api.watch(&WatchParams::default(), since).await.expect("a watch");
    let mut stream = std::pin::pin!(stream);
    let mut shown = Vec::new();
    while shown.len() < many {
        let next = tokio::time::timeout(Duration::from_secs(10), stream.try_next()).await;
        match next.unwrap_or_else(|_| panic!("{} of {many} changes were shown", shown.len())) {
            Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                shown.push(Some(plain(&convert::remediation(&object).expect("a remediation"))));
            }
            Ok(Some(WatchEvent::Deleted(_))) => shown.push(None),
            Ok(Some(WatchEvent::Bookmark(_))) => {}
            other => panic!("{other:?}"),
        }
    }
    shown
}

pub(crate) async fn compare(client: &Client, namespace: &str, seed: u64) {
    let key = (namespace.to_owned(), NAME.to_owned());
    let spec = spec(namespace);
    let api: Api<LatencyRemediation> = Api::namespaced(client.clone(), namespace);
    let (real, simulated) = (kubernetes(client), Simulated::new(World::new(seed)));
    let (mut theirs, mut ours) = (Side::default(), Side::default());
    let listed = api.list_metadata(&ListParams::default()).await.expect("a list");
    let begin = listed.metadata.resource_version.expect("a version");
    let mut dice = Dice::new(seed);
    let mut told = Vec::new();
    for _ in 0..CALLS {
        let call = Call::any(&mut dice, theirs.known.len());
        let object = (key.clone(), spec.clone());
        let (one, two) = if let Call::Erase = call {
            let erased = understood(api.delete(NAME, &DeleteParams::default()).await).map(drop);
            let two = simulated.sim.world().delete_remediation(&key, None);
            let two = two.map_err(|error| match error {
                ApiError::NotFound => Failed::Gone,
                ApiError::Conflict | ApiError::Refused | ApiError::Lost => Failed::Refused,
            });
            (erased.map(|()| Err(Seen::Nothing)), two.map(|()| Err(Seen::Nothing)))
        } else {
            let known = ours.known.clone();
            let two = simulated.ask(|port| {
                let object = object.clone();
                async move { ask(&port, call, object, known).await }
            });
            (ask(&real, call, object, theirs.known.clone()).await, two)
        };
        told.push(format!("{call:?}: {one:?}"));
        assert_eq!(theirs.keep(one), ours.keep(two), "seed {seed}: {call:?}; {told:#?}");
    }
    let news = std::mem::take(&mut simulated.sim.world().api.news);
    let shown: Vec<Option<Seen>> = news
        .iter()
        .filter_map(|(_, shown)| match shown {
            Shown::Remediation(stored) => Some(Some(plain(&stored.object))),
            Shown::RemediationGone(_) => Some(None),
            Shown::Policy(_) | Shown::PolicyGone(_) | Shown::Budgets(_) => None,
        })
        .collect();
    assert!(shown.len() > 10, "seed {seed} changes nothing");
    assert_eq!(watched(&api, &begin, shown.len()).await, shown, "seed {seed}: what a watch shows; {told:#?}");
}
