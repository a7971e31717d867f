//! Whatever happens to the program that owns a session, nothing of the session stays.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lab::{Identity, Operator, OperatorOptions, Session, Signal};
use rustix::process::{Pid, kill_process};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const HELPER: &str = env!("CARGO_BIN_EXE_lab-helper");
/// The reaper gives processes two seconds to obey; the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(20);

/// A temporary folder of its own, so that no other test ends what this one leaves behind.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("lab-{name}-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn sessions(&self) -> usize {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().is_dir()).count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that owns a session, and what it had started when it said so.
struct Owner {
    child: Child,
    folder: PathBuf,
    processes: Vec<Identity>,
    reaper: Identity,
}

impl Owner {
    fn start(program: &mut Command, place: &Place) -> Result<Self> {
        let mut child = program.env("TMPDIR", &place.0).stdout(Stdio::piped()).process_group(0).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        // `lab-helper` says its folder, `lab up` says where its kubeconfig is.
        let line = lines.next().ok_or("it ended before it was ready")??;
        let path = Path::new(line.rsplit('=').next().unwrap_or(&line));
        let below = path.strip_prefix(&place.0)?.components().next().ok_or("no session")?;
        let folder = place.0.join(below);
        let record = std::fs::read_to_string(folder.join("processes"))?;
        let identity = |pid: &str, start: &str| -> Result<Identity> {
            Ok(Identity { pid: pid.parse()?, start: start.parse()? })
        };
        let mut processes = Vec::new();
        for line in record.lines() {
            if let ["process", pid, start, ..] = line.split('\t').collect::<Vec<_>>().as_slice() {
                processes.push(identity(pid, start)?);
            }
        }
        let owners = std::fs::read_to_string(folder.join("owner"))?;
        let (pid, start) = owners.lines().nth(1).and_then(|line| line.split_once(' ')).ok_or("no reaper")?;
        Ok(Self { child, processes, reaper: identity(pid, start)?, folder })
    }

    fn helper(how: &str, place: &Place) -> Result<Self> {
        Self::start(Command::new(HELPER).arg(how).stderr(Stdio::null()), place)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// What is left: the folder, recorded processes, and processes whose working folder is in the session.
    fn left(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.processes.iter().filter(|one| one.is_alive()).map(|one| format!("{one:?}")).collect();
        if self.folder.exists() {
            left.push(self.folder.display().to_string());
        }
        left.extend(working_below(&self.folder));
        left
    }

    fn wait_until_nothing_is_left(&mut self) -> Result<()> {
        let begin = Instant::now();
        let ended = wait(|| self.child.try_wait().ok().flatten().is_some());
        let gone = wait(|| self.left().is_empty());
        if ended && gone {
            return Ok(());
        }
        Err(format!("after {:?} there still is {:?}", begin.elapsed(), self.left()).into())
    }
}

/// A test that fails leaves nothing either.
impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        wait(|| !self.folder.exists() || self.folder.join("ended").exists());
    }
}

fn working_below(folder: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let folders = processes
        .filter_map(|entry| Some((entry.path(), std::fs::read_link(entry.path().join("cwd")).ok()?)));
    folders
        .filter(|(_, cwd)| cwd.starts_with(folder))
        .map(|(process, cwd)| format!("{} in {}", process.display(), cwd.display()))
        .collect()
}

