//! The lines of docs/grants.md, used as they are there: they are enough to look, and for nothing else.

use sqlx::Executor;

use crate::support::{PASSWORD, World, connection, credentials_at, read};

/// The user that the document adds to `stats_users`, and its password.
fn user() -> (String, String) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/grants.md");
    let text = std::fs::read_to_string(path).expect("docs/grants.md");
    let user = text.lines().find_map(|line| line.strip_prefix("stats_users = ")).expect("stats_users");
    let line =
        text.lines().find_map(|line| line.strip_prefix(&format!("\"{user}\" \""))).expect("a password");
    (user.to_owned(), line.trim_end_matches('"').to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_of_the_document_are_enough_to_look_and_for_nothing_else() {
    let (user, password) = user();
    let world = World::with(|options| options.stats_user(&user, &password)).await;
    let mut credentials = credentials_at(world.pooler.port(), &user, "pgbouncer");
    credentials.password = Some(password.clone());
    // Also what is asked only while clients wait.
    let _holders = (world.holder().await, world.holder().await);
    let _askers = world.askers(2).await;
    let connection = connection(credentials);
    let look = crate::support::until_pool(&connection, |pool| pool.holds_up()).await;
    assert_eq!(look.unreadable, [""; 0]);
    read(&connection).await.expect("facts");
    let mut console = world.pooler.connect(&user, &password, "pgbouncer").await.expect("the console");
    for command in
        ["PAUSE orders", "RESUME", "RECONNECT", "DISABLE orders", "RELOAD", "SHUTDOWN", "KILL orders"]
    {
        let refused = console.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(command.to_owned()))).await;
        let error = refused.expect_err(command).to_string();
        assert!(error.contains("admin access needed"), "{command}: {error}");
    }
    world.pooler.connect(&user, PASSWORD, "orders").await.expect_err("no password of anybody else's");
}
