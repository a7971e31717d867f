//! What was in force when.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::earlier;

/// Values with the instants from which on they were in force.
#[derive(Debug, Clone)]
pub(super) struct Timeline<T> {
    values: Vec<(Timestamp, T)>,
}

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self { values: Vec::new() }
    }
}

/// Older values matter to no rule.
const KEPT: Duration = Duration::from_secs(3600);

impl<T> Timeline<T> {
    pub(super) fn push(&mut self, at: Timestamp, value: T) {
        let oldest = earlier(at, KEPT);
        let past = self.values.iter().rposition(|(since, _)| *since <= oldest).unwrap_or(0);
        self.values.drain(..past);
        self.values.push((at, value));
    }

    pub(super) fn last(&self) -> Option<&T> {
        self.values.last().map(|(_, value)| value)
    }

    /// All values that were in force at some instant of `[now - span, now]`.
    pub(super) fn during(&self, now: Timestamp, span: Duration) -> &[(Timestamp, T)] {
        let from = earlier(now, span);
        let first = self.values.iter().rposition(|(since, _)| *since <= from).unwrap_or(0);
        self.values.get(first..).unwrap_or_default()
    }
}
