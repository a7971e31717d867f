//! `lab image`

use std::path::{Path, PathBuf};

use lab::image::{Archive, Entry};
use lab::{Error, Result};
use serde_json::json;

/// DESIGN's budget for the image, in megabytes.
const BUDGET: f64 = 25.0;
/// What the image says that it is: the operator's own description, as in its Cargo.toml.
const DESCRIPTION: &str = "A Kubernetes operator that finds out why an API is slow, mends it with guarded remediations, and proves that it helped";
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
    let architecture = architecture(&program).map_err(|problem| Error::Setup {
        doing: format!("putting {} into an image", arguments.binary.display()),
        problem,
        remedy: "build it with `make image`, for another machine with `make image ARCH=arm64`".to_owned(),
    })?;
    let image = assemble(&arguments.tag, &arguments.binary).architecture(architecture);
    image.write(&arguments.output)?;
    let bytes = image.size()?;
    #[allow(clippy::cast_precision_loss, reason = "sizes of images are far below 2^52")]
    let megabytes = bytes as f64 / 1e6;
    super::print(&format!(
        "image for {architecture}: {megabytes:.1} MB (budget {BUDGET}), {}\n",
        arguments.output.display()
    ));
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
        .set(
            "Labels",
            json!({
                "org.opencontainers.image.title": "latency-operator",
                "org.opencontainers.image.description": DESCRIPTION,
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            }),
        )
        .set("Env", json!(["PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"]))
        .entry(Entry::folder("etc"))
        .entry(Entry::text("etc/passwd", "nonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"))
        .entry(Entry::text("etc/group", "nonroot:x:65532:\n"))
        .entry(Entry::folder("etc/ssl"))
        .entry(Entry::folder("etc/ssl/certs"))
        .entry(Entry::file("etc/ssl/certs/ca-certificates.crt", Path::new(AUTHORITIES)))
        .entry(Entry::program("latency-operator", binary))
}

