//! Scenario files: a policy in a few lines, then one line a tick.

use std::time::Duration;

use engine::actions::{CancelQuerySettings, ScaleSettings, ScaleStep, TerminateIdleSettings};
use engine::effects::Requests;
use engine::model::{
    CacheUse, Databases, Dependency, LatencySeverity, Mode, Objective, ObjectiveKind, Policy, ProbeSource,
    RedisDependency, Rung, RungAction, Scheme, Severity, Source, Thresholds, UncommittedWrites, duration,
};

use super::builders;

/// A scenario file.
pub(crate) struct Scenario {
    pub(crate) policy: Policy,
    pub(crate) ticks: Vec<TickLine>,
}

/// One tick: `3s | p95=900ms | report starts as reporting, cancel is lost`.
pub(crate) struct TickLine {
    pub(crate) at: Duration,
    pub(crate) traffic: Traffic,
    pub(crate) probe: Probe,
    pub(crate) events: Vec<String>,
}

/// What the source reads.
#[derive(Clone, Debug)]
pub(crate) enum Traffic {
    /// So many requests complete in the window, nine tenths of them in 50 ms and the rest in `slow`.
    Flows { requests: f64, slow: Duration, in_flight: f64, errors: f64 },
    /// The source cannot be read.
    NoData(String),
}

/// What a probe sees.
#[derive(Clone, Debug)]
pub(crate) enum Probe {
    /// An answer with this status, after so long.
    Answer(u16, Duration),
    /// The connection stands, and no answer comes.
    Hangs,
    /// There is no answer, and that says nothing.
    NoData(String),
}

impl Default for Probe {
    fn default() -> Self {
        Self::Answer(200, Duration::from_millis(20))
    }
}

pub(crate) fn scenario(text: &str) -> Result<Scenario, String> {
    let mut policy = builders::policy();
    let mut ticks: Vec<TickLine> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let place = |error: String| format!("line {}: {error}: {line}", number + 1);
        if line.contains('|') {
            let last = ticks.last().map(|tick| (tick.traffic.clone(), tick.probe.clone()));
            ticks.push(tick(line, last).map_err(place)?);
        } else {
            policy_line(line, &mut policy).map_err(place)?;
        }
    }
    Ok(Scenario { policy, ticks })
}

