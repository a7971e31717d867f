//! Recordings: what each evaluation knew and what it decided, one JSON object a line, and the same decisions made again.
//!
//! A recording begins with a [`Header`]. Each further line is an [`Evaluation`]. Replaying a recording feeds the snapshots to
//! [`tick()`](crate::tick()) in their order, with the answers that admission gave at that time, and yields records that must be equal.
//!
//! A field that is added to a recorded type has `#[serde(default)]`, so that older recordings can be read. A change that needs more than
//! that raises [`VERSION`], and a module of its own reads the version before it.

mod version1;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::{PolicyRef, Snapshot};
use crate::record::DecisionRecord;
use crate::{Admitted, State, settle, tick};

/// The name of the format in the header.
pub const FORMAT: &str = "latency-operator-recording";
/// The version of the format that this version writes. It reads this one and all earlier ones.
pub const VERSION: u32 = 2;

/// The first line of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// The version of the format.
    pub version: u32,
    /// The version of the operator that wrote it.
    pub operator: String,
}

impl Header {
    /// The header of a recording that this version writes.
    #[must_use]
    pub fn new(operator: &str) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, operator: operator.to_owned() }
    }

    /// Checks that this version can replay what follows.
    ///
    /// # Errors
    /// It is another format, or a later version; says which.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("the format is {:?}, expected {FORMAT:?}", self.format));
        }
        if self.version == 0 || self.version > VERSION {
            return Err(format!("the format version is {}, this version reads 1 to {VERSION}", self.version));
        }
        Ok(())
    }
}

/// One evaluation of one policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Everything that was known.
    pub snapshot: Snapshot,
    /// What admission answered to the proposals, in their order.
    #[serde(default)]
    pub answers: Vec<Admitted>,
    /// What was decided.
    #[serde(default)]
    pub records: Vec<DecisionRecord>,
}

/// Reads the lines of a recording of any version up to [`VERSION`], in their order.
#[derive(Debug)]
pub struct Reader {
    version: u32,
    version1: version1::Reader,
}

impl Reader {
    /// Reads what follows this header.
    ///
    /// # Errors
    /// See [`Header::check`].
    pub fn new(header: &Header) -> Result<Self, String> {
        header.check()?;
        Ok(Self { version: header.version, version1: version1::Reader::default() })
    }

    /// Reads one evaluation.
    ///
    /// # Errors
    /// It is no evaluation as the recording's version writes it.
    pub fn read<'de, D: Deserializer<'de>>(&mut self, line: D) -> Result<Evaluation, D::Error> {
        match self.version {
            1 => self.version1.read(line),
            _ => Evaluation::deserialize(line),
        }
    }
}

/// Evaluates recorded snapshots again. Each policy starts without a memory, as it did when its leader began to record.
#[derive(Debug, Default)]
pub struct Replay {
    states: BTreeMap<String, State>,
}

impl Replay {
    /// What this version decides on a recorded evaluation.
    pub fn decide(&mut self, evaluation: &Evaluation) -> Vec<DecisionRecord> {
        let PolicyRef { uid, .. } = &evaluation.snapshot.policy.id;
        let state = self.states.entry(uid.clone()).or_default();
        let mut ticked = tick(&evaluation.snapshot, state);
        settle(&evaluation.snapshot, &mut ticked, &evaluation.answers);
        *state = ticked.state;
        ticked.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_version_of_the_format_is_refused_with_both_numbers() {
        assert_eq!(Header::new("0.1.0").check(), Ok(()));
        let later = Header { version: VERSION + 1, ..Header::new("9.0.0") };
        let error = later.check().unwrap_err();
        assert!(
            error.contains(&(VERSION + 1).to_string()) && error.contains(&VERSION.to_string()),
            "{error}"
        );
        let other = Header { format: "something".into(), ..Header::new("0.1.0") };
        assert!(other.check().unwrap_err().contains("something"));
    }
}
