//! A run of warming: mirrors `src/controller/remediation/warm.rs` and `src/act/warm_cache.rs`.

use std::cell::RefCell;
use std::rc::Rc;

use engine::advance::{EffectReport, Turn, Warming};
use engine::model::{Remediation, WarmCache, elapsed};
use jiff::Timestamp;

use super::Operator;
use super::remediation::{self, Known, key_of};
use crate::exec::{MS, Micros, SECOND};
use crate::world::faults::Op;
use crate::world::instant;
use crate::world::setup::TARGETS;

/// So often policy, target, namespace and budgets are asked for live.
const CONFIRM: Micros = 5 * SECOND;

/// Begins a run; what it comes to is noted, and the remediation is looked at again.
pub(super) fn begin(operator: &Rc<Operator>, remediation: &Remediation, warm: &WarmCache, fence: Timestamp) {
    let body = run(operator.clone(), remediation.clone(), warm.clone(), fence);
    operator.sim.spawn(operator.node, body);
}

async fn run(operator: Rc<Operator>, remediation: Remediation, warm: WarmCache, fence: Timestamp) {
    let warming = Rc::new(RefCell::new(Warming::new(&warm, operator.now(), fence)));
    let key = (remediation.namespace.clone(), remediation.name.clone());
    let (mut confirmed, mut current) = (operator.sim.now(), true);
    let warmed = loop {
        if operator.sim.now().saturating_sub(confirmed) >= CONFIRM {
            current = remediation::is_confirmed(&operator, &remediation).await;
            confirmed = operator.sim.now();
        }
        // It may be being deleted by now.
        let stored = operator.remediations.borrow().get(&key).map(|stored| stored.object.clone());
        let remediation = stored.unwrap_or_else(|| remediation.clone());
        let mut known = Known::of(&operator, &remediation).await;
        if !current {
            known.view = None;
        }
        let limits = operator.limits.borrow().clone();
        let chance =
            f64::from(u32::try_from(operator.sim.world.borrow_mut().dice.below(100)).unwrap_or(0)) / 100.0;
        let turn = remediation::with_seen(&operator, &remediation, &known, &limits, |seen| {
            warming.borrow_mut().turn(&remediation, seen, chance)
        });
        match turn {
            Turn::Send { path } => {
                let body = request(operator.clone(), remediation, path, fence, warming.clone());
                operator.sim.spawn(operator.node, body);
            }
            Turn::Wait { until, .. } => {
                let pause = Micros::try_from(elapsed(until, operator.now()).as_micros()).unwrap_or(SECOND);
                operator.sim.sleep(pause.max(20 * MS)).await;
            }
            Turn::Over(warmed) => break warmed,
        }
    };
    operator.locals.borrow_mut().entry(key_of(&remediation)).or_default().effect =
        Some(EffectReport::Warmed(warmed));
    remediation::wake(&operator, &key);
}

async fn request(
    operator: Rc<Operator>,
    remediation: Remediation,
    path: String,
    fence: Timestamp,
    warming: Rc<RefCell<Warming>>,
) {
    let place = TARGETS.iter().position(|(namespace, name, ..)| {
        (*namespace, *name) == (&*remediation.namespace, &*remediation.spec.target.name)
    });
    let key = (remediation.namespace.clone(), remediation.name.clone());
    let answer = if elapsed(fence, operator.now()).is_zero() || !operator.leading() {
        Err("there was no time left".to_owned())
    } else {
        let sent = instant(operator.sim.now());
        let serve = move |world: &mut crate::world::World| match place {
            Some(place) => world.serve(place, &path, &key, sent),
            None => Err("no address".to_owned()),
        };
        operator.send(Op::Warm, false, serve, |_| Err("no answer".to_owned())).await
    };
    warming.borrow_mut().answered(answer);
}
