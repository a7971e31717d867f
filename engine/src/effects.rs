//! Effects: what actions do to the world, as the few primitives that drivers carry out. Several actions may share one.
//!
//! A driver knows effects and no actions. What an inspection of the world says about an effect is decided here as well: whether
//! it was done after a crash ([`Effect::after_crash`]), and whether it shows ([`Effect::progress`]).

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::duration::human;
use crate::model::{
    CacheKey, NoData, Scheme, SecretRef, ServerIdentity, SessionIdentity, TargetRef, UncommittedWrites,
    WorkloadNow,
};

/// One session of one database, and the statement that it runs, or ran last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTarget {
    /// The dependency's name in the policy.
    pub dependency: String,
    /// The Secret that leads to it.
    pub secret: SecretRef,
    /// The server that was diagnosed; no other one is touched.
    pub server: ServerIdentity,
    /// The session and its statement; once it has begun another one it is left alone.
    pub session: SessionIdentity,
    /// The role that runs it.
    pub role: String,
    /// See [`crate::model::Session::fingerprint`].
    pub fingerprint: String,
    /// Whether it may be touched although its transaction has written.
    pub writes: UncommittedWrites,
}

/// How a session is signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The statement that runs is cancelled; the session lives.
    Cancel,
    /// The session whose statement runs is ended.
    Terminate,
    /// The session that has been idle in a transaction since this instant is ended.
    TerminateIdle(Timestamp),
}

impl Signal {
    /// Whether the session is ended.
    #[must_use]
    pub fn ends_session(self) -> bool {
        match self {
            Self::Cancel => false,
            Self::Terminate | Self::TerminateIdle(_) => true,
        }
    }

    /// Why nothing has become of it.
    fn still(self) -> &'static str {
        if self.ends_session() { "the session is still there" } else { "the statement still runs" }
    }

    /// How it shows.
    fn gone(self) -> &'static str {
        if self.ends_session() { "the session was gone" } else { "the statement was gone" }
    }
}

/// Signals one session of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalSession {
    /// Which session.
    pub target: SessionTarget,
    /// How.
    pub signal: Signal,
}

/// Sets the replicas of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetReplicas {
    /// Which workload, in the policy's namespace.
    pub target: TargetRef,
    /// Which life of it; another one is not touched.
    pub uid: String,
    /// The replicas that were seen; with any other number nothing is done.
    pub from: u32,
    /// The replicas that are to be.
    pub to: u32,
}

/// GET requests to a Service: which, how many, and how fast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// The Service that leads to the target, in the policy's namespace.
    pub service: String,
    /// Its port, by name or number.
    pub port: String,
    /// How it is spoken to.
    pub scheme: Scheme,
    /// What is asked for, one after the other.
    pub paths: Vec<String>,
    /// So often each path is asked for, at most.
    pub requests_per_path: u32,
    /// Requests a second, at most.
    pub rate_per_second: u32,
    /// Requests that are not answered yet, at most.
    pub in_flight: u32,
    /// It ends after this time at the latest.
    pub within: Duration,
}

impl Requests {
    /// All requests of a full run.
    #[must_use]
    pub fn planned(&self) -> u32 {
        u32::try_from(self.paths.len()).unwrap_or(u32::MAX).saturating_mul(self.requests_per_path)
    }
}

/// Sends requests to the target, which fills a cache when it answers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendRequests {
    /// The cache's name in the policy.
    pub dependency: String,
    /// The cache that they fill.
    pub cache: CacheKey,
    /// Which requests.
    pub requests: Requests,
}

/// What a run of requests came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warmed {
    /// Requests of a full run.
    pub planned: u32,
    /// Requests that were sent.
    pub sent: u32,
    /// Those that were answered with success.
    pub answered: u32,
    /// Why it ended before all were sent.
    pub stopped: Option<String>,
}

impl fmt::Display for Warmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { planned, sent, answered, stopped } = self;
        write!(f, "{sent} of {planned} requests were sent, {answered} succeeded")?;
        match stopped {
            Some(why) => write!(f, "; it was stopped: {why}"),
            None => Ok(()),
        }
    }
}

/// An effect, with everything that a driver needs to carry it out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "few exist at a time")]
pub enum Effect {
    /// See [`SignalSession`].
    SignalSession(SignalSession),
    /// See [`SetReplicas`].
    SetReplicas(SetReplicas),
    /// See [`SendRequests`]. It takes a while; the others are done at once.
    SendRequests(SendRequests),
}

/// What the world shows of what an effect is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspection {
    /// The statement still runs, or the session is still there.
    Running,
    /// The session has gone or runs another statement, or the workload is not there.
    Gone,
    /// The workload as it is.
    Workload(WorkloadNow),
    /// It cannot be seen.
    Unreadable(NoData),
}

/// Whether an effect that was interrupted was done; each with what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterCrash {
    /// It was, and by us.
    Done(String),
    /// It was not, or it came to nothing.
    NotDone(String),
    /// The world cannot tell.
    Unknown(String),
}

/// Whether an effect that was sent shows; each with what says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It does what it does.
    Confirmed(String),
    /// It does not show; waiting may change that.
    NotYet(String),
    /// It does not show, and waiting does not change that.
    NotSeen(String),
    /// It cannot be read at the moment.
    Unreadable(String),
    /// It cannot be told any more.
    Unknown(String),
}

