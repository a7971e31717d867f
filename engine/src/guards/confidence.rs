//! `Confidence`: what destroys somebody's work needs a cause that is Certain, now.

use super::{Context, Guard, PROPOSE_AND_GATE, always};
use crate::model::Confidence;
use crate::remediations::remedy;

pub(super) const GUARD: Guard = Guard {
    name: "Confidence",
    refuses: "when the cause is no longer found with the same subject, is explained by another one, is mere advice, or is less than Certain for a disruptive action (less than Likely for any other)",
    stages: PROPOSE_AND_GATE,
    applies: always,
    check,
};

fn check(context: &Context<'_>) -> Result<String, String> {
    let (_, situation) = context.view()?;
    let candidate = context.candidate;
    let found = situation.findings.iter().find(|finding| {
        finding.cause == candidate.cause && finding.subject.as_ref() == Some(&candidate.subject)
    });
    let Some(finding) = found else {
        return Err(format!("{} is no longer found with this subject", candidate.cause));
    };
    if let Some(root) = &finding.explained_by {
        return Err(format!("{} is explained by {root}", candidate.cause));
    }
    if finding.advice {
        return Err(format!("{} is advice: {}", candidate.cause, finding.sentence));
    }
    let disruptive = remedy(candidate.action.kind()).traits.disruptive;
    let needed = if disruptive { Confidence::Certain } else { Confidence::Likely };
    let numbers = format!("{} is {}, {needed} is needed", finding.cause, finding.confidence);
    if finding.confidence >= needed { Ok(numbers) } else { Err(numbers) }
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
