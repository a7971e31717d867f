//! Where objectives are read: what all kinds of sources have in common.
//!
//! A kind has one file or folder with its [`ObjectiveSource`], and one line in the table of [`super`].

use std::time::Duration;

use engine::model::{ByName, Measurement, Observed, Policy};

/// A kind of source. It measures those objectives of a policy that name it, and passes over the others.
pub trait ObjectiveSource: Send + Sync {
    /// What it measures now, by objective. `elevated`: something is wrong, so nothing old is used and details are read, too.
    fn measure(
        &self,
        policy: &Policy,
        elevated: bool,
    ) -> impl Future<Output = ByName<Observed<Measurement>>> + Send;

    /// Why it can measure nothing for some of the policy's objectives, each with the way out.
    fn problems(&self, policy: &Policy) -> Vec<String>;

    /// How often it has something new for the policy; none where each reading tells something new.
    fn resolution(&self, policy: &Policy) -> Option<Duration>;
}

/// Makes a field from each line of the table of sources, and asks all of them at once.
macro_rules! sources {
    ($($field:ident: $source:ty;)*) => {
        /// The sources of all kinds.
        pub struct Sources {
            $(
                #[allow(missing_docs, reason = "its type says it")]
                pub $field: $source,
            )*
        }

        impl Sources {
            /// What is measured for each objective. `elevated`: something is wrong, so nothing old is used.
            pub async fn measure(
                &self,
                policy: &engine::model::Policy,
                elevated: bool,
            ) -> engine::model::ByName<engine::model::Observed<engine::model::Measurement>> {
                use sources::ObjectiveSource;
                let ($($field,)*) = futures::join!($(self.$field.measure(policy, elevated)),*);
                std::iter::empty()$(.chain($field))*.collect()
            }

            /// Why some of a policy's objectives can never be measured, each with the way out.
            #[must_use]
            pub fn problems(&self, policy: &engine::model::Policy) -> Vec<String> {
                use sources::ObjectiveSource;
                [$(self.$field.problems(policy)),*].concat()
            }

            /// How often the slowest source of a policy has something new; none where each reading tells something new.
            #[must_use]
            pub fn resolution(&self, policy: &engine::model::Policy) -> Option<std::time::Duration> {
                use sources::ObjectiveSource;
                [$(self.$field.resolution(policy)),*].into_iter().flatten().max()
            }
        }
    };
}
pub(super) use sources;