fn span(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|error| error.to_string())
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn policy_line(line: &str, policy: &mut Policy) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["mode", "Observe"] => policy.mode = Mode::Observe,
        ["mode", "Auto"] => policy.mode = Mode::Auto,
        ["every", interval, "over", window] => {
            (policy.evaluation.interval, policy.evaluation.window) = (span(interval)?, span(window)?);
        }
        ["breach", "for", breach, "recover", "for", recover] => {
            (policy.evaluation.breach_for, policy.evaluation.recover_for) = (span(breach)?, span(recover)?);
        }
        ["objective", name, "under", target, levels @ ..] => {
            let severities = levels.chunks(3).map(level).collect::<Result<_, _>>()?;
            let kind = ObjectiveKind::Latency { quantile: 0.95, target: span(target)?, severities };
            let source = policy.objectives[0].source.clone();
            policy.objectives = vec![objective(name, kind, source)];
        }
        ["probe", name, "under", target, levels @ ..] => {
            let severities = levels.chunks(3).map(level).collect::<Result<_, _>>()?;
            let source = Source::Probe(ProbeSource {
                service: "orders-api".to_owned(),
                port: "http".to_owned(),
                path: "/api/health".to_owned(),
                timeout: Duration::from_secs(3),
                scheme: Scheme::Http,
                failures: 1,
                of: 1,
            });
            let kind = ObjectiveKind::Latency { quantile: 0.95, target: span(target)?, severities };
            policy.objectives.push(objective(name, kind, source));
        }
        ["no", "objective"] => policy.objectives.clear(),
        ["cause", name, "older", "than", age] => {
            policy.thresholds.insert(
                (*name).to_owned().into(),
                Thresholds { older_than: Some(span(age)?), ..Thresholds::default() },
            );
        }
        ["no", "rungs"] => policy.rungs.clear(),
        ["no", "database"] => policy.dependencies.clear(),
        ["cache"] => {
            let redis = RedisDependency { secret: "orders-redis".into(), usage: CacheUse::Cache };
            policy.dependencies.insert("cache".into(), Dependency::Redis(redis));
        }
        ["pool"] => {
            policy.dependencies.insert("pool".into(), Dependency::PgBouncer(super::pool::declared()));
        }
        ["rung", name, verb @ ("cancels" | "terminates"), rest @ ..] => {
            let after = |word: &str| {
                let place = rest.iter().position(|known| *known == word);
                place.and_then(|place| rest.get(place + 1)).map(|text| span(text)).transpose()
            };
            let writes = if rest.contains(&"writers") {
                UncommittedWrites::RollBack
            } else {
                UncommittedWrites::Protect
            };
            let causes = rest.iter().filter(|word| word.starts_with(char::is_uppercase));
            policy.rungs.push(Rung {
                name: (*name).to_owned(),
                causes: causes.map(|word| (*word).to_owned().into()).collect(),
                action: if *verb == "cancels" {
                    RungAction::CancelQuery(CancelQuerySettings {
                        writes,
                        terminate_after: after("terminating")?,
                    })
                } else {
                    RungAction::TerminateIdle(TerminateIdleSettings {
                        writes,
                        min_idle: after("idle")?.unwrap_or_default(),
                    })
                },
                mode: rest.contains(&"observing").then_some(Mode::Observe),
                min_severity: Severity::P2,
            });
        }
        ["rung", name, "scales", rest @ ..] => {
            policy.rungs.push(scales(name, rest)?);
            if let Some(place) = rest.iter().position(|word| *word == "connections") {
                let count = rest.get(place + 1).and_then(|count| count.parse().ok()).ok_or("a number")?;
                connections_per_pod(policy, count);
            }
        }
        ["rung", name, "warms", rest @ ..] => policy.rungs.push(warms(name, rest)?),
        ["celery", rest @ ..] => super::workers::declare(policy, rest)?,
        ["rung", name, "sheds", rest @ ..] => policy.rungs.push(super::workers::sheds(name, rest)?),
        ["databaseless"] => policy.databases = Databases::None,
        ["workers", count] => policy.concurrency_per_pod = Some(count.parse().map_err(|_| "a number")?),
        ["cooldown", cooldown] => policy.guards.cooldown = span(cooldown)?,
        ["attempts", most] => {
            policy.guards.max_attempts_per_incident = most.parse().map_err(|_| "a number")?
        }
        ["verify", "after", after, "within", within] => {
            (policy.verification.after, policy.verification.within) = (span(after)?, span(within)?);
        }
        _ => return Err("this line of the policy is not understood".to_owned()),
    }
    Ok(())
}

/// The number of connections that one pod opens to each declared database.
fn connections_per_pod(policy: &mut Policy, count: u32) {
    for (_, dependency) in &mut policy.dependencies {
        if let Dependency::Postgres(database) = dependency {
            database.connections_per_pod = Some(count);
        }
    }
}

fn objective(name: &str, kind: ObjectiveKind, source: Source) -> Objective {
    Objective { name: name.to_owned(), kind, severity: Severity::P2, source }
}

/// A share of the replicas such as `50%`, or a number of them.
fn step(text: &str) -> Result<ScaleStep, String> {
    match text.parse() {
        Ok(count) => Ok(ScaleStep::Count(count)),
        Err(_) => engine::model::ratio::parse(text).map(ScaleStep::Share).map_err(|error| error.to_string()),
    }
}

/// `rung grow scales WorkersSaturated [by 50%] [to 12] [connections 5] [hold 10m] [observing]`
fn scales(name: &str, rest: &[&str]) -> Result<Rung, String> {
    let after = |word: &str| {
        let place = rest.iter().position(|known| *known == word);
        place.and_then(|place| rest.get(place + 1)).copied()
    };
    let count = |word: &str| after(word).map(str::parse::<u32>).transpose().map_err(|_| "a number");
    let causes = rest.iter().filter(|word| word.starts_with(char::is_uppercase));
    Ok(Rung {
        name: name.to_owned(),
        causes: causes.map(|word| (*word).to_owned().into()).collect(),
        action: RungAction::Scale(ScaleSettings {
            step: step(after("by").unwrap_or("50%"))?,
            max: count("to")?.unwrap_or(12),
            max_hold: after("hold").map_or(Ok(Duration::from_secs(3600)), span)?,
        }),
        mode: rest.contains(&"observing").then_some(Mode::Observe),
        min_severity: Severity::P2,
    })
}

