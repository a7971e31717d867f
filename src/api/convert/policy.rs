//! `LatencyPolicy` to the engine's policy.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::causes::{self, CAUSES};
use engine::model::{
    ByName, Dependency, Evaluation, GuardSettings, Mode, Name, Policy, PolicyRef, PostgresDependency,
    RedisDependency, Rung, RungAction, ScaleSettings, TargetKind, TargetRef, Thresholds, Verification,
    Writers,
};
use engine::remediations::{REMEDIES, kind_of, remedy};
use kube::ResourceExt;

use super::{Problem, Reader, objectives, warming};
use crate::api::policy::{self as api, LatencyPolicy};
use crate::api::text::Word;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The engine's policy, or everything that is wrong with the object.
///
/// # Errors
/// All problems, each with its field's path.
pub fn policy(object: &LatencyPolicy) -> Result<Policy, Vec<Problem>> {
    let mut reader = Reader::default();
    let spec = &object.spec;
    let policy = Policy {
        id: PolicyRef {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
        },
        created_at: object.creation_timestamp().map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0),
        generation: object.metadata.generation.unwrap_or_default(),
        mode: mode(&mut reader, "spec.mode", &spec.mode),
        suspended: spec.suspend,
        target: target(&mut reader, &spec.target_ref),
        evaluation: evaluation(&mut reader, "spec.evaluation", &spec.evaluation),
        objectives: objectives::objectives(&mut reader, "spec.objectives", &spec.objectives),
        dependencies: dependencies(&mut reader, "spec.dependencies", &spec.dependencies),
        workers_per_pod: spec
            .diagnosis
            .workers_per_pod
            .map(|workers| reader.count("spec.diagnosis.workersPerPod", workers, 1)),
        thresholds: thresholds(&mut reader, &spec.diagnosis),
        rungs: rungs(&mut reader, &spec.remediations),
        guards: guards(&mut reader, &spec.guards),
        verification: Verification {
            after: reader.duration("spec.verification.after", &spec.verification.after, SECOND),
            within: reader.duration("spec.verification.within", &spec.verification.within, SECOND),
        },
        history_limit: usize::try_from(spec.history_limit).unwrap_or(1).max(1),
    };
    if reader.problems.is_empty() { Ok(policy) } else { Err(reader.problems()) }
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

pub(super) fn evaluation(reader: &mut Reader, path: &str, evaluation: &api::Evaluation) -> Evaluation {
    let field = |name: &str| format!("{path}.{name}");
    Evaluation {
        interval: reader.duration(&field("interval"), &evaluation.interval, SECOND),
        window: reader.duration(&field("window"), &evaluation.window, 5 * SECOND),
        breach_for: reader.duration(&field("breachFor"), &evaluation.breach_for, SECOND),
        recover_for: reader.duration(&field("recoverFor"), &evaluation.recover_for, SECOND),
        min_requests: reader.count(&field("minRequests"), evaluation.min_requests, 1).into(),
        missing_data_after: reader.count(&field("missingDataAfter"), evaluation.missing_data_after, 1),
    }
}

pub(super) fn dependencies(
    reader: &mut Reader,
    path: &str,
    dependencies: &[api::Dependency],
) -> ByName<Dependency> {
    let mut known = ByName::new();
    for (index, dependency) in dependencies.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some(declared) = declared(reader, &path, dependency) else { continue };
        if known.insert(dependency.name.0.clone(), declared).is_some() {
            reader
                .problem(format!("{path}.name"), format!("there are two dependencies {}", dependency.name.0));
        }
    }
    known
}

