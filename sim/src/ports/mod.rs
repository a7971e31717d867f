//! The ports of the driver over the simulated world.

mod act;
mod cluster;
mod leases;
mod observe;

use std::sync::Arc;
use std::time::Duration;

use controller::announcement::Announcement;
use controller::objects::{Measurement, Recorded};
use controller::ports::{Announce, Environment, Leading, Ports, Time, Timer};
use engine::invariants::What;
use engine::model::Draining;
use jiff::Timestamp;

pub use self::leases::LEASE;
use crate::process::Process;
use crate::work::micros;
use crate::world::count;

/// The environment of a simulated process.
pub struct Simulated;

/// All ports of one process.
#[derive(Clone)]
pub struct Port(Arc<Process>);

impl Environment for Simulated {
    type Cluster = Port;
    type Observe = Port;
    type Act = Port;
    type Announce = Port;
    type Time = Port;
    type Leading = Port;
}

/// The ports of a process.
#[must_use]
pub fn of(process: &Arc<Process>) -> Ports<Simulated> {
    let port = || Port(process.clone());
    Ports { cluster: port(), observe: port(), act: port(), announce: port(), time: port(), leading: port() }
}

impl Announce for Port {
    fn announce(&self, announcement: &Announcement) {
        let Announcement { policy, reason, note, .. } = announcement;
        let mut world = self.0.sim.world();
        for refusal in announcement.record().map(|record| record.kind.refusals()).unwrap_or_default() {
            count(&mut world.counts.refusals, &format!("{} (propose)", refusal.guard));
        }
        if let Some(reason) = reason {
            world.tell(What::Wrote(format!("Event {} of {}: {note}", reason.name, **policy)));
        }
    }

    fn evaluated(&self, _: Recorded<'_>) {}

    fn measure(&self, measurement: Measurement<'_>) {
        match measurement {
            Measurement::Evaluated { .. } => self.0.sim.world().counts.ticks += 1,
            Measurement::Late(_)
            | Measurement::Read(_)
            | Measurement::NoData(_)
            | Measurement::Incident(_)
            | Measurement::Policy { .. }
            | Measurement::Forgotten(_) => {}
        }
    }
}

impl Timer for Port {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + 'static {
        self.0.sim.sleep(micros(span))
    }
}

impl Time for Port {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.sim.spawn(self.0.node, task);
    }

    fn chance(&self) -> f64 {
        let hundredths = self.0.sim.world().dice.below(100);
        f64::from(u32::try_from(hundredths).unwrap_or(0)) / 100.0
    }
}

impl Leading for Port {
    fn held(&self) -> bool {
        self.0.term().is_some_and(|term| term.held(self.0.monotonic(), None))
    }

    fn identity(&self) -> &str {
        &self.0.identity
    }

    fn epoch(&self) -> u64 {
        self.0.term().map_or(0, |term| term.epoch())
    }

    fn draining(&self) -> Option<Draining> {
        self.0.term()?.draining(self.0.monotonic())
    }

    fn since_contact(&self) -> Duration {
        self.0.term().map_or(Duration::MAX, |term| term.since_contact(self.0.monotonic()))
    }
}
