//! The command line.

mod crds;
mod drain;
mod process;
mod replay;
mod run;

use clap::{Parser, Subcommand};

/// Finds out why an API is slow, mends it with guarded remediations, and proves that it helped.
#[derive(Debug, Parser)]
#[command(name = "latency-operator", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator.
    Run(run::Args),
    /// Before the operator is uninstalled: let it take back what it owes, or do it where none runs.
    Drain(drain::Args),
    /// Decide on a recording again, and check that every decision is the recorded one.
    Replay(replay::Args),
    /// Print the CustomResourceDefinitions, or write them into a folder.
    Crds(crds::Args),
}

/// Does what the command line says.
///
/// # Errors
/// What went wrong, ready to be shown.
pub fn main(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Crds(args) => crds::print(&args),
        Command::Run(args) => run::run(args),
        Command::Drain(args) => drain::drain(args),
        Command::Replay(args) => replay::replay(&args),
    }
}
