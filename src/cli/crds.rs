//! `latency-operator crds`

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use crate::api;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write one file for each kind into this folder instead of printing them.
    #[arg(long)]
    directory: Option<PathBuf>,
}

pub(super) fn print(args: &Args) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    for definition in api::definitions() {
        let text = format!("---\n{}", serde_saphyr::to_string(&definition)?);
        match &args.directory {
            None => stdout.write_all(text.as_bytes())?,
            Some(directory) => {
                let path = directory.join(format!("{}.yaml", definition.spec.names.plural));
                std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
    }
    Ok(())
}
