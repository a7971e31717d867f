//! The same fault without and with the operator, side by side.

use super::chart::{self, Chart, Window};
use super::edge::{Sample, TARGET};
use super::fault::How;
use super::mode::Mode;
use super::story::Story;
use super::timeline::Timeline;
use super::words::{count, milliseconds, wrap};

/// The first column of the table, and each of the others.
const LABEL: usize = 26;
const COLUMN: usize = 38;
const ROWS: u32 = 8;
/// So many seconds before the fault are shown, too.
const LEAD: i64 = 5;

pub(super) fn print(stories: &[Story], timeline: &Timeline) {
    timeline.heading("The same fault without and with the operator");
    let mut table = vec![cells(stories, "", title)];
    let promise = milliseconds(TARGET);
    table.push(cells(stories, "worst p95", |story| milliseconds(story.worst())));
    table.push(cells(stories, &format!("p95 over {promise}"), |story| {
        format!("for {:.0} s", story.seconds_over())
    }));
    table.push(cells(stories, &format!("over {promise} or failed"), |story| {
        let counts = story.counts();
        format!("{} of {} requests", count(counts.bad), count(counts.all))
    }));
    table.push(cells(stories, "failed", |story| format!("{} requests", count(story.counts().failed))));
    if stories.iter().any(|story| story.hits().is_some()) {
        table.push(cells(stories, "the cache", |story| cache(story).unwrap_or_default()));
    }
    table.push(cells(stories, "the operator", acted));
    table.push(cells(stories, "its LatencyRemediation", |story| {
        let names: Vec<&str> = story.remediations.keys().map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }));
    table.push(cells(stories, "the fault ended", ended));
    for row in table {
        for line in lines(&row) {
            timeline.plain(&line);
        }
    }
    let longest = stories.iter().map(seconds).max().unwrap_or_default();
    for story in stories {
        timeline.heading(&format!("p95 {}; each row is twice the one below", title(story)));
        chart(story, longest, timeline);
    }
}

/// The whole story as a picture of so many seconds after the fault, and what its letters stand for.
pub(super) fn chart(story: &Story, seconds: i64, timeline: &Timeline) {
    let samples: Vec<Sample> = story.before.iter().chain(&story.samples).copied().collect();
    let columns = timeline.columns().saturating_sub(chart::MARGIN + 1);
    let window = Window::whole(-LEAD, seconds, columns, ROWS);
    let marks = story.marks();
    let picture = Chart { begun: story.begun, samples: &samples, marks: &marks };
    for row in picture.draw(window) {
        timeline.row(&row);
    }
    timeline.plain(&format!("{}{}", " ".repeat(chart::MARGIN), picture.legend()));
}

/// The last second of a story.
pub(super) fn seconds(story: &Story) -> i64 {
    story.samples.last().map_or(0, |sample| chart::second(story.begun, sample.at))
}

/// How the cache did, where there is one.
pub(super) fn cache(story: &Story) -> Option<String> {
    let (usual, worst, last) = story.hits()?;
    let [usual, worst, last] = [usual, worst, last].map(|share| format!("{:.0}%", share * 100.0));
    let filling = count(story.filling());
    Some(format!("hits {usual} before, {worst} at worst, {last} at the end; {filling} requests filled it"))
}

fn title(story: &Story) -> String {
    match story.mode {
        Mode::Observe => "without (mode Observe)".to_owned(),
        Mode::Auto => "with (mode Auto)".to_owned(),
    }
}

/// What the operator did or would have done.
fn acted(story: &Story) -> String {
    let one = |one: &super::news::Remediation| match story.mode {
        Mode::Observe => format!("did nothing; {}", one.message),
        Mode::Auto => format!("{}: {} {}", one.action, one.phase, one.outcome),
    };
    let all: Vec<String> = story.remediations.values().map(one).collect();
    if all.is_empty() { "did nothing, and wrote nothing down".to_owned() } else { all.join("; ") }
}

fn ended(story: &Story) -> String {
    match &story.fault_ended {
        None => "not at all".to_owned(),
        Some(ended) => {
            let after = story.seconds(ended.at);
            match ended.how {
                How::Told(_) => format!("by the operator, after {after:.1} s"),
                How::Warmed => format!("by the operator, after {after:.1} s"),
                How::ByItself => format!("by itself, after {after:.1} s"),
                How::Mended => format!("by the demo, after {after:.1} s"),
            }
        }
    }
}

fn cells(stories: &[Story], label: &str, cell: impl Fn(&Story) -> String) -> Vec<String> {
    std::iter::once(label.to_owned()).chain(stories.iter().map(cell)).collect()
}

/// One row of the table, as many lines as its longest cell takes.
fn lines(row: &[String]) -> Vec<String> {
    let wrapped: Vec<Vec<String>> = row.iter().map(|cell| wrap(cell, COLUMN - 2)).collect();
    let most = wrapped.iter().map(Vec::len).max().unwrap_or_default();
    let line = |number: usize| {
        let mut line = String::from("  ");
        for (place, cell) in wrapped.iter().enumerate() {
            let width = if place == 0 { LABEL } else { COLUMN };
            line.push_str(&format!("{:<width$}", cell.get(number).map_or("", String::as_str)));
        }
        line.trim_end().to_owned()
    };
    (0..most).map(line).collect()
}
