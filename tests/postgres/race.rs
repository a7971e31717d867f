//! Statements that end at any moment: whoever is cancelled is the one who was meant.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::advance::EffectReport;
use engine::model::{SessionIdentity, SessionTarget, Writers};
use latency_operator::observe::postgres::snapshot;
use tokio::task::JoinHandle;

use crate::support::{Client, OPERATOR, World, cancel_on, fence, instant, shown};

const VICTIMS: usize = 4;
const ROUNDS: usize = 1000;

/// A session that runs one short statement after the other, each with its number, and notes which were cancelled.
struct Victim {
    pid: i32,
    task: JoinHandle<(BTreeSet<u32>, u32)>,
}

fn victim(mut client: Client, stop: Arc<AtomicBool>) -> Victim {
    let pid = client.pid;
    let task = tokio::spawn(async move {
        let (mut cancelled, mut number) = (BTreeSet::new(), 0);
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            // Some end before the signal, some while it is under way, some only by it.
            let seconds = f64::from(number % 12) * 0.0005;
            match client.attempt(&format!("/* {number} */ select pg_sleep({seconds})")).await {
                Ok(()) => {}
                Err(error) if error.contains("user request") => {
                    cancelled.insert(number);
                }
                Err(error) => panic!("statement {number}: {error}"),
            }
        }
        (cancelled, number)
    });
    Victim { pid, task }
}

/// The statement that a victim runs, with its number; `None` between two of them.
async fn aim(eye: &mut Client, pid: i32) -> Option<(SessionIdentity, u32)> {
    let sql = format!(
        "select (select concat_ws(' ', {}, {}, substring(query from '^/. ([0-9]+) ')) from pg_stat_activity where pid = \
         {pid} and state = 'active')",
        shown("backend_start"),
        shown("query_start"),
    );
    let answer = eye.ask(&sql).await;
    let mut words = answer.split(' ');
    let (backend_start, query_start) =
        (instant(words.next().filter(|w| !w.is_empty())?), instant(words.next()?));
    Some((SessionIdentity { pid, backend_start, query_start }, words.next()?.parse().ok()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_innocent_statement_is_cancelled() {
    let world = World::start().await;
    let connection = world.connection(OPERATOR);
    let stop = Arc::new(AtomicBool::new(false));
    let mut victims = Vec::new();
    for _ in 0..VICTIMS {
        victims.push(victim(world.client("orders").await, stop.clone()));
    }
    let mut eye = world.superuser().await;
    let facts = snapshot(&connection).await.expect("facts");
    let mut meant = BTreeSet::new();
    let mut rounds = 0;
    while rounds < ROUNDS {
        let pid = victims[rounds % VICTIMS].pid;
        let Some((session, number)) = aim(&mut eye, pid).await else { continue };
        rounds += 1;
        let cancel = SessionTarget {
            dependency: "db".to_owned(),
            secret: "orders-db".to_owned(),
            server: facts.server.clone(),
            session,
            role: "orders".to_owned(),
            fingerprint: String::new(),
            writers: Writers::Deny,
        };
        match cancel_on(&connection, &cancel, &[], fence(&facts)).await {
            EffectReport::Sent => {
                meant.insert((pid, number));
            }
            EffectReport::NotMatched(_) => {}
            report @ (EffectReport::Refused(_) | EffectReport::Lost(_)) => panic!("{report:?}"),
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (mut hit, mut statements) = (BTreeSet::new(), 0);
    for victim in victims {
        let (cancelled, run) = victim.task.await.expect("no panic");
        hit.extend(cancelled.into_iter().map(|number| (victim.pid, number)));
        statements += run;
    }
    let wrong: Vec<_> = hit.difference(&meant).collect();
    let numbers = format!(
        "{ROUNDS} rounds, {statements} statements, {} signals, {} cancelled, {} of them wrong: {wrong:?}",
        meant.len(),
        hit.len(),
        wrong.len()
    );
    // PostgreSQL signals a process, not a statement: one that ends between the last look and the signal, which
    // follows at once, hands it on.
    assert!(wrong.len() * 100 <= hit.len(), "{numbers}");
    assert!(hit.len() >= ROUNDS / 10 && meant.len() < ROUNDS, "this shows nothing: {numbers}");
}
