//! Imports go one way. Each crate has a table of its modules, lowest first: a module imports only what its row names, and a
//! row names only modules above it. So an import in the other direction fails here, and so does a circle in a table.
//!
//! The whole workspace is checked from here, because the engine's tests are the cheapest to build and run before each commit.
#![expect(clippy::disallowed_methods, reason = "the test reads source files; the engine does not")]
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module and the modules that it may import.
type Row = (&'static str, &'static [&'static str]);

/// The modules of a crate, lowest first.
struct Layers {
    root: &'static str,
    rows: &'static [Row],
    /// Imports against the table that exist today. An entry that is no longer needed fails: the list only shrinks.
    exceptions: &'static [(&'static str, &'static str)],
}

const ENGINE: Layers = Layers {
    root: "engine/src/lib.rs",
    rows: &[
        ("planted", &[]),
        ("base", &[]),
        ("stats", &["base"]),
        // Memory is counted in, and snapshots are made of, what stands in these: they are nouns, too.
        ("dependencies", &["base", "stats"]),
        ("model", &["base", "stats", "dependencies", "planted"]),
        ("effects", &["model"]),
        ("rollback", &["model", "effects"]),
        // The second opinion: it shares the nouns with the rest, and no logic.
        ("invariants", &["model", "effects"]),
        ("judge", &["model", "planted"]),
        ("causes", &["model", "dependencies", "judge", "planted"]),
        ("investigate", &["model", "causes"]),
        ("actions", &["model", "dependencies", "effects", "judge", "causes", "planted"]),
        ("guards", &["model", "effects", "judge", "causes", "actions", "planted"]),
        ("record", &["model", "guards"]),
        ("admit", &["model", "guards", "planted"]),
        ("tick", &["model", "judge", "causes", "actions", "guards", "record", "admit", "planted"]),
        (
            "advance",
            &["model", "effects", "rollback", "judge", "causes", "actions", "guards", "record", "planted"],
        ),
        ("survey", &["model", "actions", "planted"]),
        ("retention", &["model", "planted"]),
        ("replay", &["model", "record", "admit", "tick"]),
    ],
    exceptions: &[
        // The closed enums over what the files of `actions` define: policies and remediations are made of them.
        ("model", "actions"),
    ],
};

const CONTROLLER: Layers = Layers {
    root: "controller/src/lib.rs",
    rows: &[
        ("planted", &[]),
        ("conditions", &[]),
        ("reasons", &[]),
        ("announcement", &["reasons"]),
        ("report", &["announcement", "conditions", "reasons"]),
        ("objects", &["conditions", "report"]),
        ("ports", &["announcement", "conditions", "objects", "report"]),
        ("timeout", &["ports"]),
        ("election", &["objects", "planted", "ports", "timeout"]),
        ("fleet", &[]),
        ("ledger_store", &["objects", "planted"]),
        ("announce", &["announcement", "conditions", "fleet", "objects", "ports"]),
        ("observe", &["objects", "ports"]),
        ("retention", &["ports"]),
        ("budgets", &["conditions", "objects", "ports", "report"]),
        (
            "policy",
            &[
                "announcement",
                "conditions",
                "fleet",
                "ledger_store",
                "objects",
                "planted",
                "ports",
                "reasons",
                "report",
            ],
        ),
        ("remediation", &["fleet", "ledger_store", "objects", "planted", "ports", "timeout"]),
    ],
    exceptions: &[],
};

const OPERATOR: Layers = Layers {
    root: "src/lib.rs",
    rows: &[
        ("config", &[]),
        ("clock", &[]),
        ("telemetry", &[]),
        ("api", &[]),
        ("connections", &["api", "config"]),
        ("scope", &[]),
        ("observe", &["api", "clock", "config", "connections", "scope", "telemetry"]),
        ("act", &["clock", "connections"]),
        ("kube", &["act", "api", "clock", "config", "connections", "observe", "scope", "telemetry"]),
        ("notify", &["api", "kube", "telemetry"]),
        (
            "cli",
            &["api", "clock", "config", "connections", "kube", "notify", "observe", "scope", "telemetry"],
        ),
    ],
    exceptions: &[
        // `UrlPath` says what a path is, and stands beside what sends it.
        ("api", "connections"),
    ],
};

/// What a pure crate must not depend on: it would reach the world past its inputs.
const WORLD: &[&str] =
    &["kube", "k8s-openapi", "tokio", "reqwest", "hyper", "sqlx", "redis", "rustls", "rand"];

#[test]
fn imports_of_the_engine_go_one_way() {
    check(&ENGINE);
}

#[test]
fn imports_of_the_controller_go_one_way() {
    check(&CONTROLLER);
}

#[test]
fn imports_of_the_operator_go_one_way() {
    check(&OPERATOR);
}

#[test]
fn engine_and_controller_depend_on_nothing_that_reaches_the_world() {
    reaches_nothing("engine/Cargo.toml");
    reaches_nothing("controller/Cargo.toml");
}

fn reaches_nothing(manifest: &str) {
    let text = read(&root().join(manifest));
    let (_, below) = text.split_once("[dependencies]\n").expect("dependencies");
    let section = below.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()));
    let names: BTreeSet<&str> = names.filter(|name| !name.starts_with('#')).collect();
    assert!(names.contains("jiff"), "{names:?}");
    let reaching: Vec<_> = WORLD.iter().filter(|name| names.contains(**name)).collect();
    assert!(reaching.is_empty(), "{manifest} depends on {reaching:?}");
}

