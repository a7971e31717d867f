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

type Slot<T> = Arc<tokio::sync::Mutex<Option<(Instant, Observed<T>)>>>;

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
    /// The newest look if it is not older than `max_age`, or else what `look` finds.
    pub(super) async fn at(
        &self,
        key: &Arc<K>,
        max_age: Duration,
        look: impl Future<Output = Observed<T>>,
    ) -> Observed<T> {
        let slot = self.slot(key);
        let mut seen = slot.lock().await;
        if let Some((at, observed)) = seen.as_ref() {
            let trusted = if observed.known().is_some() { max_age } else { max_age.min(RETRY) };
            if at.elapsed() < trusted {
                return observed.clone();
            }
        }
        let observed = look.await;
        *seen = Some((Instant::now(), observed.clone()));
        observed
    }

    fn slot(&self, key: &Arc<K>) -> Slot<T> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else holds a slot that nobody asks for.
        seen.retain(|known, slot| known == key || Arc::strong_count(slot) > 1 || is_used(slot));
        seen.entry(key.clone()).or_default().clone()
    }
}

fn is_used<T>(slot: &Slot<T>) -> bool {
    slot.try_lock().is_ok_and(|seen| seen.as_ref().is_some_and(|(at, _)| at.elapsed() < UNUSED))
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
        let look = || async {
            tokio::task::yield_now().await;
            let value = count.fetch_add(1, Ordering::SeqCst);
            Observed::Known { at: jiff::Timestamp::UNIX_EPOCH, value }
        };
        let hour = Duration::from_secs(3600);
        let all = futures::future::join_all((0..10).map(|_| looks.at(&key, hour, look()))).await;
        assert!(all.iter().all(|seen| seen.known() == Some(&0)), "{all:?}");
        assert_eq!(looks.at(&key, Duration::ZERO, look()).await.known(), Some(&1));
        assert_eq!(looks.at(&Arc::new("another"), hour, look()).await.known(), Some(&2));
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_shared_too_and_not_for_long() {
        let (looks, key) = (Looks::<&str, usize>::default(), Arc::new("cache"));
        let missing = || async { Observed::missing(NoDataReason::Unreachable, "nobody is there") };
        looks.at(&key, Duration::from_secs(60), missing()).await;
        let never = std::future::pending::<Observed<usize>>();
        assert!(looks.at(&key, Duration::from_secs(60), never).await.known().is_none());
        // As if it had been read six seconds ago.
        let slot = looks.slot(&key);
        if let Some((at, _)) = slot.lock().await.as_mut() {
            *at = at.checked_sub(RETRY + Duration::from_secs(1)).unwrap();
        }
        let known = async { Observed::Known { at: jiff::Timestamp::UNIX_EPOCH, value: 1 } };
        assert_eq!(looks.at(&key, Duration::from_secs(60), known).await.known(), Some(&1));
    }
}