/// `rung warm warms ColdCache [paths 2] [times 3] [rate 5] [within 20s] [observing]`
fn warms(name: &str, rest: &[&str]) -> Result<Rung, String> {
    let after = |word: &str| {
        let place = rest.iter().position(|known| *known == word);
        place.and_then(|place| rest.get(place + 1)).copied()
    };
    let count = |word: &str| after(word).map(str::parse::<u32>).transpose().map_err(|_| "a number");
    let causes = rest.iter().filter(|word| word.starts_with(char::is_uppercase));
    Ok(Rung {
        name: name.to_owned(),
        causes: causes.map(|word| (*word).to_owned().into()).collect(),
        action: RungAction::WarmCache(Requests {
            service: "orders-api".into(),
            port: "http".into(),
            scheme: Scheme::Http,
            paths: (1..=count("paths")?.unwrap_or(2)).map(|number| format!("/api/{number}")).collect(),
            requests_per_path: count("times")?.unwrap_or(1),
            rate_per_second: count("rate")?.unwrap_or(5),
            in_flight: 2,
            within: after("within").map_or(Ok(Duration::from_secs(20)), span)?,
        }),
        mode: rest.contains(&"observing").then_some(Mode::Observe),
        min_severity: Severity::P2,
    })
}

fn level(words: &[&str]) -> Result<LatencySeverity, String> {
    let [level, "above", above] = words else { return Err("a level reads: P1 above 2s".to_owned()) };
    let level = match *level {
        "P0" => Severity::P0,
        "P1" => Severity::P1,
        _ => Severity::P2,
    };
    Ok(LatencySeverity { level, above: span(above)? })
}

fn tick(line: &str, last: Option<(Traffic, Probe)>) -> Result<TickLine, String> {
    let columns: Vec<&str> = line.split('|').map(str::trim).collect();
    let [at, traffic, rest @ ..] = columns.as_slice() else {
        return Err("a tick reads: 3s | p95=900ms |".to_owned());
    };
    let events = rest.first().copied().unwrap_or_default();
    let events =
        events.split(',').map(str::trim).filter(|event| !event.is_empty()).map(str::to_owned).collect();
    let (probes, traffic): (Vec<&str>, Vec<&str>) =
        traffic.split_whitespace().partition(|word| word.starts_with("probe="));
    let (last, last_probe) = last.unzip();
    let probe = match (probes.first(), traffic.as_slice()) {
        (Some(word), _) => probe(word.trim_start_matches("probe="))?,
        (None, ["..."]) => last_probe.unwrap_or_default(),
        (None, _) => Probe::default(),
    };
    Ok(TickLine { at: span(at)?, traffic: self::traffic(&traffic.join(" "), last)?, probe, events })
}

/// `probe=812ms`, `probe=503`, `probe=hangs`, `probe=Unreachable`
fn probe(text: &str) -> Result<Probe, String> {
    Ok(match text.parse() {
        Ok(status) => Probe::Answer(status, Duration::from_millis(20)),
        Err(_) if text == "hangs" => Probe::Hangs,
        Err(_) if text.starts_with(char::is_uppercase) => Probe::NoData(text.to_owned()),
        Err(_) => Probe::Answer(200, span(text)?),
    })
}

fn traffic(text: &str, last: Option<Traffic>) -> Result<Traffic, String> {
    let usual =
        Traffic::Flows { requests: 500.0, slow: Duration::from_millis(90), in_flight: 4.0, errors: 0.0 };
    if let Some(reason) = text.strip_prefix("nodata ") {
        return Ok(Traffic::NoData(reason.to_owned()));
    }
    // "..." goes on as before; anything else starts from usual traffic.
    let mut traffic = match text {
        "..." => return last.ok_or_else(|| "there is nothing to go on with".to_owned()),
        _ => usual,
    };
    let Traffic::Flows { requests, slow, in_flight, errors } = &mut traffic else {
        return Err("no flow".to_owned());
    };
    for word in text.split_whitespace() {
        match word.split_once('=') {
            Some(("p95", value)) => *slow = span(value)?,
            Some(("requests", value)) => *requests = number(value)?,
            Some(("inflight", value)) => *in_flight = number(value)?,
            Some(("errors", value)) => *errors = number(value)?,
            _ => return Err(format!("{word} is not understood")),
        }
    }
    Ok(traffic)
}
