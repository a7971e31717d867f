//! `lab sbom`

use std::path::{Path, PathBuf};

use lab::sbom::Bill;
use lab::{Error, Result};
use serde_json::Value;

/// What `lab sbom` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What Cargo calls the machine that the binary is for.
    #[arg(long)]
    target: String,
    /// The binary that it is of: its checksum is written down.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// What Cargo said while it built the binary (`--message-format json`): compared with the bill.
    #[arg(long)]
    built: Option<PathBuf>,
    /// Where the bill is written.
    #[arg(long)]
    output: PathBuf,
}

/// Writes down what goes into the operator's binary.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut bill = Bill::of_checkout(&arguments.target)?;
    if let Some(built) = &arguments.built {
        bill.agrees_with(&String::from_utf8_lossy(&read(built)?))?;
    }
    if let Some(binary) = &arguments.binary {
        bill = bill.of_binary(&lab::image::sha256(&read(binary)?));
    }
    let text = format!("{:#}\n", bill.document());
    std::fs::write(&arguments.output, text)
        .map_err(|source| Error::Io { doing: format!("writing {}", arguments.output.display()), source })?;
    let packages = bill.document().pointer("/components").and_then(Value::as_array).map_or(0, Vec::len);
    super::print(&format!("bill of materials: {packages} packages, {}\n", arguments.output.display()));
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|source| Error::Io { doing: format!("reading {}", file.display()), source })
}
