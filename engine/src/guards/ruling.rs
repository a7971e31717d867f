//! What guards answer: values with their numbers. The sentences are made of them where people read them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Fact, GuardName};

/// What a guard answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Ruling {
    /// It lets the candidate through.
    Pass(Fact),
    /// It keeps the candidate back.
    Refuse(Fact),
    /// It lacks what it needs to judge, and so keeps the candidate back. The next look may bring it.
    Unknown(Fact),
}

impl Ruling {
    /// What it rests on.
    #[must_use]
    pub fn fact(&self) -> &Fact {
        match self {
            Self::Pass(fact) | Self::Refuse(fact) | Self::Unknown(fact) => fact,
        }
    }
}

/// What one guard answered about one candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardVerdict {
    /// The guard.
    pub guard: GuardName,
    /// Its answer.
    pub ruling: Ruling,
}

impl GuardVerdict {
    /// Whether it lets the candidate through.
    #[must_use]
    pub fn passed(&self) -> bool {
        matches!(self.ruling, Ruling::Pass(_))
    }

    /// What it rests on.
    #[must_use]
    pub fn fact(&self) -> &Fact {
        self.ruling.fact()
    }
}

/// The guard and its sentence.
impl fmt::Display for GuardVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.guard, self.fact())
    }
}

/// What every guard may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lacking {
    /// A current look at the policy.
    Snapshot,
    /// The ledger, the operator's replicas and the ceilings.
    Ledger,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snapshot => "there is no current snapshot of the policy",
            Self::Ledger => "the ledger cannot be asked",
        })
    }
}

/// What a guard's check comes to.
pub(crate) type Checked<T = Fact> = Result<T, Held>;

/// Why a candidate is kept back. In a box: facts are large, and most candidates pass.
#[derive(Debug)]
pub(crate) struct Held(Box<Ruling>);

impl From<Lacking> for Held {
    fn from(lacking: Lacking) -> Self {
        Self(Box::new(Ruling::Unknown(Fact::Lacking(lacking))))
    }
}

impl From<Checked> for Ruling {
    fn from(checked: Checked) -> Self {
        match checked {
            Ok(fact) => Self::Pass(fact),
            Err(Held(ruling)) => *ruling,
        }
    }
}

/// The guard lets the candidate through.
pub(super) fn pass(fact: impl Into<Fact>) -> Checked {
    Ok(fact.into())
}

/// The guard keeps the candidate back.
pub(super) fn refuse<T>(fact: impl Into<Fact>) -> Checked<T> {
    Err(Held(Box::new(Ruling::Refuse(fact.into()))))
}

/// The guard keeps the candidate back because it cannot judge.
pub(super) fn unknown<T>(fact: impl Into<Fact>) -> Checked<T> {
    Err(Held(Box::new(Ruling::Unknown(fact.into()))))
}

/// The guard keeps the candidate back. Where not all is `known` that it looks at, the next look may show something else.
pub(super) fn refuse_if_known<T>(known: bool, fact: impl Into<Fact>) -> Checked<T> {
    if known { refuse(fact) } else { unknown(fact) }
}
