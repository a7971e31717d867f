//! The ports of the driver on Kubernetes, and the queues that feed it.

mod act;
mod announce;
pub mod budgets;
pub mod cluster;
pub mod convert;
mod dates;
mod isolate;
pub mod leader;
mod manager;
pub mod namespaces;
mod observe;
mod time;
pub mod watched;
pub(crate) mod write;

use controller::ports::Environment;

pub use self::act::Actor;
pub use self::announce::Announcer;
pub use self::cluster::{Cluster, list_remediations};
pub use self::dates::Dates;
pub use self::leader::Leadership;
pub use self::manager::{Led, lead};
pub use self::namespaces::Namespaces;
pub use self::observe::ObservePort;
pub use self::time::Timers;
pub use self::watched::Watched;

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
