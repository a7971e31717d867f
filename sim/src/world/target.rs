//! Workloads, and the traffic that they serve: how fast depends on what happens in the world.

use std::collections::VecDeque;
use std::time::Duration;

use engine::invariants::Seen;
use engine::model::{
    Autoscaler, Bucket, FieldManager, NoDataReason, Observed, Pause, ProbeAnswer, Probed, TargetRef, Timing,
    Traffic, TrafficWindow, ViewTraffic, Workload, WorkloadKey, WorkloadNow,
};

use super::api::{Answer, ApiError};
use super::{World, instant};
use crate::exec::{Micros, SECOND};

/// Requests that one pod serves at a time.
pub const WORKERS: u32 = 4;
/// So many requests a second are usual.
const USUAL: f64 = 20.0;
/// A window needs so many requests.
pub const LEAST: f64 = 50.0;

/// What a watch shows of a workload and its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Which life of the workload.
    pub uid: String,
    /// The annotation that opts out.
    pub opt_out: Option<String>,
    /// The pauses on both.
    pub pauses: Vec<Pause>,
}

/// How the workload did from an instant on.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pace {
    since: Micros,
    slow: bool,
    rate: f64,
}

/// One workload.
#[derive(Debug)]
pub struct Target {
    /// Its namespace.
    pub namespace: String,
    /// What it is called.
    pub name: TargetRef,
    /// Which life of it.
    pub uid: String,
    /// `metadata.resourceVersion`, as far as this object is concerned.
    pub version: u64,
    /// `metadata.generation`.
    pub generation: i64,
    /// `spec.replicas`.
    pub replicas: u32,
    /// `status.readyReplicas`.
    pub ready: u32,
    /// Who holds `spec.replicas`.
    pub managers: Vec<FieldManager>,
    /// What else scales it.
    pub autoscalers: Vec<Autoscaler>,
    /// The annotation that opts out.
    pub opt_out: Option<String>,
    /// The annotation that pauses.
    pub paused: Option<String>,
    /// A rollout goes on until then.
    pub rolling_until: Micros,
    /// Its database.
    pub database: usize,
    /// Its cache.
    pub cache: usize,
    /// Connections that each of its pods opens.
    pub connections_per_pod: u32,
    /// Requests that want to be served at a time.
    pub demand: f64,
    /// Requests a second.
    pub rate: f64,
    /// Nothing completes.
    pub hangs: bool,
    set_at: Micros,
    ready_after: Micros,
    paces: VecDeque<Pace>,
}

