//! The text format of Prometheus (0.0.4), as far as counters and histograms need it. What OpenMetrics adds (`# EOF`, exemplars)
//! is passed over.
//!
//! The lines of metrics that nobody asks for are looked at no further than their name. Of those that are asked for, one that
//! cannot be understood spoils the exposition: the rest would look like the whole.

use std::borrow::Cow;

/// The labels of a sample, with their values.
type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// Labels of one sample; more is no exposition of a known exporter.
const MOST_LABELS: usize = 64;

/// One value of one series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: Labels<'a>,
    /// It may be NaN or infinite.
    pub(super) value: f64,
}

impl Sample<'_> {
    /// A label; one that is not there is empty, as Prometheus has it.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value).unwrap_or_default()
    }
}

/// The number of a line, from one on, that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadLine(pub(super) usize);

/// The samples of the metrics that `wanted` names.
pub(super) fn samples<'a>(
    text: &'a str,
    wanted: impl Fn(&str) -> bool,
) -> impl Iterator<Item = Result<Sample<'a>, BadLine>> {
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let line = line.trim_matches([' ', '\t', '\r']);
        // A name in quotes inside of the braces is one that is not asked for.
        if line.is_empty() || line.starts_with(['#', '{']) {
            return None;
        }
        let Some((name, rest)) = name(line, true) else { return Some(Err(BadLine(number))) };
        wanted(name).then(|| sample(name, rest).ok_or(BadLine(number)))
    })
}

/// A name, and what follows it. That of a metric may have colons.
fn name(text: &str, colons: bool) -> Option<(&str, &str)> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || (colons && letter == ':');
    let end = text.find(|letter| !is_part(letter)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    (!name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit())).then_some((name, rest))
}

fn spaces(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

fn sample<'a>(name: &'a str, rest: &'a str) -> Option<Sample<'a>> {
    let (labels, rest) = match spaces(rest).strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None if rest.starts_with([' ', '\t']) => (Vec::new(), rest),
        None => return None,
    };
    let mut words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let value = words.next()?.parse().ok()?;
    // A time, which is not used, and an exemplar.
    if let Some(word) = words.next()
        && !word.starts_with('#')
    {
        word.parse::<f64>().ok()?;
        if words.next().is_some_and(|word| !word.starts_with('#')) {
            return None;
        }
    }
    Some(Sample { name, labels, value })
}

/// Labels to the closing brace, and what follows it.
fn labels(text: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    let mut rest = spaces(text);
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (label, after) = name(rest, false)?;
        let (value, after) = quoted(spaces(spaces(after).strip_prefix('=')?).strip_prefix('"')?)?;
        if labels.len() >= MOST_LABELS || labels.iter().any(|(known, _)| *known == label) {
            return None;
        }
        labels.push((label, value));
        rest = spaces(after);
        match rest.strip_prefix(',') {
            Some(after) => rest = spaces(after),
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// A value to the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.find(['"', '\\'])?;
    let (plain, rest) = text.split_at_checked(end)?;
    if let Some(rest) = rest.strip_prefix('"') {
        return Some((Cow::Borrowed(plain), rest));
    }
    let mut value = plain.to_owned();
    let mut letters = rest.chars();
    loop {
        match letters.next()? {
            '"' => return Some((Cow::Owned(value), letters.as_str())),
            '\\' => value.push(match letters.next()? {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            }),
            letter => value.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::dice::Dice;

    fn all(text: &str) -> Result<Vec<Sample<'_>>, BadLine> {
        samples(text, |_| true).collect()
    }

    fn one(line: &str) -> Option<(String, f64)> {
        let sample = all(line).ok()?.pop()?;
        let labels: Vec<String> =
            sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Some((format!("{}[{}]", sample.name, labels.join("|")), sample.value))
    }

    #[test]
    fn what_the_format_allows_is_read() {
        for (line, shown, value) in [
            ("up 1", "up[]", 1.0),
            ("  up\t1.5e3  1395066363000 ", "up[]", 1500.0),
            (r#"a:b{x="1",y="2",} -2"#, "a:b[x=1|y=2]", -2.0),
            (r#"a { x = "1" , y="" } 2"#, "a[x=1|y=]", 2.0),
            (r#"a{p="C:\\D\n\"q\"}",v="ä}{"}3"#, "a[p=C:\\D\n\"q\"}|v=ä}{]", 3.0),
            ("a{} +Inf", "a[]", f64::INFINITY),
            (r##"a_bucket{le="1"} 5 # {trace_id="x"} 0.5 1.5"##, "a_bucket[le=1]", 5.0),
            (r##"a_bucket{le="1"} 5 1.5 # {trace_id="x"} 0.5"##, "a_bucket[le=1]", 5.0),
        ] {
            assert_eq!(one(line), Some((shown.to_owned(), value)), "{line}");
        }
        assert!(one("a NaN").is_some_and(|(_, value)| value.is_nan()));
        assert_eq!(all("# HELP a b\n\n#\n{\"a.b\"} 1\r\n# EOF\n"), Ok(Vec::new()));
    }

    #[test]
    fn what_it_does_not_allow_is_told_with_its_line() {
        for line in [
            "<html>",
            "1a 1",
            "a",
            "a 1x",
            "a{",
            "a{}",
            "a{x} 1",
            "a{x=1} 1",
            "a{x=\"1} 1",
            "a{x=\"1\"",
            "a{x=\"\\t\"} 1",
            "a{x=\"1\" y=\"2\"} 1",
            "a{x=\"1\",x=\"2\"} 1",
            "a{,} 1",
            "a{x:y=\"1\"} 1",
            "a 1 soon",
            "a 1 2 3",
            "a\"1",
        ] {
            assert_eq!(all(&format!("ok 1\n{line}\nok 2")), Err(BadLine(2)), "{line}");
        }
        let nobodys = "a{x= 1\nok 2";
        let wanted: Result<Vec<_>, _> = samples(nobodys, |name| name == "ok").collect();
        assert_eq!(wanted.map(|samples| samples.len()), Ok(1), "what nobody asks for spoils nothing");
    }

    /// Any text ends, whatever it is made of, and what was read is part of it.
    #[test]
    fn mutants_of_an_exposition_are_read_or_refused() {
        const PARTS: [&str; 16] =
            ["a", "{", "}", "\"", "\\", "n", ",", "=", " ", "\n", "#", "1", "le", "ä", "+Inf", "\u{0}"];
        for seed in 0..20_000 {
            let mut dice = Dice::new(seed);
            let many = dice.below(24);
            let text: String =
                (0..many).filter_map(|_| PARTS.get(dice.below(PARTS.len())).copied()).collect();
            for sample in samples(&text, |_| true).flatten() {
                assert!(text.contains(sample.name), "{text:?}");
                assert!(sample.labels.len() <= MOST_LABELS);
            }
        }
    }
}
