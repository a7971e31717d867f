//! Which finding is the root and which the symptom: along declared links, over all findings, transitively.

use super::{Along, links};
use crate::model::{Confidence, Finding, Policy};

/// Marks each symptom with its root. A cause explains only what a row of the table says, where the two are linked as the row
/// says, and only when it is at least Likely. A symptom's symptom has the same root.
pub(super) fn explain(policy: &Policy, findings: &mut [Finding]) {
    let roots = resolve(findings.len(), |root, symptom| match (findings.get(root), findings.get(symptom)) {
        (Some(root), Some(symptom)) => explains(policy, root, symptom),
        _ => false,
    });
    let names: Vec<_> = roots.into_iter().map(|root| Some(findings.get(root?)?.cause.clone())).collect();
    for (finding, name) in findings.iter_mut().zip(names) {
        finding.explained_by = name;
    }
}

/// For each finding its root, if it has one: the explanation of its explanation, and so on.
fn resolve(count: usize, explains: impl Fn(usize, usize) -> bool) -> Vec<Option<usize>> {
    let direct: Vec<Option<usize>> = (0..count)
        .map(|symptom| (0..count).find(|root| *root != symptom && explains(*root, symptom)))
        .collect();
    let above = |finding: usize| direct.get(finding).copied().flatten();
    let climb = |symptom: usize| {
        let mut root = above(symptom)?;
        // The table has no circle; were there one, this would end all the same.
        for _ in 0..count {
            match above(root) {
                Some(next) => root = next,
                None => break,
            }
        }
        Some(root)
    };
    (0..count).map(climb).collect()
}

fn explains(policy: &Policy, root: &Finding, symptom: &Finding) -> bool {
    let place = |finding: &Finding| -> Option<String> {
        finding.subject.as_ref().and_then(|subject| subject.dependency()).map(ToOwned::to_owned)
    };
    root.confidence >= Confidence::Likely
        && links(&root.cause, &symptom.cause).any(|along| {
            let behind = |name: &str| policy.dependencies.get(name)?.stands_before();
            linked(along, place(root).as_deref(), place(symptom).as_deref(), behind)
        })
}

/// Whether two places are linked; none is the target. `behind`: the dependency that another one stands in front of.
fn linked<'a>(
    along: Along,
    root: Option<&str>,
    symptom: Option<&str>,
    behind: impl Fn(&str) -> Option<&'a str>,
) -> bool {
    match along {
        Along::Same => root == symptom,
        Along::InFront => root.is_some() && symptom.and_then(behind) == root,
        Along::Target => root.is_some() && symptom.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::{CAUSES, cause};
    use crate::guards::testing::{Setup, finding};
    use crate::model::Subject;

    fn explained(findings: Vec<Finding>) -> Vec<Option<String>> {
        let mut findings = findings;
        explain(&Setup::acting().snapshot.policy, &mut findings);
        findings.into_iter().map(|finding| finding.explained_by.map(|name| name.to_string())).collect()
    }

    fn at(dependency: Option<&str>, cause: &'static str, confidence: Confidence) -> Finding {
        let target = Setup::acting().snapshot.policy.target;
        let subject = match dependency {
            Some(name) => Subject::Dependency { dependency: name.to_owned() },
            None => Subject::Workload(target),
        };
        Finding { subject: Some(subject), ..finding(cause, confidence) }
    }

    #[test]
    fn a_root_that_is_likely_explains_its_symptoms_in_the_same_store_and_at_the_target() {
        use Confidence::{Likely, Possible};
        let blocker = at(Some("db"), "BlockingQuery", Likely);
        let exhausted = |name| at(Some(name), "ConnectionsExhausted", Possible);
        let saturated = at(None, "WorkersSaturated", Likely);
        let root = Some("BlockingQuery".to_owned());
        assert_eq!(
            explained(vec![blocker.clone(), exhausted("db"), exhausted("other"), saturated.clone()]),
            [None, root.clone(), None, root]
        );
        let unsure = Finding { confidence: Possible, ..blocker };
        assert_eq!(explained(vec![unsure, exhausted("db"), saturated]), [None, None, None]);
    }

    #[test]
    fn links_lead_one_way() {
        let behind = |name: &str| (name == "pool").then_some("db");
        let links = [Along::Same, Along::InFront, Along::Target];
        let kinds = |root, symptom| links.map(|along| linked(along, root, symptom, behind));
        assert_eq!(kinds(Some("db"), Some("db")), [true, false, false]);
        assert_eq!(kinds(Some("db"), Some("pool")), [false, true, false]);
        assert_eq!(kinds(Some("pool"), Some("db")), [false, false, false]);
        assert_eq!(kinds(Some("other"), Some("pool")), [false, false, false]);
        assert_eq!(kinds(Some("db"), None), [false, false, true]);
        assert_eq!(kinds(None, Some("db")), [false, false, false]);
        assert_eq!(kinds(None, None), [true, false, false]);
    }

    #[test]
    fn a_symptoms_symptom_has_the_same_root_and_a_circle_ends() {
        let chain = |root, symptom| root + 1 == symptom;
        assert_eq!(resolve(3, chain), [None, Some(0), Some(0)]);
        let circle = |root: usize, symptom: usize| (root + 1) % 3 == symptom;
        assert_eq!(resolve(3, circle).len(), 3);
    }

    #[test]
    fn every_name_in_the_table_is_known_and_nothing_explains_itself() {
        fn reach(name: &str, from: &str, depth: usize) {
            assert!(depth < CAUSES.len(), "{from} explains itself");
            for name in cause(name).into_iter().flat_map(|row| row.symptoms()) {
                reach(name, from, depth + 1);
            }
        }
        for row in CAUSES {
            for (name, _) in row.explains.iter().chain(row.explained_by) {
                assert!(cause(name).is_some(), "the row of {} names {name}, which is no cause", row.name);
            }
            reach(row.name, row.name, 0);
        }
    }
}
