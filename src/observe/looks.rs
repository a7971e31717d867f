//! Looks that are shared: whoever asks for the same thing at the same time, or soon after, gets the same look.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::Observed;

/// What could not be read is looked at again after so long, also while all is well: it may be mended at any moment.
const RETRY: Duration = Duration::from_secs(5);
/// A look that nobody has asked for in so long is forgotten.
const UNUSED: Duration = Duration::from_secs(600);

/// What was seen of one thing.
struct Seen<T> {
    newest: Option<(Instant, Observed<T>)>,
    /// The last value that could be read: the next look is compared with it, whatever failed in between.
    known: Option<T>,
}

type Slot<T> = Arc<tokio::sync::Mutex<Seen<T>>>;

/// The newest look at each thing, by what it is reached with. Cheap to clone.
pub(super) struct Looks<K, T> {
    seen: Arc<Mutex<HashMap<Arc<K>, Slot<T>>>>,
}

impl<K, T> Clone for Looks<K, T> {
    fn clone(&self) -> Self {
        Self { seen: self.seen.clone() }
    }
}

impl<K, T> Default for Looks<K, T> {
    fn default() -> Self {
        Self { seen: Arc::default() }
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
        let slot = self.slot(key);
        let mut seen = slot.lock().await;
        if let Some((at, observed)) = seen.newest.as_ref() {
            let trusted = if observed.known().is_some() { max_age } else { max_age.min(RETRY) };
            if at.elapsed() < trusted {
                return observed.clone();
            }
        }
        let observed = look(seen.known.clone()).await;
        if let Some(value) = observed.known() {
            seen.known = Some(value.clone());
        }
        seen.newest = Some((Instant::now(), observed.clone()));
        observed
    }

    fn slot(&self, key: &Arc<K>) -> Slot<T> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else holds a slot that nobody asks for.
        seen.retain(|known, slot| known == key || Arc::strong_count(slot) > 1 || is_used(slot));
        seen.entry(key.clone()).or_insert_with(nothing).clone()
    }
}

fn nothing<T>() -> Slot<T> {
    Arc::new(tokio::sync::Mutex::new(Seen { newest: None, known: None }))
}

fn is_used<T>(slot: &Slot<T>) -> bool {
    slot.try_lock().is_ok_and(|seen| seen.newest.as_ref().is_some_and(|(at, _)| at.elapsed() < UNUSED))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use engine::model::NoDataReason;

    use super::*;

    #[tokio::test]
    async fn who_asks_at_the_same_time_shares_a_look_and_an_older_one_is_not_taken() {
        let (looks, key) = (Looks::<&str, usize>::default(), Arc::new("cache"));
        let count = AtomicUsize::new(0);
        let look = |_| async {
            tokio::task::yield_now().await;
            let value = count.fetch_add(1, Ordering::SeqCst);
            Observed::Known { at: jiff::Timestamp::UNIX_EPOCH, value }
        };
        let hour = Duration::from_secs(3600);
        let all = futures::future::join_all((0..10).map(|_| looks.at(&key, hour, look))).await;
        assert!(all.iter().all(|seen| seen.known() == Some(&0)), "{all:?}");
        assert_eq!(looks.at(&key, Duration::ZERO, look).await.known(), Some(&1));
        assert_eq!(looks.at(&Arc::new("another"), hour, look).await.known(), Some(&2));
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_shared_too_and_not_for_long() {
        let (looks, key) = (Looks::<&str, usize>::default(), Arc::new("cache"));
        let missing = |_| async { Observed::missing(NoDataReason::Unreachable, "nobody is there") };
        looks.at(&key, Duration::from_secs(60), missing).await;
        let never = |_| std::future::pending::<Observed<usize>>();
        assert!(looks.at(&key, Duration::from_secs(60), never).await.known().is_none());
        // As if it had been read six seconds ago.
        let slot = looks.slot(&key);
        if let Some((at, _)) = slot.lock().await.newest.as_mut() {
            *at = at.checked_sub(RETRY + Duration::from_secs(1)).unwrap();
        }
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
