//! `Precondition`: the action can be carried out as things are. Each action says itself what that means.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, forget, pass,
    refuse_if_known,
};
use crate::actions::Condition;
use crate::model::{Observed, Snapshot, Subject};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Precondition,
    refuses: "when the action's own preconditions do not hold: for CancelQuery the same statement on the same server, an allowed role, no superuser, no maintenance, no protected session, no writer unless allowed, the right to signal; for WarmCache the same remediation and the same cache (a restart makes no other one of it), a primary that takes writes and is not nearly full, a replica of the target that is ready",
    stages: PROPOSE_AND_GATE,
    applies: Applies::Always,
    transient: false,
    while_running: WhileRunning::HoldsIfUnknown,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    /// What the action says.
    Condition(Condition),
    /// The effect's own statement found nothing to do.
    NotMatched { why: String },
    /// A run ended before its first request.
    NothingSent { why: String },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition(condition) => condition.fmt(f),
            Self::NotMatched { why } => write!(f, "at the instant of acting {why}; nothing was done"),
            Self::NothingSent { why } => write!(f, "at the instant of acting {why}; nothing was sent"),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Condition(condition) => condition.forget_numbers(),
            Self::NotMatched { why } | Self::NothingSent { why } => forget(why),
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, _) = context.view()?;
    let candidate = context.candidate;
    match candidate.action.act().precondition(snapshot, candidate) {
        Ok(holds) => pass(Fact::Condition(holds)),
        Err(fails) => {
            refuse_if_known(is_seen(snapshot, &candidate.action.act().subject()), Fact::Condition(*fails))
        }
    }
}

/// Whether what the action is done to could be read.
fn is_seen(snapshot: &Snapshot, subject: &Subject) -> bool {
    let missing = match subject.dependency() {
        None => snapshot.observations.target.missing_because(),
        Some(name) => snapshot.observations.dependencies.get(name).and_then(Observed::missing_because),
    };
    missing.is_none()
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use jiff::Timestamp;

    use super::*;
    use crate::actions::{CancelQuery, CancelQuerySettings, TerminateIdleSettings};
    use crate::model::{
        Action, Dependency, PostgresFacts, RungAction, Session, SessionState, UncommittedWrites, later,
    };
    use std::time::Duration;

    fn refusal(change: impl FnOnce(&mut Setup)) -> Option<String> {
        let mut setup = Setup::acting();
        change(&mut setup);
        refused(&setup, GUARD.name, Stage::Gate)
    }

    fn facts(setup: &mut Setup) -> &mut PostgresFacts {
        setup.postgres()
    }

    fn session(setup: &mut Setup) -> &mut Session {
        &mut facts(setup).sessions[0]
    }

    #[test]
    fn each_precondition_of_cancel_query_refuses_by_itself() {
        assert_eq!(refusal(|_| ()), None);
        type Change = fn(&mut Setup);
        let changes: [(&str, Change); 12] = [
            ("standby", |setup| facts(setup).standby = true),
            ("another server", |setup| facts(setup).server.started_at = Timestamp::MAX),
            ("ended by itself", |setup| {
                let started = session(setup).identity.query_start;
                session(setup).identity.query_start = later(started, Duration::from_micros(1));
            }),
            ("runs no statement", |setup| session(setup).state = SessionState::IdleInTransaction),
            ("works in database", |setup| session(setup).database = "other".into()),
            ("may not be signalled", |setup| session(setup).role = "stranger".into()),
            ("superuser", |setup| session(setup).privileged = true),
            ("protected by the administrator", |setup| {
                setup.snapshot.operator.protected_roles.push("reporting".into());
            }),
            ("latency_protected", |setup| session(setup).protected = true),
            ("maintenance", |setup| session(setup).maintenance = true),
            ("has written", |setup| session(setup).wrote = true),
            ("GRANT pg_signal_backend TO \"Odd Role\"", |setup| {
                facts(setup).may_signal = false;
                facts(setup).grantee = "\"Odd Role\"".into();
            }),
        ];
        for (word, change) in changes {
            let message = refusal(change).unwrap_or_else(|| panic!("{word} was let through"));
            assert!(message.contains(word), "{word}: {message}");
        }
    }

    #[test]
    fn a_writer_passes_where_writers_are_allowed_then_and_now() {
        for (then, now) in [
            (UncommittedWrites::RollBack, UncommittedWrites::RollBack),
            (UncommittedWrites::RollBack, UncommittedWrites::Protect),
            (UncommittedWrites::Protect, UncommittedWrites::RollBack),
        ] {
            let refusal = refusal(|setup| {
                session(setup).wrote = true;
                let Action::CancelQuery(CancelQuery(cancel)) = &mut setup.candidate.action else {
                    panic!("a cancel")
                };
                cancel.writes = then;
                setup.snapshot.policy.rungs[0].action =
                    RungAction::CancelQuery(CancelQuerySettings { writes: now, terminate_after: None });
            });
            assert_eq!(refusal.is_none(), then == now, "{then:?} {now:?}");
        }
    }

    #[test]
    fn the_rung_must_still_be_there_and_do_this_against_this_cause() {
        type Change = fn(&mut Setup);
        let changes: [Change; 4] = [
            |setup| setup.snapshot.policy.rungs.clear(),
            |setup| setup.snapshot.policy.rungs[0].name = "another".into(),
            |setup| setup.snapshot.policy.rungs[0].causes = vec!["BlockingQuery".into()],
            |setup| {
                let min_idle = Duration::ZERO;
                let action = RungAction::TerminateIdle(TerminateIdleSettings {
                    writes: UncommittedWrites::RollBack,
                    min_idle,
                });
                setup.snapshot.policy.rungs[0].action = action;
            },
        ];
        for change in changes {
            assert!(refusal(change).unwrap().contains("has no remediation cancel with CancelQuery"));
        }
    }

    #[test]
    fn the_dependency_must_still_be_the_one_that_was_diagnosed() {
        assert!(refusal(|setup| setup.snapshot.policy.dependencies.clear()).is_some());
        assert!(
            refusal(|setup| {
                let Some(Dependency::Postgres(declared)) = setup.snapshot.policy.dependencies.get_mut("db")
                else {
                    panic!("the setup has a database");
                };
                declared.secret = "another".into();
            })
            .is_some()
        );
    }
}
