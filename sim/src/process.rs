//! One operator process, from its start to its end: the shipped driver on a node with a clock of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use controller::election::Term;
use controller::{Controllers, PolicyKey};
use engine::model::{EntryKey, Limits};
use jiff::Timestamp;

use crate::exec::{Node, SECOND, Sim, Slot, lock};
use crate::lead;
use crate::planted;
use crate::ports::Simulated;
use crate::readings::Readings;
use crate::watches::Watched;
use crate::work::{Bell, Item};
use crate::world::instant;

/// One process of the operator.
pub struct Process {
    /// The simulation that it is a part of.
    pub sim: Arc<Sim>,
    /// Where it runs.
    pub node: Node,
    /// The name under which it holds the Lease.
    pub identity: String,
    /// Its clock is ahead by this much. It was set by the API server's when the process began to lead.
    skew: i64,
    term: OnceLock<Arc<Term>>,
    /// It was told to end: what is under way is finished, and nothing new is begun.
    pub stopping: AtomicBool,
    /// Filled by the signal to end.
    pub told: Slot<()>,
    /// What its watches have shown.
    pub watched: Mutex<Watched>,
    /// The ceilings as the watch, or a list since, has shown them.
    pub limits: Mutex<Limits>,
    /// What it has read of dependencies and targets.
    pub readings: Readings,
    /// The objects that are looked after.
    pub work: Mutex<BTreeMap<Item, Arc<Bell>>>,
    controllers: OnceLock<Weak<Controllers<Simulated>>>,
}

/// Starts a process on a node.
pub fn start(sim: &Arc<Sim>, node: Node) {
    sim.spawn(node, lead::run(Process::new(sim, node)));
}

/// Kills the process of a node; another one is started after a while.
pub fn kill(sim: &Arc<Sim>, node: Node) {
    let gone = {
        let mut leaders = lock(&sim.leaders);
        let (gone, left) = leaders.drain(..).partition::<Vec<_>, _>(|process| process.node == node);
        *leaders = left;
        gone
    };
    drop(gone);
    sim.kill(node);
    sim.set_frozen_until(node, 0);
    let again = sim.world().dice.between(SECOND, 20 * SECOND);
    sim.at(sim.now() + again, move |sim| start(sim, node));
}

/// Tells the process of a node to end: one that leads finishes what is under way and gives the Lease back.
pub fn stop(sim: &Arc<Sim>, node: Node) {
    let leader = lock(&sim.leaders).iter().find(|process| process.node == node).cloned();
    match leader {
        Some(leader) => {
            leader.stopping.store(true, Ordering::Relaxed);
            leader.told.fill(());
        }
        None => kill(sim, node),
    }
}

/// Freezes the process of a node.
pub fn freeze(sim: &Sim, node: Node, seconds: u64) {
    sim.set_frozen_until(node, sim.frozen_until(node).max(sim.now() + seconds * SECOND));
}

impl Process {
    /// A process that does nothing yet.
    #[must_use]
    pub fn new(sim: &Arc<Sim>, node: Node) -> Arc<Self> {
        let (skew, number) = {
            let mut world = sim.world();
            let number = world.api.bump();
            // The API server says the time in whole seconds; with an answer that took a while that is a little behind.
            let agreed = -i64::try_from(world.dice.between(0, SECOND)).unwrap_or(0);
            let own = world.faults.skew.get(node).copied().unwrap_or(0);
            (if planted::is("own_wall_clock") { own } else { agreed }, number)
        };
        let limits = Limits { unreadable: Some("they have not been read yet".into()), ..Limits::default() };
        Arc::new(Self {
            sim: sim.clone(),
            node,
            identity: format!("operator-{node}_{number}"),
            skew,
            term: OnceLock::new(),
            stopping: AtomicBool::new(false),
            told: Slot::default(),
            watched: Mutex::default(),
            limits: Mutex::new(limits),
            readings: Readings::default(),
            work: Mutex::default(),
            controllers: OnceLock::new(),
        })
    }

    /// The clock of this process: it was set once, and goes on with the monotonic one.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let at = instant(self.sim.now());
        Timestamp::from_microsecond(at.as_microsecond().saturating_add(self.skew)).unwrap_or(at)
    }

    /// The time since the simulation began.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        Duration::from_micros(self.sim.now())
    }

    /// Its term, if it leads.
    #[must_use]
    pub fn term(&self) -> Option<&Arc<Term>> {
        self.term.get()
    }

    /// Whether it was told to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The controllers of its term, for as long as it leads.
    #[must_use]
    pub fn controllers(&self) -> Option<Arc<Controllers<Simulated>>> {
        self.controllers.get()?.upgrade()
    }

    /// Its term begins. A process leads once.
    pub fn lead(&self, term: Arc<Term>) {
        let _ = self.term.set(term);
    }

    /// The controllers of its term. Nothing but its tasks keeps them.
    pub fn control(&self, controllers: &Arc<Controllers<Simulated>>) {
        let _ = self.controllers.set(Arc::downgrade(controllers));
    }

    /// Ends the process.
    pub async fn die(&self, why: &str) {
        self.sim.world().note(&format!("{} ends: {why}", self.identity));
        self.end().await;
    }

    /// Ends the process without a word, as soon as it has stopped running.
    pub async fn end(&self) {
        let node = self.node;
        self.sim.at(self.sim.now(), move |sim| kill(sim, node));
        self.sim.never().await;
    }

    /// Queues a policy.
    pub fn queue_policy(self: &Arc<Self>, key: PolicyKey) {
        self.queue(Item::Policy(key));
    }

    /// Queues a remediation.
    pub fn queue_remediation(self: &Arc<Self>, key: EntryKey) {
        self.queue(Item::Remediation(key));
    }
}
