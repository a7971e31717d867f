//! Readings of one shape that are asked for at the same moment become one query, each with the rows of its own target.
//!
//! Nothing is taken together that could not be told apart exactly: a Deployment's pods are its name, two dashes and what
//! Kubernetes adds, so of a pod's name there is one Deployment's name at most. What fails together is asked again in smaller
//! company, and alone at last: nobody is blind for long because of somebody else's series.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::{NoData, NoDataReason, Observed, Preset, TargetKind, Traffic};
use tokio::sync::{Semaphore, oneshot};

/// Whoever comes within so long after the last one is taken along, at most so long after the first.
const LAST: Duration = Duration::from_millis(20);
const FIRST: Duration = Duration::from_millis(200);
/// So many are asked for in one query: some 3,000 samples.
pub(super) const MOST: usize = 128;
/// What failed together is not tried together again for so long.
const APART: Duration = Duration::from_secs(600);
/// Right after a start everybody is looked at as soon as it is known, so that those who are asked for together are no neighbours
/// yet.
const SETTLED: Duration = Duration::from_secs(60);
/// Queries for several that are under way at one time; a server has 20 places for all who ask it.
pub(super) const AT_ONCE: usize = 4;

/// What readings must have in common to be one query.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) backend: String,
    pub(super) preset: Preset,
    pub(super) kind: TargetKind,
    pub(super) window: Duration,
    pub(super) match_labels: BTreeMap<String, String>,
}

/// A target, by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Member {
    pub(super) namespace: String,
    pub(super) target: String,
}

/// In whose company a target is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Company {
    /// With everything of its namespace: cheapest where most of that is guarded.
    Namespace,
    /// With those alone that are asked for: a pattern of all their pods.
    Named,
    /// With nobody.
    Alone,
}

impl Company {
    pub(super) fn smaller(self) -> Self {
        match self {
            Self::Namespace => Self::Named,
            Self::Named | Self::Alone => Self::Alone,
        }
    }
}

type Answer = oneshot::Sender<Observed<Traffic>>;

#[derive(Default)]
struct Waiting {
    members: Vec<(Member, Answer)>,
    last: Option<Instant>,
}

/// Those who wait for company, and those who have had trouble in it.
pub(super) struct Together {
    begun: Instant,
    waiting: Mutex<HashMap<(Shape, Company), Waiting>>,
    apart: Mutex<HashMap<(Shape, Member), (Company, Instant)>>,
    pub(super) under_way: Semaphore,
}

impl Default for Together {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            waiting: Mutex::default(),
            apart: Mutex::default(),
            under_way: Semaphore::new(AT_ONCE),
        }
    }
}

/// What came of joining.
pub(super) struct Joined {
    /// What will be found.
    pub(super) found: oneshot::Receiver<Observed<Traffic>>,
    /// Nobody else has seen to it that the others are waited for.
    pub(super) first: bool,
}

impl Together {
    /// In whose company this one is asked for.
    pub(super) fn company(&self, shape: &Shape, member: &Member) -> Company {
        let usual = if self.begun.elapsed() < SETTLED { Company::Named } else { Company::Namespace };
        let apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        if apart.is_empty() {
            return usual;
        }
        let known = apart.get(&(shape.clone(), member.clone()));
        known.filter(|(_, since)| since.elapsed() < APART).map_or(usual, |(company, _)| *company)
    }

