//! What all actions on a session of a database have in common.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effects::SessionTarget;
use crate::model::{
    Candidate, Coverage, Dependency, Finding, Name, NoData, PostgresDependency, PostgresFacts, Session,
    Snapshot, Subject, UncommittedWrites, duration::human, forget,
};

/// What an action on a session is done to.
pub(super) fn subject(target: &SessionTarget) -> Subject {
    Subject::Session { dependency: target.dependency.clone(), session: target.session.clone() }
}

/// The session that a finding is about.
pub(super) fn target<'a>(
    snapshot: &'a Snapshot,
    finding: &Finding,
    writes: UncommittedWrites,
) -> Option<(SessionTarget, &'a Session)> {
    let Some(Subject::Session { dependency, session }) = &finding.subject else { return None };
    let Dependency::Postgres(declared) = snapshot.policy.dependencies.get(dependency)? else { return None };
    let (_, facts) = snapshot.observations.postgres(dependency)?.ok()?;
    let found = facts.session(session.pid)?;
    let target = SessionTarget {
        dependency: dependency.clone(),
        secret: declared.secret.clone(),
        server: facts.server.clone(),
        session: session.clone(),
        role: found.role.clone(),
        fingerprint: found.fingerprint.clone(),
        writes,
    };
    Some((target, found))
}

/// Why a session may not be touched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Condition {
    NotDeclared {
        dependency: String,
    },
    OtherSecret {
        dependency: String,
        now: String,
        then: String,
    },
    Unreadable {
        dependency: String,
        why: NoData,
    },
    NotRead {
        dependency: String,
    },
    OtherServer {
        dependency: String,
    },
    Standby {
        dependency: String,
    },
    HasEnded {
        pid: i32,
    },
    OtherDatabase {
        pid: i32,
        database: String,
        wanted: String,
    },
    RoleNotAllowed {
        role: String,
        allowed: Vec<String>,
        dependency: String,
    },
    /// Sessions of the role that the operator itself connects as are not touched.
    OwnRole {
        role: String,
        secret: String,
    },
    Privileged {
        role: String,
    },
    Protected {
        pid: i32,
    },
    Maintenance {
        pid: i32,
    },
    /// What is not committed would be lost; `allow` is the setting that would let it be done.
    HasWritten {
        pid: i32,
        age: Option<Duration>,
        allow: Name,
    },
    MayNotSignal {
        role: String,
        grantee: String,
    },
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDeclared { dependency } => {
                write!(f, "the policy declares no dependency {dependency} any more")
            }
            Self::OtherSecret { dependency, now, then } => {
                write!(f, "the dependency {dependency} now uses Secret {now}, not {then}")
            }
            Self::Unreadable { dependency, why } => write!(f, "{dependency} cannot be read: {why}"),
            Self::NotRead { dependency } => write!(f, "{dependency} has not been read"),
            Self::OtherServer { dependency } => {
                write!(f, "{dependency} is another server, or has been restarted, since it was diagnosed")
            }
            Self::Standby { dependency } => {
                write!(f, "{dependency} is a standby; no session is touched there")
            }
            Self::HasEnded { pid } => write!(f, "the statement of pid {pid} has ended by itself"),
            Self::OtherDatabase { pid, database, wanted } => {
                write!(f, "pid {pid} works in database {database}, not in {wanted}")
            }
            Self::RoleNotAllowed { role, allowed, dependency } => write!(
                f,
                "role {role} may not be signalled; the policy allows {} (dependencies[{dependency}].postgresql.cancellableRoles)",
                if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") }
            ),
            Self::OwnRole { role, secret } => write!(
                f,
                "role {role} is the one that the operator itself connects as; give the operator a role of its own \
                 (Secret {secret})"
            ),
            Self::Privileged { role } => {
                write!(f, "role {role} is a superuser, may replicate, or is protected by the administrator")
            }
            Self::Protected { pid } => {
                write!(f, "pid {pid} is a backup or management tool, or its role is in latency_protected")
            }
            Self::Maintenance { pid } => {
                write!(f, "pid {pid} runs DDL, maintenance, a bulk copy or the end of a transaction")
            }
            Self::HasWritten { pid, age, allow } => {
                let age = age.map_or("of unknown age".to_owned(), |age| format!("{} old", human(age)));
                write!(
                    f,
                    "the transaction of pid {pid} is {age} and has written, and uncommitted writes are protected; \
                     cancelling it would lose that work ({allow} would permit it)"
                )
            }
            Self::MayNotSignal { role, grantee } => {
                write!(f, "role {role} may not signal other roles; run: GRANT pg_signal_backend TO {grantee}")
            }
        }
    }
}

