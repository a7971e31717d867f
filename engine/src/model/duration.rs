//! Spans of time as people write them in a policy: `200ms`, `15s`, `2m`, `1h30m`.
//!
//! The syntax is a checked part of Go's (the one that CEL's `duration()` reads): whole numbers, units `h`, `m`, `s`,
//! `ms`, each at most once and in that order. Nothing in here can overflow or panic, whatever the input is.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is empty.
    #[error("a duration must not be empty; write for example \"30s\"")]
    Empty,
    /// The text does not follow the syntax.
    #[error(
        "\"{0}\" is not a duration; write whole numbers with the units h, m, s, ms, largest first, for example \"1m30s\""
    )]
    Syntax(String),
    /// A number has more digits than any sensible duration needs.
    #[error("\"{0}\" is too long a duration; the largest number that is accepted has 9 digits")]
    TooLarge(String),
}

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const MAX_DIGITS: usize = 9;

/// So many seconds. What is no length of time, which an exporter may claim of a bucket, is the nearest one.
#[must_use]
pub fn of_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

/// Reads a duration.
///
/// # Errors
/// Says what is wrong with the text; the text itself is quoted, cut to 40 characters.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    let syntax = || DurationError::Syntax(quote(text));
    let mut rest = text;
    let mut next_unit = 0;
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(syntax)?;
        if digits == 0 {
            return Err(syntax());
        }
        if digits > MAX_DIGITS {
            return Err(DurationError::TooLarge(quote(text)));
        }
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters).ok_or_else(syntax)?;
        let position = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(syntax)?;
        if position < next_unit {
            return Err(syntax());
        }
        let factor = UNITS.get(position).map_or(0, |(_, factor)| *factor);
        let value: u64 = number.parse().map_err(|_| syntax())?;
        millis = value
            .checked_mul(factor)
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(|| DurationError::TooLarge(quote(text)))?;
        next_unit = position + 1;
        rest = tail;
    }
    Ok(Duration::from_millis(millis))
}

/// Writes a duration the way [`parse`] reads it. What is smaller than a millisecond is dropped.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, factor) in UNITS {
        let count = millis / u128::from(factor);
        millis %= u128::from(factor);
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(unit);
        }
    }
    text
}

/// A duration for people: two digits where more would be noise (`1.2s`, `340ms`, `4m10s`).
#[must_use]
pub fn human(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..10_000 => {
            let text = format!("{:.1}s", duration.as_secs_f64());
            text.replace(".0s", "s")
        }
        _ => format(Duration::from_secs(duration.as_secs())),
    }
}

fn quote(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in [
            ("200ms", 200),
            ("15s", 15_000),
            ("1h30m", 5_400_000),
            ("1m30s", 90_000),
            ("2m", 120_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn refuses_hostile_text_without_a_panic() {
        for text in [
            "",
            "-5s",
            "1e309h",
            "99999999999999999999h",
            "1h-1s",
            "s",
            "5",
            "5 s",
            "1s1h",
            "1s1s",
            "1.5s",
            "µs",
            "5µs",
            "٣s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["200ms", "15s", "1h30m", "1m30s", "2m", "1h2m3s4ms"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        assert_eq!(human(Duration::from_millis(1234)), "1.2s");
        assert_eq!(human(Duration::from_millis(5000)), "5s");
        assert_eq!(human(Duration::from_millis(250_400)), "4m10s");
    }
}
