//! Ending a session that is idle in a transaction.

use std::time::Duration;

use engine::actions::{self, TerminateIdleSettings};
use engine::model::{ActionKind, UncommittedWrites};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::stored::Keep;
use super::{SessionTarget, Settings, UNCOMMITTED_WRITES};
use crate::api::convert::Reader;
use crate::api::text::{self, Instant, Word};

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
}

impl Settings for TerminateIdle {
    type Read = TerminateIdleSettings;
    const BESIDES: &[(ActionKind, &str)] = &[];
    const WORDS: &[(&str, &[&str])] = &[("uncommittedWrites", UNCOMMITTED_WRITES)];

    fn read(&self, reader: &mut Reader, path: &str) -> Option<TerminateIdleSettings> {
        let min_idle = reader.duration(&format!("{path}.minIdle"), &self.min_idle, SECOND);
        let place = format!("{path}.uncommittedWrites");
        let writes: UncommittedWrites =
            reader.one_of(&place, &self.uncommitted_writes, UNCOMMITTED_WRITES)?;
        Some(TerminateIdleSettings { writes, min_idle })
    }
}

/// Session that is idle in a transaction, to end.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StoredTerminateIdle {
    /// The session.
    pub target: SessionTarget,
    /// Time since which it has been idle. With another time it has done something since, and is left alone.
    pub idle_since: Instant,
    /// Minimum time that it must have been idle.
    pub min_idle: text::Duration,
}

impl Keep for actions::TerminateIdle {
    type Stored = StoredTerminateIdle;

    fn read(stored: &StoredTerminateIdle, reader: &mut Reader, _: &str, path: &str) -> Option<Self> {
        let target = stored.target.read(reader, &format!("{path}.target"));
        let min_idle = reader.duration(&format!("{path}.minIdle"), &stored.min_idle, Duration::ZERO);
        Some(Self { target: target?, idle_since: stored.idle_since.0, min_idle })
    }

    fn stored(&self) -> StoredTerminateIdle {
        StoredTerminateIdle {
            target: SessionTarget::of(&self.target),
            idle_since: Instant(self.idle_since),
            min_idle: text::Duration::of(self.min_idle),
        }
    }
}
