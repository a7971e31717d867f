//! A Python environment with pinned packages, made once and kept in the cache.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::apt;
use crate::error::{Error, Result};
use crate::packages::{self, PYTHON, Package, Place, Programs};
use crate::random::hex;
use crate::session::Session;
use crate::spec::Spec;

/// Many times what it takes, for slow networks.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// The wheel of pip, for distributions that leave `ensurepip` out of Python (Debian: it is in `python3-venv`).
const PIP: Package = Package {
    name: "pip",
    debian: &["python3-pip-whl"],
    overridden_by: "LAB_PYTHON",
    place: Place::Path,
    programs: &[],
    version_argument: "",
    size: "2 MB",
};
const WHEELS: &str = "usr/share/python-wheels";

/// A Python with packages of its own.
#[derive(Debug, Clone)]
pub struct Venv {
    python: Programs,
    folder: PathBuf,
}

impl Venv {
    /// Finds the environment with exactly what `requirements` pins, or makes it.
    pub async fn find_or_build(session: &Session, requirements: &Path) -> Result<Self> {
        let pinned = std::fs::read(requirements).map_err(Error::path("reading", requirements))?;
        let python = Programs::find(session, &PYTHON).await?;
        let mut hash = Sha256::new();
        for part in
            [pinned.as_slice(), python.version.as_bytes(), python.folder.as_os_str().as_encoded_bytes()]
        {
            hash.update(part);
            hash.update([0]);
        }
        let digest = hex(&hash.finalize());
        let key = format!("python-venv-{}", digest.get(..12).unwrap_or(&digest));
        let fill = |folder: PathBuf| make(session, &python, &key, requirements, folder);
        let folder = session.cache().entry(&key, session.voice(), fill).await?;
        Ok(Self { python, folder })
    }

    /// Starts the description of a run of one module, as `python -m`: the scripts in `bin` name the folder in which the
    /// environment was made, and that is not the one in which it is now.
    pub fn module(&self, name: &str, module: &str) -> Spec {
        spec_in(&self.python, name, &self.folder).args(["-m", module])
    }

    /// The same as a command line, for somebody else to run.
    pub fn command(&self, module: &str) -> Vec<String> {
        let library_path = self.python.library_path();
        let library_path = library_path.map(|path| format!("LD_LIBRARY_PATH={}", path.display()));
        let python = self.folder.join("bin/python").display().to_string();
        let variables = library_path.into_iter().flat_map(|path| ["/usr/bin/env".to_owned(), path]);
        variables.chain([python, "-m".to_owned(), module.to_owned()]).collect()
    }

    /// The folders that it reads and that are not the system's: its own, and that of a Python that is not installed there.
    pub fn folders(&self) -> Vec<PathBuf> {
        let python = self.python.program("python3");
        let python = python.canonicalize().unwrap_or(python);
        // <prefix>/bin/python3
        let prefix = python.ancestors().nth(2).map(Path::to_owned);
        let of_system = |folder: &PathBuf| folder.starts_with("/usr");
        std::iter::once(self.folder.clone()).chain(prefix.filter(|folder| !of_system(folder))).collect()
    }
}

async fn make(
    session: &Session,
    python: &Programs,
    key: &str,
    requirements: &Path,
    folder: PathBuf,
) -> Result<()> {
    let log = session.cache().log(key)?;
    session.say(&format!(
        "making a Python environment with what {} pins (once, about half a minute); log: {}",
        requirements.display(),
        log.display()
    ));
    let wheel = if has_ensurepip(session, python).await? { None } else { Some(pip(session, python).await?) };
    let mut create = python.spec("venv", "python3").inherit_env().log(&log).args(["-m", "venv"]);
    if wheel.is_some() {
        create = create.arg("--without-pip");
    }
    session.run_long(create.arg(&folder), "making a Python environment", LIMIT).await?;
    let install = spec_in(python, "pip", &folder).inherit_env().log(&log);
    let install = match wheel {
        // A wheel is a zip file, and Python runs what is in one.
        Some(wheel) => install.arg(wheel.join("pip")),
        None => install.args(["-m", "pip"]),
    };
    let install = install
        .args(["--disable-pip-version-check", "--no-input", "install", "--no-deps", "--requirement"])
        .arg(requirements);
    session.run_long(install, "installing Python packages", LIMIT).await
}

fn spec_in(python: &Programs, name: &str, folder: &Path) -> Spec {
    python.with_libraries(Spec::new(name, folder.join("bin/python")))
}

async fn has_ensurepip(session: &Session, python: &Programs) -> Result<bool> {
    let look = python.spec("python-look", "python3").args(["-c", "import ensurepip"]);
    Ok(session.run(look, LIMIT).await?.status.success())
}

/// The wheel of pip: installed with something else, or downloaded.
async fn pip(session: &Session, python: &Programs) -> Result<PathBuf> {
    if !packages::must_download()
        && let Some(wheel) = wheel_in(&Path::new("/").join(WHEELS))
    {
        return Ok(wheel);
    }
    let key = PIP.key();
    let fill = |folder: PathBuf| apt::unpack(session, &PIP, &key, packages::must_download(), folder);
    let downloaded = session.cache().entry(&key, session.voice(), fill).await;
    let found = downloaded.as_ref().ok().and_then(|root| wheel_in(&root.join(WHEELS)));
    found.ok_or_else(|| {
        let tried = downloaded.err().map(|error| format!(" ({error})")).unwrap_or_default();
        Error::setup(
            "making a Python environment",
            format!(
                "{} comes without ensurepip, and the package {} could not be had instead{tried}",
                python.program("python3").display(),
                PIP.debian.join(" "),
            ),
            "run `apt-get install python3-venv` as root, or name another Python with LAB_PYTHON",
        )
    })
}

fn wheel_in(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_pip = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("pip-") && name.ends_with(".whl")
    };
    entries.map(|entry| entry.path()).find(is_pip)
}
