//! LatencyBudgets: what an administrator has forbidden stays forbidden unless the very field that forbids says otherwise.
//! What cannot be read forbids.

use latency_operator::api::{LatencyBudget, LatencyPolicy, convert};
use serde_json::{Value, json};

use crate::each::{mutant_of, read};
use crate::policies;
use crate::worlds::ACTING;

const MUTANTS: u64 = 500;

struct Ban {
    forbids: fn(&mut Value),
    /// Whether the changed document allows something by this very field.
    lifted: fn(&Value) -> bool,
}

fn original() -> Value {
    json!({
        "apiVersion": "latency-operator.dev/v1alpha1", "kind": "LatencyBudget",
        "metadata": {"name": "night", "uid": "b", "generation": 1},
        "spec": {
            "namespaces": ["shop", "stock"], "maxActionsPerHour": 10, "maxActionsPerHourAndNamespace": 5, "maxConcurrent": 3,
            "deniedActions": ["Rollback"], "freeze": "None",
            "freezeWindows": [
                {"from": "2025-12-24T00:00:00Z", "until": "2025-12-27T00:00:00Z", "freeze": "New"},
            ],
        },
    })
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
        began && lasts && window["freeze"] != "None"
    };
    !spec["freezeWindows"].as_array().is_some_and(|windows| windows.iter().any(holds))
}

const BANS: &[Ban] = &[
    Ban {
        forbids: |b| b["spec"]["freeze"] = "All".into(),
        lifted: |b| b["spec"].get("freeze").is_none_or(|freeze| freeze == "None"),
    },
    Ban {
        forbids: |b| b["spec"]["freeze"] = "New".into(),
        lifted: |b| b["spec"].get("freeze").is_none_or(|freeze| freeze == "None"),
    },
    Ban {
        forbids: |b| b["spec"]["maxActionsPerHour"] = 0.into(),
        lifted: |b| at_least_one(&b["spec"]["maxActionsPerHour"]),
    },
    Ban {
        forbids: |b| b["spec"]["maxActionsPerHourAndNamespace"] = 0.into(),
        lifted: |b| at_least_one(&b["spec"]["maxActionsPerHourAndNamespace"]),
    },
    Ban {
        forbids: |b| b["spec"]["maxConcurrent"] = 0.into(),
        lifted: |b| at_least_one(&b["spec"]["maxConcurrent"]),
    },
    Ban {
        forbids: |b| {
            b["spec"]["deniedActions"] = json!(["CancelQuery", "TerminateIdle", "Scale", "WarmCache"])
        },
        lifted: |b| {
            let denied = b["spec"]["deniedActions"].as_array().cloned().unwrap_or_default();
            !["CancelQuery", "TerminateIdle", "Scale", "WarmCache"]
                .iter()
                .all(|kind| denied.contains(&json!(kind)))
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
            match read::<LatencyBudget>(mutant) {
                Ok(budget) => world.stage().budgets = vec![convert::budget(&budget)],
                Err(why) => world.stage().unreadable = Some(why),
            }
            let acts = script.finish(&mut world, 0);
            let spec = &mutant.value["spec"];
            let elsewhere = spec["namespaces"]
                .as_array()
                .is_some_and(|names| !names.is_empty() && !names.contains(&json!("shop")));
            let allowed = (ban.lifted)(&mutant.value) || elsewhere;
            assert!(acts.is_empty() || allowed, "{}: {acts:?} although it is forbidden", script.name);
            !acts.is_empty()
        });
    }
    // And one that forbids nothing stops nothing.
    for script in ACTING {
        let mut world = script.until(policy.clone(), Vec::new(), 0);
        let budget: LatencyBudget = serde_json::from_value(original()).expect("a budget");
        world.stage().budgets = vec![convert::budget(&budget)];
        acted += script.finish(&mut world, 0).len();
    }
    assert_eq!(acted, ACTING.len());
}
