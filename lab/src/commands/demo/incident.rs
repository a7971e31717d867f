//! From the fault until everything is well again, second by second.

use std::pin::pin;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use lab::Result;

use super::edge::{self, Sample};
use super::fault::{self, Fault};
use super::mode::Mode;
use super::news;
use super::stack::Stack;
use super::story::{OBSERVED, Story};
use super::timeline::Timeline;

/// Less than the three minutes after which the bad statements end by themselves: no deadline for a machine.
const LIMIT: Duration = Duration::from_secs(170);
/// Many times what taking back two Pods takes, one by one, with a window of 10 s after each.
const UNDO_LIMIT: Duration = Duration::from_secs(120);

/// Nobody waits longer for an Event that only tells what is seen already.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Breaks the API and watches until the incident is closed, or has lasted too long.
pub(super) async fn live_through(
    stack: &Stack,
    (fault, mode): (Fault, Mode),
    mut before: Vec<Sample>,
    timeline: &mut Timeline,
) -> Result<Story> {
    let client = stack.plane().client().await?;
    let mut news = pin!(news::all(&client));
    let last = edge::sample(stack).await?;
    timeline.before(&last);
    before.push(last);
    let before_it = stack.database.signalled().len();
    let mut before_ours = None;
    let mut running = fault::begin(stack, fault).await?;
    let mut story = Story::new(running.begun(), fault, mode, running.pid());
    story.before = before;
    timeline.fault(&story);
    timeline.flush(&story);
    let mut seconds = edge::seconds();
    // The first strike is at once.
    seconds.tick().await;
    let mut patience = match mode {
        Mode::Auto => LIMIT,
        Mode::Observe => OBSERVED + lab::patience(UNDO_LIMIT),
    };
    let limit = tokio::time::sleep(patience);
    let mut limit = pin!(limit);
    while !story.is_over() {
        if story.is_to_be_mended(SystemTime::now()) {
            before_ours = Some(stack.database.signalled().len());
            // What fills a cache takes seconds while everybody waits for it.
            let (meanwhile, ended) = edge::meanwhile(stack, running.mend(stack)).await?;
            timeline.ended(&story, &ended);
            story.fault_ended = Some(ended);
            for sample in meanwhile {
                story.samples.push(sample);
                timeline.users(&story, &sample);
            }
            patience = lab::patience(UNDO_LIMIT);
            limit.as_mut().reset(tokio::time::Instant::now() + patience);
        }
        tokio::select! {
            _ = seconds.tick() => {
                stack.must_run()?;
                // A machine this busy may miss a second.
                if let Ok(sample) = edge::sample(stack).await {
                    story.samples.push(sample);
                    timeline.users(&story, &sample);
                }
            }
            Some(told) = news.next() => {
                if story.hears(&told) {
                    timeline.operator(&story, &told);
                }
            }
            ended = running.ended(), if story.fault_ended.is_none() => {
                timeline.ended(&story, &ended);
                story.fault_ended = Some(ended);
            }
            () = &mut limit => {
                timeline.too_long(patience);
                break;
            }
        }
    }
    // The Event about the end is written aside, and comes a moment after what it tells.
    let _ = tokio::time::timeout(lab::patience(LAST_WORD), async {
        while !story.has_told("ObjectiveRecovered")
            && let Some(told) = news.next().await
        {
            if story.hears(&told) {
                timeline.operator(&story, &told);
            }
        }
    })
    .await;
    timeline.end(&story);
    story.signalled = by_others(stack.database.signalled(), before_it, before_ours, story.pid);
    Ok(story)
}

/// The sessions that were signalled since there were so many of them, without the one that the demo ended itself.
fn by_others(
    mut signalled: Vec<i32>,
    before_it: usize,
    before_ours: Option<usize>,
    own: Option<i32>,
) -> Vec<i32> {
    let after = before_ours.unwrap_or(usize::MAX);
    let ours = signalled.iter().enumerate().position(|(place, pid)| place >= after && Some(*pid) == own);
    ours.map(|place| signalled.remove(place));
    signalled.split_off(before_it.min(signalled.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_demo_ends_itself_was_ended_by_nobody_else() {
        let all = vec![7, 42, 43, 42];
        assert_eq!(by_others(all.clone(), 1, None, Some(42)), [42, 43, 42]);
        assert_eq!(by_others(all.clone(), 1, Some(2), Some(42)), [42, 43], "its own is the last one");
        assert_eq!(by_others(all.clone(), 1, Some(2), None), [42, 43, 42]);
        assert_eq!(by_others(all, 9, Some(4), Some(42)), [0; 0]);
    }
}
