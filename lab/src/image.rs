//! Container images without a builder and without a registry: one layer of named files, as an archive that `docker load`
//! and `ctr images import` take. The same files give the same bytes.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::error::{Error, Result};
use crate::random::hex;

/// Where an archive says what is in it.
const MANIFEST: &str = "manifest.json";

/// What is at a place in an image.
#[derive(Debug, Clone)]
pub struct Entry {
    path: String,
    mode: u32,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    File(PathBuf),
    Text(String),
    Folder,
}

impl Entry {
    /// Where it is in the image, without a leading slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its text, if it is neither a folder nor a file of this machine.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::File(_) | Content::Folder => None,
        }
    }

    /// A program that everybody may run. Paths have no leading slash.
    #[must_use]
    pub fn program(path: &str, file: &Path) -> Self {
        Self { path: path.to_owned(), mode: 0o755, content: Content::File(file.to_owned()) }
    }

    /// A file that everybody may read.
    #[must_use]
    pub fn file(path: &str, file: &Path) -> Self {
        Self { path: path.to_owned(), mode: 0o644, content: Content::File(file.to_owned()) }
    }

    /// A file with this text.
    #[must_use]
    pub fn text(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), mode: 0o644, content: Content::Text(text.to_owned()) }
    }

    /// A folder; files need those that they are in.
    #[must_use]
    pub fn folder(path: &str) -> Self {
        Self { path: path.to_owned(), mode: 0o755, content: Content::Folder }
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        match &self.content {
            Content::File(file) => std::fs::read(file).map_err(Error::path("reading", file)),
            Content::Text(text) => Ok(text.clone().into_bytes()),
            Content::Folder => Ok(Vec::new()),
        }
    }
}

/// An image that is being put together.
#[derive(Debug, Clone)]
pub struct Archive {
    tag: String,
    architecture: String,
    config: Value,
    entries: Vec<Entry>,
}

impl Archive {
    /// An image of this name (`host/name:tag`) for this machine's architecture, and what is run in it.
    #[must_use]
    pub fn new(tag: &str, entrypoint: &[&str]) -> Self {
        Self {
            tag: tag.to_owned(),
            architecture: match std::env::consts::ARCH {
                "aarch64" => "arm64",
                "x86_64" => "amd64",
                other => other,
            }
            .to_owned(),
            config: json!({"Entrypoint": entrypoint, "WorkingDir": "/"}),
            entries: Vec::new(),
        }
    }

    /// Says for which architecture it is, by the name that images have for it: `amd64`, `arm64`.
    #[must_use]
    pub fn architecture(self, architecture: &str) -> Self {
        Self { architecture: architecture.to_owned(), ..self }
    }

    /// Sets something of its configuration, such as `User` or `Labels`.
    #[must_use]
    pub fn set(mut self, name: &str, value: Value) -> Self {
        if let Some(config) = self.config.as_object_mut() {
            config.insert(name.to_owned(), value);
        }
        self
    }

    /// Adds a file or a folder.
    #[must_use]
    pub fn entry(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// Its configuration, by the names that images have for it.
    #[must_use]
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// What is in it.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many bytes its files have together: what it weighs on a node, and before compression.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn size(&self) -> Result<u64> {
        self.entries.iter().try_fold(0, |sum, entry| Ok(sum + length(&entry.bytes()?)))
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let failed = |source| Error::path("writing", file)(source);
        let layer = self.layer(file)?;
        let digest = sha256(&layer);
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        })
        .to_string();
        let name = format!("{}.json", sha256(config.as_bytes()));
        let manifest = json!([{"Config": name, "RepoTags": [self.tag], "Layers": ["layer.tar"]}]).to_string();
        let mut archive = Builder::new(File::create(file).map_err(failed)?);
        for (path, bytes) in
            [(name.as_str(), config.as_bytes()), ("layer.tar", &layer), (MANIFEST, manifest.as_bytes())]
        {
            append(&mut archive, path, 0o644, EntryType::Regular, bytes).map_err(failed)?;
        }
        archive.into_inner().and_then(|mut out| out.flush()).map_err(failed)
    }

    fn layer(&self, file: &Path) -> Result<Vec<u8>> {
        let failed = |source| Error::path("putting together", file)(source);
        let mut layer = Builder::new(Vec::new());
        for entry in &self.entries {
            let kind = match entry.content {
                Content::Folder => EntryType::Directory,
                Content::File(_) | Content::Text(_) => EntryType::Regular,
            };
            append(&mut layer, &entry.path, entry.mode, kind, &entry.bytes()?).map_err(failed)?;
        }
        layer.into_inner().map_err(failed)
    }
}

