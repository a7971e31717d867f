//! Free ports on the loopback interface, also when many laboratories start at once.
//!
//! Asking the kernel for port 0 and closing it again gives a port that the next outgoing connection may take. So the
//! ports come from below the range of outgoing connections, and each is reserved by a file lock for as long as the
//! session lives: no two laboratories of one user choose the same.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use crate::error::{Error, Result};
use crate::random;

/// No well-known server that people run on a developer's machine listens up here.
const FIRST: u16 = 20_000;
/// Where Linux starts to number outgoing connections, unless told otherwise.
const LAST: u16 = 32_767;

/// A port, and the lock that keeps it ours.
pub(crate) struct Reserved {
    pub(crate) port: u16,
    _lock: File,
}

/// Reserves one port; `folder` holds the lock files.
pub(crate) fn reserve(folder: &Path) -> Result<Reserved> {
    let last = last_port();
    let count = last - FIRST;
    let begin = random::number()? % u64::from(count);
    for step in 0..u64::from(count) {
        let offset = u16::try_from((begin + step) % u64::from(count)).unwrap_or_default();
        if let Some(reserved) = try_reserve(folder, FIRST + offset)? {
            return Ok(reserved);
        }
    }
    Err(Error::setup(
        "looking for a free port",
        format!("all ports from {FIRST} to {last} are taken"),
        "end other laboratories",
    ))
}

fn try_reserve(folder: &Path, port: u16) -> Result<Option<Reserved>> {
    let path = folder.join(port.to_string());
    let lock =
        File::options().create(true).append(true).open(&path).map_err(Error::path("opening", &path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(Error::path("locking", &path)(error)),
    }
    let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    Ok(is_free.then_some(Reserved { port, _lock: lock }))
}

/// An administrator may have moved the range of outgoing connections; ours ends below it where that leaves room.
fn last_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first_outgoing: Option<u16> =
        range.split_ascii_whitespace().next().and_then(|text| text.parse().ok());
    match first_outgoing {
        Some(port) if port > FIRST + 1_000 => LAST.min(port - 1),
        _ => LAST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_not_given_twice() {
        let folder = std::env::temp_dir().join(format!("lab-ports-{}", random::name().unwrap()));
        std::fs::create_dir(&folder).unwrap();
        let first = try_reserve(&folder, FIRST + 7).unwrap();
        if first.is_some() {
            assert!(try_reserve(&folder, FIRST + 7).unwrap().is_none());
        }
        drop(first);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert!(try_reserve(&folder, taken).unwrap().is_none(), "somebody listens there");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
