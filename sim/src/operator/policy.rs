//! The policy controller: mirrors `src/controller/policy`.

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use engine::invariants::What;
use engine::model::{
    ByName, ClosedIncident, EntryKey, Incident, Policy, Remediation, RemediationSpec, RemediationStatus,
    Severity, Snapshot, State, later,
};
use engine::{Admitted, Overall, Tick, settle, tick};

use super::keeper::{News, PolicyKey};
use super::look::{self, Looked};
use super::{Operator, View, remediation, retention};
use crate::exec::{Micros, SECOND};
use crate::planted;
use crate::world::api::{Answer, ApiError, IncidentObject, PolicyObject};
use crate::world::count;
use crate::world::faults::Op;

/// The source can tell something new so often.
const RESOLUTION: Micros = 5 * SECOND;

/// What is remembered of a policy between two evaluations.
#[derive(Default)]
struct Runtime {
    uid: String,
    state: State,
    evaluated: Option<(Policy, Option<String>)>,
    due: Option<Micros>,
    ordinal: u64,
    reserved: Option<u64>,
    adopted: bool,
    incident: Option<(Incident, IncidentObject)>,
    closed: Option<IncidentObject>,
    unconfirmed: bool,
    written: Option<PolicyObject>,
}

/// Evaluates a policy for as long as it is there.
pub(super) async fn follow(operator: Rc<Operator>, key: PolicyKey, name: String) {
    let mut runtime = Runtime::default();
    while !operator.stopping.get() {
        let object = operator.policies.borrow().get(&key).cloned();
        let Some(object) = object else { break };
        if runtime.uid != object.policy.id.uid {
            runtime = Runtime { uid: object.policy.id.uid.clone(), ..Runtime::default() };
        }
        let now = operator.sim.now();
        let unchanged = runtime
            .evaluated
            .as_ref()
            .is_some_and(|(p, paused)| *p == object.policy && *paused == object.paused);
        let left = runtime.due.map_or(0, |due| due.saturating_sub(now));
        if unchanged && left > 0 {
            operator.sim.doze(left).await;
            continue;
        }
        let pause = match reconcile(&operator, &key, &object, &mut runtime).await {
            Ok(pause) => pause,
            Err(_) => SECOND,
        };
        runtime.due = Some(operator.sim.now() + pause);
    }
    operator.tasks.borrow_mut().remove(&name);
}

async fn reconcile(
    operator: &Rc<Operator>,
    key: &PolicyKey,
    object: &PolicyObject,
    runtime: &mut Runtime,
) -> Answer<Micros> {
    let started = operator.sim.now();
    let snapshot = snapshot(operator, key, object, runtime).await?;
    operator.sim.world.borrow_mut().counts.ticks += 1;
    let mut ticked = tick(&snapshot, &runtime.state);
    let view: View = Rc::new((snapshot, ticked.situation.clone()));
    let snapshot = &view.0;
    operator.views.borrow_mut().insert(key.clone(), view.clone());
    let durable = follow_incident(operator, key, object, runtime, snapshot, &ticked).await;
    if durable.is_err() {
        ticked.proposals.clear();
    }
    let answers = admit(operator, &ticked, snapshot.now);
    settle(snapshot, &mut ticked, &answers);
    create(operator, &ticked, &answers).await;
    let told = tell(operator, object, runtime, snapshot, &ticked).await;
    let closed = snapshot.incident.is_some() && ticked.situation.incident.is_none();
    if closed && told.is_ok() {
        retention::incident_closed(operator, &snapshot.policy).await;
    }
    let pause = if ticked.state.alert { RESOLUTION } else { micros(snapshot.policy.evaluation.interval) };
    for open in snapshot.remediations.iter().filter(|remediation| remediation.is_open()) {
        remediation::wake(operator, &(open.namespace.clone(), open.name.clone()));
    }
    runtime.state = ticked.state;
    if !operator.policies.borrow().contains_key(key) {
        operator.views.borrow_mut().remove(key);
    }
    durable?;
    told?;
    let took = operator.sim.now().saturating_sub(started);
    Ok(pause.saturating_sub(took).max(10_000))
}

fn micros(span: Duration) -> Micros {
    Micros::try_from(span.as_micros()).unwrap_or(Micros::MAX)
}

