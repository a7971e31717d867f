//! The document, and its comparison with what Cargo really built.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::tree::{Key, Package, Tree};
use crate::error::{Error, Result};

/// A bill of materials.
#[derive(Debug, Clone)]
pub struct Bill {
    target: String,
    document: Value,
    keys: BTreeSet<Key>,
}

impl Bill {
    pub(super) fn new(target: &str, compiler: &str, tree: &Tree, lock: &str) -> Result<Self> {
        let checksums = checksums(lock);
        let (mut own, mut components, mut dependencies) = (Value::Null, Vec::new(), Vec::new());
        for (key, package) in &tree.packages {
            let component = component(key, package, checksums.get(key))?;
            let needs = package.needs.iter().filter_map(|need| Some(purl(need, tree.packages.get(need)?)));
            dependencies.push(json!({"ref": purl(key, package), "dependsOn": needs.collect::<Vec<_>>()}));
            if *key == tree.first {
                own = component;
            } else {
                components.push(component);
            }
        }
        if let Some(own) = own.as_object_mut() {
            own.insert("type".to_owned(), json!("application"));
        }
        let properties =
            [("cdx:rustc:sbom:target:triple", target), ("latency-operator:compiler", compiler.trim())]
                .map(|(name, value)| json!({"name": name, "value": value}));
        let document = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {"component": own, "properties": properties},
            "components": components,
            "dependencies": dependencies,
        });
        Ok(Self { target: target.to_owned(), document, keys: tree.packages.keys().cloned().collect() })
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Says of which binary it is, by its SHA-256 in hexadecimal.
    #[must_use]
    pub fn of_binary(mut self, sha256: &str) -> Self {
        if let Some(own) = self.document.pointer_mut("/metadata/component").and_then(Value::as_object_mut) {
            own.insert("hashes".to_owned(), hashes(sha256));
        }
        self
    }

    /// Compares it with what Cargo says that it has built for the target (`cargo build --message-format json`), up to date or not.
    ///
    /// # Errors
    /// Something was built that is not in the bill, or is in it and was not built.
    pub fn agrees_with(&self, messages: &str) -> Result<()> {
        let built: BTreeSet<Key> = messages.lines().filter_map(|line| linked(line, &self.target)).collect();
        if built == self.keys {
            return Ok(());
        }
        let names = |keys: Vec<&Key>| {
            keys.iter().map(|key| format!("{} {}", key.name, key.version)).collect::<Vec<_>>().join(", ")
        };
        Err(Error::setup(
            "comparing the bill of materials with what was built",
            format!(
                "built, and not in the bill: [{}]; in the bill, and not built: [{}]",
                names(built.difference(&self.keys).collect()),
                names(self.keys.difference(&built).collect())
            ),
            "build for the target that the bill is of, with `--locked`, and without features; see lab/src/sbom",
        ))
    }
}

fn component(key: &Key, package: &Package, checksum: Option<&String>) -> Result<Value> {
    let purl = purl(key, package);
    let mut component = json!({
        "type": "library",
        "bom-ref": purl,
        "name": key.name,
        "version": key.version,
        "scope": "required",
        "licenses": [{"expression": license(key, package)?}],
        "purl": purl,
    });
    if let Some(component) = component.as_object_mut() {
        if let Some(checksum) = checksum {
            component.insert("hashes".to_owned(), hashes(checksum));
        }
        if !package.repository.is_empty() {
            component
                .insert("externalReferences".to_owned(), json!([{"type": "vcs", "url": package.repository}]));
        }
    }
    Ok(component)
}

fn hashes(sha256: &str) -> Value {
    json!([{"alg": "SHA-256", "content": sha256}])
}

/// A package's address in the language of bills. One of our own is told apart from whatever has its name in the registry.
fn purl(key: &Key, package: &Package) -> String {
    let Key { name, version } = key;
    // What may stand behind a version, and has a meaning in an address.
    let version = version.replace('+', "%2B");
    match package.folder.as_deref() {
        None => format!("pkg:cargo/{name}@{version}"),
        Some("") => format!("pkg:cargo/{name}@{version}?download_url=file://."),
        Some(folder) => format!("pkg:cargo/{name}@{version}?download_url=file://./{folder}"),
    }
}

/// The licence in today's notation: some write `MIT/Apache-2.0`.
fn license(key: &Key, package: &Package) -> Result<String> {
    let said = package.license.as_str();
    let canonical = spdx::Expression::canonicalize(said).ok().flatten().unwrap_or_else(|| said.to_owned());
    match spdx::Expression::parse(&canonical) {
        Ok(_) => Ok(canonical),
        Err(error) => Err(Error::setup(
            format!("reading the licence of {} {}", key.name, key.version),
            format!("{said:?} is no expression of SPDX licences: {}", error.reason),
            "find out under which licence it is, or do without it",
        )),
    }
}

