//! Removing history: mirrors `src/controller/retention.rs`.

use std::rc::Rc;

use engine::model::{Policy, Remediation};
use engine::retention::{expired, may_go};

use super::keeper::PolicyKey;
use super::{Operator, lead};
use crate::world::api::incident_policy;
use crate::world::faults::Op;

pub(super) async fn keep_up(operator: Rc<Operator>) {
    loop {
        operator.sim.sleep(lead::EVERY).await;
        let policies = operator.keeper.borrow().policies();
        for key in policies {
            of_key(&operator, &key).await;
        }
    }
}

async fn of_key(operator: &Operator, key: &PolicyKey) {
    let view = operator.views.borrow().get(key).cloned();
    if let Some(view) = view {
        let open = view.1.incident.as_ref().map(|incident| incident.name.clone());
        return remove(operator, key, Some(view.0.policy.history_limit), open.as_deref()).await;
    }
    let place = key.clone();
    if operator.ask(Op::Read, move |world| Ok(world.api.policies.contains_key(&place))).await == Ok(false) {
        remove(operator, key, None, None).await;
    }
}

/// An incident of the policy was closed.
pub(super) async fn incident_closed(operator: &Operator, policy: &Policy) {
    let key = (policy.id.namespace.clone(), policy.id.name.clone());
    remove(operator, &key, Some(policy.history_limit), None).await;
    let (limit, name) = (policy.history_limit, policy.id.name.clone());
    let _ = operator
        .ask(Op::Delete, move |world| {
            let closed = world.api.incidents.iter().filter(|((namespace, _), incident)| {
                *namespace == key.0 && incident.closed && incident_policy(incident) == name
            });
            let mut closed: Vec<_> = closed.map(|(key, i)| (i.facts.opened_at, key.clone())).collect();
            closed.sort();
            closed.reverse();
            for (_, gone) in closed.into_iter().skip(limit) {
                world.api.incidents.remove(&gone);
            }
            Ok(())
        })
        .await;
}

async fn remove(operator: &Operator, key: &PolicyKey, keep: Option<usize>, open: Option<&str>) {
    let all = operator.keeper.borrow().all_of(key);
    let gone: Vec<Remediation> = expired(&all, keep, open, operator.now()).into_iter().cloned().collect();
    for known in gone {
        let place = (known.namespace.clone(), known.name.clone());
        let read = {
            let place = place.clone();
            operator.ask(Op::Read, move |world| Ok(world.api.remediations.get(&place).cloned())).await
        };
        let Ok(Some(stored)) = read else { continue };
        if stored.object.created_at == known.created_at && may_go(&stored.object, operator.now()) {
            let version = stored.version;
            let _ =
                operator.ask(Op::Delete, move |world| world.delete_remediation(&place, Some(version))).await;
        }
    }
}
