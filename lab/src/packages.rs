//! Programs that the distribution packages: what is installed is used, what is not is downloaded and unpacked into
//! the cache. Nothing is ever installed, so no daemon starts and no root is needed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::apt;
use crate::error::{Error, Result};
use crate::files::{self, Transfer};
use crate::session::Session;
use crate::spec::Spec;

/// Programs from a Debian package. A new one is one more of these.
#[derive(Debug)]
pub struct Package {
    /// What people call it.
    pub name: &'static str,
    /// The packages that hold it; what they depend on comes along.
    pub debian: &'static [&'static str],
    /// The environment variable that names another one.
    pub overridden_by: &'static str,
    /// Where in the file system its programs are.
    pub place: Place,
    /// The programs that the laboratory runs; the first one is asked for its version.
    pub programs: &'static [&'static str],
    /// How it is asked for its version.
    pub version_argument: &'static str,
    /// What a download weighs, for people who wait for it.
    pub size: &'static str,
}

/// Where a package puts its programs.
#[derive(Debug)]
pub enum Place {
    /// Into the folders that are searched for programs; the environment variable names the program.
    Path,
    /// Into `<parent>/<version>/bin`, so that versions live beside each other; the environment variable names the
    /// folder.
    Versioned {
        /// The folder with the versions, without the leading slash.
        parent: &'static str,
        /// The oldest version that will do.
        at_least: u32,
    },
    /// Into several folders: the programs are named with theirs, from the root; the environment variable names another
    /// root.
    Root,
}

/// PostgreSQL: whatever version the distribution has.
pub const POSTGRESQL: Package = Package {
    name: "PostgreSQL",
    debian: &["postgresql"],
    overridden_by: "LAB_POSTGRES_BIN",
    place: Place::Versioned { parent: "usr/lib/postgresql", at_least: 14 },
    programs: &["postgres", "initdb", "pg_resetwal"],
    version_argument: "--version",
    size: "50 to 100 MB",
};

/// Prometheus, with `promtool`, which comes in the same package and is asked for only where rules are checked.
pub const PROMETHEUS: Package = Package {
    name: "Prometheus",
    debian: &["prometheus"],
    overridden_by: "LAB_PROMETHEUS",
    place: Place::Path,
    programs: &["prometheus"],
    version_argument: "--version",
    size: "20 to 40 MB",
};

/// Caddy, the edge.
pub const CADDY: Package = Package {
    name: "Caddy",
    debian: &["caddy"],
    overridden_by: "LAB_CADDY",
    place: Place::Path,
    programs: &["caddy"],
    version_argument: "version",
    size: "10 to 20 MB",
};

/// Redis, with `redis-cli` from the package that it depends on.
pub const REDIS: Package = Package {
    name: "Redis",
    debian: &["redis-server"],
    overridden_by: "LAB_REDIS",
    place: Place::Path,
    programs: &["redis-server"],
    version_argument: "--version",
    size: "2 MB",
};

/// PgBouncer, a pooler in front of PostgreSQL.
pub const PGBOUNCER: Package = Package {
    name: "PgBouncer",
    debian: &["pgbouncer"],
    overridden_by: "LAB_PGBOUNCER",
    place: Place::Path,
    programs: &["pgbouncer"],
    version_argument: "--version",
    size: "1 MB",
};

/// Python, for the application of the demo and its load.
pub const PYTHON: Package = Package {
    name: "Python",
    debian: &["python3"],
    overridden_by: "LAB_PYTHON",
    place: Place::Path,
    programs: &["python3"],
    version_argument: "--version",
    size: "10 to 20 MB",
};

/// What runs containers on a real node. They are started by each other, so they have to come from one place.
pub const CONTAINERS: Package = Package {
    name: "containerd, runc, CNI plugins and nftables",
    debian: &["containerd", "runc", "containernetworking-plugins", "nftables"],
    overridden_by: "LAB_CONTAINERS",
    place: Place::Root,
    programs: &[
        "usr/bin/containerd",
        "usr/bin/containerd-shim-runc-v2",
        "usr/bin/ctr",
        "usr/sbin/runc",
        "usr/sbin/nft",
        "usr/lib/cni/bridge",
        "usr/lib/cni/host-local",
        "usr/lib/cni/loopback",
    ],
    version_argument: "--version",
    size: "40 MB",
};

/// All that there are.
pub const ALL: [&Package; 7] = [&POSTGRESQL, &PROMETHEUS, &CADDY, &REDIS, &PGBOUNCER, &PYTHON, &CONTAINERS];

