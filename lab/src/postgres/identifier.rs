//! Gives a copied cluster a system identifier of its own. PostgreSQL offers no way: a copy is a clone, and clones count
//! as one database. Two servers of a test must not.
//!
//! The identifier stands at the beginning of `global/pg_control` and on the pages of the write-ahead log. The first
//! place is written here, checksum included; `pg_resetwal` then begins a new log from it.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::packages::Programs;
use crate::random;
use crate::session::Session;

const RESET_LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn renew(
    session: &Session,
    programs: &Programs,
    data: &Path,
    claimed: Option<u64>,
) -> Result<()> {
    let path = data.join("global/pg_control");
    let mut content = std::fs::read(&path).map_err(Error::path("reading", &path))?;
    // Positive, as the server's own function shows it signed.
    let identifier = match claimed {
        Some(claimed) => claimed,
        None => random::number()? >> 1,
    };
    if !replace(&mut content, identifier) {
        return Err(Error::setup(
            format!("giving {} a system identifier of its own", data.display()),
            "pg_control is not laid out as expected",
            "report the version of PostgreSQL to this project, and use another one with LAB_POSTGRES_BIN",
        ));
    }
    std::fs::write(&path, content).map_err(Error::path("writing", &path))?;
    let spec =
        programs.spec("pg_resetwal", "pg_resetwal").arg("-D").arg(data).account(session.account().cloned());
    session
        .run(spec, RESET_LIMIT)
        .await?
        .success("beginning a new write-ahead log with pg_resetwal")
        .map(drop)
}

/// Writes the identifier and the checksum. Where the checksum stands depends on the version: behind the bytes whose
/// checksum it is.
fn replace(content: &mut [u8], identifier: u64) -> bool {
    let Some(checksum_at) = checksum_place(content) else { return false };
    let Some(place) = content.first_chunk_mut::<8>() else { return false };
    *place = identifier.to_ne_bytes();
    let (covered, rest) = content.split_at_mut(checksum_at);
    let Some(checksum) = rest.first_chunk_mut::<4>() else { return false };
    *checksum = (!covered.iter().fold(!0, crc32c)).to_ne_bytes();
    true
}

fn checksum_place(content: &[u8]) -> Option<usize> {
    // Far beyond any version's size, far before the padding's end.
    const LONGEST: usize = 500;
    let mut crc = !0;
    for (at, byte) in content.iter().enumerate().take(LONGEST) {
        crc = crc32c(crc, byte);
        let next = content.get(at + 1..at + 5)?;
        if next == (!crc).to_ne_bytes() {
            return Some(at + 1);
        }
    }
    None
}

/// One byte more of a CRC-32C (Castagnoli), bit by bit: it is a few hundred bytes.
fn crc32c(crc: u32, byte: &u8) -> u32 {
    (0..8)
        .fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82F6_3B78 } else { crc >> 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(!b"123456789".iter().fold(!0, crc32c), 0xE306_9283);
    }

    #[test]
    fn identifier_and_checksum_change_together() {
        let mut content: Vec<u8> = (0..100).collect();
        let checksum = !content.iter().fold(!0, crc32c);
        content.extend(checksum.to_ne_bytes());
        content.resize(8192, 0);
        assert!(replace(&mut content, 42));
        assert_eq!(content.first_chunk::<8>(), Some(&42_u64.to_ne_bytes()));
        assert_eq!(checksum_place(&content), Some(100));
        let mut foreign = vec![7; 8192];
        assert!(!replace(&mut foreign, 42), "what is not understood is left alone");
        assert!(foreign.iter().all(|byte| *byte == 7));
    }
}
