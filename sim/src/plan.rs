//! What is going to break, and what people are going to do: drawn from the seed, and written down so that it can be
//! repeated without one thing or another.

use serde::{Deserialize, Serialize};

use crate::dice::Dice;
use crate::exec::{HOUR, MINUTE, Micros, Node, SECOND};
use crate::story::{self, Story};
use crate::world::faults::{Blow, MUTATING, Op};
use crate::world::setup::{CACHE_COUNT, POLICIES, TARGETS};

/// One thing that is going to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// When, in microseconds since the beginning.
    pub at: Micros,
    /// What.
    pub what: Item,
}

/// How a session behaves that makes trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Manner {
    /// It may be cancelled.
    Plain,
    /// Its transaction has written.
    Wrote,
    /// It does not heed a cancel.
    Deaf,
    /// It runs one statement after the other.
    Restless,
    /// It is a superuser's.
    Privileged,
    /// It is a backup.
    Protected,
    /// It is maintenance.
    Maintenance,
    /// Its role is in no list.
    Foreign,
}

/// Something that happens. Spans are seconds; what it happens to is a place in the tables of [`crate::world::setup`].
#[allow(missing_docs, reason = "the fields say what they are; one comment would repeat another forty times")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// A statement takes all of a database.
    Runaway { database: usize, span: u64, manner: Manner },
    /// A running statement blocks the application.
    Blocker { database: usize, span: u64, victims: u32, manner: Manner },
    /// A session idle in its transaction blocks the application.
    Idle { database: usize, span: u64, victims: u32, manner: Manner },
    /// More requests come than the workers serve.
    Saturation { target: usize, span: u64, demand: u32 },
    /// Requests never finish.
    Hang { target: usize, span: u64 },
    /// A cache is flushed, and nobody but the operator fills it for so long; requests for it may do nothing.
    Flush { cache: usize, span: u64, futile: bool },
    /// A cache is started anew, with nothing in it.
    CacheRestart { cache: usize, span: u64 },
    /// Hardly anybody comes.
    Lull { target: usize, span: u64 },

    /// A person sets replicas by hand.
    ScaleByHand { target: usize, to: u32 },
    /// Git sets the replicas.
    ScaleByGit { target: usize },
    /// An autoscaler appears, and goes.
    Autoscaler { target: usize, span: u64 },
    /// A workload is deleted and created again.
    Replace { target: usize },
    /// A rollout.
    Rollout { target: usize, span: u64 },
    /// The target's owner opts out, for a while.
    OptOut { target: usize, span: u64 },
    /// A pause on a policy.
    PausePolicy { policy: usize, span: u64 },
    /// A pause on a workload.
    PauseTarget { target: usize, span: u64 },
    /// A pause on a namespace.
    PauseNamespace { place: usize, span: u64 },
    /// A policy observes for a while.
    Observe { policy: usize, span: u64 },
    /// A policy is deleted, and created again after a while.
    DeletePolicy { policy: usize, span: u64 },
    /// The policy of the newest act that is still to be taken back is deleted, and created again after a while.
    DeleteOwing { span: u64 },
    /// A policy's limits are changed.
    Edit { policy: usize, per_hour: u32, cooldown: u64 },
    /// A budget is frozen for a while.
    Freeze { all: bool, span: u64 },
    /// A budget denies and limits for a while.
    Limit { per_hour: u32, concurrent: u32, span: u64 },
    /// Somebody deletes the newest remediation.
    DeleteRemediation,
    /// Somebody begins to uninstall the operator, and gives it up.
    Drain { span: u64 },

    /// A request meets something.
    Ambush { node: Node, op: Op, blow: Blow, span: u64 },
    /// The API server does not answer a node.
    ApiDown { node: Node, span: u64 },
    /// A node's requests fail now and then.
    ApiFlaky { node: Node, span: u64 },
    /// A node's watches show nothing new.
    WatchStalls { node: Node, span: u64 },
    /// A node's watches break; afterwards everything is listed anew.
    WatchBreaks { node: Node, span: u64 },
    /// The process of a node is killed.
    Kill { node: Node },
    /// The process of a node is told to end.
    Stop { node: Node },
    /// The process of a node is frozen, and goes on later.
    FreezeProcess { node: Node, span: u64 },
    /// A node's wall clock jumps; the next process there reads it.
    ClockJump { node: Node, seconds: i64 },
    /// Metrics cannot be read.
    MetricsDown { node: Node, span: u64 },
    /// A database cannot be reached.
    DatabaseDown { database: usize, span: u64 },
    /// A database restarts.
    DatabaseRestart { database: usize },
    /// Another server takes over, at first as a standby.
    Failover { database: usize, span: u64 },
    /// A database may be read in part only.
    DatabasePartial { database: usize, span: u64 },
    /// A database's answers are lost.
    DatabaseMute { database: usize, span: u64 },
    /// A cache cannot be reached.
    CacheDown { cache: usize, span: u64 },
    /// A cache drops keys for want of memory.
    CacheEvicts { cache: usize, span: u64 },
    /// Somebody takes the Lease away.
    LeaseStolen,
}

