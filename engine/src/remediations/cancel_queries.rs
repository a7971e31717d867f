//! `CancelQueries`: cancels the one statement that is the cause. Its transaction fails, its session lives.

use super::{Remedy, Traits};
use crate::model::{
    Action, ActionKind, CancelQuery, Candidate, Coverage, Dependency, Finding, ResourceKey, Rung, RungAction,
    SessionState, Snapshot, Subject, Writers, duration::human,
};

pub(super) const REMEDY: Remedy = Remedy {
    kind: ActionKind::CancelQueries,
    does: "cancels the one statement that is the cause; its transaction fails, its session lives",
    answers: &["BlockingQuery", "RunawayQuery"],
    traits: Traits { adds_load: false, removes_capacity: false, disruptive: true, reversible: false },
    propose,
    precondition,
};

fn propose(snapshot: &Snapshot, rung: &Rung, finding: &Finding) -> Option<(Action, ResourceKey)> {
    let RungAction::CancelQueries { writers } = rung.action;
    let Some(Subject::Session { dependency, session }) = &finding.subject else { return None };
    let Dependency::Postgres(declared) = snapshot.policy.dependencies.get(dependency)?;
    let facts = snapshot.databases.get(dependency)?.known()?;
    let running = facts.session(session.pid)?;
    let resource = ResourceKey {
        namespace: snapshot.policy.id.namespace.clone(),
        system_identifier: facts.server.system_identifier.clone(),
        database: facts.server.database.clone(),
        peer: facts.server.peer.clone(),
    };
    let action = Action::CancelQuery(CancelQuery {
        dependency: dependency.clone(),
        secret: declared.secret.clone(),
        server: facts.server.clone(),
        session: session.clone(),
        role: running.role.clone(),
        fingerprint: running.fingerprint.clone(),
        writers,
    });
    Some((action, resource))
}

/// The stricter of what was decided and what the rung says now: an author may have changed his mind.
fn writers(snapshot: &Snapshot, candidate: &Candidate, decided: Writers) -> Writers {
    let now = snapshot.policy.rung(&candidate.rung).map(|rung| match rung.action {
        RungAction::CancelQueries { writers } => writers,
    });
    if decided == Writers::Allow && now == Some(Writers::Allow) { Writers::Allow } else { Writers::Deny }
}

fn precondition(snapshot: &Snapshot, candidate: &Candidate) -> Result<String, String> {
    let Action::CancelQuery(cancel) = &candidate.action;
    let name = &cancel.dependency;
    let Some(Dependency::Postgres(declared)) = snapshot.policy.dependencies.get(name) else {
        return Err(format!("the policy declares no dependency {name} any more"));
    };
    if declared.secret != cancel.secret {
        return Err(format!(
            "the dependency {name} now uses Secret {}, not {}",
            declared.secret, cancel.secret
        ));
    }
    let facts = match snapshot.databases.get(name) {
        Some(crate::model::Observed::Known { value, .. }) => value,
        Some(crate::model::Observed::Missing(no_data)) => {
            return Err(format!("{name} cannot be read: {no_data}"));
        }
        None => return Err(format!("{name} has not been read")),
    };
    if facts.server != cancel.server {
        return Err(format!("{name} is another server, or has been restarted, since it was diagnosed"));
    }
    if facts.standby {
        return Err(format!("{name} is a standby; nothing is cancelled there"));
    }
    let pid = cancel.session.pid;
    let Some(session) = facts.session(pid).filter(|session| session.identity == cancel.session) else {
        return Err(format!("the statement of pid {pid} has ended by itself"));
    };
    if session.state != SessionState::Active {
        return Err(format!("pid {pid} runs no statement; cancelling would do nothing"));
    }
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
            "role {} may not be signalled; the policy allows {} (dependencies[{name}].postgres.roles)",
            session.role,
            roles.join(", ")
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
    if session.wrote && writers(snapshot, candidate, cancel.writers) == Writers::Deny {
        let age = session
            .xact_start
            .map_or("of unknown age".to_owned(), |start| format!("{} old", human(facts.age(start))));
        return Err(format!(
            "the transaction of pid {pid} is {age} and has written, and writers are denied; rolling it back loses that \
             work (cancelQueries.writers: Allow would let it be cancelled)"
        ));
    }
    if !facts.may_signal && session.role != facts.connected_as {
        return Err(format!(
            "role {} may not signal other roles; run: GRANT pg_signal_backend TO {}",
            facts.connected_as, facts.grantee
        ));
    }
    let partial = match facts.coverage {
        Coverage::Full => "",
        Coverage::Partial { .. } => " (not all others can be read)",
    };
    Ok(format!("the statement of pid {pid} still runs{partial}"))
}
