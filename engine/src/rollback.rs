//! Changes: what an effect leaves in the world, how the world stands to it, and how it is taken back step by step.
//!
//! When a step may be taken is decided in `advance/undo.rs`, which knows no kind of change.

use std::fmt;

use crate::effects::{Effect, Inspection, SetReplicas};
use crate::model::{Change, ReplicasChange, WorkloadNow};

/// What an effect leaves, if it leaves something that can be taken back.
pub(crate) fn change(effect: &Effect) -> Option<Change> {
    match effect {
        Effect::SetReplicas(set) => {
            Some(Change::Replicas(ReplicasChange { baseline: set.from, wrote: set.to, writing: None }))
        }
        Effect::SignalSession(_) | Effect::SendRequests(_) => None,
    }
}

/// A change together with what it was made to, if it is one that the effect leaves.
pub(crate) fn revert<'a>(effect: &'a Effect, change: &'a Change) -> Option<Box<dyn Revert + 'a>> {
    match (effect, change) {
        (Effect::SetReplicas(set), Change::Replicas(change)) => Some(Box::new(Replicas { set, change })),
        (Effect::SignalSession(_) | Effect::SendRequests(_), Change::Replicas(_)) => None,
    }
}

/// How much of a change a step takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// All of it at once.
    AtOnce,
    /// So much.
    By(u32),
}

/// Where a value stands, on the way from the one before the change to the one that we wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// On the far side of the value before the change.
    Short,
    /// The value before the change.
    Before,
    /// Between the two.
    Between,
    /// The value that we wrote last.
    Wrote,
    /// Further than we wrote.
    Beyond,
}

/// How the world stands to a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stands {
    /// What was changed does not exist any more; in words.
    Gone(&'static str),
    /// There is a value.
    At {
        /// Nobody else has set it since.
        ours: bool,
        /// Which value.
        place: Place,
    },
}

/// What every kind of change answers for.
pub(crate) trait Revert {
    /// What was changed, for people.
    fn thing(&self) -> &dyn fmt::Display;
    /// How the world stands to it; nothing where the inspection shows something else.
    fn stands(&self, inspection: &Inspection) -> Option<Stands>;
    /// The step that is written down.
    fn step(&self) -> Option<Effect>;
    /// The change with the next step written down, and that step's value; nothing where nothing of the change is left.
    fn next(&self, pace: Pace) -> Option<(Change, String)>;
    /// How much of it is left.
    fn left(&self) -> u32;
    /// Whether taking it back gives capacity back, which the effect took away.
    fn gives_back(&self) -> bool;
    /// The change once a step has arrived.
    fn arrived(&self, inspection: &Inspection) -> Option<Change>;
    /// The change with no step written down.
    fn at_rest(&self) -> Change;

    /// The value before the change.
    fn before(&self) -> String;
    /// The value that we wrote last.
    fn wrote(&self) -> String;
    /// What the values count.
    fn unit(&self) -> &'static str;
    /// Who has set which value since, in words.
    fn set_by_others(&self, inspection: &Inspection) -> String;
}

/// A changed number of replicas.
struct Replicas<'a> {
    set: &'a SetReplicas,
    change: &'a ReplicasChange,
}

impl Replicas<'_> {
    fn place(&self, now: u32) -> Place {
        let ReplicasChange { baseline, wrote, .. } = *self.change;
        let (from, to) = if wrote < baseline { (wrote, baseline) } else { (baseline, wrote) };
        if now == wrote {
            Place::Wrote
        } else if now == baseline {
            Place::Before
        } else if (from..to).contains(&now) {
            Place::Between
        } else if (now > baseline) == (wrote > baseline) {
            Place::Beyond
        } else {
            Place::Short
        }
    }

    fn workload<'a>(&self, inspection: &'a Inspection) -> Option<&'a WorkloadNow> {
        match inspection {
            Inspection::Workload(now) => Some(now),
            Inspection::Gone | Inspection::Running | Inspection::Unreadable(_) => None,
        }
    }
}

