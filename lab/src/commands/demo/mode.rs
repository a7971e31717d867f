//! How a policy is applied: as it is written, or so that the operator only looks.

use lab::{Error, Result};

const WRITTEN: &str = "\n  mode: Auto\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The operator acts.
    Auto,
    /// It writes down what it would do: what would become of the API without it.
    Observe,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::Observe => "Observe",
        }
    }

    /// A policy of demo/policies/ in this mode.
    pub(super) fn of(self, policy: &str) -> Result<String> {
        if !policy.contains(WRITTEN) {
            return Err(Error::setup(
                "changing the mode of a policy",
                "it has no line `  mode: Auto` in its spec",
                "the files in demo/policies/ have one each",
            ));
        }
        Ok(policy.replacen(WRITTEN, &format!("\n  mode: {}\n", self.name()), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::database::read;
    use super::super::fault::Fault;
    use super::*;

    #[test]
    fn nothing_but_the_mode_of_a_policy_is_changed() {
        for fault in Fault::ALL {
            let policy = read(&fault.policy()).unwrap();
            assert_eq!(Mode::Auto.of(&policy).unwrap(), policy);
            let observed = Mode::Observe.of(&policy).unwrap();
            assert_eq!(observed.lines().filter(|line| line.trim() == "mode: Observe").count(), 1);
            assert_eq!(observed.replace("mode: Observe", "mode: Auto"), policy);
        }
        assert!(Mode::Observe.of("spec: {}").is_err());
    }
}
