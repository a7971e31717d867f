//! Answers of the last moment: equal queries are sent once and shared.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::Observed;

/// An answer that nobody asks for any more is kept so long.
const KEPT: Duration = Duration::from_secs(300);

type Slot<T> = Arc<tokio::sync::Mutex<Option<(Instant, Observed<T>)>>>;

/// Answers of one kind, by backend and query.
pub(super) struct Cache<T> {
    slots: Mutex<HashMap<(String, String), Slot<T>>>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { slots: Mutex::default() }
    }
}

impl<T: Clone> Cache<T> {
    /// The answer to `key` that is younger than `fresh`, or else what `asked` brings. Who comes meanwhile waits for it.
    pub(super) async fn get(
        &self,
        key: (String, String),
        fresh: Duration,
        asked: impl Future<Output = Observed<T>>,
    ) -> Observed<T> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.retain(|other, slot| *other == key || Arc::strong_count(slot) > 1 || recent(slot));
            slots.entry(key).or_default().clone()
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
