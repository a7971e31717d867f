//! What every other module stands on: time, names, references to Secrets and workloads, what is not known, and values that are
//! kept once or small.
//!
//! Instants are [`jiff::Timestamp`]s (UTC), spans are [`std::time::Duration`]s. Every map is ordered, so that the same
//! input always yields the same output, byte for byte.

mod nodata;
mod secret;
mod shared;
mod workload;

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;

pub use nodata::{NoData, NoDataReason, Observed};
pub use secret::{SecretKeys, SecretRef};
pub use shared::{ByName, Shared};
pub use workload::{
    Autoscaler, FieldManager, MANAGER, Target, TargetKind, TargetRef, Unsettled, Workload, WorkloadNow,
};

/// The name of a cause, a guard or an action: a constant of the engine's tables, or the text of a stored record.
pub type Name = Cow<'static, str>;

/// How long ago `then` was at `now`; zero where `then` is not in the past (clocks differ, and time must not run backwards).
#[must_use]
pub fn elapsed(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or(Duration::ZERO)
}

/// `at + span`, held at the end of representable time instead of failing.
#[must_use]
pub fn later(at: Timestamp, span: Duration) -> Timestamp {
    at.saturating_add(span).unwrap_or(Timestamp::MAX)
}

/// `at - span`, held at the beginning of representable time instead of failing.
#[must_use]
pub fn earlier(at: Timestamp, span: Duration) -> Timestamp {
    at.saturating_sub(span).unwrap_or(Timestamp::MIN)
}

/// Sets to nothing what does not make a value another one: a number, or somebody else's words.
pub(crate) fn forget<T: Default>(value: &mut T) {
    *value = T::default();
}
