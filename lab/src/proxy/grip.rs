//! A grip on the operator's process, for whoever has to kill or freeze it at an exact moment.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;

use crate::operator::Operator;
use crate::poll;
use crate::procfs::Identity;

/// A signal takes effect within microseconds.
const OBEYS_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    process: Option<Identity>,
    frozen: bool,
}

/// Holds one process at a time. Cheap to clone; all clones hold the same one.
#[derive(Debug, Clone)]
pub struct Grip(Arc<watch::Sender<Held>>);

impl Default for Grip {
    fn default() -> Self {
        Self(Arc::new(watch::channel(Held::default()).0))
    }
}

impl Grip {
    /// From now on this operator is meant.
    pub fn hold(&self, operator: &Operator) {
        self.0.send_replace(Held { process: Some(operator.process().identity()), frozen: false });
    }

    /// Kills it, and returns when it is gone.
    pub async fn kill(&self) {
        let Some(process) = self.held() else { return };
        process.signal_group(Signal::KILL);
        poll::until_found(OBEYS_WITHIN, move || async move { (!process.is_alive()).then_some(()) }).await;
    }

    /// Stops it in mid-air, and returns when it has stopped.
    pub async fn freeze(&self) {
        let Some(process) = self.held() else { return };
        process.signal_group(Signal::STOP);
        poll::until_found(OBEYS_WITHIN, move || async move { process.is_stopped().then_some(()) }).await;
        self.0.send_modify(|held| held.frozen = true);
    }

    /// Lets it go on, believing that no time has passed.
    pub fn thaw(&self) {
        if let Some(process) = self.held() {
            process.signal_group(Signal::CONT);
        }
        self.0.send_modify(|held| held.frozen = false);
    }

    fn held(&self) -> Option<Identity> {
        self.0.borrow().process
    }

    /// Whether it has been stopped and not yet let go.
    pub fn is_frozen(&self) -> bool {
        self.0.borrow().frozen
    }

    /// Returns when it goes on.
    pub(super) async fn thawed(&self) {
        // The sender lives in `self`.
        let _ = self.0.subscribe().wait_for(|held| !held.frozen).await;
    }
}
