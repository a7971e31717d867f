//! From the fault until everything is well again, second by second.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use lab::Result;

use super::edge;
use super::fault::{self, Fault};
use super::news;
use super::stack::Stack;
use super::story::Story;
use super::timeline::Timeline;

/// Less than the three minutes after which the bad statements end by themselves.
const LIMIT: Duration = Duration::from_secs(170);
/// Many times what taking back two Pods takes, one by one, with a window of 10 s after each.
const UNDO_LIMIT: Duration = Duration::from_secs(120);

/// Breaks the API and watches until the incident is closed, or has lasted too long.
pub(super) async fn live_through(stack: &Stack, fault: Fault, timeline: &mut Timeline) -> Result<Story> {
    let client = stack.plane.client().await?;
    let mut news = pin!(news::all(&client));
    let before = edge::sample(&stack.prometheus).await?;
    timeline.before(&before);
    let mut running = fault::begin(stack, fault).await?;
    let mut story = Story::new(running.begun(), fault, running.pid());
    timeline.fault(&story);
    timeline.flush(&story);
    let mut seconds = edge::seconds();
    // The first strike is at once.
    seconds.tick().await;
    let mut patience = LIMIT;
    let limit = tokio::time::sleep(patience);
    let mut limit = pin!(limit);
    while !story.is_over() {
        if story.helped_in_spite_of_it()
            && let Some(ended) = running.mend()?
        {
            timeline.ended(&story, &ended);
            story.fault_ended = Some(ended);
            patience = UNDO_LIMIT;
            limit.as_mut().reset(tokio::time::Instant::now() + patience);
        }
        tokio::select! {
            _ = seconds.tick() => {
                stack.must_run()?;
                // A machine this busy may miss a second.
                if let Ok(sample) = edge::sample(&stack.prometheus).await {
                    timeline.users(&story, &sample);
                    story.samples.push(sample);
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
    timeline.flush(&story);
    story.signalled = stack.database.signalled();
    Ok(story)
}
