//! The ladder: the first rung whose causes were found (roots, not symptoms) and which every guard lets through.

use std::time::Duration;

use super::{Overall, Situation};
use crate::admit::Proposal;
use crate::causes;
use crate::guards::{self, Context, GUARDS, Guard, Stage};
use crate::model::{
    Action, Candidate, Escalation, Finding, Incident, Memory, Outcome, Phase, Remediation, Rung, Snapshot,
    VerifySpec, elapsed,
};
use crate::record::RecordKind;

/// So long causes are looked for before it is said that there is none: some have to grow before they can be told.
const LOOK_FOR: Duration = Duration::from_secs(30);

/// What the ladder came to.
#[derive(Default)]
pub(super) struct Decided {
    pub(super) records: Vec<RecordKind>,
    pub(super) proposals: Vec<Proposal>,
    /// What rungs would do against mere symptoms, and why they do not.
    symptoms: Vec<RecordKind>,
}

impl Decided {
    /// Whether something is said or proposed about the same rung already.
    fn speaks_of(&self, record: &RecordKind) -> bool {
        let RecordKind::Blocked { rung, .. } = record else { return false };
        let said = |known: &RecordKind| matches!(known, RecordKind::Blocked { rung: other, .. } | RecordKind::Proposed { rung: other, .. } if other == rung);
        self.records.iter().any(said) || self.proposals.iter().any(|p| p.candidate.rung == *rung)
    }
}

pub(super) fn decide(snapshot: &Snapshot, state: &Memory, situation: &Situation) -> Decided {
    let mut decided = Decided::default();
    let Some(incident) = &situation.incident else { return decided };
    if let Some(open) = snapshot.remediations.iter().find(|r| r.is_open() && r.spec.incident == incident.name)
    {
        decided.records.push(proposed(open));
        return decided;
    }
    // Also while nothing can be seen: that is how an act becomes Inconclusive.
    let unfinished = unfinished(snapshot, incident);
    if !matches!(situation.overall, Overall::Breached(_)) {
        decided.records.extend(unfinished);
        return decided;
    }
    for rung in &snapshot.policy.rungs {
        if climb(snapshot, situation, incident, rung, &mut decided) {
            return decided;
        }
    }
    if decided.proposals.is_empty() {
        let escalated = unfinished.or_else(|| escalation(snapshot, state, situation, incident, &decided));
        decided.records.extend(escalated);
    }
    let mut symptoms = std::mem::take(&mut decided.symptoms);
    symptoms.retain(|record| !decided.speaks_of(record));
    decided.records.append(&mut symptoms);
    decided
}

/// Tries one rung. All of its candidates that may go by what is known here are proposed, in order: `admit` takes the first
/// of an incident that may go by what is known about others too. True where a dry run says already what the ladder would
/// do, so that the rungs below are not asked.
fn climb(
    snapshot: &Snapshot,
    situation: &Situation,
    incident: &Incident,
    rung: &Rung,
    decided: &mut Decided,
) -> bool {
    let ours = |r: &&Remediation| r.spec.incident == incident.name && r.spec.rung == rung.name;
    let earlier: Vec<&Remediation> = snapshot.remediations.iter().filter(ours).collect();
    let adds_load = rung.action.kind().line().traits.adds_load;
    // A symptom matches no rung. Where capacity would have been the answer, people are told why it is not: the guards
    // refuse it, with the root.
    let found = situation.findings.iter().filter(|f| {
        rung.causes.contains(&f.cause) && (f.is_actionable_root() || (adds_load && f.explained_by.is_some()))
    });
    let mut refused = None;
    let before = decided.proposals.len();
    for finding in found {
        let Some(action) = rung.action.settings().propose(snapshot, rung, finding) else { continue };
        if earlier.iter().any(|r| was_tried(r, &action)) {
            continue;
        }
        let attempt =
            earlier.iter().filter(|r| !r.spec.is_dry_run()).map(|r| r.spec.attempt).max().unwrap_or(0) + 1;
        let candidate = candidate(snapshot, incident, rung, finding, action, attempt);
        if let Some(written) = earlier.iter().find(|r| r.spec.is_dry_run()).filter(|_| candidate.is_dry_run())
        {
            decided.records.push(proposed(written));
            return true;
        }
        let view = Some((snapshot, situation));
        let context = Context {
            stage: Stage::Propose,
            now: snapshot.now,
            candidate: &candidate,
            view,
            admission: None,
        };
        let verdicts = guards::evaluate(&context);
        let refusals = guards::refusals(&verdicts);
        if refusals.is_empty() {
            decided.proposals.push(Proposal { candidate, verdicts });
            continue;
        }
        let blocked = RecordKind::Blocked {
            rung: rung.name.clone(),
            cause: candidate.cause.clone(),
            action: candidate.action.act().sentence(),
            refusals,
        };
        if finding.explained_by.is_some() {
            decided.symptoms.push(blocked);
        } else {
            refused.get_or_insert(blocked);
        }
    }
    if decided.proposals.len() == before {
        decided.records.extend(refused);
    }
    false
}

