//! PostgreSQL: what one look shows, who blocks whom in it, and what two looks in a row have in common.

mod facts;
pub(crate) mod locks;
mod memory;

pub use facts::{
    Coverage, LockWait, PostgresFacts, PostgresLook, ServerIdentity, Session, SessionIdentity, SessionState,
    Slots,
};
pub use memory::{DatabaseGlance, DatabaseMemory, TransactionIdentity};
