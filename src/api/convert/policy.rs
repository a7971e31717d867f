//! `LatencyPolicy` to the engine's policy.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::actions::Line;
use engine::causes::{self, CAUSES};
use engine::model::{
    ByName, Databases, Dependency, Evaluation, GuardSettings, Mode, Name, Place, Policy, PolicyRef, Rung,
    Severity, TargetKind, TargetRef, Thresholds, Verification,
};
use kube::ResourceExt;

use super::{Problem, Reader, Reference, objectives};
use crate::api::actions::TYPES;
use crate::api::dependencies::TYPES as DEPENDENCY_TYPES;
use crate::api::policy::{
    self as api, APPROVAL_SCOPES, LatencyPolicy, NOTIFICATION_EVENTS, NOTIFICATION_TYPES, SEVERITIES,
    WINDOW_TYPES,
};
use crate::api::text::Word;
use crate::api::unions::listed;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// How long a verdict is waited for at least, where the policy does not say.
const SHORTEST_WITHIN: Duration = Duration::from_secs(300);

/// The engine's policy, or everything that is wrong with the object.
///
/// # Errors
/// All problems, each with its field's path.
pub fn policy(object: &LatencyPolicy) -> Result<Policy, Vec<Problem>> {
    let mut reader = Reader::default();
    let spec = &object.spec;
    let evaluation = evaluation(&mut reader, "spec.evaluation", &spec.evaluation);
    let source = spec.source.read(&mut reader, "spec.source");
    let observes = spec.remediations.is_empty() && spec.mode.0 == "Observe";
    let policy = Policy {
        id: PolicyRef {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
        },
        created_at: object.creation_timestamp().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0),
        generation: object.metadata.generation.unwrap_or_default(),
        mode: mode(&mut reader, "spec.mode", &spec.mode),
        target: target(&mut reader, &spec.target_ref),
        verification: verification(&mut reader, &spec.verification, &evaluation),
        evaluation,
        objectives: objectives::objectives(&mut reader, "spec.objectives", &spec.objectives, source.as_ref()),
        dependencies: dependencies(&mut reader, "spec.dependencies", &spec.dependencies),
        concurrency_per_pod: spec
            .target
            .concurrency_per_pod
            .map(|count| reader.count("spec.target.concurrencyPerPod", count, 1)),
        databases: databases(&mut reader, &spec.target),
        thresholds: thresholds(&mut reader, &spec.diagnosis),
        rungs: if observes { built_in() } else { rungs(&mut reader, &spec.remediations) },
        guards: guards(&mut reader, &spec.guards),
        history_limit: usize::try_from(spec.history_limit).unwrap_or(1).max(1),
        ignored: Vec::new(),
        unused: Vec::new(),
    };
    references(&mut reader, &spec.dependencies);
    workloads(&mut reader, spec, &policy);
    approval(&mut reader, &spec.approval);
    notifications(&mut reader, spec);
    cancellable(&mut reader, spec, &policy);
    let (ignored, unused) = (std::mem::take(&mut reader.ignored), std::mem::take(&mut reader.unused));
    if reader.problems.is_empty() { Ok(Policy { ignored, unused, ..policy }) } else { Err(reader.problems()) }
}

/// Where sessions may be touched their roles must be named: no default decides whose work is lost.
fn cancellable(reader: &mut Reader, spec: &api::LatencyPolicySpec, policy: &Policy) {
    let touches = |rung: &Rung| {
        rung.action.kind().line().traits.signals_sessions && policy.mode_of(rung) != Mode::Observe
    };
    if !policy.rungs.iter().any(touches) {
        return;
    }
    for (index, dependency) in spec.dependencies.iter().enumerate() {
        if dependency.postgresql.as_ref().is_some_and(|postgresql| postgresql.cancellable_roles.is_none()) {
            let path = format!("spec.dependencies[{index}].postgresql.cancellableRoles");
            reader.problem(path, "name the roles whose sessions may be touched, or write [] for none");
        }
    }
}

fn mode(reader: &mut Reader, path: &str, word: &Word) -> Mode {
    match word.0.as_str() {
        "Observe" => Mode::Observe,
        "Auto" => Mode::Auto,
        "Approve" => {
            reader.problem(path, "Approve is not available in this version; use Observe, or Auto");
            Mode::Observe
        }
        other => {
            reader.problem(path, format!("this version does not know {other}; it knows Observe and Auto"));
            Mode::Observe
        }
    }
}

