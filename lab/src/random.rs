//! Names and passwords that nobody else has.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;

use crate::error::{Error, Result};

fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let path = "/dev/urandom";
    File::open(path)
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(Error::io(format!("reading {path}")))?;
    Ok(bytes)
}

pub(crate) fn number() -> Result<u64> {
    bytes().map(u64::from_ne_bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Short enough for the path of a Unix socket, long enough to be alone.
pub(crate) fn name() -> Result<String> {
    bytes::<4>().map(|bytes| hex(&bytes))
}

/// A password that nobody else has: guards what listens on loopback from other users of the machine.
pub fn password() -> Result<String> {
    bytes::<16>().map(|bytes| hex(&bytes))
}