#[test]
fn an_import_in_the_other_direction_is_found_however_it_is_written() {
    let modules = BTreeSet::from(["low".to_owned(), "high".to_owned(), "top".to_owned()]);
    let exported = BTreeMap::from([("Thing".to_owned(), "high".to_owned())]);
    let found = |source: &str| {
        let mut walk = Walk::new(modules.clone(), exported.clone());
        walk.tokens(&trees(source), &["low".to_owned(), "inner".to_owned()]);
        walk.arrows.into_iter().map(|arrow| arrow.to).collect::<Vec<_>>()
    };
    assert_eq!(found("use crate::high::Name;"), ["high"]);
    assert_eq!(found("use crate::{low::Name, high::{self, Other}, top};"), ["high", "top"]);
    assert_eq!(found("use super::super::high;"), ["high"]);
    assert_eq!(found("mod deeper { use super::super::super::high::Name; }"), ["high"]);
    assert_eq!(found("fn f() -> String { format!(\"{}\", crate::high::NAME) }"), ["high"]);
    assert_eq!(found("fn f(_: crate::Thing) {}"), ["high"], "a name that the root exports again");
    assert_eq!(found("use super::Name; use self::deeper::X; use crate::low::Y; fn crate_high() {}"), [""; 0]);
    assert_eq!(found("#[cfg(test)] mod tests { use crate::high::Name; }"), [""; 0]);
    assert_eq!(found("#[cfg(test)] mod tests { } use crate::high::Name;"), ["high"]);
    assert_eq!(found("#[cfg(test)] pub(crate) use crate::{high::Name, top::X}; use crate::top::Y;"), ["top"]);
    assert_eq!(found("#[cfg(all(test, unix))] use crate::high::Name; use crate::top::X;"), ["top"]);
}

fn check(layers: &Layers) {
    for (place, (module, imports)) in layers.rows.iter().enumerate() {
        let lower: Vec<&str> = layers.rows.iter().take(place).map(|(name, _)| *name).collect();
        let upward: Vec<_> = imports.iter().filter(|name| !lower.contains(name)).collect();
        assert!(upward.is_empty(), "the row of {module} names what does not stand above it: {upward:?}");
    }
    let arrows = arrows(layers.root);
    let mut excepted = BTreeSet::new();
    let mut wrong = Vec::new();
    for Arrow { from, to, file } in &arrows {
        let row = layers.rows.iter().find(|(name, _)| name == from);
        let (_, imports) = row.unwrap_or_else(|| panic!("{}: {from} has no row in the table", layers.root));
        if imports.contains(&to.as_str()) {
            continue;
        }
        match layers.exceptions.iter().find(|(one, other)| one == from && other == to) {
            Some(exception) => {
                excepted.insert(*exception);
            }
            None => wrong.push(format!("{}: {from} imports {to}", file.display())),
        }
    }
    assert!(wrong.is_empty(), "imports in the wrong direction:\n{}", wrong.join("\n"));
    let needless: Vec<_> = layers.exceptions.iter().filter(|one| !excepted.contains(*one)).collect();
    assert!(needless.is_empty(), "no longer needed as exceptions: {needless:?}");
    assert!(arrows.len() > layers.rows.len(), "only {} imports were found", arrows.len());
}

