//! The price service that the API asks for quotes. It is imagined: how long it takes is in a file, which the API reads
//! again for each quote.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lab::{Error, Result, Session};

/// What it takes when all is well: what the API assumes where there is no file, too.
pub(super) const USUAL: Duration = Duration::from_millis(20);

/// A folder of its own: what is renamed into it is seen by whoever has mounted it.
pub(super) fn folder(session: &Session) -> PathBuf {
    session.folder().join("upstream")
}

/// Where the API reads how many milliseconds it takes.
pub(super) fn delay_file(session: &Session) -> Result<PathBuf> {
    let folder = folder(session);
    std::fs::create_dir_all(&folder).map_err(Error::path("creating", &folder))?;
    Ok(folder.join("delay"))
}

/// A price service that has become slow. Dropping it makes it fast again.
pub(super) struct Slow {
    pub(super) begun: SystemTime,
    file: PathBuf,
}

impl Slow {
    pub(super) fn begin(session: &Session, delay: Duration) -> Result<Self> {
        let file = delay_file(session)?;
        write(&file, delay)?;
        Ok(Self { begun: SystemTime::now(), file })
    }

    /// Makes it fast again.
    pub(super) fn mend(&self) -> Result<()> {
        write(&self.file, USUAL)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        // Whoever could not write it leaves a folder that is about to be removed.
        let _ = self.mend();
    }
}

/// By renaming: who reads meanwhile finds the one or the other, never half of it.
fn write(file: &Path, delay: Duration) -> Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, delay.as_millis().to_string()).map_err(Error::path("writing", &new))?;
    std::fs::rename(&new, file).map_err(Error::path("renaming", &new))
}
