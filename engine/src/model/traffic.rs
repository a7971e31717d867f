//! What a source read over one window, and the verdict on it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{NoData, NoDataReason, Observed, Severity};

/// One cumulative bucket of a latency histogram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Upper bound in seconds; infinite for the last one.
    pub le: f64,
    /// Requests of the window that took at most `le`.
    pub count: f64,
}

/// One window of traffic as its source counted it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// The window's length.
    pub window: Duration,
    /// Cumulative counts, by ascending bound; the last bound is infinite and counts all requests that were completed.
    pub buckets: Vec<Bucket>,
    /// Requests that are being served or wait to be, at the end of the window.
    pub in_flight: Observed<f64>,
    /// Requests of the window that failed on the server's side.
    pub errors: Observed<f64>,
}

impl Traffic {
    /// Requests completed in the window.
    #[must_use]
    pub fn completed(&self) -> f64 {
        self.buckets.last().map_or(0.0, |bucket| bucket.count)
    }

    /// The smallest finite bucket at or above `seconds`.
    #[must_use]
    pub fn bucket_at(&self, seconds: f64) -> Option<Bucket> {
        // Bounds come as text: 0.1 and 0.10000000000000001 are one bound.
        self.buckets.iter().find(|b| b.le.is_finite() && b.le >= seconds - 1e-9).copied()
    }

    /// The largest finite bound.
    #[must_use]
    pub fn largest_bound(&self) -> Option<f64> {
        self.buckets.iter().rev().map(|b| b.le).find(|le| le.is_finite())
    }
}

/// In which way an objective is breached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BreachKind {
    /// Too few requests finish in time.
    Slow,
    /// Too many requests fail.
    Errors,
    /// Hardly anything completes although requests are waiting.
    Hanging,
}

/// A broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// In which way.
    pub kind: BreachKind,
    /// How bad.
    pub severity: Severity,
}

/// The three answers to every question about a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The promise is broken.
    Breached(Breach),
    /// The promise is kept, and there were enough requests to say so.
    Healthy,
    /// It cannot be said.
    NoData(NoData),
}

/// The numbers behind a verdict, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Requests that were completed in the window.
    pub requests: f64,
    /// The interpolated quantile in seconds, or the share of errors. Shown, never judged.
    pub value: Option<f64>,
    /// What was compared, in words: `91.2% of 480 requests within 500ms, 95% are promised`.
    pub sentence: String,
    /// What a reader of the policy should know about how it is judged: a target between two bounds, a severity that
    /// cannot be seen.
    pub notes: Vec<String>,
}

/// The verdict on one objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Which objective.
    pub objective: String,
    /// The end of the judged window.
    pub at: Timestamp,
    /// The verdict.
    pub verdict: Verdict,
    /// Its numbers, where there are any.
    pub measured: Option<Measured>,
}

impl Reading {
    /// The breach, if there is one.
    #[must_use]
    pub fn breach(&self) -> Option<Breach> {
        match self.verdict {
            Verdict::Breached(breach) => Some(breach),
            Verdict::Healthy | Verdict::NoData(_) => None,
        }
    }

    /// Whether it could be judged if there were data: the exporter's buckets do not lie below the target.
    #[must_use]
    pub fn can_be_judged(&self) -> bool {
        !matches!(&self.verdict, Verdict::NoData(no_data) if no_data.reason == NoDataReason::TargetBeyondBuckets)
    }

    /// The verdict in one sentence with its numbers.
    #[must_use]
    pub fn sentence(&self) -> String {
        match (&self.verdict, &self.measured) {
            (Verdict::NoData(no_data), _) => no_data.to_string(),
            (_, Some(measured)) => measured.sentence.clone(),
            (Verdict::Breached(_), None) => "breached".to_owned(),
            (Verdict::Healthy, None) => "healthy".to_owned(),
        }
    }
}
