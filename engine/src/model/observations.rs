//! What was read for one evaluation: measurements of the target's speed, dependencies, the target itself, and pauses.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ByName, NoData, Observed, Pause, PostgresFacts, Probed, RedisFacts, Target, Traffic};
use crate::dependencies::Facts;

/// What was measured for an objective. It is judged by what it is, not by where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Measurement {
    /// Counts of a histogram over a window.
    Histogram(Traffic),
    /// A request that was timed.
    Timed(Probed),
}

impl From<Traffic> for Measurement {
    fn from(traffic: Traffic) -> Self {
        Self::Histogram(traffic)
    }
}

impl From<Probed> for Measurement {
    fn from(probed: Probed) -> Self {
        Self::Timed(probed)
    }
}

/// A reading and when it was made, or why there is none.
pub type Read<'a, T> = Result<(Timestamp, &'a T), &'a NoData>;

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observations {
    /// What was measured for each objective, by its name.
    #[serde(default)]
    pub measurements: ByName<Observed<Measurement>>,
    /// What was read of each dependency, by its name.
    #[serde(default)]
    pub dependencies: ByName<Observed<Facts>>,
    /// The target.
    pub target: Observed<Target>,
    /// Pauses, expired ones included.
    #[serde(default)]
    pub pauses: Vec<Pause>,
}

impl Observations {
    /// Nothing but the target has been read.
    #[must_use]
    pub fn new(target: Observed<Target>) -> Self {
        Self { measurements: ByName::new(), dependencies: ByName::new(), target, pauses: Vec::new() }
    }

    /// The histogram of an objective; none where nothing has been read for it, or something else.
    #[must_use]
    pub fn traffic(&self, objective: &str) -> Option<Read<'_, Traffic>> {
        read(self.measurements.get(objective)?, histogram)
    }

    /// The timed request of an objective; none where nothing has been read for it, or something else.
    #[must_use]
    pub fn probed(&self, objective: &str) -> Option<Read<'_, Probed>> {
        read(self.measurements.get(objective)?, |measurement| match measurement {
            Measurement::Timed(probed) => Some(probed),
            Measurement::Histogram(_) => None,
        })
    }

    /// All histograms that could be read, by objective.
    pub fn all_traffic(&self) -> impl Iterator<Item = (&str, &Traffic)> {
        self.measurements
            .iter()
            .filter_map(|(name, observed)| Some((name.as_str(), histogram(observed.known()?)?)))
    }

    /// What was read of a dependency of one kind; none where it has not been looked at. `of` picks the kind, as
    /// [`Facts::postgres`] does.
    pub fn of<F>(&self, dependency: &str, of: impl Fn(&Facts) -> Option<&F>) -> Option<Read<'_, F>> {
        read(self.dependencies.get(dependency)?, of)
    }

    /// What was read of a PostgreSQL dependency; none where it has not been looked at.
    #[must_use]
    pub fn postgres(&self, dependency: &str) -> Option<Read<'_, PostgresFacts>> {
        self.of(dependency, Facts::postgres)
    }

    /// What was read of a Redis dependency; none where it has not been looked at.
    #[must_use]
    pub fn redis(&self, dependency: &str) -> Option<Read<'_, RedisFacts>> {
        self.of(dependency, Facts::redis)
    }
}

fn histogram(measurement: &Measurement) -> Option<&Traffic> {
    match measurement {
        Measurement::Histogram(traffic) => Some(traffic),
        Measurement::Timed(_) => None,
    }
}

fn read<T, U>(observed: &Observed<T>, wanted: impl Fn(&T) -> Option<&U>) -> Option<Read<'_, U>> {
    match observed.as_result() {
        Ok((at, value)) => Some(Ok((at, wanted(value)?))),
        Err(no_data) => Some(Err(no_data)),
    }
}