impl Target {
    /// A workload at rest.
    #[must_use]
    pub fn new(
        namespace: &str,
        name: TargetRef,
        (database, cache): (usize, usize),
        connections_per_pod: u32,
    ) -> Self {
        Self {
            namespace: namespace.to_owned(),
            uid: format!("{namespace}-{}-1", name.name),
            name,
            version: 1,
            generation: 1,
            replicas: 4,
            ready: 4,
            managers: vec![FieldManager("kubectl-client-side-apply".into())],
            autoscalers: Vec::new(),
            opt_out: None,
            paused: None,
            rolling_until: 0,
            database,
            cache,
            connections_per_pod,
            demand: 5.0,
            rate: USUAL,
            hangs: false,
            set_at: 0,
            ready_after: 10 * SECOND,
            paces: VecDeque::new(),
        }
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> WorkloadKey {
        WorkloadKey { namespace: self.namespace.clone(), target: self.name.clone(), uid: self.uid.clone() }
    }

    /// Usual traffic again.
    pub fn calm(&mut self) {
        (self.demand, self.rate, self.hangs) = (5.0, USUAL, false);
    }

    /// Pods become ready, or go, as time passes: the object changes with them.
    pub fn settle(&mut self, now: Micros) {
        let due = now.saturating_sub(self.set_at) >= self.ready_after;
        if self.ready != self.replicas && (due || self.ready > self.replicas) {
            self.ready = self.replicas;
            self.version += 1;
        }
    }

    /// The replicas are set.
    pub fn set(&mut self, replicas: u32, manager: FieldManager, _: u64, now: Micros) {
        (self.replicas, self.set_at) = (replicas, now);
        self.managers = vec![manager];
        self.version += 1;
        self.generation += 1;
    }

    /// It is deleted and created again.
    pub fn replace(&mut self, number: u64, now: Micros) {
        self.uid = format!("{}-{}-{number}", self.namespace, self.name.name);
        self.autoscalers.clear();
        self.set(4, FieldManager("kubectl-client-side-apply".into()), 0, now);
        self.ready = 4;
    }

    /// What a look at it shows.
    #[must_use]
    pub fn look(&self) -> WorkloadNow {
        WorkloadNow {
            uid: self.uid.clone(),
            replicas: self.replicas,
            ready: self.ready,
            managers: self.managers.clone(),
        }
    }

    /// What a close look shows.
    #[must_use]
    pub fn workload(&self, now: Micros) -> Workload {
        let rolling = now < self.rolling_until;
        Workload {
            generation: self.generation,
            observed_generation: self.generation,
            desired: self.replicas,
            total: self.replicas,
            updated: if rolling { self.replicas / 2 } else { self.replicas },
            ready: self.ready,
            grace: None,
            paused: false,
            managers: self.managers.clone(),
            autoscalers: Observed::Known { at: instant(now), value: self.autoscalers.clone() },
        }
    }

    fn saturated(&self) -> bool {
        self.demand >= f64::from(self.ready * WORKERS)
    }

    fn pace(&self, hurt: bool, now: Micros) -> Pace {
        let rate = if self.hangs { self.rate * 0.01 } else { self.rate };
        Pace { since: now, slow: hurt || self.saturated(), rate }
    }

    fn in_flight(&self, hurt: bool) -> f64 {
        // Of a request every other second none is there when it is looked.
        let usual = if self.rate < 1.0 { 0.0 } else { self.demand };
        // As many as come while one that is slow is served.
        let held = if hurt { f64::from(self.ready * WORKERS).min((self.rate * 0.8).floor()) } else { 0.0 };
        let stuck = if self.hangs { 60.0 } else { 0.0 };
        usual.max(held).max(stuck)
    }
}

impl World {
    /// How fast everything is has changed, perhaps.
    pub fn refresh(&mut self) {
        let now = self.now;
        let hurts: Vec<bool> = self.databases.iter().map(Database::hurts).collect();
        let cold: Vec<bool> = self.caches.iter().map(Cache::hurts).collect();
        for target in &mut self.targets {
            target.settle(now);
            let is_cold = cold.get(target.cache).copied().unwrap_or(false);
            let hurt = is_cold || hurts.get(target.database).copied().unwrap_or(false);
            let pace = target.pace(hurt, now);
            let last = target.paces.back().copied();
            if last.is_none_or(|last| (last.slow, last.rate) != (pace.slow, pace.rate)) {
                target.paces.push_back(pace);
            }
            while target.paces.len() > 2
                && target.paces.get(1).is_some_and(|second| now.saturating_sub(second.since) > 600 * SECOND)
            {
                target.paces.pop_front();
            }
        }
    }

    /// A live read of a target with its replicas, and with what else scales it where that is asked for.
    pub fn read_target(
        &mut self,
        namespace: &str,
        target: &TargetRef,
        autoscalers: bool,
    ) -> Answer<engine::model::Target> {
        self.refresh();
        let found = self.target(namespace, target).ok_or(ApiError::NotFound)?;
        let mut workload = found.workload(self.now);
        if !autoscalers {
            workload.autoscalers = Observed::missing(NoDataReason::NotYetRead, "");
        }
        let (uid, opt_out) = (found.uid.clone(), found.opt_out.clone());
        Ok(engine::model::Target { uid, workload: Some(workload), opt_out })
    }

