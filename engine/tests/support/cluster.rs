//! The replicas of a workload, as a cluster would run them: set by whoever sets them, and ready a moment later.

use std::time::Duration;

use engine::effects::{Inspection, SetReplicas};
use engine::model::{
    Autoscaler, FieldManager, MANAGER, Observed, ViewTraffic, Workload, WorkloadNow, elapsed,
};
use jiff::Timestamp;

use super::builders;

/// How slowness is spread over the views.
#[derive(Clone, Copy, PartialEq)]
enum Views {
    Unread,
    Even,
    One,
}

pub(crate) struct Cluster {
    uid: String,
    gone: bool,
    replicas: u32,
    ready: u32,
    set_at: Timestamp,
    ready_after: Duration,
    grace: Option<Duration>,
    managers: Vec<FieldManager>,
    autoscalers: Vec<Autoscaler>,
    views: Views,
    /// Connection slots of the database that are in use.
    pub(crate) connections: u32,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::of("t", 4, None)
    }

    pub(crate) fn of(uid: &str, replicas: u32, grace: Option<Duration>) -> Self {
        Self {
            uid: uid.into(),
            gone: false,
            replicas,
            ready: replicas,
            set_at: builders::start(),
            ready_after: Duration::from_secs(2),
            grace,
            managers: vec![FieldManager("kubectl-client-side-apply".into())],
            autoscalers: Vec::new(),
            views: Views::Unread,
            connections: 10,
        }
    }

    pub(crate) fn uid(&self) -> String {
        self.uid.clone()
    }

    /// Pods become ready, or go, as time passes.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        if elapsed(now, self.set_at) >= self.ready_after || self.ready > self.replicas {
            self.ready = self.replicas;
        }
    }

    pub(crate) fn workload(&self, now: Timestamp) -> Workload {
        Workload {
            generation: 1,
            observed_generation: 1,
            desired: self.replicas,
            total: self.replicas,
            updated: self.replicas,
            ready: self.ready,
            grace: self.grace,
            paused: false,
            managers: self.managers.clone(),
            autoscalers: Observed::Known { at: now, value: self.autoscalers.clone() },
        }
    }

    pub(crate) fn look(&self) -> Inspection {
        if self.gone {
            return Inspection::Gone;
        }
        Inspection::Workload(WorkloadNow {
            uid: self.uid.clone(),
            replicas: self.replicas,
            ready: self.ready,
            managers: self.managers.clone(),
        })
    }

    /// The replicas, who has set them last, and what else scales them.
    pub(crate) fn standing(&self) -> (u32, String, Vec<String>) {
        let manager = self.managers.last().map(ToString::to_string).unwrap_or_default();
        (self.replicas, manager, self.autoscalers.iter().map(ToString::to_string).collect())
    }

    /// The compare-and-swap of an act; whether it matched.
    pub(crate) fn scale(&mut self, scale: &SetReplicas, now: Timestamp) -> bool {
        let matches = !self.gone && self.uid == scale.uid && self.replicas == scale.from;
        if matches {
            self.set(scale.to, MANAGER, now);
        }
        matches
    }

    /// The compare-and-swap of an undo.
    pub(crate) fn restore(&mut self, scale: &SetReplicas, now: Timestamp) {
        let ours = self.managers.iter().all(FieldManager::is_ours);
        assert!(ours && self.scale(scale, now), "an undo that its decision did not fit: {scale:?}");
    }

    fn set(&mut self, replicas: u32, manager: &str, now: Timestamp) {
        (self.replicas, self.set_at) = (replicas, now);
        self.managers = vec![FieldManager(manager.to_owned())];
    }

    /// The views of a window in which a tenth of the requests is slow.
    pub(crate) fn views(
        &self,
        at: Timestamp,
        requests: f64,
        slow: Duration,
    ) -> Option<Observed<Vec<ViewTraffic>>> {
        let view = |name: &str, share: f64, slow: Duration| ViewTraffic {
            view: name.to_owned(),
            buckets: builders::buckets((requests * share).floor(), 0.0, slow),
        };
        let fast = Duration::from_millis(50);
        let value = match self.views {
            Views::Unread => return None,
            Views::Even => vec![view("orders", 0.5, fast), view("stock", 0.5, fast)],
            Views::One => vec![view("orders", 0.9, fast), view("report", 0.1, slow)],
        };
        Some(Observed::Known { at, value })
    }

    /// Takes in an event; whether it is one of the cluster's.
    pub(crate) fn event(&mut self, words: &[&str], now: Timestamp) -> Result<bool, String> {
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text} is not a number"));
        match words {
            ["replicas", "applied", "by", manager] => self.managers.push(FieldManager((*manager).to_owned())),
            ["replicas", count, "by", manager] => self.set(number(count)?, manager, now),
            ["pods", "take", span] => {
                self.ready_after = engine::model::duration::parse(span).map_err(|error| error.to_string())?;
            }
            ["hpa", "appears"] => {
                let hpa = Autoscaler { kind: "HorizontalPodAutoscaler".into(), name: "orders-api".into() };
                self.autoscalers.push(hpa);
            }
            ["target", "is", "replaced"] => {
                self.uid.push('2');
                self.set(4, "kubectl", now);
            }
            ["target", "is", "deleted"] => self.gone = true,
            ["views", "even"] => self.views = Views::Even,
            ["views", "one"] => self.views = Views::One,
            ["connections", count] => self.connections = number(count)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
