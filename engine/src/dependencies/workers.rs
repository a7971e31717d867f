//! Background workers: a workload beside the target that works on the same databases, under roles of its own.
//!
//! They are read in Kubernetes. What they do in a database is seen there, by their roles.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Kind, Learning, Place};
use crate::base::{Target, TargetRef};

/// What a policy declares.
pub type Declared = WorkersDependency;
/// What one look shows.
pub type Facts = Target;
/// What is remembered for one policy.
pub type Memory = WorkersMemory;

/// See the module.
pub(crate) struct Workers;

/// What a policy says about background workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkersDependency {
    /// The workload, in the policy's namespace; not the target.
    pub target: TargetRef,
    /// The database roles of its sessions, and of nobody else's.
    pub client_roles: Vec<String>,
    /// A task is acknowledged once it is done, so that one that is cut off runs again (Celery: `acks_late`).
    pub acks_late: bool,
    /// How long a task takes at most.
    pub max_task: Option<Duration>,
}

/// Nothing: what the workers do is remembered with the databases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkersMemory {}

impl Kind for Workers {
    type Declared = WorkersDependency;
    type Facts = Target;
    type Memory = WorkersMemory;
    const BEARS_LOAD: bool = false;

    fn place(declared: &WorkersDependency) -> Place<'_> {
        Place::Workload { target: &declared.target, facts: super::Facts::from }
    }

    fn workload(facts: &Target) -> Option<&Target> {
        Some(facts)
    }

    fn roles(declared: &WorkersDependency) -> &[String] {
        &declared.client_roles
    }

    fn stands_before(_: &WorkersDependency) -> Option<&str> {
        None
    }

    fn partial(_: &Target) -> Option<&str> {
        None
    }

    fn unreadable(_: &Target) -> &[String] {
        &[]
    }

    fn learn(_: &mut WorkersMemory, _: Timestamp, _: &Target, _: Learning) {}

    /// Nothing is found in them: a cause is found in a database.
    fn compared_since(_: &WorkersMemory, _: &Target, _: Timestamp, _: Duration) -> bool {
        true
    }

    fn wants_within(_: Option<&WorkersMemory>, _: Duration, _: Duration) -> Option<Duration> {
        None
    }
}
