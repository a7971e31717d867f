//! When a policy is evaluated: the policies of a namespace at the same moment, so that what they ask for can be asked
//! together, and the namespaces one after the other.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Minimum number of turns in an interval.
const TURNS: usize = 10;
/// There are as many turns as it takes to have at most this many policies in each.
const AT_ONE_TURN: usize = 128;
/// Up to this many policies are evaluated as soon as they are discovered. Beyond it each waits for its namespace's turn, so
/// that a restart does not send ten thousand queries at once.
pub(super) const AT_ONCE: usize = 1_000;
/// How long a policy rests at least after an evaluation.
pub(super) const REST: Duration = Duration::from_millis(10);

/// The number of turns in an interval.
fn turns(policies: usize) -> u64 {
    let mut turns = TURNS;
    while turns * AT_ONE_TURN < policies {
        turns *= 2;
    }
    turns as u64
}

/// The time from `since` the first turn to the next turn of that namespace.
pub(super) fn until_turn(namespace: &str, policies: usize, pause: Duration, since: Duration) -> Duration {
    turn(namespace, turns(policies), pause, since)
}

fn turn(namespace: &str, turns: u64, pause: Duration, since: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    namespace.hash(&mut hasher);
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let pause = nanos(pause).max(1);
    let turn = (pause / turns) * (hasher.finish() % turns);
    let passed = nanos(since) % pause;
    Duration::from_nanos(if passed <= turn { turn - passed } else { turn + (pause - passed) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(15);

    #[test]
    fn a_namespace_has_one_turn_in_each_pause() {
        let first = turn("shop", 10, PAUSE, Duration::ZERO);
        assert!(first < PAUSE);
        for millis in [0, 1, 3_000, 14_999, 15_000, 100_000, 3_600_000] {
            let since = Duration::from_millis(millis);
            let wait = turn("shop", 10, PAUSE, since);
            assert!(wait < PAUSE, "{wait:?}");
            let passed = (since + wait - first).as_nanos();
            assert_eq!(passed % PAUSE.as_nanos(), 0, "{since:?}: {wait:?}");
        }
    }

    #[test]
    fn namespaces_take_turns_and_many_policies_have_more() {
        let when = |turns| {
            let of = |number| turn(&format!("team-{number}"), turns, PAUSE, Duration::ZERO);
            (0..100).map(of).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(when(turns(1_000)), 10);
        assert_eq!(turns(10_000), 80);
        assert!(when(turns(10_000)) > 50);
    }
}
