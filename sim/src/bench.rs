//! One port of the simulation without faults, for tests: nothing happens but what they ask for.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::exec::{Micros, Sim};
use crate::ports::{self, Port};
use crate::process::Process;
use crate::world::World;

/// An empty world, and the port of one process in it that does nothing of its own accord.
#[must_use]
pub fn port(seed: u64) -> (Arc<Sim>, Port) {
    let sim = Sim::new(World::new(seed));
    let port = ports::of(&Process::new(&sim, 0)).cluster;
    (sim, port)
}

/// Lets virtual time pass until a future has its answer; nothing where it waits for something that never happens. What
/// watches would show stays in the world's news.
pub fn answer<T>(sim: &Arc<Sim>, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    // Each step may be what the future waits for: it is asked after each.
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
            return Some(answer);
        }
        if !sim.step(Micros::MAX) {
            return None;
        }
    }
}
