//! Looks that are shared: whoever asks for the same thing at the same time, or soon after, gets the same look.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use engine::model::Observed;

use crate::connections::cached::Cached;

/// What could not be read is looked at again after so long, also while all is well: it may be mended at any moment.
const RETRY: Duration = Duration::from_secs(5);
/// A look that nobody has asked for in so long is forgotten.
const UNUSED: Duration = Duration::from_secs(600);

/// What was seen of one thing.
#[derive(Clone)]
struct Seen<T> {
    newest: Observed<T>,
    /// The last value that could be read: the next look is compared with it, whatever failed in between.
    known: Option<T>,
}

/// The newest look at each thing, by what it is reached with. Cheap to clone.
pub(super) struct Looks<K, T> {
    seen: Cached<Arc<K>, Seen<T>>,
}

impl<K, T> Clone for Looks<K, T> {
    fn clone(&self) -> Self {
        Self { seen: self.seen.clone() }
    }
}

impl<K: Hash + Eq, T: Clone> Default for Looks<K, T> {
    fn default() -> Self {
        Self { seen: Cached::new(UNUSED) }
    }
}

impl<K: Hash + Eq, T: Clone> Looks<K, T> {
    /// The newest look if it is not older than `max_age`, or else what `look` finds. It is given the last value that could be
    /// read.
    pub(super) async fn at<F: Future<Output = Observed<T>>>(
        &self,
        key: &Arc<K>,
        max_age: Duration,
        look: impl FnOnce(Option<T>) -> F,
    ) -> Observed<T> {
        let trusted = |seen: &Seen<T>| {
            if seen.newest.known().is_some() { max_age } else { max_age.min(RETRY) }
        };
        let read = |before: Option<Seen<T>>| async {
            let before = before.and_then(|seen| seen.known);
            let newest = look(before.clone()).await;
            let known = newest.known().cloned().or(before);
            Seen { newest, known }
        };
        self.seen.get(key.clone(), trusted, read).await.newest
    }
}

#[cfg(test)]
mod tests {
    use engine::model::NoDataReason;

    use super::*;

    #[tokio::test]
    async fn what_could_not_be_read_is_shared_too_and_not_for_long() {
        let (looks, key) = (Looks::<&str, usize>::default(), Arc::new("cache"));
        let missing = |_| async { Observed::missing(NoDataReason::Unreachable, "nobody is there") };
        looks.at(&key, Duration::from_secs(60), missing).await;
        let never = |_| std::future::pending::<Observed<usize>>();
        assert!(looks.at(&key, Duration::from_secs(60), never).await.known().is_none());
        let newest = Observed::missing(NoDataReason::Unreachable, "nobody is there");
        looks.seen.set(key.clone(), RETRY + Duration::from_secs(1), Seen { newest, known: None }).await;
        let known = |_| async { Observed::Known { at: jiff::Timestamp::UNIX_EPOCH, value: 1 } };
        assert_eq!(looks.at(&key, Duration::from_secs(60), known).await.known(), Some(&1));
    }

    #[tokio::test]
    async fn a_look_is_given_the_last_value_whatever_failed_in_between() {
        let (looks, key) = (Looks::<&str, usize>::default(), Arc::new("cache"));
        let next = |before: Option<usize>| async move {
            let value = before.map_or(0, |before| before + 1);
            Observed::Known { at: jiff::Timestamp::UNIX_EPOCH, value }
        };
        assert_eq!(looks.at(&key, Duration::ZERO, next).await.known(), Some(&0));
        let fails = |_| async { Observed::missing(NoDataReason::Unreachable, "nobody is there") };
        assert_eq!(looks.at(&key, Duration::ZERO, fails).await.known(), None);
        assert_eq!(looks.at(&key, Duration::ZERO, next).await.known(), Some(&1));
    }
}
