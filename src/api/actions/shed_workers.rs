//! Taking background workers away for a while.

use std::time::Duration;

use engine::actions::{self, ShedWorkersSettings};
use engine::model::ActionKind;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::stored::Keep;
use super::{Settings, StoredReplicas};
use crate::api::convert::Reader;
use crate::api::text::{self, Label};

const SECOND: Duration = Duration::from_secs(1);

/// Scales declared background workers down, and gives them back when the objectives are met.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ShedWorkers {
    /// Name of the dependency of type Workers. Example: celery
    pub dependency_name: Label,
    /// How many replicas the workers keep. Default: 1.
    #[serde(default = "ShedWorkers::min_replicas")]
    #[schemars(range(min = 1, max = 10_000))]
    pub min_replicas: i32,
    /// How long they are kept away at most; then they are given back in any case. 1s to 168h. Default: 1h. Example: 30m
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('168h')").message("must be from 1s to 168h, such as 30m"))]
    #[serde(default = "ShedWorkers::max_hold")]
    pub max_hold: text::Duration,
}

impl ShedWorkers {
    fn min_replicas() -> i32 {
        1
    }

    fn max_hold() -> text::Duration {
        text::Duration::text("1h")
    }
}

impl Settings for ShedWorkers {
    type Read = ShedWorkersSettings;
    const BESIDES: &[(ActionKind, &str)] = &[];
    const WORDS: &[(&str, &[&str])] = &[];

    fn read(&self, reader: &mut Reader, path: &str) -> Option<ShedWorkersSettings> {
        let dependency = self.dependency_name.0.clone();
        reader.refers(format!("{path}.dependencyName"), &dependency, "Workers");
        let min = reader.count(&format!("{path}.minReplicas"), self.min_replicas, 1);
        let max_hold = reader.duration(&format!("{path}.maxHold"), &self.max_hold, SECOND);
        Some(ShedWorkersSettings { dependency, min, max_hold })
    }
}

/// Background workers to take away.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StoredShedWorkers {
    /// Name of the dependency.
    pub dependency_name: Label,
    /// Replicas of the workers.
    pub replicas: StoredReplicas,
}

impl Keep for actions::ShedWorkers {
    type Stored = StoredShedWorkers;

    fn read(stored: &StoredShedWorkers, reader: &mut Reader, _: &str, path: &str) -> Option<Self> {
        let set = stored.replicas.read(reader, &format!("{path}.replicas"))?;
        Some(Self { dependency: stored.dependency_name.0.clone(), set })
    }

    fn stored(&self) -> StoredShedWorkers {
        StoredShedWorkers {
            dependency_name: Label(self.dependency.clone()),
            replicas: StoredReplicas::of(&self.set),
        }
    }
}
