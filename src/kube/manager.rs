//! Running the controllers of every scope for as long as this process leads: watches, queues, and what is taken from them.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use controller::ledger_store::Freshness;
use controller::ports::Timer;
use controller::{Next, policy, remediation};
use engine::model::earlier;
use futures::{Stream, StreamExt, TryStreamExt};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, applier, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::{Semaphore, mpsc, watch};

use super::Controllers;
use super::convert;
use super::isolate::{Broken, isolated};
use super::namespaces::Namespaces;
use super::watched::Watched;
use crate::api::{LatencyPolicy, LatencyRemediation, Stored};
use crate::observe::kubernetes::Workloads;
use crate::scope::Scope;

/// Maximum number of evaluations under way at one time in a scope. Most of them wait for somebody's database: this many let a
/// hundred dead ones hold up nobody else. And no more: each takes some 30 KB, and a new operator has one for each policy.
const POLICIES_AT_ONCE: usize = 256;
/// Maximum number of policies that wait for their evaluation. kube keeps 1 KB for each, for ever. Evaluations are spread over
/// the interval, so that more than a few hundred wait only at the start.
const IN_LINE: u16 = 3_500;
/// Maximum number of remediations under way at one time in a scope.
const REMEDIATIONS_AT_ONCE: u16 = 16;
/// An object that is younger than this may be missing from a list without having been deleted.
const SLACK: Duration = Duration::from_secs(60);

type Policy = Stored<LatencyPolicy>;
type Remediation = Stored<LatencyRemediation>;
type Key = (String, String);

