//! Each evaluation runs in a task of its own: one that computes for long delays neither the others nor the Lease's renewal,
//! and one that panics, which it must not, takes nobody else down.

use tokio::task::JoinSet;

/// The task was stopped or panicked.
#[derive(Debug, thiserror::Error)]
#[error("the task that did it was stopped: {0}")]
pub struct Broken(#[from] tokio::task::JoinError);

/// Runs `work` in a task that ends with the returned future.
pub(super) async fn isolated<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Broken> + Send + 'static,
{
    // Unlike a task that was merely spawned, what is in a set ends when the set is dropped.
    let mut alone = JoinSet::new();
    alone.spawn(work);
    match alone.join_next().await {
        Some(Ok(done)) => done,
        Some(Err(error)) => Err(Broken(error).into()),
        // It has the one that was just put in.
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_what_works_is_passed_on() {
        assert_eq!(isolated(async { Ok::<_, Broken>(7) }).await.ok(), Some(7));
        let hostile = [1.0].iter().position(|n| *n > 2.0);
        let broken = isolated(async move { Ok::<_, Broken>(hostile.unwrap()) }).await;
        assert!(broken.unwrap_err().to_string().contains("panic"));
    }
}