impl Item {
    /// Whether it is a fault (of the ways between things), and not something that people do or that happens.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Ambush { .. }
            | Self::ApiDown { .. }
            | Self::ApiFlaky { .. }
            | Self::WatchStalls { .. }
            | Self::WatchBreaks { .. }
            | Self::Kill { .. }
            | Self::Stop { .. }
            | Self::FreezeProcess { .. }
            | Self::ClockJump { .. }
            | Self::MetricsDown { .. }
            | Self::DatabaseDown { .. }
            | Self::DatabaseRestart { .. }
            | Self::Failover { .. }
            | Self::DatabasePartial { .. }
            | Self::DatabaseMute { .. }
            | Self::CacheDown { .. }
            | Self::CacheEvicts { .. }
            | Self::LeaseStolen => true,
            Self::Runaway { .. }
            | Self::Blocker { .. }
            | Self::Idle { .. }
            | Self::Saturation { .. }
            | Self::Hang { .. }
            | Self::Flush { .. }
            | Self::CacheRestart { .. }
            | Self::Lull { .. }
            | Self::ScaleByHand { .. }
            | Self::ScaleByGit { .. }
            | Self::Autoscaler { .. }
            | Self::Replace { .. }
            | Self::Rollout { .. }
            | Self::OptOut { .. }
            | Self::PausePolicy { .. }
            | Self::PauseTarget { .. }
            | Self::PauseNamespace { .. }
            | Self::Observe { .. }
            | Self::DeletePolicy { .. }
            | Self::DeleteOwing { .. }
            | Self::Edit { .. }
            | Self::Freeze { .. }
            | Self::Limit { .. }
            | Self::DeleteRemediation
            | Self::Drain { .. } => false,
        }
    }

    /// Its kind, for the table.
    #[must_use]
    pub fn kind(&self) -> String {
        let text = format!("{self:?}");
        text.split([' ', '{']).next().unwrap_or_default().to_owned()
    }
}

/// How often things happen: the mean span between two of them.
const TROUBLE: Micros = 14 * MINUTE;
const PEOPLE: Micros = 25 * MINUTE;
const FAULT: Micros = 5 * MINUTE;
const STORY: Micros = 20 * MINUTE;
const DRAIN: Micros = 50 * MINUTE;
const UNNOTED: Micros = 4 * HOUR;