impl Revert for Replicas<'_> {
    fn thing(&self) -> &dyn fmt::Display {
        &self.set.target
    }

    fn stands(&self, inspection: &Inspection) -> Option<Stands> {
        match inspection {
            Inspection::Gone | Inspection::Running => Some(Stands::Gone("gone")),
            Inspection::Workload(now) if now.uid != self.set.uid => Some(Stands::Gone("another one now")),
            Inspection::Workload(now) => {
                Some(Stands::At { ours: now.is_ours(), place: self.place(now.replicas) })
            }
            Inspection::Unreadable(_) => None,
        }
    }

    fn step(&self) -> Option<Effect> {
        let to = self.change.writing?;
        Some(Effect::SetReplicas(SetReplicas { from: self.change.wrote, to, ..self.set.clone() }))
    }

    fn next(&self, pace: Pace) -> Option<(Change, String)> {
        let ReplicasChange { baseline, wrote, .. } = *self.change;
        let step = match pace {
            Pace::AtOnce => self.left(),
            Pace::By(step) => step.min(self.left()),
        };
        let to = if wrote < baseline { wrote.saturating_add(step) } else { wrote.saturating_sub(step) };
        let next = Change::Replicas(ReplicasChange { baseline, wrote, writing: Some(to) });
        (to != wrote).then(|| (next, to.to_string()))
    }

    fn left(&self) -> u32 {
        self.change.wrote.abs_diff(self.change.baseline)
    }

    fn gives_back(&self) -> bool {
        self.set.takes_away()
    }

    fn arrived(&self, inspection: &Inspection) -> Option<Change> {
        let wrote = self.workload(inspection)?.replicas;
        Some(Change::Replicas(ReplicasChange { wrote, writing: None, ..*self.change }))
    }

    fn at_rest(&self) -> Change {
        Change::Replicas(ReplicasChange { writing: None, ..*self.change })
    }

    fn before(&self) -> String {
        self.change.baseline.to_string()
    }

    fn wrote(&self) -> String {
        self.change.wrote.to_string()
    }

    fn unit(&self) -> &'static str {
        "replicas"
    }

    fn set_by_others(&self, inspection: &Inspection) -> String {
        match self.workload(inspection) {
            Some(now) => format!("{} has set {} replicas", now.others(), now.replicas),
            None => "somebody has changed it".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FieldManager, MANAGER, TargetKind, TargetRef};

    fn set(from: u32, to: u32) -> Effect {
        let target = TargetRef { kind: TargetKind::Deployment, name: "workers".into() };
        Effect::SetReplicas(SetReplicas { target, uid: "u".into(), from, to })
    }

    fn seen(replicas: u32, uid: &str, manager: &str) -> Inspection {
        let managers = vec![FieldManager(manager.into())];
        Inspection::Workload(WorkloadNow { uid: uid.into(), replicas, ready: replicas, managers })
    }

    #[test]
    fn a_value_is_placed_between_what_was_there_and_what_we_wrote_in_both_directions() {
        for (effect, values) in [(set(4, 6), [3, 4, 5, 6, 7]), (set(6, 4), [7, 6, 5, 4, 3])] {
            let change = change(&effect).unwrap();
            let made = revert(&effect, &change).unwrap();
            let places = [Place::Short, Place::Before, Place::Between, Place::Wrote, Place::Beyond];
            for (value, place) in values.into_iter().zip(places) {
                let stands = made.stands(&seen(value, "u", MANAGER));
                assert_eq!(stands, Some(Stands::At { ours: true, place }), "{value} of {effect:?}");
            }
            assert!(matches!(made.stands(&seen(6, "another", MANAGER)), Some(Stands::Gone(_))));
            let theirs = made.stands(&seen(values[3], "u", "kubectl"));
            assert_eq!(theirs, Some(Stands::At { ours: false, place: Place::Wrote }));
        }
    }

    #[test]
    fn steps_lead_back_to_what_was_there_and_never_past_it() {
        for (effect, values) in [(set(4, 7), [5, 4]), (set(7, 4), [6, 7])] {
            let mut change = change(&effect).unwrap();
            for value in values {
                let (next, _) = revert(&effect, &change).unwrap().next(Pace::By(2)).unwrap();
                let made = revert(&effect, &next).unwrap();
                let Some(Effect::SetReplicas(step)) = made.step() else { panic!("{next:?}") };
                assert_eq!(step.to, value);
                let arrived = made.arrived(&seen(value, "u", MANAGER)).unwrap();
                change = arrived;
            }
            assert_eq!(revert(&effect, &change).unwrap().next(Pace::AtOnce), None);
        }
    }
}
