//! What holds while the operator is being uninstalled.

use super::*;

/// The Lease is marked from then on, for so long.
fn marked(story: &mut Story, at: u64, until: u64) {
    let until = later(story.setup.now, Duration::from_secs(until));
    story.tell(at, What::Draining(Some(Draining { until })));
}

#[test]
fn s23_who_is_being_uninstalled_begins_nothing() {
    let drained = |until: u64, taken_away: bool| {
        let mut story = cancelled();
        marked(&mut story, 1, until);
        if taken_away {
            story.tell(1, What::Draining(None));
        }
        story.with(|at, _| *at += 100 * u64::from(*at > 1))
    };
    only("S23", &drained(60, false));
    assert!(drained(60, true).caught().is_empty(), "the mark has been taken away");
    assert!(drained(1, false).caught().is_empty(), "the mark is over");
    let mut heard_of = cancelled();
    marked(&mut heard_of, 15, 600);
    assert!(heard_of.caught().is_empty(), "nobody hears of it at once");
}

#[test]
fn u1_and_u3_an_uninstallation_is_no_pretext() {
    let abandoned = |until: u64| {
        let mut story = scaled();
        story.facts.retain(|(at, _)| *at < 45);
        marked(&mut story, 30, until);
        story.stored.status.undo = Some(story.setup.owed(UndoState::Pending));
        story.stores(46, |stored, _| stored.status.undo.as_mut().unwrap().state = UndoState::Abandoned);
        story
    };
    assert!(abandoned(46).caught().is_empty(), "{:?}", abandoned(46).caught());
    only("U1", &abandoned(100));
    // Two steps four seconds apart, the second as long as all that is left.
    let quick = |interval: u64, mark: bool| {
        let hurried = scaled().with(|at, _| *at -= 11 * u64::from(*at >= 60));
        let mut story = each_stored(hurried, |stored| {
            let watch = &mut stored.spec.undo.as_mut().unwrap().watch;
            watch.evaluation.window = Duration::from_secs(60);
            watch.evaluation.interval = Duration::from_secs(interval);
            if let Some(undo) = &mut stored.status.undo {
                undo.due_by = undo.due_by.map(|_| DueBy::Drain);
            }
        });
        if mark {
            marked(&mut story, 44, 100);
        }
        story
    };
    assert!(quick(4, true).caught().is_empty(), "{:?}", quick(4, true).caught());
    only("U3", &quick(30, true));
    only("U3", &quick(4, false));
}