/// What images call the machine that a program is for: its ELF header tells, whatever machine this is.
fn architecture(program: &[u8]) -> Result<&'static str, String> {
    match program.get(..20) {
        Some([0x7f, b'E', b'L', b'F', .., 0x3e, 0]) => Ok("amd64"),
        Some([0x7f, b'E', b'L', b'F', .., 0xb7, 0]) => Ok("arm64"),
        _ => Err("it is no program for x86_64 or aarch64, for which images are made".to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::*;

    const DOCKERFILE: &str = include_str!("../../../Dockerfile");
    const MANIFEST: &str = include_str!("../../../Cargo.toml");

    /// The instructions of the last stage, one a line.
    fn last_stage() -> Vec<(String, String)> {
        let text = DOCKERFILE.replace("\\\n", " ");
        let last = text.split("\nFROM ").last().unwrap().split_once('\n').unwrap().1.to_owned();
        let instructions = last.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        instructions
            .map(|line| line.split_once(' ').unwrap())
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect()
    }

    /// What is said by one kind of instruction, as `name="value"` or `name=value`.
    fn pairs(instruction: &str) -> BTreeMap<String, String> {
        let stage = last_stage();
        let texts = stage.iter().filter(|(name, _)| name == instruction).map(|(_, text)| text.clone());
        let mut rest = texts.collect::<Vec<_>>().join(" ").trim().to_owned() + " ";
        let mut pairs = BTreeMap::new();
        while let Some((name, value)) = rest.trim_start().split_once('=') {
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').unwrap(),
                None => value.split_once(' ').unwrap(),
            };
            pairs.insert(name.to_owned(), value.to_owned());
            rest = after.to_owned();
        }
        pairs
    }

    fn one(instruction: &str) -> String {
        let stage = last_stage();
        let mut found = stage.iter().filter(|(name, _)| name == instruction);
        let (_, text) = found.next().unwrap();
        assert!(found.next().is_none(), "{instruction} is there twice");
        text.clone()
    }

    fn image() -> Archive {
        assemble("x:1", Path::new("/nowhere"))
    }

    #[test]
    fn the_labels_are_those_of_the_dockerfile_and_of_the_package() {
        let labels: BTreeMap<String, String> =
            serde_json::from_value(image().config()["Labels"].clone()).unwrap();
        assert_eq!(labels, pairs("LABEL"));
        let said = |name: &str, value: &str| {
            let line = format!("\n{name} = \"{value}\"\n");
            assert!(MANIFEST.contains(&line), "Cargo.toml does not say {line}");
        };
        for (label, name) in [("title", "name"), ("description", "description"), ("licenses", "license")] {
            said(name, &labels[&format!("org.opencontainers.image.{label}")]);
        }
        said("version", &labels["org.opencontainers.image.version"]);
    }

    #[test]
    fn it_runs_as_the_dockerfile_says() {
        let image = image();
        let config = image.config();
        assert_eq!(config["User"], one("USER"));
        let entrypoint: serde_json::Value = serde_json::from_str(&one("ENTRYPOINT")).unwrap();
        assert_eq!(config["Entrypoint"], entrypoint);
        let variables: Vec<String> =
            pairs("ENV").iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut ours: Vec<String> = serde_json::from_value(config["Env"].clone()).unwrap();
        ours.sort();
        assert_eq!(ours, variables);
    }

    #[test]
    fn it_has_the_files_of_the_dockerfile_and_no_others() {
        let image = image();
        let stage = last_stage();
        let mut copied: Vec<&str> = stage
            .iter()
            .filter(|(name, _)| name == "COPY")
            .map(|(_, text)| text.rsplit_once(" /").unwrap().1)
            .collect();
        copied.sort_unstable();
        let folder = |path: &str| copied.iter().any(|file| file.starts_with(&format!("{path}/")));
        let mut ours: Vec<&str> =
            image.entries().iter().map(Entry::path).filter(|path| !folder(path)).collect();
        ours.sort_unstable();
        assert_eq!(ours, copied);
        for (path, file) in [("etc/passwd", "passwd"), ("etc/group", "group")] {
            let entry = image.entries().iter().find(|entry| entry.path() == path).unwrap();
            let line = format!("echo '{}' > /{file}", entry.as_text().unwrap().trim_end());
            assert!(DOCKERFILE.contains(&line), "the Dockerfile does not say {line}");
        }
    }

    /// Cargo reads every manifest of the workspace, and wants each target that one names by name, whatever it is asked to build.
    #[test]
    fn the_dockerfile_is_given_what_cargo_asks_for() {
        let root = lab::workspace::root();
        let ignored = std::fs::read_to_string(root.join(".dockerignore")).unwrap();
        let given: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
        let context = std::env::temp_dir().join(format!("lab-context-{}", std::process::id()));
        std::fs::create_dir(&context).unwrap();
        let mut copy = Command::new("cp");
        copy.args(["-r", "--parents", "-t"]).arg(&context).args(given).current_dir(root);
        assert!(copy.status().unwrap().success());
        // Nothing is built: that it looks for the program says that it is content with all that it was given.
        let cargo = Command::new(env!("CARGO"))
            .args(["build", "--offline", "--locked", "--package", "latency-operator", "--bin", "nothing"])
            .current_dir(&context)
            .output();
        std::fs::remove_dir_all(&context).unwrap();
        let said = String::from_utf8(cargo.unwrap().stderr).unwrap();
        assert!(said.contains("no bin target named `nothing`"), "{said}");
    }

    #[test]
    fn a_program_says_which_machine_it_is_for() {
        let program =
            |machine: u8| [&b"\x7fELF"[..], &[2, 1, 1], &[0; 9], &[3, 0, machine, 0], &[0; 44]].concat();
        assert_eq!(architecture(&program(0x3e)), Ok("amd64"));
        assert_eq!(architecture(&program(0xb7)), Ok("arm64"));
        assert!(architecture(&program(0x28)).is_err());
        assert!(architecture(b"#!/bin/sh").is_err());
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let here = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => panic!("no image is made for {other}"),
        };
        assert_eq!(architecture(&own), Ok(here));
    }
}
