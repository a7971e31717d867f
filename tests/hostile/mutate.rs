//! Structured mutation of JSON: every mutant is a valid document in which one to three places were changed. The same seed
//! is the same mutant.

use std::fmt;

use serde_json::{Map, Value, json};

use super::dice::Dice;

/// A document that was changed.
#[derive(Clone)]
pub(crate) struct Mutant {
    /// What it is now.
    pub(crate) value: Value,
    /// The places that were changed: `spec.remediations[0].causes`.
    pub(crate) touched: Vec<String>,
    /// How, for people.
    pub(crate) how: Vec<String>,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut document = self.value.to_string();
        if let Some((end, _)) = document.char_indices().nth(6_000) {
            document.truncate(end);
            document.push_str(" [cut]");
        }
        write!(f, "{}\n{document}", self.how.join("; "))
    }
}

/// One step down a document.
#[derive(Clone, PartialEq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

pub(crate) type Place = [Step];

/// The place as people write it.
pub(crate) fn path(place: &Place) -> String {
    let mut text = String::new();
    for step in place {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.push_str(&format!(".{key}")),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// Every place of a document but the whole of it.
pub(crate) fn places(value: &Value) -> Vec<Vec<Step>> {
    fn walk(value: &Value, here: &[Step], found: &mut Vec<Vec<Step>>) {
        let mut below = |step: Step, value: &Value| {
            let place = [here, &[step]].concat();
            found.push(place.clone());
            walk(value, &place, found);
        };
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| below(Step::Key(key.clone()), value))
            }
            Value::Array(entries) => {
                entries.iter().enumerate().for_each(|(index, value)| below(Step::Index(index), value));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(value, &[], &mut found);
    found
}

pub(crate) fn at<'a>(value: &'a mut Value, place: &Place) -> Option<&'a mut Value> {
    place.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Index(index) => value.get_mut(*index),
    })
}

fn remove(value: &mut Value, place: &Place) {
    let Some((last, above)) = place.split_last() else { return };
    match (at(value, above), last) {
        (Some(Value::Object(fields)), Step::Key(key)) => drop(fields.remove(key)),
        (Some(Value::Array(entries)), Step::Index(index)) if *index < entries.len() => {
            entries.remove(*index);
        }
        _ => {}
    }
}

/// The mutant of that seed.
pub(crate) fn mutant(original: &Value, seed: u64) -> Mutant {
    let mut dice = Dice::new(seed);
    let mut mutant = Mutant { value: original.clone(), touched: Vec::new(), how: Vec::new() };
    let changes = match dice.between(1, 20) {
        1..=15 => 1,
        16..=19 => 2,
        _ => 3,
    };
    while mutant.how.len() < changes {
        change(&mut mutant, &mut dice);
    }
    mutant
}

fn change(mutant: &mut Mutant, dice: &mut Dice) {
    let places = places(&mutant.value);
    if places.is_empty() {
        mutant.value = json!({});
        mutant.how.push("nothing is left of it".to_owned());
        return;
    }
    let place = &places[dice.below(places.len())];
    let other = &places[dice.below(places.len())];
    let Some(value) = at(&mut mutant.value, place) else { return };
    let here = path(place);
    let (touched, how) = match dice.below(12) {
        0 => {
            *value = another_type(dice);
            (here, "is of another type")
        }
        1 => {
            *value = Value::Null;
            (here, "is null")
        }
        2 => {
            remove(&mut mutant.value, place);
            (here, "is missing")
        }
        3 => {
            *value = number(dice);
            (here, "is an extreme number")
        }
        4 => {
            *value = text(dice).into();
            (here, "is a hostile text")
        }
        5 => {
            *value = word(dice).into();
            (here, "is another word")
        }
        6 => return crowd(mutant, &places, dice),
        7 => return stranger(mutant, &places, dice),
        8 => return swap(mutant, place, other),
        9 => {
            let depth = dice.between(1, 100);
            *value = (0..depth).fold(value.take(), |inner, level| match level % 2 {
                0 => json!([inner]),
                _ => json!({ "deeper": inner }),
            });
            (here, "lies deep")
        }
        10 => {
            nudge(value, dice);
            (here, "is a little different")
        }
        _ => {
            *value = time(dice).into();
            (here, "is another time")
        }
    };
    mutant.how.push(format!("{touched} {how}"));
    mutant.touched.push(touched);
}

