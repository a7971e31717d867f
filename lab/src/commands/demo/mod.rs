//! `lab demo`: breaks a real API, lets the operator heal it, and shows how.

mod cluster;
mod culprit;
mod database;
mod edge;
mod fault;
mod incident;
mod keep;
mod news;
mod pods;
mod stack;
mod story;
mod summary;
mod timeline;
mod upstream;
mod verdict;

use std::path::PathBuf;
use std::time::Instant;

use clap::builder::FalseyValueParser;
use lab::{Error, Result, Session};

use super::end::End;
use fault::Fault;
use pods::Pods;
use stack::Stack;
use timeline::Timeline;

/// What `lab demo` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to break.
    #[arg(long, env = "FAULT", value_enum, default_value = "runaway")]
    fault: Fault,
    /// Leave everything running at the end, until Ctrl-C.
    #[arg(long, env = "KEEP", value_parser = FalseyValueParser::new())]
    keep: bool,
    /// The operator to run, instead of the one of this checkout, which is built first.
    #[arg(long, env = "LATENCY_OPERATOR_BINARY")]
    operator: Option<PathBuf>,
}

/// How it ended, once it has: what is kept running may be stopped without making a success a failure.
type Verdict = Option<Result<()>>;

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let mut end = End::listen()?;
    let session = Session::start().await?;
    let mut verdict = None;
    tokio::select! {
        ended = play(&session, &arguments, &mut verdict) => verdict = Some(ended),
        () = end.asked() => session.say("stopping"),
    }
    verdict.unwrap_or_else(|| {
        Err(Error::setup("running the demo", "it was stopped before its end", "run it again"))
    })
}

async fn play(session: &Session, arguments: &Arguments, verdict: &mut Verdict) -> Result<()> {
    let begun = Instant::now();
    session.say(
        "starting Kubernetes, PostgreSQL, Prometheus, Caddy and a Python environment, all on 127.0.0.1: about 10 s; \
         the first time on a machine some 10 minutes, because part of it is built or downloaded",
    );
    let stack = Stack::start(session, arguments.operator.as_deref()).await?;
    let mut pods = Pods::new(&stack);
    let played = tokio::select! {
        played = scenes(&stack, arguments, begun, verdict) => played,
        trouble = pods.keep() => trouble,
    };
    if played.is_err() {
        stack.show_logs();
    }
    played
}

async fn scenes(stack: &Stack, arguments: &Arguments, begun: Instant, verdict: &mut Verdict) -> Result<()> {
    cluster::prepare(stack).await?;
    stack.start_load(arguments.fault.users()).await?;
    stack.start_operator().await?;
    edge::until_steady(stack).await?;
    cluster::watch_over(stack, arguments.fault).await?;
    stack.session.say(&format!("ready after {} s", begun.elapsed().as_secs()));

    let mut timeline = Timeline::new();
    timeline.introduce(arguments.fault);
    let story = incident::live_through(stack, arguments.fault, &mut timeline).await?;
    summary::print(stack, &story, &timeline).await?;
    let judged = story.judged();
    if !arguments.keep {
        return judged;
    }
    if let Err(failure) = &judged {
        stack.session.say(&failure.to_string());
    }
    keep::explain(stack, arguments.fault)?;
    *verdict = Some(judged);
    // Ctrl-C ends it from outside.
    std::future::pending().await
}
