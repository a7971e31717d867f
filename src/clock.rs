//! The one clock of the operator.

use std::time::Duration;

use axum::http::{HeaderMap, Request, header};
use engine::model::later;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use rustix::time::{ClockId, clock_gettime};

/// A clock that is set once by the API server's and then counted on by [`since_boot`]. It never goes backwards, somebody
/// who sets the machine's clock shortens no cooldown and revives no deadline, and a successor on a machine with another time
/// counts on from the same instants as its predecessor: they stand in objects of the API server.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    set: Duration,
}

/// The time since this machine was started. It goes on while the machine is suspended; on Linux [`std::time::Instant`] does
/// not, and a process that goes on afterwards would believe in a Lease that somebody else has taken meanwhile.
#[must_use]
pub fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    // Elsewhere only people's commands run.
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    // Since the start: it is never negative.
    clock_gettime(CLOCK).try_into().unwrap_or_default()
}

/// Why the clock could not be set.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The API server could not be asked.
    #[error("the API server cannot be asked for the time: {0}")]
    Unreachable(#[from] kube::Error),
    /// It does not say.
    #[error("the API server's answer has no header Date that can be understood")]
    NoDate,
}

/// A machine whose clock differs by more than this is worth a line in the log.
const NOTABLE: Duration = Duration::from_secs(5);

impl Clock {
    /// A clock that shows this time now.
    #[must_use]
    pub fn at(wall: Timestamp) -> Self {
        Self { wall, set: since_boot() }
    }

    /// Asks the API server for the time. The header says whole seconds, and the answer took a while: the clock is a second
    /// behind at most, and never ahead.
    ///
    /// # Errors
    /// The API server cannot be asked, or does not say.
    pub async fn agreed(client: &Client) -> Result<Self, ClockError> {
        let request = Request::get("/version").body(Body::empty()).map_err(|_| ClockError::NoDate)?;
        let answer = client.send(request).await?;
        let clock = Self::at(date_of(answer.headers()).ok_or(ClockError::NoDate)?);
        let own = Timestamp::now();
        if own.duration_since(clock.wall).unsigned_abs() > NOTABLE {
            tracing::warn!(%own, api_server = %clock.wall, "this machine's clock differs; the API server's is used");
        }
        Ok(clock)
    }

    /// The instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        later(self.wall, since_boot().saturating_sub(self.set))
    }
}

/// The header `Date`.
pub(crate) fn date_of(headers: &HeaderMap) -> Option<Timestamp> {
    headers.get(header::DATE)?.to_str().ok().and_then(instant)
}

/// The date of an HTTP header (RFC 9110, 5.6.7).
fn instant(date: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_boot_goes_on() {
        let before = since_boot();
        assert!(before > Duration::ZERO && since_boot() >= before);
    }

    #[test]
    fn a_date_is_understood_as_servers_write_it() {
        let expected: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        assert_eq!(instant("Sun, 06 Nov 1994 08:49:37 GMT"), Some(expected));
        assert_eq!(instant("soon"), None);
    }
}
