//! Everything that documents and examples show of the product's own kinds.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// An object, and where it is shown.
pub(crate) struct Shown {
    pub(crate) place: String,
    pub(crate) object: Value,
}

impl Shown {
    pub(crate) fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }

    pub(crate) fn is_ours(&self) -> bool {
        let version = self.object["apiVersion"].as_str().unwrap_or_default();
        version.starts_with("latency-operator.dev/")
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files with that extension in a folder of the repository and below it, in order.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|known| known == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The objects of a text of YAML documents.
pub(crate) fn objects(place: &str, text: &str) -> Vec<Shown> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{place}: {error}"));
    documents.into_iter().map(|object| Shown { place: place.to_owned(), object }).collect()
}

/// The objects of all YAML files in a folder and below it.
pub(crate) fn in_files(folder: &str) -> Vec<Shown> {
    let files = files(folder, "yaml");
    files.iter().flat_map(|path| objects(&path.display().to_string(), &read(path))).collect()
}

/// The product's own objects in the blocks of all documents.
pub(crate) fn in_documents() -> Vec<Shown> {
    let mut documents = vec![root().join("README.md"), root().join("demo/README.md")];
    documents.extend(files("docs", "md"));
    documents.extend(files("examples", "md"));
    let mut found = Vec::new();
    for document in documents {
        for part in read(&document).split("```yaml\n").skip(1) {
            let block = &part[..part.find("```").expect("the end of a block")];
            if block.contains("apiVersion: latency-operator.dev/") {
                found.extend(objects(&document.display().to_string(), block));
            }
        }
    }
    found
}