impl Condition {
    pub(super) fn forget_numbers(&mut self) {
        match self {
            Self::Unreadable { why, .. } => why.forget_numbers(),
            Self::HasEnded { pid }
            | Self::OtherDatabase { pid, .. }
            | Self::Protected { pid }
            | Self::Maintenance { pid } => forget(pid),
            Self::HasWritten { pid, age, .. } => {
                forget(pid);
                age.iter_mut().for_each(forget);
            }
            Self::NotDeclared { .. }
            | Self::OtherSecret { .. }
            | Self::NotRead { .. }
            | Self::OtherServer { .. }
            | Self::Standby { .. }
            | Self::RoleNotAllowed { .. }
            | Self::OwnRole { .. }
            | Self::Privileged { .. }
            | Self::MayNotSignal { .. } => {}
        }
    }
}

/// The session as it is now, if it is still the one that was decided about and may be touched. `writes` is what the rung
/// says now, `allow` the setting that would let uncommitted writes be rolled back.
pub(super) fn touchable<'a>(
    snapshot: &'a Snapshot,
    candidate: &Candidate,
    target: &SessionTarget,
    writes: UncommittedWrites,
    allow: &'static str,
) -> Result<(&'a PostgresFacts, &'a Session), Condition> {
    let (declared, facts) = database(snapshot, target)?;
    let pid = target.session.pid;
    let Some(session) = facts.session(pid).filter(|session| session.identity == target.session) else {
        return Err(Condition::HasEnded { pid });
    };
    if session.database != facts.server.database {
        let (database, wanted) = (session.database.clone(), facts.server.database.clone());
        return Err(Condition::OtherDatabase { pid, database, wanted });
    }
    let role = session.role.clone();
    // Undeclared, no session may be touched. A dry run shows all the same what a declaration would permit.
    let undeclared = declared.cancellable_roles.is_none() && candidate.is_dry_run();
    let allowed = declared.cancellable_roles.as_deref().unwrap_or_default();
    if !undeclared && !allowed.contains(&role) {
        let dependency = target.dependency.clone();
        return Err(Condition::RoleNotAllowed { role, allowed: allowed.to_vec(), dependency });
    }
    if role == facts.connected_as {
        return Err(Condition::OwnRole { role, secret: declared.secret.name.clone() });
    }
    if session.privileged || snapshot.operator.protected_roles.contains(&role) {
        return Err(Condition::Privileged { role });
    }
    if session.protected {
        return Err(Condition::Protected { pid });
    }
    if session.maintenance {
        return Err(Condition::Maintenance { pid });
    }
    // The stricter of what was decided and what the rung says now: an author may have changed his mind.
    if session.wrote && (target.writes, writes) != (UncommittedWrites::RollBack, UncommittedWrites::RollBack)
    {
        let age = session.xact_start.map(|start| facts.age(start));
        return Err(Condition::HasWritten { pid, age, allow: allow.into() });
    }
    if !facts.may_signal {
        let (role, grantee) = (facts.connected_as.clone(), facts.grantee.clone());
        return Err(Condition::MayNotSignal { role, grantee });
    }
    Ok((facts, session))
}

/// The database, if it is still the one that was diagnosed.
fn database<'a>(
    snapshot: &'a Snapshot,
    target: &SessionTarget,
) -> Result<(&'a PostgresDependency, &'a PostgresFacts), Condition> {
    let dependency = target.dependency.clone();
    let Some(Dependency::Postgres(declared)) = snapshot.policy.dependencies.get(&dependency) else {
        return Err(Condition::NotDeclared { dependency });
    };
    if declared.secret != target.secret {
        let (now, then) = (declared.secret.name.clone(), target.secret.name.clone());
        return Err(Condition::OtherSecret { dependency, now, then });
    }
    let facts = match snapshot.observations.postgres(&dependency) {
        Some(Ok((_, facts))) => facts,
        Some(Err(why)) => {
            return Err(Condition::Unreadable { dependency, why: why.clone() });
        }
        None => return Err(Condition::NotRead { dependency }),
    };
    if facts.server != target.server {
        return Err(Condition::OtherServer { dependency });
    }
    if facts.standby {
        return Err(Condition::Standby { dependency });
    }
    Ok((declared, facts))
}

/// A reservation about what was seen, for people.
pub(super) fn partly(partial: bool) -> &'static str {
    if partial { " (not all others can be read)" } else { "" }
}

/// Whether not all other sessions can be read.
pub(super) fn is_partial(facts: &PostgresFacts) -> bool {
    match facts.coverage {
        Coverage::Full => false,
        Coverage::Partial { .. } => true,
    }
}
