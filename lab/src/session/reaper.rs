//! Starts the reaper: for this session, and for those that nobody else tidies up after.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::{folder_prefix, no_proc, write_new};
use crate::error::{Error, Result};
use crate::poll;
use crate::procfs::Identity;
use crate::say::Voice;

const SCRIPT: &str = include_str!("reaper.sh");
/// The reaper itself gives up on processes after four seconds and on the folder after three.
const LIMIT: Duration = Duration::from_secs(20);
/// A folder without an owner's name in it, this old, was left by somebody who died while creating it.
const NEWBORN: Duration = Duration::from_secs(60);

/// Starts the reaper of a new session and writes down who watches over it.
pub(super) fn start(folder: &Path) -> Result<Child> {
    let owner = folder.join("owner");
    let own = Identity::own().ok_or_else(no_proc)?;
    write_new(&owner, &identity_line(own))?;
    let reaper = launch(folder, Stdio::piped())?;
    let identity = i32::try_from(reaper.id()).ok().and_then(Identity::of).ok_or_else(no_proc)?;
    write_new(&owner, &identity_line(identity))?;
    Ok(reaper)
}

fn launch(folder: &Path, input: Stdio) -> Result<Child> {
    Command::new("setsid")
        .args(["/bin/sh", "-c", SCRIPT, "lab-reaper"])
        .arg(folder)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/")
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::io("starting the reaper through setsid (package util-linux)"))
}

/// Waits until the reaper has done its work, and says whether all of it.
pub(super) fn finished(reaper: &mut Child) -> bool {
    let mut status = None;
    poll::until_blocking(LIMIT, || {
        status = reaper.try_wait().ok().flatten();
        status.is_some()
    });
    status.is_some_and(|status| status.success())
}

/// Ends what sessions left in `place` whose owner and whose reaper are gone.
pub(super) async fn end_orphans(place: &Path, voice: &Voice) -> Result<()> {
    let (place, voice) = (place.to_owned(), Arc::clone(voice));
    tokio::task::spawn_blocking(move || end_orphans_blocking(&place, &voice))
        .await
        .map_err(|error| Error::io("ending what dead sessions left")(std::io::Error::other(error)))
}

fn end_orphans_blocking(place: &Path, voice: &Voice) {
    let prefix = folder_prefix();
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let folder = entry.path();
        let is_session = entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix));
        if !is_session || !is_ours(&entry) || !is_orphan(&folder) {
            continue;
        }
        voice.say(&format!("ending what a dead session left: {}", folder.display()));
        let reaper = launch(&folder, Stdio::null());
        if !reaper.is_ok_and(|mut reaper| finished(&mut reaper)) {
            voice.say(&format!("could not end it; see {} and remove it by hand", folder.display()));
        }
    }
}

/// The names begin alike for everybody who may write to the temporary folder.
fn is_ours(entry: &std::fs::DirEntry) -> bool {
    use std::os::unix::fs::MetadataExt;
    entry.metadata().is_ok_and(|data| data.is_dir() && data.uid() == rustix::process::geteuid().as_raw())
}

fn is_orphan(folder: &Path) -> bool {
    if folder.join("ended").exists() {
        return false;
    }
    let owners = std::fs::read_to_string(folder.join("owner")).unwrap_or_default();
    if owners.is_empty() {
        let age = std::fs::metadata(folder).and_then(|data| data.modified()).map(|time| time.elapsed());
        return matches!(age, Ok(Ok(age)) if age > NEWBORN);
    }
    owners.lines().filter_map(parse_identity).all(|owner| !owner.is_alive())
}

fn identity_line(identity: Identity) -> Vec<u8> {
    format!("{} {}\n", identity.pid, identity.start).into_bytes()
}

fn parse_identity(line: &str) -> Option<Identity> {
    let (pid, start) = line.split_once(' ')?;
    Some(Identity { pid: pid.parse().ok()?, start: start.parse().ok()? })
}
