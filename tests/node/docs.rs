//! The commands of a document, as they are typed.

use crate::support::{World, root};

/// A block of code in a document.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
}

/// The blocks of a document below a heading (`## Install`), without those that say that they are not run.
pub(crate) fn blocks(document: &str, heading: &str) -> Vec<Block> {
    let text =
        std::fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    let (_, below) =
        text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{document} has no {heading}"));
    let below = below.split("\n## ").next().unwrap_or_default();
    let mut blocks = Vec::new();
    let mut lines = below.lines();
    let mut before = "";
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```").filter(|language| !language.is_empty()) else {
            before = line;
            continue;
        };
        let inside: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if !before.starts_with("<!-- not run") {
            blocks.push(Block { language: language.to_owned(), text: inside.join("\n") });
        }
    }
    assert!(!blocks.is_empty(), "{document}, {heading}: there is nothing to run");
    blocks
}

/// Runs what is below a heading: commands in a shell, SQL as the database's superuser. What is shown is not run.
pub(crate) async fn follow(world: &World, document: &str, heading: &str) -> String {
    let mut said = String::new();
    for Block { language, text } in blocks(document, heading) {
        match language.as_str() {
            "sh" => said.push_str(&world.shell(&text).await),
            "sql" => world
                .postgres
                .execute("orders", &text)
                .await
                .unwrap_or_else(|error| panic!("{text}: {error}")),
            "text" | "yaml" => {}
            other => panic!("{document}, {heading}: a block of {other}"),
        }
    }
    said
}
