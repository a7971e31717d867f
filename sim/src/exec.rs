//! Virtual time: events in their order, and tasks that wait for them.
//!
//! A task is a future of one operator process. It is polled when its waker was called, and dropped where its process is
//! killed: whatever it had sent is under way all the same. One thread polls everything, and there is no other clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use crate::process::Process;
use crate::watches;
use crate::world::World;

/// Microseconds since the simulation began.
pub type Micros = u64;
/// One millisecond.
pub const MS: Micros = 1_000;
/// One second.
pub const SECOND: Micros = 1_000_000;
/// One minute.
pub const MINUTE: Micros = 60 * SECOND;
/// One hour.
pub const HOUR: Micros = 60 * MINUTE;

/// One of the two places where an operator runs.
pub type Node = usize;
type TaskId = u64;
type Body = Pin<Box<dyn Future<Output = ()> + Send>>;
type Happening = Box<dyn FnOnce(&Arc<Sim>) + Send>;

enum Event {
    Resume(TaskId),
    Wake(Waker),
    Happen(Happening),
}

#[derive(Default)]
struct Queue {
    last: u64,
    order: BinaryHeap<Reverse<(Micros, u64)>>,
    events: BTreeMap<u64, Event>,
}

struct Task {
    node: Node,
    body: Option<Body>,
    alarm: Arc<Alarm>,
}

/// Wakes a task, once for each time that it is polled.
struct Alarm {
    sim: Weak<Sim>,
    task: TaskId,
    rung: AtomicBool,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.rung.swap(true, Ordering::Relaxed)
            && let Some(sim) = self.sim.upgrade()
        {
            sim.push(sim.now(), Event::Resume(self.task));
        }
    }
}

/// Locks; nothing in here panics while it holds a lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The simulation: the world, and what is going to happen in it.
pub struct Sim {
    this: Weak<Self>,
    now: AtomicU64,
    queue: Mutex<Queue>,
    tasks: Mutex<BTreeMap<TaskId, Task>>,
    world: Mutex<World>,
    frozen_until: [AtomicU64; 2],
    /// The processes that lead: they watch.
    pub(crate) leaders: Mutex<Vec<Arc<Process>>>,
}

