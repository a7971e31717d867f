//! The other program in the tests: it owns a session and ends in the way that it is told, or plays the operator.
//!
//! `lab-helper hold` waits to be killed, `lab-helper panic` panics, `lab-helper leave` returns from `main` without
//! running a destructor, `lab-helper once` ends in an orderly way. Each first prints the folder of its session.
//!
//! `lab-helper run --config <file> --listen <address>` answers on `/healthz` and `/metrics`, unless its
//! configuration says `refuse`.

use std::io::Write;
use std::time::Duration;

use lab::postgres::SUPERUSER;
use lab::{Ending, Postgres, PostgresOptions, Session, Spec};

/// Longer than any test waits, on whatever machine.
const FOREVER: Duration = Duration::from_secs(3600);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["run", "--config", config, "--listen", address, ..] => operate(config, address).await,
        [how] => hold(how).await,
        _ => Err("see the head of this file for what it can be told".into()),
    }
}

async fn hold(how: &str) -> Result<(), Box<dyn std::error::Error>> {
    let session = Session::start().await?;
    // A leader with children of its own, as a web server with workers.
    let family = Spec::new("family", "/bin/sh").args(["-c", "sleep 3601 & sleep 3602 & wait"]);
    let family = session.spawn(family).await?;
    // One that does not obey the polite signal.
    let stubborn = Spec::new("stubborn", "/bin/sh").args(["-c", "trap '' TERM; sleep 3603; sleep 3604"]);
    let stubborn = session.spawn(stubborn.ending(Ending::Term)).await?;
    // A worker that tidies up when it is asked to end; nobody but the reaper asks it, as its leader is gone by then.
    let tidied = session.folder().with_file_name("tidied");
    let worker = "(trap 'echo > \"$0\"; exit' TERM; while :; do sleep 0.05; done) & exec sleep 3605";
    let tidy = Spec::new("tidy", "/bin/sh").args(["-c", worker]).arg(&tidied).ending(Ending::Term);
    let tidy = session.spawn(tidy).await?;
    // One whose children leave its process group, and one of them computes.
    let server = Postgres::start(&session, PostgresOptions::default()).await?;
    let mut busy = server.superuser(SUPERUSER).await?;
    let endless = "select count(*) from (select generate_series(1, 1000000000000)) endless";
    tokio::spawn(async move { sqlx::query(endless).fetch_one(&mut busy).await.map(drop) });
    let mut watching = server.superuser(SUPERUSER).await?;
    let active = "select from pg_stat_activity where state = 'active' and query like '%endless' and pid <> pg_backend_pid()";
    let found =
        lab::until(FOREVER, async || sqlx::query(active).fetch_optional(&mut watching).await.ok().flatten());
    found.await.ok_or("the query never ran")?;
    writeln!(std::io::stdout(), "{}", session.folder().display())?;
    match how {
        "hold" => tokio::time::sleep(FOREVER).await,
        #[expect(clippy::panic, reason = "the panic is what this is for")]
        "panic" => panic!("as asked for"),
        "leave" => std::mem::forget((family, stubborn, tidy, server, session)),
        _ => {}
    }
    Ok(())
}

async fn operate(config: &str, address: &str) -> Result<(), Box<dyn std::error::Error>> {
    if std::fs::read_to_string(config)?.contains("refuse") {
        return Err("the configuration is refused".into());
    }
    let kubeconfig = std::env::var("KUBECONFIG").unwrap_or_default();
    let metrics = move || async move { format!("helper_up 1\n# {kubeconfig}\n") };
    let router = axum::Router::new()
        .route("/healthz", axum::routing::get(|| async { "ok" }))
        .route("/metrics", axum::routing::get(metrics));
    axum::serve(tokio::net::TcpListener::bind(address).await?, router).await?;
    Ok(())
}
