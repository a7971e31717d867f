//! The bottle: private namespaces (network, processes, mounts) in which a real node can run on an ordinary machine.
//!
//! A program enters it by running itself again inside. Everything that is started there, etcd included, has a network of
//! its own, sees no other processes, and dies with the program inside, also when that is killed: bridges, mounts and ports
//! vanish with it. What it leaves, a folder and empty control groups, is removed by whoever started it, or by the next one.
//!
//! It needs root on Linux; [`missing`] says what else.

mod leftovers;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::account;
use crate::error::{Error, Result};
use crate::patience::patience;

/// Tells the program inside where it is: the folder that vanishes with the bottle.
const INSIDE: &str = "LAB_BOTTLE";
/// The address of the node, and of all that listens for Pods. 198.18.0.0/15 is for benchmarks: it is routed nowhere.
pub const NODE_ADDRESS: &str = "198.18.0.1";
/// The device that carries [`NODE_ADDRESS`].
const DEVICE: &str = "node0";
/// How long the program inside may take to end by itself, once it is asked to.
const END_LIMIT: Duration = Duration::from_secs(10);
const UNSHARE: [&str; 9] = [
    "--net",
    "--pid",
    "--mount",
    "--ipc",
    "--uts",
    "--propagation=private",
    "--fork",
    "--kill-child=KILL",
    "--mount-proc",
];

/// Whether this program runs inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// How a person gets inside, from another terminal and as root; `None` where this program runs in no bottle.
pub fn way_in() -> Option<String> {
    let folder = folder().ok()?;
    // Here all processes have other numbers; that of who has started the bottle is part of its name.
    let starter = leftovers::starter(&folder)?;
    // setpriv becomes unshare, which starts this program.
    Some(format!("nsenter --all --target \"$(pgrep -P \"$(pgrep -P {starter})\")\" bash"))
}

/// What this machine lacks for a bottle, for people; `None` where it lacks nothing.
pub fn missing() -> Option<String> {
    if !account::is_root() {
        return Some("a real node needs root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    for (program, package) in [
        ("unshare", "util-linux"),
        ("setpriv", "util-linux"),
        ("mount", "mount"),
        ("ip", "iproute2"),
        ("cc", "gcc and libc6-dev"),
    ] {
        if !is_there(program) {
            return Some(format!("a real node needs the program {program} (package {package})"));
        }
    }
    // A container may be root and all the same be refused.
    let try_it = format!("ip link add {DEVICE} type bridge && mount -t tmpfs none /run");
    let tried =
        Command::new("unshare").args(UNSHARE).args(["/bin/sh", "-c", &try_it]).stdin(Stdio::null()).output();
    match tried {
        Ok(output) if output.status.success() => leftovers::missing_groups(),
        Ok(output) => Some(format!(
            "a real node needs namespaces of its own with a bridge in them, which this machine refuses: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(format!("unshare cannot be started: {error}")),
    }
}

/// Runs this very program again, with the arguments that it was given, inside a new bottle, and waits for its end.
///
/// Nothing can be downloaded in there: what is needed has to be in the cache before.
///
/// # Errors
/// The bottle cannot be made.
pub fn enter() -> Result<ExitStatus> {
    let place = leftovers::Place::create()?;
    let status = inside(&place)?.status().map_err(Error::io("starting unshare"))?;
    place.remove();
    Ok(status)
}

/// The same until `asked` to end. A terminal's Ctrl-C has reached the program inside as well, which then has a moment to tidy
/// up; whatever else asks ends it with all that is in there.
///
/// # Errors
/// The bottle cannot be made.
pub async fn enter_until(asked: impl Future<Output = ()>) -> Result<ExitStatus> {
    let place = leftovers::Place::create()?;
    let mut command = tokio::process::Command::from(inside(&place)?);
    let mut child = command.spawn().map_err(Error::io("starting unshare"))?;
    let asked = async {
        asked.await;
        tokio::time::sleep(patience(END_LIMIT)).await;
    };
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = asked => {
            child.start_kill().map_err(Error::io("ending the bottle"))?;
            child.wait().await
        }
    };
    let status = ended.map_err(Error::io("waiting for the bottle"))?;
    place.remove();
    Ok(status)
}

/// This program once more, inside.
fn inside(place: &leftovers::Place) -> Result<Command> {
    let program = std::env::current_exe().map_err(Error::io("looking for this program"))?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args(UNSHARE)
        .arg("--")
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, place.folder())
        .env("TMPDIR", place.folder());
    Ok(command)
}

/// Makes the inside habitable. Called once, before anything else, by the program inside.
///
/// # Errors
/// Something was refused.
pub fn prepare() -> Result<()> {
    let folder = folder()?;
    // The kubelet and containerd have fixed places for some of their files: what they write there stays in here.
    run("mount", &["-t", "tmpfs", "-o", "mode=755", "none", "/run"])?;
    let (upper, work) = (folder.join("var"), folder.join("var-work"));
    for path in [&upper, &work] {
        std::fs::create_dir(path).map_err(Error::path("creating", path))?;
    }
    let layers = format!("lowerdir=/var,upperdir={},workdir={}", upper.display(), work.display());
    run("mount", &["-t", "overlay", "-o", &layers, "none", "/var"])?;
    run("ip", &["link", "set", "lo", "up"])?;
    // A bridge without ports: not every kernel has the `dummy` device.
    run("ip", &["link", "add", DEVICE, "type", "bridge"])?;
    run("ip", &["addr", "add", &format!("{NODE_ADDRESS}/32"), "dev", DEVICE])?;
    run("ip", &["link", "set", DEVICE, "up"])?;
    // From the node itself Services are reached over this device: the packets are rewritten on their way.
    run("ip", &["route", "add", crate::node::SERVICES, "dev", DEVICE, "src", NODE_ADDRESS])?;
    let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
    std::fs::write(forward, "1").map_err(Error::path("writing", forward))
}

/// Makes the control group below which the Pods of a node are: each kubelet ends what is in its own and is not known to it.
pub(crate) fn group(node: &str) -> Result<String> {
    leftovers::make_group(&folder()?, node)
}

fn folder() -> Result<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from).ok_or_else(|| {
        Error::setup(
            "looking for the bottle",
            "this program does not run in one",
            "start it through bottle::enter",
        )
    })
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let doing = format!("{program} {}", args.join(" "));
    let output =
        Command::new(program).args(args).stdin(Stdio::null()).output().map_err(Error::io(doing.clone()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::setup(
        doing,
        String::from_utf8_lossy(&output.stderr).trim(),
        "this machine refuses what a real node needs; `lab cluster` says what is missing",
    ))
}

/// Gives the node's device one more address, for one more node.
pub(crate) fn address(address: &str) -> Result<()> {
    run("ip", &["addr", "add", &format!("{address}/32"), "dev", DEVICE])
}
