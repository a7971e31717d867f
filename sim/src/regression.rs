//! Scripts that once violated something, written down so that a test replays them.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::episode::Script;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regression {
    /// The invariant that was violated.
    pub violates: String,
    /// How.
    pub message: String,
    /// The bug that has to be planted for it, where the code has not had it since it can be simulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug: Option<String>,
    /// What has to happen for it.
    pub script: Script,
}

impl Regression {
    /// Reads one that was written down.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        serde_json::from_str(&text).map_err(io::Error::other)
    }

    /// Writes it down under a name that says what it violates.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let bug = self.bug.as_ref().map(|bug| format!("-{bug}")).unwrap_or_default();
        let name = format!("{}{bug}-{}.json", self.violates.to_lowercase(), self.script.seed);
        let path = folder.join(name);
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        std::fs::write(&path, text + "\n")?;
        Ok(path)
    }
}
