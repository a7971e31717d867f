//! From API objects to the engine's values and back. What cannot be understood is named with its field's path; nothing in
//! here panics, whatever is stored.

mod actions;
mod budget;
mod objectives;
mod policy;
mod remediation;
mod rollback;
pub(super) mod service;

use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeOwned, IntoDeserializer, value};

use engine::model::{duration, ratio};

use super::text::{self, shown};
use super::unions::{Misfit, Union, listed};

pub use actions::switched_off;
pub use budget::{NamespaceLabels, SelectingBudget, budget};
pub use policy::policy;
pub use remediation::{remediation, spec_of, status_of, target_ref_of};

/// Something in an object that this version cannot act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `spec.remediations[0].causes[1]`.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Problem {
    /// Paths and messages quote what is stored: both are cut to what can be told.
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: shown(&path.into(), 200), message: shown(&message.into(), 400) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// So many problems are named one by one; who has mended those learns the rest.
const MOST_PROBLEMS: usize = 20;

/// Collects problems while reading an object on: its author learns many of them at once.
#[derive(Debug, Default)]
pub(super) struct Reader {
    problems: Vec<Problem>,
    more: usize,
    ignored: Vec<String>,
    unused: Vec<String>,
    references: Vec<Reference>,
}

/// A dependency that another one, or an action, names.
#[derive(Debug)]
struct Reference {
    path: String,
    name: String,
    r#type: &'static str,
}

impl Reader {
    /// Something unknown that is passed over alone: the rest of the object stays in force.
    pub(super) fn ignore(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.ignored.len() < MOST_PROBLEMS {
            self.ignored.push(Problem::new(path, message).to_string());
        }
    }

    /// Something known that this version stores and does not act on.
    pub(super) fn unused(&mut self, path: impl Into<String>) {
        if self.unused.len() < MOST_PROBLEMS {
            self.unused.push(path.into());
        }
    }

    /// Something names a dependency, which must be declared with that type. It is looked for once everything is read.
    pub(super) fn refers(&mut self, path: impl Into<String>, name: &str, r#type: &'static str) {
        self.references.push(Reference { path: path.into(), name: name.to_owned(), r#type });
    }

    pub(super) fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(Problem::new(path, message));
        } else {
            self.more += 1;
        }
    }

    /// What cannot be understood.
    pub(super) fn problems(mut self) -> Vec<Problem> {
        if self.more > 0 {
            let message = format!("{} more fields of it cannot be understood", self.more);
            self.problems.push(Problem::new("spec", message));
        }
        self.problems
    }

    pub(super) fn duration(&mut self, path: &str, text: &text::Duration, least: Duration) -> Duration {
        match duration::parse(&text.0) {
            Ok(span) if span < least => {
                self.problem(
                    path,
                    format!("{} is too short; the least is {}", text.0, duration::format(least)),
                );
                least
            }
            Ok(span) => span,
            Err(error) => {
                self.problem(path, error.to_string());
                least
            }
        }
    }

    /// A number that is not below `least`. The schema says so too; what is stored may be older than it.
    pub(super) fn count(&mut self, path: &str, number: i32, least: u32) -> u32 {
        match u32::try_from(number) {
            Ok(count) if count >= least => count,
            _ => {
                self.problem(path, format!("{number} is too little; the least is {least}"));
                least
            }
        }
    }

    pub(super) fn ratio(&mut self, path: &str, text: &text::Ratio) -> f64 {
        ratio::parse(&text.0).unwrap_or_else(|error| {
            self.problem(path, error.to_string());
            0.0
        })
    }

