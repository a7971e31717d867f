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
    /// Why it is violated to this day, where it has been understood and is not mended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmended: Option<String>,
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

    /// All that were written down in that folder, in the order of their names.
    ///
    /// # Errors
    /// The folder or one of them cannot be read or understood.
    pub fn all(folder: &Path) -> io::Result<Vec<(PathBuf, Self)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            files.push(entry?.path());
        }
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        files.into_iter().map(|path| Self::read(&path).map(|read| (path, read))).collect()
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
