//! Answers of the last moment: equal queries are sent once and shared.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::Observed;

/// An answer that nobody asks for any more is kept so long.
const KEPT: Duration = Duration::from_secs(300);
/// And looked for so often.
const SWEEP: Duration = Duration::from_secs(60);

type Slot<T> = Arc<tokio::sync::Mutex<Option<(Instant, Observed<T>)>>>;

/// Answers of one kind, by what was asked for.
pub(super) struct Cache<K, T> {
    slots: Mutex<Slots<K, T>>,
}

struct Slots<K, T> {
    known: HashMap<K, Slot<T>>,
    swept: Instant,
}

impl<K, T> Default for Cache<K, T> {
    fn default() -> Self {
        Self { slots: Mutex::new(Slots { known: HashMap::new(), swept: Instant::now() }) }
    }
}

impl<K: Hash + Eq, T: Clone> Cache<K, T> {
    /// The answer to `key` that is younger than `fresh`, or else what `asked` brings. Who comes meanwhile waits for it.
    pub(super) async fn get(
        &self,
        key: K,
        fresh: Duration,
        asked: impl Future<Output = Observed<T>>,
    ) -> Observed<T> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            // Not each time: each of ten thousand would look at all of them.
            if slots.swept.elapsed() > SWEEP {
                slots.known.retain(|_, slot| Arc::strong_count(slot) > 1 || recent(slot));
                slots.swept = Instant::now();
            }
            slots.known.entry(key).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some((at, observed)) = slot.as_ref()
            && at.elapsed() < fresh
        {
            return observed.clone();
        }
        let observed = asked.await;
        *slot = Some((Instant::now(), observed.clone()));
        observed
    }
}

fn recent<T>(slot: &Slot<T>) -> bool {
    slot.try_lock().is_ok_and(|slot| slot.as_ref().is_some_and(|(at, _)| at.elapsed() < KEPT))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use jiff::Timestamp;

    use super::*;

    #[tokio::test]
    async fn equal_queries_are_asked_once_and_others_are_not_confused() {
        let (cache, asked) = (Cache::default(), AtomicU32::new(0));
        let read = async |query: &str, fresh: Duration| {
            let answer = async {
                tokio::task::yield_now().await;
                Observed::Known { at: Timestamp::UNIX_EPOCH, value: asked.fetch_add(1, Ordering::Relaxed) }
            };
            let observed = cache.get(("b".to_owned(), query.to_owned()), fresh, answer).await;
            observed.known().copied()
        };
        let hour = Duration::from_secs(3600);
        let (first, second, other) = tokio::join!(read("a", hour), read("a", hour), read("b", hour));
        assert_eq!((first, asked.load(Ordering::Relaxed)), (second, 2));
        assert_ne!(first, other);
        assert_eq!(read("a", hour).await, first, "still fresh");
        assert_eq!(read("a", Duration::ZERO).await, Some(2), "too old");
    }
}
