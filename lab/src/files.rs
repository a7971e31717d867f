//! Folders that are handed from one user to another.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::error::{Error, Result};

/// The first folder on the way to `path` (itself included) that other users cannot pass.
pub(crate) fn closed_ancestor(path: &Path) -> Option<PathBuf> {
    let mut way: Vec<&Path> = path.ancestors().filter(|folder| !folder.as_os_str().is_empty()).collect();
    way.reverse();
    let is_closed =
        |folder: &Path| fs::metadata(folder).is_ok_and(|data| data.permissions().mode() & 0o001 == 0);
    way.into_iter().find(|folder| is_closed(folder)).map(Path::to_path_buf)
}

/// How the files of a tree get to their new place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// Each tree gets files of its own: they will be written to.
    Copy,
    /// The files are shared where the file system allows it: they are only read.
    Share,
}

/// Reproduces the tree `from` at `to`, which must not exist, for `owner`; files that `wanted` refuses are left out.
pub(crate) fn transfer(
    from: &Path,
    to: &Path,
    how: Transfer,
    owner: Option<&Account>,
    wanted: &dyn Fn(&Path) -> bool,
) -> Result<()> {
    let data = fs::symlink_metadata(from).map_err(Error::path("reading", from))?;
    if data.is_dir() {
        fs::create_dir(to).map_err(Error::path("creating", to))?;
        for entry in fs::read_dir(from).map_err(Error::path("reading", from))? {
            let entry = entry.map_err(Error::path("reading", from))?;
            if wanted(&entry.path()) {
                transfer(&entry.path(), &to.join(entry.file_name()), how, owner, wanted)?;
            }
        }
        fs::set_permissions(to, data.permissions()).map_err(Error::path("setting the mode of", to))?;
    } else if data.is_symlink() {
        let target = fs::read_link(from).map_err(Error::path("reading", from))?;
        return std::os::unix::fs::symlink(target, to).map_err(Error::path("linking", to));
    } else if how == Transfer::Copy || fs::hard_link(from, to).is_err() {
        fs::copy(from, to).map_err(Error::path("copying", from))?;
    }
    match owner {
        Some(owner) if how == Transfer::Copy => {
            chown(to, Some(owner.uid), Some(owner.gid)).map_err(Error::path("handing over", to))
        }
        _ => Ok(()),
    }
}

/// [`transfer`] on a thread where blocking is allowed.
pub(crate) async fn transfer_all(
    from: &Path,
    to: &Path,
    how: Transfer,
    owner: Option<&Account>,
    wanted: fn(&Path) -> bool,
) -> Result<()> {
    let (from, to, owner) = (from.to_owned(), to.to_owned(), owner.cloned());
    let doing = format!("copying {} to {}", from.display(), to.display());
    tokio::task::spawn_blocking(move || transfer(&from, &to, how, owner.as_ref(), &wanted))
        .await
        .map_err(|error| Error::io(doing)(std::io::Error::other(error)))?
}

/// A file that is either as it was or as it shall be, never half of it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    fs::write(&new, content).map_err(Error::path("writing", &new))?;
    fs::rename(&new, path).map_err(Error::path("replacing", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_arrives_whole_without_what_is_not_wanted() {
        let place = std::env::temp_dir().join(format!("lab-files-{}", crate::random::name().unwrap()));
        fs::create_dir_all(place.join("from/deep")).unwrap();
        fs::write(place.join("from/deep/file"), "content").unwrap();
        fs::write(place.join("from/heavy"), "not wanted").unwrap();
        std::os::unix::fs::symlink("deep/file", place.join("from/link")).unwrap();
        for (to, how) in [("copied", Transfer::Copy), ("shared", Transfer::Share)] {
            let to = place.join(to);
            transfer(&place.join("from"), &to, how, None, &|path| !path.ends_with("heavy")).unwrap();
            assert_eq!(fs::read_to_string(to.join("link")).unwrap(), "content");
            assert!(!to.join("heavy").exists());
        }
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn a_folder_that_keeps_others_out_is_found() {
        let place = std::env::temp_dir().join(format!("lab-files-{}", crate::random::name().unwrap()));
        fs::create_dir_all(place.join("inner")).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(closed_ancestor(&place.join("inner")), Some(place.clone()));
        fs::remove_dir_all(place).unwrap();
    }
}
