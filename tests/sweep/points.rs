//! Where something is broken, and how.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use lab::proxy::{Call, Fault};

use crate::play::{self, Undisturbed};
use crate::story::{STORIES, Story};

/// At which request it is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Where {
    /// Nowhere.
    Nowhere,
    /// The how manieth request of this method for this resource, since the operator was started first.
    Api(String, String, usize),
    /// Every other change of anything but the Lease, by a die that is thrown anew for each: a strict order would hit the same
    /// one of two changes that always follow each other for ever.
    EveryOther,
    /// One of three requests of any kind but watches and the Lease, in the same way.
    EveryThird,
    /// The how manieth statement that signals.
    Signal(usize),
    /// The preparation of such a statement: after all that is asked before it, and before it is sent.
    Prepare(usize),
    /// The how manieth request to the target.
    Request(usize),
    /// The how manieth read of that kind since the first remediation was created.
    Read(Read, usize),
    /// The same since the operator was killed right after its first effect: another one finds it Executing, and looks.
    Resumed(Read, usize),
}

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Read {
    /// This resource of the API server, one object or a list.
    Api(String),
    /// The diagnosis snapshot of the database.
    Snapshot,
    /// What has become of a session.
    Look,
}

impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(resource) => write!(f, "{resource}"),
            Self::Snapshot => write!(f, "the snapshot"),
            Self::Look => write!(f, "the session"),
        }
    }
}

/// One run of a story.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) story: Story,
    pub(crate) at: Where,
    pub(crate) fault: Fault,
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => write!(f, "nowhere"),
            Self::Api(method, resource, nth) => write!(f, "{method} {resource} #{nth}"),
            Self::EveryOther => write!(f, "one of two changes"),
            Self::EveryThird => write!(f, "one of three requests"),
            Self::Signal(nth) => write!(f, "signal #{nth}"),
            Self::Request(nth) => write!(f, "request #{nth}"),
            Self::Prepare(nth) => write!(f, "preparing signal #{nth}"),
            Self::Read(read, nth) => write!(f, "reading {read} #{nth}"),
            Self::Resumed(read, nth) => write!(f, "reading {read} #{nth} after a kill"),
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} at {}", self.story.name(), self.fault, self.at)
    }
}

impl Where {
    /// Whether it is this request.
    pub(crate) fn is(&self, call: &Call, counted: &mut usize) -> bool {
        if call.resource == "leases" {
            return matches!(self, Self::Api(method, resource, nth)
                if (method, resource, *nth) == (&call.method, &call.resource, call.nth));
        }
        match self {
            Self::Nowhere
            | Self::Signal(_)
            | Self::Prepare(_)
            | Self::Request(_)
            | Self::Read(..)
            | Self::Resumed(..) => false,
            Self::Api(method, resource, nth) => {
                (method, resource, *nth) == (&call.method, &call.resource, call.nth)
            }
            Self::EveryOther => {
                *counted += usize::from(call.is_write());
                call.is_write() && die(*counted).is_multiple_of(2)
            }
            Self::EveryThird => {
                *counted += usize::from(!call.watch);
                !call.watch && die(*counted).is_multiple_of(3)
            }
        }
    }

    /// What is read there, and the how manieth time, where it is a read.
    pub(crate) fn read(&self) -> Option<(&Read, usize)> {
        match self {
            Self::Read(read, nth) | Self::Resumed(read, nth) => Some((read, *nth)),
            Self::Nowhere
            | Self::Api(..)
            | Self::EveryOther
            | Self::EveryThird
            | Self::Signal(_)
            | Self::Prepare(_)
            | Self::Request(_) => None,
        }
    }

    /// Whether it may happen more than once.
    pub(crate) fn repeats(&self) -> bool {
        matches!(self, Self::EveryOther | Self::EveryThird)
    }
}

