//! What must be true after a run, by witnesses that the operator has no influence on: the API server's audit log, the proxy
//! before the database, the database's log, and the sessions themselves.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use kube::api::ListParams;
use latency_operator::api::LatencyRemediation;

use crate::play::left_over;
use crate::points::{Point, Where};
use crate::story::{REQUESTS, Story, Trouble};
use crate::support::asked::Target;
use crate::support::{OPERATOR, World, outcome, phase};

/// What one run showed.
#[derive(Debug, Clone)]
pub(crate) struct Result {
    pub(crate) point: String,
    /// Whether the story came to the point at all.
    pub(crate) reached: bool,
    /// What became of the remediations, in short.
    pub(crate) story: String,
    /// What must not be, by kind.
    pub(crate) troubles: Vec<(&'static str, String)>,
}

const DOUBLE: &str = "double acts";
const WRONG: &str = "wrong victims";
const LOST: &str = "lost undos";
const STUCK: &str = "stuck objects";
const DIFFERENT: &str = "different ends";
const VIOLATED: &str = "violated invariants";
const KINDS: [&str; 6] = [DOUBLE, WRONG, LOST, STUCK, DIFFERENT, VIOLATED];

impl Result {
    /// It did not come to an end.
    pub(crate) fn stuck(point: &Point, why: String) -> Self {
        let troubles = vec![(STUCK, why)];
        Self { point: point.to_string(), reached: true, story: "no end".to_owned(), troubles }
    }

    pub(crate) fn line(&self) -> String {
        let reached = if self.reached { "" } else { "not reached; " };
        let troubles: Vec<String> =
            self.troubles.iter().map(|(kind, what)| format!("\n    {kind}: {what}")).collect();
        format!("{}: {reached}{}{}", self.point, self.story, troubles.concat())
    }
}

/// Judges a run that is over.
pub(crate) async fn judge(world: &World, point: &Point, trouble: &Trouble) -> Result {
    let proxies = world.proxies.as_ref().expect("proxies");
    let mut troubles = Vec::new();
    let signals = proxies.database.signals();
    let landed = signals.iter().filter(|signal| signal.landed == Some(true)).count();
    // Whoever was killed in the middle took the way of the answer with him; what was ended, the server says below.
    let unanswered = signals.iter().filter(|signal| signal.landed.is_none()).count();
    let writes = scale_writes(world);
    let acts = acts(world).await;
    match point.story {
        Story::Cancel | Story::Terminate | Story::Idle => {
            let least = if point.story == Story::Terminate { 2 } else { 1 };
            // Who finds a statement still running after a crash cannot know of a cancellation that it ignores: it may be
            // cancelled once more, by another remediation and after its rest.
            if landed + unanswered < least || landed > acts {
                troubles.push((DOUBLE, format!("{landed} signals of {acts} acts, {least} were needed")));
            }
        }
        Story::Scale => {
            expect(&mut troubles, DOUBLE, "replicas that were written", &writes, &vec![4, 3, 2]);
            expect(&mut troubles, LOST, "replicas at the end", &world.replicas().await, &2);
        }
        Story::Warm => {
            let asked = world.asked().len();
            if asked > REQUESTS * acts {
                troubles.push((DOUBLE, format!("{asked} requests of {acts} runs of {REQUESTS}")));
            }
            expect(&mut troubles, DOUBLE, "statements that the server ended", &world.signals(), &0);
        }
    }
    if point.story == Story::Warm {
        expect(&mut troubles, DOUBLE, "replicas that were written", &writes, &Vec::new());
    } else if point.story != Story::Scale {
        expect(&mut troubles, DOUBLE, "statements that the server ended", &world.signals(), &1);
        expect(&mut troubles, WRONG, "innocents", &trouble.wrongs.load(Ordering::Relaxed), &0);
        if trouble.innocents.load(Ordering::Relaxed) == 0 {
            troubles.push((WRONG, "no innocent statement was run: this shows nothing".to_owned()));
        }
        expect(&mut troubles, DOUBLE, "replicas that were written", &writes, &Vec::new());
    }
    if point.story == Story::Scale && point.fault.freezes() && writes.contains(&4) {
        let told = world.events().await;
        if !told.iter().any(|event| event.starts_with("RemediationRolledBack")) {
            troubles.push((LOST, format!("nobody was told that it was undone: {told:#?}")));
        }
    }
    troubles.extend(world.violations().into_iter().map(|violation| (VIOLATED, violation)));
    troubles.extend(left_over(world).await.into_iter().map(|left| (STUCK, left)));
    let incidents = world.incidents().list(&ListParams::default()).await.expect("incidents").items;
    expect(&mut troubles, DIFFERENT, "incidents", &incidents.len(), &1);
    let at_target = world.target.as_ref().map_or(0, Target::struck);
    let struck = proxies.api.struck().len() + proxies.database.struck().len() + at_target;
    // The kill that leads there is none of it.
    let reached = struck
        >= usize::from(point.at != Where::Nowhere) + usize::from(matches!(point.at, Where::Resumed(..)));
    Result { point: point.to_string(), reached, story: story(world).await, troubles }
}

/// Whether the policy is ready, sees, and keeps its promise: as it was before.
pub(crate) async fn is_well(world: &World) -> bool {
    for kind in ["Ready", "DataAvailable", "WithinObjective"] {
        if !world.condition(kind).await.starts_with("True") {
            return false;
        }
    }
    true
}

fn expect<T: PartialEq + std::fmt::Debug>(
    troubles: &mut Vec<(&'static str, String)>,
    kind: &'static str,
    what: &str,
    is: &T,
    wanted: &T,
) {
    if is != wanted {
        troubles.push((kind, format!("{what}: {is:?}, {wanted:?} expected")));
    }
}

/// The replicas that the operator wrote and the API server took, in their order.
fn scale_writes(world: &World) -> Vec<i64> {
    let plane = &world.lab.control_plane;
    let quoted = format!("\"{}\"", world.namespace);
    let events = plane.audit_about(&[&quoted]).expect("the audit log");
    let ours = events.iter().filter(|event| {
        event.user.username == OPERATOR
            && event.is_write()
            && (200..300).contains(&event.code())
            && event.is_for("deployments", "scale")
            && event.object_ref.as_ref().is_some_and(|object| object.namespace == world.namespace)
    });
    ours.filter_map(|event| event.request_object.as_ref()?["spec"]["replicas"].as_i64()).collect()
}

/// How many remediations may have taken effect: those that passed their gate.
async fn acts(world: &World) -> usize {
    let all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
    let passed =
        |one: &&LatencyRemediation| one.status.as_ref().is_some_and(|status| status.executing.is_some());
    all.iter().filter(passed).count()
}

/// Phases and outcomes in the order of the attempts.
async fn story(world: &World) -> String {
    let mut all = world.remediations().list(&ListParams::default()).await.expect("remediations").items;
    all.sort_by_key(|one| one.spec.attempt);
    let told: Vec<String> = all.iter().map(|one| format!("{} {}", phase(one), outcome(one))).collect();
    told.join(", ")
}

/// The figures.
pub(crate) fn print(results: &[Result]) {
    let reached = results.iter().filter(|result| result.reached).count();
    let mut counts: BTreeMap<&str, usize> = KINDS.iter().map(|kind| (*kind, 0)).collect();
    for (kind, _) in results.iter().flat_map(|result| &result.troubles) {
        *counts.entry(kind).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    println!("\n{reached} points, {} (not reached: {})", counts.join(", "), results.len() - reached);
    for result in results.iter().filter(|result| !result.troubles.is_empty()) {
        println!("failed: {}", result.line());
    }
}
