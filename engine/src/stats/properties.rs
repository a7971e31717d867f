//! What holds for any sequence of looks.

use std::time::Duration;

use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::base::{earlier, elapsed, later};

const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Count(u64);

impl Counters for Count {
    fn since(&self, then: &Self) -> Option<Self> {
        grown(self.0, then.0).map(Self)
    }
}

/// Instants, each some time after the one before.
fn instants(gaps: &[u64]) -> Vec<Timestamp> {
    let after = |at: &mut Timestamp, gap: &u64| {
        *at = later(*at, Duration::from_millis(*gap));
        Some(*at)
    };
    gaps.iter().scan(Timestamp::UNIX_EPOCH, after).collect()
}

proptest! {
    #[test]
    fn held_counts_the_looks_since_the_last_one_that_did_not_show_it(shown in vec(any::<bool>(), 0..50)) {
        let instants = instants(&vec![1000; shown.len()]);
        let mut held = Held::default();
        for (at, shows) in instants.iter().zip(&shown) {
            held.note(*shows, *at);
        }
        let streak = shown.iter().rev().take_while(|shows| **shows).count();
        let since = instants.get(instants.len() - streak).copied();
        prop_assert_eq!(usize::try_from(held.looks()).unwrap(), streak);
        prop_assert_eq!(held.since(), since);
        if let (Some(since), Some(now)) = (since, instants.last()) {
            let span = elapsed(*now, since);
            prop_assert!(held.lasts(*now, span));
            prop_assert!(!held.lasts(*now, span + Duration::from_millis(1)));
        }
    }

    #[test]
    fn credit_is_bounded_and_time_without_a_verdict_is_credited_to_nobody(
        looks in vec((0u64..100_000, proptest::option::of(any::<bool>())), 1..50),
        longest in 0u64..50_000,
    ) {
        let longest = Duration::from_millis(longest);
        let instants = instants(&looks.iter().map(|(gap, _)| *gap).collect::<Vec<_>>());
        let mut credit = Credit::default();
        let mut before: Option<(Timestamp, Option<bool>)> = None;
        for (now, (_, verdict)) in instants.into_iter().zip(looks) {
            let wanted = before.and_then(|(at, verdict)| Some((elapsed(now, at).min(longest), verdict?)));
            prop_assert_eq!(credit.since_last(now, longest), wanted);
            credit.note(now, verdict);
            before = Some((now, verdict));
        }
    }

    #[test]
    fn both_of_the_last_two_looks_must_show_it(shown in vec((0u64..3, any::<bool>()), 0..30)) {
        let instants = instants(&shown.iter().map(|(gap, _)| *gap).collect::<Vec<_>>());
        let mut two = LastTwo::default();
        // The same instant again is the same look: the first one counts.
        let mut looks: Vec<(Timestamp, bool)> = Vec::new();
        for (at, (_, shows)) in instants.into_iter().zip(shown) {
            two.note(at, shows);
            if looks.last().is_none_or(|(last, _)| *last < at) {
                looks.push((at, shows));
            }
        }
        let wanted = looks.len() >= 2 && looks.iter().rev().take(2).all(|(_, shows)| *shows);
        prop_assert_eq!(two.both(|shows| *shows), wanted);
        prop_assert_eq!(two.to(), looks.last().map(|(at, _)| *at));
        prop_assert_eq!(two.from(), looks.iter().rev().nth(1).map(|(at, _)| *at));
    }

    #[test]
    fn samples_are_bounded_and_their_median_is_one_of_them(
        looks in vec((0u64..120_000, 0u32..1000), 1..300),
    ) {
        let instants = instants(&looks.iter().map(|(gap, _)| *gap).collect::<Vec<_>>());
        let mut samples = Samples::default();
        for (at, (_, value)) in instants.iter().zip(&looks) {
            samples.learn(*at, *value);
            prop_assert!(samples.len() <= Samples::<u32>::MOST);
        }
        let now = *instants.last().unwrap();
        let recent: Vec<u32> = samples.recent(now).map(|recent| recent.copied().collect()).unwrap_or_default();
        prop_assert_eq!(samples.recent(now).is_some(), samples.suffice(), "all are of the last 30 minutes");
        prop_assert!(recent.iter().all(|value| looks.iter().any(|(_, known)| known == value)));
        if let Some(median) = median(recent.iter().copied(), u32::cmp) {
            let below = recent.iter().filter(|value| **value < median).count();
            let above = recent.iter().filter(|value| **value > median).count();
            prop_assert!(below <= recent.len() / 2 && above <= recent.len() / 2, "{recent:?}");
        }
        // After half an hour without anything to learn nothing is known of what is usual.
        let idle = later(now, Samples::<u32>::SPAN + Duration::from_secs(1));
        prop_assert!(samples.recent(idle).is_none());
    }

    #[test]
    fn differences_of_counters_are_never_taken_across_a_reset(
        looks in vec((0u64..5_000, 0u64..100, proptest::bool::weighted(0.1)), 1..400),
    ) {
        let instants = instants(&looks.iter().map(|(gap, ..)| *gap).collect::<Vec<_>>());
        let mut counting = Counting::default();
        let mut life: Vec<(Timestamp, u64)> = Vec::new();
        let mut count = 0;
        for (at, (_, grows, resets)) in instants.into_iter().zip(looks) {
            count = if resets { 0 } else { count + grows };
            counting.note(at, Count(count), WINDOW);
            match life.last().copied() {
                Some((last, _)) if last >= at => continue,
                Some((_, known)) if known > count => life.clear(),
                Some(_) | None => {}
            }
            life.push((at, count));

            let (to, now) = counting.newest().unwrap();
            let (from, then) = counting.first_of(WINDOW).unwrap();
            prop_assert_eq!(*to, at);
            prop_assert!(life.contains(&(*from, then.0)), "of this life: {from}");
            prop_assert_eq!(now.since(then), Some(Count(now.0 - then.0)));
            // It covers the window, as far as this life of the server does.
            let begin = earlier(at, WINDOW).max(life.first().unwrap().0);
            prop_assert!(*from <= begin, "{from} is later than {begin}");
            let since = counting.first_since(WINDOW, Some(*to)).unwrap();
            prop_assert_eq!(since.0, *to);
        }
    }

    #[test]
    fn any_window_begins_where_it_should_however_many_looks_there_are(
        gaps in vec(1u64..3_000, 1..1_000),
        part in 1u32..16,
    ) {
        let instants = instants(&gaps);
        let mut counting = Counting::default();
        for (at, count) in instants.iter().zip(0..) {
            counting.note(*at, Count(count), WINDOW);
        }
        prop_assert!(counting.len() <= 128, "{} looks are kept", counting.len());
        let now = *instants.last().unwrap();
        let window = WINDOW / part;
        // The look that the window begins with, if all were kept.
        let begin = earlier(now, window);
        let wanted = instants.iter().rev().find(|at| **at <= begin).unwrap_or(&instants[0]);
        let (from, _) = counting.first_of(window).unwrap();
        let early = elapsed(*wanted, *from).saturating_mul(Counting::<Count>::PRECISION);
        prop_assert!(early <= elapsed(now, *from), "{from} is too early, {wanted} would be right");
    }

    #[test]
    fn after_a_restart_everything_is_counted_from_nothing(before in 0u64..1000, after in 0u64..1000) {
        let at = |seconds| later(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds));
        let mut counting = Counting::default();
        counting.note(at(0), Count(before), WINDOW);
        counting.restart(at(1), Count(0));
        counting.note(at(2), Count(after), WINDOW);
        let (_, now) = counting.newest().unwrap();
        let (from, then) = counting.first_of(WINDOW).unwrap();
        prop_assert_eq!((*from, now.since(then)), (at(1), Some(Count(after))));
    }
}
