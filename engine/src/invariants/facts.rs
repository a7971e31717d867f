//! What happened in the world, one thing at a time, in the order of time.
//!
//! Facts are about the world and not about the operator's thoughts: an API server's audit log, a database's log and a
//! simulation can all tell them. What a source cannot know is optional; a rule that needs it is silent without it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Budget, Draining, EntryKey, Policy, PolicyRef, Remediation, TargetRef, WorkloadKey};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// When, by one clock for all facts. Never earlier than the fact before.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum What {
    /// A policy was created or changed: as it is stored now.
    Policy(Box<Policy>),
    /// A policy was deleted.
    PolicyGone(PolicyRef),
    /// An annotation `latency-operator.dev/paused-until` was set (its text), or taken away.
    Paused {
        /// On what.
        place: Place,
        /// Its text.
        until: Option<String>,
    },
    /// RemediationBudgets were changed: all of them as they are stored now.
    Budgets(Vec<Budget>),
    /// A LatencyRemediation was created, or its metadata or status was written: as it is stored now.
    Remediation(Box<Remediation>),
    /// A LatencyRemediation is gone.
    RemediationGone(EntryKey),
    /// A LatencyIncident was created, or its status was written, or it has gone: whether it is there and not closed.
    Incident {
        /// Its namespace and name.
        key: EntryKey,
        /// It is.
        open: bool,
    },
    /// A person deletes a LatencyRemediation: with the record goes what the operator can know of it once another one leads.
    Erased(EntryKey),
    /// Somebody took the Lease, or gave it back.
    Lease {
        /// Who holds it now.
        holder: Option<String>,
        /// Its `leaseTransitions`.
        epoch: u64,
    },
    /// The Lease was marked by who uninstalls the operator, or the mark was changed or taken away: until when nothing may be
    /// begun, and what is owed may be given up from when on.
    Draining(Option<Draining>),
    /// An operator has looked at what a policy promises: what the source and the databases truly offered it.
    Reading(Reading),
    /// A session of a database was signalled.
    Signal(Signal),
    /// The target was asked for something, to warm a cache.
    Request(Request),
    /// `spec.replicas` of a workload was written, by whomever, and the API server took it.
    Replicas(Replicas),
    /// What else scales a workload, from now on.
    Scalers {
        /// Its namespace.
        namespace: String,
        /// Which workload.
        target: TargetRef,
        /// By name.
        scalers: Vec<String>,
    },
    /// A workload was deleted.
    WorkloadGone(WorkloadKey),
    /// The operator has written any other object (its Lease does not count), named for people.
    Wrote(String),
    /// From now on there are no faults, and nobody but the operator changes anything.
    Quiet,
}

/// Where a pause stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    /// On a policy, by namespace and name.
    Policy(String, String),
    /// On a workload.
    Target(String, TargetRef),
    /// On a namespace.
    Namespace(String),
}

/// What was there to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Seen {
    /// An objective is broken; a database is in trouble.
    Breached,
    /// All is well, positively.
    Healthy,
    /// All is well with the few requests that a hang has left in the window: whoever knows how many are usual may still call
    /// it broken, and whoever does not, well.
    Ambiguous,
    /// There is too little traffic to say.
    Quiet,
    /// The source gave nothing that could be judged.
    Dark,
}

/// See [`What::Reading`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Whose promises.
    pub policy: PolicyRef,
    /// Which operator looked: the identity under which it holds the Lease.
    pub reader: String,
    /// The objectives.
    pub objectives: Seen,
    /// The databases, where they were read.
    pub databases: Option<Seen>,
}

/// What a signal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalKind {
    /// Cancels the running statement.
    Cancel,
    /// Ends the session.
    Terminate,
}

/// See [`What::Signal`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Cancelled or ended.
    pub kind: SignalKind,
    /// The server's system identifier.
    pub system_identifier: String,
    /// The database that the session was connected to.
    pub database: String,
    /// When the server's postmaster started.
    pub started_at: Option<Timestamp>,
    /// Whether the server replayed another's log.
    pub standby: Option<bool>,
    /// The session's process id.
    pub pid: i32,
    /// When the session began.
    pub backend_start: Option<Timestamp>,
    /// When its current, or last, statement began.
    pub query_start: Option<Timestamp>,
    /// Who was hit.
    pub victim: Option<Victim>,
    /// The LatencyRemediation that it was sent for; without it the one whose intent fits is taken.
    pub remediation: Option<EntryKey>,
}

/// The session that was hit, as it was at that instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// Its role.
    pub role: String,
    /// It is the operator's own, or its role is a superuser or may replicate, or it is no client's.
    pub untouchable: bool,
    /// Its statement is DDL, maintenance, a bulk copy or the end of a transaction, or it is a protected one.
    pub protected: bool,
    /// Its transaction has written.
    pub wrote: bool,
}

/// See [`What::Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The path.
    pub path: String,
    /// When it was sent, where that is known: it may have been under way for long.
    pub sent: Option<Timestamp>,
    /// The LatencyRemediation that it was sent for.
    pub remediation: EntryKey,
}

/// See [`What::Replicas`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replicas {
    /// Which life of which workload.
    pub workload: WorkloadKey,
    /// The value that was replaced, where it is known; otherwise the last one that was told.
    pub from: Option<u32>,
    /// The value.
    pub to: u32,
    /// The field manager that wrote it.
    pub manager: String,
    /// When the write was sent, if that is known: it may have been under way for long.
    #[serde(default)]
    pub sent: Option<Timestamp>,
    /// The LatencyRemediation that it was written for, if the operator wrote it; without it the one whose intent fits is
    /// taken.
    pub remediation: Option<EntryKey>,
}
