//! Values that are read once for everybody who asks at the same time, and trusted for a while.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often values that nobody asks for any more are looked for. Not each time: each of ten thousand would look at all of them.
const SWEEP: Duration = Duration::from_secs(60);

/// A value, and when it was read. The task that reads it holds the lock, and all others wait for the result.
type Slot<V> = Arc<tokio::sync::Mutex<Option<(Instant, V)>>>;

/// Values by key. At most one reading of each is under way. Cheap to clone: clones share the values.
pub(crate) struct Cached<K, V> {
    kept: Duration,
    slots: Arc<Mutex<Slots<K, V>>>,
}

struct Slots<K, V> {
    known: HashMap<K, Slot<V>>,
    swept: Instant,
}

impl<K, V> Clone for Cached<K, V> {
    fn clone(&self) -> Self {
        Self { kept: self.kept, slots: self.slots.clone() }
    }
}

impl<K: Hash + Eq, V: Clone> Cached<K, V> {
    /// An empty cache. A value that nobody has read again for `kept` is dropped.
    pub(crate) fn new(kept: Duration) -> Self {
        let slots = Slots { known: HashMap::new(), swept: Instant::now() };
        Self { kept, slots: Arc::new(Mutex::new(slots)) }
    }

    /// The value of `key` if it is younger than it may be (`trusted` says how old), or else what `read` finds. `read` is given
    /// the value that was too old.
    pub(crate) async fn get<F: Future<Output = V>>(
        &self,
        key: K,
        trusted: impl FnOnce(&V) -> Duration,
        read: impl FnOnce(Option<V>) -> F,
    ) -> V {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        if let Some((at, value)) = slot.as_ref()
            && at.elapsed() < trusted(value)
        {
            return value.clone();
        }
        let before = slot.as_ref().map(|(_, value)| value.clone());
        let value = read(before).await;
        *slot = Some((Instant::now(), value.clone()));
        value
    }

    /// Has the value of `key` read again at the next call, unless it is younger than `again` or is being read.
    pub(crate) fn doubt<Q: Hash + Eq + ?Sized>(&self, key: &Q, again: Duration)
    where
        K: Borrow<Q>,
    {
        let slot = self.lock().known.get(key).cloned();
        if let Some(mut known) = slot.as_ref().and_then(|slot| slot.try_lock().ok()) {
            known.take_if(|(at, _)| at.elapsed() >= again);
        }
    }

    /// The value of `key` whatever its age; nothing while it is being read.
    pub(crate) fn peek(&self, key: &K) -> Option<V> {
        let slot = self.lock().known.get(key).cloned()?;
        let known = slot.try_lock().ok()?;
        known.as_ref().map(|(_, value)| value.clone())
    }

    /// [`Self::doubt`] for all values.
    pub(crate) fn doubt_all(&self, again: Duration) {
        self.lock().known.values().for_each(|slot| {
            if let Ok(mut known) = slot.try_lock() {
                known.take_if(|(at, _)| at.elapsed() >= again);
            }
        });
    }

    fn slot(&self, key: K) -> Slot<V> {
        let mut slots = self.lock();
        if slots.swept.elapsed() >= SWEEP.min(self.kept) {
            // Nobody else holds a slot that nobody asks for.
            slots.known.retain(|_, slot| Arc::strong_count(slot) > 1 || is_younger(slot, self.kept));
            slots.swept = Instant::now();
        }
        slots.known.entry(key).or_default().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Slots<K, V>> {
        // What a panicking task leaves behind here is a whole entry or none.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the value of `key` as if it had been read `age` ago.
    #[cfg(test)]
    pub(crate) async fn set(&self, key: K, age: Duration, value: V) {
        let at = Instant::now().checked_sub(age).unwrap();
        *self.slot(key).lock().await = Some((at, value));
    }
}

fn is_younger<V>(slot: &Slot<V>, than: Duration) -> bool {
    slot.try_lock().is_ok_and(|slot| slot.as_ref().is_some_and(|(at, _)| at.elapsed() < than))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn it_is_read_once_for_all_who_ask_at_the_same_time() {
        let (cached, count) = (Cached::new(HOUR), AtomicUsize::new(0));
        let get = |key: &'static str, age: Duration| {
            cached.get(
                key,
                move |_| age,
                |_| async {
                    tokio::task::yield_now().await;
                    count.fetch_add(1, Ordering::SeqCst)
                },
            )
        };
        let (first, second, other) = tokio::join!(get("a", HOUR), get("a", HOUR), get("b", HOUR));
        assert_eq!((first, count.load(Ordering::SeqCst)), (second, 2));
        assert_ne!(first, other);
        assert_eq!(get("a", HOUR).await, first, "it is fresh");
        assert_eq!(get("a", Duration::ZERO).await, 2, "it is too old");
    }

    #[tokio::test]
    async fn the_next_reading_is_given_the_last_one() {
        let cached = Cached::new(HOUR);
        let next = |before: Option<usize>| async move { before.map_or(0, |before| before + 1) };
        assert_eq!(cached.get("a", |_| Duration::ZERO, next).await, 0);
        assert_eq!(cached.get("a", |_| Duration::ZERO, next).await, 1);
    }

    #[tokio::test]
    async fn a_doubt_has_it_read_again_but_not_at_once() {
        let cached = Cached::new(HOUR);
        let get = |value: usize| cached.get("a", |_| HOUR, move |_| async move { value });
        assert_eq!(get(1).await, 1);
        cached.doubt("a", HOUR);
        assert_eq!(get(2).await, 1);
        cached.doubt("a", Duration::ZERO);
        assert_eq!(get(2).await, 2);
    }

    #[tokio::test]
    async fn all_are_doubted_at_once_and_none_that_is_young() {
        let cached = Cached::new(HOUR);
        cached.set("a", Duration::from_secs(2), 1).await;
        cached.set("b", Duration::ZERO, 1).await;
        assert_eq!((cached.peek(&"a"), cached.peek(&"c")), (Some(1), None));
        cached.doubt_all(Duration::from_secs(1));
        let get = |key: &'static str| cached.get(key, |_| HOUR, |_| async { 2 });
        assert_eq!((get("a").await, get("b").await), (2, 1));
    }

    #[tokio::test]
    async fn a_value_that_nobody_asks_for_is_dropped() {
        let cached = Cached::new(Duration::ZERO);
        cached.get("a", |_| HOUR, |_| async {}).await;
        cached.get("b", |_| HOUR, |_| async {}).await;
        let known = |key| cached.lock().known.contains_key(key);
        assert_eq!((known("a"), known("b")), (false, true));
    }
}
