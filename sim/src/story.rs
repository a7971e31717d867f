//! Things that happen together: what one of them alone shows once in a thousand hours, they show in a day.

use crate::dice::Dice;
use crate::exec::{Micros, SECOND};
use crate::plan::{Item, Manner};
use crate::world::faults::{Blow, Op};
use crate::world::setup::{CACHE_COUNT, CACHE_OF, POLICIES, TARGETS};

/// What happens, and how long after the story's begin.
pub type Story = Vec<(Micros, Item)>;

/// One of them.
#[must_use]
pub fn any(dice: &mut Dice) -> Story {
    match dice.below(8) {
        0 => unheard(dice),
        1 => worse(dice),
        2 => orphan(dice),
        3 => answered_late(dice),
        4 => overtaken(dice),
        5 => old_news(dice),
        6 => warming(dice),
        _ => succession(dice),
    }
}

/// Somebody begins to uninstall the operator: at any time, or while something is owed or about to be done. A leader is killed in
/// the middle, or told to end; the operator is still there afterwards.
pub fn drained(dice: &mut Dice) -> Story {
    let (mut story, mut at) = (Story::new(), 0);
    if dice.percent(70) {
        let policy = dice.below(POLICIES.len());
        story.push((0, trouble(dice, policy)));
        at = if dice.percent(50) { after(dice, 15, 90) } else { after(dice, 90, 900) };
    }
    story.push((at, Item::Drain { span: dice.between(10, 300) }));
    let (node, then) = (dice.below(2), at + after(dice, 1, 300));
    match dice.below(6) {
        0 => story.push((then, Item::Kill { node })),
        1 | 2 => story.push((then, Item::Stop { node })),
        // Twice at one time, or once more.
        3 => story.push((then, Item::Drain { span: dice.between(10, 300) })),
        4 => ambush(&mut story, at, Op::Restore, Blow::CrashAfter),
        _ => {}
    }
    story
}

fn after(dice: &mut Dice, low: u64, high: u64) -> Micros {
    dice.between(low * 1000, high * 1000) * (SECOND / 1000)
}

/// Whoever leads meets it.
fn ambush(story: &mut Story, at: Micros, op: Op, blow: Blow) {
    story.extend([0, 1].map(|node| (at, Item::Ambush { node, op, blow, span: 900 })));
}

fn demand(dice: &mut Dice, low: u64, high: u64) -> u32 {
    u32::try_from(dice.between(low, high)).unwrap_or(20)
}

/// Something that is answered within a minute or so.
fn trouble(dice: &mut Dice, policy: usize) -> Item {
    let target = POLICIES.get(policy).map_or(0, |policy| policy.2);
    let database = TARGETS.get(target).map_or(0, |target| target.2);
    let (span, manner) = (dice.between(200, 600), Manner::Plain);
    match dice.below(4) {
        0 => Item::Runaway { database, span, manner },
        1 => Item::Blocker { database, span, victims: 4, manner },
        2 => Item::Idle { database, span, victims: 4, manner },
        _ => Item::Saturation { target, span, demand: demand(dice, 17, 22) },
    }
}

/// People stop a policy after its breach has been seen and before it is answered, and no watch tells.
fn unheard(dice: &mut Dice) -> Story {
    let policy = dice.below(POLICIES.len());
    let place = POLICIES.get(policy).copied().unwrap_or_default();
    let begun = after(dice, 5, 40);
    let stalls = dice.between(60, 120);
    let span = dice.between(200, 900);
    let says = match dice.below(6) {
        0 => Item::PausePolicy { policy, span },
        1 => Item::PauseTarget { target: place.2, span },
        2 => Item::PauseNamespace { place: usize::from(place.0 == "depot"), span },
        3 | 4 => Item::Observe { policy, span },
        _ => Item::DeletePolicy { policy, span },
    };
    vec![
        (0, trouble(dice, policy)),
        (begun, Item::WatchStalls { node: 0, span: stalls }),
        (begun, Item::WatchStalls { node: 1, span: stalls }),
        (begun + after(dice, 1, 3), says),
    ]
}

/// More replicas make things worse, and taking them back at once is interrupted until all is well.
fn worse(dice: &mut Dice) -> Story {
    let target = dice.below(TARGETS.len());
    let database = TARGETS.get(target).map_or(0, |target| target.2);
    // Nobody may end it. It lasts until it has been noticed, and hardly longer: a successor finds all well.
    let manner = if dice.percent(50) { Manner::Maintenance } else { Manner::Foreign };
    let hurts = after(dice, 60, 120);
    let lasts = dice.between(15, 60);
    let span = hurts / SECOND + lasts;
    let mut story = vec![
        (0, Item::Saturation { target, span, demand: demand(dice, 26, 34) }),
        (hurts, Item::Runaway { database, span: lasts, manner }),
    ];
    for _ in 0..dice.between(1, 2) {
        let blow = if dice.percent(80) { Blow::CrashBefore } else { Blow::CrashAfter };
        ambush(&mut story, 0, Op::Restore, blow);
    }
    story
}

/// A policy is deleted while replicas that it added stand.
#[must_use]
pub fn orphan(dice: &mut Dice) -> Story {
    let target = dice.below(TARGETS.len());
    let gone = Item::DeleteOwing { span: dice.between(600, 7200) };
    vec![
        (0, Item::Saturation { target, span: dice.between(100, 500), demand: demand(dice, 17, 23) }),
        (after(dice, 120, 400), gone),
    ]
}