async fn snapshot(
    operator: &Operator,
    key: &PolicyKey,
    object: &PolicyObject,
    runtime: &mut Runtime,
) -> Answer<Snapshot> {
    runtime.evaluated = Some((object.policy.clone(), object.paused.clone()));
    adopt(operator, key, object, runtime).await?;
    confirm(operator, runtime).await?;
    let policy = object.policy.clone();
    let Looked { traffic, databases, caches, target } =
        look::at(operator, &policy, runtime.state.alert).await;
    let pauses = {
        let mut pauses = look::pauses(operator, key, &policy.target);
        // Its own annotation as this evaluation was given it, the others as a watch shows them.
        pauses.retain(|pause| pause.by != engine::model::PausedBy::Policy);
        let by = engine::model::PausedBy::Policy;
        pauses.extend(object.paused.clone().map(|until| engine::model::Pause { by, until, reason: None }));
        pauses
    };
    let now = operator.now();
    let unconfirmed = runtime.unconfirmed;
    runtime.closed.take_if(|last| !closed(last).is_some_and(|closed| closed.goes_on(now)) && !unconfirmed);
    let incident = runtime.incident.as_ref().map(|(facts, _)| facts.clone());
    let closed = runtime.closed.as_ref().filter(|_| incident.is_none()).and_then(closed);
    let closed = closed.filter(|closed| closed.goes_on(now));
    let last = incident.as_ref().or(closed.as_ref().map(|closed| &closed.incident));
    let keeper = operator.keeper.borrow();
    Ok(Snapshot {
        now,
        traffic,
        probes: ByName::new(),
        databases,
        caches,
        target,
        pauses,
        remediations: keeper.of_policy(key, last.map(|incident| incident.name.as_str())),
        history: keeper.history(key),
        incident,
        closed,
        next_ordinal: runtime.reserved.unwrap_or(runtime.ordinal.saturating_add(1)),
        operator: look::health(operator, now),
        policy,
    })
}

fn closed(object: &IncidentObject) -> Option<ClosedIncident> {
    Some(ClosedIncident { incident: object.facts.clone(), at: object.closed_at? })
}

async fn adopt(
    operator: &Operator,
    key: &PolicyKey,
    object: &PolicyObject,
    runtime: &mut Runtime,
) -> Answer<()> {
    runtime.ordinal = runtime.ordinal.max(object.ordinal);
    if runtime.adopted {
        return Ok(());
    }
    let last = (runtime.ordinal > 0).then(|| Incident::name_of(&object.policy.id, runtime.ordinal));
    if let Some(name) = object.active.clone().or(last) {
        let ours = name == Incident::name_of(&object.policy.id, object.ordinal);
        let place = (key.0.clone(), name);
        let found = operator.ask(Op::Read, move |world| Ok(world.api.incidents.get(&place).cloned())).await?;
        let missing = found.is_none() && object.active.is_some();
        (runtime.incident, runtime.closed) = match found {
            Some(open) if !open.closed => (Some((open.facts.clone(), open)), None),
            last => (None, last),
        };
        runtime.unconfirmed = runtime.closed.is_some() && !planted::is("closed_is_taken_for_granted");
        let taken_up = missing && ours && !planted::is("late_incident_is_nobodys");
        runtime.reserved = taken_up.then_some(object.ordinal);
    }
    runtime.adopted = true;
    Ok(())
}

async fn confirm(operator: &Operator, runtime: &mut Runtime) -> Answer<()> {
    let now = operator.now();
    let may_be_opened = |last| closed(last).is_some_and(|closed| closed.may_be_opened_again(now));
    runtime.unconfirmed &= runtime.closed.as_ref().is_some_and(may_be_opened);
    let Some(mut last) = runtime.closed.clone().filter(|_| runtime.unconfirmed) else { return Ok(()) };
    let before = last.confirmed_at.map(|known| later(known, Duration::from_millis(1)));
    last.confirmed_at = Some(before.map_or(now, |before| before.max(now)));
    match operator.ask(Op::Incident, move |world| world.write_incident(&last)).await {
        Ok(written) => (runtime.closed, runtime.unconfirmed) = (Some(written), false),
        Err(ApiError::NotFound) => (runtime.closed, runtime.unconfirmed) = (None, false),
        Err(ApiError::Refused) => {}
        Err(error @ (ApiError::Conflict | ApiError::Lost)) => {
            runtime.adopted = false;
            return Err(error);
        }
    }
    Ok(())
}

async fn follow_incident(
    operator: &Operator,
    key: &PolicyKey,
    object: &PolicyObject,
    runtime: &mut Runtime,
    snapshot: &Snapshot,
    ticked: &Tick,
) -> Answer<()> {
    match (&snapshot.incident, &ticked.situation.incident) {
        (None, Some(opened)) if opened.reopened > 0 => reopen(operator, runtime, opened).await,
        (None, Some(opened)) => open(operator, key, object, runtime, opened).await,
        (Some(_), Some(known)) => {
            if let Some((facts, _)) = &mut runtime.incident {
                *facts = known.clone();
            }
            Ok(())
        }
        (None, None) if ticked.situation.overall == Overall::Healthy => match runtime.reserved {
            Some(ordinal) => open(operator, key, object, runtime, &over(snapshot, ordinal)).await,
            None => Ok(()),
        },
        (Some(_) | None, None) => Ok(()),
    }
}