fn declared(reader: &mut Reader, path: &str, dependency: &api::Dependency) -> Option<Dependency> {
    let needed = |reader: &mut Reader, part: &str| {
        reader.problem(format!("{path}.{part}"), format!("type {} needs it", dependency.r#type.0));
    };
    if dependency.postgres.is_some() && dependency.redis.is_some() {
        reader.problem(path, "a dependency is one thing: postgres or redis");
    }
    match &*dependency.r#type.0 {
        "PostgreSQL" => {
            let Some(postgres) = &dependency.postgres else {
                needed(reader, "postgres");
                return None;
            };
            let names =
                |roles: &[crate::api::text::RoleName]| roles.iter().map(|role| role.0.clone()).collect();
            Some(Dependency::Postgres(PostgresDependency {
                secret: postgres.secret_ref.name.0.clone(),
                users: names(&postgres.users),
                roles: names(&postgres.roles),
            }))
        }
        "Redis" => {
            let Some(redis) = &dependency.redis else {
                needed(reader, "redis");
                return None;
            };
            let usage = reader.word(&format!("{path}.redis.use"), &redis.r#use, "Cache and Broker")?;
            Some(Dependency::Redis(RedisDependency { secret: redis.secret_ref.name.0.clone(), usage }))
        }
        unknown => {
            let message = format!("this version does not know {unknown}; it knows PostgreSQL and Redis");
            reader.problem(format!("{path}.type"), message);
            None
        }
    }
}

fn thresholds(reader: &mut Reader, diagnosis: &api::Diagnosis) -> BTreeMap<Name, Thresholds> {
    let mut known = BTreeMap::new();
    for (index, threshold) in diagnosis.thresholds.iter().enumerate() {
        let path = format!("spec.diagnosis.thresholds[{index}]");
        let Some(cause) = cause(reader, &format!("{path}.cause"), &threshold.cause) else { continue };
        let older_than = threshold
            .older_than
            .as_ref()
            .map(|older_than| reader.duration(&format!("{path}.olderThan"), older_than, SECOND));
        if older_than.is_some() && cause.thresholds.older_than.is_none() {
            reader.problem(format!("{path}.olderThan"), format!("{} has no threshold of age", cause.name));
        }
        let hit_ratio_below = threshold
            .hit_ratio_below
            .as_ref()
            .map(|ratio| reader.ratio(&format!("{path}.hitRatioBelow"), ratio));
        if hit_ratio_below.is_some() && cause.thresholds.below.is_none() {
            reader.problem(format!("{path}.hitRatioBelow"), format!("{} has no hit ratio", cause.name));
        }
        known
            .insert(cause.name.into(), Thresholds { older_than, below: hit_ratio_below, ..Thresholds::NONE });
    }
    known
}

fn cause(reader: &mut Reader, path: &str, word: &Word) -> Option<&'static causes::Cause> {
    let known = causes::cause(&word.0);
    if known.is_none() {
        let names: Vec<&str> = CAUSES.iter().map(|cause| cause.name).collect();
        reader.problem(
            path,
            format!("this version does not know the cause {}; it knows {}", word.0, names.join(", ")),
        );
    }
    known
}

fn rungs(reader: &mut Reader, rungs: &[api::Rung]) -> Vec<Rung> {
    let mut ladder: Vec<Rung> = Vec::new();
    for (index, rung) in rungs.iter().enumerate() {
        let path = format!("spec.remediations[{index}]");
        if ladder.iter().any(|known| known.name == rung.name.0) {
            reader.problem(format!("{path}.name"), format!("there are two rungs {}", rung.name.0));
        }
        let own_mode = rung.mode.as_ref().map(|word| mode(reader, &format!("{path}.mode"), word));
        let Some(action) = action(reader, &format!("{path}.action"), &rung.action) else { continue };
        let max_hold = reader.duration(&format!("{path}.maxHold"), &rung.max_hold, SECOND);
        let name = rung.name.0.clone();
        let mut known = Rung { name, causes: Vec::new(), action, mode: own_mode, max_hold };
        let remedy = remedy(kind_of(&known));
        for (index, word) in rung.causes.iter().enumerate() {
            let path = format!("{path}.causes[{index}]");
            let Some(cause) = cause(reader, &path, word) else { continue };
            if !remedy.answers.contains(&cause.name) {
                let answers = remedy.answers.join(" and ");
                reader.problem(
                    path,
                    format!("{} does not help against {}; it answers {answers}", remedy.kind, cause.name),
                );
            }
            known.causes.push(cause.name.into());
        }
        ladder.push(known);
    }
    ladder
}

fn action(reader: &mut Reader, path: &str, action: &api::Action) -> Option<RungAction> {
    match &*action.r#type.0 {
        "CancelQueries" => {
            let settings = action.cancel_queries.as_ref();
            let path = format!("{path}.cancelQueries");
            let terminate_after = settings
                .and_then(|settings| settings.terminate_after.as_ref())
                .map(|text| reader.duration(&format!("{path}.terminateAfter"), text, SECOND));
            if terminate_after.is_some_and(|span| span > HOUR) {
                reader.problem(format!("{path}.terminateAfter"), "it is too long; the most is 1h");
            }
            let writers = writers(reader, &path, settings.map(|settings| &settings.writers));
            writers.map(|writers| RungAction::CancelQueries { writers, terminate_after })
        }
        "TerminateIdle" => {
            let settings = action.terminate_idle.clone().unwrap_or_default();
            let path = format!("{path}.terminateIdle");
            let min_idle = reader.duration(&format!("{path}.minIdle"), &settings.min_idle, SECOND);
            let writers = writers(reader, &path, Some(&settings.writers));
            writers.map(|writers| RungAction::TerminateIdle { writers, min_idle })
        }
        "Scale" => scale(reader, &format!("{path}.scale"), action.scale.as_ref()),
        "WarmCache" => {
            let path = format!("{path}.warmCache");
            let Some(warm) = &action.warm_cache else {
                reader.problem(path, "type WarmCache needs it: the Service, and what to ask for (paths)");
                return None;
            };
            warming::settings(reader, &path, warm).map(RungAction::WarmCache)
        }
        unknown => {
            let known: Vec<String> = REMEDIES.iter().map(|remedy| remedy.kind.to_string()).collect();
            let message =
                format!("this version does not know the action {unknown}; it knows {}", known.join(", "));
            reader.problem(format!("{path}.type"), message);
            None
        }
    }
}

fn scale(reader: &mut Reader, path: &str, settings: Option<&api::Scale>) -> Option<RungAction> {
    let Some(settings) = settings else {
        reader.problem(path, "type Scale needs it: how many replicas there may be at most (max)");
        return None;
    };
    let step = reader.ratio(&format!("{path}.step"), &settings.step);
    if step <= 0.0 {
        reader.problem(format!("{path}.step"), "a step adds something; write for example \"50%\"");
    }
    Some(RungAction::Scale(ScaleSettings {
        step,
        max: reader.count(&format!("{path}.max"), settings.max, 1),
        connections_per_pod: settings
            .connections_per_pod
            .map(|count| reader.count(&format!("{path}.connectionsPerPod"), count, 0)),
        no_database: settings.no_database,
    }))
}

fn writers(reader: &mut Reader, path: &str, word: Option<&Word>) -> Option<Writers> {
    word.map_or(Some(Writers::Deny), |word| reader.word(&format!("{path}.writers"), word, "Deny and Allow"))
}

fn guards(reader: &mut Reader, guards: &api::Guards) -> GuardSettings {
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
