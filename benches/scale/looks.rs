//! What is read: `/proc`, the operator's metrics, those of Prometheus, the database's sessions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use lab::{Operator, Process};
use sqlx::PgConnection;

use super::fleet::{Fleet, USER};

/// Clock ticks in a second, on every Linux of today.
const TICKS: f64 = 100.0;

/// An exposition, by series.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exposition(BTreeMap<String, f64>);

impl Exposition {
    fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(series.collect())
    }

    pub(crate) async fn of_operator(fleet: &Fleet, operator: &Operator) -> Self {
        Self::at(fleet, &format!("http://{}/metrics", operator.address())).await.unwrap_or_default()
    }

    pub(crate) async fn of_prometheus(fleet: &Fleet) -> Self {
        Self::at(fleet, &format!("{}/metrics", fleet.prometheus.url()))
            .await
            .expect("Prometheus' own metrics")
    }

    async fn at(fleet: &Fleet, url: &str) -> Option<Self> {
        let answer = fleet.http.get(url).send().await.ok()?.error_for_status().ok()?;
        Some(Self::parse(&answer.text().await.ok()?))
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let end = move |series: &str| {
            series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        let series = self.0.range(name.to_owned()..).take_while(move |(series, _)| series.starts_with(name));
        series.filter(move |(series, _)| end(series)).map(|(series, value)| (series.as_str(), *value))
    }

    /// The sum of all series of a name.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|(_, value)| value).sum()
    }

    /// Of those whose labels have this in them.
    pub(crate) fn sum_with(&self, name: &str, label: &str) -> f64 {
        self.of(name).filter(|(series, _)| series.contains(label)).map(|(_, value)| value).sum()
    }

    /// How many series have this value, or any.
    pub(crate) fn count(&self, name: &str, wanted: Option<f64>) -> usize {
        let is_wanted = |value: f64| wanted.is_none_or(|wanted| wanted.total_cmp(&value).is_eq());
        self.of(name).filter(|(_, value)| is_wanted(*value)).count()
    }

    /// The smallest bound of a histogram below which this share lies of what was counted since `before`; infinite beyond all.
    pub(crate) fn quantile_since(&self, before: &Self, histogram: &str, share: f64) -> f64 {
        let name = format!("{histogram}_bucket");
        let bound = |series: &str| -> Option<f64> {
            let (_, rest) = series.split_once("le=\"")?;
            rest.split_once('"')?.0.parse().ok()
        };
        let mut counted: Vec<(f64, f64)> = self
            .of(&name)
            .filter_map(|(series, value)| {
                Some((bound(series)?, value - before.0.get(series).copied().unwrap_or_default()))
            })
            .collect();
        counted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all = counted.last().map_or(0.0, |(_, count)| *count);
        counted.iter().find(|(_, count)| *count >= share * all).map_or(f64::NAN, |(bound, _)| *bound)
    }
}

/// Megabytes that belong to a process: what it shares counts in parts.
pub(crate) fn pss(process: &Process) -> f64 {
    kilobytes(process, "smaps_rollup", "Pss:") / 1000.0 * 1.024
}

/// Megabytes that were resident at most.
pub(crate) fn peak(process: &Process) -> f64 {
    kilobytes(process, "status", "VmHWM:") / 1000.0 * 1.024
}

fn kilobytes(process: &Process, file: &str, name: &str) -> f64 {
    let path = format!("/proc/{}/{file}", process.identity().pid);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(f64::NAN)
}

/// CPU-seconds of a process so far.
pub(crate) fn cpu(process: &Process) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.identity().pid)).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
    let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ticks.iter().sum::<f64>() / TICKS
}

/// Counts the operator's sessions in the database every second until it is dropped.
pub(crate) struct Sessions {
    most: Arc<AtomicI64>,
    task: tokio::task::JoinHandle<()>,
}

impl Sessions {
    pub(crate) async fn watch(fleet: &Fleet) -> Self {
        let mut connection = fleet.postgres.superuser("postgres").await.expect("a connection");
        let most = Arc::new(AtomicI64::default());
        let seen = most.clone();
        let task = tokio::spawn(async move {
            loop {
                let count = sessions(&mut connection).await;
                seen.fetch_max(count, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self { most, task }
    }

    /// The most so far.
    pub(crate) fn most(&self) -> i64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn sessions(connection: &mut PgConnection) -> i64 {
    let query = "select count(*) from pg_stat_activity where usename = $1";
    sqlx::query_scalar(query).bind(USER).fetch_one(connection).await.expect("sessions")
}
