//! Data stores that a target depends on. One folder each: what a policy declares of it, what a look at it shows, and what is
//! remembered of it.
//!
//! The rest of the engine asks every kind the same questions, through [`Facts`] and [`Memory`]. Only causes and actions of one
//! kind know more.

pub mod pgbouncer;
pub mod postgres;
pub mod redis;
pub mod workers;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::pgbouncer::PgBouncer;
use self::postgres::Postgres;
use self::redis::Redis;
use self::workers::Workers;
use crate::base::{SecretRef, Target, TargetRef};
use crate::stats::Held;

/// Where a dependency is read.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// At a server that a Secret leads to.
    Store(&'a SecretRef),
    /// In Kubernetes.
    Workload {
        /// The workload, in the policy's namespace.
        target: &'a TargetRef,
        /// What a look at the workload shows of the dependency.
        facts: fn(Target) -> Facts,
    },
}

/// What is known of an evaluation while it is learned from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learning {
    /// The window that the policy judges.
    pub window: Duration,
    /// The objectives are kept and there is no incident, so that what is seen is usual.
    pub healthy: bool,
}

/// What every kind of dependency answers.
pub(crate) trait Kind {
    /// What a policy declares.
    type Declared;
    /// What one look shows.
    type Facts;
    /// What is remembered for one policy.
    type Memory: Default;
    /// What adds load to the target adds load to it.
    const BEARS_LOAD: bool;

    /// Where it is read.
    fn place(declared: &Self::Declared) -> Place<'_>;
    /// The workload that a look shows, where it is read in Kubernetes.
    fn workload(facts: &Self::Facts) -> Option<&Target>;
    /// The database roles of sessions that are not the target's own.
    fn roles(declared: &Self::Declared) -> &[String];
    /// The dependency that this one stands in front of, as a pool does in front of its database.
    fn stands_before(declared: &Self::Declared) -> Option<&str>;
    /// The statement that an administrator runs, where only a part of it can be read and the rest may hide anything.
    fn partial(facts: &Self::Facts) -> Option<&str>;
    /// What could not be read although the facts are right without it, each with what would let it be read.
    fn unreadable(facts: &Self::Facts) -> &[String];
    /// Takes in a look. The same look taken in twice is one look.
    fn learn(memory: &mut Self::Memory, at: Timestamp, facts: &Self::Facts, learning: Learning);
    /// Whether its looks since `since` suffice to say that nothing is found in it.
    fn compared_since(memory: &Self::Memory, facts: &Self::Facts, since: Timestamp, window: Duration)
    -> bool;
    /// How old a look may be while all is well, where that depends on what is judged and remembered.
    fn wants_within(memory: Option<&Self::Memory>, window: Duration, interval: Duration) -> Option<Duration>;
}

/// A kind whose values are told apart from those of the other kinds. The table implements it.
pub(crate) trait OneOfKinds: Kind {
    /// What is declared, if it is of this kind.
    fn declared(declared: &Dependency) -> Option<&Self::Declared>;
    /// What a look shows, if it is of this kind.
    fn facts(facts: &Facts) -> Option<&Self::Facts>;
    /// What is remembered, if it is of this kind.
    fn memory(memory: &DependencyMemory) -> Option<&Self::Memory>;
}

