//! What is told while it happens: plain text from top to bottom, so that it can be read, piped and pasted. On a terminal the
//! users are a chart below it, instead of a line for each second.

use std::time::{Duration, SystemTime};

use super::cache;
use super::chart::{self, Chart, Window};
use super::cluster;
use super::edge::{Sample, TARGET};
use super::fault::{self, Ended, Fault, How, Kind};
use super::mode::Mode;
use super::news::{News, Remediation, Undo};
use super::screen::{Paint, Row, Screen, Size};
use super::story::{OBSERVED, Story};
use super::words::{milliseconds, wrap};

/// No more seconds than a person can overlook.
const SECONDS: usize = 90;
/// A terminal of so many rows has room for the large chart.
const TALL: usize = 30;
/// What the operator tells reaches us in another order than it was done in, by so much at most.
const BLUR: Duration = Duration::from_millis(300);

/// One line to come, which may be broken into several.
struct Entry {
    paint: Paint,
    at: SystemTime,
    who: &'static str,
    verb: &'static str,
    text: String,
}

/// The order of a story; what is not in here stays where it is.
const STORY: [&str; 10] =
    ["saw", "found", "decided", "begins", "did", "is told", "checks", "ends", "proved", "closed"];

impl Entry {
    /// Whether it belongs before another one that seems to have happened a little earlier.
    fn belongs_before(&self, other: &Self) -> bool {
        let place = |entry: &Self| STORY.iter().position(|verb| *verb == entry.verb);
        let is_close = self.at.duration_since(other.at).is_ok_and(|after| after < BLUR);
        is_close && matches!((place(self), place(other)), (Some(own), Some(others)) if own < others)
    }
}

pub(super) struct Timeline {
    screen: Screen,
    /// How the users were when that was told last, where a chart shows the rest.
    told: Option<Paint>,
    /// What happens is told about a second later, in order: news of Kubernetes overtake each other.
    waiting: Vec<Entry>,
}

impl Timeline {
    pub(super) fn new(screen: Screen) -> Self {
        Self { screen, told: None, waiting: Vec::new() }
    }

    /// What is about to be seen.
    pub(super) fn introduce(&self, fault: Fault, mode: Mode) {
        let promise = milliseconds(TARGET);
        let alone = match (mode, fault.kind()) {
            (Mode::Observe, _) => format!(
                "The policy is in mode Observe: the operator only looks, and writes down what it would do. Nobody mends \
                 anything for {} s; then the demo ends the fault. Time counts from the fault.",
                OBSERVED.as_secs()
            ),
            (Mode::Auto, Kind::Session { .. } | Kind::Cache) => {
                "Nobody but the operator mends anything from now on. Time counts from the fault.".to_owned()
            }
            (Mode::Auto, Kind::Upstream { .. }) => {
                "Nobody but the operator mends anything until all is well, although the price service stays slow. Then it \
                 gets fast again, and what was added has to go. Time counts from the fault."
                    .to_owned()
            }
        };
        self.statement(&format!("The fault: {}.", fault.about()));
        for sentence in [
            format!("The promise: 95% of requests are answered within {promise} ({}).", fault.policy()),
            "p95 is what users feel: measured at the edge, over the last 10 s, so a cure shows 10 s later."
                .to_owned(),
            alone,
            String::new(),
        ] {
            self.sentence(&sentence);
        }
    }

    /// Text that is broken where the line ends.
    pub(super) fn sentence(&self, text: &str) {
        for line in wrap(text, self.screen.columns()) {
            self.plain(&line);
        }
    }

    pub(super) fn before(&self, sample: &Sample) {
        self.print("before", ("users", ""), &users(sample), Paint::Plain);
    }

    pub(super) fn fault(&mut self, story: &Story) {
        let (who, text) = match story.fault.kind() {
            Kind::Session { sql, .. } => {
                ("database", format!("{} of role reporting begins {sql}", story.session()))
            }
            Kind::Upstream { delay } => {
                ("upstream", format!("the price service takes {}", fault::slower(delay)))
            }
            Kind::Cache => ("cache", "FLUSHALL: it holds nothing any more".to_owned()),
        };
        self.waits(Paint::Bold, story.begun, (who, "FAULT"), text);
    }

    /// One second of the users, which is the last one of the story.
    pub(super) fn users(&mut self, story: &Story, sample: &Sample) {
        let (paint, mark) = feeling(story, sample);
        // A chart shows them all; what is told beside it is where that changes.
        let is_news = self.told.replace(paint).is_some_and(|before| before != paint);
        if is_news || self.screen.room().is_none() {
            self.waits(paint, sample.at, ("users", ""), format!("{}{mark}", users(sample)));
        }
        self.tell(story, sample.at.checked_sub(BLUR).unwrap_or(sample.at));
        self.draw(story);
    }

