//! How p95 went, as a small picture of text: samples in, rows out.

use std::time::{Duration, SystemTime};

use super::edge::{Sample, TARGET};
use super::screen::{Paint, Row};
use super::words;

/// What is below is one eighth high.
const FLOOR: f64 = TARGET / 16.0;
/// So often the floor is doubled up to the top, the target being half-way. Twice as slow is one step wherever it is, so
/// that the usual 40 ms and ten seconds fit into one picture.
const DOUBLINGS: u32 = 8;
/// Eighths of a row.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const EIGHTHS: u32 = 8;
/// What is left of the first column: `500 ms ┤`.
pub(super) const MARGIN: usize = 8;
/// Labels of the axis of time lie so many columns apart at least.
const APART: u32 = 10;

/// Something that happened, with the letter that stands for it.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) at: SystemTime,
    pub(super) letter: char,
    pub(super) what: &'static str,
}

/// What of it is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// The first second, counted from the fault: negative before it.
    pub(super) from: i64,
    /// How many seconds share a column: the worst of them is drawn.
    pub(super) per_column: u32,
    pub(super) columns: usize,
    /// An even number: the target is in the middle.
    pub(super) rows: u32,
}

impl Window {
    /// The last seconds that fit beside each other.
    pub(super) fn last(first: i64, last: i64, columns: usize, rows: u32) -> Self {
        let fit = i64::try_from(columns).unwrap_or(i64::MAX);
        let from = first.max(last.saturating_sub(fit).saturating_add(1));
        Self { from, per_column: 1, columns, rows }
    }

    /// All seconds, as many of them in a column as it takes.
    pub(super) fn whole(first: i64, last: i64, columns: usize, rows: u32) -> Self {
        let seconds = u64::try_from(last.saturating_sub(first)).unwrap_or_default().saturating_add(1);
        let columns = u64::try_from(columns).unwrap_or(u64::MAX).max(1);
        let per_column = u32::try_from(seconds.div_ceil(columns)).unwrap_or(u32::MAX);
        let columns = seconds.div_ceil(u64::from(per_column.max(1)));
        Self { from: first, per_column, columns: usize::try_from(columns).unwrap_or(usize::MAX), rows }
    }

    fn column(&self, second: i64) -> Option<usize> {
        let after = u64::try_from(second.checked_sub(self.from)?).ok()?;
        let column = usize::try_from(after / u64::from(self.per_column.max(1))).ok()?;
        (column < self.columns).then_some(column)
    }

    fn second(&self, column: usize) -> i64 {
        let after = i64::try_from(column).unwrap_or(i64::MAX).saturating_mul(i64::from(self.per_column));
        self.from.saturating_add(after)
    }
}

/// What is drawn.
pub(super) struct Chart<'a> {
    /// When the fault began: there time is 0.
    pub(super) begun: SystemTime,
    pub(super) samples: &'a [Sample],
    pub(super) marks: &'a [Mark],
}

/// One column: the worst of its seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Column {
    /// In eighths of a row.
    height: u32,
    paint: Paint,
    /// Nobody had an answer.
    is_silent: bool,
    /// Something happened.
    mark: Option<char>,
}

impl Chart<'_> {
    /// The rows from top to bottom: the bars, what happened, the seconds.
    pub(super) fn draw(&self, window: Window) -> Vec<Row> {
        let columns = self.columns(window);
        let mut rows: Vec<Row> = (0..window.rows).rev().map(|row| bars(&columns, row, window.rows)).collect();
        let mut axis = Row::of(Paint::Plain, format!("{:>MARGIN$}", '└'));
        for column in &columns {
            match column.mark {
                Some(letter) => axis.push(Paint::Bold, letter),
                None => axis.push(Paint::Plain, '─'),
            }
        }
        rows.push(axis);
        rows.push(Row::of(Paint::Faint, labels(window)));
        rows
    }

    /// What the letters stand for, and when it was.
    pub(super) fn legend(&self) -> String {
        let told = |mark: &Mark| {
            let after = mark.at.duration_since(self.begun).unwrap_or_default().as_secs_f64();
            format!("{} {} {after:+.1} s", mark.letter, mark.what)
        };
        self.marks.iter().map(told).collect::<Vec<_>>().join("   ")
    }

    /// Whole seconds from the fault, rounded down: negative before it.
    fn second(&self, at: SystemTime) -> i64 {
        second(self.begun, at)
    }

    fn columns(&self, window: Window) -> Vec<Column> {
        let mut columns = vec![Column::default(); window.columns];
        let mut was_over = false;
        for sample in self.samples {
            was_over |= sample.is_over();
            let column = window.column(self.second(sample.at)).and_then(|column| columns.get_mut(column));
            let Some(column) = column else { continue };
            let paint = match (sample.is_over(), was_over) {
                (true, _) => Paint::Red,
                (false, true) => Paint::Green,
                (false, false) => Paint::Plain,
            };
            match sample.p95 {
                Some(p95) if height(p95, window.rows) > column.height => {
                    (column.height, column.paint) = (height(p95, window.rows), paint);
                }
                Some(_) => {}
                None => column.is_silent = true,
            }
        }
        for mark in self.marks {
            let first = window.column(self.second(mark.at));
            // What falls into one column stands side by side.
            let free = first.and_then(|first| columns.iter_mut().skip(first).find(|one| one.mark.is_none()));
            if let Some(column) = free {
                column.mark = Some(mark.letter);
            }
        }
        columns
    }
}

/// Whole seconds from one instant to another, rounded down.
pub(super) fn second(from: SystemTime, at: SystemTime) -> i64 {
    match at.duration_since(from) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let up = before.duration().saturating_add(Duration::from_nanos(999_999_999));
            i64::try_from(up.as_secs()).map_or(i64::MIN, |seconds| -seconds)
        }
    }
}