/// Why a task ended early.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// An evaluation.
    #[error(transparent)]
    Evaluation(#[from] policy::EvaluationError),
    /// A step of a remediation.
    #[error(transparent)]
    Step(#[from] remediation::StepError),
    /// Something is wrong with the operator itself.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// One scope that is about to be led.
pub struct Led {
    /// What is watched in it.
    pub watched: Watched,
    requeued: mpsc::UnboundedReceiver<Key>,
    watching: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Led {
    /// Starts the watches of a scope's metadata.
    #[must_use]
    pub fn new(client: &Client, watching: &Client, scope: Scope, namespaces: &Namespaces) -> Self {
        let (workloads, watching) = Workloads::watch(client, watching, &scope, namespaces.follow(&scope));
        let (requeue, requeued) = mpsc::unbounded_channel();
        Self { watched: Watched { scope, workloads, requeue }, requeued, watching: Box::pin(watching) }
    }
}

/// What the tasks of one scope share.
struct Context {
    controllers: Arc<Controllers>,
    watched: Watched,
    /// Watches: this client waits for long.
    client: Client,
    /// Places for evaluations that are under way.
    places: Semaphore,
}

fn action(next: Next) -> Action {
    match next {
        Next::After(wait) => Action::requeue(wait),
        Next::OnChange => Action::await_change(),
    }
}

/// Runs both controllers in every scope until `stop` says so; what is under way is finished. `marks` tells whenever the mark of
/// an uninstallation on the Lease has changed.
pub async fn lead<Mark: Clone + Send + Sync>(
    controllers: Arc<Controllers>,
    watching: Client,
    scopes: Vec<Led>,
    marks: watch::Receiver<Mark>,
    stop: watch::Receiver<bool>,
) {
    let running = scopes
        .into_iter()
        .map(|scope| lead_scope(controllers.clone(), watching.clone(), scope, marks.clone(), stop.clone()));
    tokio::select! {
        _ = futures::future::join_all(running) => {}
        () = controllers.keep_budgets_reported() => {}
    }
    // An interrupted run leaves its outcome open; a successor resolves it.
    controllers.ports.time.end();
}

async fn lead_scope<Mark: Clone + Send + Sync>(
    controllers: Arc<Controllers>,
    client: Client,
    Led { watched, requeued, watching }: Led,
    marks: watch::Receiver<Mark>,
    stop: watch::Receiver<bool>,
) {
    let ctx = Arc::new(Context { controllers, watched, client, places: Semaphore::new(POLICIES_AT_ONCE) });
    let namespace = ctx.watched.scope.namespace().map(str::to_owned);
    let running = async {
        if let Err(error) = ctx.watched.workloads.wait_until_ready().await {
            tracing::error!(%error, "the watches have ended");
            return;
        }
        tracing::info!(scope = ?ctx.watched.scope, "watching");
        tokio::join!(
            policies(ctx.clone(), stop.clone()),
            remediations(ctx.clone(), requeued, stop.clone()),
            until(ctx.controllers.keep_history_trimmed(namespace.as_deref()), stop.clone()),
            until(requeue_on_drain(ctx.clone(), marks), stop.clone())
        );
    };
    tokio::select! {
        () = watching => tracing::error!("the watches of metadata have ended"),
        () = running => {}
    }
}

/// As soon as the Lease is marked, every pending rollback is due: whatever waits is queued at once.
async fn requeue_on_drain<Mark: Clone + Send + Sync>(ctx: Arc<Context>, mut marks: watch::Receiver<Mark>) {
    while marks.changed().await.is_ok() {
        for key in ctx.controllers.ledger.unsettled(ctx.watched.scope.namespace()) {
            let _ = ctx.watched.requeue.send(key);
        }
    }
    std::future::pending().await
}

/// Goes on until `stop`.
async fn until(work: impl Future<Output = ()>, stop: watch::Receiver<bool>) {
    tokio::select! {
        () = work => {}
        () = stopped(stop) => {}
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that nobody is left who could say so: stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn policies(ctx: Arc<Context>, stop: watch::Receiver<bool>) {
    let api: Api<Policy> = ctx.watched.scope.api(ctx.client.clone());
    let (store, writer) = reflector::store();
    let watch = PolicyWatch { ctx: ctx.clone(), listed: Mutex::default() };
    let queue = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .inspect_ok(move |event| watch.see(event))
        .reflect(writer)
        .applied_objects()
        .map_ok(|object| ObjectRef::from_obj(&object));
    // kube's applier starves some objects when more are due than it may run. Queue them first in, first out.
    let config = Config::default().concurrency(IN_LINE);
    let known = store.clone();
    let evaluate =
        move |object: Arc<Policy>, ctx| Box::pin(in_turn(ObjectRef::from_obj(&*object), known.clone(), ctx));
    let error_policy = |_: Arc<Policy>, error: &Error, _: Arc<Context>| {
        tracing::warn!(%error, "an evaluation ended early");
        Action::requeue(policy::AFTER_ERROR)
    };
    run(queue, stop, |queue| applier(evaluate, error_policy, ctx, store, queue, config)).await;
}

/// An evaluation as soon as it is its turn, of the policy as it is then.
async fn in_turn(due: ObjectRef<Policy>, known: Store<Policy>, ctx: Arc<Context>) -> Result<Action, Error> {
    // It is never closed.
    let _place = ctx.places.acquire().await;
    let Some(object) = known.get(&due) else { return Ok(Action::await_change()) };
    // Not before: an evaluation is large, and thousands may be waiting.
    Box::pin(isolated(evaluate(object, ctx.controllers.clone()))).await
}

async fn evaluate(object: Arc<Policy>, controllers: Arc<Controllers>) -> Result<Action, Error> {
    let next = match &object.0 {
        Ok(object) => {
            let policy = controllers.ports.cluster.policy_of(object);
            controllers.evaluate(&policy).await?
        }
        Err(undecodable) => controllers.report_undecodable(&convert::undecodable(undecodable)).await?,
    };
    Ok(action(next))
}

/// Forgets policies that are gone. A list that follows an interruption also tells which those are.
struct PolicyWatch {
    ctx: Arc<Context>,
    listed: Mutex<BTreeSet<Key>>,
}

impl PolicyWatch {
    fn see(&self, event: &Event<Policy>) {
        let key = |object: &Policy| (object.namespace().unwrap_or_default(), object.name_any());
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let (controllers, scope) = (&self.ctx.controllers, &self.ctx.watched.scope);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(key(object));
            }
            Event::InitDone => {
                for key in controllers.forget_unlisted_policies(scope.namespace(), &listed) {
                    tracing::debug!(?key, ?scope, "a policy was deleted unseen");
                }
            }
            Event::Apply(_) => {}
            Event::Delete(object) => controllers.forget_policy(&key(object)),
        }
    }
}

async fn remediations(
    ctx: Arc<Context>,
    mut requeued: mpsc::UnboundedReceiver<Key>,
    stop: watch::Receiver<bool>,
) {
    let api: Api<Remediation> = ctx.watched.scope.api(ctx.client.clone());
    let (store, writer) = reflector::store();
    let watch = RemediationWatch { ctx: ctx.clone(), listed: Mutex::default() };
    let watched = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .inspect_ok(move |event| watch.see(event))
        .reflect(writer)
        .applied_objects()
        .map_ok(|object| ObjectRef::from_obj(&object));
    let requeued = futures::stream::poll_fn(move |cx| requeued.poll_recv(cx))
        .map(|(namespace, name)| Ok(ObjectRef::<Remediation>::new(&name).within(&namespace)));
    let queue = futures::stream::select(watched, requeued);
    let config = Config::default().concurrency(REMEDIATIONS_AT_ONCE);
    let error_policy = |_: Arc<Remediation>, error: &Error, _: Arc<Context>| {
        tracing::warn!(%error, "a remediation could not go on");
        Action::requeue(remediation::AFTER_ERROR)
    };
    let step = |object: Arc<Remediation>, ctx: Arc<Context>| {
        Box::pin(isolated(advance(object, ctx.controllers.clone())))
    };
    run(queue, stop, |queue| applier(step, error_policy, ctx, store, queue, config)).await;
}

async fn advance(object: Arc<Remediation>, controllers: Arc<Controllers>) -> Result<Action, Error> {
    let understood = match &object.0 {
        Ok(stored) => convert::remediation(stored),
        Err(undecodable) => Err(undecodable.error.clone()),
    };
    match understood {
        Ok(stored) => Ok(action(controllers.advance(stored).await?)),
        Err(why) => {
            let name = object.name_any();
            tracing::warn!(name, why, "a LatencyRemediation cannot be understood; it is left as it is");
            Ok(Action::await_change())
        }
    }
}

/// Feeds a queue to an applier until `stop`; then nothing new is begun, and what is under way is finished.
async fn run<Queue, Item, Applied, Done, Failed>(
    queue: Queue,
    stop: watch::Receiver<bool>,
    apply: impl FnOnce(futures::stream::TakeUntil<Queue, Pin<Box<dyn Future<Output = ()> + Send>>>) -> Applied,
) where
    Queue: Stream<Item = Result<Item, watcher::Error>>,
    Applied: Stream<Item = Result<Done, Failed>>,
    Failed: std::fmt::Display,
{
    let until: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(stopped(stop));
    let applied = apply(queue.take_until(until));
    applied
        .for_each(|result| {
            if let Err(error) = result {
                // The controllers' own errors are logged where they happen; here it is a watch, or an object that has gone.
                tracing::debug!(%error, "the queue");
            }
            std::future::ready(())
        })
        .await;
}

/// Keeps the ledger in step with the watch. A list that follows an interruption also tells what has been deleted meanwhile.
struct RemediationWatch {
    ctx: Arc<Context>,
    listed: Mutex<BTreeSet<Key>>,
}

impl RemediationWatch {
    fn see(&self, event: &Event<Remediation>) {
        let controllers = &self.ctx.controllers;
        let key = |object: &Remediation| (object.namespace().unwrap_or_default(), object.name_any());
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(key(object));
                self.observe(object, Freshness::List);
            }
            Event::InitDone => {
                let before = earlier(controllers.ports.time.now(), SLACK);
                let namespace = self.ctx.watched.scope.namespace();
                controllers.ledger.forget_unlisted(namespace, &listed, before);
            }
            Event::Apply(object) => self.observe(object, Freshness::Event),
            Event::Delete(object) => controllers.ledger.forget(&key(object)),
        }
    }

    fn observe(&self, object: &Remediation, freshness: Freshness) {
        if let Some(Ok(stored)) = object.0.as_ref().ok().map(convert::remediation) {
            self.ctx.controllers.ledger.observe(&stored, freshness);
        }
    }
}
