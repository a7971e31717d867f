//! `.ci/price` counts what an addition has cost: in repositories that are made for it.
#![allow(clippy::expect_used, clippy::panic, reason = "in a test a panic is a failure")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A table with one row, for causes: one file in the slice, and one outside.
const TABLE: &str = "| kind | slice | files in it, at most | tables | files outside, at most |
| --- | --- | --- | --- | --- |
| cause | `engine/src/causes` | 1 | `engine/src/causes/mod.rs` | 1 |
";

/// A repository in a temporary folder, which goes with it.
struct Repository(PathBuf);

impl Repository {
    /// With the script, the table, and a table of causes in code.
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("price-{}-{name}", std::process::id()));
        let repository = Self(folder);
        repository.write("docs/adding.md", TABLE);
        repository.write("engine/src/causes/mod.rs", "");
        repository.write("src/main.rs", "");
        std::fs::create_dir_all(repository.0.join(".ci")).expect("a folder");
        let script = lab::workspace::root().join(".ci/price");
        std::fs::copy(script, repository.0.join(".ci/price")).expect("the script");
        repository.git(&["init", "--quiet"]);
        repository.commit("The first");
        repository
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    fn git(&self, args: &[&str]) {
        let output = command("git", &self.0).args(args).output().expect("git");
        assert!(output.status.success(), "git {args:?}: {output:?}");
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    /// What the script says of the newest additions, and whether it is content.
    fn price(&self) -> (bool, String) {
        let output = command(&self.0.join(".ci/price").display().to_string(), &self.0).output();
        let Output { status, stdout, stderr } = output.expect("the script");
        let said = [stdout, stderr].concat();
        (status.success(), String::from_utf8(said).expect("a text"))
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that knows nothing of the caller's repository and settings of git.
fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_SYSTEM", "/dev/null"),
        ("GIT_AUTHOR_NAME", "Test"),
        ("GIT_AUTHOR_EMAIL", "test@localhost"),
        ("GIT_COMMITTER_NAME", "Test"),
        ("GIT_COMMITTER_EMAIL", "test@localhost"),
    ] {
        command.env(name, value);
    }
    command
}

const ADDED: &str = "Cause SlowDisk\n\nAdds: cause SlowDisk";

#[test]
fn an_addition_at_its_price_passes_and_tests_and_documents_cost_nothing() {
    let repository = Repository::new("fits");
    assert_eq!(
        repository.price(),
        (true, "cause: none has been added since prices are counted\n".to_owned())
    );
    repository.write("engine/src/causes/slow_disk.rs", "one");
    repository.write("engine/src/causes/slow_disk_tests.rs", "two");
    repository.write("engine/src/causes/mod.rs", "slow_disk");
    repository.write("docs/causes.md", "three");
    repository.commit(ADDED);
    let (content, said) = repository.price();
    assert!(content, "{said}");
    assert!(said.contains("slice: 1 of at most 1: engine/src/causes/slow_disk.rs\n"), "{said}");
    assert!(said.contains("outside: 1 of at most 1: engine/src/causes/mod.rs\n"), "{said}");
}

#[test]
fn an_addition_that_touches_more_files_than_the_table_allows_fails_with_their_names() {
    let repository = Repository::new("dear");
    repository.write("engine/src/causes/slow_disk.rs", "one");
    repository.write("engine/src/causes/mod.rs", "slow_disk");
    repository.write("src/main.rs", "a case for one cause");
    repository.commit(ADDED);
    let (content, said) = repository.price();
    assert!(!content, "{said}");
    assert!(said.contains("outside: 2 of at most 1: engine/src/causes/mod.rs src/main.rs\n"), "{said}");
    assert!(said.contains("it costs more than docs/adding.md allows"), "{said}");

    // The newest addition counts that is still in the tree.
    repository.write("engine/src/causes/slow_net.rs", "one");
    repository.write("engine/src/causes/mod.rs", "slow_disk slow_net");
    repository.commit("Cause SlowNet\n\nAdds: cause SlowNet");
    assert!(repository.price().0, "the older one is not asked any more");
    std::fs::remove_file(repository.0.join("engine/src/causes/slow_net.rs")).expect("it is there");
    repository.commit("SlowNet is taken out again");
    let (content, said) = repository.price();
    assert!(!content && said.contains("cause SlowDisk"), "{said}");
}

#[test]
fn a_kind_without_a_row_and_a_table_without_rows_are_errors() {
    let repository = Repository::new("unknown");
    repository.write("src/main.rs", "a planet");
    repository.commit("Planet Mars\n\nAdds: planet Mars");
    let of = |args: &[&str]| {
        let script = repository.0.join(".ci/price").display().to_string();
        let output = command(&script, &repository.0).args(args).output().expect("the script");
        (output.status.success(), String::from_utf8(output.stderr).expect("a text"))
    };
    let (content, said) = of(&["HEAD"]);
    assert!(!content && said.contains("docs/adding.md has no row for it"), "{said}");
    let (content, said) = of(&["HEAD~1"]);
    assert!(!content && said.contains("no trailer"), "{said}");
    repository.write("docs/adding.md", "nothing");
    let (content, said) = repository.price();
    assert!(!content && said.contains("no table of prices"), "{said}");
}
