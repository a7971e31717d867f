//! What all actions on a session of a database have in common.

use crate::model::{
    Candidate, Coverage, Dependency, Finding, Observed, PostgresFacts, ResourceKey, Session, SessionTarget,
    Snapshot, Subject, Writers, duration::human,
};

/// The session that a finding is about, and the database that is locked for it.
pub(super) fn target<'a>(
    snapshot: &'a Snapshot,
    finding: &Finding,
    writers: Writers,
) -> Option<(SessionTarget, ResourceKey, &'a Session)> {
    let Some(Subject::Session { dependency, session }) = &finding.subject else { return None };
    let Dependency::Postgres(declared) = snapshot.policy.dependencies.get(dependency)? else { return None };
    let facts = snapshot.databases.get(dependency)?.known()?;
    let found = facts.session(session.pid)?;
    let resource = ResourceKey::database(&snapshot.policy.id.namespace, &facts.server);
    let target = SessionTarget {
        dependency: dependency.clone(),
        secret: declared.secret.clone(),
        server: facts.server.clone(),
        session: session.clone(),
        role: found.role.clone(),
        fingerprint: found.fingerprint.clone(),
        writers,
    };
    Some((target, resource, found))
}

/// The session as it is now, if it is still the one that was decided about and may be touched. `writers` is what the rung
/// says now, `allow` the setting that would let writers be touched.
pub(super) fn touchable<'a>(
    snapshot: &'a Snapshot,
    candidate: &Candidate,
    writers: Writers,
    allow: &str,
) -> Result<(&'a PostgresFacts, &'a Session), String> {
    let target = candidate.action.session().ok_or("it is done to no session")?;
    let (declared, facts) = database(snapshot, target)?;
    let pid = target.session.pid;
    let Some(session) = facts.session(pid).filter(|session| session.identity == target.session) else {
        return Err(format!("the statement of pid {pid} has ended by itself"));
    };
    if session.database != facts.server.database {
        return Err(format!(
            "pid {pid} works in database {}, not in {}",
            session.database, facts.server.database
        ));
    }
    let users = facts.users(&declared.users);
    let roles = if declared.roles.is_empty() { users } else { declared.roles.as_slice() };
    if !roles.contains(&session.role) {
        return Err(format!(
            "role {} may not be signalled; the policy allows {} (dependencies[{}].postgres.roles)",
            session.role,
            roles.join(", "),
            target.dependency
        ));
    }
    if session.privileged || snapshot.operator.protected_roles.contains(&session.role) {
        return Err(format!(
            "role {} is a superuser, may replicate, or is protected by the administrator",
            session.role
        ));
    }
    if session.protected {
        return Err(format!("pid {pid} is a backup or management tool, or its role is in latency_protected"));
    }
    if session.maintenance {
        return Err(format!("pid {pid} runs DDL, maintenance, a bulk copy or the end of a transaction"));
    }
    // The stricter of what was decided and what the rung says now: an author may have changed his mind.
    if session.wrote && (target.writers, writers) != (Writers::Allow, Writers::Allow) {
        let age = session
            .xact_start
            .map_or("of unknown age".to_owned(), |start| format!("{} old", human(facts.age(start))));
        return Err(format!(
            "the transaction of pid {pid} is {age} and has written, and writers are denied; rolling it back loses that \
             work ({allow} would let it be done)"
        ));
    }
    if !facts.may_signal && session.role != facts.connected_as {
        return Err(format!(
            "role {} may not signal other roles; run: GRANT pg_signal_backend TO {}",
            facts.connected_as, facts.grantee
        ));
    }
    Ok((facts, session))
}

/// The database, if it is still the one that was diagnosed.
fn database<'a>(
    snapshot: &'a Snapshot,
    target: &SessionTarget,
) -> Result<(&'a crate::model::PostgresDependency, &'a PostgresFacts), String> {
    let name = &target.dependency;
    let Some(Dependency::Postgres(declared)) = snapshot.policy.dependencies.get(name) else {
        return Err(format!("the policy declares no dependency {name} any more"));
    };
    if declared.secret != target.secret {
        return Err(format!(
            "the dependency {name} now uses Secret {}, not {}",
            declared.secret, target.secret
        ));
    }
    let facts = match snapshot.databases.get(name) {
        Some(Observed::Known { value, .. }) => value,
        Some(Observed::Missing(no_data)) => return Err(format!("{name} cannot be read: {no_data}")),
        None => return Err(format!("{name} has not been read")),
    };
    if facts.server != target.server {
        return Err(format!("{name} is another server, or has been restarted, since it was diagnosed"));
    }
    if facts.standby {
        return Err(format!("{name} is a standby; no session is touched there"));
    }
    Ok((declared, facts))
}

/// A reservation about what was seen, for people.
pub(super) fn partly(facts: &PostgresFacts) -> &'static str {
    match facts.coverage {
        Coverage::Full => "",
        Coverage::Partial { .. } => " (not all others can be read)",
    }
}
