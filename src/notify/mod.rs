//! Where announcements end. A sink is one file in here and one line of the table.

mod events;
mod log;
mod metrics;

use controller::ports::Sink;

pub use self::events::{CONTROLLER, Publisher};
use crate::kube::Watched;
use crate::telemetry::Metrics;

/// What the sinks are made of.
pub struct Parts {
    /// Writes Events.
    pub publisher: Publisher,
    /// The operator's own metrics.
    pub metrics: Metrics,
    /// Where targets are known with their uids.
    pub scopes: Vec<Watched>,
}

/// The table of sinks. An announcement is handed to each that wants it, in this order.
#[must_use]
pub fn sinks(Parts { publisher, metrics, scopes }: Parts) -> Vec<Box<dyn Sink>> {
    vec![
        Box::new(log::Log),
        Box::new(metrics::Counted { metrics }),
        Box::new(events::Events { publisher, scopes }),
    ]
}
