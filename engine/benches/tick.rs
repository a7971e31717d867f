//! How long one look at one policy takes: in calm times, and in a breach with a busy database.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a bench that panics has failed"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use engine::State;
use engine::model::{Facts, LockWait, Observed, Snapshot};
use engine::tick;
use support::parse::Traffic;
use support::{builders, world::World};

fn flows(slow: u64) -> Traffic {
    Traffic::Flows { requests: 500.0, slow: Duration::from_millis(slow), in_flight: 20.0, errors: 0.0 }
}

/// The fifth second of a breach with a culprit; nothing may be done about it, so that every guard is asked every time.
fn breached() -> (Snapshot, State) {
    let mut policy = builders::policy();
    let mut errors = policy.objectives[0].clone();
    errors.name = "p99".into();
    policy.objectives.push(errors);
    policy.rungs.push(engine::model::Rung {
        name: "cancel".into(),
        causes: vec!["RunawayQuery".into(), "BlockingQuery".into()],
        action: engine::model::RungAction::CancelQuery(engine::actions::CancelQuerySettings {
            writes: engine::model::UncommittedWrites::RollBack,
            terminate_after: None,
        }),
        mode: None,
        min_severity: engine::model::Severity::P2,
    });
    let mut world = World::new(policy);
    for second in 0..8 {
        let events: &[String] = if second == 1 {
            &["report starts as reporting".to_owned(), "report blocks 30 orders".to_owned()]
        } else {
            &[]
        };
        world.tick_anyhow(Duration::from_secs(second), &flows(if second < 2 { 90 } else { 900 }), events);
    }
    let (last, state) = world.last_tick().expect("it has ticked");
    assert!(!last.situation.findings.is_empty(), "nothing was found: this measures nothing");
    let (mut snapshot, state) = (last.snapshot.clone(), state.clone());
    // As many sessions and waits as a diagnosis snapshot brings at most in earnest.
    if let Some(Observed::Known { value: Facts::Postgres(value), .. }) =
        snapshot.observations.dependencies.get_mut("db")
    {
        let session = value.sessions[0].clone();
        for pid in 1000..1064 {
            let mut other = session.clone();
            other.identity.pid = pid;
            other.identity.query_start = value.clock;
            value.sessions.push(other);
            value.lock_waits.push(LockWait { waiter: pid, blocker: session.identity.pid });
        }
    }
    (snapshot, state)
}

fn calm() -> (Snapshot, State) {
    let mut world = World::new(builders::policy());
    for second in 0..60 {
        world.tick_anyhow(Duration::from_secs(second), &flows(90), &[]);
    }
    let (last, state) = world.last_tick().expect("it has ticked");
    (last.snapshot.clone(), state.clone())
}

fn ticks(criterion: &mut Criterion) {
    for (name, (snapshot, state)) in [("tick-calm", calm()), ("tick-breached", breached())] {
        criterion
            .bench_function(name, |bencher| bencher.iter(|| tick(black_box(&snapshot), black_box(&state))));
    }
}

criterion_group!(benches, ticks);
criterion_main!(benches);