    /// One request to a workload that is timed, and what it truly says. `None`: there is no such workload.
    pub fn probe(&mut self, place: usize, timeout: Duration) -> Option<(Probed, Seen)> {
        self.refresh();
        let millis = self.dice.between(2, 60);
        let target = self.targets.get(place)?;
        let slow = target.paces.back().is_some_and(|pace| pace.slow);
        let (answer, total, seen) = if target.hangs {
            (ProbeAnswer::TimedOut, timeout, Seen::Breached)
        } else {
            let seen = if slow { Seen::Breached } else { Seen::Healthy };
            let took = if slow { 2_000 + millis } else { millis };
            (ProbeAnswer::Status { status: 200, cut: false }, Duration::from_millis(took), seen)
        };
        let first_byte = (!target.hangs).then_some(total);
        let timing = Timing { connect: Duration::from_millis(1), tls: None, first_byte, total };
        Some((Probed { resolve: Duration::ZERO, timing, answer }, seen))
    }

    /// The window of a workload's traffic that ends now, and what it truly says. `None`: there is no such workload.
    pub fn traffic(&mut self, place: usize, window: Duration) -> Option<(Traffic, Seen)> {
        self.refresh();
        let (now, at) = (self.now, self.instant());
        let target = self.targets.get(place)?;
        let from = now.saturating_sub(u64::try_from(window.as_micros()).unwrap_or(0));
        let (mut total, mut slow, mut hung) = (0.0, 0.0, false);
        let ends = target.paces.iter().skip(1).map(|pace| pace.since).chain([now]);
        for (pace, end) in target.paces.iter().zip(ends) {
            let (begin, end) = (pace.since.max(from), end.min(now));
            #[allow(clippy::cast_precision_loss, reason = "a span of minutes in microseconds")]
            let requests = end.saturating_sub(begin) as f64 / 1e6 * pace.rate;
            total += requests;
            hung |= begin < end && pace.rate < target.rate * 0.02;
            slow += if pace.slow { requests * 0.3 } else { 0.0 };
        }
        let (total, slow): (f64, f64) = (total.floor(), slow.floor());
        let is_cold = self.caches.get(target.cache).is_some_and(Cache::hurts);
        let hurt = is_cold || self.databases.get(target.database).is_some_and(Database::hurts);
        let traffic = Traffic::from(TrafficWindow {
            window,
            buckets: buckets(total, slow),
            in_flight: Observed::Known { at, value: target.in_flight(hurt) },
            errors: Observed::Known { at, value: 0.0 },
            views: Observed::Known {
                at,
                value: ["a", "b"]
                    .map(|view| ViewTraffic {
                        view: view.into(),
                        buckets: buckets((total / 2.0).floor(), 0.0),
                    })
                    .to_vec(),
            },
        });
        let few = total < target.rate * window.as_secs_f64() * 0.11;
        // In a lull, too: it hangs to whoever knows how many are usual, and the others cannot judge so few.
        let seen = if target.hangs && (few || total < LEAST) {
            Seen::Breached
        } else if total < LEAST {
            Seen::Quiet
        } else if slow / total > 0.05 {
            Seen::Breached
        } else if (hung && few) || (target.hangs && total < USUAL * window.as_secs_f64() * 0.11) {
            Seen::Ambiguous
        } else {
            Seen::Healthy
        };
        Some((traffic, seen))
    }
}

use super::cache::Cache;
use super::database::Database;

/// All requests take 50 ms but for the slow ones, which take two seconds.
fn buckets(total: f64, slow: f64) -> Vec<Bucket> {
    let bounds = [0.1, 0.5, 1.0, 2.5, 10.0, f64::INFINITY];
    let fast = total - slow;
    bounds.iter().map(|le| Bucket { le: *le, count: if *le >= 2.5 { total } else { fast } }).collect()
}
