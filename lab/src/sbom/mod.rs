//! The bill of materials of the operator's binary, as CycloneDX: which packages are linked into it for a target, where they come from,
//! and under which licences. The same checkout and compiler give the same bytes: nothing tells who made it, or when.

mod bill;
mod tree;

use std::process::Command;

pub use bill::Bill;

use crate::error::{Error, Result};
use crate::workspace::root;

/// The package whose binary is shipped.
const PACKAGE: &str = "latency-operator";

impl Bill {
    /// What goes into the binary of this checkout for a target, such as `x86_64-unknown-linux-musl`: asked of Cargo, and nothing is
    /// built for it.
    ///
    /// # Errors
    /// Cargo cannot tell, or a package does not say what a bill needs.
    pub fn of_checkout(target: &str) -> Result<Self> {
        // What procedural macros are made of runs in the compiler; cargo shows it as `normal` all the same.
        let edges = "normal,no-proc-macro";
        let format = "\t{p}\t{l}\t{r}\t";
        let arguments = ["tree", "--locked", "--package", PACKAGE, "--edges", edges, "--target", target];
        let tree = cargo(&[&arguments[..], &["--prefix", "depth", "--format", format]].concat())?;
        let lock = root().join("Cargo.lock");
        let lock = std::fs::read_to_string(&lock).map_err(Error::path("reading", &lock))?;
        Self::new(target, &said_by("rustc", &["--version"])?, &tree::read(&tree, root())?, &lock)
    }
}

/// What cargo says about this checkout.
fn cargo(arguments: &[&str]) -> Result<String> {
    said_by(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), arguments)
}

fn said_by(program: &str, arguments: &[&str]) -> Result<String> {
    let doing = format!("asking {program}: {}", arguments.join(" ").trim());
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .map_err(Error::io(doing.clone()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let problem = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::setup(
        doing,
        problem,
        "run it by hand in the checkout; `cargo fetch --locked` gets what is missing",
    ))
}
