//! `Ownership`: replicas that an autoscaler or a Git repository decides about are not ours to change; they would be changed
//! back, and both would fight.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applies, Checked, Context, Guard, GuardName, PROPOSE_AND_GATE, WhileRunning, pass, refuse, unknown,
};
use crate::actions::replicas::{NoWorkload, changed};
use crate::model::{Autoscaler, FieldManager, NoData, Observed};

pub(super) const GUARD: Guard = Guard {
    name: GuardName::Ownership,
    refuses: "replicas that a HorizontalPodAutoscaler or a KEDA ScaledObject scales (also one that has not done so yet), or that a GitOps controller has set (`argocd-controller`, `argocd-application-controller`, `kustomize-controller`, `helm-controller` in managedFields)",
    stages: PROPOSE_AND_GATE,
    applies: Applies::TouchesWorkload,
    transient: false,
    while_running: WhileRunning::NotAsked,
    escalates_as: None,
    check,
};

/// What the guard finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fact {
    NobodyElse,
    ScaledBy(Vec<Autoscaler>),
    SetBy(FieldManager),
    AutoscalersUnreadable(NoData),
    NoWorkload(NoWorkload),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyElse => f.write_str("nobody else decides about the replicas"),
            Self::ScaledBy(autoscalers) => {
                let names: Vec<String> = autoscalers.iter().map(Autoscaler::to_string).collect();
                write!(f, "the target is scaled by {}", names.join(" and "))
            }
            Self::SetBy(manager) => write!(
                f,
                "spec.replicas was set by {manager}, which would put it back; leave it out of the repository"
            ),
            Self::AutoscalersUnreadable(no_data) => {
                write!(f, "whether something else scales the target cannot be read: {no_data}")
            }
            Self::NoWorkload(why) => why.fmt(f),
        }
    }
}

impl Fact {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::AutoscalersUnreadable(no_data) => no_data.forget_numbers(),
            Self::NoWorkload(why) => why.forget_numbers(),
            Self::NobodyElse | Self::ScaledBy(_) | Self::SetBy(_) => {}
        }
    }
}

/// The field managers of controllers that put back what a repository says. People (kubectl, helm) own nothing before our
/// act: they decided once, and an act is allowed to differ for a while.
pub const GITOPS_MANAGERS: &[&str] =
    &["argocd-controller", "argocd-application-controller", "kustomize-controller", "helm-controller"];

/// The GitOps controller among who holds a field, if one does.
#[must_use]
pub fn gitops_manager(managers: &[FieldManager]) -> Option<&FieldManager> {
    managers.iter().find(|manager| GITOPS_MANAGERS.contains(&manager.0.as_str()))
}

fn check(context: &Context<'_>) -> Checked {
    let (snapshot, _) = context.view()?;
    let workload = match changed(snapshot, context.candidate) {
        Ok((_, workload)) => workload,
        Err(why) => return unknown(Fact::NoWorkload(why)),
    };
    let autoscalers = match &workload.autoscalers {
        Observed::Known { value, .. } => value,
        Observed::Missing(no_data) => return unknown(Fact::AutoscalersUnreadable(no_data.clone())),
    };
    if !autoscalers.is_empty() {
        return refuse(Fact::ScaledBy(autoscalers.clone()));
    }
    match gitops_manager(&workload.managers) {
        None => pass(Fact::NobodyElse),
        Some(manager) => refuse(Fact::SetBy(manager.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::super::testing::{Setup, refused};
    use super::*;
    use crate::model::NoDataReason;

    fn refusal(change: impl FnOnce(&mut crate::model::Workload)) -> Option<String> {
        let mut setup = Setup::scaling();
        change(setup.workload());
        refused(&setup, GUARD.name, Stage::Gate)
    }

    #[test]
    fn controllers_of_git_own_the_field_and_people_do_not() {
        for manager in GITOPS_MANAGERS {
            let held = refusal(|w| w.managers.push(FieldManager((*manager).to_owned())));
            assert!(held.unwrap().contains(manager));
        }
        for manager in ["kubectl-client-side-apply", "kubectl", "helm", "latency-operator", "my-script"] {
            assert_eq!(refusal(|w| w.managers.push(FieldManager(manager.to_owned()))), None, "{manager}");
        }
    }

    #[test]
    fn an_autoscaler_owns_it_and_one_that_cannot_be_looked_for_may() {
        let hpa = Autoscaler { kind: "HorizontalPodAutoscaler".into(), name: "orders".into() };
        let at = jiff::Timestamp::UNIX_EPOCH;
        let scaled = refusal(|w| w.autoscalers = Observed::Known { at, value: vec![hpa] });
        assert!(scaled.unwrap().contains("HorizontalPodAutoscaler orders"));
        let unknown = refusal(|w| {
            w.autoscalers = Observed::missing(NoDataReason::PermissionDenied, "may not list");
        });
        assert!(unknown.unwrap().contains("may not list"));
    }
}
