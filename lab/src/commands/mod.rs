//! One file for each subcommand.

pub(crate) mod cluster;
pub(crate) mod demo;
mod end;
pub(crate) mod image;
pub(crate) mod sbom;
pub(crate) mod tools;
pub(crate) mod up;

use std::io::Write;
use std::process::{ExitCode, ExitStatus};

/// Ends as another program has ended.
fn code(status: ExitStatus) -> ExitCode {
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Writes to standard output what other programs may read; that nobody reads it any more is no failure.
fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
