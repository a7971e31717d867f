//! Plays one story with one fault in it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use kube::ResourceExt;
use kube::api::ListParams;
use lab::patience::{at_once, told};
use lab::postgres::PostgresOptions;
use lab::proxy::{Call, Fault, Stage};
use lab::{Operator, Session};
use latency_operator::api::LatencyRemediation;

use crate::judge::{self, Result};
use crate::points::{Point, Read, Where};
use crate::story::{Story, Trouble};
use crate::support::{Proxies, World, lab, phase};

/// Longer than any of it takes, with a second attempt after its cooldown.
const LIMIT: Duration = Duration::from_secs(180);

/// For so long the API server goes on misleading: then everything must come to an end. An operator that is misled for ever
/// rightly does nothing.
const FAULTS_CEASE: Duration = Duration::from_secs(40);

/// Plays all points, several at a time: they wait even more than other tests.
pub(crate) async fn all(points: Vec<Point>) -> Vec<Result> {
    let width = std::env::var("SWEEP_WIDTH").ok().and_then(|width| width.parse().ok());
    let width = width.unwrap_or(2 * at_once());
    lab().await;
    let total = points.len();
    let numbered = points.into_iter().enumerate();
    let runs = numbered.map(|(index, point)| async move {
        let begun = Instant::now();
        let name = format!("sweep-{index}");
        let played = AssertUnwindSafe(one(&name, point.clone())).catch_unwind().await;
        let result = played.unwrap_or_else(|panic| {
            let told = panic.downcast_ref::<String>().cloned();
            let told = told.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Result::stuck(&point, told.unwrap_or_default())
        });
        println!("{:>3}/{total} {} ({} s)", index + 1, result.line(), begun.elapsed().as_secs());
        result
    });
    futures::stream::iter(runs).buffer_unordered(width).collect().await
}

/// A story in which nothing is broken.
pub(crate) struct Undisturbed {
    /// Its requests to the API server.
    pub(crate) calls: Vec<Call>,
    /// How many statements in it signal.
    pub(crate) signals: usize,
    /// How often it was looked what has become of a session.
    pub(crate) looks: usize,
}

/// Plays a story in which nothing is broken.
pub(crate) async fn undisturbed(story: Story) -> Undisturbed {
    let point = Point { story, at: Where::Nowhere, fault: Fault::Lose };
    let (world, trouble) = played(&format!("calm-{}", story.name()), &point).await;
    let result = judge::judge(&world, &point, &trouble).await;
    assert!(result.troubles.is_empty(), "undisturbed: {:#?}", result.troubles);
    let proxies = world.proxies.as_ref().expect("proxies");
    let calls: Vec<Call> = proxies.api.calls().into_iter().map(|(call, _)| call).collect();
    for call in calls.iter().filter(|call| call.is_write() && call.resource != "leases") {
        println!("{}: {} {} #{}", story.name(), call.method, call.resource, call.nth);
    }
    let looks = proxies.database.asked(Stage::Look);
    Undisturbed { calls, signals: proxies.database.signals().len(), looks }
}

async fn one(name: &str, point: Point) -> Result {
    let (mut world, trouble) = played(name, &point).await;
    let result = judge::judge(&world, &point, &trouble).await;
    world.judged = true;
    result
}

/// Plays it until all is over and quiet.
async fn played(name: &str, point: &Point) -> (World, Trouble) {
    let mut world = World::within(lab().await, name, PostgresOptions::default()).await;
    world.behind_proxies().await;
    point.story.prepare(&mut world).await;
    arm(world.proxies.as_ref().expect("proxies"), point);
    if let (Where::Request(nth), Some(target)) = (&point.at, &world.target) {
        target.strike(*nth, point.fault.clone(), world.proxies.as_ref().expect("proxies").grip.clone());
    }
    let mut cast = Cast::default();
    cast.tend(&mut world).await;
    world.policy(|policy| point.story.policy(policy)).await;
    let calm = until(&mut world, &mut cast, async |world| {
        let within = world.condition("WithinObjective").await.starts_with("True");
        let available = world.condition("DataAvailable").await.starts_with("True");
        within && available && point.story.is_ready(world).await
    });
    assert!(calm.await, "it never was calm\n{}", world.operator_log());
    let trouble = point.story.begin(&world).await;
    let begun = Instant::now();
    let over = until(&mut world, &mut cast, async |world| {
        if begun.elapsed() > FAULTS_CEASE {
            world.proxies.as_ref().expect("proxies").api.pass();
        }
        is_over(world).await
    });
    if !over.await {
        let left = left_over(&world).await;
        panic!("it was not over within {}: {left:#?}\n{}", told(LIMIT), cast.logs(&world));
    }
    cast.lay_to_rest().await;
    world.proxies.as_ref().expect("proxies").api.pass();
    let well = until(&mut world, &mut cast, async |world| judge::is_well(world).await);
    assert!(well.await, "it never was well again\n{}", cast.logs(&world));
    (world, trouble)
}

