//! What to remember of it, and what Kubernetes itself shows.

use std::time::SystemTime;

use lab::Result;

use super::cluster::{NAMESPACE, TARGET};
use super::edge::TARGET as PROMISE;
use super::fault::Kind;
use super::stack::Stack;
use super::story::Story;
use super::timeline::{Timeline, milliseconds};

pub(super) async fn print(stack: &Stack, story: &Story, timeline: &Timeline) -> Result<()> {
    let promise = milliseconds(PROMISE);
    timeline.heading("Seconds after the fault");
    let closed_at = story.closed().and_then(|incident| incident.closed_at);
    let mut rows: Vec<(Option<SystemTime>, String)> = vec![
        (story.over_at(), format!("p95 was over {promise} (at worst {})", milliseconds(story.worst()))),
        (story.believed_at(), "the operator believed it (ObjectiveBreached)".to_owned()),
        (story.acted_at(), "the operator acted".to_owned()),
        (story.back_at(), format!("p95 was back under {promise}, and stayed there")),
        (closed_at, "the operator closed the incident".to_owned()),
    ];
    match story.fault.kind() {
        Kind::Session { .. } => {}
        Kind::Upstream { .. } => rows.extend([
            (story.mended_at(), "the price service was made fast again, by the demo".to_owned()),
            (story.undone_at, "the operator had taken back what it added".to_owned()),
        ]),
    }
    for (at, what) in rows {
        let when = at.map_or_else(|| "never".to_owned(), |at| format!("{:.1}", story.seconds(at)));
        timeline.plain(&format!("{when:>8}  {what}"));
    }
    timeline.heading("What was cancelled or ended, by PostgreSQL's own log");
    timeline.plain(&cancelled(story));

    let on_policy = format!("involvedObject.kind=LatencyPolicy,involvedObject.name={TARGET}");
    let events = ["get", "events", "-n", NAMESPACE, "--sort-by=.eventTime", "--field-selector", &on_policy];
    show(stack, timeline, &events).await?;
    show(stack, timeline, &["get", "lp,li,lr", "-n", NAMESPACE]).await?;
    timeline.heading(&match story.missing().is_empty() {
        true => {
            format!("Healed: the API was broken, the operator {}, and nothing else.", story.fault.cured_by())
        }
        false => "Not as it should be:".to_owned(),
    });
    for sentence in story.missing() {
        timeline.plain(&format!("  - {sentence}"));
    }
    timeline.plain("");
    Ok(())
}

fn cancelled(story: &Story) -> String {
    match (story.signalled.as_slice(), story.pid) {
        ([], _) => "  nothing".to_owned(),
        ([pid], Some(own)) if *pid == own => format!("  session {pid}, the fault's own, and no other"),
        (others, Some(own)) => format!("  sessions {others:?}; the fault's own is {own}"),
        (others, None) => format!("  sessions {others:?}; the fault is none of them"),
    }
}

/// Shows what a person would see who typed that.
async fn show(stack: &Stack, timeline: &Timeline, args: &[&str]) -> Result<()> {
    timeline.heading(&format!("$ kubectl {}", args.join(" ")));
    let shown = stack.plane.kubectl_run(args, "").await?;
    timeline.plain(format!("{}{}", shown.stdout, shown.stderr).trim_end());
    Ok(())
}
