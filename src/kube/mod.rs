//! The ports of the driver on Kubernetes, and the queues that feed it.

mod act;
mod announce;
pub mod budgets;
pub mod cluster;
pub mod convert;
pub mod events;
mod isolate;
mod manager;
mod observe;
mod time;
pub mod watched;
pub(crate) mod write;

use controller::ports::{Environment, Leading};
use engine::model::Draining;

pub use self::act::Actor;
pub use self::announce::Announcer;
pub use self::cluster::{Cluster, list_remediations};
pub use self::manager::{Led, lead};
pub use self::observe::ObservePort;
pub use self::time::Timers;
pub use self::watched::Watched;
use crate::leader::Leadership;

/// The operator on Kubernetes.
pub struct Kubernetes;

impl Environment for Kubernetes {
    type Cluster = Cluster;
    type Observe = ObservePort;
    type Act = Actor;
    type Announce = Announcer;
    type Time = Timers;
    type Leading = Leadership;
}

/// The controllers on Kubernetes.
pub type Controllers = controller::Controllers<Kubernetes>;

impl Leading for Leadership {
    fn held(&self) -> bool {
        Self::held(self)
    }

    fn identity(&self) -> &str {
        Self::identity(self)
    }

    fn epoch(&self) -> u64 {
        Self::epoch(self)
    }

    fn draining(&self) -> Option<Draining> {
        Self::draining(self)
    }

    fn since_contact(&self) -> std::time::Duration {
        Self::since_contact(self)
    }
}
