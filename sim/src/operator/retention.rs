//! Removing history: mirrors `src/controller/retention.rs`.

use std::rc::Rc;

use engine::model::{Policy, PolicyRef, Remediation};
use engine::retention::{expired, may_go};

use super::keeper::PolicyKey;
use super::{Operator, lead};
use crate::world::api::{Answer, IncidentObject};
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
    let _ = remove_incidents(operator, policy).await;
}

async fn remove_incidents(operator: &Operator, policy: &Policy) -> Answer<()> {
    let (namespace, name) = (policy.id.namespace.clone(), policy.id.name.clone());
    let mut closed: Vec<IncidentObject> = operator
        .ask(Op::Read, move |world| {
            // By their label: those of an earlier policy of the same name, too.
            let of = |id: &PolicyRef| (&id.namespace, &id.name) == (&namespace, &name);
            let all = world.api.incidents.values();
            Ok(all.filter(|incident| incident.closed && of(&incident.policy)).cloned().collect())
        })
        .await?;
    closed.sort_by_key(|incident| std::cmp::Reverse((incident.facts.opened_at, incident.facts.ordinal)));
    for gone in closed.into_iter().skip(policy.history_limit) {
        let place = (gone.policy.namespace.clone(), gone.facts.name.clone());
        operator.ask(Op::Delete, move |world| world.delete_incident(&place, gone.version)).await?;
    }
    Ok(())
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
