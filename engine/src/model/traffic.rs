//! What a source read over one window, and the verdict on it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{NoData, NoDataReason, Observed, Severity, Shared};

/// One cumulative bucket of a latency histogram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Upper bound in seconds; infinite for the last one.
    #[serde(with = "bound")]
    pub le: f64,
    /// Requests of the window that took at most `le`.
    pub count: f64,
}

/// A bound as it is written down. JSON has no infinity, so the last one is `null`.
mod bound {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn serialize<S: Serializer>(le: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        le.is_finite().then_some(*le).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::INFINITY))
    }
}

/// One window of traffic: kept once for all objectives that are judged by it.
pub type Traffic = Shared<TrafficWindow>;

/// One window of traffic as its source counted it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficWindow {
    /// The window's length.
    pub window: Duration,
    /// Cumulative counts, by ascending bound; the last bound is infinite and counts all requests that were completed.
    pub buckets: Vec<Bucket>,
    /// Requests that are being served or wait to be, at the end of the window.
    pub in_flight: Observed<f64>,
    /// Requests of the window that failed on the server's side.
    pub errors: Observed<f64>,
    /// The same window by view, where its source or another one knows views; read while something is broken.
    pub views: Observed<Vec<ViewTraffic>>,
}

/// The part of a window that one view of the application served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewTraffic {
    /// The view as its source names it; empty where it has no name.
    pub view: String,
    /// As in [`Traffic`]; the bounds are those of the source of the views.
    pub buckets: Vec<Bucket>,
}

impl TrafficWindow {
    /// Requests completed in the window.
    #[must_use]
    pub fn completed(&self) -> f64 {
        completed(&self.buckets)
    }

    /// The smallest finite bucket at or above `seconds`.
    #[must_use]
    pub fn bucket_at(&self, seconds: f64) -> Option<Bucket> {
        bucket_at(&self.buckets, seconds)
    }

    /// The largest finite bound.
    #[must_use]
    pub fn largest_bound(&self) -> Option<f64> {
        largest_bound(&self.buckets)
    }
}

impl ViewTraffic {
    /// Requests that the view completed in the window.
    #[must_use]
    pub fn completed(&self) -> f64 {
        completed(&self.buckets)
    }

    /// The smallest finite bucket at or above `seconds`.
    #[must_use]
    pub fn bucket_at(&self, seconds: f64) -> Option<Bucket> {
        bucket_at(&self.buckets, seconds)
    }

    /// The largest finite bound.
    #[must_use]
    pub fn largest_bound(&self) -> Option<f64> {
        largest_bound(&self.buckets)
    }
}

fn completed(buckets: &[Bucket]) -> f64 {
    buckets.last().map_or(0.0, |bucket| bucket.count)
}

fn bucket_at(buckets: &[Bucket], seconds: f64) -> Option<Bucket> {
    // Bounds come as text: 0.1 and 0.10000000000000001 are one bound.
    buckets.iter().find(|b| b.le.is_finite() && b.le >= seconds - 1e-9).copied()
}

fn largest_bound(buckets: &[Bucket]) -> Option<f64> {
    buckets.iter().rev().map(|b| b.le).find(|le| le.is_finite())
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
    /// The bucket bound at which the target is judged, where the source is a histogram.
    pub bound: Option<Duration>,
    /// What was compared, in words: `91.2% of 480 requests within 500ms, 95% are promised`.
    pub sentence: String,
    /// What a reader of the policy should know about how it is judged: a target between two bounds, a severity that
    /// cannot be seen.
    pub notes: Vec<String>,
}

/// How much of the target is slow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Some views are slow by themselves, and the rest keeps the promise.
    Isolated {
        /// Which, by name.
        views: Vec<String>,
    },
    /// What is slow is shared by all.
    SystemWide,
    /// It cannot be said.
    Unknown(NoData),
}

impl Scope {
    /// Keeps what it is: which views are slow, as far as they are announced.
    pub(crate) fn forget_numbers(&mut self) {
        match self {
            Self::Isolated { views } => views.truncate(MOST_NAMED),
            Self::SystemWide => {}
            Self::Unknown(no_data) => no_data.forget_numbers(),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolated { views } => {
                let verb = if views.len() == 1 { "is" } else { "are" };
                write!(f, "only {} {verb} slow", listed(views))
            }
            Self::SystemWide => f.write_str("the whole target is slow"),
            Self::Unknown(no_data) => {
                write!(f, "whether the whole target is slow is not known: {}", no_data.detail)
            }
        }
    }
}

/// So many views are named; who wants all of them asks the source.
const MOST_NAMED: usize = 5;
/// A view's name is cut off here: it is the application's text.
const LONGEST_NAME: usize = 80;

/// `a, b and c`, and how many more there are.
fn listed(views: &[String]) -> String {
    let mut named: Vec<String> = views.iter().take(MOST_NAMED).map(|view| shown(view)).collect();
    let last = match views.len().saturating_sub(MOST_NAMED) {
        0 => named.pop().unwrap_or_default(),
        more => format!("{more} more"),
    };
    if named.is_empty() { last } else { format!("{} and {last}", named.join(", ")) }
}

fn shown(view: &str) -> String {
    let shown: String = view.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    if shown.is_empty() { "the view without a name".to_owned() } else { shown }
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
    /// How much of the target is slow, where requests are slow or hang; errors have none.
    pub scope: Option<Scope>,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn only(views: &[&str]) -> String {
        Scope::Isolated { views: views.iter().map(|view| (*view).to_owned()).collect() }.to_string()
    }

    #[test]
    fn a_scope_is_said_in_one_sentence() {
        assert_eq!(only(&["/orders"]), "only /orders is slow");
        assert_eq!(only(&["/orders", "/reports"]), "only /orders and /reports are slow");
        assert_eq!(only(&["a", "b", "c", "d", "e"]), "only a, b, c, d and e are slow");
        assert_eq!(only(&["a", "b", "c", "d", "e", "f", "g"]), "only a, b, c, d, e and 2 more are slow");
        assert_eq!(Scope::SystemWide.to_string(), "the whole target is slow");
        let unknown = Scope::Unknown(NoData::new(NoDataReason::Empty, "Caddy counts no views"));
        assert_eq!(
            unknown.to_string(),
            "whether the whole target is slow is not known: Caddy counts no views"
        );
    }

    #[test]
    fn the_applications_text_is_cut_and_cannot_break_a_line() {
        assert_eq!(only(&[&"é".repeat(200)]), format!("only {} is slow", "é".repeat(80)));
        assert_eq!(only(&["a\n\u{1b}[31mb"]), "only a[31mb is slow");
        assert_eq!(only(&[""]), "only the view without a name is slow");
    }
}
