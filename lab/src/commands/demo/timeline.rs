//! The lines on the terminal: plain text from top to bottom, so that it can be read, piped and pasted.

use std::io::IsTerminal;
use std::time::{Duration, SystemTime};

use super::cluster;
use super::edge::{Sample, TARGET};
use super::fault::{self, Ended, Fault, How, Kind};
use super::news::{News, Remediation, Undo};
use super::story::Story;
use crate::commands::print;

const WIDTH: usize = 110;
/// What the operator tells reaches us in another order than it was done in, by so much at most.
const BLUR: Duration = Duration::from_millis(300);

/// Colours, where somebody can see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Plain,
    Red,
    Green,
    Bold,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Red => "\x1b[31m",
            Self::Green => "\x1b[32m",
            Self::Bold => "\x1b[1m",
        }
    }
}

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
    colours: bool,
    /// What happens is told about a second later, in order: news of Kubernetes overtake each other.
    waiting: Vec<Entry>,
}

impl Timeline {
    pub(super) fn new() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colours: std::io::stdout().is_terminal() && !refused, waiting: Vec::new() }
    }

    /// What is about to be seen.
    pub(super) fn introduce(&self, fault: Fault) {
        let promise = milliseconds(TARGET);
        let alone = match fault.kind() {
            Kind::Session { .. } => {
                "Nobody but the operator mends anything from now on. Time counts from the fault."
            }
            Kind::Upstream { .. } => {
                "Nobody but the operator mends anything until all is well, although the price service stays slow. Then it \
                 gets fast again, and what was added has to go. Time counts from the fault."
            }
        };
        self.heading(&format!("The fault: {}.", fault.about()));
        for sentence in [
            format!("The promise: 95% of requests are answered within {promise} ({}).", fault.policy()),
            "p95 is what users feel: measured at the edge, over the last 10 s, so a cure shows 10 s later."
                .to_owned(),
            alone.to_owned(),
            String::new(),
        ] {
            self.plain(&sentence);
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
        };
        self.waits(Paint::Bold, story.begun, (who, "FAULT"), text);
    }

    /// One second of the users.
    pub(super) fn users(&mut self, story: &Story, sample: &Sample) {
        let was_over = story.over_at().is_some();
        let (paint, mark) = match (sample.is_over(), was_over) {
            (true, _) => (Paint::Red, "   too slow"),
            (false, true) if sample.is_under() => (Paint::Green, "   well again"),
            (false, _) => (Paint::Plain, ""),
        };
        self.waits(paint, sample.at, ("users", ""), format!("{}{mark}", users(sample)));
        self.tell(story, sample.at.checked_sub(BLUR).unwrap_or(sample.at));
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
            How::Mended => (
                ("upstream", "mended"),
                "the price service is as fast as before: nobody waits for it".to_owned(),
            ),
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

    /// A heading of the summary.
    pub(super) fn heading(&self, text: &str) {
        self.line(Paint::Plain, "");
        self.line(Paint::Bold, text);
    }

    /// Text as it is.
    pub(super) fn plain(&self, text: &str) {
        self.line(Paint::Plain, text);
    }

    fn print(&self, when: &str, (who, verb): (&str, &str), text: &str, paint: Paint) {
        let mut head = format!("{when:>8}  {who:<8}  ");
        if !verb.is_empty() {
            head.push_str(&format!("{verb:<9}"));
        }
        let indent = head.len();
        for line in wrap(text, WIDTH - indent) {
            self.line(paint, &format!("{head:<indent$}{line}"));
            head.clear();
        }
    }

    fn line(&self, paint: Paint, text: &str) {
        if self.colours && paint != Paint::Plain {
            print(&format!("{}{text}\x1b[0m\n", paint.code()));
        } else {
            print(&format!("{text}\n"));
        }
    }
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
        "Owed" => "owes",
        "Done" => "undid",
        _ => "leaves",
    };
    (verb, format!("LatencyRemediation {}: undo {}{back}", now.name, now.state))
}

fn users(sample: &Sample) -> String {
    let p95 = sample.p95.map_or_else(|| "no answer".to_owned(), milliseconds);
    format!(
        "p95 {p95:>10}   {:>4.0} requests/s   {:>4.1} errors/s   {:>3.0} in flight",
        sample.rate, sample.errors, sample.in_flight
    )
}

/// `1,250 ms`. The edge's histogram ends at ten seconds.
pub(super) fn milliseconds(seconds: f64) -> String {
    if seconds >= 10.0 {
        return "> 10,000 ms".to_owned();
    }
    let whole = format!("{:.0}", seconds * 1000.0);
    match whole.len().checked_sub(3).filter(|thousands| *thousands > 0) {
        Some(thousands) => {
            let (high, low) = whole.split_at(thousands);
            format!("{high},{low} ms")
        }
        None => format!("{whole} ms"),
    }
}

/// Breaks a text between words into lines of at most so many letters; a longer word stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    // Aligned columns have runs of spaces that must stay.
    if text.chars().count() <= width {
        return vec![text.to_owned()];
    }
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
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

    #[test]
    fn durations_are_readable() {
        let shown = [0.0413, 0.9999, 1.25, 9.999, 10.0].map(milliseconds);
        assert_eq!(shown, ["41 ms", "1,000 ms", "1,250 ms", "9,999 ms", "> 10,000 ms"]);
    }

    #[test]
    fn long_text_is_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("p95   41 ms", 20), ["p95   41 ms"]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
    }
}
