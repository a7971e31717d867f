//! Scales every deadline by how slow this machine is.
//!
//! A deadline says when something has failed, not how fast a machine must be. In the code it is a limit for the reference machine,
//! two idle cores, with room to spare. Here it is multiplied by the *pace*: how much longer a fixed piece of work (`lab/pace`) takes
//! on this machine. `.ci/test` measures the pace once and exports it as [`VARIABLE`]. Without that, each process measures it when it
//! first waits. When a deadline has passed the work is measured again: if the machine has become slower, the deadline moves.
//!
//! Times that the product or a test defines (a window, a cooldown) are not deadlines, and are never scaled.

use std::future::Future;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::say::{Say, Stderr};

/// The environment variable with the pace: `1.00` for the reference machine, more for a slower one.
pub const VARIABLE: &str = "LAB_PACE";
/// The variable by which Rust's test harness is told how many tests to run at a time.
const AT_ONCE: &str = "RUST_TEST_THREADS";
/// The script that measures the pace.
const SCRIPT: &str = include_str!("../pace");
/// The pace of a machine that cannot be measured. Waiting too long does less harm than giving up too early.
const UNKNOWN: f64 = 3.0;
/// Maximum pace. Tests fail on a slower machine.
const MAXIMUM: f64 = 20.0;

static PACE: LazyLock<Pace> = LazyLock::new(Pace::of_this_machine);

/// What `lab/pace` prints.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pace {
    slower: f64,
    at_once: usize,
}

impl Pace {
    fn of_this_machine() -> Self {
        let named = std::env::var(VARIABLE).ok();
        let slower = named.as_deref().and_then(parse);
        if let (Some(named), None) = (&named, slower) {
            Stderr.say(&format!(
                "{VARIABLE}={named} is not a number from 1 to {MAXIMUM}: it is measured instead"
            ));
        }
        let at_once = std::env::var(AT_ONCE).ok().and_then(|text| text.parse().ok());
        match (slower, at_once) {
            (Some(slower), Some(at_once)) => Self { slower, at_once },
            (slower, at_once) => {
                let measured = Self::measured().unwrap_or(Self { slower: UNKNOWN, at_once: 1 });
                Self {
                    slower: slower.unwrap_or(measured.slower),
                    at_once: at_once.unwrap_or(measured.at_once),
                }
            }
        }
    }

    /// Measures now. `None` if bash cannot run the script.
    fn measured() -> Option<Self> {
        let mut bash = Command::new("bash");
        let output = bash.args(["-c", SCRIPT]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (slower, at_once) = text.trim().split_once(' ')?;
        Some(Self { slower: parse(slower)?, at_once: at_once.parse().ok()? })
    }
}

/// Reads a pace that makes no deadline shorter or endless.
fn parse(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|slower: &f64| *slower >= 1.0).map(|slower| slower.min(MAXIMUM))
}

/// Scales a limit for the reference machine to this machine.
///
/// The laboratory's functions that take a limit call this themselves.
pub fn patience(limit: Duration) -> Duration {
    limit.mul_f64(PACE.slower)
}

/// Describes a scaled limit, for the error after a wait that failed.
pub fn told(limit: Duration) -> String {
    let slower = PACE.slower;
    if slower > 1.0 {
        return format!("{:.0?} ({limit:?}, times {slower:.2} for this machine)", patience(limit));
    }
    format!("{limit:?}")
}

/// How many tests that mostly wait may run at a time on this machine.
pub fn at_once() -> usize {
    PACE.at_once.max(1)
}

/// Waits for a future, at most for the scaled limit; `None` when that has passed.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let begun = Instant::now();
    let mut future = std::pin::pin!(future);
    let mut patience = patience(limit);
    loop {
        if let Ok(done) = timeout_at(begun + patience, future.as_mut()).await {
            return Some(done);
        }
        let pace = tokio::task::spawn_blocking(Pace::measured).await.ok().flatten()?;
        let longer = limit.mul_f64(pace.slower);
        if longer <= patience {
            return None;
        }
        patience = longer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_measured_and_never_makes_a_deadline_shorter() {
        let pace = Pace::measured().unwrap();
        assert!((1.0..=MAXIMUM).contains(&pace.slower) && pace.at_once > 0, "{pace:?}");
        assert!(patience(Duration::from_secs(1)) >= Duration::from_secs(1));
        assert!(at_once() > 0);
    }

    #[test]
    fn a_pace_that_would_end_every_wait_is_not_taken() {
        for wrong in ["", "fast", "0", "0.5", "-1", "NaN"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!((parse("1"), parse("2.50\n"), parse("1e9")), (Some(1.0), Some(2.5), Some(MAXIMUM)));
    }

    #[tokio::test]
    async fn what_comes_in_time_is_returned_and_what_never_comes_is_given_up() {
        assert_eq!(within(Duration::from_secs(60), async { 7 }).await, Some(7));
        assert_eq!(within(Duration::from_millis(10), std::future::pending::<()>()).await, None);
    }
}