/// That one module of a crate imports another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: String,
    to: String,
    file: PathBuf,
}

/// All imports between the modules of a crate, without those of its tests.
fn arrows(lib: &str) -> BTreeSet<Arrow> {
    let lib = root().join(lib);
    let source = trees(&read(&lib));
    let mut walk = Walk::new(modules(&source), exported(&source));
    walk.file.clone_from(&lib);
    walk.tokens(&source, &[]);
    walk.arrows
}

/// The modules that a crate's root declares.
fn modules(source: &[TokenTree]) -> BTreeSet<String> {
    let named = source.windows(2).filter(|pair| is_ident(&pair[0], "mod"));
    named.filter_map(|pair| ident(&pair[1])).collect()
}

/// Which module each name is from that the root exports again: `pub use admit::{Admitted, admit}`.
fn exported(source: &[TokenTree]) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    for (at, tree) in source.iter().enumerate() {
        if !is_ident(tree, "use") {
            continue;
        }
        let statement = source[at + 1..].iter().take_while(|tree| !is_punct(tree, ';'));
        let names: Vec<String> = names(&statement.cloned().collect::<Vec<_>>());
        if let Some((module, names)) = names.split_first() {
            exported.extend(names.iter().map(|name| (name.clone(), module.clone())));
        }
    }
    exported
}

/// All identifiers, those in groups too.
fn names(trees: &[TokenTree]) -> Vec<String> {
    let mut found = Vec::new();
    for tree in trees {
        if let TokenTree::Group(group) = tree {
            found.extend(names(&inner(group)));
        } else {
            found.extend(ident(tree));
        }
    }
    found
}

struct Walk {
    modules: BTreeSet<String>,
    exported: BTreeMap<String, String>,
    file: PathBuf,
    arrows: BTreeSet<Arrow>,
}

impl Walk {
    fn new(modules: BTreeSet<String>, exported: BTreeMap<String, String>) -> Self {
        Self { modules, exported, file: PathBuf::new(), arrows: BTreeSet::new() }
    }

    /// Follows the paths and the modules in `trees`, which stand in the module `place`.
    fn tokens(&mut self, trees: &[TokenTree], place: &[String]) {
        let mut at = 0;
        let mut path_attribute = None;
        while let Some(tree) = trees.get(at) {
            if is_punct(tree, '#')
                && let Some(TokenTree::Group(attribute)) = trees.get(at + 1)
            {
                let attribute = inner(attribute);
                at += 2;
                if is_of_tests(&attribute) {
                    at = end_of_item(trees, at);
                } else if attribute.first().is_some_and(|tree| is_ident(tree, "path")) {
                    path_attribute =
                        attribute.last().map(|tree| tree.to_string().trim_matches('"').to_owned());
                } else {
                    self.tokens(&attribute, place);
                }
                continue;
            }
            if is_ident(tree, "mod")
                && let Some(name) = trees.get(at + 1).and_then(ident)
            {
                let inside = [place, &[name]].concat();
                match trees.get(at + 2) {
                    Some(TokenTree::Group(body)) => self.tokens(&inner(body), &inside),
                    _ => self.module(&inside, path_attribute.take()),
                }
                at += 3;
                continue;
            }
            if let Some(after) = self.path(trees, at, place) {
                at = after;
                continue;
            }
            if let TokenTree::Group(group) = tree {
                self.tokens(&inner(group), place);
            }
            at += 1;
        }
    }

