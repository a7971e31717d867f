//! From API objects to the engine's values and back. What cannot be understood is named with its field's path; nothing in
//! here panics, whatever is stored.

mod budget;
mod objectives;
mod policy;
mod remediation;
mod undo;

use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeOwned, IntoDeserializer, value};

use engine::model::{duration, ratio};

use super::text;

pub use budget::{budget, unknown_actions};
pub use policy::policy;
pub use remediation::{remediation, spec_of, status_of};

/// Something in an object that this version cannot act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `spec.remediations[0].causes[1]`.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Problem {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Collects problems while reading an object on: its author learns all of them at once.
#[derive(Debug, Default)]
struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn problem(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem::new(path, message));
    }

    fn duration(&mut self, path: &str, text: &text::Duration, least: Duration) -> Duration {
        match duration::parse(&text.0) {
            Ok(span) if span < least => {
                self.problem(
                    path,
                    format!("{} is too short; the least is {}", text.0, duration::format(least)),
                );
                least
            }
            Ok(span) => span,
            Err(error) => {
                self.problem(path, error.to_string());
                least
            }
        }
    }

    fn ratio(&mut self, path: &str, text: &text::Ratio) -> f64 {
        ratio::parse(&text.0).unwrap_or_else(|error| {
            self.problem(path, error.to_string());
            0.0
        })
    }

    /// A word of a fixed vocabulary.
    fn word<T: DeserializeOwned>(&mut self, path: &str, word: &text::Word, known: &str) -> Option<T> {
        let value = variant(&word.0);
        if value.is_none() {
            self.problem(path, format!("this version does not know {}; it knows {known}", word.0));
        }
        value
    }
}

/// The variant of an enumeration that is written as its bare name.
fn variant<T: DeserializeOwned>(name: &str) -> Option<T> {
    let deserializer: value::StrDeserializer<'_, value::Error> = name.into_deserializer();
    T::deserialize(deserializer).ok()
}