fn target(reader: &mut Reader, target: &api::TargetRef) -> TargetRef {
    if target.api_version != "apps/v1" {
        reader.problem(
            "spec.targetRef.apiVersion",
            format!("{} cannot be guarded; use apps/v1", target.api_version),
        );
    }
    let kind = reader.word("spec.targetRef.kind", &target.kind, "Deployment and StatefulSet");
    TargetRef { kind: kind.unwrap_or(TargetKind::Deployment), name: target.name.0.clone() }
}

fn databases(reader: &mut Reader, target: &api::Target) -> Databases {
    let databases = reader.word("spec.target.databases", &target.databases, "Declared and None");
    databases.unwrap_or(Databases::Declared)
}

pub(super) fn evaluation(reader: &mut Reader, path: &str, evaluation: &api::Evaluation) -> Evaluation {
    let field = |name: &str| format!("{path}.{name}");
    let interval = reader.duration(&field("interval"), &evaluation.interval, SECOND);
    let no_data_after = reader.duration(&field("noDataAfter"), &evaluation.no_data_after, SECOND);
    let missing = no_data_after.as_millis().div_ceil(interval.as_millis().max(1)).max(1);
    Evaluation {
        interval,
        window: reader.duration(&field("window"), &evaluation.window, 5 * SECOND),
        breach_for: reader.duration(&field("breachFor"), &evaluation.breach_for, SECOND),
        recover_for: reader.duration(&field("recoverFor"), &evaluation.recover_for, SECOND),
        missing_data_after: u32::try_from(missing).unwrap_or(u32::MAX),
    }
}

/// A verdict needs a whole window after the effect, and two evaluations.
fn verification(
    reader: &mut Reader,
    verification: &api::Verification,
    evaluation: &Evaluation,
) -> Verification {
    let after = reader.duration("spec.verification.after", &verification.after, SECOND);
    let least = after.saturating_add(evaluation.window).saturating_add(evaluation.interval.saturating_mul(2));
    let within = match &verification.within {
        Some(within) => reader.duration("spec.verification.within", within, SECOND),
        None => least.max(SHORTEST_WITHIN),
    };
    Verification { after, within }
}

pub(super) fn dependencies(
    reader: &mut Reader,
    path: &str,
    dependencies: &[crate::api::dependencies::Dependency],
) -> ByName<Dependency> {
    let mut known = ByName::new();
    for (index, dependency) in dependencies.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(declared) = dependency.read(reader, &path) else { continue };
        if known.insert(dependency.name.0.clone(), declared).is_some() {
            reader
                .problem(format!("{path}.name"), format!("there are two dependencies {}", dependency.name.0));
        }
    }
    references(reader, dependencies);
    known
}

/// What dependencies and actions name must be declared, with the right type.
fn references(reader: &mut Reader, dependencies: &[crate::api::dependencies::Dependency]) {
    for Reference { path, name, r#type } in std::mem::take(&mut reader.references) {
        match dependencies.iter().find(|dependency| dependency.name.0 == name) {
            Some(named) if named.r#type.0 == r#type => {}
            Some(named) => {
                let is = &named.r#type.0;
                let message =
                    format!("{name} is of type {is}; name a dependency of type {type} in spec.dependencies");
                reader.problem(path, message);
            }
            None => {
                let message =
                    format!("no dependency is called {name}; name one of type {type} in spec.dependencies");
                reader.problem(path, message);
            }
        }
    }
}

