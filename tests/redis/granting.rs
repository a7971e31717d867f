//! The rules of docs/grants.md, given as they stand there: they are enough to look, and for nothing else.

use engine::model::NoDataReason;
use lab::RedisOptions;
use latency_operator::connections::RedisCredentials;

use crate::support::{World, connection, nobody_at, read, told};

/// The commands of the document.
fn rules() -> Vec<Vec<String>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grants.md");
    let text = std::fs::read_to_string(path).expect("docs/grants.md");
    let lines = text.lines().filter(|line| line.starts_with("ACL SETUSER "));
    lines.map(|line| line.split_whitespace().map(ToOwned::to_owned).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_the_document_are_enough_to_look_and_for_nothing_else() {
    let world = World::with(RedisOptions::default()).await;
    let rules = rules();
    let [look, select] = rules.as_slice() else { panic!("{rules:?}") };
    let give = async |rule: &[String]| {
        let words: Vec<&str> = rule.iter().map(String::as_str).collect();
        assert_eq!(world.admin(&words).await, redis::Value::Okay);
    };
    give(look).await;
    let password = look.iter().find_map(|word| word.strip_prefix('>')).expect("a password").to_owned();
    let credentials = RedisCredentials {
        user: Some(look[2].clone()),
        password: Some(password),
        ..nobody_at(world.server.port())
    };
    let facts = read(&connection(credentials.clone())).await.expect("facts");
    assert_eq!(facts.unreadable, [""; 0]);
    for command in [
        &["GET", "key"][..],
        &["SET", "key", "value"],
        &["KEYS", "*"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["SLOWLOG", "RESET"],
        &["CLIENT", "LIST"],
        &["SELECT", "3"],
    ] {
        let answer = world.ask(&[&["ACL", "DRYRUN", look[2].as_str()], command].concat()).await;
        assert_ne!(answer, "OK", "it may run {command:?}");
    }
    let elsewhere = RedisCredentials { database: 3, ..credentials };
    told(elsewhere.clone(), NoDataReason::PermissionDenied, &select.join(" ")).await;
    give(select).await;
    read(&connection(elsewhere)).await.expect("facts");
}