    /// Whether a union is of a known type with exactly its member; `None` where a problem was found.
    pub(super) fn fits(
        &mut self,
        path: &str,
        union: &Union,
        word: &text::Word,
        set: &[(&'static str, bool)],
    ) -> Option<()> {
        match union.check(&word.0, set) {
            Ok(()) => return Some(()),
            Err(Misfit::UnknownType(message)) => self.problem(format!("{path}.type"), message),
            Err(Misfit::Member(member, message)) => self.problem(format!("{path}.{member}"), message),
        }
        None
    }

    /// One of these words.
    pub(super) fn one_of<T: DeserializeOwned>(
        &mut self,
        path: &str,
        word: &text::Word,
        known: &[&str],
    ) -> Option<T> {
        self.word(path, word, &listed(known))
    }

    /// A word of a fixed vocabulary.
    fn word<T: DeserializeOwned>(&mut self, path: &str, word: &text::Word, known: &str) -> Option<T> {
        let value = variant(&word.0);
        if value.is_none() {
            self.problem(path, format!("this version does not know {}; it knows {known}", word.0));
        }
        value
    }
}

/// The variant of an enumeration that is written as its bare name.
pub(crate) fn variant<T: DeserializeOwned>(name: &str) -> Option<T> {
    let deserializer: value::StrDeserializer<'_, value::Error> = name.into_deserializer();
    T::deserialize(deserializer).ok()
}

#[cfg(test)]
mod tests {
    use engine::model::{Phase, RemediationStatus};
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{LatencyPolicy, LatencyRemediation};

    fn policy_problems(spec: &Value) -> Vec<String> {
        let mut object = json!({"metadata": {"name": "p"}, "spec": {"targetRef": {"name": "t"}}});
        for (field, value) in spec.as_object().unwrap() {
            object["spec"][field] = value.clone();
        }
        let object: LatencyPolicy = serde_json::from_value(object).unwrap();
        policy(&object).err().into_iter().flatten().map(|problem| problem.to_string()).collect()
    }

    fn scale(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let objective = json!({"name": "p95", "type": "Latency", "latency": {"threshold": "500ms"}, "source": {
            "type": "Prometheus", "prometheus": {"preset": "Django"},
        }});
        let watch = json!({"evaluation": {}, "objectives": [objective]});
        let mut object = json!({
            "metadata": {"name": "r", "namespace": "shop"},
            "spec": {
                "policyRef": {"name": "p", "uid": "u"}, "targetRef": {"name": "t"}, "incident": "i", "remediation": "grow",
                "attempt": 1, "mode": "Auto", "cooldown": "5m",
                "cause": {"name": "WorkersSaturated", "confidence": "Certain", "message": ""},
                "deadline": "5s", "verification": {"after": "1s", "within": "30s", "window": "5s"},
                "action": {"type": "Scale", "scale": {"targetRef": {"name": "t"}, "uid": "w", "from": 4, "to": 6}},
                "rollback": {"maxHold": "1h", "step": 1, "watch": watch},
            },
            "status": status_of(&RemediationStatus { phase: Phase::Verifying, ..RemediationStatus::default() }),
        });
        let replicas = json!({"type": "Replicas", "replicas": {"baseline": 4, "wrote": 6}});
        object["status"]["rollback"] =
            json!({"state": "Pending", "change": replicas, "dueAt": "2026-01-01T00:00:00Z"});
        change(&mut object);
        let object: LatencyRemediation = serde_json::from_value(object).unwrap();
        remediation(&object).err().into_iter().flatten().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn problems_are_bounded_in_length_and_number() {
        let word = "\u{1b}[2J".repeat(10_000);
        let rungs: Vec<Value> = (0..100)
            .map(
                |number| json!({"name": format!("n{number}"), "causes": [word], "action": {"type": "Scale"}}),
            )
            .collect();
        let problems = policy_problems(&json!({"remediations": rungs, "mode": word}));
        assert_eq!(problems.len(), MOST_PROBLEMS + 1);
        assert_eq!(problems.last().unwrap(), "spec: 81 more fields of it cannot be understood");
        for problem in problems {
            assert!(problem.chars().count() < 700 && !problem.contains(char::is_control), "{problem:?}");
        }
    }

    #[test]
    fn a_number_below_the_least_is_a_problem_and_not_another_number() {
        let problems = policy_problems(&json!({
            "target": {"concurrencyPerPod": -5},
            "dependencies": [{
                "name": "db", "type": "PostgreSQL", "secretRef": {"name": "s"}, "postgresql": {"connectionsPerPod": -3},
            }],
            "remediations": [{"name": "grow", "action": {"type": "Scale", "scale": {"maxReplicas": -1, "step": 0}}}],
        }));
        let scale = "spec.remediations[0].action.scale";
        assert_eq!(
            problems,
            [
                "spec.dependencies[0].postgresql.connectionsPerPod: -3 is too little; the least is 0"
                    .to_owned(),
                "spec.target.concurrencyPerPod: -5 is too little; the least is 1".to_owned(),
                format!("{scale}.step: 0 is too little; the least is 1"),
                format!("{scale}.maxReplicas: -1 is too little; the least is 1"),
            ]
        );
    }

    #[test]
    fn no_stored_number_of_replicas_becomes_none() {
        assert_eq!(scale(|_| ()), [""; 0]);
        for (change, path) in [
            ((|r| r["spec"]["action"]["scale"]["to"] = json!(-1)) as fn(&mut Value), "spec.action.scale.to"),
            (
                |r| r["status"]["rollback"]["change"]["replicas"]["baseline"] = json!(-1),
                "status.rollback.change.replicas.baseline",
            ),
            (|r| r["status"]["rollback"]["change"]["type"] = "Vibes".into(), "status.rollback.change.type"),
            (|r| r["spec"]["rollback"]["step"] = json!(0), "spec.rollback.step"),
        ] {
            let problems = scale(change);
            assert!(problems.len() == 1 && problems[0].starts_with(path), "{problems:?}");
        }
    }

    #[test]
    fn what_is_owed_cannot_lose_how_it_is_taken_back() {
        let problems = scale(|r| drop(r["spec"].as_object_mut().unwrap().remove("rollback")));
        assert!(problems.len() == 1 && problems[0].starts_with("spec.rollback: "), "{problems:?}");
    }

    #[test]
    fn what_an_undo_watches_is_named_where_it_stands() {
        let problems = scale(|r| r["spec"]["rollback"]["watch"]["evaluation"]["interval"] = "5x".into());
        assert!(problems[0].starts_with("spec.rollback.watch.evaluation.interval: "), "{problems:?}");
    }
}
