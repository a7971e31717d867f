//! The bill of materials against what Cargo and Cargo.lock say about this checkout.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "in a test a panic is a failure")]

use std::collections::BTreeSet;
use std::process::Command;

use lab::sbom::Bill;
use serde_json::Value;

/// What an image may be built for.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"];
/// One TLS stack, one library of time.
const NEVER: [&str; 7] =
    ["aws-lc-rs", "aws-lc-sys", "chrono", "native-tls", "openssl", "openssl-sys", "boring-sys"];

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// `name 1.2.3`, the operator's own package with the rest.
fn packages(document: &Value) -> Vec<&Value> {
    let others = document["components"].as_array().expect("components");
    others.iter().chain([&document["metadata"]["component"]]).collect()
}

/// What Cargo would link, as a plain list.
fn linked(target: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", "latency-operator", "--target", target])
        .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "--format", "{p}"])
        .current_dir(lab::workspace::root())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).expect("a text");
    let package = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next().expect("a name"), words.next().expect("a version"));
        format!("{name} {}", version.trim_start_matches('v'))
    };
    said.lines().map(package).collect()
}

#[test]
fn the_bill_has_what_is_linked_and_nothing_else() {
    for target in TARGETS {
        let bill = Bill::of_checkout(target).expect("a bill");
        let packages = packages(bill.document());
        let named: BTreeSet<String> = packages
            .iter()
            .map(|package| format!("{} {}", text(&package["name"]), text(&package["version"])))
            .collect();
        assert_eq!(named.len(), packages.len(), "one is there twice");
        assert_eq!(named, linked(target), "{target}");
        for package in &packages {
            let name = text(&package["name"]);
            assert!(!NEVER.contains(&name), "{name} is in the binary for {target}");
        }
    }
}

#[test]
fn each_package_says_where_it_is_from_and_under_which_licence_it_is() {
    let lock = std::fs::read_to_string(lab::workspace::root().join("Cargo.lock")).expect("Cargo.lock");
    let bill = Bill::of_checkout(TARGETS[0]).expect("a bill");
    for package in packages(bill.document()) {
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let purl = text(&package["purl"]);
        assert!(purl.starts_with(&format!("pkg:cargo/{name}@")), "{purl}");
        let license = text(&package["licenses"][0]["expression"]);
        assert!(spdx::Expression::parse(license).is_ok(), "{name}: {license}");
        if ["controller", "engine", "latency-operator"].contains(&name) {
            assert!(purl.contains("?download_url=file://."), "{purl} would be somebody else's");
            continue;
        }
        let checksum = text(&package["hashes"][0]["content"]);
        let wanted = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        let entry = lock.split("[[package]]\n").find(|entry| entry.starts_with(&wanted)).expect("an entry");
        assert!(checksum.len() == 64 && entry.contains(checksum), "{name} {version}: {checksum}");
    }
}

#[test]
fn what_needs_what_is_told_for_each_and_it_is_the_same_each_time() {
    let bill = Bill::of_checkout(TARGETS[0]).expect("a bill");
    let document = bill.document();
    let known: BTreeSet<&str> = packages(document).iter().map(|package| text(&package["bom-ref"])).collect();
    let mut reached = BTreeSet::from([text(&document["metadata"]["component"]["bom-ref"])]);
    let needs = document["dependencies"].as_array().expect("dependencies");
    assert_eq!(needs.iter().map(|need| text(&need["ref"])).collect::<BTreeSet<_>>(), known);
    // From the operator every package is reached.
    loop {
        let before = reached.len();
        for need in needs.iter().filter(|need| reached.contains(text(&need["ref"]))).collect::<Vec<_>>() {
            reached.extend(need["dependsOn"].as_array().expect("a list").iter().map(text));
        }
        if reached.len() == before {
            break;
        }
    }
    assert_eq!(reached, known);
    assert_eq!(Bill::of_checkout(TARGETS[0]).expect("a bill").document(), document);
}
