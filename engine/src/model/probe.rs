//! A request that the operator sends itself, to see how long it takes.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a Service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scheme {
    /// In the clear.
    #[serde(rename = "HTTP")]
    Http,
    /// Over TLS. The certificate is not verified, as the kubelet's probes do not: it is not issued for a Pod's address,
    /// and nothing secret is sent.
    #[serde(rename = "HTTPS")]
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        })
    }
}

/// How long the parts of one request took, each from its beginning on: the times of one request over a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Until the connection stood.
    pub connect: Duration,
    /// Until TLS was agreed on, where it is used and was.
    pub tls: Option<Duration>,
    /// Until the head of the answer was there (status and headers), if it ever was.
    pub first_byte: Option<Duration>,
    /// Until the answer was complete, or was given up.
    pub total: Duration,
}

/// How one probe was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeAnswer {
    /// An answer came, with this HTTP status.
    Status {
        /// The status.
        status: u16,
        /// The body was longer than what is read of it.
        cut: bool,
    },
    /// The connection stood, and the answer was not complete in time.
    TimedOut,
}

/// What one probe saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// How long it took to find the address; nothing where it was known. Not part of the times below: it is the API
    /// server's time, and not the Service's.
    pub resolve: Duration,
    /// How long the request took.
    pub timing: Timing,
    /// What came of it.
    pub answer: ProbeAnswer,
}

impl Probed {
    /// Whether the request waits, as those of the users may.
    #[must_use]
    pub fn hangs(&self) -> bool {
        match self.answer {
            ProbeAnswer::TimedOut => true,
            ProbeAnswer::Status { .. } => false,
        }
    }
}
