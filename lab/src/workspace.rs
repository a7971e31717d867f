//! The checkout that this laboratory was built from, and the operator in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::session::Session;
use crate::spec::Spec;

const BUILD_LIMIT: Duration = Duration::from_secs(45 * 60);
const OPERATOR: &str = "latency-operator";
/// What the demo's application and its users need of Python.
pub const PYTHON: &str = "demo/requirements.txt";

/// The folder of the checkout.
pub fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Builds the operator of this checkout, with debug information and without optimisation, and says where it is.
///
/// A release build takes several times as long, and nothing that people see in the laboratory is faster with it.
pub async fn build_operator(session: &Session) -> Result<PathBuf> {
    session.say("building the operator (1 to 3 minutes, if it has changed)");
    let log = session.folder().join("cargo-build.log");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let spec = Spec::new("cargo", cargo)
        .folder(root())
        .log(&log)
        .envs(std::env::vars_os().filter(|(name, _)| !is_of_outer_cargo(name)))
        .args(["build", "--bin", OPERATOR, "--message-format", "json-render-diagnostics"]);
    session.run_long(spec, "building the operator", BUILD_LIMIT).await?;
    let text = std::fs::read_to_string(&log).map_err(Error::path("reading", &log))?;
    executable(&text).ok_or_else(|| {
        Error::setup(
            "building the operator",
            format!("cargo did not say in {} where it put the program", log.display()),
            "build it with `cargo build --bin latency-operator`, and say where it is",
        )
    })
}

/// Builds the operator's image of this checkout with `make image`, and says where it is. Several minutes, where it has changed.
///
/// # Errors
/// It cannot be built.
pub fn build_image() -> Result<PathBuf> {
    let make = |target: &[&str]| {
        let mut make = Command::new("make");
        make.args(["--no-print-directory"]).args(target).current_dir(root());
        std::env::vars_os().filter(|(name, _)| is_of_outer_cargo(name)).for_each(|(name, _)| {
            make.env_remove(name);
        });
        make
    };
    let doing = || "building the image".to_owned();
    let built = make(&["image"]).status().map_err(Error::io(doing()))?;
    let place = make(&["--silent", "image-path"]).output().map_err(Error::io(doing()))?;
    if built.success() && place.status.success() {
        return Ok(PathBuf::from(String::from_utf8_lossy(&place.stdout).trim()));
    }
    Err(Error::setup(doing(), format!("`make image` ended with {built}"), "read what it printed"))
}

/// What cargo tells the programs that it runs would make the cargo within believe that its build scripts are out of
/// date, and build half of everything again.
fn is_of_outer_cargo(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let begins = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
        .iter()
        .any(|begin| name.starts_with(begin));
    begins || matches!(&*name, "CARGO" | "CARGO_TARGET_TMPDIR" | "OUT_DIR" | "LD_LIBRARY_PATH")
}

#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Cargo writes one JSON object on each line, and its messages for people in between.
fn executable(text: &str) -> Option<PathBuf> {
    let artifacts = text.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts.filter(|artifact| artifact.target.name == OPERATOR).find_map(|artifact| artifact.executable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_all_that_cargo_says() {
        let text = concat!(
            "   Compiling engine v0.1.0\n",
            r#"{"reason":"compiler-artifact","target":{"name":"latency_operator"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"latency-operator"},"executable":"/t/latency-operator"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(text), Some(PathBuf::from("/t/latency-operator")));
        assert_eq!(executable("    Finished"), None);
    }

    #[test]
    fn what_cargo_tells_the_programs_that_it_runs_is_left_out() {
        for name in [
            "CARGO_PKG_NAME",
            "CARGO_MANIFEST_DIR",
            "CARGO_BIN_EXE_lab",
            "CARGO_CRATE_NAME",
            "OUT_DIR",
            "LD_LIBRARY_PATH",
        ] {
            assert!(is_of_outer_cargo(&name.into()), "{name}");
        }
        for name in ["CARGO_TARGET_DIR", "CARGO_HOME", "PATH", "RUSTFLAGS"] {
            assert!(!is_of_outer_cargo(&name.into()), "{name}");
        }
    }
}
