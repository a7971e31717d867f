//! Clock, timers, tasks and chance, on tokio.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use controller::ports::{Time, Timer};
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::clock::{Clock, since_boot};

/// The clock that was agreed on with the API server, tokio's timers, and the background tasks. Cheap to clone.
#[derive(Clone)]
pub struct Timers {
    clock: Clock,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Timers {
    /// Timers on that clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, tasks: Arc::default() }
    }

    /// Ends all background tasks, wherever they are.
    pub fn end(&self) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

impl Timer for Timers {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        since_boot()
    }

    fn sleep(&self, span: Duration) -> impl Future<Output = ()> + Send + 'static {
        tokio::time::sleep(span)
    }
}

impl Time for Timers {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn chance(&self) -> f64 {
        let any = RandomState::new().hash_one(0_u8);
        f64::from(u32::try_from(any >> 32).unwrap_or_default()) / f64::from(u32::MAX)
    }
}