impl Effect {
    /// How long it goes on.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        match self {
            Self::SignalSession(_) | Self::SetReplicas(_) => Duration::ZERO,
            Self::SendRequests(send) => send.requests.within,
        }
    }

    /// The session that it signals, if it signals one.
    #[must_use]
    pub fn session(&self) -> Option<&SessionTarget> {
        match self {
            Self::SignalSession(signal) => Some(&signal.target),
            Self::SetReplicas(_) | Self::SendRequests(_) => None,
        }
    }

    /// The workload that it changes, if it changes one.
    #[must_use]
    pub fn workload(&self) -> Option<&TargetRef> {
        match self {
            Self::SetReplicas(set) => Some(&set.target),
            Self::SignalSession(_) | Self::SendRequests(_) => None,
        }
    }

    /// Whether both do the same to the same, where they are about the same thing. Replicas that are set to another number are
    /// another step.
    #[must_use]
    pub fn repeats(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SetReplicas(one), Self::SetReplicas(two)) => one.uid == two.uid && one.to == two.to,
            (Self::SignalSession(_), Self::SignalSession(_))
            | (Self::SendRequests(_), Self::SendRequests(_)) => true,
            (Self::SignalSession(_) | Self::SetReplicas(_) | Self::SendRequests(_), _) => false,
        }
    }

    /// Whether it was done, where an inspection follows a crash.
    #[must_use]
    pub fn after_crash(&self, inspection: &Inspection) -> AfterCrash {
        match (self, inspection) {
            (_, Inspection::Unreadable(no_data)) => {
                AfterCrash::Unknown(format!("what it was done to cannot be read ({no_data})"))
            }
            (Self::SetReplicas(set), Inspection::Workload(now)) => set.after_crash(now),
            (Self::SetReplicas(_), Inspection::Gone) => {
                AfterCrash::Unknown("the target was gone since".to_owned())
            }
            (Self::SignalSession(signal), Inspection::Gone) => {
                AfterCrash::Unknown(format!("{} since", signal.signal.gone()))
            }
            (Self::SignalSession(signal), Inspection::Running | Inspection::Workload(_)) => {
                let still = signal.signal.still();
                AfterCrash::NotDone(format!("{still}: nothing was done, or it had no effect"))
            }
            // Nothing in the world shows requests, nor replicas without their workload.
            (Self::SetReplicas(_), Inspection::Running) | (Self::SendRequests(_), _) => {
                AfterCrash::Unknown("nothing shows it".to_owned())
            }
        }
    }

    /// Whether it shows, `waited` after it was sent.
    #[must_use]
    pub fn progress(&self, inspection: &Inspection, waited: Duration) -> Progress {
        let waited = human(waited);
        match (self, inspection) {
            (_, Inspection::Unreadable(no_data)) => {
                Progress::Unreadable(format!("the effect cannot be seen: {no_data}"))
            }
            (Self::SetReplicas(set), Inspection::Workload(now)) => set.progress(now, &waited),
            (Self::SetReplicas(set), Inspection::Gone) => {
                Progress::Unknown(format!("{} was gone {waited} later", set.target))
            }
            (Self::SignalSession(signal), Inspection::Gone) => {
                Progress::Confirmed(format!("{} {waited} later", signal.signal.gone()))
            }
            (Self::SignalSession(signal), Inspection::Running | Inspection::Workload(_)) => {
                Progress::NotYet(format!("{} {waited} later", signal.signal.still()))
            }
            (Self::SetReplicas(_), Inspection::Running) | (Self::SendRequests(_), _) => {
                Progress::Unreadable("nothing shows the effect".to_owned())
            }
        }
    }
}

impl SetReplicas {
    /// Whether it takes replicas away.
    #[must_use]
    pub fn takes_away(&self) -> bool {
        self.to < self.from
    }

    /// The command with which people set the workload to so many replicas.
    #[must_use]
    pub fn command(&self, namespace: &str, replicas: u32) -> String {
        let TargetRef { kind, name } = &self.target;
        let kind = kind.to_string().to_lowercase();
        format!("kubectl -n {namespace} scale {kind} {name} --replicas={replicas}")
    }

    /// The API server notes beside the replicas by whom they were set: an effect of ours is known for ours.
    fn after_crash(&self, now: &WorkloadNow) -> AfterCrash {
        let (target, replicas) = (&self.target, now.replicas);
        if now.uid != self.uid {
            AfterCrash::Unknown(format!("{target} is another one now"))
        } else if replicas == self.to && now.is_ours() {
            AfterCrash::Done(format!("{target} has {replicas} replicas"))
        } else if replicas == self.from {
            AfterCrash::NotDone(format!("{target} still has {replicas} replicas"))
        } else {
            AfterCrash::Unknown(format!("{} has set {replicas} replicas since", now.others()))
        }
    }

    /// Whether all replicas are ready, or the others have gone.
    fn progress(&self, now: &WorkloadNow, waited: &str) -> Progress {
        if now.uid != self.uid {
            return Progress::NotSeen(format!("{} was another one {waited} later", self.target));
        }
        if now.replicas != self.to || !now.is_ours() {
            let others = now.others();
            return Progress::NotSeen(format!("{others} had set {} replicas {waited} later", now.replicas));
        }
        let ready = format!("{} of {} replicas were ready {waited} later", now.ready, now.replicas);
        let done = if self.takes_away() { now.ready <= self.to } else { now.ready >= self.to };
        if done { Progress::Confirmed(ready) } else { Progress::NotYet(ready) }
    }
}
