//! Background workers beside the target: a workload of eight replicas, and what they do in the database.

use std::time::Duration;

use engine::actions::ShedWorkersSettings;
use engine::dependencies::workers::WorkersDependency;
use engine::model::{
    Dependency, Mode, Policy, PostgresFacts, Rung, RungAction, Severity, TargetKind, TargetRef, duration,
};
use jiff::Timestamp;

use super::cluster::Cluster;

const ROLE: &str = "celery";
/// How long their Pods are given to end.
const GRACE: Duration = Duration::from_secs(30);

/// What they are called.
pub(crate) fn target() -> TargetRef {
    TargetRef { kind: TargetKind::Deployment, name: "orders-celery".into() }
}

/// `celery [early] [task 20s]`
pub(crate) fn declare(policy: &mut Policy, rest: &[&str]) -> Result<(), String> {
    let place = rest.iter().position(|word| *word == "task").and_then(|place| rest.get(place + 1));
    let max_task = place.map_or(Ok(Duration::from_secs(20)), |text| span(text))?;
    let declared = WorkersDependency {
        target: target(),
        client_roles: vec![ROLE.into()],
        acks_late: !rest.contains(&"early"),
        max_task: Some(max_task),
    };
    policy.dependencies.insert(ROLE.into(), Dependency::Workers(declared));
    Ok(())
}

/// `rung shed sheds BackgroundLoad [to 1] [hold 10m] [observing]`
pub(crate) fn sheds(name: &str, rest: &[&str]) -> Result<Rung, String> {
    let after = |word: &str| {
        let place = rest.iter().position(|known| *known == word);
        place.and_then(|place| rest.get(place + 1)).copied()
    };
    let causes = rest.iter().filter(|word| word.starts_with(char::is_uppercase));
    Ok(Rung {
        name: name.to_owned(),
        causes: causes.map(|word| (*word).to_owned().into()).collect(),
        action: RungAction::ShedWorkers(ShedWorkersSettings {
            dependency: ROLE.into(),
            min: after("to").map_or(Ok(1), str::parse).map_err(|_| "a number")?,
            max_hold: after("hold").map_or(Ok(Duration::from_secs(3600)), span)?,
        }),
        mode: rest.contains(&"observing").then_some(Mode::Observe),
        min_severity: Severity::P2,
    })
}

fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

pub(crate) struct Workers {
    pub(crate) cluster: Cluster,
    pub(crate) opt_out: Option<String>,
    /// How many of them are busy at once, at most all replicas.
    busy: u32,
}

impl Workers {
    pub(crate) fn new() -> Self {
        Self { cluster: Cluster::of("w", 8, Some(GRACE)), opt_out: None, busy: 0 }
    }

    /// What they do in the database.
    pub(crate) fn work(&self, facts: &mut PostgresFacts) {
        let active = self.busy.min(self.cluster.standing().0);
        if active > 0 {
            facts.active += active;
            *facts.active_by_role.entry(ROLE.to_owned()).or_default() += active;
        }
    }

    /// Takes in what happens; whether it was understood.
    pub(crate) fn event(&mut self, words: &[&str], now: Timestamp) -> Result<bool, String> {
        match words {
            ["celery", "works", count] => self.busy = count.parse().map_err(|_| "a number")?,
            ["celery", "rests"] => self.busy = 0,
            ["celery", "opts", "out"] => self.opt_out = Some("true".to_owned()),
            ["celery", rest @ ..] => return self.cluster.event(rest, now),
            _ => return Ok(false),
        }
        Ok(true)
    }
}
