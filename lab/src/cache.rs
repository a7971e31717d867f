//! What is kept from one run to the next: binaries that were built or unpacked, and an empty database.

use std::fs::{self, File, TryLockError};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::poll;
use crate::say::Voice;

/// Longer than the longest build on a slow machine.
const LOCK_LIMIT: Duration = Duration::from_secs(3600);

/// The cache folder, `${XDG_CACHE_HOME:-~/.cache}/latency-operator`. May be deleted at any time: all of it can be
/// made again.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache of this user, creating it where it is missing.
    pub fn open() -> Result<Self> {
        let variable =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
        let base = base.ok_or_else(|| {
            Error::setup(
                "looking for the cache folder",
                "neither XDG_CACHE_HOME nor HOME is an absolute path",
                "set XDG_CACHE_HOME",
            )
        })?;
        Self::at(base.join("latency-operator"))
    }

    /// Opens a cache in another place.
    pub fn at(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        fs::create_dir_all(&root).map_err(Error::path("creating", &root))?;
        Ok(Self { root })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder for things that may be written to at any time.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.root.join(name);
        fs::create_dir_all(&folder).map_err(Error::path("creating", &folder))?;
        Ok(folder)
    }

    /// The log of something that fills the cache.
    pub(crate) fn log(&self, name: &str) -> Result<PathBuf> {
        Ok(self.folder("logs")?.join(format!("{name}.log")))
    }

    /// The folder `key`, filled by `build` if it is not there yet. Whoever comes while another process builds waits
    /// for it; what was begun and not finished is never seen.
    pub(crate) async fn entry<F, B>(&self, key: &str, voice: &Voice, build: B) -> Result<PathBuf>
    where
        B: FnOnce(PathBuf) -> F,
        F: Future<Output = Result<()>>,
    {
        let entry = self.root.join(key);
        if entry.exists() {
            return Ok(entry);
        }
        let _lock = self.lock(key, voice).await?;
        if entry.exists() {
            return Ok(entry);
        }
        let unfinished = self.root.join(format!(".unfinished-{key}"));
        // Only the holder of the lock writes there: what is there now was left by somebody who was killed.
        remove(&unfinished)?;
        fs::create_dir(&unfinished).map_err(Error::path("creating", &unfinished))?;
        build(unfinished.clone()).await?;
        fs::rename(&unfinished, &entry).map_err(Error::path("moving to its place", &entry))?;
        Ok(entry)
    }

    /// Forgets an entry that turned out to be unusable.
    pub(crate) async fn forget(&self, key: &str, voice: &Voice) -> Result<()> {
        let _lock = self.lock(key, voice).await?;
        remove(&self.root.join(key))
    }

    async fn lock(&self, key: &str, voice: &Voice) -> Result<File> {
        let path = self.folder("locks")?.join(key);
        let file =
            File::options().create(true).append(true).open(&path).map_err(Error::path("opening", &path))?;
        let mut said = false;
        let locked = poll::until_found(LOCK_LIMIT, || {
            std::future::ready(match file.try_lock() {
                Ok(()) => Some(Ok(())),
                Err(TryLockError::Error(error)) => Some(Err(error)),
                Err(TryLockError::WouldBlock) => {
                    if !std::mem::replace(&mut said, true) {
                        voice.say(&format!("another process prepares {key}; waiting for it"));
                    }
                    None
                }
            })
        });
        match locked.await {
            Some(result) => result.map_err(Error::path("locking", &path))?,
            None => {
                return Err(Error::setup(
                    format!("waiting for the other process that prepares {key}"),
                    format!("it still holds {} after {LOCK_LIMIT:?}", path.display()),
                    "end that process (`fuser` on the file names it)",
                ));
            }
        }
        Ok(file)
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::path("removing", folder)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::say::Stderr;

    fn scratch() -> Cache {
        let name = crate::random::name().unwrap();
        Cache::at(std::env::temp_dir().join(format!("lab-cache-{name}"))).unwrap()
    }

    #[tokio::test]
    async fn two_who_want_the_same_build_it_once() {
        let cache = scratch();
        let voice: Voice = Arc::new(Stderr);
        let builds = AtomicU32::new(0);
        let build = |folder: PathBuf| {
            builds.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::task::yield_now().await;
                fs::write(folder.join("tool"), "x").map_err(Error::io("writing"))
            }
        };
        let (first, second) =
            tokio::join!(cache.entry("tool-1", &voice, build), cache.entry("tool-1", &voice, build));
        assert!(first.unwrap().join("tool").exists());
        assert!(second.unwrap().join("tool").exists());
        assert_eq!(builds.load(Ordering::Relaxed), 1);
        fs::remove_dir_all(cache.root()).unwrap();
    }

    #[tokio::test]
    async fn a_failed_build_leaves_nothing_that_looks_finished() {
        let cache = scratch();
        let voice: Voice = Arc::new(Stderr);
        let fail = |folder: PathBuf| async move {
            fs::write(folder.join("half"), "x").map_err(Error::io("writing"))?;
            Err(Error::setup("building", "no compiler", "install one"))
        };
        assert!(cache.entry("tool-2", &voice, fail).await.is_err());
        let entry = cache.entry("tool-2", &voice, |_| std::future::ready(Ok(()))).await.unwrap();
        assert!(!entry.join("half").exists());
        fs::remove_dir_all(cache.root()).unwrap();
    }
}
