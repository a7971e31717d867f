//! What a policy asks for and the administrator has switched off.

use engine::model::{ActionKind, Policy, Rung};

use super::{MOST_PROBLEMS, Problem};
use crate::api::actions;

/// The fields of the policy's rungs that ask for an action that is not among the enabled ones.
#[must_use]
pub fn switched_off(policy: &Policy, enabled: &[ActionKind]) -> Vec<Problem> {
    let off = |rung: &Rung| -> Vec<Problem> {
        let off = rung.action.settings().permissions().iter().filter(|kind| !enabled.contains(kind));
        off.map(|kind| problem(rung, *kind)).collect()
    };
    let mut problems: Vec<Problem> = policy.rungs.iter().flat_map(off).collect();
    let more = problems.len().saturating_sub(MOST_PROBLEMS);
    problems.truncate(MOST_PROBLEMS);
    if more > 0 {
        let message = format!("{more} more fields ask for actions that are switched off");
        problems.push(Problem::new("spec.remediations", message));
    }
    problems
}

fn problem(rung: &Rung, kind: ActionKind) -> Problem {
    let path = format!("spec.remediations[{}].action", rung.name);
    // What an entry does besides what its type says, another field of it asks for.
    let besides = actions::besides(&rung.action, kind).filter(|_| kind != rung.action.kind());
    let (field, fix) = match besides {
        Some(field) => (field, "leave the field out"),
        None => ("type".to_owned(), "remove this remediation"),
    };
    let message = format!(
        "{kind} is switched off in the operator's configuration (actions); {fix}, or have the administrator switch it on"
    );
    Problem::new(format!("{path}.{field}"), message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{LatencyPolicy, convert};

    fn off(rungs: &serde_json::Value, enabled: &[ActionKind]) -> Vec<String> {
        let object: LatencyPolicy = serde_json::from_value(json!({
            "metadata": {"name": "p"}, "spec": {"targetRef": {"name": "t"}, "remediations": rungs},
        }))
        .unwrap();
        let policy = convert::policy(&object).unwrap();
        switched_off(&policy, enabled).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_field_that_asks_for_it_is_named_with_the_way_out() {
        let cancel = json!({"type": "CancelQuery", "cancelQuery": {"terminateAfter": "20s"}});
        let rungs = json!([
            {"name": "cancel", "causes": ["RunawayQuery"], "action": cancel},
            {"name": "plain", "causes": ["RunawayQuery"], "action": {"type": "CancelQuery", "cancelQuery": {}}},
            {"name": "grow", "causes": ["WorkersSaturated"], "action": {"type": "Scale", "scale": {"maxReplicas": 4}}},
        ]);
        let all = engine::actions::ACTIONS.iter().map(|line| line.kind).collect::<Vec<_>>();
        assert_eq!(off(&rungs, &all), [""; 0]);
        // Whoever forbids that sessions are ended means those too whose statement was cancelled in vain.
        let words = "is switched off in the operator's configuration (actions);";
        let switch = "or have the administrator switch it on";
        let path = |name: &str, field: &str| format!("spec.remediations[{name}].action.{field}");
        assert_eq!(
            off(&rungs, &[ActionKind::CancelQuery]),
            [
                format!(
                    "{}: TerminateIdle {words} leave the field out, {switch}",
                    path("cancel", "cancelQuery.terminateAfter")
                ),
                format!("{}: Scale {words} remove this remediation, {switch}", path("grow", "type")),
            ]
        );
        assert_eq!(off(&rungs, &[]).len(), 4);
    }

    #[test]
    fn what_the_rung_may_come_to_needs_what_its_acts_need() {
        let cancel = json!({"type": "CancelQuery", "cancelQuery": {"terminateAfter": "20s"}});
        let rungs = json!([{"name": "cancel", "causes": ["RunawayQuery"], "action": cancel}]);
        assert_eq!(off(&rungs, &[ActionKind::CancelQuery, ActionKind::TerminateIdle]), [""; 0]);
        assert_eq!(off(&rungs, &[ActionKind::TerminateIdle]).len(), 1);
    }

    #[test]
    fn they_are_bounded_in_number() {
        let rung = |number: u8| json!({"name": format!("n{number}"), "causes": ["RunawayQuery"], "action": {"type": "CancelQuery", "cancelQuery": {}}});
        let rungs: Vec<_> = (0..30).map(rung).collect();
        let problems = off(&json!(rungs), &[]);
        assert_eq!(problems.len(), MOST_PROBLEMS + 1);
        assert_eq!(
            problems.last().map(String::as_str),
            Some("spec.remediations: 10 more fields ask for actions that are switched off")
        );
    }
}
