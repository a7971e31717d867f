//! What looking at sessions and acting on them must agree about, to the letter.
//!
//! Both statements call the columns of `pg_stat_activity` by the alias `a`.

/// A statement that is DDL, maintenance, a bulk copy, or the end of a transaction: never cancelled. Leading comments do not
/// hide it.
macro_rules! maintenance {
    () => {
        r"a.query ~* '^\s*(/\*([^*]|\*+[^*/])*\*+/\s*|--[^\n]*\n\s*)*(VACUUM|ANALYZE|CREATE|ALTER|DROP|REINDEX|CLUSTER|REFRESH|COPY|TRUNCATE|LOCK|CALL|DO|COMMENT|GRANT|REVOKE|COMMIT|END|ROLLBACK|ABORT|PREPARE\s+TRANSACTION|START_REPLICATION|BASE_BACKUP)\M'"
    };
}
pub(crate) use maintenance;

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