/// An incident of which nothing but its number is known.
fn over(snapshot: &Snapshot, ordinal: u64) -> Incident {
    Incident {
        name: Incident::name_of(&snapshot.policy.id, ordinal),
        ordinal,
        first_breached_at: snapshot.now,
        opened_at: snapshot.now,
        severity: Severity::P2,
        reopened: 0,
    }
}

/// What is stored decides where the write fails: it is read again.
async fn reopen(operator: &Operator, runtime: &mut Runtime, opened: &Incident) -> Answer<()> {
    runtime.adopted = false;
    let mut again = runtime.closed.take().ok_or(ApiError::NotFound)?;
    (again.closed, again.closed_at, again.confirmed_at) = (false, None, None);
    again.facts = opened.clone();
    let written = operator.ask(Op::Incident, move |world| world.write_incident(&again)).await?;
    runtime.incident = Some((opened.clone(), written));
    runtime.adopted = true;
    Ok(())
}

async fn open(
    operator: &Operator,
    key: &PolicyKey,
    object: &PolicyObject,
    runtime: &mut Runtime,
    opened: &Incident,
) -> Answer<()> {
    let namespace = key.0.clone();
    if runtime.reserved != Some(opened.ordinal) {
        let ours = Incident::name_of(&object.policy.id, 0).trim_end_matches('0').to_owned();
        let place = namespace.clone();
        let highest = operator
            .ask(Op::Read, move |world| {
                let names = world.api.incidents.keys().filter(|(namespace, _)| *namespace == place);
                Ok(names.filter_map(|(_, name)| name.strip_prefix(&ours)?.parse::<u64>().ok()).max())
            })
            .await?
            .unwrap_or(0);
        if highest >= opened.ordinal {
            (runtime.ordinal, runtime.adopted) = (highest, false);
            return Err(ApiError::Refused);
        }
        let mut reserved = newest(runtime, object).clone();
        (reserved.ordinal, reserved.active) = (opened.ordinal, Some(opened.name.clone()));
        write_policy(operator, runtime, object, reserved).await?;
        runtime.ordinal = opened.ordinal;
        runtime.reserved = Some(opened.ordinal);
    }
    let (policy, facts) = (object.policy.id.clone(), opened.clone());
    let created = operator.ask(Op::Incident, move |world| world.create_incident(&policy, &facts)).await;
    let stored = match created {
        Ok(stored) => stored,
        Err(ApiError::Conflict | ApiError::Lost) => {
            let place = (namespace, opened.name.clone());
            operator
                .ask(Op::Read, move |world| {
                    world.api.incidents.get(&place).cloned().ok_or(ApiError::NotFound)
                })
                .await?
        }
        Err(error) => return Err(error),
    };
    runtime.reserved = None;
    runtime.incident = (!stored.closed).then(|| (opened.clone(), stored));
    Ok(())
}

fn newest<'a>(runtime: &'a Runtime, object: &'a PolicyObject) -> &'a PolicyObject {
    match &runtime.written {
        Some(written) if written.policy.generation >= object.policy.generation => written,
        _ => object,
    }
}

async fn write_policy(
    operator: &Operator,
    runtime: &mut Runtime,
    object: &PolicyObject,
    status: PolicyObject,
) -> Answer<()> {
    let written = operator.ask(Op::PolicyStatus, move |world| world.write_policy_status(&status)).await;
    match written {
        Ok(written) => {
            runtime.written = Some(written);
            Ok(())
        }
        Err(error) => {
            let key = (object.policy.id.namespace.clone(), object.policy.id.name.clone());
            let read = operator.ask(Op::Read, move |world| Ok(world.api.policies.get(&key).cloned())).await;
            runtime.written = read.ok().flatten();
            Err(error)
        }
    }
}

fn admit(operator: &Operator, ticked: &Tick, now: jiff::Timestamp) -> Vec<Admitted> {
    let survey = if ticked.proposals.is_empty() { Rc::default() } else { operator.survey() };
    let limits = operator.limits.borrow().clone();
    let leading = operator.leading();
    operator.keeper.borrow_mut().admit(
        &ticked.proposals,
        leading,
        operator.draining.get(),
        &limits,
        &survey,
        now,
    )
}

