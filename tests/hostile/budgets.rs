//! RemediationBudgets: what an administrator has forbidden stays forbidden unless the very field that forbids says otherwise.
//! What cannot be read forbids.

use std::collections::BTreeMap;

use latency_operator::api::{LatencyPolicy, RemediationBudget, convert};
use serde_json::{Value, json};

use crate::each::{mutant_of, read};
use crate::policies;
use crate::worlds::ACTING;

const MUTANTS: u64 = 500;
const ACTIONS: [&str; 4] = ["CancelQuery", "TerminateIdle", "Scale", "WarmCache"];

struct Ban {
    forbids: fn(&mut Value),
    /// Whether the changed document allows something by this very field.
    lifted: fn(&Value) -> bool,
}

fn original() -> Value {
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "RemediationBudget",
        "metadata": {"name": "night", "uid": "b", "generation": 1},
        "spec": {
            "namespaceSelector": {
                "matchLabels": {"tier": "production"},
                "matchExpressions": [{"key": "tier", "operator": "In", "values": ["production", "staging"]}],
            },
            "maxActionsPerHour": 10, "maxConcurrent": 3,
            "perNamespace": {"maxActionsPerHour": 5, "maxConcurrent": 2},
            "deniedActions": ["Rollback"], "maxMode": [{"action": "CancelQuery", "mode": "Auto"}],
            "freeze": {"type": "None"},
            "freezeWindows": [
                {"name": "xmas", "from": "2025-12-24T00:00:00Z", "until": "2025-12-27T00:00:00Z", "type": "Actions"},
            ],
        },
    })
}

/// The namespace of the world has one label.
fn labels() -> convert::NamespaceLabels {
    let tier = BTreeMap::from([("tier".to_owned(), "production".to_owned())]);
    BTreeMap::from([("shop".to_owned(), tier)])
}

/// Whether a selector that can be understood leaves the namespace of the world out.
fn selects_others(selector: &Value) -> bool {
    let is_tier = |key: &Value| key == "tier";
    let matches = |requirement: &Value| {
        let values = requirement["values"].as_array().cloned().unwrap_or_default();
        let known = is_tier(&requirement["key"]);
        match (requirement["operator"].as_str().unwrap_or_default(), values.is_empty()) {
            ("In", false) => Some(known && values.contains(&json!("production"))),
            ("NotIn", false) => Some(!known || !values.contains(&json!("production"))),
            ("Exists", true) => Some(known),
            ("DoesNotExist", true) => Some(!known),
            _ => None,
        }
    };
    let requirements = selector["matchExpressions"].as_array().cloned().unwrap_or_default();
    let answers: Vec<Option<bool>> = requirements.iter().map(matches).collect();
    let labels = selector["matchLabels"].as_object().cloned().unwrap_or_default();
    let mut differs = labels.iter().map(|(key, value)| key != "tier" || value != "production");
    !answers.contains(&None) && (differs.any(|differs| differs) || answers.contains(&Some(false)))
}

fn at_least_one(value: &Value) -> bool {
    value.is_null() || value.as_i64().is_some_and(|most| most > 0)
}

/// A window holds now where it has begun and has not ended: the world begins at 03:00:00 and ends before 03:01:00.
fn no_window(spec: &Value) -> bool {
    let holds = |window: &Value| {
        let time = |name: &str| window[name].as_str().unwrap_or_default().parse::<jiff::Timestamp>();
        let begins = "2026-01-01T03:00:00Z".parse::<jiff::Timestamp>().expect("a time");
        let began = time("from").is_ok_and(|from| from <= begins);
        // Beyond the calendar is for ever.
        let lasts = time("until").map_or(true, |until| until.as_second() > begins.as_second() + 60);
        began && lasts && window["type"] != "None"
    };
    !spec["freezeWindows"].as_array().is_some_and(|windows| windows.iter().any(holds))
}

