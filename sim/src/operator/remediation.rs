//! The remediation controller: mirrors `src/controller/remediation`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use engine::advance::{EffectReport, Look, Step};
use engine::invariants::What;
use engine::model::{
    Action, Admission, ByName, EntryKey, Fleet, GuardSettings, Limits, Mode, Phase, Policy, Remediation,
    RemediationStatus, Snapshot, State, UndoSpec, Verification, elapsed,
};
use engine::{Seen, advance, tick};

use super::keeper::News;
use super::{Operator, View, Watched, effect, look};
use crate::exec::{MS, Micros, SECOND};
use crate::planted;
use crate::world::api::{Answer, ApiError, Stored};
use crate::world::faults::Op;

/// No remediation takes more steps at one instant.
const STEPS: usize = 12;

/// What follows a reconciliation.
enum Then {
    After(Micros),
    OnChange,
}

/// Looks at a remediation again; starts its task, if there is none.
pub(super) fn wake(operator: &Rc<Operator>, key: &EntryKey) {
    if operator.stopping.get() {
        return;
    }
    let name = format!("remediation {}/{}", key.0, key.1);
    let known = operator.tasks.borrow().get(&name).copied();
    match known {
        Some(task) => operator.sim.wake(task),
        None => {
            let body = follow(operator.clone(), key.clone(), name.clone());
            let task = operator.sim.spawn(operator.node, body);
            operator.tasks.borrow_mut().insert(name, task);
        }
    }
}

async fn follow(operator: Rc<Operator>, key: EntryKey, name: String) {
    while !operator.stopping.get() {
        let stored = operator.remediations.borrow().get(&key).cloned();
        let Some(stored) = stored else { break };
        let pause = match reconcile(&operator, stored).await {
            Ok(Then::After(pause)) => pause,
            Ok(Then::OnChange) => 3600 * SECOND,
            Err(_) => 500 * MS,
        };
        operator.sim.doze(pause).await;
    }
    operator.tasks.borrow_mut().remove(&name);
}

async fn reconcile(operator: &Rc<Operator>, mut stored: Stored) -> Answer<Then> {
    let mut look: Option<Look> = None;
    for _ in 0..STEPS {
        let remediation = stored.object.clone();
        let known = Known::of(operator, &remediation).await;
        let limits = operator.limits.borrow().clone();
        let mut step = next(operator, &remediation, &known, look.as_ref(), &limits);
        if passes_gate(&remediation, &step) || matches!(step, Step::Restore { .. }) {
            let current = match &known.view {
                Some(judged) if passes_gate(&remediation, &step) => {
                    is_current(operator, &judged.0, &remediation.spec.action).await
                }
                _ => true,
            };
            let (limits, listed) = operator.refresh_budgets(Op::Confirm).await;
            let known = if current && listed { known } else { Known { view: None, ..known } };
            step = next(operator, &remediation, &known, look.as_ref(), &limits);
        }
        look = None;
        operator.sim.world.borrow_mut().counts.steps += 1;
        if let Some(then) = carry_out(operator, &mut stored, &remediation, step, &mut look).await? {
            return Ok(then);
        }
    }
    Ok(Then::After(100 * MS))
}