impl Sim {
    /// A simulation of that world at its beginning.
    #[must_use]
    pub fn new(world: World) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            now: AtomicU64::new(0),
            queue: Mutex::default(),
            tasks: Mutex::default(),
            world: Mutex::new(world),
            frozen_until: [AtomicU64::new(0), AtomicU64::new(0)],
            leaders: Mutex::default(),
        })
    }

    /// The true time.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.now.load(Ordering::Relaxed)
    }

    /// Everything outside the operators.
    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    /// Until when a node's process is frozen; in the past where it is not.
    #[must_use]
    pub fn frozen_until(&self, node: Node) -> Micros {
        self.frozen_until.get(node).map_or(0, |until| until.load(Ordering::Relaxed))
    }

    /// Sets until when a node's process is frozen.
    pub fn set_frozen_until(&self, node: Node, until: Micros) {
        if let Some(frozen) = self.frozen_until.get(node) {
            frozen.store(until, Ordering::Relaxed);
        }
    }

    /// Lets something happen then.
    pub fn at(&self, at: Micros, happening: impl FnOnce(&Arc<Self>) + Send + 'static) {
        self.push(at, Event::Happen(Box::new(happening)));
    }

    fn push(&self, at: Micros, event: Event) -> u64 {
        let mut queue = lock(&self.queue);
        queue.last += 1;
        let number = queue.last;
        queue.events.insert(number, event);
        queue.order.push(Reverse((at.max(self.now()), number)));
        number
    }

    /// Starts a task of a node's process.
    pub fn spawn(&self, node: Node, body: impl Future<Output = ()> + Send + 'static) {
        let task = {
            let mut queue = lock(&self.queue);
            queue.last += 1;
            queue.last
        };
        let alarm = Arc::new(Alarm { sim: self.this.clone(), task, rung: AtomicBool::new(false) });
        lock(&self.tasks).insert(task, Task { node, body: Some(Box::pin(body)), alarm: alarm.clone() });
        alarm.wake();
    }

    /// Ends all tasks of a node's process, at once.
    pub fn kill(&self, node: Node) {
        // A task that is being polled is dropped when it returns. None of those locks is held while the others are dropped.
        let gone: Vec<Task> = {
            let mut tasks = lock(&self.tasks);
            let ids: Vec<TaskId> =
                tasks.iter().filter(|(_, task)| task.node == node).map(|(id, _)| *id).collect();
            ids.into_iter().filter_map(|id| tasks.remove(&id)).collect()
        };
        drop(gone);
    }

    /// Nothing that was going to happen does.
    pub fn forget(&self) {
        let leaders = std::mem::take(&mut *lock(&self.leaders));
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        let queue = std::mem::take(&mut *lock(&self.queue));
        drop((leaders, tasks, queue));
    }

    /// Lets everything happen until then.
    pub fn run(self: &Arc<Self>, until: Micros) {
        while let Some((at, event)) = self.next(until) {
            self.now.store(at, Ordering::Relaxed);
            self.world().now = at;
            match event {
                Event::Resume(task) => self.resume(task),
                Event::Wake(waker) => waker.wake(),
                Event::Happen(happening) => happening(self),
            }
            watches::pump(self);
            if self.world().is_over() {
                break;
            }
        }
        self.now.fetch_max(until, Ordering::Relaxed);
    }

    /// The next event that was not cancelled, up to that time.
    fn next(&self, until: Micros) -> Option<(Micros, Event)> {
        let mut queue = lock(&self.queue);
        loop {
            let Reverse((at, number)) = queue.order.peek().copied()?;
            if at > until {
                return None;
            }
            queue.order.pop();
            if let Some(event) = queue.events.remove(&number) {
                return Some((at, event));
            }
        }
    }

    fn resume(&self, task: TaskId) {
        let (body, alarm) = {
            let mut tasks = lock(&self.tasks);
            let Some(known) = tasks.get_mut(&task) else { return };
            let thawed = self.frozen_until(known.node);
            if thawed > self.now() {
                self.push(thawed, Event::Resume(task));
                return;
            }
            (known.body.take(), known.alarm.clone())
        };
        let Some(mut body) = body else { return };
        alarm.rung.store(false, Ordering::Relaxed);
        let polled = body.as_mut().poll(&mut Context::from_waker(&Waker::from(alarm)));
        let mut tasks = lock(&self.tasks);
        let left = if polled.is_ready() {
            tasks.remove(&task)
        } else {
            if let Some(known) = tasks.get_mut(&task) {
                known.body = Some(body);
            }
            None
        };
        drop(tasks);
        drop(left);
    }

    /// Waits.
    pub fn sleep(&self, span: Micros) -> Sleep {
        Sleep { sim: self.this.clone(), until: self.now() + span, armed: None }
    }

    /// Lets a node's process work for up to a minute; nothing where it takes longer.
    pub fn work<T: Send + 'static>(
        self: &Arc<Self>,
        node: Node,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let slot = Slot::default();
        let filled = slot.clone();
        self.spawn(node, async move { filled.fill(work.await) });
        self.run(self.now() + MINUTE);
        slot.take()
    }

    /// Waits for ever.
    pub async fn never(&self) {
        std::future::pending().await
    }
}

/// See [`Sim::sleep`].
pub struct Sleep {
    sim: Weak<Sim>,
    until: Micros,
    armed: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(sim) = self.sim.upgrade() else { return Poll::Pending };
        if sim.now() >= self.until {
            self.armed = None;
            return Poll::Ready(());
        }
        // Whoever polls it may be another one than last time.
        let waker = Event::Wake(context.waker().clone());
        let mut queue = lock(&sim.queue);
        match self.armed.and_then(|number| queue.events.get_mut(&number)) {
            Some(event) => *event = waker,
            None => {
                drop(queue);
                self.armed = Some(sim.push(self.until, waker));
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.armed
            && let Some(sim) = self.sim.upgrade()
        {
            let cancelled = lock(&sim.queue).events.remove(&number);
            drop(cancelled);
        }
    }
}

/// A place for something that one task waits for. A clone is the same place.
pub struct Slot<T>(Arc<Mutex<Place<T>>>);

struct Place<T> {
    value: Option<T>,
    waits: Option<Waker>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Place { value: None, waits: None })))
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Slot<T> {
    /// What is there, if anything is.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        lock(&self.0).value.take()
    }

    /// It is there; a second one is lost.
    pub fn fill(&self, value: T) {
        let mut place = lock(&self.0);
        let second = if place.value.is_none() { place.value.replace(value) } else { Some(value) };
        let waits = place.waits.take();
        drop(place);
        drop(second);
        if let Some(waker) = waits {
            waker.wake();
        }
    }
}

impl<T> Future for Slot<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut place = lock(&self.0);
        match place.value.take() {
            Some(value) => Poll::Ready(value),
            None => {
                place.waits = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
