//! What of a bottle does not vanish with its namespaces: its folder, and control groups.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::poll;
use crate::procfs::Identity;

/// Short: the paths of Unix sockets have little room.
const PREFIX: &str = "lab-bottle-";
/// Killed processes leave their groups within milliseconds.
const EMPTY_LIMIT: Duration = Duration::from_secs(10);

/// The folder and the control groups of a bottle, made by who starts it.
pub(super) struct Place {
    folder: PathBuf,
}

impl Place {
    /// Makes them, after removing those of bottles whose owners are gone.
    pub(super) fn create() -> Result<Self> {
        let temporary = std::env::temp_dir();
        let temporary = temporary.canonicalize().map_err(Error::path("looking for", &temporary))?;
        if temporary.starts_with("/var") || temporary.starts_with("/run") {
            return Err(Error::setup(
                "making a folder for a bottle",
                format!("{} is not what it is outside in there", temporary.display()),
                "set TMPDIR to a folder that is not below /var or /run",
            ));
        }
        remove_orphans(&temporary);
        let owner =
            Identity::own().ok_or_else(|| Error::setup("reading /proc", "it shows nothing", "mount it"))?;
        let folder = temporary.join(format!("{PREFIX}{}-{}", owner.pid, owner.start));
        // Servers in there run as other users.
        DirBuilder::new().mode(0o711).create(&folder).map_err(Error::path("creating", &folder))?;
        let place = Self { folder };
        let name = group_of(&place.folder);
        for hierarchy in hierarchies() {
            let group = hierarchy.join(&name);
            DirBuilder::new().create(&group).map_err(Error::path("creating", &group))?;
        }
        Ok(place)
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes all of it; what cannot be removed now the next one tries again.
    pub(super) fn remove(self) {
        remove(&self.folder);
    }
}

/// Makes a group of that name in that of a bottle, and says where it is in every hierarchy.
pub(super) fn make_group(folder: &Path, name: &str) -> Result<String> {
    let path = format!("{}/{name}", group_of(folder));
    for hierarchy in hierarchies() {
        let group = hierarchy.join(&path);
        DirBuilder::new().create(&group).map_err(Error::path("creating", &group))?;
    }
    Ok(path)
}

/// The process that has made a bottle with this folder.
pub(super) fn starter(folder: &Path) -> Option<i32> {
    owner_in(folder.file_name()?.to_str()?.strip_prefix(PREFIX)?).map(|owner| owner.pid)
}

/// The name of a bottle's control group.
fn group_of(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What this machine's control groups lack.
pub(super) fn missing_groups() -> Option<String> {
    let all = hierarchies();
    if all.is_empty() {
        return Some("a real node needs control groups, and none are mounted".to_owned());
    }
    let name = format!("{PREFIX}probe-{}", std::process::id());
    all.iter().find_map(|hierarchy| {
        let probe = hierarchy.join(&name);
        let made = std::fs::create_dir(&probe);
        let _ = std::fs::remove_dir(&probe);
        made.err()
            .map(|error| format!("a real node needs control groups of its own: {}: {error}", probe.display()))
    })
}

/// Where control groups of the first version (one hierarchy for each kind) and of the second are mounted.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let of_groups = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(place))
    };
    mounts.lines().filter_map(of_groups).collect()
}

fn remove_orphans(temporary: &Path) {
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name.strip_prefix(PREFIX).and_then(owner_in) else { continue };
        if !owner.is_alive() {
            remove(&entry.path());
        }
    }
}

/// The owner that a folder's name tells.
fn owner_in(name: &str) -> Option<Identity> {
    let mut parts = name.split('-');
    Some(Identity { pid: parts.next()?.parse().ok()?, start: parts.next()?.parse().ok()? })
}

fn remove(folder: &Path) {
    let name = group_of(folder);
    for hierarchy in hierarchies() {
        poll::until_blocking(EMPTY_LIMIT, || remove_group(&hierarchy.join(&name)));
    }
    if !crate::session::is_to_be_kept() {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// A group can be removed when nothing is in it, and with nothing but `rmdir`; says whether it is gone.
fn remove_group(group: &Path) -> bool {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
    !group.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_known_by_the_name_of_its_folder() {
        let owner = owner_in("42-123456").unwrap();
        assert_eq!((owner.pid, owner.start), (42, 123_456));
        assert_eq!(owner_in("probe"), None);
    }
}
