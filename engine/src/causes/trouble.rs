//! Why a database is not known to be well.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{Confidence, Finding, Name, NoData, forget};

/// The first reason of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DatabaseTrouble {
    /// Not all of it can be read.
    Partial {
        /// The dependency's name.
        database: String,
        /// The statement that changes that.
        grant: String,
    },
    /// It cannot be read.
    Unreadable {
        /// The dependency's name.
        database: String,
        /// Why.
        why: NoData,
    },
    /// It has not been looked at.
    NotRead {
        /// The dependency's name.
        database: String,
    },
    /// Something was found in it.
    Found {
        /// The cause.
        cause: Name,
        /// How sure it is.
        confidence: Confidence,
        /// What was measured.
        sentence: String,
    },
}

impl DatabaseTrouble {
    /// Keeps what kind of trouble it is, with its names, and none of the numbers.
    pub(crate) fn forget_numbers(&mut self) {
        match self {
            Self::Unreadable { why, .. } => why.forget_numbers(),
            Self::Found { sentence, .. } => forget(sentence),
            Self::Partial { .. } | Self::NotRead { .. } => {}
        }
    }
}

impl From<&Finding> for DatabaseTrouble {
    fn from(finding: &Finding) -> Self {
        Self::Found {
            cause: finding.cause.clone(),
            confidence: finding.confidence,
            sentence: finding.sentence.clone(),
        }
    }
}

impl fmt::Display for DatabaseTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partial { database, grant } => {
                write!(f, "{database} can be read in part only; run: {grant}")
            }
            Self::Unreadable { database, why } => write!(f, "{database} cannot be read: {why}"),
            Self::NotRead { database } => write!(f, "{database} has not been read"),
            Self::Found { cause, confidence, sentence } => write!(f, "{cause} ({confidence}): {sentence}"),
        }
    }
}