    /// A module in a file of its own.
    fn module(&mut self, place: &[String], path_attribute: Option<String>) {
        let here = self.file.clone();
        let folder = here.parent().expect("a folder");
        let stem = here.file_stem().expect("a name").to_string_lossy().into_owned();
        let own = matches!(stem.as_str(), "lib" | "mod");
        let children = if own { folder.to_owned() } else { folder.join(&stem) };
        let name = place.last().expect("a name");
        let candidates = match path_attribute {
            Some(path) => vec![folder.join(path)],
            None => vec![children.join(format!("{name}.rs")), children.join(name).join("mod.rs")],
        };
        let file = candidates.into_iter().find(|file| file.exists());
        self.file = file.unwrap_or_else(|| panic!("{}: no file of module {name}", here.display()));
        let source = trees(&read(&self.file));
        self.tokens(&source, place);
        self.file = here;
    }

    /// A path that begins with `crate` or `super`: notes what it leads to, and yields where it ends.
    fn path(&mut self, trees: &[TokenTree], at: usize, place: &[String]) -> Option<usize> {
        let from = place.first()?;
        let mut base = if is_ident(trees.get(at)?, "crate") {
            0
        } else if is_ident(trees.get(at)?, "super") {
            place.len().checked_sub(1)?
        } else {
            return None;
        };
        let mut after = separator(trees, at + 1)?;
        while trees.get(after).is_some_and(|tree| is_ident(tree, "super")) {
            base = base.checked_sub(1)?;
            after = separator(trees, after + 1)?;
        }
        let targets = if base > 0 {
            // Within the same module of the crate.
            Vec::new()
        } else {
            let tree = trees.get(after)?;
            if let TokenTree::Group(group) = tree {
                firsts(&inner(group))
            } else {
                ident(tree).into_iter().collect()
            }
        };
        for target in targets {
            let module = self.modules.get(&target).or_else(|| self.exported.get(&target));
            let module = module.unwrap_or(&target).clone();
            // What stands in the root itself is neither above nor below.
            if self.modules.contains(&module) && module != *from {
                self.arrows.insert(Arrow { from: from.clone(), to: module, file: self.file.clone() });
            }
        }
        Some(after)
    }
}

/// Where a path goes on after `::`.
fn separator(trees: &[TokenTree], at: usize) -> Option<usize> {
    let colons = |at: usize| trees.get(at).is_some_and(|tree| is_punct(tree, ':'));
    (colons(at) && colons(at + 1)).then_some(at + 2)
}

/// The first name of each path in the braces of a `use`.
fn firsts(trees: &[TokenTree]) -> Vec<String> {
    let parts = trees.split(|tree| is_punct(tree, ','));
    parts.filter_map(|part| part.first().and_then(ident)).collect()
}

fn is_of_tests(attribute: &[TokenTree]) -> bool {
    attribute.first().is_some_and(|tree| is_ident(tree, "cfg"))
        && names(attribute).iter().any(|name| name == "test")
        && !names(attribute).iter().any(|name| name == "not")
}

/// Where the item ends that begins at `at`: after its braces, or its semicolon.
fn end_of_item(trees: &[TokenTree], at: usize) -> usize {
    let ends = |tree: &TokenTree| {
        is_punct(tree, ';')
            || matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
    };
    let visibility = |tree: &&TokenTree| {
        is_ident(tree, "pub")
            || matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis)
    };
    let first = trees.iter().skip(at).find(|tree| !visibility(tree));
    let is_use = first.is_some_and(|tree| is_ident(tree, "use"));
    let end = trees.iter().enumerate().skip(at).find(
        |(_, tree)| {
            if is_use { is_punct(tree, ';') } else { ends(tree) }
        },
    );
    end.map_or(trees.len(), |(end, _)| end + 1)
}

fn is_ident(tree: &TokenTree, name: &str) -> bool {
    matches!(tree, TokenTree::Ident(ident) if ident == name)
}

fn ident(tree: &TokenTree) -> Option<String> {
    match tree {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => None,
    }
}

fn is_punct(tree: &TokenTree, wanted: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn inner(group: &proc_macro2::Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn trees(source: &str) -> Vec<TokenTree> {
    let stream: TokenStream = source.parse().expect("Rust");
    stream.into_iter().collect()
}

/// The workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
