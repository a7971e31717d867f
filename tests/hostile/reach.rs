//! What each field of a policy may change about what is done. A field that is not in here fails the test: whoever adds one
//! has to say.

/// How far a field reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// Nothing that is done depends on it.
    Nothing,
    /// Whether and when something is done; not what.
    Whether,
    /// What is done, and to whom.
    What,
}

use Reach::{Nothing, What, Whether};

const FIELDS: &[(&str, Reach)] = &[
    ("apiVersion", Nothing),
    ("kind", Nothing),
    ("metadata.annotations", Whether),
    // Whose act it is, and so whose ceilings count.
    ("metadata.name", Whether),
    ("metadata.namespace", Whether),
    ("metadata.uid", Whether),
    ("metadata.labels", Nothing),
    ("metadata.generation", Nothing),
    ("metadata.creationTimestamp", Nothing),
    ("metadata.resourceVersion", Nothing),
    ("metadata.managedFields", Nothing),
    ("status", Nothing),
    ("spec.mode", Whether),
    ("spec.historyLimit", Nothing),
    ("spec.targetRef", What),
    ("spec.evaluation", Whether),
    ("spec.target", Whether),
    ("spec.source", Whether),
    ("spec.objectives", Whether),
    ("spec.dependencies[].name", Whether),
    ("spec.dependencies[].type", Whether),
    ("spec.dependencies[].secretRef", Whether),
    ("spec.dependencies[].postgresql.clientRoles", What),
    ("spec.dependencies[].postgresql.clientApplications", Nothing),
    ("spec.dependencies[].postgresql.cancellableRoles", What),
    ("spec.dependencies[].postgresql.cores", Nothing),
    ("spec.dependencies[].postgresql.connectionsPerPod", Whether),
    ("spec.dependencies[].postgresql.maintenanceSecretRef", Nothing),
    // Whose pool starves, and what explains that.
    ("spec.dependencies[].pgbouncer", Whether),
    ("spec.dependencies[].redis.role", Whether),
    ("spec.dependencies[].workers.targetRef", What),
    // Whose sessions count.
    ("spec.dependencies[].workers.clientRoles", Whether),
    ("spec.dependencies[].workers.acksLate", Whether),
    ("spec.dependencies[].workers.maxTaskDuration", Whether),
    // From which age on somebody is a culprit.
    ("spec.diagnosis.thresholds", What),
    ("spec.remediations[].name", Whether),
    ("spec.remediations[].mode", Whether),
    ("spec.remediations[].minSeverity", Nothing),
    ("spec.remediations[].causes", What),
    ("spec.remediations[].action", What),
    ("spec.guards.maxActionsPerHour", Whether),
    ("spec.guards.maxAttemptsPerIncident", Whether),
    ("spec.guards.minAvailable", Whether),
    // After a shorter rest a second step up follows within the test.
    ("spec.guards.cooldown", What),
    ("spec.guards.windows", Nothing),
    ("spec.approval", Nothing),
    ("spec.notifications", Nothing),
    ("spec.escalation", Nothing),
    ("spec.verification", What),
];

/// How far what lies at that place reaches, its parts included. What nobody knows reaches nothing.
pub(crate) fn of(place: &str) -> Reach {
    let place = without_indices(place);
    let below = |path: &str, above: &str| {
        path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let fields = FIELDS.iter().filter(|(field, _)| below(field, &place) || below(&place, field));
    fields.map(|(_, reach)| *reach).max().unwrap_or(Nothing)
}

/// The fields of a document that nobody has said anything about.
pub(crate) fn unknown(places: &[String]) -> Vec<&String> {
    let known = |place: &&String| {
        let place = without_indices(place);
        FIELDS.iter().any(|(field, _)| field.starts_with(place.as_str()) || place.starts_with(field))
    };
    places.iter().filter(|place| !known(place)).collect()
}

fn without_indices(place: &str) -> String {
    let mut shown = String::new();
    let mut inside = false;
    for letter in place.chars() {
        inside = (inside && letter != ']') || letter == '[';
        if !inside || letter == '[' {
            shown.push(letter);
        }
    }
    shown
}