/// Breaks what the point says.
fn arm(proxies: &Proxies, point: &Point) {
    let reading = Arc::new(Mutex::new(Reading::default()));
    let (point, shared, mut counted, mut done) = (point.clone(), reading.clone(), 0, false);
    let of_database = point.clone();
    proxies.api.when(move |call| {
        if point.at.read().is_some() {
            return shared.lock().expect("no panic").at_api(&point, call);
        }
        if (done && !point.at.repeats()) || !point.at.is(call, &mut counted) {
            return None;
        }
        done = true;
        Some(point.fault.clone())
    });
    let point = of_database;
    proxies.database.when(move |stage, nth| {
        let here = match stage {
            Stage::Prepare => point.at == Where::Prepare(nth),
            Stage::Send => point.at == Where::Signal(nth),
            Stage::Snapshot | Stage::Look => false,
        };
        match point.at.read() {
            Some(_) => reading.lock().expect("no panic").at_database(&point, stage),
            None => here.then(|| point.fault.clone()),
        }
    });
}

/// How far a run has come whose point is a read: both proxies see a part of it.
#[derive(Default)]
struct Reading {
    /// From now on reads are counted.
    begun: bool,
    counted: usize,
}

impl Reading {
    fn at_api(&mut self, point: &Point, call: &Call) -> Option<Fault> {
        let is = |method: &str, resource: &str| {
            (call.method.as_str(), call.resource.as_str()) == (method, resource)
        };
        if !self.begun {
            let resumed = matches!(point.at, Where::Resumed(..));
            self.begun = is("PATCH", "deployments/scale") || (!resumed && is("POST", "latencyremediations"));
            return (self.begun && resumed).then_some(Fault::KillAfter);
        }
        // One object where it is the target's: a new leader lists all of them.
        let whole = call.name.is_empty() && call.resource == "deployments";
        let resource = Read::Api(call.resource.clone());
        if call.method != "GET" || call.watch || whole { None } else { self.count(point, &resource) }
    }

    fn at_database(&mut self, point: &Point, stage: Stage) -> Option<Fault> {
        match stage {
            Stage::Prepare => None,
            Stage::Send => {
                let first = !self.begun && matches!(point.at, Where::Resumed(..));
                self.begun |= first;
                first.then_some(Fault::KillAfter)
            }
            Stage::Snapshot => self.count(point, &Read::Snapshot),
            Stage::Look => self.count(point, &Read::Look),
        }
    }

    fn count(&mut self, point: &Point, is: &Read) -> Option<Fault> {
        let (read, nth) = point.at.read()?;
        let counts = self.begun && read == is;
        self.counted += usize::from(counts);
        (counts && self.counted == nth).then(|| point.fault.clone())
    }
}

/// The operators of a run: one that leads, and if it is frozen, its successor.
#[derive(Default)]
struct Cast {
    zombie: Option<Operator>,
    successor_leads: bool,
}

