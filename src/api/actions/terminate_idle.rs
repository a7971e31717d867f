//! Ending a session that is idle in a transaction.

use std::time::Duration;

use engine::model::{RungAction, UncommittedWrites};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::UNCOMMITTED_WRITES;
use crate::api::convert::Reader;
use crate::api::text::{self, Word};

const SECOND: Duration = Duration::from_secs(1);

/// Ends the session that is idle in a transaction and blocks others. It runs no statement that could be cancelled.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TerminateIdle {
    /// How long the session must have been idle. 1s to 24h. Default: 2m.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("must be from 1s to 24h, such as 2m"))]
    #[serde(default = "TerminateIdle::min_idle")]
    pub min_idle: text::Duration,
    /// What happens to a transaction that has written: Protect (it is left alone) or RollBack (it may be ended, and loses its
    /// work). Sessions that block others have nearly always written, FOR UPDATE included. Default: Protect.
    #[serde(default = "TerminateIdle::uncommitted_writes")]
    pub uncommitted_writes: Word,
}

impl TerminateIdle {
    fn min_idle() -> text::Duration {
        text::Duration::text("2m")
    }

    fn uncommitted_writes() -> Word {
        Word::text("Protect")
    }

    pub(super) fn read(&self, reader: &mut Reader, path: &str) -> Option<RungAction> {
        let min_idle = reader.duration(&format!("{path}.minIdle"), &self.min_idle, SECOND);
        let place = format!("{path}.uncommittedWrites");
        let writes: UncommittedWrites =
            reader.one_of(&place, &self.uncommitted_writes, UNCOMMITTED_WRITES)?;
        Some(RungAction::TerminateIdle { writes, min_idle })
    }
}