    /// The last seconds, below what was told.
    fn draw(&self, story: &Story) {
        let (Some(size), Some(last)) = (self.screen.room(), story.samples.last()) else { return };
        let (paint, mark) = feeling(story, last);
        let mut rows = vec![Row::default()];
        rows.extend(picture(story, size));
        rows.push(Row::of(paint, format!("{:+7.0} {}{mark}", story.seconds(last.at), users(last))));
        self.screen.frame(rows);
    }

    /// What the operator saw, decided, did and proved.
    pub(super) fn operator(&mut self, story: &Story, news: &News) {
        match news {
            News::Event(told) => {
                let text = format!("{}: {}", told.reason, told.note);
                self.waits(Paint::Bold, told.at, ("operator", verb(&told.reason)), text);
            }
            News::Remediation(now) => {
                let (verb, text) = step(now);
                self.waits(Paint::Plain, SystemTime::now(), ("operator", verb), text);
            }
            News::Undo(now) => {
                let (verb, text) = undo(now);
                self.waits(Paint::Plain, SystemTime::now(), ("operator", verb), text);
            }
            News::Replicas(_) => {
                let (verb, what) = match story.goes_down() {
                    true => ("calm", "capacity is taken back"),
                    false => ("scaled", "capacity is added"),
                };
                let text = format!("Deployment {}: {what}: {}", cluster::TARGET, story.steps());
                self.waits(Paint::Bold, SystemTime::now(), ("workload", verb), text);
            }
            // Its opening and closing are told by Events.
            News::Incident(_) => {}
        }
    }

    /// How the fault ended.
    pub(super) fn ended(&mut self, story: &Story, ended: &Ended) {
        let (who, text) = match &ended.how {
            How::Told(told) => (("database", "is told"), format!("{}: {told}", story.session())),
            How::ByItself => {
                (("database", "is told"), format!("{}: its statement has ended by itself", story.session()))
            }
            How::Warmed => (("cache", "is warm"), "it holds all portfolios again".to_owned()),
            How::Mended => match story.fault.kind() {
                Kind::Session { .. } => (
                    ("demo", "ends it"),
                    format!("{} is terminated, as by people who were called", story.session()),
                ),
                Kind::Upstream { .. } => (
                    ("upstream", "mended"),
                    "the price service is as fast as before: nobody waits for it".to_owned(),
                ),
                Kind::Cache => {
                    (("demo", "fills it"), format!("GET {}, as by people who were called", cache::FILLED_BY))
                }
            },
        };
        self.waits(Paint::Bold, ended.at, who, text);
    }

    pub(super) fn too_long(&mut self, limit: Duration) {
        let text = format!("{} s are over, and it still is not well", limit.as_secs());
        self.waits(Paint::Red, SystemTime::now(), ("demo", ""), text);
    }

    /// Tells all that waits.
    pub(super) fn flush(&mut self, story: &Story) {
        self.tell(story, SystemTime::now());
    }

    /// Tells all that waits; the last picture stays.
    pub(super) fn end(&mut self, story: &Story) {
        self.flush(story);
        self.draw(story);
        self.screen.keep_frame();
        self.told = None;
    }

    /// Tells what happened until then, in the order in which it happened.
    fn tell(&mut self, story: &Story, until: SystemTime) {
        let waiting = std::mem::take(&mut self.waiting);
        let (now, later): (Vec<Entry>, Vec<Entry>) = waiting.into_iter().partition(|entry| entry.at <= until);
        self.waiting = later;
        for Entry { paint, at, who, verb, text } in in_order(now) {
            self.print(&format!("{:+.1} s", story.seconds(at)), (who, verb), &text, paint);
        }
    }

    fn waits(&mut self, paint: Paint, at: SystemTime, who: (&'static str, &'static str), text: String) {
        self.waiting.push(Entry { paint, at, who: who.0, verb: who.1, text });
    }

    /// A heading of the summary, as it is: a command has to be copied.
    pub(super) fn heading(&self, text: &str) {
        self.screen.line(Paint::Plain, "");
        self.screen.line(Paint::Bold, text);
    }

    /// A heading that is broken where the line ends.
    pub(super) fn statement(&self, text: &str) {
        self.screen.line(Paint::Plain, "");
        for line in wrap(text, self.screen.columns()) {
            self.screen.line(Paint::Bold, &line);
        }
    }

    /// Text as it is.
    pub(super) fn plain(&self, text: &str) {
        self.screen.line(Paint::Plain, text);
    }

    /// A line with colours of its own.
    pub(super) fn row(&self, row: &Row) {
        self.screen.row(row);
    }

    /// Whether charts are drawn while it happens.
    pub(super) fn is_live(&self) -> bool {
        self.screen.room().is_some()
    }

    /// How many letters fit into a line.
    pub(super) fn columns(&self) -> usize {
        self.screen.columns()
    }

    fn print(&self, when: &str, (who, verb): (&str, &str), text: &str, paint: Paint) {
        let mut head = format!("{when:>8}  {who:<8}  ");
        if !verb.is_empty() {
            head.push_str(&format!("{verb:<9}"));
        }
        let indent = head.len();
        for line in wrap(text, self.screen.columns() - indent) {
            self.screen.line(paint, &format!("{head:<indent$}{line}"));
            head.clear();
        }
    }
}