/// The plan of an episode whose restless part lasts so long.
#[must_use]
pub fn draw(seed: u64, lasts: Micros) -> Vec<Planned> {
    let mut dice = Dice::new(seed ^ 0x9e37_79b9_7f4a_7c15);
    let mut plan = Vec::new();
    // Everything is settled and learnt first.
    let begin = 10 * MINUTE;
    let single = |next: fn(&mut Dice) -> Item| move |dice: &mut Dice| vec![(0, next(dice))];
    stream(&mut plan, &mut dice, begin, lasts, TROUBLE, single(trouble));
    stream(&mut plan, &mut dice, begin, lasts, PEOPLE, single(people));
    stream(&mut plan, &mut dice, begin, lasts, FAULT, single(fault));
    stream(&mut plan, &mut dice, begin, lasts, STORY, story::any);
    // By dice of their own: all else is what it would be without them.
    let mut drains = Dice::new(seed ^ 0x5851_f42d_4c95_7f2d);
    // Where nobody thinks of uninstalling, what is forgotten stays owed for longer than a drain lets it.
    if drains.percent(60) {
        stream(&mut plan, &mut drains, begin, lasts, DRAIN, story::drained);
    }
    stream(&mut plan, &mut Dice::new(seed ^ 0x2545_f491_4f6c_dd1d), begin, lasts, UNNOTED, story::unnoted);
    // Something is still owed when it gets quiet, and something was refused that an answer calls admitted: what a leader takes
    // it for is seen only if it leads on.
    let last = lasts.saturating_sub(dice.between(10, 20) * MINUTE);
    if last > begin {
        let mut stories = vec![(last, story::orphan(&mut dice))];
        for _ in 0..3 {
            stories.push((last + dice.between(1, 6 * MINUTE), story::old_news(&mut dice)));
        }
        for (begun, story) in stories {
            plan.extend(story.into_iter().map(|(after, what)| Planned { at: begun + after, what }));
        }
    }
    plan.retain(|planned| planned.at < lasts);
    plan.sort_by_key(|planned| planned.at);
    plan
}

fn stream(
    plan: &mut Vec<Planned>,
    dice: &mut Dice,
    begin: Micros,
    lasts: Micros,
    mean: Micros,
    next: impl Fn(&mut Dice) -> Story,
) {
    let mut at = begin;
    loop {
        at += dice.between(1, 2 * mean);
        if at >= lasts {
            return;
        }
        plan.extend(next(dice).into_iter().map(|(after, what)| Planned { at: at + after, what }));
    }
}

fn manner(dice: &mut Dice) -> Manner {
    match dice.below(14) {
        0 | 1 => Manner::Wrote,
        2 | 3 => Manner::Deaf,
        4 | 5 => Manner::Restless,
        6 => Manner::Privileged,
        7 => Manner::Protected,
        8 => Manner::Maintenance,
        9 => Manner::Foreign,
        _ => Manner::Plain,
    }
}

fn trouble(dice: &mut Dice) -> Item {
    let (database, target) = (dice.below(3), dice.below(TARGETS.len()));
    let victims = u32::try_from(dice.between(1, 6)).unwrap_or(1);
    match dice.below(16) {
        12..=14 => flush(dice),
        15 => Item::CacheRestart { cache: dice.below(CACHE_COUNT), span: dice.between(200, 1200) },
        0..=2 => Item::Runaway { database, span: dice.between(60, 1500), manner: manner(dice) },
        3 | 4 => Item::Blocker { database, span: dice.between(60, 1200), victims, manner: manner(dice) },
        5 | 6 => Item::Idle { database, span: dice.between(60, 1200), victims, manner: manner(dice) },
        7..=9 => Item::Saturation {
            target,
            span: dice.between(300, 5400),
            demand: u32::try_from(dice.between(16, 34)).unwrap_or(20),
        },
        10 => Item::Hang { target, span: dice.between(120, 900) },
        _ => Item::Lull { target, span: dice.between(300, 3600) },
    }
}

/// Somebody empties a cache.
pub fn flush(dice: &mut Dice) -> Item {
    let cache = dice.below(CACHE_COUNT);
    Item::Flush { cache, span: dice.between(200, 1200), futile: dice.percent(30) }
}

fn people(dice: &mut Dice) -> Item {
    let (policy, target) = (dice.below(POLICIES.len()), dice.below(TARGETS.len()));
    let span = dice.between(60, 2400);
    match dice.below(20) {
        0..=2 => Item::ScaleByHand { target, to: u32::try_from(dice.between(2, 9)).unwrap_or(4) },
        3 => Item::ScaleByGit { target },
        4 => Item::Autoscaler { target, span },
        5 | 6 => Item::Replace { target },
        7 => Item::Rollout { target, span: dice.between(30, 400) },
        8 => Item::OptOut { target, span },
        9 => Item::PausePolicy { policy, span },
        10 => Item::PauseTarget { target, span },
        11 => Item::PauseNamespace { place: dice.below(2), span },
        12 | 13 => Item::Observe { policy, span },
        14 | 15 => Item::DeletePolicy { policy, span },
        16 => Item::Edit {
            policy,
            per_hour: u32::try_from(dice.between(1, 6)).unwrap_or(1),
            cooldown: dice.between(120, 900),
        },
        17 => Item::Freeze { all: dice.percent(40), span },
        18 => Item::Limit {
            per_hour: u32::try_from(dice.between(0, 4)).unwrap_or(1),
            concurrent: u32::try_from(dice.between(1, 3)).unwrap_or(1),
            span,
        },
        _ => Item::DeleteRemediation,
    }
}

