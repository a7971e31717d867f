//! Adding replicas for a while.

use std::time::Duration;

use engine::actions::{self, ScaleSettings, ScaleStep};
use engine::model::ActionKind;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::stored::Keep;
use super::{Settings, StoredReplicas};
use crate::api::convert::Reader;
use crate::api::text::{self, Step, Word};

const SECOND: Duration = Duration::from_secs(1);

/// Words of `autoscalerBounds`.
const AUTOSCALER_BOUNDS: &[&str] = &["None", "MinReplicas", "MinAndMaxReplicas"];

/// Adds replicas to the target, and removes them again when the objectives are met.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Scale {
    /// How much is added at a time: a number of replicas, or a percentage of those there are, rounded up. Default: 50%. Example: 2
    #[serde(default = "Scale::step")]
    pub step: Step,
    /// Maximum number of replicas that the target is scaled to. Example: 12
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: i32,
    /// How long added replicas are kept at most. 1s to 168h. Default: 1h.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('168h')").message("must be from 1s to 168h, such as 1h"))]
    #[serde(default = "Scale::max_hold")]
    pub max_hold: text::Duration,
    /// Which bounds of an autoscaler may be raised: None (a target with an autoscaler is left alone), MinReplicas or
    /// MinAndMaxReplicas. This version stores it and leaves such targets alone. Default: None.
    #[serde(default = "Scale::autoscaler_bounds")]
    pub autoscaler_bounds: Word,
}

impl Scale {
    fn step() -> Step {
        Step::Share("50%".to_owned())
    }

    fn max_hold() -> text::Duration {
        text::Duration::text("1h")
    }

    fn autoscaler_bounds() -> Word {
        Word::text("None")
    }
}

impl Settings for Scale {
    type Read = ScaleSettings;
    const BESIDES: &[(ActionKind, &str)] = &[];
    const WORDS: &[(&str, &[&str])] = &[("autoscalerBounds", AUTOSCALER_BOUNDS)];

    fn read(&self, reader: &mut Reader, path: &str) -> Option<ScaleSettings> {
        let place = format!("{path}.step");
        let step = match &self.step {
            Step::Count(count) => ScaleStep::Count(reader.count(&place, *count, 1)),
            Step::Share(share) => {
                let share = reader.ratio(&place, &text::Ratio(share.clone()));
                if share <= 0.0 {
                    reader.problem(&place, "a step adds something; write for example \"50%\" or 2");
                }
                ScaleStep::Share(share)
            }
        };
        let max = reader.count(&format!("{path}.maxReplicas"), self.max_replicas, 1);
        let max_hold = reader.duration(&format!("{path}.maxHold"), &self.max_hold, SECOND);
        let place = format!("{path}.autoscalerBounds");
        match self.autoscaler_bounds.0.as_str() {
            "None" => {}
            known if AUTOSCALER_BOUNDS.contains(&known) => reader.unused(place),
            unknown => {
                let known = crate::api::unions::listed(AUTOSCALER_BOUNDS);
                reader.problem(place, format!("this version does not know {unknown}; it knows {known}"));
            }
        }
        Some(ScaleSettings { step, max, max_hold })
    }
}

impl Keep for actions::Scale {
    type Stored = StoredReplicas;

    fn read(stored: &StoredReplicas, reader: &mut Reader, _: &str, path: &str) -> Option<Self> {
        stored.read(reader, path).map(Self)
    }

    fn stored(&self) -> StoredReplicas {
        StoredReplicas::of(&self.0)
    }
}
