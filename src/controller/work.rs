//! Running the controllers of every scope for as long as this process leads.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::model::earlier;
use futures::{Stream, StreamExt, TryStreamExt};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, applier, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::{Semaphore, mpsc, watch};

use super::context::{Context, Shared};
use super::isolate::isolated;
use super::keeper::News;
use super::policy::{self, Runtimes};
use super::remediation::{self, Locals, Runs, Watches};
use super::retention;
use crate::api::{LatencyPolicy, LatencyRemediation, Stored, convert};
use crate::observe::kubernetes::{Scope, Workloads};

/// Evaluations that may be under way at one time; the rest waits its turn. Most of them wait for somebody's database: so
/// many that a hundred dead ones hold up nobody else. And no more: each takes some 30 KB meanwhile, and an operator that has
/// just started has one for each policy.
const POLICIES_AT_ONCE: usize = 256;
/// Policies that may stand in line for that: kube keeps room for each, of 1 KB, for ever. Each has its turn, so that there are a
/// few hundred at the most but for the first moment.
const IN_LINE: u16 = 3_500;
/// Remediations that may be under way at one time.
const REMEDIATIONS_AT_ONCE: u16 = 16;

/// What is younger than this may be missing from a list without having gone.
const SLACK: Duration = Duration::from_secs(60);

type Policy = Stored<LatencyPolicy>;
type Remediation = Stored<LatencyRemediation>;

/// Every LatencyRemediation of the scopes, as the API server holds them at this moment.
///
/// # Errors
/// The API server cannot be asked.
pub async fn list_remediations(
    client: &Client,
    scopes: &[Scope],
) -> kube::Result<Vec<engine::model::Remediation>> {
    let mut all = Vec::new();
    for scope in scopes {
        let api: Api<Remediation> = scope.api(client.clone());
        // No resourceVersion: the answer is consistent, not from a cache.
        let listed = api.list(&kube::api::ListParams::default()).await?;
        for object in listed.items {
            let understood = object.0.as_ref().ok().map(convert::remediation);
            match understood {
                Some(Ok(remediation)) => all.push(remediation),
                Some(Err(_)) | None => {
                    tracing::warn!(
                        name = object.name_any(),
                        "a LatencyRemediation cannot be understood; it is left as it is"
                    );
                }
            }
        }
    }
    Ok(all)
}

/// Runs both controllers in every scope until `stop` says so; what is under way is finished.
pub async fn lead(shared: Arc<Shared>, scopes: Vec<Scope>, stop: watch::Receiver<bool>) {
    let running = scopes.into_iter().map(|scope| lead_scope(shared.clone(), scope, stop.clone()));
    futures::future::join_all(running).await;
}

async fn lead_scope(shared: Arc<Shared>, scope: Scope, stop: watch::Receiver<bool>) {
    let (workloads, watching) = Workloads::watch(&shared.client, &shared.watching, &scope);
    let (wake, woken) = mpsc::unbounded_channel();
    let ctx = Arc::new(Context {
        workloads: workloads.clone(),
        runtimes: Runtimes::default(),
        locals: Locals::default(),
        runs: Runs::default(),
        watches: Watches::default(),
        places: Semaphore::new(POLICIES_AT_ONCE),
        wake,
        shared,
    });
    let controllers = async {
        if let Err(error) = workloads.wait_until_ready().await {
            tracing::error!(%error, "the watches have ended");
            return;
        }
        tracing::info!(?scope, "watching");
        tokio::join!(
            policies(ctx.clone(), &scope, stop.clone()),
            remediations(ctx.clone(), &scope, woken, stop.clone()),
            until(retention::keep_up(ctx.clone(), scope.clone()), stop.clone()),
            until(hurry(ctx.clone(), scope.clone()), stop.clone())
        );
        // Whoever is told to end finds its outcome open, and says so.
        ctx.runs.end();
    };
    tokio::select! {
        () = watching => tracing::error!("the watches of metadata have ended"),
        () = controllers => {}
    }
}