fn blow(dice: &mut Dice) -> Blow {
    match dice.below(14) {
        0 | 1 => Blow::CrashBefore,
        2 | 3 => Blow::CrashAfter,
        4 | 5 => Blow::AnswerLost,
        6 => Blow::RequestLost,
        7 => Blow::Late(dice.between(1, 50)),
        8 => Blow::Conflict,
        9 => Blow::Throttled,
        10 => Blow::Failed,
        11 => Blow::BrokenOff(dice.between(1, 50)),
        12 => Blow::AnswerLate(dice.between(1, 4)),
        _ => Blow::FrozenAfter(frozen(dice)),
    }
}

/// Around the deadline of an act and the times of the Lease, or for long.
fn frozen(dice: &mut Dice) -> u64 {
    if dice.percent(60) { dice.between(1, 14) } else { dice.between(15, 600) }
}

fn fault(dice: &mut Dice) -> Item {
    let (node, database) = (dice.below(2), dice.below(3));
    match dice.below(43) {
        40 => Item::CacheDown { cache: dice.below(CACHE_COUNT), span: dice.between(2, 300) },
        41 | 42 => Item::CacheEvicts { cache: dice.below(CACHE_COUNT), span: dice.between(2, 300) },
        0..=19 => {
            let op = MUTATING.get(dice.below(MUTATING.len())).copied().unwrap_or(Op::Gate);
            let blow = if dice.percent(8) { Blow::FrozenBefore(dice.between(1, 40)) } else { blow(dice) };
            // Nobody who is frozen between the last look at the clock and the sending can know it; a crash there is tried.
            let last =
                matches!(op, Op::Scale | Op::Restore | Op::Warm) && matches!(blow, Blow::FrozenBefore(_));
            let blow = if last { Blow::CrashBefore } else { blow };
            // For whoever leads.
            Item::Ambush { node, op, blow, span: dice.between(600, 7200) }
        }
        20 => Item::ApiDown { node, span: dice.between(3, 120) },
        21 | 22 => Item::ApiFlaky { node, span: dice.between(10, 600) },
        23 | 24 => Item::WatchStalls { node, span: dice.between(1, 120) },
        25 => Item::WatchBreaks { node, span: dice.between(1, 120) },
        26 => Item::Kill { node },
        27 => Item::Stop { node },
        28 | 29 => Item::FreezeProcess { node, span: frozen(dice) },
        30 => Item::ClockJump { node, seconds: jump(dice) },
        31 => Item::MetricsDown { node, span: dice.between(5, 900) },
        32 => Item::DatabaseDown { database, span: dice.between(2, 600) },
        33 => Item::DatabaseRestart { database },
        34 => Item::Failover { database, span: dice.between(5, 120) },
        35 => Item::DatabasePartial { database, span: dice.between(60, 1200) },
        36 | 37 => Item::DatabaseMute { database, span: dice.between(1, 30) },
        38 => Item::LeaseStolen,
        _ => Item::Ambush { node, op: Op::Lease, blow: blow(dice), span: HOUR / SECOND },
    }
}

/// Seconds and minutes mostly, an hour at times, in either direction.
fn jump(dice: &mut Dice) -> i64 {
    let far = [2, 30, 300, 3600];
    let most = far.get(dice.below(far.len())).copied().unwrap_or(2);
    let span = i64::try_from(dice.between(1, most)).unwrap_or(1);
    if dice.percent(50) { span } else { -span }
}
