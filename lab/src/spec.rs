//! What is to be started, and the command line that makes it end together with us.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::account::Account;

/// The signal by which a process is ended when nobody has time for more: at the end of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ending {
    /// It has nothing to tidy up outside the folder of its session.
    #[default]
    Kill,
    /// It tidies up quickly on `SIGQUIT`: PostgreSQL ends its children and frees its shared memory.
    Quit,
    /// It tidies up quickly on `SIGTERM`: masters that end their workers.
    Term,
}

impl Ending {
    /// As `kill -s` and `setpriv --pdeathsig` spell it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "KILL",
            Self::Quit => "QUIT",
            Self::Term => "TERM",
        }
    }

    pub(crate) fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Quit => Signal::QUIT,
            Self::Term => Signal::TERM,
        }
    }
}

/// A program to start in a session.
#[derive(Debug, Clone)]
pub struct Spec {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) account: Option<Account>,
    pub(crate) ending: Ending,
    pub(crate) strays_in: Option<PathBuf>,
    pub(crate) input: Option<Vec<u8>>,
    pub(crate) folder: Option<PathBuf>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) inherits: bool,
    pub(crate) library_path: Option<OsString>,
    pub(crate) cpu: Option<u32>,
}

/// Runs the program only if its parent still is the one that asked for the parent-death signal: a parent that died
/// before the signal was asked for would never trigger it.
const GUARD: &str = r#"[ "$PPID" = "$1" ] || exit 125; shift; exec "$@""#;

impl Spec {
    /// `name` is a word for people; the session adds a number to it.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            account: None,
            ending: Ending::default(),
            strays_in: None,
            input: None,
            folder: None,
            log: None,
            inherits: false,
            library_path: None,
            cpu: None,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable. Nothing else of our own environment is handed on but `PATH`.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Hands on our whole environment: build tools and package managers need the settings of this machine.
    #[must_use]
    pub(crate) fn inherit_env(mut self) -> Self {
        self.inherits = true;
        self
    }

    /// Sets variables.
    #[must_use]
    pub fn envs(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.env.extend(variables);
        self
    }

    /// Runs it in an existing folder instead of a new one of its own.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Writes its log to a file that outlives the session.
    #[must_use]
    pub fn log(mut self, log: impl Into<PathBuf>) -> Self {
        self.log = Some(log.into());
        self
    }

    /// Where the program finds its libraries; the system's own programs that start it keep theirs.
    #[must_use]
    pub(crate) fn library_path(mut self, path: OsString) -> Self {
        self.library_path = Some(path);
        self
    }

    /// Runs it, and its children, on this CPU only; `None` means wherever we may run.
    #[must_use]
    pub fn cpu(mut self, cpu: Option<u32>) -> Self {
        self.cpu = cpu;
        self
    }

    /// Runs it as another user; `None` means as ourselves.
    #[must_use]
    pub fn account(mut self, account: Option<Account>) -> Self {
        self.account = account;
        self
    }

    /// How it is ended with its session.
    #[must_use]
    pub fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// Says that its children leave its process group, and run the same program with this working folder.
    #[must_use]
    pub fn strays_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.strays_in = Some(folder.into());
        self
    }

    /// What it reads from standard input; without this, nothing.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// The command without its standard streams.
    pub(crate) fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", self.ending.name()]);
        if let Some(account) = &self.account {
            command.args(["--reuid", &account.uid.to_string(), "--regid", &account.gid.to_string()]);
            command.arg("--clear-groups");
        }
        command.args(["--", "/bin/sh", "-c", GUARD, "lab-start", &std::process::id().to_string()]);
        if let Some(cpu) = self.cpu {
            command.args(["taskset", "--cpu-list", &cpu.to_string()]);
        }
        if let Some(path) = &self.library_path {
            let mut variable = OsString::from("LD_LIBRARY_PATH=");
            variable.push(path);
            command.arg("env").arg(variable);
        }
        command.arg(&self.program).args(&self.args);
        command.current_dir(folder);
        if !self.inherits {
            // Settings of the person at this machine (PGHOST, KUBECONFIG, proxies) must not decide what a test sees.
            let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin:/usr/sbin:/sbin".into());
            command.env_clear().env("PATH", path).env("HOME", folder).env("TMPDIR", folder);
            command.env("LANG", "C.UTF-8").env("TZ", "UTC");
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}
