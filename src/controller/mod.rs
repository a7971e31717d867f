//! The two controllers, and what they share.
//!
//! The policy controller looks, decides and tells; it only proposes. The remediation controller carries out the steps that
//! `engine::advance` returns, also for a policy that is paused, invalid or gone.

pub mod budgets;
pub mod context;
pub mod events;
mod isolate;
pub mod keeper;
mod look;
pub mod policy;
pub mod reasons;
pub mod remediation;
mod retention;
mod work;

pub use context::{Context, STATUS_WRITES, Shared, Views};
pub use work::{lead, list_remediations};