async fn create(operator: &Rc<Operator>, ticked: &Tick, answers: &[Admitted]) {
    for (proposal, answer) in ticked.proposals.iter().zip(answers) {
        match answer {
            Admitted::Yes { .. } => {}
            Admitted::Passed => continue,
            Admitted::No { refusals } => {
                let mut world = operator.sim.world.borrow_mut();
                for refusal in refusals {
                    count(&mut world.counts.refusals, &format!("{} (admit)", refusal.guard));
                }
                continue;
            }
        }
        let candidate = &proposal.candidate;
        let key: EntryKey = (candidate.policy.namespace.clone(), candidate.object_name());
        let object = Remediation {
            namespace: key.0.clone(),
            name: key.1.clone(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            deleting: false,
            held: candidate.undo.is_some() && !candidate.is_dry_run(),
            spec: RemediationSpec::from(candidate),
            status: RemediationStatus::default(),
        };
        match operator.ask(Op::Create, move |world| world.create_remediation(object)).await {
            Ok(created) => operator.keeper.borrow_mut().observe(&created, News::Changed),
            Err(ApiError::Conflict | ApiError::Lost) => {
                let place = key.clone();
                let read = operator
                    .ask(Op::Read, move |world| Ok(world.api.remediations.get(&place).cloned()))
                    .await;
                match read {
                    Ok(Some(existing)) => operator.keeper.borrow_mut().observe(&existing, News::Changed),
                    Ok(None) => operator.keeper.borrow_mut().release(&key),
                    Err(_) if planted::is("reservation_given_up_in_doubt") => {
                        operator.keeper.borrow_mut().release(&key);
                    }
                    // Whether it was created cannot be said; its resource stays held.
                    Err(_) => {}
                }
            }
            Err(ApiError::NotFound | ApiError::Refused) => operator.keeper.borrow_mut().release(&key),
        }
    }
}

/// Events, the incident's story, the policy's status: written where they say something new.
async fn tell(
    operator: &Operator,
    object: &PolicyObject,
    runtime: &mut Runtime,
    snapshot: &Snapshot,
    ticked: &Tick,
) -> Answer<()> {
    let mut story = String::new();
    {
        let mut world = operator.sim.world.borrow_mut();
        for record in ticked.records.iter().filter(|record| record.changed) {
            let refusals = record.kind.refusals();
            for refusal in refusals {
                count(&mut world.counts.refusals, &format!("{} (propose)", refusal.guard));
            }
            world.tell(What::Wrote(format!("Event of {}: {}", record.slot(), record.sentence())));
        }
    }
    let closed = ticked.situation.incident.is_none();
    if let Some((facts, stored)) = &runtime.incident {
        let text = format!("{:?} {:?}", facts.severity, ticked.situation.overall);
        if stored.story != text || closed {
            let mut changed = stored.clone();
            (changed.story, changed.closed, changed.facts) = (text, closed, facts.clone());
            changed.closed_at = closed.then_some(snapshot.now);
            let place = (snapshot.policy.id.namespace.clone(), facts.name.clone());
            let written = operator.ask(Op::Incident, move |world| world.write_incident(&changed)).await;
            match written {
                Ok(written) => {
                    if let Some((_, known)) = &mut runtime.incident {
                        *known = written;
                    }
                }
                Err(ApiError::NotFound) => {
                    runtime.incident = None;
                    return Ok(());
                }
                Err(error) => {
                    let read = operator
                        .ask(Op::Read, move |world| Ok(world.api.incidents.get(&place).cloned()))
                        .await;
                    if let (Ok(Some(read)), Some((_, known))) = (read, &mut runtime.incident) {
                        *known = read;
                    }
                    return Err(error);
                }
            }
        }
        if closed {
            runtime.closed = runtime.incident.take().map(|(_, stored)| stored);
        }
    }
    let overall = match ticked.situation.overall {
        Overall::Breached(severity) => format!("Breached {severity}"),
        Overall::Healthy => "Healthy".to_owned(),
        Overall::NoData => "NoData".to_owned(),
    };
    let _ = write!(story, "{overall}");
    let mut status = newest(runtime, object).clone();
    let reserved = runtime.reserved.map(|number| Incident::name_of(&object.policy.id, number));
    let active = runtime.incident.as_ref().map(|(facts, _)| facts.name.clone()).or(reserved);
    let ordinal = runtime.ordinal.max(status.ordinal);
    if (status.active.as_ref(), status.ordinal, &status.said) == (active.as_ref(), ordinal, &story) {
        return Ok(());
    }
    (status.active, status.ordinal, status.said) = (active, ordinal, story);
    match write_policy(operator, runtime, object, status).await {
        Ok(()) | Err(ApiError::NotFound) => Ok(()),
        Err(error) => Err(error),
    }
}
