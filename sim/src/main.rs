//! `sim`: plays episodes of the simulated world until their hours are full, and judges them.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a program for people and CI, who read what it prints"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use sim::episode::{Outcome, Script, play, shrink};
use sim::exec::{HOUR, MINUTE};
use sim::regression::Regression;
#[cfg(planted_bugs)]
use sim::report::hours;
use sim::report::{table, vacuous};
use sim::world::Counts;

/// A third of a run went into the system's allocator: each evaluation builds what the one before threw away.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(about = "A seeded world around the operator's three functions, judged by its invariants")]
struct Args {
    /// Decides everything.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// So many hours are simulated, rounded up to whole episodes.
    #[arg(long, default_value_t = 200)]
    hours: u64,
    /// Plants each bug in turn, until it is caught. Needs RUSTFLAGS="--cfg planted_bugs".
    #[arg(long)]
    planted: bool,
    /// Plants this bug only; with --trace a script that shows it is written down, with --replay it is planted there.
    #[arg(long)]
    bug: Option<String>,
    /// Replays a script that was written down.
    #[arg(long)]
    replay: Option<PathBuf>,
    /// Prints everything that happened, with --replay.
    #[arg(long)]
    trace: bool,
    /// Where a script that violates something is written down.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions"))]
    regressions: PathBuf,
    /// So many tries at most to make a script that violates something shorter.
    #[arg(long, default_value_t = 200)]
    shrink: u32,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(path) = args.replay.as_ref().filter(|_| args.bug.is_none() || cfg!(planted_bugs)) {
        return replay(path, &args);
    }
    if args.planted || args.bug.is_some() {
        return planted(&args);
    }
    run(&args)
}

fn run(args: &Args) -> ExitCode {
    let started = Instant::now();
    let (mut counts, mut simulated, mut episodes) = (Counts::default(), 0, 0);
    while simulated < args.hours * HOUR {
        let script = Script::of(seed_of(args.seed, episodes));
        let outcome = play(&script);
        counts.add(&outcome.counts);
        simulated += outcome.lasted;
        episodes += 1;
        if !outcome.violations.is_empty() {
            print!("{}", table(&counts, simulated, seconds(started), episodes, outcome.violations.len()));
            found(args, &script, &outcome);
            return ExitCode::FAILURE;
        }
    }
    print!("{}", table(&counts, simulated, seconds(started), episodes, 0));
    let missing = vacuous(&counts);
    if missing.is_empty() || args.hours < 200 {
        return ExitCode::SUCCESS;
    }
    eprintln!("nothing was seen of: {}", missing.join(", "));
    ExitCode::FAILURE
}

/// Each episode has a seed of its own.
fn seed_of(seed: u64, episode: u64) -> u64 {
    seed.wrapping_mul(1_000_003).wrapping_add(episode)
}

/// It is one thread that never waits: its time is the processor's.
fn seconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64()
}

fn found(args: &Args, script: &Script, outcome: &Outcome) {
    println!("\nseed {} of an episode violates:", script.seed);
    for violation in &outcome.violations {
        println!("  {violation}");
    }
    let Some(first) = outcome.violations.first() else { return };
    println!("making it shorter ...");
    let mut cut = script.clone();
    cut.plan.retain(|planned| planned.at <= outcome.lasted);
    cut.restless = cut.restless.min(outcome.lasted + MINUTE);
    let short = shrink(&cut, &first.id, args.shrink);
    let again = play(&short);
    println!(
        "{} of {} things that happened are needed; what happened at last:",
        short.plan.len(),
        script.plan.len()
    );
    let from = again.trace.len().saturating_sub(80);
    for line in again.trace.iter().skip(from) {
        println!("  {line}");
    }
    let (violates, message) = (first.id.clone(), first.message.clone());
    let regression = Regression { violates, message, bug: args.bug.clone(), unmended: None, script: short };
    match regression.write(&args.regressions) {
        Ok(path) => println!("written down: {}", path.display()),
        Err(error) => eprintln!("it could not be written down: {error}"),
    }
}

