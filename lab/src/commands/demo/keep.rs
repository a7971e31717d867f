//! What a person needs who stays: where everything is, and how to break it again.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{Error, Result, workspace};

use super::cluster::{NAMESPACE, TARGET};
use super::database::{NAME, REPORTING};
use super::fault::{self, Fault, Kind};
use super::stack::Stack;
use super::upstream;
use crate::commands::print;

pub(super) fn explain(stack: &Stack, played: Fault) -> Result<()> {
    let mut again = String::new();
    // With fewer users than it needs, a fault would break nothing.
    let is_possible = |fault: &Fault| match fault.kind() {
        Kind::Session { .. } | Kind::Upstream { .. } => fault.users() <= played.users(),
        Kind::Cache => stack.known_cache().is_some(),
    };
    for fault in Fault::ALL.into_iter().filter(is_possible) {
        let script = script(stack, fault)?;
        let policy = workspace::root().join(fault.policy());
        again.push_str(&format!(
            "#   kubectl apply --server-side -f {} && sh {}\n",
            policy.display(),
            script.display()
        ));
    }
    let kubectl_folder = stack.plane().kubectl().parent().unwrap_or(stack.session.folder()).display();
    let enter = lab::bottle::way_in();
    let enter = enter.map(|enter| format!("# As root; all of it has a network of its own.\n{enter}\n"));
    let enter = enter.unwrap_or_default();
    print(&format!(
        "It stays up until Ctrl-C. In another terminal:\n\n\
         {enter}\
         export KUBECONFIG={kubeconfig}\n\
         export PATH={kubectl_folder}:$PATH\n\
         # API at the edge  {edge}/api/v1/accounts\n\
         # Prometheus       {prometheus}\n\
         # logs             {folder}/*.log\n\
         # What the operator says:\n\
         #   kubectl get events -n {NAMESPACE} --watch\n\
         #   kubectl describe lp {TARGET} -n {NAMESPACE}\n\
         # Break it again (Ctrl-C there ends the fault; Ctrl-D where it leaves a console open).\n\
         # The same cure is refused the third time within 24 hours, by Flapping:\n{again}",
        kubeconfig = stack.plane().kubeconfig().display(),
        edge = stack.caddy.url(),
        prometheus = stack.prometheus.url(),
        folder = stack.session.folder().display(),
    ));
    Ok(())
}

/// A file that runs one fault until it is stopped: passwords stay off command lines.
fn script(stack: &Stack, fault: Fault) -> Result<PathBuf> {
    let path = stack.session.folder().join(format!("fault-{}.sh", fault.name()));
    let text = match fault.kind() {
        Kind::Session { sql, stays, .. } => session(stack, sql, stays),
        Kind::Cache => flush(stack)?,
        Kind::Upstream { delay } => upstream(&upstream::delay_file(&stack.session)?, delay),
    };
    let mut file = std::fs::File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(Error::path("creating", &path))?;
    file.write_all(text.as_bytes()).map_err(Error::path("writing", &path))?;
    Ok(path)
}

/// A session of its own.
fn session(stack: &Stack, sql: &str, stays: bool) -> String {
    let psql = stack.database.server.client_command("psql");
    // A console that is left open in the middle of its transaction.
    let stays = if stays { " --file -" } else { "" };
    format!(
        "export PGHOST=127.0.0.1 PGPORT={port} PGDATABASE={NAME} PGUSER={REPORTING} PGPASSWORD={password}\n\
         exec {psql} --no-psqlrc --set ON_ERROR_STOP=1 --file '{sql}'{stays}\n",
        port = stack.database.server.port(),
        password = stack.database.password(REPORTING),
        sql = workspace::root().join(sql).display(),
    )
}

/// Over at once; what it does lasts.
fn flush(stack: &Stack) -> Result<String> {
    let cache = stack.cache()?;
    Ok(format!("{} flushall\n", cache.server.cli_command()))
}

/// Slow until Ctrl-C.
fn upstream(file: &Path, delay: Duration) -> String {
    format!(
        "trap exit INT TERM\n\
         trap \"echo {usual} > '{file}'\" EXIT\n\
         echo {slow} > '{file}'\n\
         echo 'the price service takes {slower}, until Ctrl-C'\n\
         while sleep 1; do :; done\n",
        usual = upstream::USUAL.as_millis(),
        file = file.display(),
        slow = delay.as_millis(),
        slower = fault::slower(delay),
    )
}