/// Writes an archive again under another name: two builds of one version can then be on one node.
///
/// # Errors
/// `from` is no such archive, or `to` cannot be written.
pub fn rename(from: &Path, tag: &str, to: &Path) -> Result<()> {
    let (reading, writing) =
        (|source| Error::path("reading", from)(source), |source| Error::path("writing", to)(source));
    let mut archive = tar::Archive::new(File::open(from).map_err(reading)?);
    let mut renamed = Builder::new(File::create(to).map_err(writing)?);
    for entry in archive.entries().map_err(reading)? {
        let mut entry = entry.map_err(reading)?;
        let path = entry.path().map_err(reading)?.display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(reading)?;
        if path == MANIFEST {
            let mut manifest: Value =
                serde_json::from_slice(&bytes).map_err(|error| reading(error.into()))?;
            if let Some(image) = manifest.get_mut(0).and_then(Value::as_object_mut) {
                image.insert("RepoTags".to_owned(), json!([tag]));
            }
            bytes = manifest.to_string().into_bytes();
        }
        append(&mut renamed, &path, 0o644, EntryType::Regular, &bytes).map_err(writing)?;
    }
    renamed.into_inner().and_then(|mut out| out.flush()).map_err(writing)
}

/// Owned by root and as old as time: neither tells who built it, or when.
fn append(
    to: &mut Builder<impl Write>,
    path: &str,
    mode: u32,
    kind: EntryType,
    bytes: &[u8],
) -> std::io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(length(bytes));
    to.append_data(&mut header, path, bytes)
}

/// The SHA-256 of something, in hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_are_the_same_image() {
        let image = Archive::new("example.invalid/x:1", &["/x"])
            .entry(Entry::folder("etc"))
            .entry(Entry::text("etc/passwd", "nobody:x:65532:65532::/:\n"));
        let place = std::env::temp_dir().join(format!("lab-image-{}", crate::random::name().unwrap()));
        let (one, other) = (place.with_extension("1"), place.with_extension("2"));
        image.write(&one).unwrap();
        image.write(&other).unwrap();
        let (first, second) = (std::fs::read(&one).unwrap(), std::fs::read(&other).unwrap());
        std::fs::remove_file(one).unwrap();
        std::fs::remove_file(other).unwrap();
        assert_eq!(first, second);
        assert_eq!(image.size().unwrap(), 25);
        let mut archive = tar::Archive::new(first.as_slice());
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names.len(), 3);
        assert_eq!(&names[1..], ["layer.tar", "manifest.json"]);
    }

    #[test]
    fn an_image_under_another_name_has_the_same_content() {
        let image = Archive::new("example.invalid/x:1", &["/x"]).entry(Entry::text("x", "x"));
        let place = std::env::temp_dir().join(format!("lab-image-{}", crate::random::name().unwrap()));
        let (one, other, wanted) =
            (place.with_extension("1"), place.with_extension("2"), place.with_extension("3"));
        image.write(&one).unwrap();
        rename(&one, "example.invalid/y:2", &other).unwrap();
        Archive { tag: "example.invalid/y:2".to_owned(), ..image }.write(&wanted).unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), std::fs::read(&wanted).unwrap());
        for path in [one, other, wanted] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