/// A dependency that is a workload is another one than the target, and its sessions can be told from the target's.
fn workloads(reader: &mut Reader, spec: &api::LatencyPolicySpec, policy: &Policy) {
    let own: Vec<&String> = policy.databases().flat_map(|(_, database)| &database.client_roles).collect();
    for (index, dependency) in spec.dependencies.iter().enumerate() {
        let Some(declared) = policy.dependencies.get(&dependency.name.0) else { continue };
        let member = DEPENDENCY_TYPES.member(&dependency.r#type.0).unwrap_or_default();
        let path = format!("spec.dependencies[{index}].{member}");
        if let Place::Workload { target, .. } = declared.place()
            && *target == policy.target
        {
            reader.problem(
                format!("{path}.targetRef"),
                format!("{target} is the target itself (spec.targetRef); name another workload"),
            );
        }
        if let Some(role) = declared.roles().iter().find(|role| own.contains(role)) {
            let message = format!(
                "{role} is among the clientRoles of the target, too, so that nobody can tell whose its sessions are; give \
                 each a role of its own"
            );
            reader.problem(format!("{path}.clientRoles"), message);
        }
    }
}

/// Thresholds of causes that this version does not know, or that have no such threshold, are passed over.
fn thresholds(reader: &mut Reader, diagnosis: &api::Diagnosis) -> BTreeMap<Name, Thresholds> {
    let mut known = BTreeMap::new();
    for (index, threshold) in diagnosis.thresholds.iter().enumerate() {
        let path = format!("spec.diagnosis.thresholds[{index}]");
        let Some(cause) = causes::cause(&threshold.cause.0) else {
            reader.ignore(format!("{path}.cause"), unknown_cause(&threshold.cause));
            continue;
        };
        let older_than = threshold
            .older_than
            .as_ref()
            .map(|older_than| reader.duration(&format!("{path}.olderThan"), older_than, SECOND));
        let above = threshold.above.as_ref().map(|ratio| reader.ratio(&format!("{path}.above"), ratio));
        let below = threshold.below.as_ref().map(|ratio| reader.ratio(&format!("{path}.below"), ratio));
        let more_than =
            threshold.more_than.map(|count| u64::from(reader.count(&format!("{path}.moreThan"), count, 0)));
        let known_ones = cause.thresholds;
        for (field, is_set, is_known) in [
            ("olderThan", older_than.is_some(), known_ones.older_than.is_some()),
            ("above", above.is_some(), known_ones.above.is_some()),
            ("below", below.is_some(), known_ones.below.is_some()),
            ("moreThan", more_than.is_some(), known_ones.more_than.is_some()),
        ] {
            if is_set && !is_known {
                reader.ignore(format!("{path}.{field}"), format!("{} has no such threshold", cause.name));
            }
        }
        let thresholds = Thresholds {
            older_than: older_than.filter(|_| known_ones.older_than.is_some()),
            above: above.filter(|_| known_ones.above.is_some()),
            below: below.filter(|_| known_ones.below.is_some()),
            more_than: more_than.filter(|_| known_ones.more_than.is_some()),
        };
        known.insert(cause.name.into(), thresholds);
    }
    known
}

fn unknown_cause(word: &Word) -> String {
    let names: Vec<&str> = CAUSES.iter().map(|cause| cause.name).collect();
    format!("this version does not know the cause {}; it knows {}", word.0, names.join(", "))
}

/// What a policy in Observe without remediations evaluates, so that its history shows what could have been done: every action
/// that needs no setting of its own.
fn built_in() -> Vec<Rung> {
    let plain = |(word, member): (&str, Option<&str>)| {
        let settings = member.map(|member| (member.to_owned(), serde_json::json!({})));
        let action: serde_json::Map<_, _> =
            [("type".to_owned(), serde_json::json!(word))].into_iter().chain(settings).collect();
        let name = format!("{}-by-default", kebab(word));
        let entry = serde_json::json!({"name": name, "action": action});
        serde_json::from_value::<api::PolicyRemediation>(entry).ok()
    };
    let order: Vec<api::PolicyRemediation> = TYPES.entries().iter().copied().filter_map(plain).collect();
    rungs(&mut Reader::default(), &order)
}

/// `CancelQuery` as `cancel-query`.
fn kebab(word: &str) -> String {
    let letter = |(index, letter): (usize, char)| {
        let dash = (index > 0 && letter.is_ascii_uppercase()).then_some('-');
        dash.into_iter().chain([letter.to_ascii_lowercase()])
    };
    word.chars().enumerate().flat_map(letter).collect()
}

fn rungs(reader: &mut Reader, rungs: &[api::PolicyRemediation]) -> Vec<Rung> {
    let mut ladder: Vec<Rung> = Vec::new();
    for (index, rung) in rungs.iter().enumerate() {
        let path = format!("spec.remediations[{index}]");
        if ladder.iter().any(|known| known.name == rung.name.0) {
            reader.problem(format!("{path}.name"), format!("there are two remediations {}", rung.name.0));
        }
        let own_mode = rung.mode.as_ref().map(|word| mode(reader, &format!("{path}.mode"), word));
        let min_severity = rung.min_severity.as_ref().and_then(|word| {
            let place = format!("{path}.minSeverity");
            let severity: Severity = reader.one_of(&place, word, SEVERITIES)?;
            reader.unused(place);
            Some(severity)
        });
        let Some(action) = rung.action.read(reader, &format!("{path}.action")) else { continue };
        let name = rung.name.0.clone();
        let line = action.kind().line();
        let causes = causes_of(reader, &format!("{path}.causes"), &rung.causes, line);
        let min_severity = min_severity.unwrap_or(line.min_severity);
        ladder.push(Rung { name, causes, action, mode: own_mode, min_severity });
    }
    ladder
}

/// The causes that a remediation answers: those that it names, else all that its action can answer.
fn causes_of(reader: &mut Reader, path: &str, words: &[Word], line: &Line) -> Vec<Name> {
    if words.is_empty() {
        return line.answers.iter().map(|cause| (*cause).into()).collect();
    }
    let mut known = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(cause) = causes::cause(&word.0) else {
            reader.problem(path, unknown_cause(word));
            continue;
        };
        if !line.answers.contains(&cause.name) {
            let answers = line.answers.join(" and ");
            reader.problem(
                path,
                format!("{} does not help against {}; it answers {answers}", line.kind, cause.name),
            );
        }
        known.push(cause.name.into());
    }
    known
}

