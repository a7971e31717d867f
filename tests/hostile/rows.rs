//! What a PostgreSQL server answers, as it may answer if its owner or a client of it means harm: through the code that turns
//! rows into facts, and then through causes, guards and `tick`.

use std::collections::BTreeSet;
use std::time::Duration;

use engine::State;
use engine::model::{
    Action, ActionKind, Facts, NoData, NoDataReason, Observations, Observed, OperatorHealth, Policy,
    PostgresFacts, Snapshot, Target, later,
};
use engine::tick;
use jiff::Timestamp;
use latency_operator::api::{LatencyPolicy, convert};
use latency_operator::observe::postgres::understood;
use serde_json::{Value, json};

use crate::each::{can_be_told, mutant_of};
use crate::mutate::Mutant;
use crate::policies;
use crate::support::builders;

const MUTANTS: u64 = 3_500;
const LAST: u64 = 12;

/// Microseconds since 1970 of that second of the story.
fn at(second: i64) -> i64 {
    builders::start().as_microsecond() + second * 1_000_000
}

/// A session; `since` is when its statement began.
fn session(pid: i32, role: &str, since: i64, change: impl FnOnce(&mut Value)) -> Value {
    let mut session = json!({
        "pid": pid, "database": "orders", "role": role, "application": "gunicorn", "state": "active",
        "waits_for_lock": false, "backend_start": at(-600), "xact_start": at(since), "query_start": at(since),
        "state_change": at(since), "wait_start": null, "wrote": false, "xmin_age": 5, "privileged": false,
        "maintenance": false, "protected": false, "fingerprint": format!("q{pid}"),
    });
    change(&mut session);
    session
}

/// Those whom nobody may touch: of other roles, protected, at maintenance, idle, and young ones.
fn bystanders() -> Vec<Value> {
    vec![
        session(201, "stranger", 5, |_| ()),
        session(202, "postgres", 5, |s| s["privileged"] = true.into()),
        session(203, "reporting", 5, |s| s["protected"] = true.into()),
        session(204, "reporting", 5, |s| s["maintenance"] = true.into()),
        session(205, "orders", 5, |s| s["state"] = "idle".into()),
        session(206, "stranger", 1, |s| s["state"] = "idle in transaction".into()),
    ]
}

/// Three stories, with the one session in each that is the culprit.
fn stories() -> Vec<(Value, i32)> {
    let answer = |culprit: Vec<Value>, waits: &Value, active: f64| {
        let sessions = [culprit, bystanders()].concat();
        json!({
            "clock": at(0), "started": at(-86_400), "standby": false, "system_identifier": "7000", "database": "orders",
            "user": "latency_operator", "quoted_user": "latency_operator", "reads_all": true, "may_signal": true,
            "usable_slots": 97, "used_slots": 12, "untracked": 0, "active_seconds": active, "active": 5,
            "active_by_role": {"reporting": 3, "orders": 2}, "waiting": 0, "lock_waits": waits, "sessions": sessions,
        })
    };
    let waiter = |pid| {
        session(pid, "orders", 3, |s| {
            s["waits_for_lock"] = true.into();
            s["wait_start"] = at(3).into();
        })
    };
    let holder = |state: &'static str| {
        session(101, "reporting", 2, |s| {
            s["wrote"] = true.into();
            s["state"] = state.into();
        })
    };
    let waits = json!([[301, 101], [302, 101], [302, 301]]);
    vec![
        (answer(vec![session(101, "reporting", 2, |_| ())], &json!([]), 5.0), 101),
        (answer(vec![holder("active"), waiter(301), waiter(302)], &waits, 60.0), 101),
        (answer(vec![holder("idle in transaction"), waiter(301), waiter(302)], &waits, 60.0), 101),
    ]
}

fn policy() -> Policy {
    let mut object = policies::original();
    // The threshold of age does not decide here, the rows do.
    object["spec"]["diagnosis"]["thresholds"] = json!([{"cause": "RunawayQuery", "olderThan": "4s"}]);
    let object: LatencyPolicy = serde_json::from_value(object).expect("a policy");
    convert::policy(&object).expect("a valid policy")
}

fn read(answer: &Value) -> Result<PostgresFacts, NoData> {
    let read = understood(&answer.to_string(), 150_000, "10.0.0.1:5432".to_owned());
    match &read {
        Ok(facts) => are_bounded(facts),
        Err(no_data) => {
            assert_eq!(no_data.reason, NoDataReason::BadAnswer);
            assert!(can_be_told(&no_data.detail), "this cannot be told: {}", no_data.detail);
        }
    }
    read
}

/// The same answer at that second: only its clock has gone on.
fn at_second(read: &Result<PostgresFacts, NoData>, second: u64) -> Observed<PostgresFacts> {
    match read.clone() {
        Ok(mut facts) => {
            facts.clock = later(facts.clock, Duration::from_secs(second));
            Observed::Known { at: now(second), value: facts }
        }
        Err(no_data) => Observed::Missing(no_data),
    }
}