async fn carry_out(
    operator: &Rc<Operator>,
    stored: &mut Stored,
    remediation: &Remediation,
    step: Step,
    look: &mut Option<Look>,
) -> Answer<Option<Then>> {
    match step {
        Step::Write { status, .. } => {
            if planted::is("effect_before_intent") && passes_gate_to(remediation, &status) {
                let fence = engine::model::later(operator.now(), remediation.spec.deadline);
                effect::send(operator, remediation, &remediation.spec.action, fence).await;
            }
            *stored = write_status(operator, stored.clone(), remediation, &status).await?;
        }
        Step::Effect { action, fence } => effect::send(operator, remediation, &action, fence).await,
        Step::Look(action) => *look = Some(look::effect(operator, &remediation.namespace, &action).await),
        Step::Restore { scale, fence } => {
            let report = effect::restore(operator, remediation, &scale, fence).await;
            if report != EffectReport::Sent {
                return Ok(Some(Then::After(SECOND)));
            }
        }
        Step::Release => match release(operator, stored).await? {
            Some(released) => *stored = released,
            None => return Ok(Some(Then::OnChange)),
        },
        Step::Wait { until, .. } => {
            let pause = elapsed(until, operator.now()).max(Duration::from_millis(20));
            return Ok(Some(Then::After(Micros::try_from(pause.as_micros()).unwrap_or(SECOND))));
        }
        Step::Done => {
            let key = key_of(remediation);
            operator.locals.borrow_mut().remove(&key);
            operator.watches.borrow_mut().remove(&key);
            return Ok(Some(Then::OnChange));
        }
    }
    Ok(None)
}

pub(super) struct Known {
    pub(super) view: Option<View>,
    policy_gone: bool,
}

impl Known {
    pub(super) async fn of(operator: &Rc<Operator>, remediation: &Remediation) -> Self {
        let policy = (remediation.namespace.clone(), remediation.spec.policy.name.clone());
        let view = operator.views.borrow().get(&policy).cloned();
        let view = view.filter(|view| view.0.policy.id.uid == remediation.spec.policy.uid);
        let owes = remediation.owes() && remediation.status.phase.is_terminal();
        if view.is_some() || !owes || planted::is("policy_deletion_forgets_undo") {
            return Self { view, policy_gone: false };
        }
        let view = watched(operator, remediation).await;
        let uid = remediation.spec.policy.uid.clone();
        let policy_gone = operator
            .ask(Op::Read, move |world| {
                Ok(world.api.policies.get(&policy).is_none_or(|found| found.policy.id.uid != uid))
            })
            .await
            .unwrap_or(false);
        Self { view, policy_gone }
    }
}

/// What the undo watches in place of its policy.
async fn watched(operator: &Rc<Operator>, remediation: &Remediation) -> Option<View> {
    let spec = remediation.spec.undo.as_ref()?;
    let key = key_of(remediation);
    let interval = Micros::try_from(spec.watch.evaluation.interval.as_micros()).unwrap_or(SECOND);
    let (state, before) = match operator.watches.borrow().get(&key) {
        Some(watched) if operator.sim.now().saturating_sub(watched.at) < interval / 10 * 9 => {
            return Some(watched.view.clone());
        }
        Some(watched) => (watched.state.clone(), Some(watched.view.0.now)),
        None => (State::default(), None),
    };
    let policy = watching(remediation, spec);
    let looked = look::at(operator, &policy, state.alert).await;
    let now = operator.now();
    let snapshot = Snapshot {
        now: before.map_or(now, |before| before.max(now)),
        traffic: looked.traffic,
        probes: ByName::new(),
        databases: looked.databases,
        caches: looked.caches,
        target: looked.target,
        pauses: Vec::new(),
        incident: None,
        closed: None,
        next_ordinal: 1,
        remediations: Vec::new(),
        history: Vec::new(),
        operator: look::health(operator, now),
        policy,
    };
    let ticked = tick(&snapshot, &state);
    let view: View = Rc::new((snapshot, ticked.situation));
    let watched = Watched { state: ticked.state, view: view.clone(), at: operator.sim.now() };
    operator.watches.borrow_mut().insert(key, watched);
    Some(view)
}

fn watching(remediation: &Remediation, undo: &UndoSpec) -> Policy {
    let spec = &remediation.spec;
    Policy {
        id: spec.policy.clone(),
        created_at: remediation.created_at,
        generation: 0,
        mode: Mode::Observe,
        suspended: false,
        target: spec.target.clone(),
        evaluation: undo.watch.evaluation.clone(),
        objectives: undo.watch.objectives.clone(),
        dependencies: undo.watch.dependencies.clone(),
        workers_per_pod: None,
        thresholds: BTreeMap::new(),
        rungs: Vec::new(),
        guards: GuardSettings {
            max_actions_per_hour: 0,
            max_attempts_per_incident: 0,
            cooldown: Duration::ZERO,
            min_available: 1.0,
        },
        verification: Verification { after: spec.verify.after, within: spec.verify.within },
        history_limit: 0,
    }
}

