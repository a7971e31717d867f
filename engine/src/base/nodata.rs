//! What is not known, and why. A missing thing is a value, never an error and never a zero.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::forget;

/// Why something could not be read or judged. One name per reason, so that people can look it up (`docs/signals.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NoDataReason {
    /// Nothing has been read since the operator started.
    NotYetRead,
    /// No backend of that name is in the operator's configuration.
    NoBackend,
    /// The other side could not be reached: refused, no route, name not found.
    Unreachable,
    /// The other side did not answer in time.
    Timeout,
    /// The other side answered with an HTTP status that is not success.
    HttpError,
    /// The answer is not what the protocol promises: cut off, not JSON, of another shape, too large.
    BadAnswer,
    /// The metrics backend refused the query.
    QueryRefused,
    /// The metrics backend answered with warnings: the data may be partial.
    Warnings,
    /// No series matches.
    Empty,
    /// More than one series came back where exactly one can be judged.
    ManySeries,
    /// A sample is NaN.
    NotANumber,
    /// A sample is infinite or negative where a count was expected.
    NotACount,
    /// The newest sample is too old.
    Stale,
    /// Too few requests in the window.
    TooFewRequests,
    /// No finite bucket bound is at or above the target, so counts cannot tell.
    TargetBeyondBuckets,
    /// Whether requests hang cannot be said: no healthy window has been seen yet to compare with.
    NoBaseline,
    /// The data store is still loading its data after a start.
    Loading,
    /// The Secret does not exist.
    SecretNotFound,
    /// The Secret is not labelled for the operator's use.
    SecretNotAllowed,
    /// The Secret lacks keys, or what it says cannot be understood.
    SecretInvalid,
    /// The data store refused the credentials.
    AuthenticationFailed,
    /// The data store has no free connection left.
    ConnectionsExhausted,
    /// TLS could not be set up: not as the Secret asks, or not at all.
    TlsFailed,
    /// The server's version is not supported.
    UnsupportedVersion,
    /// The role, or the operator's account, may not read what is needed.
    PermissionDenied,
    /// The data store refused the diagnosis statement.
    QueryFailed,
    /// The Service does not exist.
    ServiceNotFound,
    /// The Service is of type ExternalName: its name may lead anywhere.
    ExternalService,
    /// The Service selects no Pods, so that its addresses are written by hand.
    NoSelector,
    /// The Service has no TCP port of that name or number.
    NoSuchPort,
    /// None of the Service's Pods is ready.
    NoReadyAddress,
    /// An address of the Service is not that of one of its own Pods.
    ForeignAddress,
    /// The Service's Pods use the network of their node, so that their addresses are the node's.
    HostNetwork,
    /// An address of the Service is one that is never asked: loopback, link-local, cloud metadata, the API server.
    ForbiddenAddress,
    /// The Service's Pods are not those of the target.
    NotOfTarget,
    /// The other side answered with a redirect, which is not followed.
    Redirected,
    /// The object does not exist.
    NotFound,
    /// The object is being deleted.
    Deleting,
    /// The Kubernetes API could not be asked.
    ApiUnavailable,
}

impl fmt::Display for NoDataReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Something that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoData {
    /// The reason, of which there is a fixed set.
    pub reason: NoDataReason,
    /// One sentence with the numbers and, where there is one, the fix. It never quotes secrets or queries.
    pub detail: String,
}

impl NoData {
    /// A reason with its sentence.
    pub fn new(reason: NoDataReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl NoDataReason {
    /// Whether the detail names what it is about and is the same at each look: a Secret, a grant, a port. With another name
    /// it is news. Of the others the detail counts, or quotes what the other side says, which changes by itself.
    const fn names_its_subject(self) -> bool {
        match self {
            Self::NotYetRead
            | Self::NoBackend
            | Self::TargetBeyondBuckets
            | Self::Loading
            | Self::SecretNotFound
            | Self::SecretNotAllowed
            | Self::SecretInvalid
            | Self::UnsupportedVersion
            | Self::PermissionDenied
            | Self::ServiceNotFound
            | Self::ExternalService
            | Self::NoSelector
            | Self::NoSuchPort
            | Self::NoReadyAddress
            | Self::HostNetwork
            | Self::NotOfTarget
            | Self::Redirected
            | Self::NotFound
            | Self::Deleting => true,
            Self::Unreachable
            | Self::Timeout
            | Self::HttpError
            | Self::BadAnswer
            | Self::QueryRefused
            | Self::Warnings
            | Self::Empty
            | Self::ManySeries
            | Self::NotANumber
            | Self::NotACount
            | Self::Stale
            | Self::TooFewRequests
            | Self::NoBaseline
            | Self::AuthenticationFailed
            | Self::ConnectionsExhausted
            | Self::TlsFailed
            | Self::QueryFailed
            | Self::ForeignAddress
            | Self::ForbiddenAddress
            | Self::ApiUnavailable => false,
        }
    }
}

impl NoData {
    /// Keeps what makes it another one: the reason, and the detail where it names something.
    pub(crate) fn forget_numbers(&mut self) {
        if !self.reason.names_its_subject() {
            forget(&mut self.detail);
        }
    }
}

impl fmt::Display for NoData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

/// A value with the instant at which it was read, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Observed<T> {
    /// The value as it was at that instant (of the operator's clock).
    Known {
        /// When it was read.
        at: Timestamp,
        /// What was read.
        value: T,
    },
    /// Why there is no value.
    Missing(NoData),
}

impl<T> Observed<T> {
    /// A missing value.
    pub fn missing(reason: NoDataReason, detail: impl Into<String>) -> Self {
        Self::Missing(NoData::new(reason, detail))
    }

    /// The value, if it is known.
    #[must_use]
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known { value, .. } => Some(value),
            Self::Missing(_) => None,
        }
    }

    /// The same with another value, where it is known.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Observed<U> {
        match self {
            Self::Known { at, value } => Observed::Known { at, value: change(value) },
            Self::Missing(no_data) => Observed::Missing(no_data),
        }
    }

    /// The value and when it was read, or why it is not known.
    ///
    /// # Errors
    /// It is not known.
    pub fn as_result(&self) -> Result<(Timestamp, &T), &NoData> {
        match self {
            Self::Known { at, value } => Ok((*at, value)),
            Self::Missing(no_data) => Err(no_data),
        }
    }

    /// Why it is not known, if it is not.
    #[must_use]
    pub fn missing_because(&self) -> Option<&NoData> {
        match self {
            Self::Known { .. } => None,
            Self::Missing(no_data) => Some(no_data),
        }
    }

    /// When the value was read, if it is known.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Known { at, .. } => Some(*at),
            Self::Missing(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_other_side_says_is_no_news_and_another_fix_is() {
        let key = |reason, detail: &str| {
            let mut no_data = NoData::new(reason, detail);
            no_data.forget_numbers();
            no_data
        };
        let (timeout, secret) = (NoDataReason::Timeout, NoDataReason::SecretInvalid);
        assert_eq!(key(timeout, "no answer within 1s"), key(timeout, "took no connection within 4 s"));
        assert_ne!(key(secret, "it has no key password"), key(secret, "it has no key user"));
    }
}
