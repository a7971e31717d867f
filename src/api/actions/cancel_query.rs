//! Cancelling a statement.

use std::time::Duration;

use engine::actions::{self, CancelQuerySettings};
use engine::model::{ActionKind, UncommittedWrites};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::stored::Keep;
use super::{SessionTarget, Settings, UNCOMMITTED_WRITES};
use crate::api::convert::Reader;
use crate::api::text::{self, Word};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Cancels the one statement that is the cause.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct CancelQuery {
    /// What happens to a transaction that has written: Protect (it is left alone) or RollBack (it may be cancelled, and loses
    /// its work). Sessions that block others have nearly always written, FOR UPDATE included. Default: Protect.
    #[serde(default = "CancelQuery::uncommitted_writes")]
    pub uncommitted_writes: Word,
    /// Ends the session if its statement still runs this long after it was cancelled and the breach goes on. Needs the action
    /// TerminateIdle to be enabled. 1s to 1h. Left out: never. Example: 20s
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('1h')").message("must be from 1s to 1h, such as 20s"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate_after: Option<text::Duration>,
}

impl CancelQuery {
    fn uncommitted_writes() -> Word {
        Word::text("Protect")
    }
}

impl Settings for CancelQuery {
    type Read = CancelQuerySettings;
    const BESIDES: &[(ActionKind, &str)] = &[(ActionKind::TerminateIdle, "terminateAfter")];
    const WORDS: &[(&str, &[&str])] = &[("uncommittedWrites", UNCOMMITTED_WRITES)];

    fn read(&self, reader: &mut Reader, path: &str) -> Option<CancelQuerySettings> {
        let place = format!("{path}.terminateAfter");
        let terminate_after = self.terminate_after.as_ref().map(|text| reader.duration(&place, text, SECOND));
        if terminate_after.is_some_and(|span| span > HOUR) {
            reader.problem(place, "it is too long; the most is 1h");
        }
        let place = format!("{path}.uncommittedWrites");
        let writes: UncommittedWrites =
            reader.one_of(&place, &self.uncommitted_writes, UNCOMMITTED_WRITES)?;
        Some(CancelQuerySettings { writes, terminate_after })
    }
}

impl Keep for actions::CancelQuery {
    type Stored = SessionTarget;

    fn read(stored: &SessionTarget, reader: &mut Reader, _: &str, path: &str) -> Option<Self> {
        stored.read(reader, path).map(Self)
    }

    fn stored(&self) -> SessionTarget {
        SessionTarget::of(&self.0)
    }
}

impl Keep for actions::TerminateQuery {
    type Stored = SessionTarget;

    fn read(stored: &SessionTarget, reader: &mut Reader, _: &str, path: &str) -> Option<Self> {
        stored.read(reader, path).map(Self)
    }

    fn stored(&self) -> SessionTarget {
        SessionTarget::of(&self.0)
    }
}
