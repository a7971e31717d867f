//! Where the demo writes: lines from top to bottom, and on a terminal a frame below them that is drawn anew in its place.
//!
//! The terminal's settings are never touched, and after each write the cursor stands at the start of the line below all: who
//! is stopped in the middle, in whatever way, leaves nothing to be mended.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lab::Say;
use rustix::termios::tcgetwinsize;

/// Where there is no terminal, text is read in files and mails.
const PLAIN_COLUMNS: usize = 110;
/// A narrower or lower terminal gets lines alone.
const LEAST: Size = Size { columns: 60, rows: 18 };

/// Colours, where somebody can see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Paint {
    #[default]
    Plain,
    Red,
    Green,
    Bold,
    Faint,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Red => "\x1b[31m",
            Self::Green => "\x1b[32m",
            Self::Bold => "\x1b[1m",
            Self::Faint => "\x1b[2m",
        }
    }
}

/// One line of differently coloured parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row(Vec<(Paint, String)>);

impl Row {
    pub(super) fn of(paint: Paint, text: impl Into<String>) -> Self {
        Self(vec![(paint, text.into())])
    }

    /// Adds a letter; letters of one colour become one part.
    pub(super) fn push(&mut self, paint: Paint, letter: char) {
        match self.0.last_mut() {
            Some((last, text)) if *last == paint => text.push(letter),
            _ => self.0.push((paint, letter.to_string())),
        }
    }

    /// As it is written.
    pub(super) fn text(&self, colours: bool) -> String {
        let mut written = String::new();
        for (paint, text) in &self.0 {
            match colours && *paint != Paint::Plain {
                true => written.push_str(&format!("{}{text}\x1b[0m", paint.code())),
                false => written.push_str(text),
            }
        }
        written
    }

    fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// No more letters than that.
    fn cut(mut self, columns: usize) -> Self {
        let mut left = columns;
        for (_, text) in &mut self.0 {
            *text = text.chars().take(left).collect();
            left -= text.chars().count();
        }
        self
    }
}

/// Of a terminal, in letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// Shared by all who write. Clones are the same screen.
#[derive(Clone)]
pub(super) struct Screen(Arc<Mutex<Inner>>);

struct Inner {
    colours: bool,
    /// Standard output is a terminal that can move its cursor.
    is_live: bool,
    frame: Vec<Row>,
}

impl Screen {
    /// Of this program's standard output.
    pub(super) fn of_output() -> Self {
        let has = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_terminal = std::io::stdout().is_terminal();
        let colours = is_terminal && has("NO_COLOR").is_none();
        let is_live = is_terminal && has("TERM").is_some_and(|kind| kind != "dumb");
        Self(Arc::new(Mutex::new(Inner { colours, is_live, frame: Vec::new() })))
    }

    /// How much room there is for a frame and what is above it; `None` where lines are all that there can be.
    pub(super) fn room(&self) -> Option<Size> {
        let is_live = self.inner().is_live;
        size().filter(|size| is_live && size.columns >= LEAST.columns && size.rows >= LEAST.rows)
    }

    /// How many letters fit into a line of text.
    pub(super) fn columns(&self) -> usize {
        let own = size().filter(|_| self.inner().is_live).map(|size| size.columns.max(LEAST.columns));
        own.unwrap_or(PLAIN_COLUMNS).min(PLAIN_COLUMNS)
    }

    /// Writes one line, above the frame where there is one.
    pub(super) fn line(&self, paint: Paint, text: &str) {
        self.row(&Row::of(paint, text));
    }

    /// The same of a line with several colours.
    pub(super) fn row(&self, row: &Row) {
        let inner = self.inner();
        let text = format!("{}{}\n{}", inner.erase(), row.text(inner.colours).trim_end(), inner.draw());
        crate::commands::print(&text);
    }

    /// Draws a frame below all lines, in the place of the one before.
    pub(super) fn frame(&self, rows: Vec<Row>) {
        let mut inner = self.inner();
        let erase = inner.erase();
        // One letter less than there is room for: some terminals go on in the next line otherwise.
        let columns = size().map_or(PLAIN_COLUMNS, |size| size.columns.saturating_sub(1));
        inner.frame = rows.into_iter().map(|row| row.cut(columns)).collect();
        crate::commands::print(&format!("{erase}{}", inner.draw()));
    }

    /// The frame stays where it is, as lines that were written.
    pub(super) fn keep_frame(&self) {
        self.inner().frame.clear();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing that is done under the lock can fail half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes the frame away; the cursor stands where it began.
    fn erase(&self) -> String {
        let Some(size) = size().filter(|_| !self.frame.is_empty()) else { return String::new() };
        format!("\x1b[{}A\r\x1b[J", height(&self.frame, size))
    }

    fn draw(&self) -> String {
        self.frame.iter().map(|row| row.text(self.colours) + "\n").collect()
    }
}

/// The lines that a frame takes: of a window that was made narrower since then, more than rows.
fn height(frame: &[Row], size: Size) -> usize {
    let lines = frame.iter().map(|row| row.width().div_ceil(size.columns.max(1)).max(1)).sum::<usize>();
    // What has gone out at the top can not be erased.
    lines.min(size.rows.saturating_sub(1)).max(1)
}

fn size() -> Option<Size> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    // A terminal that does not know says 0.
    (size.ws_col > 0 && size.ws_row > 0)
        .then(|| Size { columns: size.ws_col.into(), rows: size.ws_row.into() })
}

/// What the laboratory tells meanwhile goes above the frame, too.
impl Say for Screen {
    fn say(&self, line: &str) {
        let inner = self.inner();
        let is_seen = std::io::stderr().is_terminal() && !inner.frame.is_empty();
        if is_seen {
            crate::commands::print(&inner.erase());
        }
        let _ = std::io::stderr().write_all(format!("lab: {line}\n").as_bytes());
        if is_seen {
            crate::commands::print(&inner.draw());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let mut row = Row::of(Paint::Plain, "p95 ");
        for letter in "slow".chars() {
            row.push(Paint::Red, letter);
        }
        row
    }

    #[test]
    fn colours_are_added_where_they_are_wanted_and_take_no_room() {
        assert_eq!(row().text(false), "p95 slow");
        assert_eq!(row().text(true), "p95 \x1b[31mslow\x1b[0m");
        assert_eq!(row().width(), 8);
        assert_eq!(row().cut(6).text(false), "p95 sl");
        assert_eq!(row().cut(2).text(false), "p9");
    }

    #[test]
    fn a_frame_takes_more_lines_where_the_window_was_made_narrower() {
        let frame = [row(), Row::default(), row()];
        let lines = |columns, rows| height(&frame, Size { columns, rows });
        assert_eq!((lines(80, 24), lines(8, 24), lines(4, 24), lines(4, 4)), (3, 3, 5, 3));
    }
}
