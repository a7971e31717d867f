//! Waiting for something to become true, with a deadline: the only place in the laboratory that lets time pass. Every limit here
//! is scaled by [`crate::patience()`].

use std::future::Future;
use std::time::Duration;

use crate::patience::{patience, within};

/// The pause between two looks: short against what is waited for, long against what a look costs.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until `look` finds something; `None` when this machine has had the time that the limit stands for.
///
/// A look that itself hangs is cut off at the limit.
pub async fn until<T>(limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    within(limit, looking).await
}

/// The same within the laboratory: futures over async closures are not `Send` where they borrow, and whoever starts
/// a server may do so from a task.
pub(crate) async fn until_found<T, F, L>(limit: Duration, mut look: L) -> Option<T>
where
    L: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    within(limit, looking).await
}

/// The same for destructors, which cannot be async: `true` when `look` came true before the limit.
pub(crate) fn until_blocking(limit: Duration, mut look: impl FnMut() -> bool) -> bool {
    let deadline = std::time::Instant::now() + patience(limit);
    loop {
        if look() {
            return true;
        }
        if std::time::Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(PAUSE / 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finds_what_becomes_true_and_gives_up_on_what_does_not() {
        let mut looks = 0;
        let found = until(Duration::from_secs(5), async || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.await, Some(3));
        assert_eq!(
            until(Duration::from_millis(50), async || std::future::pending::<Option<()>>().await).await,
            None
        );
    }
}