/// A list gets an entry twice, or thousands of entries.
fn crowd(mutant: &mut Mutant, places: &[Vec<Step>], dice: &mut Dice) {
    let lists: Vec<&Vec<Step>> = places
        .iter()
        .filter(|place| at(&mut mutant.value, place).is_some_and(|value| value.is_array()))
        .collect();
    let Some(place) = lists.get(dice.below(lists.len())) else { return };
    let Some(Value::Array(entries)) = at(&mut mutant.value, place) else { return };
    let Some(entry) = entries.first().cloned() else { return };
    let many = if dice.percent(50) { 1 } else { dice.between(1_000, 1_200) };
    let renamed = dice.percent(50);
    for number in 0..many {
        let mut entry = entry.clone();
        if let Some(name) = entry.get_mut("name").filter(|_| renamed) {
            *name = format!("n{number}").into();
        }
        entries.push(entry);
    }
    let here = path(place);
    mutant.how.push(format!("{here} has {many} entries more"));
    mutant.touched.push(here);
}

/// An object gets a field that nobody knows, or that is known elsewhere.
fn stranger(mutant: &mut Mutant, places: &[Vec<Step>], dice: &mut Dice) {
    let objects: Vec<&Vec<Step>> = places
        .iter()
        .filter(|place| at(&mut mutant.value, place).is_some_and(|value| value.is_object()))
        .collect();
    let Some(place) = objects.get(dice.below(objects.len())) else { return };
    let Some(Value::Object(fields)) = at(&mut mutant.value, place) else { return };
    let names = ["nonsense", "Mode", "dry_run", "__proto__", "$ref", "\u{1b}[2J", "", "é", "force"];
    let name = names[dice.below(names.len())];
    fields.insert(name.to_owned(), another_type(dice));
    let here = format!("{}.{name}", path(place));
    mutant.how.push(format!("{here:?} is a field that nobody knows"));
    mutant.touched.push(here);
}

fn swap(mutant: &mut Mutant, one: &Place, two: &Place) {
    // A value cannot change places with a part of itself.
    if one.starts_with(two) || two.starts_with(one) {
        return;
    }
    let Some(first) = at(&mut mutant.value, one).map(Value::take) else { return };
    let Some(second) = at(&mut mutant.value, two).map(|value| std::mem::replace(value, first)) else {
        return;
    };
    if let Some(value) = at(&mut mutant.value, one) {
        *value = second;
    }
    mutant.how.push(format!("{} and {} have changed places", path(one), path(two)));
    mutant.touched.extend([path(one), path(two)]);
}

/// A little more, a little less, or written in another way.
fn nudge(value: &mut Value, dice: &mut Dice) {
    let times = dice.between(1, 3);
    match value {
        Value::Bool(yes) => *yes = !*yes,
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or_default();
            *value =
                json!(if dice.percent(50) { number.saturating_add(1) } else { number.saturating_sub(1) });
        }
        Value::String(text) => {
            for _ in 0..times {
                let end = text.chars().count();
                let place = dice.below(end + 1);
                let mut letters: Vec<char> = text.chars().collect();
                match dice.below(4) {
                    0 if place < end => drop(letters.remove(place)),
                    1 if place < end => letters[place] = odd_letter(dice),
                    2 => letters.insert(place, odd_letter(dice)),
                    _ => letters = text.to_uppercase().chars().collect(),
                }
                *text = letters.into_iter().collect();
            }
        }
        Value::Array(entries) => entries.reverse(),
        Value::Object(fields) => {
            let upper = |(key, value): (String, Value)| (key.to_uppercase(), value);
            *fields = std::mem::take(fields).into_iter().map(upper).collect::<Map<_, _>>();
        }
        Value::Null => *value = json!({}),
    }
}

fn odd_letter(dice: &mut Dice) -> char {
    let letters =
        ['0', '9', 's', 'h', 'm', '%', '.', '-', '+', ' ', '\0', '\n', '\u{1b}', 'é', '٣', '\u{202e}', '🦀'];
    letters[dice.below(letters.len())]
}

fn another_type(dice: &mut Dice) -> Value {
    let values = [
        json!(true),
        json!(false),
        json!(0),
        json!(-1),
        json!(1.5),
        json!("text"),
        json!(""),
        json!([]),
        json!({}),
        json!([null]),
        json!([[]]),
        json!({"name": {}}),
        json!(null),
        json!(["Auto"]),
    ];
    values[dice.below(values.len())].clone()
}

