//! What a person needs who stays: where everything is, and how to break it again.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use lab::{Error, Result, workspace};

use super::cluster::{NAMESPACE, TARGET};
use super::database::{NAME, REPORTING};
use super::fault::Fault;
use super::stack::Stack;
use crate::commands::print;

pub(super) fn explain(stack: &Stack) -> Result<()> {
    let mut again = String::new();
    for fault in Fault::ALL {
        let script = script(stack, fault)?;
        let policy = workspace::root().join(fault.policy());
        again.push_str(&format!(
            "#   kubectl apply --server-side -f {} && sh {}\n",
            policy.display(),
            script.display()
        ));
    }
    let kubectl_folder = stack.plane.kubectl().parent().unwrap_or(stack.session.folder()).display();
    print(&format!(
        "It stays up until Ctrl-C. In another terminal:\n\n\
         export KUBECONFIG={kubeconfig}\n\
         export PATH={kubectl_folder}:$PATH\n\
         # API at the edge  {edge}/api/v1/accounts\n\
         # Prometheus       {prometheus}\n\
         # logs             {folder}/*.log\n\
         # What the operator says:\n\
         #   kubectl get events -n {NAMESPACE} --watch\n\
         #   kubectl describe lp {TARGET} -n {NAMESPACE}\n\
         # Break it again (Ctrl-C there cancels the fault; Ctrl-D where it leaves a console open).\n\
         # The same cure is refused the third time within 24 hours, by Flapping:\n{again}",
        kubeconfig = stack.plane.kubeconfig().display(),
        edge = stack.caddy.url(),
        prometheus = stack.prometheus.url(),
        folder = stack.session.folder().display(),
    ));
    Ok(())
}

/// A file that runs one fault in a session of its own: passwords stay off command lines.
fn script(stack: &Stack, fault: Fault) -> Result<PathBuf> {
    let path = stack.session.folder().join(format!("fault-{}.sh", fault.name()));
    let sql = workspace::root().join(fault.sql());
    let psql = stack.database.server.client_command("psql");
    // A console that is left open in the middle of its transaction.
    let stays = match fault {
        Fault::Runaway | Fault::Blocker => "",
        Fault::Idle => " --file -",
    };
    let text = format!(
        "export PGHOST=127.0.0.1 PGPORT={port} PGDATABASE={NAME} PGUSER={REPORTING} PGPASSWORD={password}\n\
         exec {psql} --no-psqlrc --set ON_ERROR_STOP=1 --file '{sql}'{stays}\n",
        port = stack.database.server.port(),
        password = stack.database.password(REPORTING),
        sql = sql.display(),
    );
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