/// The same number for the same throw (splitmix64).
fn die(throw: usize) -> u64 {
    let mut z = (throw as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn api(story: Story, method: &str, resource: &str, nth: usize, fault: Fault) -> Point {
    Point { story, at: Where::Api(method.to_owned(), resource.to_owned(), nth), fault }
}

fn refuse(status: u16) -> Fault {
    Fault::Refuse { status, retry_after: (status == 429).then_some(1) }
}

/// The few that `make test` plays: around the gate, the effect, what is noted of it, what is read for it, and the undo.
pub(crate) fn chosen() -> Vec<Point> {
    use Fault::{Deny, FreezeAfter, FreezeBefore, KillAfter, Lose};
    const REMEDIATION: &str = "latencyremediations";
    const STATUS: &str = "latencyremediations/status";
    const SCALE: &str = "deployments/scale";
    let signal = |story, nth, fault| Point { story, at: Where::Signal(nth), fault };
    let read = |story, read, nth, fault| Point { story, at: Where::Read(read, nth), fault };
    vec![
        api(Story::Cancel, "POST", REMEDIATION, 1, KillAfter),
        // What is answered late must not be taken for news.
        Point { story: Story::Cancel, at: Where::EveryOther, fault: Fault::Late(Duration::from_secs(2)) },
        api(Story::Cancel, "PUT", STATUS, 1, KillAfter),
        // What is judged cannot be asked for again.
        read(Story::Cancel, Read::Api("latencypolicies".to_owned()), 1, refuse(500)),
        signal(Story::Cancel, 1, Lose),
        Point { story: Story::Cancel, at: Where::Prepare(1), fault: FreezeAfter },
        Point { story: Story::Cancel, at: Where::EveryOther, fault: Lose },
        signal(Story::Terminate, 2, KillAfter),
        signal(Story::Idle, 1, KillAfter),
        Point { story: Story::Idle, at: Where::Prepare(1), fault: FreezeAfter },
        // Who has taken over is killed when he looks.
        Point { story: Story::Idle, at: Where::Resumed(Read::Look, 1), fault: KillAfter },
        api(Story::Scale, "PUT", STATUS, 1, KillAfter),
        read(Story::Scale, Read::Snapshot, 1, Fault::Late(Duration::from_secs(8))),
        // The last look at the workload, from which the write has its version.
        read(Story::Scale, Read::Api("deployments".to_owned()), 3, Lose),
        api(Story::Scale, "PATCH", SCALE, 1, KillAfter),
        api(Story::Scale, "PATCH", SCALE, 1, FreezeBefore),
        api(Story::Scale, "PATCH", SCALE, 2, KillAfter),
        Point { story: Story::Scale, at: Where::EveryOther, fault: Deny(500) },
        Point { story: Story::Warm, at: Where::Request(1), fault: KillAfter },
        Point { story: Story::Warm, at: Where::Request(2), fault: FreezeAfter },
    ]
}

/// Every change that a story makes when nothing is broken, once killed before it and once after it; and the other faults
/// at the requests that matter and all over the story.
pub(crate) async fn all() -> Vec<Point> {
    let mut points = Vec::new();
    let calm = futures::future::join_all(STORIES.map(play::undisturbed)).await;
    for (story, Undisturbed { calls, signals, looks }) in STORIES.into_iter().zip(calm) {
        let mut known = BTreeSet::new();
        for call in calls.iter().filter(|call| call.is_write()) {
            // The Lease is renewed twice a second: its first requests stand for all.
            let stands = call.resource != "leases" || call.nth <= 2;
            if stands && known.insert((call.method.clone(), call.resource.clone(), call.nth)) {
                for fault in [Fault::KillBefore, Fault::KillAfter] {
                    points.push(api(story, &call.method, &call.resource, call.nth, fault));
                }
            }
        }
        for nth in 1..=signals {
            let late = Fault::Late(Duration::from_secs(8));
            for fault in [Fault::KillBefore, Fault::KillAfter, Fault::Lose, refuse(500), late] {
                points.push(Point { story, at: Where::Signal(nth), fault });
            }
        }
        if story == Story::Warm {
            points.extend(requests());
        }
        points.extend(faulty(story));
        points.extend(reads(story, &calls, looks > 0));
    }
    points.extend(zombies());
    points
}

/// The requests of a run of warming.
fn requests() -> Vec<Point> {
    let late = Fault::Late(Duration::from_secs(8));
    let faults = [Fault::KillBefore, Fault::KillAfter, Fault::FreezeAfter, Fault::Lose, late, refuse(500)];
    let pairs = (1..=2).flat_map(|nth| faults.iter().map(move |fault| (nth, fault.clone())));
    pairs.map(|(nth, fault)| Point { story: Story::Warm, at: Where::Request(nth), fault }).collect()
}

/// What an operator reads between admission and the end of verification, each kind of it once, and what the successor of one
/// that was killed in the middle reads: killed before the answer, the answer lost, slow, an error.
fn reads(story: Story, calls: &[Call], looks: bool) -> Vec<Point> {
    let mut places = vec![Where::Read(Read::Snapshot, 1)];
    places.extend(looks.then_some(Where::Read(Read::Look, 1)));
    places.extend(critical(calls).into_iter().map(|(resource, nth)| Where::Read(Read::Api(resource), nth)));
    if story == Story::Scale {
        // The look is the same request as that of an evaluation: the first two are one of each.
        places.extend([1, 2].map(|nth| Where::Resumed(Read::Api("deployments".to_owned()), nth)));
    } else if story != Story::Warm {
        places.extend([Read::Snapshot, Read::Look].map(|read| Where::Resumed(read, 1)));
    }
    for at in &places {
        println!("{}: {at}", story.name());
    }
    let late = Fault::Late(Duration::from_secs(8));
    let faults = [Fault::KillAfter, Fault::Lose, late, refuse(500)];
    let pairs = places.iter().flat_map(|at| faults.iter().map(move |fault| (at.clone(), fault.clone())));
    pairs.map(|(at, fault)| Point { story, at, fault }).collect()
}

/// The reads of the API server between the creation of the first remediation and the end of its verification: before the effect
/// each of them, afterwards each kind that is new.
fn critical(calls: &[Call]) -> Vec<(String, usize)> {
    const REMEDIATIONS: &str = "latencyremediations";
    let created = |call: &&Call| call.method == "POST" && call.resource == REMEDIATIONS;
    let (mut counts, mut places, mut done) = (BTreeMap::new(), Vec::new(), false);
    for call in calls.iter().skip_while(|call| !created(call)) {
        if call.resource == "latencyremediations/status" {
            let phase = call.body.pointer("/status/phase").and_then(|phase| phase.as_str());
            if phase.is_some_and(|phase| phase == "Completed") {
                break;
            }
            done |= phase.is_some_and(|phase| phase == "Verifying");
        }
        done |= call.resource == "deployments/scale";
        let reads = call.method == "GET" && !call.watch && call.resource != "leases";
        if reads {
            let nth: &mut usize = counts.entry(call.resource.clone()).or_default();
            *nth += 1;
            // On a machine that is busy an evaluation or two lie in between, and its reads.
            if *nth == 1 || (!done && *nth <= 3) {
                places.push((call.resource.clone(), *nth));
            }
        }
    }
    places
}

/// What the API server and the network do to people every day, all over a story.
fn faulty(story: Story) -> Vec<Point> {
    let late = Fault::Late(Duration::from_secs(2));
    let faults =
        [refuse(409), refuse(429), refuse(500), Fault::Deny(500), Fault::Lose, late, Fault::CutWatches];
    let places = [Where::EveryOther, Where::EveryThird];
    let pairs = faults.iter().flat_map(|fault| places.iter().map(move |at| (fault.clone(), at.clone())));
    pairs.map(|(fault, at)| Point { story, at, fault }).collect()
}

/// Leaders that are frozen after their last look and before their effect, until another one has long taken over.
fn zombies() -> Vec<Point> {
    let mut points = Vec::new();
    for _ in 0..20 {
        // The statement is prepared and not yet sent: all that is left is to send it.
        points.push(Point { story: Story::Cancel, at: Where::Prepare(1), fault: Fault::FreezeAfter });
    }
    for _ in 0..10 {
        // The gate's write has been answered, and the answer lies in the socket.
        points.push(api(Story::Scale, "PUT", "latencyremediations/status", 1, Fault::FreezeAfter));
        // The write of the replicas is under way, and arrives when another one leads.
        points.push(api(Story::Scale, "PATCH", "deployments/scale", 1, Fault::FreezeBefore));
        points.push(Point { story: Story::Terminate, at: Where::Prepare(2), fault: Fault::FreezeAfter });
        points.push(Point { story: Story::Idle, at: Where::Prepare(1), fault: Fault::FreezeAfter });
    }
    points
}