const BANS: &[Ban] = &[
    Ban {
        forbids: |b| b["spec"]["freeze"]["type"] = "ActionsAndRollbacks".into(),
        lifted: |b| b["spec"]["freeze"].get("type").is_none_or(|freeze| freeze == "None"),
    },
    Ban {
        forbids: |b| b["spec"]["freeze"]["type"] = "Actions".into(),
        lifted: |b| b["spec"]["freeze"].get("type").is_none_or(|freeze| freeze == "None"),
    },
    Ban {
        forbids: |b| b["spec"]["maxActionsPerHour"] = 0.into(),
        lifted: |b| at_least_one(&b["spec"]["maxActionsPerHour"]),
    },
    Ban {
        forbids: |b| b["spec"]["perNamespace"]["maxActionsPerHour"] = 0.into(),
        lifted: |b| at_least_one(&b["spec"]["perNamespace"]["maxActionsPerHour"]),
    },
    Ban {
        forbids: |b| b["spec"]["perNamespace"]["maxConcurrent"] = 0.into(),
        lifted: |b| at_least_one(&b["spec"]["perNamespace"]["maxConcurrent"]),
    },
    Ban {
        forbids: |b| {
            let observe = |action: &&str| json!({"action": action, "mode": "Observe"});
            b["spec"]["maxMode"] = ACTIONS.iter().map(observe).collect();
        },
        lifted: |b| {
            let all = b["spec"]["maxMode"].as_array().cloned().unwrap_or_default();
            let limited =
                |action: &str| all.iter().any(|max| max["action"] == *action && max["mode"] != "Auto");
            !ACTIONS.iter().all(|action| limited(action))
        },
    },
    Ban {
        forbids: |b| b["spec"]["maxConcurrent"] = 0.into(),
        lifted: |b| at_least_one(&b["spec"]["maxConcurrent"]),
    },
    Ban {
        forbids: |b| b["spec"]["deniedActions"] = json!(ACTIONS),
        lifted: |b| {
            let denied = b["spec"]["deniedActions"].as_array().cloned().unwrap_or_default();
            !ACTIONS.iter().all(|kind| denied.contains(&json!(kind)))
        },
    },
    Ban {
        forbids: |b| b["spec"]["freezeWindows"][0]["until"] = "9999-12-31T23:59:59Z".into(),
        lifted: |b| no_window(&b["spec"]),
    },
];

#[test]
fn what_is_forbidden_stays_forbidden() {
    let object: LatencyPolicy = serde_json::from_value(policies::original()).expect("a policy");
    let policy = convert::policy(&object).expect("a valid policy");
    let mut acted = 0;
    for ban in BANS {
        let mut forbidding = original();
        (ban.forbids)(&mut forbidding);
        assert!(!(ban.lifted)(&forbidding), "it forbids nothing: {forbidding}");
        mutant_of(&forbidding, MUTANTS, |seed, mutant| {
            let script = &ACTING[usize::try_from(seed).expect("a number") % ACTING.len()];
            let mut world = script.until(policy.clone(), Vec::new(), 0);
            // As the operator keeps them: what cannot be read stops everything.
            match read::<RemediationBudget>(mutant) {
                Ok(budget) => world.stage().budgets = vec![convert::budget(&budget).among(&labels())],
                Err(why) => world.stage().unreadable = Some(why),
            }
            let acts = script.finish(&mut world, 0);
            let spec = &mutant.value["spec"];
            let allowed = (ban.lifted)(&mutant.value) || selects_others(&spec["namespaceSelector"]);
            assert!(acts.is_empty() || allowed, "{}: {acts:?} although it is forbidden", script.name);
            !acts.is_empty()
        });
    }
    // And one that forbids nothing stops nothing.
    for script in ACTING {
        let mut world = script.until(policy.clone(), Vec::new(), 0);
        let budget: RemediationBudget = serde_json::from_value(original()).expect("a budget");
        world.stage().budgets = vec![convert::budget(&budget).among(&labels())];
        acted += script.finish(&mut world, 0).len();
    }
    assert_eq!(acted, ACTING.len());
}
