//! What `/proc` says about processes. A process is known by its id *and* its start time: ids are used again.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// One process, unmistakably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The process id.
    pub pid: i32,
    /// When it was started, in clock ticks since the machine was (field 22 of `/proc/<pid>/stat`).
    pub start: u64,
}

struct Stat {
    state: char,
    group: i32,
    start: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is the program's name in parentheses, which may hold spaces and parentheses of its own.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        group: fields.get(2)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

impl Identity {
    /// Looks a process up; `None` when it is gone or has ended and only waits to be collected.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = stat(pid)?;
        (stat.state != 'Z').then_some(Self { pid, start: stat.start })
    }

    /// Looks up a child that nobody has collected yet: it may have ended already.
    pub(crate) fn of_child(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start: stat.start })
    }

    /// This process.
    pub fn own() -> Option<Self> {
        Self::of(i32::try_from(std::process::id()).ok()?)
    }

    /// Whether exactly this process still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Whether exactly this process has been stopped in mid-air.
    pub(crate) fn is_stopped(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start == self.start && stat.state == 'T')
    }

    /// Sends a signal to this process alone, if it still is the one that was meant.
    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive() {
            send(self.pid, |pid| kill_process(pid, signal));
        }
    }

    /// The live processes of the group that this process leads or led.
    ///
    /// An id stays taken while a group carries it, so without a new leader of the same id the members are ours.
    pub(crate) fn group(self) -> Vec<Self> {
        let reused = Self::of(self.pid).is_some_and(|now| now != self);
        if reused {
            return Vec::new();
        }
        all()
            .filter(|(_, stat)| stat.group == self.pid && stat.state != 'Z')
            .map(|(found, _)| found)
            .collect()
    }

    /// Sends a signal to the whole group, if it still is the one that was meant.
    pub(crate) fn signal_group(self, signal: Signal) {
        if !self.group().is_empty() {
            send(self.pid, |pid| kill_process_group(pid, signal));
        }
    }
}

fn send(pid: i32, kill: impl FnOnce(Pid) -> rustix::io::Result<()>) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended since it was looked at; that is what was wanted.
        let _ = kill(pid);
    }
}

/// The live processes that run `program` in `folder`: children that left the group of the process that we started.
pub(crate) fn running_in(program: &Path, folder: &Path) -> Vec<Identity> {
    let link = |pid: i32, name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
    all()
        .filter(|(found, stat)| {
            stat.state != 'Z'
                && link(found.pid, "cwd").as_deref() == Some(folder)
                && link(found.pid, "exe").as_deref() == Some(program)
        })
        .map(|(found, _)| found)
        .collect()
}

fn all() -> impl Iterator<Item = (Identity, Stat)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = stat(pid)?;
        Some((Identity { pid, start: stat.start }, stat))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_parentheses_does_not_shift_the_fields() {
        let mut line = String::from("42 (a) b) R) S 1 77 77 0");
        for field in 8..=21 {
            line.push_str(&format!(" {field}"));
        }
        line.push_str(" 123456 0 0");
        let stat = parse_stat(&line).unwrap();
        assert_eq!((stat.state, stat.group, stat.start), ('S', 77, 123_456));
    }

    #[test]
    fn the_same_id_with_another_start_time_is_another_process() {
        let own = Identity::own().unwrap();
        assert!(own.is_alive());
        let former = Identity { start: own.start - 1, ..own };
        assert!(!former.is_alive());
        assert!(former.group().is_empty(), "a group of a former process must not be signalled");
    }
}
