//! The binary; everything is in the library.

use std::process::ExitCode;

use clap::Parser;

#[expect(clippy::print_stderr, reason = "the last word of a command line goes to standard error")]
fn main() -> ExitCode {
    match latency_operator::cli::main(latency_operator::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latency-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