/// Where programs came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable named them.
    Override,
    /// They are installed on this machine.
    System,
    /// They were unpacked into the cache.
    Cache,
}

/// The programs of one package, ready to run.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The folder that they are in.
    pub folder: PathBuf,
    /// What the first program says about its version.
    pub version: String,
    /// Where they came from.
    pub origin: Origin,
    /// A program that is not called as usual.
    alone: Option<PathBuf>,
    /// The root of the unpacked packages; `None` for what uses the libraries of the system.
    root: Option<PathBuf>,
}

impl Programs {
    /// Finds the programs of a package, or downloads them.
    pub async fn find(session: &Session, package: &Package) -> Result<Self> {
        if let Some(found) = package.overridden()? {
            return found.asked_for_version(session, package).await;
        }
        if !must_download()
            && let Some(found) = package.installed()
        {
            return found.asked_for_version(session, package).await;
        }
        let key = package.key();
        let unpacked = package.unpacked(session, &key).await?;
        if let Ok(found) = unpacked.asked_for_version(session, package).await {
            return Ok(found);
        }
        // Unpacked when other libraries were installed than now, or another release: once more, from the start.
        session.say(&format!("the unpacked {} does not run any more; downloading it again", package.name));
        session.cache().forget(&key, session.voice()).await?;
        package.unpacked(session, &key).await?.asked_for_version(session, package).await
    }

    /// The path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.alone.clone().unwrap_or_else(|| self.folder.join(name))
    }

    /// Starts the description of a run of one program, with the libraries that it needs.
    pub fn spec(&self, name: &str, program: &str) -> Spec {
        self.with_libraries(Spec::new(name, self.program(program)))
    }

    /// How a shell runs one program.
    pub(crate) fn command(&self, program: &str) -> String {
        let program = self.program(program);
        match self.library_path() {
            Some(path) => format!("env LD_LIBRARY_PATH='{}' '{}'", path.display(), program.display()),
            None => format!("'{}'", program.display()),
        }
    }

    /// Lets a program find the libraries that came with these programs.
    pub(crate) fn with_libraries(&self, spec: Spec) -> Spec {
        match self.library_path() {
            Some(path) => spec.library_path(path),
            None => spec,
        }
    }

    /// The same programs where an ordinary user can reach them: root's cache may be closed to everybody else.
    pub(crate) async fn reachable(self, session: &Session) -> Result<Self> {
        let Some(account) = session.account() else { return Ok(self) };
        let Some(closed) = files::closed_ancestor(&self.folder) else { return Ok(self) };
        let Some(root) = &self.root else {
            return Err(Error::setup(
                format!("using {} as user {}", self.folder.display(), account.name),
                format!("{} keeps other users out", closed.display()),
                "open that folder, or take the programs from another place",
            ));
        };
        let copy = session.folder().join(root.file_name().unwrap_or_default());
        let folder = match self.folder.strip_prefix(root) {
            Ok(below) => copy.join(below),
            Err(_) => copy.clone(),
        };
        let _one_at_a_time = session.preparing().await;
        if !copy.exists() {
            let unfinished = copy.with_extension("unfinished");
            files::transfer_all(root, &unfinished, Transfer::Share, None, is_needed_to_run).await?;
            std::fs::rename(&unfinished, &copy).map_err(Error::path("moving to its place", &copy))?;
        }
        Ok(Self { folder, root: Some(copy), ..self })
    }

    async fn asked_for_version(mut self, session: &Session, package: &Package) -> Result<Self> {
        let first = package.programs.first().copied().unwrap_or_default();
        let word = first.rsplit('/').next().unwrap_or(first);
        let spec = self.spec(&format!("{word}-version"), first).arg(package.version_argument);
        let doing = format!("asking {} for its version", self.program(first).display());
        let finished = session.run(spec, Duration::from_secs(20)).await?.success(&doing)?;
        // Prometheus prints it to standard output or error, depending on its age.
        let text = if finished.stdout.trim().is_empty() { finished.stderr } else { finished.stdout };
        self.version = text.lines().next().unwrap_or_default().trim().to_owned();
        Ok(self)
    }

    /// Where its programs find their libraries; `None` where that is the system's business.
    pub(crate) fn library_path(&self) -> Option<OsString> {
        let root = self.root.as_deref()?;
        let folders = ["usr/lib", "lib"].into_iter().flat_map(|name| library_folders(&root.join(name)));
        std::env::join_paths(folders).ok()
    }
}

/// `<root>/usr/lib/x86_64-linux-gnu` and its likes.
fn library_folders(parent: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let is_for_linux = |path: &PathBuf| path.to_string_lossy().contains("-linux-");
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_for_linux).collect();
    folders.sort();
    folders
}