/// What Cargo.lock says about what comes from the registry.
fn checksums(lock: &str) -> BTreeMap<Key, String> {
    let packages = lock.split("[[package]]").skip(1);
    let read = |package: &str| {
        let value = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""))?;
            Some(line.trim_end_matches('"').to_owned())
        };
        Some((Key { name: value("name")?, version: value("version")? }, value("checksum")?))
    };
    packages.filter_map(read).collect()
}

/// One line of what Cargo says while it builds.
#[derive(Deserialize)]
struct Artifact {
    package_id: String,
    target: ArtifactTarget,
    filenames: Vec<String>,
}

#[derive(Deserialize)]
struct ArtifactTarget {
    kind: Vec<String>,
}

/// The package that the line says was compiled for the target; what was compiled for the machine that builds lies elsewhere.
fn linked(line: &str, target: &str) -> Option<Key> {
    let artifact: Artifact = serde_json::from_str(line).ok()?;
    let folder = format!("/{target}/");
    if !artifact.filenames.iter().any(|file| file.contains(&folder))
        || artifact.target.kind.iter().any(|kind| kind == "custom-build" || kind == "proc-macro")
    {
        return None;
    }
    // `registry+https://...#name@1.2.3`, or `path+file:///.../name#1.2.3`.
    let (source, rest) = artifact.package_id.split_once('#')?;
    let (name, version) = rest.split_once('@').or_else(|| Some((source.rsplit('/').next()?, rest)))?;
    Some(Key { name: name.to_owned(), version: version.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tree;
    use super::*;

    const TREE: &str = "0\tx v1.0.0 (/src)\tApache-2.0\t\t\n\
                        1\tengine v0.1.0 (/src/engine)\tApache-2.0\t\t\n\
                        1\tb v2.0.0+rc\tMIT/Apache-2.0\thttps://example.invalid/b\t\n";
    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"b\"\nversion = \"2.0.0+rc\"\nchecksum = \"aa\"\n\n\
                        [[package]]\nname = \"x\"\nversion = \"1.0.0\"\n";

    fn bill(tree: &str) -> Result<Bill> {
        Bill::new("t", "rustc 1\n", &tree::read(tree, Path::new("/src")).unwrap(), LOCK)
    }

    fn built(id: &str, kind: &str, folder: &str) -> String {
        json!({"reason": "compiler-artifact", "package_id": id, "target": {"kind": [kind]},
               "filenames": [format!("/target{folder}/release/x")]})
        .to_string()
    }

    #[test]
    fn each_package_has_its_address_its_licence_and_its_checksum() {
        let bill = bill(TREE).unwrap().of_binary("bb");
        let own = &bill.document["metadata"]["component"];
        assert_eq!((&own["type"], &own["hashes"]), (&json!("application"), &hashes("bb")));
        let components = bill.document["components"].as_array().unwrap();
        let purls: Vec<&str> =
            components.iter().map(|component| component["purl"].as_str().unwrap()).collect();
        assert_eq!(purls, ["pkg:cargo/b@2.0.0%2Brc", "pkg:cargo/engine@0.1.0?download_url=file://./engine"]);
        assert_eq!(components[0]["licenses"], json!([{"expression": "MIT OR Apache-2.0"}]));
        assert_eq!(components[0]["hashes"], hashes("aa"));
        assert_eq!(components[1].get("hashes"), None);
        assert_eq!(bill.document["dependencies"][2]["dependsOn"], json!(purls));
    }

    #[test]
    fn a_package_without_a_licence_is_refused() {
        for license in ["", "what we like", "MIT OR"] {
            let error = bill(&format!("0\tx v1.0.0 (/src)\t{license}\t\t\n")).unwrap_err();
            assert!(error.to_string().contains("no expression of SPDX licences"), "{error}");
        }
    }

    #[test]
    fn what_was_built_and_what_is_in_it_are_compared() {
        let registry = "registry+https://example.invalid/index";
        let lines = [
            built("path+file:///src#x@1.0.0", "bin", "/t"),
            built("path+file:///src/engine#0.1.0", "lib", "/t"),
            built(&format!("{registry}#b@2.0.0+rc"), "rlib", "/t"),
            // Build scripts, and what they and macros are made of.
            built(&format!("{registry}#c@1.0.0"), "custom-build", "/t"),
            built(&format!("{registry}#d@1.0.0"), "proc-macro", ""),
            built(&format!("{registry}#e@1.0.0"), "lib", ""),
            "{\"reason\":\"build-finished\",\"success\":true}".to_owned(),
        ];
        let bill = bill(TREE).unwrap();
        bill.agrees_with(&lines.join("\n")).unwrap();
        let less = bill.agrees_with(&lines[..2].join("\n")).unwrap_err().to_string();
        assert!(less.contains("in the bill, and not built: [b 2.0.0+rc]"), "{less}");
        let more = [lines.join("\n"), built(&format!("{registry}#openssl@1.0.0"), "lib", "/t")].join("\n");
        let more = bill.agrees_with(&more).unwrap_err().to_string();
        assert!(more.contains("built, and not in the bill: [openssl 1.0.0]"), "{more}");
    }
}
