//! Looking at all policies together: who owns which workload, who acts for many, and whether there is a storm.

use std::collections::BTreeSet;

use crate::model::{
    Confidence, Mode, NoDataReason, Overall, PolicyRef, Root, Situation, Snapshot, Survey, Tally, TargetRef,
    Verdict,
};

/// Puts the newest looks at all policies together. Pure; linear in their number.
#[must_use]
pub fn survey<'a>(views: impl IntoIterator<Item = (&'a Snapshot, &'a Situation)> + Clone) -> Survey {
    let mut survey = Survey::default();
    for (snapshot, situation) in views.clone() {
        enter(&mut survey, snapshot, situation);
    }
    for (snapshot, situation) in views {
        count(&mut survey, snapshot, situation);
    }
    for owners in survey.owners.values_mut() {
        owners.sort();
    }
    survey
}

/// Who it is, what it changes, and what it suffers from.
fn enter(survey: &mut Survey, snapshot: &Snapshot, situation: &Situation) {
    let policy = &snapshot.policy;
    let backends = policy.objectives.iter().filter_map(|objective| objective.source.backend());
    survey.backends.insert(policy.id.clone(), backends.map(str::to_owned).collect());
    let acts = policy.rungs.iter().filter(|rung| policy.mode_of(rung) == Mode::Auto);
    let changed: BTreeSet<&TargetRef> = acts.filter_map(|rung| policy.changes(rung)).collect();
    for workload in changed {
        let key = (policy.id.namespace.clone(), workload.clone());
        survey.owners.entry(key).or_default().push((policy.created_at, policy.id.clone()));
    }
    for root in roots(snapshot, situation) {
        survey.actors.entry(root).or_default().1 += 1;
    }
    for root in &situation.proposed {
        let actor = (policy.created_at, policy.id.clone());
        survey.actors.entry(root.clone()).or_default().0.insert(actor);
    }
}

/// The culprits that are Certain.
fn roots(snapshot: &Snapshot, situation: &Situation) -> Vec<Root> {
    let certain = situation
        .findings
        .iter()
        .filter(|finding| finding.confidence == Confidence::Certain && finding.is_actionable_root());
    certain.filter_map(|finding| snapshot.root(finding.subject.as_ref()?)).collect()
}

fn count(survey: &mut Survey, snapshot: &Snapshot, situation: &Situation) {
    let policy: &PolicyRef = &snapshot.policy.id;
    let target = (policy.namespace.clone(), snapshot.policy.target.clone());
    let shared = roots(snapshot, situation)
        .into_iter()
        .find(|root| survey.actors.get(root).is_some_and(|(_, policies)| *policies > 1));
    let dark = situation.overall == Overall::NoData && is_dark(situation);
    let enter = |tally: &mut Tally| {
        tally.targets.insert(target.clone());
        match (situation.overall, &shared) {
            (Overall::Breached(_), Some(root)) => {
                tally.roots.insert(root.clone());
            }
            (Overall::Breached(_), None) => {
                tally.breached.insert(target.clone());
            }
            (Overall::NoData, _) if dark => {
                tally.dark.insert(target.clone());
            }
            (Overall::NoData | Overall::Healthy, _) => {}
        }
    };
    enter(&mut survey.all);
    for backend in survey.backends.get(policy).cloned().unwrap_or_default() {
        enter(survey.by_backend.entry(backend).or_default());
    }
}

/// Whether data is missing because of the source. That hardly anybody asks for anything at night is no trouble.
fn is_dark(situation: &Situation) -> bool {
    situation.readings.iter().any(|reading| match &reading.verdict {
        Verdict::NoData(no_data) => {
            !matches!(no_data.reason, NoDataReason::TooFewRequests | NoDataReason::TargetBeyondBuckets)
        }
        Verdict::Breached(_) | Verdict::Healthy => false,
    })
}
