//! `lab image`

use std::path::{Path, PathBuf};

use lab::image::{Archive, Entry};
use lab::{Error, Result};
use serde_json::json;

/// DESIGN's budget for the image, in megabytes.
const BUDGET: f64 = 25.0;
/// The authorities that this machine trusts: those that servers of metrics and data have their certificates from.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What `lab image` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The operator, linked statically.
    #[arg(long)]
    binary: PathBuf,
    /// The name of the image.
    #[arg(long, default_value = concat!("latency-operator:", env!("CARGO_PKG_VERSION")))]
    tag: String,
    /// Where the archive is written.
    #[arg(long)]
    output: PathBuf,
}

/// Puts together what the Dockerfile does, where there is no Docker, and says what it weighs.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let program = std::fs::read(&arguments.binary)
        .map_err(|source| Error::Io { doing: format!("reading {}", arguments.binary.display()), source })?;
    if let Some(loader) = loader(&program) {
        return Err(Error::Setup {
            doing: format!("putting {} into an image", arguments.binary.display()),
            problem: format!(
                "it is not linked statically: it wants {loader}, and the image has nothing else in it"
            ),
            remedy: "build it with `make image`".to_owned(),
        });
    }
    let image = assemble(&arguments.tag, &arguments.binary);
    image.write(&arguments.output)?;
    let bytes = image.size()?;
    #[allow(clippy::cast_precision_loss, reason = "sizes of images are far below 2^52")]
    let megabytes = bytes as f64 / 1e6;
    super::print(&format!("image: {megabytes:.1} MB (budget {BUDGET})\n"));
    if megabytes > BUDGET {
        return Err(Error::Setup {
            doing: "weighing the image".to_owned(),
            problem: format!("{megabytes:.1} MB are over the budget of {BUDGET} MB"),
            remedy: "find out which dependency grew: `cargo bloat --release --crates`".to_owned(),
        });
    }
    Ok(())
}

/// The root file system of the Dockerfile's last stage.
fn assemble(tag: &str, binary: &Path) -> Archive {
    Archive::new(tag, &["/latency-operator"])
        .set("User", json!("65532:65532"))
        .set("Env", json!(["PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"]))
        .entry(Entry::folder("etc"))
        .entry(Entry::text("etc/passwd", "nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"))
        .entry(Entry::text("etc/group", "nonroot:x:65532:\n"))
        .entry(Entry::folder("etc/ssl"))
        .entry(Entry::folder("etc/ssl/certs"))
        .entry(Entry::file("etc/ssl/certs/ca-certificates.crt", Path::new(AUTHORITIES)))
        .entry(Entry::program("latency-operator", binary))
}

/// The loader that a program asks for, if it is not static: the path is written in it as text.
fn loader(program: &[u8]) -> Option<String> {
    let magic = b"/lib";
    // The interpreter stands in the first pages of an ELF file, behind its headers.
    let head = program.get(..8192).unwrap_or(program);
    let start = head.windows(magic.len()).position(|window| window == magic)?;
    let rest = head.get(start..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let text = String::from_utf8_lossy(rest.get(..end)?).into_owned();
    text.contains("ld-").then_some(text)
}
