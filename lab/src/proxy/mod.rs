//! Proxies between the operator and its servers, which break things at an exact request: they kill or freeze the operator
//! before a request reaches the server or after it has taken effect, lose answers, refuse, and delay.
//!
//! The operator knows nothing of it: it has no switch for tests. What passes by is written down, so that a proxy is a
//! witness too of what has reached its server.

mod api;
mod frames;
mod grip;
mod postgres;

use std::time::Duration;

pub use api::{ApiProxy, Call};
pub use grip::Grip;
pub use postgres::{PostgresProxy, Signal, Stage};

/// What is done to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The operator is killed; the server never hears of the request.
    KillBefore,
    /// The server has carried it out; the operator is killed before it gets the answer.
    KillAfter,
    /// The operator is frozen; the request waits until it goes on, and then reaches the server all the same.
    FreezeBefore,
    /// The operator is frozen; the request is carried out, and the answer lies in its socket until it goes on.
    FreezeAfter,
    /// The server has carried it out; the connection breaks without an answer.
    Lose,
    /// The server never hears of it, and the answer is this HTTP status; of PostgreSQL, that the connection ends.
    Refuse {
        /// Such as 409.
        status: u16,
        /// In the header `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// The server has carried it out, and the answer is this HTTP status all the same.
    Deny(u16),
    /// It reaches the server so much later.
    Late(Duration),
    /// It is carried out, and all watches that are open end in mid-stream.
    CutWatches,
}

impl Fault {
    /// Whether the operator is killed.
    pub fn kills(&self) -> bool {
        matches!(self, Self::KillBefore | Self::KillAfter)
    }

    /// Whether the operator is frozen.
    pub fn freezes(&self) -> bool {
        matches!(self, Self::FreezeBefore | Self::FreezeAfter)
    }
}