/// Documentation is not, and the compiler of PostgreSQL's `jit`, which is off, weighs more than all the rest.
fn is_needed_to_run(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_documentation = path.parent().is_some_and(|parent| parent.ends_with("usr/share"))
        && matches!(name.as_ref(), "doc" | "man" | "locale" | "perl5" | "perl" | "lintian");
    !is_documentation && !name.starts_with("libLLVM")
}

/// `LAB_PACKAGES=download` pretends that nothing is installed.
pub(crate) fn must_download() -> bool {
    std::env::var_os("LAB_PACKAGES").is_some_and(|value| value == "download")
}

impl Package {
    fn overridden(&self) -> Result<Option<Programs>> {
        let Some(value) = std::env::var_os(self.overridden_by).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let path = PathBuf::from(value);
        let found = match self.place {
            Place::Path => path.is_file().then(|| Programs::alone(&path)),
            Place::Versioned { .. } | Place::Root => self.complete(&path, Origin::Override, None),
        };
        found.map(Some).ok_or_else(|| {
            Error::setup(
                format!("looking for {} where {} says", self.name, self.overridden_by),
                format!("{} has not got {}", path.display(), self.programs.join(" and ")),
                format!("correct {}, or unset it", self.overridden_by),
            )
        })
    }

    fn installed(&self) -> Option<Programs> {
        let of_distribution = self.folders(Path::new("/"));
        if matches!(self.place, Place::Root) {
            return of_distribution.iter().find_map(|folder| self.complete(folder, Origin::System, None));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let searched: Vec<PathBuf> = std::env::split_paths(&path).collect();
        of_distribution.iter().chain(&searched).find_map(|folder| self.complete(folder, Origin::System, None))
    }

    /// The folders below `root` in which the distribution puts the programs, the best one first.
    fn folders(&self, root: &Path) -> Vec<PathBuf> {
        let (parent, at_least) = match self.place {
            Place::Versioned { parent, at_least } => (parent, at_least),
            Place::Path => {
                return ["usr/bin", "usr/sbin", "usr/local/bin"].map(|folder| root.join(folder)).to_vec();
            }
            Place::Root => return vec![root.to_owned()],
        };
        let entries = std::fs::read_dir(root.join(parent)).into_iter().flatten().flatten();
        let mut versions: Vec<(u32, PathBuf)> = entries
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.parse().ok()?;
                (version >= at_least).then(|| (version, entry.path().join("bin")))
            })
            .collect();
        versions.sort_unstable_by(|one, other| other.cmp(one));
        versions.into_iter().map(|(_, folder)| folder).collect()
    }

    /// The programs in a folder, if all of them are there.
    fn complete(&self, folder: &Path, origin: Origin, root: Option<&Path>) -> Option<Programs> {
        let has_all = self.programs.iter().all(|name| folder.join(name).is_file());
        // The real path: children are recognised by it.
        let folder = has_all.then(|| folder.canonicalize().ok()).flatten()?;
        let root = root.and_then(|root| root.canonicalize().ok());
        Some(Programs { folder, version: String::new(), origin, alone: None, root })
    }

    async fn unpacked(&self, session: &Session, key: &str) -> Result<Programs> {
        let fill = |folder: PathBuf| apt::unpack(session, self, key, must_download(), folder);
        let root = session.cache().entry(key, session.voice(), fill).await?;
        let folders = self.folders(&root);
        folders.iter().find_map(|folder| self.complete(folder, Origin::Cache, Some(&root))).ok_or_else(|| {
            Error::setup(
                format!("unpacking {}", self.debian.join(", ")),
                format!(
                    "there is no {} (or one that is too old) below {}",
                    self.programs.join(", "),
                    root.display()
                ),
                format!("set {} to one that you have, or remove that folder", self.overridden_by),
            )
        })
    }

    /// The distribution decides the version; another release has other libraries.
    pub(crate) fn key(&self) -> String {
        let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or("unknown").trim_matches('"').to_lowercase()
        };
        format!(
            "{}-{}-{}-{}",
            self.debian.join("-"),
            value("ID="),
            value("VERSION_ID="),
            std::env::consts::ARCH
        )
    }
}

impl Programs {
    fn alone(program: &Path) -> Self {
        let folder = program.parent().unwrap_or(Path::new("/")).to_owned();
        Self {
            folder,
            version: String::new(),
            origin: Origin::Override,
            alone: Some(program.to_owned()),
            root: None,
        }
    }
}