/// How it feels to users.
fn feeling(story: &Story, sample: &Sample) -> (Paint, &'static str) {
    let was_over = story.over_at().is_some();
    match (sample.is_over(), was_over) {
        (true, _) => (Paint::Red, "   too slow"),
        (false, true) if sample.is_under() => (Paint::Green, "   well again"),
        (false, _) => (Paint::Plain, ""),
    }
}

/// The chart of the last seconds and what its letters stand for, as large as there is room.
fn picture(story: &Story, size: Size) -> Vec<Row> {
    let marks = story.marks();
    let samples: Vec<Sample> = story.before.iter().chain(&story.samples).copied().collect();
    let seconds = |sample: Option<&Sample>| sample.map_or(0, |sample| chart::second(story.begun, sample.at));
    let columns = size.columns.saturating_sub(chart::MARGIN + 1).min(SECONDS);
    let rows = if size.rows < TALL { 4 } else { 8 };
    let window = Window::last(seconds(samples.first()), seconds(samples.last()), columns, rows);
    let chart = Chart { begun: story.begun, samples: &samples, marks: &marks };
    let mut drawn = chart.draw(window);
    drawn.push(Row::of(Paint::Faint, format!("{}{}", " ".repeat(chart::MARGIN), chart.legend())));
    drawn
}

/// By time; and what is close together, as it was thought.
fn in_order(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| entry.at);
    let mut ordered: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        let stays = ordered.iter().rposition(|before| !entry.belongs_before(before));
        ordered.insert(stays.map_or(0, |index| index + 1), entry);
    }
    ordered
}

/// What the operator does when it tells something of this reason.
fn verb(reason: &str) -> &'static str {
    match reason {
        "ObjectiveBreached" => "saw",
        "CauseFound" => "found",
        "RemediationStarted" => "did",
        "RemediationCompleted" => "proved",
        "ObjectiveRecovered" => "closed",
        "RemediationBlocked" | "RemediationRefused" => "refused",
        "IncidentEscalated" => "gave up",
        _ => "said",
    }
}

fn step(now: &Remediation) -> (&'static str, String) {
    let phase = &now.phase;
    if phase.is_empty() || phase == "Admitted" {
        let session = now.pid.map(|pid| format!(" on session {pid}")).unwrap_or_default();
        let scale = now.scale.map(|(from, to)| format!(" from {from} to {to} replicas")).unwrap_or_default();
        let why = format!("because of {} ({})", now.cause, now.confidence);
        return ("decided", format!("LatencyRemediation {}: {}{session}{scale} {why}", now.name, now.action));
    }
    let parts = [("effect", &now.effect), ("outcome", &now.outcome)];
    let known: String = parts
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(what, value)| format!(", {what} {value}"))
        .collect();
    let verb = match phase.as_str() {
        "Executing" => "begins",
        "Verifying" => "checks",
        _ => "ends",
    };
    (verb, format!("LatencyRemediation {}: {phase}{known}", now.name))
}

/// What becomes of what was added.
fn undo(now: &Undo) -> (&'static str, String) {
    let back = now.baseline.map(|baseline| format!(", back to {baseline} replicas")).unwrap_or_default();
    let verb = match now.state.as_str() {
        "Pending" => "owes",
        "Done" => "undid",
        _ => "leaves",
    };
    (verb, format!("LatencyRemediation {}: undo {}{back}", now.name, now.state))
}

fn users(sample: &Sample) -> String {
    let p95 = sample.p95.map_or_else(|| "no answer".to_owned(), milliseconds);
    let hits = sample.hits.map(|hits| format!("   {:>3.0}% hits", hits * 100.0)).unwrap_or_default();
    format!(
        "p95 {p95:>10}   {:>4.0} requests/s   {:>4.1} errors/s   {:>3.0} in flight{hits}",
        sample.rate, sample.errors, sample.in_flight
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_close_together_is_told_as_a_story() {
        let entry = |millis, verb| {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            Entry { paint: Paint::Plain, at, who: "", verb, text: String::new() }
        };
        let order =
            |entries: Vec<Entry>| in_order(entries).iter().map(|entry| entry.verb).collect::<Vec<_>>();
        let jumbled =
            vec![entry(500, "decided"), entry(510, "saw"), entry(530, "is told"), entry(520, "found")];
        assert_eq!(order(jumbled), ["saw", "found", "decided", "is told"]);
        let apart = vec![entry(900, "saw"), entry(500, "closed")];
        assert_eq!(order(apart), ["closed", "saw"], "a second incident begins");
        let users = vec![entry(500, "decided"), entry(505, ""), entry(510, "saw")];
        assert_eq!(order(users), ["decided", "", "saw"], "what users feel stays where it is");
    }
}
