//! The newest evaluation of each policy, and what they say together.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::model::{Snapshot, Survey};
use engine::{Situation, survey};

use crate::PolicyKey;

/// The newest evaluation of a policy: what a gate judges.
#[derive(Debug)]
pub struct Evaluated {
    /// What was known.
    pub snapshot: Snapshot,
    /// What was made of it.
    pub situation: Situation,
}

/// How old the overview over all policies may be. It takes a millisecond for ten thousand of them, and each policy that
/// proposes something asks for it.
const OVERVIEW_AGE: Duration = Duration::from_millis(500);

/// The newest evaluation of each policy.
#[derive(Default)]
pub struct Evaluations {
    newest: Mutex<HashMap<PolicyKey, Arc<Evaluated>>>,
    /// The overview over all of them, and when it was made.
    overview: Mutex<Option<(Duration, Arc<Survey>)>>,
}

impl Evaluations {
    /// A policy's newest evaluation.
    #[must_use]
    pub fn of(&self, policy: &PolicyKey) -> Option<Arc<Evaluated>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).get(policy).cloned()
    }

    /// All policies together, at most half a second old. `now` is a monotonic time.
    #[must_use]
    pub fn overview(&self, now: Duration) -> Arc<Survey> {
        let mut known = self.overview.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, overview)) = known.as_ref()
            && now.saturating_sub(*at) < OVERVIEW_AGE
        {
            return overview.clone();
        }
        // In the order of their names: the overview must not depend on that of a hash map.
        let newest: BTreeMap<PolicyKey, Arc<Evaluated>> = {
            let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            newest.clone().into_iter().collect()
        };
        let overview = Arc::new(survey(newest.values().map(|one| (&one.snapshot, &one.situation))));
        *known = Some((now, overview.clone()));
        overview
    }

    /// Keeps a policy's newest evaluation.
    pub fn set(&self, policy: &PolicyKey, evaluated: Arc<Evaluated>) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).insert(policy.clone(), evaluated);
    }

    /// Forgets a policy.
    pub fn forget(&self, policy: &PolicyKey) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).remove(policy);
    }
}
