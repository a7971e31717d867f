//! What `cargo tree` says, as packages and what each of them needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{Error, Result};

/// A package by name and version: Cargo links no two of one name and version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) version: String,
}

/// What a package says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) license: String,
    pub(super) repository: String,
    /// Its folder in the checkout, if it is one of our own: empty for the checkout's own.
    pub(super) folder: Option<String>,
    pub(super) needs: BTreeSet<Key>,
}

/// Packages by what they are; the first that Cargo names is the one that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) first: Key,
    pub(super) packages: BTreeMap<Key, Package>,
}

/// Reads `cargo tree --prefix depth --format "\t{p}\t{l}\t{r}\t"`. What a package needs stands below its first mention only.
pub(super) fn read(text: &str, root: &Path) -> Result<Tree> {
    let mut packages: BTreeMap<Key, Package> = BTreeMap::new();
    // Those above the line that is read, the first of all first.
    let mut above: Vec<Key> = Vec::new();
    let mut first = None;
    for line in text.lines() {
        let (depth, key, package) = read_line(line, root)?;
        above.truncate(depth);
        if let Some(needing) = above.last().and_then(|above| packages.get_mut(above)) {
            needing.needs.insert(key.clone());
        }
        first.get_or_insert_with(|| key.clone());
        packages.entry(key.clone()).or_insert(package);
        above.push(key);
    }
    let first = first.ok_or_else(|| unreadable("", "it is empty"))?;
    Ok(Tree { first, packages })
}

fn read_line(line: &str, root: &Path) -> Result<(usize, Key, Package)> {
    let mut fields = line.split('\t');
    let mut next = || fields.next().ok_or_else(|| unreadable(line, "a field is missing"));
    let depth = next()?.parse().map_err(|_| unreadable(line, "it does not begin with a depth"))?;
    let (package, license, repository) = (next()?, next()?, next()?);
    // `name v1.2.3`, and behind it in brackets where it is from, if that is not the registry.
    let (name, rest) = package.split_once(" v").ok_or_else(|| unreadable(line, "it has no version"))?;
    let (version, source) = rest.split_once(' ').unwrap_or((rest, ""));
    let folder = match source {
        "" => None,
        source => {
            let path = Path::new(source.trim_start_matches('(').trim_end_matches(')'));
            let inside = path
                .strip_prefix(root)
                .map_err(|_| unreadable(line, "it is neither ours nor of the registry"))?;
            Some(inside.display().to_string())
        }
    };
    let key = Key { name: name.to_owned(), version: version.to_owned() };
    let (license, repository) = (license.to_owned(), repository.to_owned());
    Ok((depth, key, Package { license, repository, folder, needs: BTreeSet::new() }))
}

fn unreadable(line: &str, problem: &str) -> Error {
    Error::setup(
        "reading what `cargo tree` says",
        format!("{problem}: {line:?}"),
        "use packages of the registry; for another kind of source, teach lab/src/sbom/tree.rs what it is called",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { name: name.to_owned(), version: "1.0.0".to_owned() }
    }

    #[test]
    fn what_is_said_once_is_known_wherever_it_is_needed() {
        let text = "0\tx v1.0.0 (/src)\tMIT\t\t\n\
                    1\ta v1.0.0 (/src/a)\tMIT\t\t\n\
                    2\tb v1.0.0\tISC\thttps://example.invalid/b\t\n\
                    3\tc v1.0.0\tMIT\t\t\n\
                    1\tb v1.0.0\tISC\thttps://example.invalid/b\t (*)\n\
                    1\tc v1.0.0\tMIT\t\t\n";
        let tree = read(text, Path::new("/src")).unwrap();
        assert_eq!(tree.first, key("x"));
        let needs = |name: &str| {
            tree.packages[&key(name)].needs.iter().map(|key| key.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!((needs("x"), needs("a"), needs("b")), (vec!["a", "b", "c"], vec!["b"], vec!["c"]));
        assert_eq!(tree.packages[&key("x")].folder.as_deref(), Some(""));
        assert_eq!(tree.packages[&key("a")].folder.as_deref(), Some("a"));
        assert_eq!(tree.packages[&key("b")].repository, "https://example.invalid/b");
    }

    #[test]
    fn a_package_of_unknown_origin_is_refused() {
        for source in ["(https://example.invalid/x.git#0123)", "(/elsewhere/x)"] {
            let error = read(&format!("0\tx v1.0.0 {source}\tMIT\t\t\n"), Path::new("/src")).unwrap_err();
            assert!(error.to_string().contains("neither ours nor of the registry"), "{error}");
        }
        assert!(read("", Path::new("/src")).is_err());
    }
}
