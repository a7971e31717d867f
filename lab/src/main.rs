//! `lab`: the laboratory for people. Tests, the demo and benches use the library of the same name.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lab::{Say, Stderr};

/// Starts a real control plane and real data stores on this machine, without root and without containers.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Finds, builds or downloads every program that the laboratory runs, and says where each is.
    Tools,
    /// Starts everything, prints where it is, and stops it all on Ctrl-C.
    Up(commands::up::Arguments),
    /// Starts a real cluster, on which Pods really run, in private namespaces; needs root.
    Cluster(commands::cluster::Arguments),
    /// Puts the operator's image together without Docker, and says what it weighs.
    Image(commands::image::Arguments),
    /// Writes down which packages go into the operator's binary, as CycloneDX.
    Sbom(commands::sbom::Arguments),
    /// Breaks a real API, lets the operator heal it, and shows how; fails if it did not.
    Demo(commands::demo::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let well = |()| ExitCode::SUCCESS;
    let result = match Arguments::parse().command {
        Command::Tools => commands::tools::run().await.map(well),
        Command::Up(arguments) => commands::up::run(arguments).await.map(well),
        Command::Cluster(arguments) => commands::cluster::run(arguments).await,
        Command::Image(arguments) => commands::image::run(&arguments).map(well),
        Command::Sbom(arguments) => commands::sbom::run(&arguments).map(well),
        Command::Demo(arguments) => commands::demo::run(arguments).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            Stderr.say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}
