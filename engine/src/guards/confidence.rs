//! `Confidence`: what destroys somebody's work needs a cause that is Certain, now.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, forget, pass,
    refuse_if_known,
};
use crate::model::{Confidence, Name};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Confidence,
    refuses: "when the cause is no longer found with the same subject, is explained by another one, is mere advice, or is less than Certain for a disruptive action (less than Likely for any other)",
    stages: PROPOSE_AND_GATE,
    applies: Applies::Always,
    transient: true,
    while_running: WhileRunning::HoldsIfUnknown,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    Found { cause: Name, confidence: Confidence, needed: Confidence },
    NotFound { cause: Name },
    Explained { cause: Name, by: Name },
    Advice { cause: Name, sentence: String },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { cause, confidence, needed } => {
                write!(f, "{cause} is {confidence}, {needed} is needed")
            }
            Self::NotFound { cause } => write!(f, "{cause} is no longer found with this subject"),
            Self::Explained { cause, by } => write!(f, "{cause} is explained by {by}"),
            Self::Advice { cause, sentence } => write!(f, "{cause} is advice: {sentence}"),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Advice { sentence, .. } => forget(sentence),
            Self::Found { .. } | Self::NotFound { .. } | Self::Explained { .. } => {}
        }
    }
}

fn check(context: &Context<'_>) -> Checked {
    let (_, situation) = context.view()?;
    let candidate = context.candidate;
    let cause = candidate.cause.clone();
    let known = candidate.action.act().is_cause_visible(situation);
    let found = situation
        .findings
        .iter()
        .find(|finding| finding.cause == cause && finding.subject.as_ref() == Some(&candidate.subject));
    let Some(finding) = found else {
        return refuse_if_known(known, Fact::NotFound { cause });
    };
    if let Some(by) = &finding.explained_by {
        return refuse_if_known(known, Fact::Explained { cause, by: by.clone() });
    }
    if finding.advice {
        return refuse_if_known(known, Fact::Advice { cause, sentence: finding.sentence.clone() });
    }
    let disruptive = candidate.action.kind().line().traits.disruptive;
    let needed = if disruptive { Confidence::Certain } else { Confidence::Likely };
    let fact = Fact::Found { cause, confidence: finding.confidence, needed };
    if finding.confidence >= needed { pass(fact) } else { refuse_if_known(known, fact) }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;

    #[test]
    fn less_than_certain_is_not_enough_to_cancel() {
        let mut setup = Setup::acting();
        assert_eq!(refused(&setup, GUARD.name, Stage::Propose), None);
        for confidence in [Confidence::Likely, Confidence::Possible] {
            setup.situation.findings[0].confidence = confidence;
            assert!(refused(&setup, GUARD.name, Stage::Propose).is_some());
        }
    }

    #[test]
    fn a_symptom_and_a_cause_that_has_gone_are_refused() {
        let mut setup = Setup::acting();
        setup.situation.findings[0].explained_by = Some("BlockingQuery".into());
        assert!(refused(&setup, GUARD.name, Stage::Gate).is_some());
        setup.situation.findings[0].explained_by = None;
        setup.situation.findings[0].advice = true;
        assert!(refused(&setup, GUARD.name, Stage::Gate).is_some());
        setup.situation.findings.clear();
        assert!(refused(&setup, GUARD.name, Stage::Gate).is_some());
    }
}
