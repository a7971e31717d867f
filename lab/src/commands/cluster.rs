//! `lab cluster`

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use lab::{Cluster, ClusterOptions, Error, Result, Session, bottle, node};

use super::code;
use super::end::End;

/// What `lab cluster` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// An image, as a docker-archive, that every node gets; may be repeated.
    #[arg(long)]
    image: Vec<PathBuf>,
    /// A command that is run in there instead of waiting for Ctrl-C; its exit status is ours.
    #[arg(last = true)]
    command: Vec<OsString>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    if bottle::is_inside() {
        bottle::prepare()?;
        return inside(arguments).await;
    }
    if let Some(missing) = bottle::missing() {
        return Err(Error::Setup {
            doing: "starting a real node".to_owned(),
            problem: missing,
            remedy: "`lab up` starts a control plane with Pods that only seem to run, without all that"
                .to_owned(),
        });
    }
    let mut end = End::listen()?;
    // In there nothing can be fetched.
    let session = Session::start().await?;
    node::prepare(&session).await?;
    drop(session);
    bottle::enter_until(end.asked()).await.map(code)
}

async fn inside(arguments: Arguments) -> Result<ExitCode> {
    let mut end = End::listen()?;
    let session = Session::start().await?;
    session.say(&format!("starting a control plane and {} real node(s)", arguments.nodes));
    let options = ClusterOptions { nodes: arguments.nodes, ..Default::default() };
    let cluster = tokio::select! {
        started = Cluster::start(&session, options) => started?,
        () = end.asked() => return Ok(ExitCode::SUCCESS),
    };
    for image in &arguments.image {
        cluster.import(image).await?;
    }
    let Some((program, args)) = arguments.command.split_first() else {
        super::print(&describe(&cluster).await?);
        end.asked().await;
        return Ok(ExitCode::SUCCESS);
    };
    let failed = |source| Error::Io { doing: format!("running {}", program.display()), source };
    let mut command = tokio::process::Command::new(program);
    command
        .args(args)
        .env("KUBECONFIG", cluster.plane().kubeconfig())
        .env("PATH", cluster.search_path().await?);
    let status = command.status().await.map_err(failed)?;
    Ok(code(status))
}

async fn describe(cluster: &Cluster) -> Result<String> {
    let enter = bottle::way_in().unwrap_or_default();
    Ok(format!(
        "# The cluster has a network and processes of its own. From another terminal, as root:\n\
         #   {enter}\n\
         export KUBECONFIG={kubeconfig}\n\
         export PATH={path}\n\
         # nodes       {nodes}\n\
         # logs        {folder}/*.log\n\
         # Ctrl-C stops all of it and removes the folder.\n",
        kubeconfig = cluster.plane().kubeconfig().display(),
        path = cluster.search_path().await?.display(),
        nodes = cluster.nodes().collect::<Vec<_>>().join(", "),
        folder = cluster.session().folder().display(),
    ))
}
