//! What happened in a test's world, as the API server's audit log and the database's log tell it, for the checker of the
//! engine's invariants. The operator has no say in either.

use std::collections::BTreeMap;

use engine::effects::Effect;
use engine::invariants::{Checker, Fact, Replicas, Request, Signal, SignalKind, Tolerance, Victim, What};
use engine::model::{Draining, Phase, PolicyRef, TargetKind, TargetRef, WorkloadKey};
use jiff::Timestamp;
use lab::control_plane::AuditEvent;
use latency_operator::api::convert::{NamespaceLabels, SelectingBudget};
use latency_operator::api::{DRAINING_UNTIL, LatencyPolicy, LatencyRemediation, RemediationBudget, convert};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{OPERATOR, World};

/// What a Probe asks for, and no warming.
pub(crate) const PROBED: &str = "/api/health";

/// The invariants that were violated, with what happened.
pub(super) fn violations(world: &World) -> Vec<String> {
    let mut facts = from_audit(world);
    facts.extend(from_log(world));
    facts.extend(from_target(world, &facts));
    // What happened at one place is in order already.
    facts.sort_by_key(|fact| fact.at);
    let mut checker = Checker::new(Tolerance::default());
    facts.iter().for_each(|fact| checker.see(fact));
    checker.violations().iter().map(ToString::to_string).collect()
}

fn from_audit(world: &World) -> Vec<Fact> {
    let quoted = format!("\"{}\"", world.namespace);
    let about = [quoted.as_str(), "\"remediationbudgets\""];
    let events = world.lab.control_plane.audit_about(&about).expect("the audit log");
    let mut budgets = BTreeMap::new();
    // The API server gives each namespace this label.
    let name = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), world.namespace.clone())]);
    let mut labels = BTreeMap::from([(world.namespace.clone(), name)]);
    let mut facts = Vec::new();
    for event in events.iter().filter(|event| event.is_write() && event.stage == "ResponseComplete") {
        let Some(object) = &event.object_ref else { continue };
        // The end of a request is noted after its answer may have been heard, its beginning before anything of it.
        let at = event.request_received_timestamp.0;
        if object.resource == "remediationbudgets" && object.subresource.is_empty() {
            match stored::<RemediationBudget>(event) {
                Some(_) if event.verb == "delete" => drop(budgets.remove(&object.name)),
                Some(budget) => drop(budgets.insert(object.name.clone(), convert::budget(&budget))),
                None => continue,
            }
            facts.push(Fact { at, what: resolved(&budgets, &labels) });
        } else if object.resource == "namespaces"
            && let Some(stored) = labels_of(event, &labels)
        {
            labels.insert(object.name.clone(), stored);
            facts.push(Fact { at, what: resolved(&budgets, &labels) });
        } else if object.resource == "namespaces" && event.verb == "delete" {
            // The control plane deletes what is in it, and is not audited.
            facts.extend(
                known_policies(&facts).map(|id| Fact { at, what: What::PolicyGone(id) }).collect::<Vec<_>>(),
            );
        } else if object.namespace == world.namespace || object.resource == "leases" {
            facts.extend(from_event(world, event).into_iter().map(|what| Fact { at, what }));
        }
    }
    facts
}

/// The budgets, where namespaces have these labels.
fn resolved(budgets: &BTreeMap<String, SelectingBudget>, labels: &NamespaceLabels) -> What {
    What::Budgets(budgets.values().map(|budget| budget.among(labels)).collect())
}

/// The labels of a namespace, after a change of them.
fn labels_of(event: &AuditEvent, known: &NamespaceLabels) -> Option<BTreeMap<String, String>> {
    let name = &event.object_ref.as_ref()?.name;
    let stored = stored::<Value>(event).filter(|_| event.verb != "delete")?;
    let labels = serde_json::from_value(stored["metadata"]["labels"].clone()).ok()?;
    (known.get(name) != Some(&labels)).then_some(labels)
}

fn known_policies(facts: &[Fact]) -> impl Iterator<Item = PolicyRef> {
    facts
        .iter()
        .filter_map(|fact| if let What::Policy(policy) = &fact.what { Some(policy.id.clone()) } else { None })
}

/// What is stored since a change that the API server took; it may have been carried out where nobody heard the answer.
fn stored<T: DeserializeOwned>(event: &AuditEvent) -> Option<T> {
    let taken = (200..300).contains(&event.code());
    serde_json::from_value(event.response_object.clone().filter(|_| taken)?).ok()
}

