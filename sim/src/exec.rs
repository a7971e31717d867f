//! Virtual time: events in their order, and tasks that wait for them.
//!
//! A task is a future of one operator process. It is polled when an event of its own has happened, and dropped where its
//! process is killed: whatever it had sent is under way all the same. There are no threads, and there is no other clock.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::operator::{Operator, watch};
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
type Body = Pin<Box<dyn Future<Output = ()>>>;
type Happening = Box<dyn FnOnce(&Rc<Sim>)>;

enum Event {
    Resume(TaskId),
    Happen(Happening),
}

struct Task {
    node: Node,
    body: Option<Body>,
}

/// The simulation: the world, and what is going to happen in it.
pub struct Sim {
    now: Cell<Micros>,
    next: Cell<u64>,
    order: RefCell<BinaryHeap<Reverse<(Micros, u64)>>>,
    events: RefCell<BTreeMap<u64, Event>>,
    tasks: RefCell<BTreeMap<TaskId, Task>>,
    woken: RefCell<BTreeSet<TaskId>>,
    current: Cell<TaskId>,
    /// Everything outside the operators.
    pub world: RefCell<World>,
    /// Until when each node's process is frozen.
    pub frozen_until: [Cell<Micros>; 2],
    /// The leaders, who watch.
    pub watchers: RefCell<Vec<Rc<Operator>>>,
}

impl Sim {
    /// A simulation of that world at its beginning.
    #[must_use]
    pub fn new(world: World) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(0),
            next: Cell::new(1),
            order: RefCell::default(),
            events: RefCell::default(),
            tasks: RefCell::default(),
            woken: RefCell::default(),
            current: Cell::new(0),
            world: RefCell::new(world),
            frozen_until: [Cell::new(0), Cell::new(0)],
            watchers: RefCell::default(),
        })
    }

    /// The true time.
    #[must_use]
    pub fn now(&self) -> Micros {
        self.now.get()
    }

    /// Lets something happen then.
    pub fn at(&self, at: Micros, happening: impl FnOnce(&Rc<Self>) + 'static) {
        self.push(at, Event::Happen(Box::new(happening)));
    }

    fn push(&self, at: Micros, event: Event) {
        let number = self.next.get();
        self.next.set(number + 1);
        self.events.borrow_mut().insert(number, event);
        self.order.borrow_mut().push(Reverse((at.max(self.now()), number)));
    }

    /// Starts a task of a node's process.
    pub fn spawn(&self, node: Node, body: impl Future<Output = ()> + 'static) -> TaskId {
        let id = self.next.get();
        self.next.set(id + 1);
        self.tasks.borrow_mut().insert(id, Task { node, body: Some(Box::pin(body)) });
        self.push(self.now(), Event::Resume(id));
        id
    }

    /// Wakes a task that may be sleeping.
    pub fn wake(&self, task: TaskId) {
        if self.woken.borrow_mut().insert(task) {
            self.push(self.now(), Event::Resume(task));
        }
    }

    /// Ends all tasks of a node's process, at once.
    pub fn kill(&self, node: Node) {
        // Dropping a task runs nothing of its own; those that are being polled are dropped when they return.
        let gone: Vec<Task> = {
            let mut tasks = self.tasks.borrow_mut();
            let ids: Vec<TaskId> =
                tasks.iter().filter(|(_, task)| task.node == node).map(|(id, _)| *id).collect();
            ids.into_iter().filter_map(|id| tasks.remove(&id)).collect()
        };
        drop(gone);
    }

    /// Nothing that was going to happen does.
    pub fn forget(&self) {
        self.watchers.borrow_mut().clear();
        let events = std::mem::take(&mut *self.events.borrow_mut());
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        drop((events, tasks));
    }

    /// Lets everything happen until then.
    pub fn run(self: &Rc<Self>, until: Micros) {
        loop {
            let next = self.order.borrow().peek().copied();
            let Some(Reverse((at, number))) = next.filter(|Reverse((at, _))| *at <= until) else { break };
            self.order.borrow_mut().pop();
            let event = self.events.borrow_mut().remove(&number);
            self.now.set(at);
            self.world.borrow_mut().now = at;
            match event {
                Some(Event::Resume(task)) => self.resume(task),
                Some(Event::Happen(happening)) => happening(self),
                None => {}
            }
            watch::pump(self);
            if self.world.borrow().is_over() {
                break;
            }
        }
        self.now.set(self.now().max(until));
    }

    fn resume(&self, id: TaskId) {
        let (node, body) = {
            let mut tasks = self.tasks.borrow_mut();
            let Some(task) = tasks.get_mut(&id) else { return };
            (task.node, task.body.take())
        };
        let thawed = self.frozen_until.get(node).map_or(0, Cell::get);
        if thawed > self.now() {
            if let Some(task) = self.tasks.borrow_mut().get_mut(&id) {
                task.body = body;
            }
            return self.push(thawed, Event::Resume(id));
        }
        let Some(mut body) = body else { return };
        let before = self.current.replace(id);
        let polled = body.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.current.set(before);
        let mut tasks = self.tasks.borrow_mut();
        if polled.is_ready() {
            tasks.remove(&id);
        } else if let Some(task) = tasks.get_mut(&id) {
            task.body = Some(body);
        }
    }

    /// Waits.
    pub fn sleep(self: &Rc<Self>, span: Micros) -> Sleep {
        Sleep { sim: self.clone(), until: self.now() + span, armed: false, interruptible: false }
    }

    /// Waits, or until [`Self::wake`] is called for this task.
    pub fn doze(self: &Rc<Self>, span: Micros) -> Sleep {
        Sleep { sim: self.clone(), until: self.now() + span, armed: false, interruptible: true }
    }

    /// A place for an answer; whoever waits for it goes on when it is there.
    #[must_use]
    pub fn slot<T>(self: &Rc<Self>) -> Slot<T> {
        Slot { sim: self.clone(), answer: Rc::new(RefCell::new(None)), task: self.current.get() }
    }
}

/// See [`Sim::sleep`].
pub struct Sleep {
    sim: Rc<Sim>,
    until: Micros,
    armed: bool,
    interruptible: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let task = self.sim.current.get();
        let woken = self.interruptible && self.sim.woken.borrow_mut().remove(&task);
        if woken || self.sim.now() >= self.until {
            return Poll::Ready(());
        }
        if !self.armed {
            self.armed = true;
            self.sim.push(self.until, Event::Resume(task));
        }
        Poll::Pending
    }
}

/// See [`Sim::slot`].
pub struct Slot<T> {
    sim: Rc<Sim>,
    answer: Rc<RefCell<Option<T>>>,
    task: TaskId,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self { sim: self.sim.clone(), answer: self.answer.clone(), task: self.task }
    }
}

impl<T> Slot<T> {
    /// The answer is there; a second one is lost.
    pub fn fill(&self, answer: T) {
        let mut place = self.answer.borrow_mut();
        if place.is_none() {
            *place = Some(answer);
            self.sim.push(self.sim.now(), Event::Resume(self.task));
        }
    }
}

impl<T> Future for Slot<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        match self.answer.borrow_mut().take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}