    /// Whether so few are asked for in smaller company that it may be their own fault.
    pub(super) fn few_are_apart(&self) -> bool {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner).len() < 2 * MOST
    }

    /// Those are asked for in smaller company from now on.
    pub(super) fn part<'a>(
        &self,
        shape: &Shape,
        company: Company,
        members: impl IntoIterator<Item = &'a Member>,
    ) {
        let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
        apart.retain(|_, (_, since)| since.elapsed() < APART);
        let now = Instant::now();
        for member in members {
            apart.insert((shape.clone(), member.clone()), (company.smaller(), now));
        }
    }

    /// Waits for company.
    pub(super) fn join(&self, shape: &Shape, company: Company, member: Member) -> Joined {
        let (answer, found) = oneshot::channel();
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.entry((shape.clone(), company)).or_default();
        let first = waiting.members.is_empty();
        waiting.members.push((member, answer));
        waiting.last = Some(Instant::now());
        Joined { found, first }
    }

    /// Those who have come together, once nobody more comes.
    pub(super) async fn gathered(&self, shape: &Shape, company: Company) -> Vec<(Member, Answer)> {
        let begun = Instant::now();
        let key = (shape.clone(), company);
        loop {
            tokio::time::sleep(LAST / 2).await;
            let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let last = all.get(&key).and_then(|waiting| waiting.last);
            if last.is_none_or(|last| last.elapsed() >= LAST) || begun.elapsed() >= FIRST {
                let waiting = all.remove(&key).unwrap_or_default();
                drop(all);
                let mut members = waiting.members;
                // Neighbours into the same query.
                members.sort_by(|one, other| one.0.cmp(&other.0));
                return members;
            }
        }
    }
}

/// Whether the fault may be with one of those who were asked for together, and not with the backend.
pub(super) fn may_be_one_of_them(no_data: &NoData) -> bool {
    !matches!(no_data.reason, NoDataReason::Unreachable | NoDataReason::HttpError | NoDataReason::NoBackend)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            backend: "default".into(),
            preset: Preset::Django,
            kind: TargetKind::Deployment,
            window: Duration::from_secs(120),
            match_labels: BTreeMap::new(),
        }
    }

    fn member(target: &str) -> Member {
        Member { namespace: "shop".into(), target: target.into() }
    }

    #[tokio::test]
    async fn who_comes_soon_is_taken_along_and_neighbours_stand_together() {
        let together = Together::default();
        let first = together.join(&shape(), Company::Namespace, member("b"));
        let second = together.join(&shape(), Company::Namespace, member("a"));
        let other = together.join(&shape(), Company::Named, member("c"));
        assert!(first.first && !second.first && other.first);
        let gathered = together.gathered(&shape(), Company::Namespace).await;
        let members: Vec<Member> = gathered.into_iter().map(|(member, _)| member).collect();
        assert_eq!(members, [member("a"), member("b")]);
        assert!(together.join(&shape(), Company::Namespace, member("d")).first, "the next query");
    }

    #[test]
    fn what_failed_together_is_asked_for_in_ever_smaller_company() {
        let mut together = Together::default();
        let one = member("a");
        assert_eq!(together.company(&shape(), &one), Company::Named, "nobody has a turn yet");
        together.begun = Instant::now().checked_sub(SETTLED).unwrap();
        let company = || together.company(&shape(), &one);
        assert_eq!(company(), Company::Namespace);
        together.part(&shape(), company(), [&one]);
        assert_eq!(company(), Company::Named);
        together.part(&shape(), company(), [&one]);
        assert_eq!(company(), Company::Alone);
        assert_eq!(together.company(&shape(), &member("b")), Company::Namespace, "nobody else");
        let other = Shape { window: Duration::from_secs(60), ..shape() };
        assert_eq!(together.company(&other, &one), Company::Namespace, "nor in another shape");
    }

    #[test]
    fn many_that_are_apart_are_told_from_few() {
        let together = Together::default();
        let members: Vec<Member> = (0..2 * MOST).map(|number| member(&format!("web-{number}"))).collect();
        together.part(&shape(), Company::Namespace, &members[1..]);
        assert!(together.few_are_apart());
        together.part(&shape(), Company::Namespace, &members);
        assert!(!together.few_are_apart());
    }

    #[test]
    fn a_backend_that_is_away_is_nobodys_fault() {
        let of = |reason| may_be_one_of_them(&NoData::new(reason, ""));
        assert!(!of(NoDataReason::Unreachable) && !of(NoDataReason::HttpError));
        assert!(of(NoDataReason::QueryRefused) && of(NoDataReason::Timeout) && of(NoDataReason::BadAnswer));
    }
}
