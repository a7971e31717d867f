//! What the operator takes, on real parts: the time from a breach in Prometheus to the write and to the signal in the
//! database, memory, and writes while nothing happens. Prints a table with the budget beside each figure, the figures of
//! `tick` (measured by criterion before) included, and writes the same as JSON.
//!
//! `RUNS=` sets how many breaches are measured (30 where it is left out). A run takes about 20 s.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that panics has failed"
)]
#![allow(clippy::print_stdout, reason = "the table is what it is run for")]

#[path = "../tests/e2e/support.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::ListParams;
use serde_json::{Value, json};
use support::{OPERATOR, SOON, World, eventually, run, slow};

/// The third same fix in a day is refused.
const RUNS_IN_A_NAMESPACE: usize = 2;
/// The policy's `breachFor`.
const BREACH_FOR: Duration = Duration::from_secs(2);

/// One breach.
struct Run {
    /// From the first moment at which Prometheus shows the breach, plus `breachFor`, to the write of the intent.
    to_write: Duration,
    /// The same to the signal in the database.
    to_signal: Duration,
}

/// A line of the table.
struct Figure {
    what: &'static str,
    value: String,
    budget: &'static str,
    raw: Value,
}

fn main() {
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(30);
    run(async move {
        let mut measured = Vec::new();
        let mut idle = None;
        for namespace in 0..usize::div_ceil(runs, RUNS_IN_A_NAMESPACE) {
            let mut world = World::new(&format!("bench-{namespace}")).await;
            world.operate().await;
            world
                .policy(|policy| {
                    policy["spec"]["guards"] = json!({"cooldown": "1s", "maxActionsPerHour": 100})
                })
                .await;
            world.until_calm().await;
            if idle.is_none() {
                idle = Some(doing_nothing(&world).await);
            }
            while measured.len() < runs && (measured.len() < (namespace + 1) * RUNS_IN_A_NAMESPACE) {
                measured.push(breach(&world).await);
                eprint(&format!(
                    "run {} of {runs}: {:?} to the signal",
                    measured.len(),
                    measured[measured.len() - 1].to_signal
                ));
            }
        }
        let mut figures = ticks();
        figures.extend(detection(&measured));
        figures.extend(idle.into_iter().flatten());
        report(&figures);
    });
}

#[allow(clippy::print_stderr, reason = "progress is not part of the table")]
fn eprint(line: &str) {
    eprintln!("{line}");
}

/// One breach, from calm to calm.
async fn breach(world: &World) -> Run {
    world.until_calm().await;
    let before = world.signals();
    let suffering = world.suffer_while("application_name = 'report' and state = 'active'", slow());
    let report = world.session("reporting", "report", &["select pg_sleep(600)"]).await;
    let seen = breach_in_prometheus(world).await;
    let ended = report.ended().await;
    assert!(ended.is_err(), "the statement ended by itself");
    let signalled =
        eventually("the server's log", SOON, async || (world.signals() > before).then(|| signalled(world)))
            .await;
    let written = written(world);
    eventually("the incident is closed", SOON, async || {
        let open = world.incidents().list(&ListParams::default()).await.expect("incidents").items;
        let closed = |status: &latency_operator::api::LatencyIncidentStatus| {
            status.phase.as_ref().is_some_and(|phase| phase.0 == "Closed")
        };
        open.iter().all(|incident| incident.status.as_ref().is_some_and(closed)).then_some(())
    })
    .await;
    // Not before: it is what makes the traffic calm again.
    drop(suffering);
    let due = engine::model::later(seen, BREACH_FOR);
    Run { to_write: engine::model::elapsed(written, due), to_signal: engine::model::elapsed(signalled, due) }
}

/// The first moment at which Prometheus' own answer is a breach, asked for as often as it can be.
async fn breach_in_prometheus(world: &World) -> Timestamp {
    let selector = format!("{{namespace=\"{}\",view!~\"prometheus.*|.*health.*\"}}", world.namespace);
    let histogram = "django_http_requests_latency_seconds_by_view_method";
    let within = selector.replace('}', ",le=\"0.5\"}");
    let share = format!(
        "sum(increase({histogram}_bucket{within}[5s])) / sum(increase({histogram}_count{selector}[5s]))"
    );
    eventually("a breach in Prometheus", SOON, async || {
        let samples = world.lab.prometheus.query(&share).await.ok()?;
        (samples.first()?.value < 0.95).then(Timestamp::now)
    })
    .await
}

