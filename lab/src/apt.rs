//! Debian packages without installing them: downloaded by `apt-get`, unpacked by `dpkg-deb`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::account;
use crate::error::{Error, Result};
use crate::packages::Package;
use crate::session::Session;
use crate::spec::Spec;

const DOWNLOAD_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Downloads a package with all that it depends on and that is not installed, and unpacks it into `root`.
///
/// With `everything`, what is installed counts as missing too.
pub(crate) async fn unpack(
    session: &Session,
    package: &Package,
    key: &str,
    everything: bool,
    root: PathBuf,
) -> Result<()> {
    let names = package.debian.join(" ");
    must_have("apt-get", package)?;
    must_have("dpkg-deb", package)?;
    let log = session.cache().log(&format!("download-{key}"))?;
    session.say(&format!(
        "downloading {} from the distribution's packages ({}, once); log: {}",
        package.name,
        package.size,
        log.display()
    ));
    let apt = Apt { session, work: root.join(".apt"), log, everything };
    apt.prepare()?;
    let what = format!("downloading {names}");
    // The lists of the system are used where they are good enough: fetching our own takes longer than the packages.
    if apt.download(package, &what, Lists::OfSystem).await.is_err() {
        session.say("the system's package lists are missing or old; fetching own ones");
        apt.update().await?;
        apt.download(package, &what, Lists::Own).await?;
    }
    for archive in apt.archives()? {
        let spec = Spec::new("dpkg-deb", "dpkg-deb").arg("-x").arg(&archive).arg(&root);
        let doing = format!("unpacking {}", archive.display());
        session.run(spec, DOWNLOAD_LIMIT).await?.success(&doing)?;
    }
    fs::remove_dir_all(&apt.work).map_err(Error::path("removing", &apt.work))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    OfSystem,
    Own,
}

struct Apt<'a> {
    session: &'a Session,
    work: PathBuf,
    log: PathBuf,
    everything: bool,
}

impl Apt<'_> {
    fn prepare(&self) -> Result<()> {
        for folder in ["archives/partial", "lists/partial"] {
            let folder = self.work.join(folder);
            fs::create_dir_all(&folder).map_err(Error::path("creating", &folder))?;
        }
        let nothing = self.work.join("nothing-installed");
        fs::write(&nothing, "").map_err(Error::path("writing", &nothing))
    }

    fn command(&self, lists: Lists) -> Spec {
        let mut spec = Spec::new("apt-get", "apt-get")
            .inherit_env()
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .log(&self.log)
            .arg("-y")
            .args(set("Dir::Cache", &self.work))
            .args(set("Dir::Cache::archives", &self.work.join("archives")))
            // The locks are for those who change the system. An ordinary user could not take them either.
            .args(["-o", "Debug::NoLocking=1"]);
        if account::is_root() {
            // apt's own user could not write into root's cache.
            spec = spec.args(["-o", "APT::Sandbox::User=root"]);
        }
        if lists == Lists::Own {
            spec = spec.args(set("Dir::State::lists", &self.work.join("lists")));
        }
        if self.everything {
            spec = spec.args(set("Dir::State::status", &self.work.join("nothing-installed")));
        }
        spec
    }

    async fn update(&self) -> Result<()> {
        let spec = self.command(Lists::Own).arg("update");
        self.session.run_long(spec, "fetching package lists", DOWNLOAD_LIMIT).await
    }

    async fn download(&self, package: &Package, what: &str, lists: Lists) -> Result<()> {
        let spec = self
            .command(lists)
            .args(["install", "--download-only", "--no-install-recommends"])
            .args(package.debian);
        self.session.run_long(spec, what, DOWNLOAD_LIMIT).await
    }

    /// What was downloaded. The C library is left out: it belongs to the loader, which is the system's.
    fn archives(&self) -> Result<Vec<PathBuf>> {
        let folder = self.work.join("archives");
        let entries = fs::read_dir(&folder).map_err(Error::path("reading", &folder))?;
        let is_wanted = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            path.extension().is_some_and(|extension| extension == "deb") && !name.starts_with("libc6_")
        };
        let mut archives: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(is_wanted).collect();
        archives.sort();
        Ok(archives)
    }
}

fn set(name: &str, path: &Path) -> [OsString; 2] {
    let mut text = OsString::from(format!("{name}="));
    text.push(path);
    ["-o".into(), text]
}

fn must_have(program: &str, package: &Package) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|folder| folder.join(program).is_file()) {
        return Ok(());
    }
    Err(Error::setup(
        format!("downloading {}", package.name),
        format!("{} is not installed, and there is no {program} to get it with", package.name),
        format!(
            "install it by this system's own means (on Debian and Ubuntu: {}), or set {}",
            package.debian.join(" "),
            package.overridden_by
        ),
    ))
}
