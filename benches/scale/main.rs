//! What one operator takes as policies grow in number, on real parts: start, memory, CPU, writes, connections and queries at 1,
//! 1,000 and 10,000 policies, beside the budgets and beside what the nearest peer was seen to take elsewhere. Prints a table
//! and writes the same as JSON.
//!
//! `POLICIES=1,1000,10000` sets how many, `QUIET=300` for how many seconds nothing happens, `RESTARTS=3` how often the start is
//! measured once more; `OPERATOR=` is the path of another build to compare with. With these values it takes about 40 minutes on two cores.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that panics has failed"
)]
#![allow(clippy::print_stdout, reason = "the table is what it is run for")]
#![allow(clippy::print_stderr, reason = "progress is not part of the table")]

mod fleet;
mod looks;
mod quiet;
mod report;
mod start;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use fleet::Fleet;
use report::Measured;

fn main() {
    let sizes = std::env::var("POLICIES").unwrap_or_else(|_| "1,1000,10000".to_owned());
    let mut sizes: Vec<usize> =
        sizes.split(',').map(|size| size.trim().parse().expect("POLICIES: numbers")).collect();
    sizes.sort_unstable();
    let quiet = Duration::from_secs(setting("QUIET", 300));
    let restarts = setting("RESTARTS", 3);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut fleet = Fleet::start().await;
        let mut all = Vec::new();
        for size in sizes {
            all.push(measure(&mut fleet, size, quiet, restarts).await);
            // Each time, so that a later failure costs nothing that was measured.
            report::write(&target().join("bench"), &all);
        }
        report::print(&all);
        println!("\nas JSON: {}", target().join("bench/scale.json").display());
    });
}

async fn measure(fleet: &mut Fleet, size: usize, quiet: Duration, restarts: usize) -> Measured {
    fleet.grow(size).await;
    eprintln!("{size}: starting the operator");
    let (operator, first) = start::start(fleet).await;
    eprintln!("{size}: {first}; quiet for {quiet:?}");
    let quiet = quiet::measure(fleet, &operator, &first, quiet).await;
    eprintln!("{size}: {quiet:?}");
    start::stop(operator).await;
    let mut again = Vec::new();
    for _ in 0..restarts {
        let (operator, start) = start::start(fleet).await;
        eprintln!("{size}: once more: {start}");
        start::stop(operator).await;
        again.push(start);
    }
    Measured { size, first, again, quiet }
}

fn setting<T: FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
}
