//! One episode: a world from its beginning over a restless time into quiet, judged to the end.

use serde::{Deserialize, Serialize};

use engine::invariants::Violation;

use crate::exec::{HOUR, Micros, Sim};
use crate::happen::{happen, quiet};
use crate::plan::{Planned, draw};
use crate::process;
use crate::watches;
use crate::world::{Counts, World};

/// The restless part of an episode.
pub const RESTLESS: Micros = 31 * HOUR;
/// The quiet part: longer than everything needs to come to an end.
pub const QUIET: Micros = 5 * HOUR;

/// What an episode consists of; the same one is the same trace, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Decides what is not planned: how long things take, which flaky requests fail.
    pub seed: u64,
    /// When it gets quiet.
    pub restless: Micros,
    /// What happens.
    pub plan: Vec<Planned>,
}

impl Script {
    /// The script of that seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self { seed, restless: RESTLESS, plan: draw(seed, RESTLESS) }
    }

    /// How long it lasts.
    #[must_use]
    pub fn lasts(&self) -> Micros {
        self.restless + QUIET
    }
}

/// How an episode went.
#[derive(Debug)]
pub struct Outcome {
    /// How long it lasted; up to the violation, if there was one.
    pub lasted: Micros,
    /// What was counted.
    pub counts: Counts,
    /// The first violations, all of one instant.
    pub violations: Vec<Violation>,
    /// Everything that happened, one line each.
    pub trace: Vec<String>,
}

/// Plays a script.
#[must_use]
pub fn play(script: &Script) -> Outcome {
    let sim = Sim::new(World::first(script.seed));
    watches::pump(&sim);
    for node in 0..2 {
        process::start(&sim, node);
    }
    for planned in &script.plan {
        let what = planned.what.clone();
        sim.at(planned.at, move |sim| happen(sim, &what));
    }
    sim.at(script.restless, quiet);
    sim.run(script.lasts());
    let mut world = sim.world();
    let lasted = if world.is_over() { world.now } else { script.lasts() };
    if !world.is_over() {
        world.now = script.lasts();
        world.finish();
    }
    let outcome = Outcome {
        lasted,
        counts: world.counts.clone(),
        violations: world.violations().to_vec(),
        trace: std::mem::take(&mut world.trace),
    };
    drop(world);
    // Tasks hold the simulation, and it holds them.
    sim.kill(0);
    sim.kill(1);
    sim.forget();
    outcome
}

/// Takes away what the violation does not need: half of the plan, a quarter, ... and at last one thing at a time.
#[must_use]
pub fn shrink(script: &Script, id: &str, most: u32) -> Script {
    let mut best = script.clone();
    let mut tries = 0;
    let violates = |candidate: &Script| play(candidate).violations.iter().any(|violation| violation.id == id);
    let mut chunk = best.plan.len().div_ceil(2);
    while chunk > 0 && tries < most {
        let mut from = 0;
        while from < best.plan.len() && tries < most {
            let mut candidate = best.clone();
            let to = (from + chunk).min(candidate.plan.len());
            candidate.plan.drain(from..to);
            tries += 1;
            if violates(&candidate) {
                best = candidate;
            } else {
                from += chunk;
            }
        }
        chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
    }
    best
}
