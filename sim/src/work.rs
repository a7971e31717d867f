//! The work queue of a process: one task for each object, which is looked at when it changes and when it is due.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use controller::{Next, PolicyKey, policy, remediation};
use engine::model::EntryKey;
use futures::future::{Either, select};

use crate::exec::{Micros, Sim, lock};
use crate::process::Process;

/// An object that is looked after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A LatencyPolicy.
    Policy(PolicyKey),
    /// A LatencyRemediation.
    Remediation(EntryKey),
}

/// Wakes the task of one object. Rung while the task is busy, it rings once more.
#[derive(Debug, Default)]
pub struct Bell(Mutex<(bool, Option<Waker>)>);

impl Bell {
    /// Wakes the task.
    pub fn ring(&self) {
        let waker = {
            let mut bell = lock(&self.0);
            bell.0 = true;
            bell.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until it rings, or until the object is due.
    async fn wait(&self, sim: &Sim, next: Next) {
        match next {
            Next::OnChange => Ring(self).await,
            Next::After(span) => match select(Ring(self), sim.sleep(micros(span))).await {
                Either::Left(_) | Either::Right(_) => {}
            },
        }
    }
}

struct Ring<'a>(&'a Bell);

impl Future for Ring<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut bell = lock(&self.0.0);
        if std::mem::take(&mut bell.0) {
            return Poll::Ready(());
        }
        bell.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A span in microseconds.
#[must_use]
pub fn micros(span: Duration) -> Micros {
    Micros::try_from(span.as_micros()).unwrap_or(Micros::MAX / 4)
}

impl Process {
    /// Queues an object; starts its task, if there is none.
    pub(crate) fn queue(self: &Arc<Self>, item: Item) {
        if self.is_stopping() {
            return;
        }
        let bell = {
            let mut work = lock(&self.work);
            if let Some(known) = work.get(&item) {
                let known = known.clone();
                drop(work);
                return known.ring();
            }
            let bell = Arc::new(Bell::default());
            work.insert(item.clone(), bell.clone());
            bell
        };
        self.sim.spawn(self.node, follow(self.clone(), item, bell));
    }

    /// Lets every task see that the process was told to end.
    pub(crate) fn ring_all(&self) {
        let bells: Vec<Arc<Bell>> = lock(&self.work).values().cloned().collect();
        for bell in bells {
            bell.ring();
        }
    }
}

async fn follow(process: Arc<Process>, item: Item, bell: Arc<Bell>) {
    while !process.is_stopping()
        && let Some(next) = process.work_on(&item).await
    {
        bell.wait(&process.sim, next).await;
    }
    lock(&process.work).remove(&item);
}

impl Process {
    /// Works on an object as the watch has shown it last; nothing where it is gone.
    async fn work_on(&self, item: &Item) -> Option<Next> {
        let controllers = self.controllers()?;
        Some(match item {
            Item::Policy(key) => {
                let object = lock(&self.watched).policies.get(key).cloned()?;
                controllers.evaluate(&object).await.unwrap_or(Next::After(policy::AFTER_ERROR))
            }
            Item::Remediation(key) => {
                let stored = lock(&self.watched).remediations.get(key).cloned()?;
                self.sim.world().counts.steps += 1;
                controllers.advance(stored).await.unwrap_or(Next::After(remediation::AFTER_ERROR))
            }
        })
    }
}