/// As soon as the Lease is marked, what is owed is due: whatever waits looks again at once.
async fn hurry(ctx: Arc<Context>, scope: Scope) {
    let mut marks = ctx.shared.leadership.marks();
    while marks.changed().await.is_ok() {
        for key in ctx.shared.keeper.unsettled(scope.namespace()) {
            let _ = ctx.wake.send(key);
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

async fn policies(ctx: Arc<Context>, scope: &Scope, stop: watch::Receiver<bool>) {
    let api: Api<Policy> = scope.api(ctx.shared.watching.clone());
    let (store, writer) = reflector::store();
    let watched = Watched { ctx: ctx.clone(), scope: scope.clone(), listed: Mutex::default() };
    let queue = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .inspect_ok(move |event| watched.see(event))
        .reflect(writer)
        .applied_objects()
        .map_ok(|object| ObjectRef::from_obj(&object));
    // Of those that are due kube takes any, and always the same ones first where it cannot take all. Here they stand in line.
    let config = Config::default().concurrency(IN_LINE);
    let known = store.clone();
    let evaluate =
        move |object: Arc<Policy>, ctx| Box::pin(in_turn(ObjectRef::from_obj(&*object), known.clone(), ctx));
    run(queue, stop, |queue| applier(evaluate, policy::error_policy, ctx, store, queue, config)).await;
}

/// An evaluation as soon as it is its turn, of the policy as it is then: whoever was due first comes first.
async fn in_turn(
    due: ObjectRef<Policy>,
    known: Store<Policy>,
    ctx: Arc<Context>,
) -> Result<Action, policy::Error> {
    // It is never closed.
    let _place = ctx.places.acquire().await;
    let Some(object) = known.get(&due) else { return Ok(Action::await_change()) };
    // Not before: an evaluation is large, and thousands may be waiting.
    Box::pin(isolated(policy::reconcile(object, ctx.clone()))).await
}

/// Forgets policies that have gone. A list that follows an interruption also tells which those are.
struct Watched {
    ctx: Arc<Context>,
    scope: Scope,
    listed: Mutex<BTreeSet<(String, String)>>,
}

impl Watched {
    fn see(&self, event: &Event<Policy>) {
        let key = |object: &Policy| (object.namespace().unwrap_or_default(), object.name_any());
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(key(object));
            }
            Event::InitDone => {
                let unlisted = self.ctx.runtimes.known().into_iter().filter(|key| !listed.contains(key));
                for key in unlisted {
                    tracing::debug!(?key, scope = ?self.scope, "a policy has gone unseen");
                    forget_policy(&self.ctx, &key);
                }
            }
            Event::Apply(_) => {}
            Event::Delete(object) => forget_policy(&self.ctx, &key(object)),
        }
    }
}

fn forget_policy(ctx: &Context, key: &(String, String)) {
    ctx.runtimes.forget(key);
    policy::forget(ctx, key);
}

async fn remediations(
    ctx: Arc<Context>,
    scope: &Scope,
    mut woken: mpsc::UnboundedReceiver<(String, String)>,
    stop: watch::Receiver<bool>,
) {
    let api: Api<Remediation> = scope.api(ctx.shared.watching.clone());
    let (store, writer) = reflector::store();
    let keeping = Keeping::new(ctx.clone(), scope);
    let watched = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .inspect_ok(move |event| keeping.see(event))
        .reflect(writer)
        .applied_objects()
        .map_ok(|object| ObjectRef::from_obj(&object));
    let woken = futures::stream::poll_fn(move |cx| woken.poll_recv(cx))
        .map(|(namespace, name)| Ok(ObjectRef::<Remediation>::new(&name).within(&namespace)));
    let queue = futures::stream::select(watched, woken);
    let config = Config::default().concurrency(REMEDIATIONS_AT_ONCE);
    run(queue, stop, |queue| {
        applier(
            |object, ctx| Box::pin(isolated(remediation::reconcile(object, ctx))),
            remediation::error_policy,
            ctx,
            store,
            queue,
            config,
        )
    })
    .await;
}

/// Feeds a queue to an applier until `stop`; then nothing new is begun, and what is under way is finished.
async fn run<Queue, Item, Applied, Done, Failed>(
    queue: Queue,
    stop: watch::Receiver<bool>,
    apply: impl FnOnce(
        futures::stream::TakeUntil<Queue, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>>,
    ) -> Applied,
) where
    Queue: Stream<Item = Result<Item, watcher::Error>>,
    Applied: Stream<Item = Result<Done, Failed>>,
    Failed: std::fmt::Display,
{
    let until: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(stopped(stop));
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
struct Keeping {
    ctx: Arc<Context>,
    namespace: Option<String>,
    listed: Mutex<BTreeSet<(String, String)>>,
}

impl Keeping {
    fn new(ctx: Arc<Context>, scope: &Scope) -> Self {
        let namespace = scope.namespace().map(str::to_owned);
        Self { ctx, namespace, listed: Mutex::default() }
    }

    fn see(&self, event: &Event<Remediation>) {
        let keeper = &self.ctx.shared.keeper;
        let key = |object: &Remediation| (object.namespace().unwrap_or_default(), object.name_any());
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(key(object));
                self.observe(object, News::Listed);
            }
            Event::InitDone => {
                let before = earlier(self.ctx.shared.clock.now(), SLACK);
                keeper.forget_unlisted(self.namespace.as_deref(), &listed, before);
            }
            Event::Apply(object) => self.observe(object, News::Changed),
            Event::Delete(object) => keeper.forget(&key(object)),
        }
    }

    fn observe(&self, object: &Remediation, news: News) {
        if let Some(Ok(remediation)) = object.0.as_ref().ok().map(convert::remediation) {
            self.ctx.shared.keeper.observe(remediation, object.resource_version().as_deref(), news);
        }
    }
}