fn wait(mut look: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + lab::patience(LIMIT);
    while Instant::now() < deadline {
        if look() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn nothing_is_left_when_the_owner_is_killed() -> Result<()> {
    let place = Place::new("killed")?;
    let mut owner = Owner::helper("hold", &place)?;
    assert!(owner.processes.iter().filter(|one| one.is_alive()).count() == 4);
    assert!(working_below(&owner.folder).len() > 5, "PostgreSQL has children");
    owner.signal(Signal::KILL)?;
    owner.wait_until_nothing_is_left()?;
    assert!(place.0.join("tidied").exists(), "who tidies up when asked to end was not asked");
    Ok(())
}

#[test]
fn nothing_is_left_after_a_panic_an_early_return_and_an_orderly_end() -> Result<()> {
    for how in ["panic", "leave", "once"] {
        let place = Place::new(how)?;
        let mut owner = Owner::helper(how, &place)?;
        owner.wait_until_nothing_is_left().map_err(|error| format!("{how}: {error}"))?;
        assert_eq!(place.sessions(), 0);
    }
    Ok(())
}

#[test]
fn nothing_is_left_after_ctrl_c() -> Result<()> {
    let place = Place::new("ctrl-c")?;
    let mut owner = Owner::start(Command::new(env!("CARGO_BIN_EXE_lab")).arg("up"), &place)?;
    assert!(owner.folder.join("control-plane-1/admin.kubeconfig").exists());
    owner.signal(Signal::INT)?;
    owner.wait_until_nothing_is_left()?;
    assert!(owner.child.wait()?.success(), "Ctrl-C is how it is meant to end");
    assert_eq!(place.sessions(), 0);
    Ok(())
}

/// Neither owner nor reaper: only the parent-death signal is left, and it does not reach grandchildren.
#[test]
fn the_next_session_ends_what_a_dead_owner_and_a_dead_reaper_left() -> Result<()> {
    let place = Place::new("orphans")?;
    let mut owner = Owner::helper("hold", &place)?;
    kill_process(Pid::from_raw(owner.reaper.pid).ok_or("no pid")?, Signal::KILL)?;
    assert!(wait(|| !owner.reaper.is_alive()));
    owner.signal(Signal::KILL)?;
    owner.child.wait()?;
    // Only the stubborn one does not obey the parent-death signal.
    let alive = || owner.processes.iter().filter(|one| one.is_alive()).count();
    assert!(wait(|| alive() == 1), "the parent-death signal was not sent: {:?}", owner.left());
    assert!(!owner.left().is_empty(), "without a reaper something stays, or this test proves nothing");

    let mut next = Owner::helper("hold", &place)?;
    owner.wait_until_nothing_is_left()?;
    // A live session is nobody's orphan.
    let mut third = Owner::helper("once", &place)?;
    third.wait_until_nothing_is_left()?;
    assert!(next.processes.iter().filter(|one| one.is_alive()).count() == 4, "a live session was ended");
    next.signal(Signal::KILL)?;
    next.wait_until_nothing_is_left()
}

/// What the session cannot catch any more: the server was killed, its busy backend is alone in a group of its own.
#[test]
fn a_backend_whose_server_was_killed_ends_with_the_session() -> Result<()> {
    let place = Place::new("strays")?;
    let mut owner = Owner::helper("hold", &place)?;
    let server = *owner.processes.last().ok_or("no server")?;
    kill_process(Pid::from_raw(server.pid).ok_or("no pid")?, Signal::KILL)?;
    assert!(wait(|| !server.is_alive()));
    let data = owner.folder.join("postgres-1/data");
    assert!(wait(|| working_below(&data).len() == 1), "all but the busy backend end by themselves");
    owner.signal(Signal::KILL)?;
    owner.wait_until_nothing_is_left()
}

/// A recorded id that belongs to somebody else by now is not touched.
#[test]
fn a_process_that_only_has_the_id_of_one_of_ours_is_left_alone() -> Result<()> {
    let place = Place::new("reused")?;
    let mut owner = Owner::helper("hold", &place)?;
    let mut stranger = Command::new("sleep").arg("600").process_group(0).spawn()?;
    let start = Identity::of(stranger.id().try_into()?).ok_or("it ended")?.start;
    let mut record = std::fs::File::options().append(true).open(owner.folder.join("processes"))?;
    writeln!(record, "process\t{}\t{}\tKILL\tformer", stranger.id(), start - 1)?;
    owner.signal(Signal::KILL)?;
    let result = owner.wait_until_nothing_is_left();
    let survived = stranger.try_wait()?.is_none();
    stranger.kill()?;
    stranger.wait()?;
    assert!(survived, "it was ended although its start time is another");
    result
}

#[test]
fn a_kept_session_leaves_its_folder_but_no_process() -> Result<()> {
    let place = Place::new("kept")?;
    let mut owner =
        Owner::start(Command::new(HELPER).arg("hold").env("LAB_KEEP", "1").stderr(Stdio::null()), &place)?;
    owner.signal(Signal::KILL)?;
    owner.child.wait()?;
    assert!(wait(|| owner.folder.join("ended").exists()));
    assert_eq!(owner.left(), [owner.folder.display().to_string()]);
    assert!(
        std::fs::read_to_string(owner.folder.join("postgres-1.log"))?.contains("ready to accept connections")
    );
    Ok(())
}

#[tokio::test]
async fn an_operator_is_started_watched_tormented_and_its_refusal_reported() -> Result<()> {
    let session = Session::start().await?;
    let kubeconfig = session.folder().join("some.kubeconfig");
    let options = OperatorOptions::new(Path::new(HELPER), &kubeconfig, "mode: fine");
    let operator = Operator::start(&session, options).await?;
    let metrics = operator.metrics().await?;
    assert!(metrics.contains("helper_up 1") && metrics.contains("some.kubeconfig"), "{metrics}");
    operator.pause();
    tokio::time::timeout(Duration::from_millis(500), operator.metrics()).await.unwrap_err();
    operator.resume();
    operator.metrics().await?;
    let status = operator.stop(LIMIT).await?;
    assert!(!status.success() && operator.metrics().await.is_err());

    let refused = OperatorOptions::new(Path::new(HELPER), &kubeconfig, "mode: refuse");
    let error = Operator::start(&session, refused).await.map(drop).unwrap_err().to_string();
    for part in ["operator-2 ended with", "the configuration is refused", "operator-2.log"] {
        assert!(error.contains(part), "{part:?} is missing in {error}");
    }
    Ok(())
}