/// Around one request it takes about as long as an act may take.
fn answered_late(dice: &mut Dice) -> Story {
    let mut story = vec![(0, trouble_anywhere(dice))];
    let (op, blow) = match dice.below(5) {
        0 | 1 => (Op::Gate, Blow::FrozenAfter(dice.between(4, 9))),
        2 => (Op::Signal, Blow::BrokenOff(dice.between(1, 5))),
        3 => (Op::Gate, Blow::BrokenOff(dice.between(1, 8))),
        _ => (Op::Scale, Blow::BrokenOff(dice.between(1, 50))),
    };
    ambush(&mut story, 0, op, blow);
    story
}

/// The answer to a creation comes when its gate has long refused.
#[must_use]
pub fn old_news(dice: &mut Dice) -> Story {
    let mut story = vec![(0, trouble_anywhere(dice))];
    ambush(&mut story, 0, Op::Create, Blow::AnswerLate(dice.between(1, 4)));
    let blow = if dice.percent(50) { Blow::Failed } else { Blow::Throttled };
    ambush(&mut story, 0, Op::Confirm, blow);
    story
}

/// A person sets replicas in the middle of an act or of an undo.
fn overtaken(dice: &mut Dice) -> Story {
    let target = dice.below(TARGETS.len());
    let mut story =
        vec![(0, Item::Saturation { target, span: dice.between(100, 400), demand: demand(dice, 17, 23) })];
    // Before the act, or after it and before the undo.
    let at = if dice.percent(30) { 0 } else { after(dice, 100, 200) };
    let op = if dice.percent(70) { Op::ReadScale } else { Op::Restore };
    ambush(&mut story, at, op, Blow::Overtaken);
    story
}

/// A cache is warmed, and in the middle something happens that should end it.
fn warming(dice: &mut Dice) -> Story {
    let policy = dice.below(POLICIES.len());
    let (_, _, target, _) = POLICIES.get(policy).copied().unwrap_or_default();
    let database = TARGETS.get(target).map_or(0, |target| target.2);
    let cache = CACHE_OF.get(target).copied().unwrap_or_default();
    let span = dice.between(200, 600);
    // It is breached for 30 s before anything is done, and the database is looked at twice.
    let middle = after(dice, 35, 75);
    let ends = match dice.below(10) {
        0 => Item::PausePolicy { policy, span },
        1 => Item::Observe { policy, span },
        2 => Item::DeletePolicy { policy, span },
        3 => Item::Freeze { all: dice.percent(50), span },
        4 => Item::Runaway { database, span, manner: Manner::Foreign },
        5 => Item::CacheEvicts { cache, span },
        6 => Item::CacheDown { cache, span: dice.between(2, 60) },
        7 => Item::Hang { target, span },
        8 => Item::Kill { node: dice.below(2) },
        _ => Item::DatabaseDown { database, span: dice.between(2, 60) },
    };
    let mut story = vec![(0, Item::Flush { cache, span, futile: dice.percent(70) }), (middle, ends)];
    if dice.percent(40) {
        let blow = match dice.below(4) {
            0 => Blow::CrashAfter,
            1 => Blow::FrozenAfter(dice.between(1, 60)),
            2 => Blow::BrokenOff(dice.between(1, 50)),
            _ => Blow::AnswerLost,
        };
        ambush(&mut story, 0, Op::Warm, blow);
    }
    story
}

/// A cache has been warmed, and nobody learns it: the leader is killed before it notes what its run came to, and what the next
/// one notes of it meets something, too. By then all is well.
pub fn unnoted(dice: &mut Dice) -> Story {
    let cache = dice.below(CACHE_COUNT);
    let mut story = vec![(0, Item::Flush { cache, span: dice.between(200, 600), futile: false })];
    // The gate is passed by then, or soon.
    let over = after(dice, 35, 75);
    ambush(&mut story, over, Op::Status, Blow::CrashBefore);
    let blow = match dice.below(6) {
        0 => Blow::RequestLost,
        1 => Blow::BrokenOff(dice.between(1, 50)),
        2 => Blow::Conflict,
        3 => Blow::Throttled,
        4 => Blow::Late(dice.between(1, 50)),
        _ => Blow::Failed,
    };
    ambush(&mut story, over, Op::Status, blow);
    story
}

/// What was answered goes on, or comes again, and leaders follow one another on machines with clocks of their own.
fn succession(dice: &mut Dice) -> Story {
    let database = dice.below(3);
    let span = dice.between(400, 1200);
    let goes_on = Item::Runaway { database, span, manner: Manner::Restless };
    let again = Item::Idle { database, span, victims: 4, manner: Manner::Plain };
    let mut story = match dice.below(3) {
        0 => vec![(0, goes_on)],
        1 => vec![(0, again.clone()), (after(dice, 100, 250), again)],
        _ => vec![(0, trouble_anywhere(dice))],
    };
    for node in [0, 1] {
        let seconds = i64::try_from(dice.between(0, 1200)).unwrap_or(0) - 600;
        story.push((0, Item::ClockJump { node, seconds }));
    }
    let mut at = after(dice, 30, 150);
    for _ in 0..dice.between(1, 3) {
        for node in [0, 1] {
            let ends = match dice.below(6) {
                0 => Item::Kill { node },
                1 => Item::LeaseStolen,
                _ => Item::Stop { node },
            };
            story.push((at, ends));
        }
        at += after(dice, 1, 120);
    }
    story
}

fn trouble_anywhere(dice: &mut Dice) -> Item {
    let policy = dice.below(POLICIES.len());
    trouble(dice, policy)
}
