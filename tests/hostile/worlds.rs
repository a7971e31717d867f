//! Worlds in which the original acts, each for another cause, and worlds in which nobody may act. They are those of the
//! engine's scenarios, with the independent checker of invariants in them: what it is told and what it does not allow fails
//! the test.

use std::collections::BTreeSet;
use std::time::Duration;

use engine::effects::{Effect, SignalSession};
use engine::model::{Action, Pause, Policy};

use crate::support::parse::Traffic;
use crate::support::world::World;

/// What happens from which second on, and whether the API is slow from the third one on.
pub(crate) struct Script {
    pub(crate) name: &'static str,
    events: &'static [(u64, &'static str)],
    traffic: fn(u64) -> Traffic,
}

const LAST: u64 = 15;

fn flows(slow: u64, in_flight: f64) -> Traffic {
    Traffic::Flows { requests: 500.0, slow: Duration::from_millis(slow), in_flight, errors: 0.0 }
}

fn slow(second: u64) -> Traffic {
    if second < 3 { flows(90, 4.0) } else { flows(900, 20.0) }
}

fn full(second: u64) -> Traffic {
    if second < 3 { flows(90, 4.0) } else { flows(900, 30.0) }
}

/// After a while in which it can be learned what is usual.
fn cold(second: u64) -> Traffic {
    if second < 6 { flows(90, 4.0) } else { flows(900, 10.0) }
}

fn calm(_: u64) -> Traffic {
    flows(90, 4.0)
}

fn dark(second: u64) -> Traffic {
    if second < 3 { flows(90, 4.0) } else { Traffic::NoData("Timeout".into()) }
}

/// Beside each culprit there are sessions that nobody may touch: of another role, of a superuser, young, protected.
pub(crate) const ACTING: &[Script] = &[
    Script {
        name: "a runaway statement",
        events: &[
            (2, "report starts as reporting"),
            (6, "clerk starts as stranger"),
            (6, "admin starts as postgres privileged"),
            (7, "dump starts as reporting protected"),
        ],
        traffic: slow,
    },
    Script {
        name: "a blocker",
        events: &[
            (2, "batch starts as reporting writing"),
            (2, "batch blocks 5 orders"),
            (6, "clerk starts as stranger"),
        ],
        traffic: slow,
    },
    Script {
        name: "an idle holder",
        events: &[
            (2, "console starts as reporting writing"),
            (2, "console goes idle"),
            (2, "console blocks 4 orders"),
            (2, "other starts as stranger writing"),
            (2, "other goes idle"),
        ],
        traffic: slow,
    },
    Script { name: "too few workers", events: &[(0, "views even")], traffic: full },
    Script { name: "a flushed cache", events: &[(6, "cache is flushed")], traffic: cold },
];

/// In none of these anything may be done, whatever else the policy says.
pub(crate) const STILL: &[Script] = &[
    Script {
        name: "all is well",
        events: &[(0, "views even"), (2, "report starts as reporting")],
        traffic: calm,
    },
    Script {
        name: "no data",
        events: &[(0, "views even"), (2, "report starts as reporting")],
        traffic: dark,
    },
    Script {
        name: "paused",
        events: &[(0, "views even"), (1, "pause target until forever"), (2, "report starts as reporting")],
        traffic: slow,
    },
    Script {
        name: "a word that is no time",
        events: &[
            (0, "views even"),
            (1, "pause namespace until tomorrow"),
            (2, "report starts as reporting"),
        ],
        traffic: slow,
    },
    Script {
        name: "opted out",
        events: &[(0, "views even"), (1, "opt out true"), (2, "report starts as reporting")],
        traffic: full,
    },
    Script {
        name: "frozen",
        events: &[
            (0, "views even"),
            (1, "freeze ActionsAndRollbacks"),
            (2, "batch starts as reporting"),
            (2, "batch blocks 5 orders"),
        ],
        traffic: full,
    },
    Script {
        name: "a cache that cannot be read",
        events: &[(6, "cache is flushed"), (6, "cache blind Timeout")],
        traffic: cold,
    },
    Script {
        name: "a blind database",
        events: &[(0, "views even"), (2, "report starts as reporting"), (2, "database blind Timeout")],
        traffic: full,
    },
];

/// What was done: its kind and to what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Act {
    pub(crate) kind: String,
    pub(crate) subject: String,
}

impl Act {
    pub(crate) fn of(action: &Action) -> Self {
        let subject = match action.act().effect() {
            Effect::SetReplicas(set) => format!("{} from {} to {}", set.target.name, set.from, set.to),
            Effect::SendRequests(send) => format!("{} {:?}", send.requests.service, send.requests.paths),
            Effect::SignalSession(SignalSession { target, .. }) => {
                format!("pid {} of {}", target.session.pid, target.role)
            }
        };
        Self { kind: action.kind().to_string(), subject }
    }
}

impl Script {
    /// A world that has come to the beginning of that second.
    pub(crate) fn until(&self, policy: Policy, pauses: Vec<Pause>, second: u64) -> World {
        let mut world = World::new(policy);
        world.stage().pauses = pauses;
        self.play(&mut world, 0, second);
        world
    }

    /// Plays the seconds from `first` up to, and without, `end`.
    pub(crate) fn play(&self, world: &mut World, first: u64, end: u64) {
        for second in first..end {
            let events: Vec<String> = self
                .events
                .iter()
                .filter(|(at, _)| *at == second)
                .map(|(_, event)| (*event).to_owned())
                .collect();
            world.tick_anyhow(Duration::from_secs(second), &(self.traffic)(second), &events);
        }
    }

    /// Everything that is done in this world.
    pub(crate) fn acts(&self, policy: Policy, pauses: Vec<Pause>) -> BTreeSet<Act> {
        done(&self.until(policy, pauses, LAST))
    }

    /// Plays from that second to the end: everything that is done.
    pub(crate) fn finish(&self, world: &mut World, first: u64) -> BTreeSet<Act> {
        self.play(world, first, LAST);
        done(world)
    }
}

/// What was done so far.
pub(crate) fn done(world: &World) -> BTreeSet<Act> {
    let stage = world.stage();
    stage.effects_sent.iter().map(|name| Act::of(&stage.remediations[name].value.spec.action)).collect()
}