pub(super) fn key_of(remediation: &Remediation) -> (EntryKey, jiff::Timestamp) {
    ((remediation.namespace.clone(), remediation.name.clone()), remediation.created_at)
}

fn passes_gate(remediation: &Remediation, step: &Step) -> bool {
    matches!(step, Step::Write { status, .. } if passes_gate_to(remediation, status))
}

fn passes_gate_to(remediation: &Remediation, status: &RemediationStatus) -> bool {
    remediation.status.phase == Phase::Admitted && status.phase == Phase::Executing
}

fn next(
    operator: &Operator,
    remediation: &Remediation,
    known: &Known,
    look: Option<&Look>,
    limits: &Limits,
) -> Step {
    seen(operator, remediation, known, look, limits, |seen| advance(remediation, seen))
}

/// Asks with everything that is known.
fn seen<T>(
    operator: &Operator,
    remediation: &Remediation,
    known: &Known,
    look: Option<&Look>,
    limits: &Limits,
    ask: impl FnOnce(&Seen<'_>) -> T,
) -> T {
    let now = operator.now();
    let key = key_of(remediation);
    let local = {
        let mut locals = operator.locals.borrow_mut();
        if remediation.status.phase == Phase::Executing {
            locals.entry(key.clone()).or_default().executing_seen_at.get_or_insert(now);
        }
        locals.get(&key).cloned().unwrap_or_default()
    };
    let leading = operator.leading();
    let asks = remediation.status.phase == Phase::Admitted;
    let survey = if asks { operator.survey() } else { Rc::default() };
    let keeper = operator.keeper.borrow();
    let (ledger, ledger_complete) = keeper.ledger();
    let seen = Seen {
        now,
        holder: &operator.identity,
        epoch: operator.epoch.get(),
        leading,
        view: known.view.as_ref().map(|view| (&view.0, &view.1)),
        policy_gone: known.policy_gone,
        admission: Some(Admission {
            ledger,
            fleet: Fleet { leading, ledger_complete, draining: operator.draining.get() },
            limits,
            survey: &survey,
        }),
        passed_gate_at: local.passed_gate_at,
        effect: local.effect.as_ref(),
        executing_seen_at: local.executing_seen_at,
        look,
    };
    ask(&seen)
}

/// The same without a look.
pub(super) fn with_seen<T>(
    operator: &Operator,
    remediation: &Remediation,
    known: &Known,
    limits: &Limits,
    ask: impl FnOnce(&Seen<'_>) -> T,
) -> T {
    seen(operator, remediation, known, None, limits, ask)
}

/// Whether what is being judged is so at this moment, and all ceilings are known.
pub(super) async fn is_confirmed(operator: &Rc<Operator>, remediation: &Remediation) -> bool {
    let known = Known::of(operator, remediation).await;
    let current = match &known.view {
        Some(view) => is_current(operator, &view.0, &remediation.spec.action).await,
        None => false,
    };
    let (_, listed) = operator.refresh_budgets(Op::Read).await;
    current && listed
}

async fn release(operator: &Operator, stored: &Stored) -> Answer<Option<Stored>> {
    let known = stored.clone();
    match operator.ask(Op::Release, move |world| world.release_remediation(&known)).await {
        Ok(released) => Ok(Some(released)),
        Err(ApiError::NotFound) => Ok(None),
        Err(ApiError::Conflict) => {
            let place = (stored.object.namespace.clone(), stored.object.name.clone());
            operator.ask(Op::Read, move |world| Ok(world.api.remediations.get(&place).cloned())).await
        }
        Err(error) => Err(error),
    }
}

async fn write_status(
    operator: &Operator,
    stored: Stored,
    remediation: &Remediation,
    status: &RemediationStatus,
) -> Answer<Stored> {
    let gate = passes_gate_to(remediation, status);
    let sent_at = operator.now();
    let (known, wanted) = (stored.clone(), status.clone());
    let op = if gate { Op::Gate } else { Op::Status };
    let answer = operator.ask(op, move |world| world.write_remediation(&known, &wanted)).await;
    match seen_after_all(operator, &stored, status, answer).await {
        Ok(written) => {
            if gate {
                let mut locals = operator.locals.borrow_mut();
                locals.entry(key_of(remediation)).or_default().passed_gate_at = Some(sent_at);
            }
            let event = format!("Event of {}: {}", remediation.name, status.message);
            operator.sim.world.borrow_mut().tell(What::Wrote(event));
            operator.keeper.borrow_mut().observe(&written, News::Changed);
            Ok(written)
        }
        Err(ApiError::Conflict) => {
            let place = (stored.object.namespace.clone(), stored.object.name.clone());
            let read = operator
                .ask(Op::Read, move |world| {
                    world.api.remediations.get(&place).cloned().ok_or(ApiError::NotFound)
                })
                .await?;
            operator.keeper.borrow_mut().observe(&read, News::Changed);
            Ok(read)
        }
        Err(error) => Err(error),
    }
}

/// Where the answer was lost, looks once whether the status that was sent is there.
async fn seen_after_all(
    operator: &Operator,
    sent: &Stored,
    status: &RemediationStatus,
    answer: Answer<Stored>,
) -> Answer<Stored> {
    let Err(ApiError::Lost) = answer else { return answer };
    let place = (sent.object.namespace.clone(), sent.object.name.clone());
    let read = operator
        .ask(Op::Read, move |world| world.api.remediations.get(&place).cloned().ok_or(ApiError::NotFound))
        .await;
    let is_it =
        |found: &Stored| found.object.created_at == sent.object.created_at && found.object.status == *status;
    read.ok().filter(is_it).ok_or(ApiError::Lost)
}

/// The last look before the gate: mirrors `src/controller/remediation/confirm.rs`.
async fn is_current(operator: &Operator, snapshot: &Snapshot, action: &Action) -> bool {
    if planted::is("no_live_look_before_the_gate") {
        return true;
    }
    let key = (snapshot.policy.id.namespace.clone(), snapshot.policy.id.name.clone());
    let target = snapshot.policy.target.clone();
    let asked = operator
        .ask(Op::Confirm, move |world| {
            let policy = world.api.policies.get(&key).cloned();
            let pauses = world.pauses(&key, &target);
            let found = world.target(&key.0, &target);
            let live = found.map(|found| (found.uid.clone(), found.opt_out.clone()));
            Ok((policy, pauses, live))
        })
        .await;
    let Ok((Some(policy), pauses, Some((uid, opt_out)))) = asked else { return false };
    let Some(seen) = snapshot.target.known() else { return false };
    let same = policy.policy == snapshot.policy && seen.uid == uid && seen.opt_out == opt_out;
    if !same || pauses != snapshot.pauses {
        return false;
    }
    if !matches!(action, Action::Scale(_)) {
        return true;
    }
    let (namespace, target) = (snapshot.policy.id.namespace.clone(), snapshot.policy.target.clone());
    let live = operator
        .ask(Op::Confirm, move |world| {
            let now = world.now;
            world.refresh();
            world.target(&namespace, &target).map(|found| found.workload(now)).ok_or(ApiError::NotFound)
        })
        .await;
    match (live, &seen.workload) {
        (Ok(live), Some(seen)) => {
            (live.generation, live.desired, &live.managers) == (seen.generation, seen.desired, &seen.managers)
                && live.autoscalers.known() == seen.autoscalers.known()
        }
        _ => false,
    }
}
