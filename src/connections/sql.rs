//! What looking at sessions and acting on them must agree about, to the letter.
//!
//! Both statements call the columns of `pg_stat_activity` by the alias `a`.

/// A statement that is never cancelled: DDL, maintenance, a bulk copy, the end of a transaction, and everything of which the
/// first word is not one of those that are known to be harmless, or cannot be found. Leading comments hide nothing: what
/// PostgreSQL nests, or has cut off at `track_activity_query_size`, does not begin with a known word. Of several statements
/// in one text none may be maintenance.
macro_rules! maintenance {
    () => {
        concat!(
            "(a.query !~* '^",
            $crate::connections::sql::skipped!(),
            r"(SELECT|WITH|VALUES|TABLE|INSERT|UPDATE|DELETE|MERGE|EXECUTE|EXPLAIN|DECLARE|FETCH|BEGIN|START|SAVEPOINT|RELEASE|SET|RESET|SHOW)\M'",
            " OR a.query ~* '(^|;)",
            $crate::connections::sql::skipped!(),
            r"(VACUUM|ANALYZE|CREATE|ALTER|DROP|REINDEX|CLUSTER|REFRESH|COPY|TRUNCATE|LOCK|CALL|DO|COMMENT|GRANT|REVOKE|COMMIT|END|ROLLBACK|ABORT|PREPARE\s+TRANSACTION|REASSIGN|IMPORT|SECURITY|CHECKPOINT|START_REPLICATION|BASE_BACKUP)\M')"
        )
    };
}

/// What may stand before the first word of a statement: blanks, brackets, empty statements, comments. A comment with another
/// one in it is not skipped: regular expressions cannot count.
macro_rules! skipped {
    () => {
        r"(\s|[;(]|--[^\n\r]*[\n\r]|/\*([^*/]|\*+[^*/]|/+[^*/])*\*+/)*"
    };
}
/// What DDL, maintenance and `LOCK TABLE` leave behind in a transaction: the last statement of a session that is idle says
/// nothing about those before it. Queries, changes and row locks never take these.
macro_rules! strong_lock {
    () => {
        "l.granted AND l.locktype = 'relation' AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
    };
}
pub(crate) use maintenance;
pub(crate) use skipped;
pub(crate) use strong_lock;

/// A backup, a management tool, the operator itself, or a role that is a member of `latency_protected`. The application name
/// is chosen by the client: good enough to protect, never to select.
macro_rules! protected {
    () => {
        r"(a.application_name ~* '^(pg_dump|pg_dumpall|pg_restore|pg_basebackup|pg_receivewal|patroni|cnpg|barman|pgbackrest|wal-g|wal-e|repmgr|pg_repack|latency-operator)' OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'latency_protected' AND pg_has_role(a.usesysid, g.oid, 'MEMBER')))"
    };
}
pub(crate) use protected;

/// An instant as whole microseconds since 1970: compared to the last digit, which a floating-point number cannot.
macro_rules! micros {
    ($column:literal) => {
        concat!("(extract(epoch FROM ", $column, ") * 1000000)::bigint")
    };
}
pub(crate) use micros;

use jiff::Timestamp;

/// The instant of so many microseconds.
pub(crate) fn instant(micros: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(micros).ok()
}
