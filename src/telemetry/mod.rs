//! What the operator tells about itself: logs, metrics, health.

pub mod logs;
pub mod metrics;
mod recorder;
pub mod server;

pub use metrics::Metrics;
pub use recorder::Recorder;
pub use server::Health;
