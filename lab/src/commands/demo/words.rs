//! Numbers and sentences as people read them.

/// `1,250 ms`. The edge's histogram ends at ten seconds.
pub(super) fn milliseconds(seconds: f64) -> String {
    if seconds >= 10.0 {
        return "> 10,000 ms".to_owned();
    }
    thousands(&format!("{:.0}", seconds * 1000.0)) + " ms"
}

/// `1,250`.
pub(super) fn count(number: f64) -> String {
    thousands(&format!("{:.0}", number.max(0.0)))
}

/// `500 ms`, `2 s`.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.0} s") }
}

/// Digits with a comma between thousands; below a million.
fn thousands(digits: &str) -> String {
    match digits.len().checked_sub(3).filter(|thousands| *thousands > 0) {
        Some(thousands) => {
            let (high, low) = digits.split_at(thousands);
            format!("{high},{low}")
        }
        None => digits.to_owned(),
    }
}

/// Breaks a text between words into lines of at most so many letters; a longer word stays whole.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
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
    fn numbers_are_readable() {
        let shown = [0.0413, 0.9999, 1.25, 9.999, 10.0].map(milliseconds);
        assert_eq!(shown, ["41 ms", "1,000 ms", "1,250 ms", "9,999 ms", "> 10,000 ms"]);
        assert_eq!([0.0, 12.0, 1503.2].map(count), ["0", "12", "1,503"]);
        assert_eq!([0.03125, 0.5, 2.0].map(duration), ["31 ms", "500 ms", "2 s"]);
    }

    #[test]
    fn long_text_is_broken_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("p95   41 ms", 20), ["p95   41 ms"]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
    }
}