fn from_event(world: &World, event: &AuditEvent) -> Vec<What> {
    let Some(object) = &event.object_ref else { return Vec::new() };
    match object.resource.as_str() {
        "latencypolicies" => from_policy(event),
        "latencyremediations" => from_remediation(event),
        "deployments" | "statefulsets" => from_workload(event),
        "leases" if object.name == world.namespace => {
            let Some(lease) = stored::<Value>(event) else { return Vec::new() };
            let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
            let epoch = lease["spec"]["leaseTransitions"].as_u64().unwrap_or_default();
            let mark = lease["metadata"]["annotations"][DRAINING_UNTIL].as_str();
            let draining = mark.and_then(|mark| mark.parse().ok()).map(|until| Draining { until });
            vec![What::Lease { holder: holder.map(str::to_owned), epoch }, What::Draining(draining)]
        }
        _ => Vec::new(),
    }
}

/// Whether the object is gone after this change: deleted, with nothing that holds it.
fn is_gone(event: &AuditEvent, metadata: &Value) -> bool {
    let held = metadata["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty());
    let deleted = event.verb == "delete" || metadata["deletionTimestamp"].is_string();
    deleted && !held
}

fn from_policy(event: &AuditEvent) -> Vec<What> {
    let Some(object) = stored::<Value>(event) else { return Vec::new() };
    let metadata = &object["metadata"];
    if is_gone(event, metadata) {
        let named = event.object_ref.clone().unwrap_or_default();
        // What had no finalizers is answered with a Status, and not with the object.
        let uid = metadata["uid"].as_str().or(object["details"]["uid"].as_str()).unwrap_or_default();
        let id = PolicyRef { namespace: named.namespace, name: named.name, uid: uid.to_owned() };
        return vec![What::PolicyGone(id)];
    }
    let Some(policy) = stored::<LatencyPolicy>(event) else { return Vec::new() };
    convert::policy(&policy).map(|policy| vec![What::Policy(Box::new(policy))]).unwrap_or_default()
}

fn from_remediation(event: &AuditEvent) -> Vec<What> {
    let name = event.object_ref.clone().unwrap_or_default();
    let key = (name.namespace, name.name);
    let by_people = event.verb == "delete" && event.user.username != OPERATOR;
    let erased = by_people.then(|| What::Erased(key.clone()));
    let Some(object) = stored::<LatencyRemediation>(event) else { return erased.into_iter().collect() };
    let metadata = serde_json::to_value(&object.metadata).unwrap_or_default();
    let gone = is_gone(event, &metadata).then_some(What::RemediationGone(key));
    let now = convert::remediation(&object).ok().map(|remediation| What::Remediation(Box::new(remediation)));
    [erased, now, gone].into_iter().flatten().collect()
}

fn from_workload(event: &AuditEvent) -> Vec<What> {
    let object = event.object_ref.clone().unwrap_or_default();
    let Some(after) = stored::<Value>(event) else { return Vec::new() };
    let kind = match object.resource.as_str() {
        "statefulsets" => TargetKind::StatefulSet,
        _ => TargetKind::Deployment,
    };
    let name = after["metadata"]["name"].as_str().unwrap_or(&object.name).to_owned();
    let uid = after["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let workload = WorkloadKey { namespace: object.namespace, target: TargetRef { kind, name }, uid };
    if event.verb == "delete" {
        return vec![What::WorkloadGone(workload)];
    }
    let sent = event.request_object.as_ref().is_some_and(|sent| sent["spec"]["replicas"].is_u64());
    let to = after["spec"]["replicas"].as_u64().and_then(|replicas| u32::try_from(replicas).ok());
    let Some(to) = to.filter(|_| sent && object.subresource != "status") else { return Vec::new() };
    let manager = match event.user.username.as_str() {
        OPERATOR => engine::model::MANAGER.to_owned(),
        _ => manager_of(event),
    };
    vec![What::Replicas(Replicas { workload, from: None, to, manager, sent: None, remediation: None })]
}

/// The field manager: as the query names it, or the first word of what the client calls itself.
fn manager_of(event: &AuditEvent) -> String {
    let query = event.request_uri.split_once('?').map_or("", |(_, query)| query);
    let named = query.split('&').find_map(|part| part.strip_prefix("fieldManager="));
    named.or(event.user_agent.split('/').next()).unwrap_or_default().to_owned()
}

/// The sessions that the server says it has cancelled or ended at somebody's request, but for those of its own shutdown.
///
/// A victim says so in its own time. When it was hit, says the statement of the operator that the server logs for it; one
/// that nobody asked for counts from when it says so.
fn from_log(world: &World) -> Vec<Fact> {
    let log = std::fs::read_to_string(world.postgres.log()).expect("the server's log");
    let (mut asked, mut text, mut facts) = (Vec::new(), String::new(), Vec::new());
    for line in log.lines() {
        if line.contains("shutdown request") {
            break;
        }
        if !line.contains(" UTC [") {
            // The operator's statements are longer than a line.
            text.push_str(line);
        } else if line.contains("user=latency_operator") && line.contains(" LOG:  execute ") {
            line.clone_into(&mut text);
        } else if let Some((_, values)) = line.split_once("DETAIL:  parameters: $1 = '") {
            let kind = kind_of(&text, "pg_cancel_backend(a.pid)", "pg_terminate_backend(a.pid)");
            let pid = values.split('\'').next().and_then(|pid| pid.parse::<i32>().ok());
            asked.extend(kind.zip(pid).zip(Line::read(line)).map(|(what, line)| (what, line.at)));
        } else if let Some(kind) = kind_of(
            line,
            "canceling statement due to user request",
            "terminating connection due to administrator command",
        ) {
            let line = Line::read(line).expect("a line of the server's log");
            if world.signals_itself && line.role == "latency_operator" {
                continue;
            }
            let place = asked.iter().rposition(|(what, at)| *what == (kind, line.pid) && *at <= line.at);
            let at = place.map_or(line.at, |place| asked.remove(place).1);
            facts.push(Fact { at, what: What::Signal(signal(world, kind, &line)) });
        }
    }
    facts
}

/// What the target was asked for, by the remediation that was being carried out then.
fn from_target(world: &World, known: &[Fact]) -> Vec<Fact> {
    let run = |fact: &Fact| {
        let What::Remediation(stored) = &fact.what else { return None };
        let warms = matches!(stored.spec.action.act().effect(), Effect::SendRequests(_));
        let runs = warms && stored.status.phase == Phase::Executing;
        runs.then(|| (fact.at, (stored.namespace.clone(), stored.name.clone())))
    };
    let runs: Vec<_> = known.iter().filter_map(run).collect();
    let request = |(at, path): (Timestamp, String)| {
        let key = runs.iter().rfind(|(since, _)| *since <= at).map(|(_, key)| key.clone());
        let remediation = key.unwrap_or_else(|| (world.namespace.clone(), "nobody's".to_owned()));
        Fact { at, what: What::Request(Request { path, sent: None, remediation }) }
    };
    // That path is a Probe's, wherever one is set up beside a warming.
    world.asked().into_iter().filter(|(_, path)| path != PROBED).map(request).collect()
}

fn kind_of(text: &str, cancel: &str, terminate: &str) -> Option<SignalKind> {
    let kinds = [(cancel, SignalKind::Cancel), (terminate, SignalKind::Terminate)];
    kinds.into_iter().find(|(words, _)| text.contains(words)).map(|(_, kind)| kind)
}

/// `2026-11-24 09:00:00.123 UTC [4711] user=reporting db=orders app=report FATAL: …`
struct Line<'a> {
    at: Timestamp,
    pid: i32,
    role: &'a str,
    database: &'a str,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (instant, rest) = line.split_once(" UTC [")?;
        let (pid, rest) = rest.split_once(']')?;
        let word = |name: &str| rest.split(' ').find_map(|word| word.strip_prefix(name));
        let at = format!("{}Z", instant.replace(' ', "T")).parse().ok()?;
        Some(Self { at, pid: pid.parse().ok()?, role: word("user=")?, database: word("db=")? })
    }
}

fn signal(world: &World, kind: SignalKind, line: &Line<'_>) -> Signal {
    let untouchable = matches!(line.role, "postgres" | "latency_operator");
    Signal {
        kind,
        system_identifier: world.system_identifier.clone(),
        database: line.database.to_owned(),
        started_at: None,
        standby: None,
        pid: line.pid,
        backend_start: None,
        query_start: None,
        victim: Some(Victim { role: line.role.to_owned(), untouchable, protected: false, wrote: false }),
        remediation: None,
    }
}
