//! Bugs that are planted on purpose, to see that the simulation finds them. Compiled only with `--cfg planted_bugs`.

/// A bug, and where it is.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// Its name.
    pub name: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// Whether it is in the engine; the others are in the driver or in the statement that signals.
    pub engine: bool,
}

/// A bug that something else makes up for.
#[derive(Debug, Clone, Copy)]
pub struct Covered {
    /// The bug.
    pub bug: Bug,
    /// Why it shows in nothing that happens.
    pub because: &'static str,
}

/// The bug of that name, as it is planted.
#[must_use]
pub fn named(name: Option<&str>) -> Option<&'static str> {
    let all = BUGS.iter().chain(RARE).chain(COVERED.iter().map(|covered| &covered.bug));
    all.map(|bug| bug.name).find(|known| Some(*known) == name)
}

/// Whether this bug is planted now.
#[cfg(planted_bugs)]
#[must_use]
pub fn is(name: &str) -> bool {
    engine::planted::is(name)
}

/// Nothing is planted.
#[cfg(not(planted_bugs))]
#[must_use]
pub const fn is(_: &str) -> bool {
    false
}

const fn engine(name: &'static str, what: &'static str) -> Bug {
    Bug { name, what, engine: true }
}

const fn driver(name: &'static str, what: &'static str) -> Bug {
    Bug { name, what, engine: false }
}

/// All of them.
pub const BUGS: &[Bug] = &[
    engine("no_cooldown", "the guard Cooldown lets everything through"),
    engine("no_budget", "the guard Budget lets everything through"),
    engine("no_paused", "the guard Paused lets everything through"),
    engine("no_still_breached", "the guard StillBreached lets everything through"),
    engine("no_target_conflict", "the guard TargetConflict lets everything through"),
    engine("no_draining", "the guard Leadership lets everything through while the operator is uninstalled"),
    engine("no_ownership", "the guard Ownership lets everything through"),
    engine("warming_asks_nobody", "warming goes on whatever has changed since it began"),
    engine(
        "warming_goes_round_for_ever",
        "warming asks for its paths again and again, until its time is over",
    ),
    engine("warming_is_begun_again", "an interrupted run of warming is begun again"),
    engine(
        "warming_claims_what_it_has_not_seen",
        "an interrupted run of warming takes the credit for a cache that has filled by itself",
    ),
    engine("undo_not_recorded", "the gate is passed without an undo that is owed"),
    engine("undo_without_health", "capacity is taken away without asking for Healthy"),
    engine("undo_steps_without_a_pause", "steps down do not wait for a full window"),
    engine("interrupted_act_is_repeated", "a successor does again what it finds Executing"),
    engine("gone_counts_as_our_doing", "a session that is gone after a crash counts as an act of ours"),
    engine("deadline_from_now", "the deadline is counted from the effect, not from the gate"),
    engine("resolves_before_the_fence", "an interrupted act is resolved while it may yet arrive"),
    engine("history_removed_at_once", "remediations are removed while a window still counts them"),
    engine(
        "worse_is_undone_at_once_in_calm",
        "what was to go at once while things were worse goes at once later, too",
    ),
    driver("mark_is_not_heard", "a leader takes no notice of the mark on its Lease"),
    driver("effect_before_intent", "the effect is sent before the gate's write"),
    driver("ledger_in_memory_only", "a leader knows nothing of what earlier ones have done and finished"),
    driver("signal_by_pid", "the signal's statement asks for the pid only"),
    driver("signal_without_fence", "the signal's statement does not ask the database's clock"),
    driver("lost_effect_is_sent_again", "a signal whose answer is lost is sent once more"),
    driver("fence_only_before_the_read", "the fence is not asked again between read and write of replicas"),
    driver("scale_without_precondition", "replicas are written without resourceVersion and uid"),
    driver("missing_metrics_are_zero", "a missing series counts as nobody being slow"),
    driver("undo_overwrites_people", "an undo replaces whatever value it finds"),
    driver("policy_deletion_forgets_undo", "without its policy nothing watches for the undo"),
    driver("own_wall_clock", "each process trusts its machine's clock"),
    driver("late_answer_sets_the_ledger_back", "what is older than what is known is taken in all the same"),
    driver("no_live_look_before_the_gate", "what a watch showed is not confirmed before the gate"),
];

/// Bugs that 1,000 hours need not meet: a script among the regressions brings each about, and a test replays it.
pub const RARE: &[Bug] = &[
    engine(
        "written_steps_need_no_window",
        "a step that was written down for something else is taken without a full window",
    ),
    driver(
        "late_incident_is_nobodys",
        "a number that was taken is given up where its incident is not there yet",
    ),
    driver(
        "closed_is_taken_for_granted",
        "whoever takes over does not make sure that a closed incident stays closed",
    ),
];

/// Bugs that harm nobody, because something else does the same: no run can catch them. They can be planted by name.
pub const COVERED: &[Covered] = &[
    Covered {
        bug: driver("effect_without_the_lease", "the Lease is not asked for before the effect"),
        because: "`advance` has asked for it at the same instant: nothing is awaited between its answer and the effect, so \
                  that the driver's question always gets the same answer",
    },
    Covered {
        bug: driver(
            "reservation_given_up_in_doubt",
            "a reservation is given back when it is unknown whether it was created",
        ),
        because: "a remediation comes to its gate only after the watch has shown it, and the ledger has it from then on: of \
                  two for one resource the one that comes to its gate last is refused there, by OneAtATime or Cooldown",
    },
];