fn replay(path: &Path, args: &Args) -> ExitCode {
    let regression = match Regression::read(path) {
        Ok(regression) => regression,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    #[cfg(planted_bugs)]
    engine::planted::plant(sim::planted::named(args.bug.as_deref()));
    let outcome = play(&regression.script);
    if args.trace {
        for line in &outcome.trace {
            println!("{line}");
        }
    }
    for violation in &outcome.violations {
        println!("{violation}");
    }
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(planted_bugs))]
fn planted(_: &Args) -> ExitCode {
    eprintln!(
        "this build contains no planted bugs; build it with RUSTFLAGS=\"--cfg planted_bugs\" (make sim-planted)"
    );
    ExitCode::FAILURE
}

/// What catches a planted bug.
#[cfg(planted_bugs)]
struct Caught {
    by: Option<engine::invariants::Violation>,
    /// How long was simulated for it.
    simulated: sim::exec::Micros,
    /// Whether only a script that was written down for it did.
    scripted: bool,
}

#[cfg(planted_bugs)]
fn planted(args: &Args) -> ExitCode {
    let scripts = match Regression::all(&args.regressions) {
        Ok(all) => all,
        Err(error) => {
            eprintln!("{}: {error}", args.regressions.display());
            return ExitCode::FAILURE;
        }
    };
    let (mut missed, mut scripted, mut tried) = (0, 0, 0);
    println!("{:<36} {:<7} {:<12} {:>10}  what is wrong", "bug", "where", "caught by", "after h");
    let all = sim::planted::BUGS.iter();
    let named = sim::planted::RARE.iter().chain(sim::planted::COVERED.iter().map(|covered| &covered.bug));
    let named = named.filter(|_| args.bug.is_some());
    for bug in all.chain(named).filter(|bug| args.bug.as_ref().is_none_or(|name| name == bug.name)) {
        let Caught { by: caught, simulated, scripted: by_script } = catch(args, bug.name, &scripts);
        let place = if bug.engine { "engine" } else { "driver" };
        let by = caught.as_ref().map_or("NOT CAUGHT", |violation| violation.id.as_str());
        (tried, missed) = (tried + 1, missed + u32::from(caught.is_none()));
        scripted += u32::from(by_script);
        let after = if by_script { "its script".to_owned() } else { format!("{:.1}", hours(simulated)) };
        println!("{:<36} {place:<7} {by:<12} {after:>10}  {}", bug.name, bug.what);
        if let Some(violation) = caught.filter(|_| args.bug.is_some()) {
            println!("  {violation}");
        }
    }
    println!("{missed} of {tried} bugs were not caught, {scripted} by their scripts only");
    if missed == 0 && tried > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays until it is caught, and at last the scripts that were written down for it.
#[cfg(planted_bugs)]
fn catch(args: &Args, bug: &'static str, scripts: &[(PathBuf, Regression)]) -> Caught {
    engine::planted::plant(Some(bug));
    let (mut simulated, mut episode) = (0, 0);
    let mut caught = Caught { by: None, simulated, scripted: false };
    while simulated < args.hours * HOUR && caught.by.is_none() {
        let script = Script::of(seed_of(args.seed, episode));
        let outcome = play(&script);
        simulated += outcome.lasted;
        episode += 1;
        caught.by = outcome.violations.first().cloned();
        if caught.by.is_some() && args.bug.is_some() && args.trace {
            found(args, &script, &outcome);
        }
    }
    caught.simulated = simulated;
    if caught.by.is_none() {
        let written = scripts.iter().filter(|(_, known)| known.bug.as_deref() == Some(bug));
        let mut violated = written.flat_map(|(_, known)| {
            let violations = play(&known.script).violations;
            violations.into_iter().filter(|violation| violation.id == known.violates)
        });
        caught.by = violated.next();
        caught.scripted = caught.by.is_some();
    }
    engine::planted::plant(None);
    caught
}