/// What p95 is at the lower end of an eighth.
fn bound(eighth: u32, rows: u32) -> f64 {
    FLOOR * 2f64.powf(f64::from(DOUBLINGS * eighth) / f64::from(rows * EIGHTHS))
}

/// In eighths. Exactly what is over the target reaches into the upper half.
fn height(p95: f64, rows: u32) -> u32 {
    let whole = (0..rows * EIGHTHS).take_while(|eighth| p95 > bound(*eighth, rows));
    u32::try_from(whole.count()).unwrap_or(u32::MAX).max(1)
}

fn bars(columns: &[Column], row: u32, rows: u32) -> Row {
    let is_target = row == rows / 2;
    let tick = if is_target { '┼' } else { '┤' };
    let label = words::duration(bound(row * EIGHTHS, rows));
    let mut drawn = Row::of(Paint::Plain, format!("{label:>0$}{tick}", MARGIN - 1));
    for column in columns {
        let filled = column.height.saturating_sub(row * EIGHTHS).min(EIGHTHS);
        let block = usize::try_from(filled).ok().and_then(|filled| BLOCKS.get(filled)).unwrap_or(&' ');
        match (filled, column.mark) {
            (0, _) if row == 0 && column.is_silent => drawn.push(Paint::Red, '?'),
            // At the lower end of its row, which is where the target is.
            (0, _) if is_target => drawn.push(Paint::Faint, '_'),
            (0, Some(_)) => drawn.push(Paint::Faint, '┊'),
            (0, None) => drawn.push(Paint::Plain, ' '),
            _ => drawn.push(column.paint, *block),
        }
    }
    drawn
}

/// Seconds below their columns.
fn labels(window: Window) -> String {
    let apart = i64::from(APART).saturating_mul(i64::from(window.per_column));
    let mut line = " ".repeat(MARGIN);
    for column in 0..window.columns {
        let second = window.second(column);
        let place = MARGIN + column;
        let is_free = line.chars().count() <= place;
        // The first column at or after a round number.
        let is_round = second.rem_euclid(apart) < i64::from(window.per_column);
        let label = if second == 0 { "0 s".to_owned() } else { second.to_string() };
        if is_free && is_round && place + label.len() <= MARGIN + window.columns {
            line.push_str(&" ".repeat(place - line.chars().count()));
            line.push_str(&label);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(100 + seconds)
    }

    fn sample(seconds: u64, p95: Option<f64>) -> Sample {
        Sample { at: at(seconds), p95, ..Sample::quiet(at(seconds)) }
    }

    fn text(rows: &[Row]) -> Vec<String> {
        rows.iter().map(|row| row.text(false).trim_end().to_owned()).collect()
    }

    fn drawn(samples: &[Sample], marks: &[Mark], window: Window) -> Vec<Row> {
        Chart { begun: at(5), samples, marks }.draw(window)
    }

    #[test]
    fn a_breach_and_its_end_are_seen() {
        let levels = [0.04, 0.04, 0.04, 0.04, 0.04, 0.04, 0.3, 0.6, 3.0, 9.0, 9.0, 0.05, 0.05];
        let samples: Vec<Sample> = (0..).zip(levels).map(|(second, p95)| sample(second, Some(p95))).collect();
        let marks = [
            Mark { at: at(5), letter: 'F', what: "fault" },
            Mark { at: at(9), letter: 'S', what: "seen" },
            Mark { at: at(9), letter: 'A', what: "acted" },
        ];
        let rows = drawn(&samples, &marks, Window::last(-5, 7, 16, 4));
        let expected = [
            "    2 s┤     ┊  ▃██",
            " 500 ms┼_______▂███_____",
            " 125 ms┤     ┊▆████",
            "  31 ms┤▂▂▂▂▂▂█████▃▃",
            "       └─────F───SA─────",
            "             0 s",
        ];
        let found = text(&rows);
        assert_eq!(found, expected, "\n{}\n", found.join("\n"));
        let colours = rows.iter().map(|row| row.text(true)).collect::<String>();
        assert!(colours.contains("\x1b[31m") && colours.contains("\x1b[32m"), "red, then green");
    }

    #[test]
    fn the_target_is_the_border_of_the_upper_half() {
        for rows in [4, 8] {
            let half = rows / 2 * EIGHTHS;
            assert_eq!((height(TARGET, rows), height(TARGET * 1.001, rows)), (half, half + 1));
            assert_eq!((height(0.0, rows), height(1e9, rows)), (1, rows * EIGHTHS));
        }
    }

    #[test]
    fn what_does_not_fit_goes_out_on_the_left_or_shares_a_column() {
        assert_eq!(Window::last(-5, 100, 60, 8).from, 41);
        assert_eq!(Window::last(-5, 20, 60, 8).from, -5);
        let whole = Window::whole(-5, 114, 60, 8);
        assert_eq!((whole.per_column, whole.columns), (2, 60));
        assert_eq!(Window::whole(0, 0, 0, 8).columns, 1);
        assert_eq!((whole.column(-6), whole.column(-5), whole.column(-4)), (None, Some(0), Some(0)));
        assert_eq!((whole.column(114), whole.column(115)), (Some(59), None));
        let samples = [sample(0, Some(9.0)), sample(1, Some(0.04))];
        let shared = Window { from: -5, per_column: 2, columns: 1, rows: 4 };
        assert!(text(&drawn(&samples, &[], shared))[0].ends_with('█'), "the worst of them");
    }

    #[test]
    fn where_nobody_has_an_answer_it_says_so() {
        let rows = drawn(&[sample(5, None)], &[], Window::last(0, 3, 4, 4));
        assert_eq!(text(&rows)[3], "  31 ms┤?");
    }
}