fn number(dice: &mut Dice) -> Value {
    let numbers = [
        json!(0),
        json!(-1),
        json!(1),
        json!(2),
        json!(i32::MAX),
        json!(i64::from(i32::MAX) + 1),
        json!(i32::MIN),
        json!(i64::from(i32::MIN) - 1),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e308),
        json!(-1e308),
        json!(1e-308),
        json!(-0.0),
        json!(0.5),
        json!(10_000),
        json!(1_000_000_000),
    ];
    numbers[dice.below(numbers.len())].clone()
}

fn word(dice: &mut Dice) -> &'static str {
    let words = [
        "Auto",
        "Observe",
        "Approve",
        "All",
        "New",
        "None",
        "Allow",
        "Deny",
        "Scale",
        "CancelQuery",
        "TerminateIdle",
        "Rollback",
        "RunawayQuery",
        "BlockingQuery",
        "IdleInTransaction",
        "WorkersSaturated",
        "Gremlins",
        "Latency",
        "ErrorRatio",
        "Prometheus",
        "Probe",
        "HTTPS",
        "PostgreSQL",
        "Django",
        "Caddy",
        "Deployment",
        "StatefulSet",
        "DaemonSet",
        "P0",
        "P9",
        "Admitted",
        "Executing",
        "Verifying",
        "Completed",
        "Refused",
        "Failed",
        "DryRun",
        "OutcomeUnknown",
        "Pending",
        "Done",
        "Certain",
        "Possible",
        "Open",
        "Closed",
        "orders",
        "reporting",
        "stranger",
        "postgres",
        "auto",
        "AUTO",
        "cancel",
    ];
    words[dice.below(words.len())]
}

fn time(dice: &mut Dice) -> &'static str {
    let times = [
        "",
        "0s",
        "0ms",
        "1ms",
        "999ms",
        "1s",
        "5s",
        "59s",
        "1h",
        "168h",
        "99999h",
        "999999999h",
        "9999999999h",
        "99999999999999999999h",
        "292y",
        "106752d",
        "-5s",
        "-0s",
        "+5s",
        "1e309h",
        "1.5s",
        "1s1h",
        "1s1s",
        "1h-1s",
        "5",
        "5 s",
        "5µs",
        "٣s",
        "inf",
        "NaN",
        "PT5S",
        "1970-01-01T00:00:00Z",
        "0000-00-00T00:00:00Z",
        "0001-01-01T00:00:00Z",
        "9999-12-30T22:00:00Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-14:00",
        "10000-01-01T00:00:00Z",
        "-009999-01-01T00:00:00Z",
        "+275760-09-13T00:00:00Z",
        "1677-09-21T00:12:43Z",
        "2262-04-12T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T03:00:00",
        "2026-01-01",
        "2026-01-01T03:00:00+99:99",
        "2026-01-01T03:00:00.123456789123Z",
        "2026-01-01T03:00:05Z",
        "2025-12-31T23:00:00Z",
        "forever",
        "never",
    ];
    times[dice.below(times.len())]
}

fn text(dice: &mut Dice) -> String {
    let texts = [
        "",
        " ",
        "\0",
        "\u{1b}[31mred\u{1b}[0m",
        "a\r\nlevel=error msg=forged",
        "\u{202e}reversed",
        "🦀",
        "é",
        "\u{feff}",
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "+Inf",
        "1e309",
        "-1",
        "0",
        "1",
        "0.95",
        "100%",
        "101%",
        "-1%",
        "1e-400",
        "0x10",
        "1.0000000001",
        "true",
        "null",
        "'; drop table accounts; --",
        "\"}) or vector(1) #",
        "../../etc/passwd",
        "${jndi:ldap://x}",
        "%s%n%d",
        "{{.}}",
        "$(reboot)",
        "`id`",
        "http://169.254.169.254/",
        "a b",
        "A",
        "-a",
        "a-",
        ".",
        "..",
        "a/b",
        "kube-system",
        "forever",
    ];
    match dice.below(texts.len() + 4) {
        chosen if chosen < texts.len() => texts[chosen].to_owned(),
        chosen if chosen == texts.len() => "a".repeat(1 << 16),
        chosen if chosen == texts.len() + 1 => "\u{1b}[2J\n".repeat(1 << 13),
        chosen if chosen == texts.len() + 2 => "🦀".repeat(1 << 14),
        _ => "9".repeat(1 << 16),
    }
}
