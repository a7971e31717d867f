//! What a detector looks at, and what it answers.

use std::time::Duration;

use jiff::Timestamp;

use super::Cause;
use crate::dependencies::OneOfKinds;
use crate::dependencies::postgres::Postgres;
use crate::dependencies::redis::Redis;
use crate::model::{
    CacheTrend, Confidence, Evidence, Finding, Memory, Policy, Read, Session, Snapshot, Subject, Target,
    Thresholds, Traffic, earlier, elapsed,
};

/// The time by which metrics and data stores may disagree: scrape, evaluation and clocks.
const SLACK: Duration = Duration::from_secs(60);

/// Everything that is known while causes are looked for.
pub(crate) struct Case<'a> {
    /// What was read.
    pub(crate) snapshot: &'a Snapshot,
    /// What is remembered.
    pub(crate) state: &'a Memory,
    /// The first Breached reading.
    pub(crate) first_breached_at: Timestamp,
    /// What the causes above in the table found: those of the data stores before those of the target.
    pub(crate) found: &'a [Finding],
}

impl<'a> Case<'a> {
    /// The policy.
    pub(crate) fn policy(&self) -> &'a Policy {
        &self.snapshot.policy
    }

    /// The dependencies of one kind that were looked at, also those that could not be read.
    pub(crate) fn each<K: OneOfKinds + 'a>(&self) -> impl Iterator<Item = Store<'a, K>> + use<'a, K> {
        let (snapshot, state) = (self.snapshot, self.state);
        snapshot.policy.each(K::declared).filter_map(|(name, declared)| {
            let facts = snapshot.observations.of(name, K::facts)?;
            let memory = state.dependencies.get(name).and_then(K::memory);
            Some(Store { name, declared, facts, memory, window: snapshot.policy.evaluation.window })
        })
    }

    /// The target, where it could be read.
    pub(crate) fn target(&self) -> Option<&'a Target> {
        self.snapshot.observations.target.known()
    }

    /// What was measured of the target's traffic, by objective.
    pub(crate) fn measurements(&self) -> impl Iterator<Item = (&'a str, &'a Traffic)> {
        self.snapshot.observations.all_traffic()
    }

    /// The thresholds of a cause: the policy's, else its defaults.
    pub(crate) fn thresholds(&self, cause: &Cause) -> Thresholds {
        super::thresholds(self.policy(), cause)
    }

    /// How sure it is that what was found causes this breach.
    ///
    /// It cannot have caused it if it was there, harmless, well before: the earliest instant that counts is the first
    /// Breached reading less the window that it judged less [`SLACK`].
    fn confidence(&self, found: &Found) -> Confidence {
        let window = self.policy().evaluation.window;
        let earliest = earlier(self.first_breached_at, window.saturating_add(SLACK));
        let in_time = found.onset.is_some_and(|onset| onset >= earliest);
        match found.hurts {
            Hurts::Target if in_time => Confidence::Certain,
            Hurts::Perhaps if in_time => Confidence::Likely,
            Hurts::Now => Confidence::Likely,
            Hurts::Target | Hurts::Perhaps | Hurts::Unknown => Confidence::Possible,
        }
    }

    /// What a cause finds, as everybody else sees it. What explains it is decided once everything is found.
    pub(super) fn findings(&self, cause: &'static Cause) -> impl Iterator<Item = Finding> {
        (cause.diagnose)(self).into_iter().map(|found| Finding {
            cause: cause.name.into(),
            confidence: self.confidence(&found),
            advice: cause.advice || found.advice,
            subject: Some(found.subject),
            onset: found.onset,
            evidence: found.evidence,
            sentence: found.sentence,
            explained_by: None,
        })
    }
}

/// A dependency of one kind.
pub(crate) struct Store<'a, K: OneOfKinds> {
    /// Its name in the policy.
    pub(crate) name: &'a str,
    /// What the policy says about it.
    pub(crate) declared: &'a K::Declared,
    /// What was read, and when.
    pub(crate) facts: Read<'a, K::Facts>,
    /// What is remembered of it.
    pub(crate) memory: Option<&'a K::Memory>,
    /// The window that the policy judges.
    window: Duration,
}

impl<K: OneOfKinds> Store<'_, K> {
    /// It as a whole, as a subject.
    pub(crate) fn subject(&self) -> Subject {
        Subject::Dependency { dependency: self.name.to_owned() }
    }
}

impl Store<'_, Postgres> {
    /// One of its sessions, as a subject.
    pub(crate) fn session(&self, session: &Session) -> Subject {
        Subject::Session { dependency: self.name.to_owned(), session: session.identity.clone() }
    }
}

impl Store<'_, Redis> {
    /// How it does; none where it cannot be told.
    pub(crate) fn trend(&self) -> Option<CacheTrend> {
        let (_, facts) = self.facts.ok()?;
        self.memory?.trend(facts, self.window)
    }
}

/// An instant of a server's clock on the operator's: as long before the reading as the server says.
pub(crate) fn on_our_clock(read_at: Timestamp, clock: Timestamp, then: Timestamp) -> Timestamp {
    earlier(read_at, elapsed(clock, then))
}

/// What is known of the harm that something does. Only what began with the breach can have caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hurts {
    /// It exists; nothing ties it to the breach.
    Unknown,
    /// It may: metrics and data store agree in time, if it began with the breach.
    Perhaps,
    /// The target's own sessions are its victims, or it takes most of the active time in two snapshots.
    Target,
    /// Somebody is refused or held up right now, whenever it began.
    Now,
}

/// What a detector found. Everything else about a finding is the table's and the frame's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    /// What it points at.
    pub(crate) subject: Subject,
    /// When it began, on the operator's clock.
    pub(crate) onset: Option<Timestamp>,
    /// What is known of its harm.
    pub(crate) hurts: Hurts,
    /// Nothing is to be done about it automatically: it is below the threshold for that.
    pub(crate) advice: bool,
    /// Its numbers.
    pub(crate) evidence: Vec<Evidence>,
    /// One sentence for people, with the numbers.
    pub(crate) sentence: String,
}