/// When the newest intent was written, by the audit log.
fn written(world: &World) -> Timestamp {
    let writes = world.writes();
    let intents =
        writes.iter().filter(|event| event.is_for("latencyremediations", "") && event.verb == "create");
    intents.map(|event| event.request_received_timestamp.0).max().expect("an intent")
}

/// When the newest statement was cancelled, by the database's log: to the millisecond, in UTC.
fn signalled(world: &World) -> Timestamp {
    let log = std::fs::read_to_string(world.postgres.log()).expect("the server's log");
    let line =
        log.lines().rfind(|line| line.contains("canceling statement due to user request")).expect("a cancel");
    let stamp: Vec<&str> = line.splitn(4, ' ').collect();
    format!("{}T{}Z", stamp[0], stamp[1]).parse().expect("a time")
}

fn quantile(mut values: Vec<Duration>, share: f64) -> Duration {
    values.sort();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank"
    )]
    let rank = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len());
    values[rank - 1]
}

fn detection(runs: &[Run]) -> Vec<Figure> {
    let figure = |what, budget, values: Vec<Duration>| {
        let [p50, p99] = [0.5, 0.99].map(|share| quantile(values.clone(), share));
        let worst = values.iter().max().copied().unwrap_or_default();
        Figure {
            what,
            value: format!("p50 {p50:.0?}, p99 {p99:.0?}, worst {worst:.0?} of {} runs", values.len()),
            budget,
            raw: json!({"p50": p50.as_secs_f64(), "p99": p99.as_secs_f64(), "seconds": values.iter().map(Duration::as_secs_f64).collect::<Vec<_>>()}),
        }
    };
    vec![
        figure(
            "breach in Prometheus + breachFor -> intent written",
            "one interval (1 s) + 100 ms, p99",
            runs.iter().map(|run| run.to_write).collect(),
        ),
        figure(
            "breach in Prometheus + breachFor -> signal in the database",
            "-",
            runs.iter().map(|run| run.to_signal).collect(),
        ),
    ]
}

/// Memory and writes of an operator with one policy and nothing to do.
async fn doing_nothing(world: &World) -> Vec<Figure> {
    const WATCHED: Duration = Duration::from_secs(30);
    let begun = Timestamp::now();
    tokio::time::sleep(WATCHED).await;
    let writes =
        world.lab.control_plane.audit_of(OPERATOR).expect("the audit log").into_iter().filter(|event| {
            let lease = event.object_ref.as_ref().is_some_and(|object| object.resource == "leases");
            event.is_write() && !lease && event.request_received_timestamp.0 > begun
        });
    let writes = writes.count();
    let pid = world.operator.as_ref().expect("an operator").process().identity().pid;
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let pss = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|text| text.trim().strip_suffix(" kB"));
    let pss: u64 = pss.and_then(|text| text.trim().parse().ok()).unwrap_or_default();
    vec![
        Figure {
            what: "memory with 1 policy (Pss)",
            value: format!("{:.1} MB", Duration::from_millis(pss).as_secs_f64()),
            budget: "20 MB",
            raw: json!(pss * 1024),
        },
        Figure {
            what: "API writes in 30 s with nothing happening, but for the Lease",
            value: writes.to_string(),
            budget: "0",
            raw: json!(writes),
        },
    ]
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from)
}

/// What criterion has measured before, if it has.
fn ticks() -> Vec<Figure> {
    let names = [
        ("tick-calm", "tick of one policy, calm"),
        ("tick-breached", "tick of one policy, breached, 96 sessions"),
    ];
    let read = |(name, what): (&str, &'static str)| {
        let text =
            std::fs::read_to_string(target().join(format!("criterion/{name}/new/estimates.json"))).ok()?;
        let estimates: Value = serde_json::from_str(&text).ok()?;
        let nanos = estimates["median"]["point_estimate"].as_f64()?;
        let value = format!("{:.1} us (median)", nanos / 1000.0);
        Some(Figure { what, value, budget: "50 us", raw: json!({"median_ns": nanos}) })
    };
    names.into_iter().filter_map(read).collect()
}

fn report(figures: &[Figure]) {
    println!("\n{:<62} {:<52} budget", "what", "measured");
    for figure in figures {
        println!("{:<62} {:<52} {}", figure.what, figure.value, figure.budget);
    }
    let json: Vec<Value> = figures
        .iter()
        .map(|f| json!({"what": f.what, "measured": f.value, "budget": f.budget, "raw": f.raw}))
        .collect();
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("report.json");
    std::fs::write(&path, serde_json::to_string_pretty(&json).expect("JSON")).expect("the report");
    println!("\nas JSON: {}", path.display());
}
