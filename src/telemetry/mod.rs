//! What the operator tells about itself: logs, metrics, health.

pub mod logs;
pub mod metrics;
pub mod server;

pub use metrics::Metrics;
pub use server::Health;
