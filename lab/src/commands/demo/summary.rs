//! What to remember of it, and what Kubernetes itself shows.

use std::time::SystemTime;

use lab::Result;

use super::cluster::{NAMESPACE, TARGET};
use super::compare;
use super::edge::TARGET as PROMISE;
use super::fault::Kind;
use super::mode::Mode;
use super::stack::Stack;
use super::story::Story;
use super::timeline::Timeline;
use super::words::{count, milliseconds};

pub(super) async fn print(stack: &Stack, stories: &[Story], timeline: &Timeline) -> Result<()> {
    match stories {
        [story] => alone(story, timeline),
        stories => compare::print(stories, timeline),
    }
    timeline.heading("What was cancelled or ended, by PostgreSQL's own log");
    for story in stories {
        let mode = if stories.len() > 1 { format!("in mode {}: ", story.mode.name()) } else { String::new() };
        timeline.plain(&format!("  {mode}{}", cancelled(story)));
    }
    let on_policy = format!("involvedObject.kind=LatencyPolicy,involvedObject.name={TARGET}");
    let events = ["get", "events", "-n", NAMESPACE, "--sort-by=.eventTime", "--field-selector", &on_policy];
    show(stack, timeline, &events).await?;
    show(stack, timeline, &["get", "lp", "-n", NAMESPACE, "-o", "wide"]).await?;
    show(stack, timeline, &["get", "li,lr", "-n", NAMESPACE]).await?;
    if stack.kubernetes.real().is_some() {
        show(stack, timeline, &["get", "pods", "-A", "-o", "wide"]).await?;
    }
    judgement(stories, timeline);
    Ok(())
}

/// One story.
fn alone(story: &Story, timeline: &Timeline) {
    // On a terminal the last picture is still there.
    if !timeline.is_live() {
        timeline.heading("p95 of the users; each row is twice the one below");
        compare::chart(story, compare::seconds(story), timeline);
    }
    timeline.heading("Seconds after the fault");
    for (at, what) in rows(story) {
        let when = at.map_or_else(|| "never".to_owned(), |at| format!("{:.1}", story.seconds(at)));
        timeline.plain(&format!("{when:>8}  {what}"));
    }
    let counts = story.counts();
    timeline.heading("What users had of it");
    timeline.plain(&format!(
        "  {} of {} requests took longer than {} or failed; {} failed",
        count(counts.bad),
        count(counts.all),
        milliseconds(PROMISE),
        count(counts.failed)
    ));
    if let Some(cache) = compare::cache(story) {
        timeline.plain(&format!("  {cache}"));
    }
}

fn rows(story: &Story) -> Vec<(Option<SystemTime>, String)> {
    let promise = milliseconds(PROMISE);
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
        Kind::Cache => {
            let warm_at = story.fault_ended.as_ref().map(|ended| ended.at);
            rows.insert(3, (warm_at, "the cache held all portfolios again".to_owned()));
        }
        Kind::Upstream { .. } => rows.extend([
            (story.mended_at(), "the price service was made fast again, by the demo".to_owned()),
            (story.undone_at, "the operator had taken back what it added".to_owned()),
        ]),
    }
    rows
}

fn judgement(stories: &[Story], timeline: &Timeline) {
    let missing: Vec<String> = stories.iter().flat_map(Story::missing).collect();
    let cured = stories.last().map(|story| story.fault.cured_by()).unwrap_or_default();
    timeline.statement(&match missing.is_empty() {
        true => format!("Healed: the API was broken, the operator {cured}, and nothing else."),
        false => "Not as it should be:".to_owned(),
    });
    if missing.is_empty() && stories.iter().any(|story| story.mode == Mode::Observe) {
        timeline.plain("In mode Observe it did nothing, and wrote down the same.");
    }
    for sentence in missing {
        timeline.sentence(&format!("  - {sentence}"));
    }
    timeline.plain("");
}

fn cancelled(story: &Story) -> String {
    match (story.signalled.as_slice(), story.pid) {
        ([], _) => "nothing".to_owned(),
        ([pid], Some(own)) if *pid == own => format!("session {pid}, the fault's own, and no other"),
        (others, Some(own)) => format!("sessions {others:?}; the fault's own is {own}"),
        (others, None) => format!("sessions {others:?}; the fault is none of them"),
    }
}

/// Shows what a person would see who typed that.
async fn show(stack: &Stack, timeline: &Timeline, args: &[&str]) -> Result<()> {
    timeline.heading(&format!("$ kubectl {}", args.join(" ")));
    let shown = stack.plane().kubectl_run(args, "").await?;
    timeline.plain(format!("{}{}", shown.stdout, shown.stderr).trim_end());
    Ok(())
}