/// The same is never done twice to the same by a rung, unless nothing was done the first time, or it healed and the incident
/// was opened again: `Cooldown`, `MaxAttempts` and `Flapping` bound that.
fn was_tried(earlier: &Remediation, action: &Action) -> bool {
    let retryable = match earlier.status.phase {
        Phase::Failed | Phase::Refused | Phase::Expired | Phase::DryRun => true,
        Phase::Completed => earlier.status.outcome == Some(Outcome::Healed),
        // What a person has denied stays denied for as long as the incident lasts.
        Phase::AwaitingApproval
        | Phase::Admitted
        | Phase::Executing
        | Phase::Verifying
        | Phase::Denied
        | Phase::OutcomeUnknown => false,
    };
    !retryable && !earlier.spec.is_dry_run() && earlier.spec.action.repeats(action)
}

fn candidate(
    snapshot: &Snapshot,
    incident: &Incident,
    rung: &Rung,
    finding: &Finding,
    action: Action,
    attempt: u32,
) -> Candidate {
    let policy = &snapshot.policy;
    let settings = rung.action.settings();
    Candidate {
        policy: policy.id.clone(),
        target: policy.target.clone(),
        incident: incident.name.clone(),
        rung: rung.name.clone(),
        attempt,
        mode: policy.mode_of(rung),
        cause: finding.cause.clone(),
        confidence: finding.confidence,
        subject: finding.subject.clone().unwrap_or_else(|| action.act().subject()),
        reason: finding.sentence.clone(),
        resource: action.act().resource(&policy.id.namespace),
        cooldown: policy.guards.cooldown,
        max_actions_per_hour: policy.guards.max_actions_per_hour,
        // What takes its time is verified from its beginning.
        verify: VerifySpec {
            after: policy.verification.after,
            within: policy.verification.within.saturating_add(action.lasts()),
            window: policy.evaluation.window,
            effect_within: settings.effect_within(&action),
        },
        undo: settings.undo(policy, &action),
        action,
    }
}

fn proposed(remediation: &Remediation) -> RecordKind {
    RecordKind::Proposed {
        rung: remediation.spec.rung.clone(),
        remediation: remediation.name.clone(),
        cause: remediation.spec.cause.clone(),
        action: remediation.spec.action.act().sentence(),
        dry_run: remediation.spec.is_dry_run(),
    }
}

/// An act of the incident of which nobody knows what came of it: people have to look.
fn unfinished(snapshot: &Snapshot, incident: &Incident) -> Option<RecordKind> {
    let of_incident = |r: &&Remediation| r.spec.incident == incident.name && !r.spec.is_dry_run();
    snapshot.remediations.iter().filter(of_incident).find_map(|remediation| {
        let why = match (remediation.status.phase, remediation.status.outcome) {
            (Phase::OutcomeUnknown, _) => Escalation::OutcomeUnknown,
            (_, Some(Outcome::Inconclusive)) => Escalation::Inconclusive,
            _ => return None,
        };
        let sentence = format!("{}: {}", remediation.name, remediation.status.message);
        Some(RecordKind::Escalated { why, sentence })
    })
}

/// Why people have to decide, if they have to. A policy without a ladder has asked for a diagnosis only.
fn escalation(
    snapshot: &Snapshot,
    state: &Memory,
    situation: &Situation,
    incident: &Incident,
    decided: &Decided,
) -> Option<RecordKind> {
    let escalated = |why: Escalation, sentence: String| Some(RecordKind::Escalated { why, sentence });
    let of_incident = |r: &&Remediation| r.spec.incident == incident.name && !r.spec.is_dry_run();
    let refused_by = |guard: &Guard| {
        let mut refusals = decided.records.iter().flat_map(RecordKind::refusals);
        refusals.find(|verdict| verdict.guard == guard.name)
    };
    let hopeless = GUARDS.iter().find_map(|guard| Some((guard.escalates_as?, refused_by(guard)?)));
    if let Some((why, refusal)) = hopeless {
        return escalated(why, refusal.fact().to_string());
    }
    if situation.findings.is_empty() {
        let looked_for = elapsed(snapshot.now, incident.opened_at);
        // The window goes on being broken for as long as it is, after what broke it has gone.
        let drains = LOOK_FOR.saturating_add(snapshot.policy.evaluation.window);
        let was_found = state.last_found_at.is_some_and(|at| elapsed(snapshot.now, at) < drains);
        if was_found
            || looked_for < LOOK_FOR
            || !causes::all_readable(snapshot, state, incident.first_breached_at)
        {
            return None;
        }
        let looked = match snapshot.policy.dependencies.len() {
            0 => "no dependency is declared, so no cause can be looked for".to_owned(),
            count => format!(
                "all {count} declared dependencies could be read, and none of the known causes was found"
            ),
        };
        return escalated(Escalation::NoCauseFound, looked);
    }
    let tried = snapshot.remediations.iter().any(|r| of_incident(&r));
    let roots: Vec<&Finding> =
        situation.findings.iter().filter(|finding| finding.explained_by.is_none()).collect();
    let listed =
        |finding: &&Finding| snapshot.policy.rungs.iter().any(|rung| rung.causes.contains(&finding.cause));
    let sentences = || roots.iter().map(|finding| finding.sentence.as_str()).collect::<Vec<_>>().join("; ");
    if snapshot.policy.rungs.is_empty() || !decided.records.is_empty() {
        None
    } else if tried {
        escalated(Escalation::LadderExhausted, format!("what was tried did not help: {}", sentences()))
    } else if roots.iter().any(listed) {
        // Not sure enough yet, or not old enough: the next look may tell.
        None
    } else {
        escalated(Escalation::NoRemedy, format!("no remediation answers what was found: {}", sentences()))
    }
}
