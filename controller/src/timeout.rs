//! Waiting for something no longer than a span, on the port's timers.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};

use crate::ports::Timer;

/// What `work` yields within `span`; nothing where it takes longer.
pub(crate) async fn within<T>(time: &impl Timer, span: Duration, work: impl Future<Output = T>) -> Option<T> {
    match select(pin!(work), pin!(time.sleep(span))).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(((), _)) => None,
    }
}