impl Cast {
    /// Starts an operator where none runs, and a successor where the leader is frozen.
    async fn tend(&mut self, world: &mut World) {
        let grip = world.proxies.as_ref().expect("proxies").grip.clone();
        if grip.is_frozen() && self.zombie.is_none() {
            self.zombie = world.operator.take();
            world.operator = Some(start(world).await);
        }
        if self.zombie.is_some() && grip.is_frozen() && !self.successor_leads {
            let metrics = world.operator.as_ref().expect("an operator").metrics().await;
            let leads = metrics.is_ok_and(|text| text.contains("latency_operator_leader 1"));
            if leads {
                // Its own resolution first: what it found Executing is not any more.
                self.successor_leads = !remediations(world).await.iter().any(|one| phase(one) == "Executing");
            }
            if self.successor_leads {
                grip.thaw();
            }
        }
        let runs = world.operator.as_ref().is_some_and(|one| one.process().exit_status().is_none());
        if !runs {
            let operator = start(world).await;
            if self.zombie.is_none() {
                grip.hold(&operator);
            }
            world.operator = Some(operator);
        }
    }

    /// A zombie notices that it is one, and ends or watches.
    async fn lay_to_rest(&self) {
        if let Some(zombie) = &self.zombie {
            // It has gone on: what it had in mind it has done or left by the time it answers and does not lead.
            let quiet = lab::until(LIMIT, async || match zombie.process().exit_status() {
                Some(_) => Some(()),
                None => zombie.metrics().await.ok()?.contains("latency_operator_leader 0").then_some(()),
            });
            assert!(quiet.await.is_some(), "the zombie still thinks that it leads\n{}", zombie.log_text());
        }
    }

    fn logs(&self, world: &World) -> String {
        let zombie = self.zombie.as_ref().map(Operator::log_text).unwrap_or_default();
        let tail = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(60)..].join("\n")
        };
        format!("{}\n-- zombie:\n{}", tail(world.operator_log()), tail(zombie))
    }
}

/// Starts an operator; where it is killed before it answers, another one.
async fn start(world: &World) -> Operator {
    let session: &Session = &world.lab.session;
    let grip = &world.proxies.as_ref().expect("proxies").grip;
    loop {
        let operator = Operator::launch(session, world.options()).await.expect("it is launched");
        if !grip.is_frozen() {
            grip.hold(&operator);
        }
        let answers = lab::until(LIMIT, async || {
            let ended = operator.process().exit_status().is_some();
            (ended || operator.get("/healthz").await.is_ok()).then_some(!ended)
        });
        if answers.await.expect("it answers or ends") {
            return operator;
        }
    }
}

/// Looks until it is so, and keeps an operator running meanwhile. Less often than the laboratory does: a look is half a dozen
/// requests, and several worlds are looked at.
async fn until(world: &mut World, cast: &mut Cast, mut look: impl AsyncFnMut(&World) -> bool) -> bool {
    let deadline = Instant::now() + lab::patience(LIMIT);
    while Instant::now() < deadline {
        cast.tend(world).await;
        if look(world).await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    false
}

async fn remediations(world: &World) -> Vec<LatencyRemediation> {
    world.remediations().list(&ListParams::default()).await.expect("remediations").items
}

/// The incident is closed, no remediation is open, nothing is owed, nobody is frozen.
async fn is_over(world: &World) -> bool {
    let frozen = world.proxies.as_ref().is_some_and(|proxies| proxies.grip.is_frozen());
    !frozen && left_over(world).await.is_empty()
}

/// What is not over yet.
pub(crate) async fn left_over(world: &World) -> Vec<String> {
    let mut left = Vec::new();
    let incidents = world.incidents().list(&ListParams::default()).await.expect("incidents").items;
    if incidents.is_empty() {
        left.push("no incident was opened".to_owned());
    }
    for incident in &incidents {
        let phase =
            incident.status.clone().unwrap_or_default().phase.map(|phase| phase.0).unwrap_or_default();
        if phase != "Closed" {
            left.push(format!("incident {} is {phase}", incident.name_any()));
        }
    }
    let all = remediations(world).await;
    for one in &all {
        let undo = one
            .status
            .clone()
            .unwrap_or_default()
            .rollback
            .map(|rollback| rollback.state.0)
            .unwrap_or_default();
        let open = matches!(phase(one).as_str(), "" | "Admitted" | "Executing" | "Verifying");
        if open || undo == "Pending" || !one.finalizers().is_empty() {
            left.push(format!("remediation {} is {}, undo {undo}", one.name_any(), phase(one)));
        }
    }
    let within = world.condition("WithinObjective").await;
    if !within.starts_with("True") {
        left.push(format!("WithinObjective is {within}"));
    }
    left
}
