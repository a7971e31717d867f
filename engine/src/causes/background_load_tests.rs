//! Workers that hold the database, and what looks like it.

use std::time::Duration;

use super::*;
use crate::causes::diagnose;
use crate::guards::testing::Setup;
use crate::model::{Confidence, Finding, Learning, Memory, NoDataReason, Observed, later};

const SECOND: Duration = Duration::from_secs(1);

/// A breached policy with declared workers, which is looked at every second.
struct Looks {
    setup: Setup,
    state: Memory,
}

impl Looks {
    fn new() -> Self {
        Self { setup: Setup::shedding(), state: Memory::default() }
    }

    /// A second passes, and these sessions are active.
    fn see(&mut self, celery: u32, orders: u32) -> Option<Finding> {
        let now = later(self.setup.now, SECOND);
        self.setup.look_again(now);
        if let Some(Observed::Known { value: crate::model::Facts::Postgres(look), .. }) =
            self.setup.snapshot.observations.dependencies.get_mut("db")
        {
            look.active = celery + orders;
            look.active_by_role = [("celery".into(), celery), ("orders".into(), orders)].into();
        }
        let learning = Learning { window: self.setup.snapshot.policy.evaluation.window, healthy: false };
        for (name, read) in self.setup.snapshot.observations.dependencies.iter() {
            let memory = self.state.dependencies.entry(name.clone()).or_default();
            memory.learn(now, read.as_result().ok(), learning);
        }
        let first = self.setup.situation.breach.as_ref().map_or(now, |breach| breach.first_at);
        let findings = diagnose(&self.setup.snapshot, &self.state, first);
        findings.into_iter().find(|finding| finding.cause == CAUSE.name)
    }
}

#[test]
fn workers_that_hold_most_of_the_database_in_two_looks_are_the_cause() {
    let mut looks = Looks::new();
    assert_eq!(looks.see(6, 2), None, "one look is a burst");
    let found = looks.see(6, 2).unwrap();
    assert_eq!((found.confidence, found.advice), (Confidence::Certain, false));
    let dependency = found.subject.as_ref().and_then(|subject| subject.dependency());
    assert_eq!(dependency, Some("celery"));
    assert_eq!(
        found.sentence,
        "6 of 8 active sessions of db are those of background workers (Deployment/orders-celery, role celery)"
    );
}

#[test]
fn few_sessions_half_of_them_and_the_target_itself_are_innocent() {
    for (celery, orders) in [(3, 0), (4, 4), (2, 20), (0, 20)] {
        let mut looks = Looks::new();
        looks.see(celery, orders);
        assert_eq!(looks.see(celery, orders), None, "{celery} and {orders}");
    }
    let mut looks = Looks::new();
    looks.see(6, 2);
    looks.see(2, 6);
    assert_eq!(looks.see(6, 2), None, "two looks in a row");
}

#[test]
fn workers_that_were_busy_long_before_the_breach_have_not_caused_it() {
    let mut looks = Looks::new();
    looks.see(6, 2);
    let hour = later(looks.setup.now, 3600 * SECOND);
    looks.setup.look_again(hour);
    looks.setup.situation.breach.as_mut().unwrap().first_at = hour;
    assert_eq!(looks.see(6, 2).unwrap().confidence, Confidence::Possible);
}

#[test]
fn what_cannot_be_read_in_full_says_nothing() {
    let mut looks = Looks::new();
    looks.see(6, 2);
    looks.setup.postgres().coverage = Coverage::Partial { grant: "GRANT".into() };
    assert_eq!(looks.see(6, 2), None);
    looks.setup.postgres().coverage = Coverage::Full;
    let missing = Observed::missing(NoDataReason::Timeout, "no answer");
    looks.setup.snapshot.observations.dependencies.insert("db".into(), missing);
    assert_eq!(looks.see(6, 2), None);
}

#[test]
fn they_are_found_although_their_workload_cannot_be_read() {
    let mut looks = Looks::new();
    let missing = Observed::missing(NoDataReason::NotFound, "it does not exist");
    looks.setup.snapshot.observations.dependencies.insert("celery".into(), missing);
    looks.see(6, 2);
    assert!(looks.see(6, 2).is_some(), "people want to know");
}