fn guards(reader: &mut Reader, guards: &api::Guards) -> GuardSettings {
    for (index, window) in guards.windows.iter().enumerate() {
        let path = format!("spec.guards.windows[{index}]");
        reader.duration(&format!("{path}.duration"), &window.duration, MINUTE);
        if !WINDOW_TYPES.contains(&&*window.r#type.0) {
            let message =
                format!("this version does not know {}; it knows {}", window.r#type.0, listed(WINDOW_TYPES));
            reader.problem(format!("{path}.type"), message);
        }
        reader.unused(path);
    }
    GuardSettings {
        max_actions_per_hour: reader.count("spec.guards.maxActionsPerHour", guards.max_actions_per_hour, 0),
        max_attempts_per_incident: reader.count(
            "spec.guards.maxAttemptsPerIncident",
            guards.max_attempts_per_incident,
            0,
        ),
        cooldown: reader.duration("spec.guards.cooldown", &guards.cooldown, SECOND),
        min_available: reader.ratio("spec.guards.minAvailable", &guards.min_available),
    }
}

fn approval(reader: &mut Reader, approval: &api::Approval) {
    reader.duration("spec.approval.timeout", &approval.timeout, MINUTE);
    if !APPROVAL_SCOPES.contains(&&*approval.scope.0) {
        let message =
            format!("this version does not know {}; it knows {}", approval.scope.0, listed(APPROVAL_SCOPES));
        reader.problem("spec.approval.scope", message);
    }
}

fn notifications(reader: &mut Reader, spec: &api::LatencyPolicySpec) {
    reader.duration("spec.escalation.after", &spec.escalation.after, MINUTE);
    for (index, notification) in spec.notifications.iter().enumerate() {
        let path = format!("spec.notifications[{index}]");
        let mut known = true;
        let mut check = |field: String, word: &Word, words: &[&str]| {
            if !words.contains(&&*word.0) {
                known = false;
                let message = format!("this version does not know {}; it knows {}", word.0, listed(words));
                reader.ignore(format!("{path}.{field}"), message);
            }
        };
        check("type".to_owned(), &notification.r#type, NOTIFICATION_TYPES);
        check("minSeverity".to_owned(), &notification.min_severity, SEVERITIES);
        for (place, event) in notification.events.iter().enumerate() {
            check(format!("events[{place}]"), event, NOTIFICATION_EVENTS);
        }
        if known {
            reader.unused(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(change: Value) -> Result<Policy, Vec<Problem>> {
        let mut spec = json!({"targetRef": {"name": "t"}});
        for (field, value) in change.as_object().unwrap() {
            spec[field] = value.clone();
        }
        policy(&serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap())
    }

    fn remediation(action: Value) -> Value {
        json!({"remediations": [{"name": "one", "action": action}, {"name": "grow", "action": {
            "type": "Scale", "scale": {"maxReplicas": 4},
        }}]})
    }

    #[test]
    fn an_unknown_action_notification_or_threshold_is_passed_over_alone() {
        let policy = read(remediation(json!({"type": "Reboot"}))).unwrap();
        assert_eq!(policy.rungs.iter().map(|rung| rung.name.as_str()).collect::<Vec<_>>(), ["grow"]);
        let known = format!("it knows {}", listed(&TYPES.words()));
        assert_eq!(
            policy.ignored,
            [format!("spec.remediations[0].action.type: this version does not know Reboot; {known}")]
        );
        let notifications = json!([{"name": "a", "type": "Fax", "secretRef": {"name": "s"}}]);
        let policy = read(json!({"notifications": notifications})).unwrap();
        assert!(policy.ignored[0].starts_with("spec.notifications[0].type: this version does not know Fax"));
        let thresholds =
            json!([{"cause": "Sunspots", "moreThan": 3}, {"cause": "RunawayQuery", "below": "5%"}]);
        let policy = read(json!({"diagnosis": {"thresholds": thresholds}})).unwrap();
        assert!(
            policy.ignored[0].starts_with("spec.diagnosis.thresholds[0].cause: this version does not know")
        );
        assert_eq!(
            policy.ignored[1],
            "spec.diagnosis.thresholds[1].below: RunawayQuery has no such threshold"
        );
        assert_eq!(policy.thresholds["RunawayQuery"], Thresholds::NONE);
    }

    #[test]
    fn what_is_stored_and_not_acted_on_is_named() {
        let window = json!({"name": "friday", "type": "Deny", "schedule": "0 9 * * FRI", "duration": "8h"});
        let notification = json!({"name": "oncall", "type": "Slack", "secretRef": {"name": "slack"}});
        let policy = read(json!({"guards": {"windows": [window]}, "notifications": [notification]})).unwrap();
        assert_eq!(policy.ignored, [""; 0]);
        assert_eq!(policy.unused, ["spec.guards.windows[0]", "spec.notifications[0]"]);
        assert_eq!(read(json!({})).unwrap().unused, [""; 0], "defaults are not worth a word");
    }

    #[test]
    fn an_unknown_objective_dependency_or_mode_is_a_problem() {
        for (change, path) in [
            (json!({"mode": "Panic"}), "spec.mode"),
            (json!({"mode": "Approve"}), "spec.mode"),
            (json!({"objectives": [{"name": "o", "type": "Happiness"}]}), "spec.objectives[0].type"),
            (
                json!({"dependencies": [{"name": "d", "type": "Oracle", "secretRef": {"name": "s"}}]}),
                "spec.dependencies[0].type",
            ),
            (json!({"source": {"type": "Entrails"}}), "spec.source.type"),
            (json!({"objectives": []}), "spec.objectives"),
        ] {
            let problems = read(change).unwrap_err();
            assert_eq!((problems[0].path.as_str(), problems.len()), (path, 1), "{problems:?}");
        }
    }

    #[test]
    fn a_policy_that_only_observes_evaluates_what_needs_no_setting() {
        let names =
            |spec| -> Vec<String> { read(spec).unwrap().rungs.into_iter().map(|rung| rung.name).collect() };
        assert_eq!(names(json!({})), ["cancel-query-by-default", "terminate-idle-by-default"]);
        assert_eq!(names(json!({"mode": "Auto"})), [""; 0]);
        let own =
            json!({"remediations": [{"name": "mine", "action": {"type": "CancelQuery", "cancelQuery": {}}}]});
        assert_eq!(names(own), ["mine"]);
    }

    #[test]
    fn without_causes_a_remediation_answers_all_that_its_action_can() {
        let policy = read(remediation(json!({"type": "CancelQuery", "cancelQuery": {}}))).unwrap();
        let rung = &policy.rungs[0];
        assert_eq!(rung.causes, ["BlockingQuery", "RunawayQuery"]);
        assert_eq!(rung.min_severity, Severity::P2);
    }

    #[test]
    fn where_sessions_may_be_touched_their_roles_are_named() {
        let spec = |mode: &str, roles: Option<Value>| {
            let mut postgresql = json!({});
            if let Some(roles) = roles {
                postgresql["cancellableRoles"] = roles;
            }
            let mut spec = remediation(json!({"type": "CancelQuery", "cancelQuery": {}}));
            spec["mode"] = mode.into();
            let dependency = json!({"name": "db", "type": "PostgreSQL", "secretRef": {"name": "s"}});
            spec["dependencies"] = json!([dependency]);
            spec["dependencies"][0]["postgresql"] = postgresql;
            read(spec)
        };
        assert!(spec("Observe", None).is_ok() && spec("Auto", Some(json!([]))).is_ok());
        let problems = spec("Auto", None).unwrap_err();
        assert_eq!(problems[0].path, "spec.dependencies[0].postgresql.cancellableRoles");
    }

    #[test]
    fn the_time_for_a_verdict_follows_from_the_window() {
        let within = |change: Value| read(change).unwrap().verification.within;
        assert_eq!(within(json!({})), SHORTEST_WITHIN);
        assert_eq!(within(json!({"evaluation": {"interval": "1s", "window": "10s"}})), SHORTEST_WITHIN);
        let long = json!({"evaluation": {"window": "1h"}});
        assert_eq!(within(long), Duration::from_secs(3600 + 60), "never too short for one window");
        assert_eq!(within(json!({"verification": {"within": "4m"}})), Duration::from_secs(240));
    }

    #[test]
    fn the_time_without_data_is_counted_in_intervals() {
        let missing = |interval: &str, after: &str| {
            let evaluation = json!({"interval": interval, "noDataAfter": after});
            read(json!({"evaluation": evaluation})).unwrap().evaluation.missing_data_after
        };
        assert_eq!(missing("15s", "45s"), 3);
        assert_eq!(missing("10s", "45s"), 5);
        assert_eq!(missing("1h", "1s"), 1);
    }
}
