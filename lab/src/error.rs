//! What can go wrong in the laboratory, said so that a person can act on it.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything that the laboratory does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the laboratory: what was being done, why it failed, and what to do about it.
#[derive(thiserror::Error)]
pub enum Error {
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path or the program in it.
        doing: String,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Something that the laboratory needs is missing or unusable.
    #[error("{doing}: {problem}\n  what to do: {remedy}")]
    Setup {
        /// What was being done.
        doing: String,
        /// What stands in the way.
        problem: String,
        /// How a person removes the obstacle.
        remedy: String,
    },
    /// A process ended, or did not do in time what was waited for.
    #[error("{0}")]
    Process(Box<ProcessTrouble>),
    /// A server that runs did not accept what was asked of it.
    #[error("{doing}: {}\n  what to do: {remedy}\n  log: {}", causes(.source.as_ref()), .log.display())]
    Request {
        /// What was being done.
        doing: String,
        /// What to look at first.
        remedy: &'static str,
        /// The log of the server that was asked.
        log: PathBuf,
        /// What the client library reports.
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// A process that failed, with all that is needed to find out why.
#[derive(Debug)]
pub struct ProcessTrouble {
    /// The name of the process in its session, such as `postgres-1`.
    pub name: String,
    /// What it did or did not do: `ended with exit status: 1`.
    pub problem: String,
    /// What the laboratory was doing or waiting for at that moment.
    pub doing: String,
    /// What a person does next.
    pub remedy: String,
    /// Where the process writes its log.
    pub log: PathBuf,
    /// The last lines of that log, because the folder may be gone when the message is read.
    pub tail: String,
}

impl fmt::Display for ProcessTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} ({})\n  what to do: {}\n  log: {}",
            self.name,
            self.problem,
            self.doing,
            self.remedy,
            self.log.display()
        )?;
        if self.tail.is_empty() {
            return write!(f, " (empty)");
        }
        write!(f, "\n  its last lines:")?;
        for line in self.tail.lines() {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// The same text as for people: it is what a test shows that unwraps.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// For `map_err`: the operating system refused what `doing` says.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// For `map_err`: the same for an operation on one path.
    pub fn path(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::io(format!("{verb} {}", path.display()))
    }

    /// An obstacle that a person has to remove.
    pub fn setup(doing: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Setup { doing: doing.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// For `map_err`: a running server did not do what was asked; its log says more.
    pub fn request<E>(doing: impl Into<String>, log: &Path) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (doing, log) = (doing.into(), log.to_owned());
        let remedy = "read the log of the server; LAB_KEEP=1 keeps the folder of the session";
        move |source| Self::Request { doing, remedy, log, source: source.into() }
    }
}

/// The message of an error with the messages of all that caused it: client libraries hide the useful part.
fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let line = cause.to_string();
        // Some libraries repeat the cause in their own message.
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        next = cause.source();
    }
    text
}

/// The last lines of a log, as much as fits an error message.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text =
        std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_trouble_names_the_log_and_shows_its_end() {
        let trouble = ProcessTrouble {
            name: "etcd-1".into(),
            problem: "ended with exit status: 1".into(),
            doing: "waiting until it answers".into(),
            remedy: "read the log".into(),
            log: "/somewhere/etcd-1.log".into(),
            tail: "one\ntwo".into(),
        };
        let text = Error::Process(Box::new(trouble)).to_string();
        for part in ["etcd-1 ended with", "waiting until it answers", "/somewhere/etcd-1.log", "\n    two"] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
    }

    #[test]
    fn the_causes_of_a_request_are_all_in_its_message() {
        let inner = io::Error::other("connection refused");
        let outer = Error::Io { doing: "asking".into(), source: inner };
        let error = Error::request("reading pods", Path::new("/x.log"))(outer);
        assert!(error.to_string().contains("connection refused"));
        assert!(error.to_string().contains("/x.log"));
    }
}
