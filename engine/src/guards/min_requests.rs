//! `MinRequests`: a handful of requests is an anecdote.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, forget, pass, refuse,
};
use crate::judge::MIN_REQUESTS;
use crate::model::BreachKind;

pub(super) const GUARD: Guard = Guard {
    name: GuardName::MinRequests,
    refuses: "when no broken objective has 50 requests in its window (a standstill is judged by its usual window instead, a probe by its one request)",
    stages: PROPOSE_AND_GATE,
    applies: Applies::Always,
    transient: true,
    while_running: WhileRunning::NotAsked,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    ProbeIsBroken,
    RequestsHang,
    /// The most that a broken objective has in its window. Rates are extrapolated: it need not be a whole number.
    Requests {
        most: f64,
        needed: u64,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProbeIsBroken => f.write_str("a probe is broken; its one request is enough"),
            Self::RequestsHang => f.write_str("requests hang; the usual window has enough of them"),
            Self::Requests { most, needed } => {
                write!(f, "{most:.0} requests in the window, {needed} are needed")
            }
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Requests { most, needed } => {
                forget(most);
                forget(needed);
            }
            Self::ProbeIsBroken | Self::RequestsHang => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, situation) = context.view()?;
    let needed = MIN_REQUESTS;
    let mut most: f64 = 0.0;
    for reading in &situation.readings {
        if reading.breach().is_some() && snapshot.policy.probes().any(|(name, _)| name == reading.objective) {
            return pass(Fact::ProbeIsBroken);
        }
        match reading.breach().map(|breach| breach.kind) {
            Some(BreachKind::Hanging) => return pass(Fact::RequestsHang),
            Some(BreachKind::Slow | BreachKind::Errors) => {
                most = most.max(reading.measured.as_ref().map_or(0.0, |measured| measured.requests));
            }
            None => {}
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
    let enough = most >= needed as f64 && most > 0.0;
    let fact = Fact::Requests { most, needed };
    if enough { pass(fact) } else { refuse(fact) }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use std::time::Duration;

    use crate::model::{Breach, ProbeSource, Scheme, Severity, Source, Verdict};

    #[test]
    fn few_requests_refuse_unless_they_hang() {
        let mut setup = Setup::acting();
        assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None);
        setup.situation.readings[0].measured.as_mut().unwrap().requests = 49.0;
        let message = refused(&setup, GUARD.name, Stage::Propose);
        assert_eq!(message.as_deref(), Some("49 requests in the window, 50 are needed"));
        setup.situation.readings[0].verdict =
            Verdict::Breached(Breach { kind: BreachKind::Hanging, severity: Severity::P1 });
        assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None);
    }

    #[test]
    fn one_request_of_a_broken_probe_is_enough() {
        let mut setup = Setup::acting();
        setup.situation.readings[0].measured.as_mut().unwrap().requests = 1.0;
        assert!(refused(&setup, GUARD.name, Stage::Propose).is_some());
        setup.snapshot.policy.objectives[0].source = Source::Probe(ProbeSource {
            service: "orders-api".into(),
            port: "http".into(),
            path: "/".into(),
            timeout: Duration::from_secs(3),
            scheme: Scheme::Http,
            failures: 1,
            of: 1,
        });
        assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None);
        setup.situation.readings[0].verdict = Verdict::Healthy;
        assert!(refused(&setup, GUARD.name, Stage::Propose).is_some(), "what is kept is no reason");
    }
}