/// Makes one variant of each enum, and one arm of each question, from each line of the table below. The module has the types
/// `Declared`, `Facts` and `Memory`.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $module:ident,)*) => {
        /// The kinds of dependency, in the order in which people read them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum DependencyKind {
            $($(#[$doc])* $kind,)*
        }

        /// Something that the target depends on.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Dependency {
            $($(#[$doc])* $kind($module::Declared),)*
        }

        /// What one look at a dependency shows.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum Facts {
            $($(#[$doc])* $kind($module::Facts),)*
        }

        /// What is remembered of a dependency that could be read.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum Memory {
            $($(#[$doc])* $kind($module::Memory),)*
        }

        impl Dependency {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> DependencyKind {
                match self {
                    $(Self::$kind(_) => DependencyKind::$kind,)*
                }
            }

            /// Where it is read.
            #[must_use]
            pub fn place(&self) -> Place<'_> {
                match self {
                    $(Self::$kind(declared) => <$kind as Kind>::place(declared),)*
                }
            }

            /// The database roles of sessions that are not the target's own.
            #[must_use]
            pub fn roles(&self) -> &[String] {
                match self {
                    $(Self::$kind(declared) => <$kind as Kind>::roles(declared),)*
                }
            }

            /// The Secret that says where it is and how to log in, if it is read at a server.
            #[must_use]
            pub fn secret(&self) -> Option<&SecretRef> {
                match self.place() {
                    Place::Store(secret) => Some(secret),
                    Place::Workload { .. } => None,
                }
            }

            /// The dependency that this one stands in front of, as a pool does in front of its database.
            #[must_use]
            pub fn stands_before(&self) -> Option<&str> {
                match self {
                    $(Self::$kind(declared) => <$kind as Kind>::stands_before(declared),)*
                }
            }

            $(
                /// What is declared, if it is of this kind.
                #[must_use]
                pub fn $module(&self) -> Option<&$module::Declared> {
                    match self {
                        Self::$kind(declared) => Some(declared),
                        _ => None,
                    }
                }
            )*
        }

        $(
            impl OneOfKinds for $kind {
                fn declared(declared: &Dependency) -> Option<&Self::Declared> {
                    declared.$module()
                }

                fn facts(facts: &Facts) -> Option<&Self::Facts> {
                    facts.$module()
                }

                fn memory(memory: &DependencyMemory) -> Option<&Self::Memory> {
                    memory.$module()
                }
            }

            impl From<$module::Declared> for Dependency {
                fn from(declared: $module::Declared) -> Self {
                    Self::$kind(declared)
                }
            }
        )*

        impl DependencyKind {
            /// What adds load to the target adds load to it.
            #[must_use]
            pub fn bears_load(self) -> bool {
                match self {
                    $(Self::$kind => <$kind as Kind>::BEARS_LOAD,)*
                }
            }

            /// How old a look at a dependency of this kind may be while all is well, where that depends on what is judged and
            /// remembered.
            #[must_use]
            pub fn wants_within(
                self,
                memory: Option<&DependencyMemory>,
                window: Duration,
                interval: Duration,
            ) -> Option<Duration> {
                match self {
                    $(Self::$kind => {
                        let memory = memory.and_then(DependencyMemory::$module);
                        <$kind as Kind>::wants_within(memory, window, interval)
                    })*
                }
            }
        }

        impl Facts {
            /// The workload that the look shows, where it was read in Kubernetes.
            #[must_use]
            pub fn workload(&self) -> Option<&Target> {
                match self {
                    $(Self::$kind(facts) => <$kind as Kind>::workload(facts),)*
                }
            }

            /// The statement that an administrator runs, where only a part of it can be read and the rest may hide anything.
            #[must_use]
            pub fn partial(&self) -> Option<&str> {
                match self {
                    $(Self::$kind(facts) => <$kind as Kind>::partial(facts),)*
                }
            }

            /// What could not be read although the facts are right without it, each with what would let it be read.
            #[must_use]
            pub fn unreadable(&self) -> &[String] {
                match self {
                    $(Self::$kind(facts) => <$kind as Kind>::unreadable(facts),)*
                }
            }

            $(
                /// What the look shows, if it is of this kind.
                #[must_use]
                pub fn $module(&self) -> Option<&$module::Facts> {
                    match self {
                        Self::$kind(facts) => Some(facts),
                        _ => None,
                    }
                }
            )*

            fn nothing_remembered(&self) -> Memory {
                match self {
                    $(Self::$kind(_) => Memory::$kind(Default::default()),)*
                }
            }
        }

        $(
            impl From<$module::Facts> for Facts {
                fn from(facts: $module::Facts) -> Self {
                    Self::$kind(facts)
                }
            }
        )*

        impl DependencyMemory {
            $(
                /// What is remembered, if it is of this kind.
                #[must_use]
                pub fn $module(&self) -> Option<&$module::Memory> {
                    match &self.memory {
                        Some(Memory::$kind(memory)) => Some(memory),
                        _ => None,
                    }
                }
            )*
        }

        impl Memory {
            /// Takes in a look. Nothing is taken over from another kind that had the same name.
            fn learn(&mut self, at: Timestamp, facts: &Facts, learning: Learning) {
                if std::mem::discriminant(self) != std::mem::discriminant(&facts.nothing_remembered()) {
                    *self = facts.nothing_remembered();
                }
                match (self, facts) {
                    $((Self::$kind(memory), Facts::$kind(facts)) => {
                        <$kind as Kind>::learn(memory, at, facts, learning);
                    })*
                    _ => {}
                }
            }

            fn compared_since(&self, facts: &Facts, since: Timestamp, window: Duration) -> bool {
                match (self, facts) {
                    $((Self::$kind(memory), Facts::$kind(facts)) => {
                        <$kind as Kind>::compared_since(memory, facts, since, window)
                    })*
                    _ => false,
                }
            }
        }
    };
}

kinds! {
    /// A PostgreSQL database.
    Postgres: postgres,
    /// A PgBouncer in front of a PostgreSQL database.
    PgBouncer: pgbouncer,
    /// A Redis server.
    Redis: redis,
    /// Background workers.
    Workers: workers,
}

/// What is remembered of a dependency.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DependencyMemory {
    /// It could not be read.
    pub missing: Held,
    memory: Option<Memory>,
}

impl DependencyMemory {
    /// Takes in a look, or that there was nothing to be read at `now`.
    pub fn learn(&mut self, now: Timestamp, look: Option<(Timestamp, &Facts)>, learning: Learning) {
        self.missing.note(look.is_none(), now);
        if let Some((at, facts)) = look {
            self.memory.get_or_insert_with(|| facts.nothing_remembered()).learn(at, facts, learning);
        }
    }

    /// Whether its looks since `since` suffice to say that nothing is found in it.
    #[must_use]
    pub fn compared_since(&self, facts: &Facts, since: Timestamp, window: Duration) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.compared_since(facts, since, window))
    }
}
