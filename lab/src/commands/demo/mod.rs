//! `lab demo`: breaks a real API, lets the operator heal it, and shows how.

mod cache;
mod chart;
mod cluster;
mod compare;
mod culprit;
mod database;
mod edge;
mod fault;
mod incident;
mod keep;
mod kubernetes;
mod mode;
mod news;
mod pods;
mod progress;
mod real;
mod screen;
mod stack;
mod story;
mod summary;
mod timeline;
mod upstream;
mod verdict;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use lab::packages::{CADDY, POSTGRESQL, PROMETHEUS, Programs, REDIS};
use lab::{Cache, Error, Result, Session, bottle, node};

use super::code;
use super::end::End;
use fault::{Fault, Kind};
use kubernetes::Node;
use mode::Mode;
use pods::Pods;
use progress::Progress;
use screen::Screen;
use stack::Stack;
use timeline::Timeline;

/// What `lab demo` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to break.
    #[arg(long, env = "FAULT", value_enum, default_value = "runaway")]
    fault: Fault,
    /// The same fault twice: first the operator only looks, then it acts; both side by side at the end.
    #[arg(long, env = "COMPARE", value_parser = FalseyValueParser::new())]
    compare: bool,
    /// Leave everything running at the end, until Ctrl-C.
    #[arg(long, env = "KEEP", value_parser = FalseyValueParser::new())]
    keep: bool,
    /// The operator to run, instead of the one of this checkout, which is built first.
    #[arg(long, env = "LATENCY_OPERATOR_BINARY")]
    operator: Option<PathBuf>,
    /// Who plays the Pods.
    #[arg(long, env = "NODE", value_enum, default_value = "kwok")]
    node: Node,
    /// The operator's image, a docker-archive, for a real node.
    #[arg(long, env = "LATENCY_OPERATOR_IMAGE")]
    image: Option<PathBuf>,
}

/// How it ended, once it has: what is kept running may be stopped without making a success a failure.
type Verdict = Option<Result<()>>;

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let mut end = End::listen()?;
    let screen = Screen::of_output();
    match arguments.node {
        Node::Kwok => {}
        Node::Real if bottle::is_inside() => bottle::prepare()?,
        Node::Real => {
            tokio::select! {
                made = make_ready(screen) => made?,
                () = end.asked() => return Err(stopped()),
            }
            return bottle::enter_until(end.asked()).await.map(code);
        }
    }
    outside_or_inside(&arguments, screen, &mut end).await.map(|()| ExitCode::SUCCESS)
}

/// In a bottle nothing can be fetched.
async fn make_ready(screen: Screen) -> Result<()> {
    if let Some(missing) = bottle::missing() {
        let remedy = "`make demo` alone needs nothing of that: kwok plays the Pods";
        return Err(Error::setup("starting the demo on a real node", missing, remedy));
    }
    let session = Session::start_with(Arc::new(screen), Cache::open()?).await?;
    node::prepare(&session).await?;
    for package in [&POSTGRESQL, &PROMETHEUS, &CADDY, &REDIS] {
        Programs::find(&session, package).await?;
    }
    stack::python(&session).await.map(drop)
}

fn stopped() -> Error {
    Error::setup("running the demo", "it was stopped before its end", "run it again")
}

async fn outside_or_inside(arguments: &Arguments, screen: Screen, end: &mut End) -> Result<()> {
    let session = Session::start_with(Arc::new(screen.clone()), Cache::open()?).await?;
    let mut verdict = None;
    tokio::select! {
        ended = play(&session, arguments, screen, &mut verdict) => verdict = Some(ended),
        () = end.asked() => session.say("stopping"),
    }
    verdict.unwrap_or_else(|| Err(stopped()))
}

async fn play(session: &Session, arguments: &Arguments, screen: Screen, verdict: &mut Verdict) -> Result<()> {
    let modes: &[Mode] = if arguments.compare { &[Mode::Observe, Mode::Auto] } else { &[Mode::Auto] };
    let mut progress = Progress::begin(session, modes.len());
    let here = |seconds| lab::patience(Duration::from_secs(seconds)).as_secs();
    progress.step(&match arguments.node {
        Node::Kwok => format!(
            "starting Kubernetes, PostgreSQL, Prometheus, Caddy and a Python environment, all on 127.0.0.1: about {} s; what \
             is not in the cache is built or downloaded first",
            here(10)
        ),
        Node::Real => format!(
            "starting Kubernetes with two real nodes, PostgreSQL, Prometheus and Caddy, all in private namespaces: about {} s",
            here(15)
        ),
    });
    let stack = Stack::start(session, arguments).await?;
    let mut pods = Pods::new(&stack);
    let timeline = Timeline::new(screen);
    let played = tokio::select! {
        played = scenes(&stack, arguments, (modes, progress, timeline), verdict) => played,
        trouble = pods.keep() => trouble,
    };
    if played.is_err() {
        stack.show_logs().await;
    }
    played
}

async fn scenes(
    stack: &Stack,
    arguments: &Arguments,
    (modes, mut progress, mut timeline): (&[Mode], Progress, Timeline),
    verdict: &mut Verdict,
) -> Result<()> {
    let fault = arguments.fault;
    progress.step("installing the kinds, the rights and the application");
    cluster::prepare(stack).await?;
    progress.step("starting the users and the operator");
    stack.start_load(fault).await?;
    stack.start_operator().await?;
    let mut stories = Vec::new();
    for mode in modes {
        progress.step(
            "waiting until the API is warm and steady, which takes about 15 s, and the operator watches it",
        );
        let mut before = edge::until_steady(stack).await?;
        let (meanwhile, ()) = edge::meanwhile(stack, cluster::watch_over(stack, fault, *mode)).await?;
        before.extend(meanwhile);
        if fault.kind() == Kind::Cache {
            stack.session.say("letting the operator see how the cache usually does: 10 s");
            before.extend(edge::steady_for(stack, edge::LEARNED).await?);
        }
        progress.step(&format!("the incident, in mode {}", mode.name()));
        timeline.introduce(fault, *mode);
        stories.push(incident::live_through(stack, (fault, *mode), before, &mut timeline).await?);
    }
    progress.step("the summary");
    summary::print(stack, &stories, &timeline).await?;
    let judged = verdict::judge(&stories);
    if !arguments.keep {
        return judged;
    }
    if let Err(failure) = &judged {
        stack.session.say(&failure.to_string());
    }
    keep::explain(stack, fault)?;
    *verdict = Some(judged);
    // Ctrl-C ends it from outside.
    std::future::pending().await
}