/// Whatever a server calls its things, it goes into objects and logs as a short name.
fn are_bounded(facts: &PostgresFacts) {
    let server =
        [&facts.server.system_identifier, &facts.server.database, &facts.connected_as, &facts.grantee];
    let sessions = facts.sessions.iter().flat_map(|s| [&s.role, &s.database, &s.application, &s.fingerprint]);
    for name in server.into_iter().chain(sessions) {
        assert!(name.chars().count() <= 200 && !name.contains(char::is_control), "a name: {name:?}");
    }
    assert!(facts.active_seconds.is_finite() && facts.active_seconds >= 0.0, "{}", facts.active_seconds);
}

fn now(second: u64) -> Timestamp {
    later(builders::start(), Duration::from_secs(second))
}

fn snapshot(policy: &Policy, facts: Observed<PostgresFacts>, second: u64) -> Snapshot {
    let now = now(second);
    let slow = Duration::from_millis(if second < 3 { 90 } else { 900 });
    let traffic = Observed::Known { at: now, value: builders::traffic(now, 500.0, slow, 20.0, 0.0).into() };
    let target = Target { uid: "t".into(), workload: None, opt_out: None };
    let operator = OperatorHealth {
        leading_since: builders::start(),
        api_contact_at: now,
        api_contact_within: Duration::from_secs(10),
        enabled_actions: vec![ActionKind::CancelQuery, ActionKind::TerminateIdle, ActionKind::Scale].into(),
        protected_roles: vec!["postgres".into()].into(),
    };
    let mut observations = Observations::new(Observed::Known { at: now, value: target });
    observations.measurements = policy.objectives.iter().map(|o| (o.name.clone(), traffic.clone())).collect();
    observations.dependencies.insert("db".to_owned(), facts.map(Facts::from));
    Snapshot::new(now, policy.clone(), observations, operator)
}

/// Everything that is proposed while the answer stays like this.
fn proposed(policy: &Policy, answer: &Value) -> Vec<Action> {
    let read = read(answer);
    let mut state = State::default();
    let mut incident = None;
    let mut actions = Vec::new();
    for second in 0..LAST {
        let mut snapshot = snapshot(policy, at_second(&read, second), second);
        snapshot.incident.clone_from(&incident);
        let ticked = tick(&snapshot, &state);
        incident.clone_from(&ticked.situation.incident);
        for record in &ticked.records {
            let said = record.sentence();
            assert!(
                said.chars().count() <= 4_000 && !said.contains(char::is_control),
                "it is said: {said:?}"
            );
        }
        actions.extend(ticked.proposals.into_iter().map(|proposal| proposal.candidate.action));
        state = ticked.state;
    }
    actions
}

/// A name as it is kept.
fn name(raw: &Value) -> String {
    raw.as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).take(64).collect()
}

/// Whether the rows themselves allow that this session is hit, read without any code of the operator.
fn rows_allow(answer: &Value, action: &Action) -> bool {
    let effect = action.act().effect();
    let Some(target) = effect.session() else { return false };
    let session = &target.session;
    let state = if matches!(action, Action::TerminateIdle(_)) { "idle in transaction" } else { "active" };
    let fits = |row: &Value| {
        row["pid"] == session.pid
            && row["query_start"] == session.query_start.as_microsecond()
            && row["backend_start"] == session.backend_start.as_microsecond()
            && ["orders", "reporting"].contains(&name(&row["role"]).as_str())
            && row["state"].as_str().is_some_and(|known| known.starts_with(state))
            && [&row["privileged"], &row["maintenance"], &row["protected"]].iter().all(|no| **no == false)
            && name(&row["database"]) == name(&answer["database"])
            && row["waits_for_lock"] == false
    };
    answer["standby"] == false
        && answer["may_signal"] == true
        && answer["sessions"].as_array().is_some_and(|rows| rows.iter().any(fits))
}

/// Whether what was changed is a row of that pid, or something that decides who is a culprit.
fn is_about(mutant: &Mutant, pid: i32) -> bool {
    let rows = mutant.value["sessions"].as_array().cloned().unwrap_or_default();
    mutant.touched.iter().any(|place| {
        let index =
            place.strip_prefix("sessions[").and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
        match index {
            Some(index) => rows.get(index).is_some_and(|row| row["pid"] == pid),
            None => ["sessions", "lock_waits", "clock", "active_seconds"]
                .iter()
                .any(|field| place.starts_with(field)),
        }
    })
}

#[test]
fn no_row_leads_to_a_session_that_its_own_state_protects() {
    let policy = policy();
    for (story, culprit) in stories() {
        let usual: BTreeSet<i32> = proposed(&policy, &story)
            .iter()
            .filter_map(|a| Some(a.act().effect().session()?.session.pid))
            .collect();
        assert_eq!(usual, BTreeSet::from([culprit]));
        let accepted = mutant_of(&story, MUTANTS, |_, mutant| {
            let actions = proposed(&policy, &mutant.value);
            for action in &actions {
                assert!(rows_allow(&mutant.value, action), "the rows do not allow {action:?}");
                let pid = action.act().effect().session().map_or(0, |target| target.session.pid);
                assert!(
                    usual.contains(&pid) || is_about(mutant, pid),
                    "pid {pid} is hit, and nothing is new about it"
                );
            }
            !actions.is_empty()
        });
        assert!(accepted > 100 || std::env::var("MUTANT").is_ok(), "only {accepted} lead to anything");
    }
}
