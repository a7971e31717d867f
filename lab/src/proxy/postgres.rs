//! The proxy before PostgreSQL: it knows the statements that signal a session and those that look, and passes everything else
//! on.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use super::frames::Message;
use super::{Fault, Grip};
use crate::error::{Error, Result};
use crate::session::Session;

/// What the server is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// To prepare a statement that signals; nothing is signalled by that.
    Prepare,
    /// To carry it out, with its values.
    Send,
    /// For a diagnosis snapshot.
    Snapshot,
    /// What has become of a session.
    Look,
}

/// Of a statement's text: what it is for.
const TEXTS: [(&str, Stage); 4] = [
    ("pg_cancel_backend(a.pid)", Stage::Send),
    ("pg_terminate_backend(a.pid)", Stage::Send),
    ("pg_blocking_pids(pid)", Stage::Snapshot),
    ("FROM pg_stat_activity WHERE pid = $1", Stage::Look),
];

/// A statement that signals, as the server got it and answered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// When it arrived at the proxy, by the machine's clock.
    pub at: Timestamp,
    /// The process that it was meant for; its first value.
    pub pid: Option<i32>,
    /// Whether the server says that it has signalled; `None` where it has not answered, or not got it.
    pub landed: Option<bool>,
}

type Rule = Box<dyn FnMut(Stage, usize) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    counts: BTreeMap<Stage, usize>,
    signals: Vec<Signal>,
    struck: Vec<(Stage, Fault)>,
}

struct Shared {
    port: u16,
    grip: Grip,
    state: Mutex<State>,
}

/// See the module. It ends when it is dropped.
pub struct PostgresProxy {
    shared: Arc<Shared>,
    port: u16,
    task: AbortHandle,
}

impl PostgresProxy {
    /// Starts a proxy before the server on this port of loopback, with this grip on the operator.
    pub async fn start(session: &Session, server: u16, grip: Grip) -> Result<Self> {
        let port = session.free_port()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(Error::io("listening before PostgreSQL"))?;
        let shared = Arc::new(Shared { port: server, grip, state: Mutex::default() });
        let task = tokio::spawn(serve(listener, shared.clone())).abort_handle();
        Ok(Self { shared, port, task })
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on the rule says what is done to each statement that it knows: it is told the stage, and the how manieth it is
    /// of that stage, from 1.
    pub fn when(&self, rule: impl FnMut(Stage, usize) -> Option<Fault> + Send + 'static) {
        let mut state = self.shared.state();
        state.counts.clear();
        state.rule = Some(Box::new(rule));
    }

    /// From now on nothing is done to any statement.
    pub fn pass(&self) {
        self.shared.state().rule = None;
    }

    /// All statements that were sent to signal, in their order.
    pub fn signals(&self) -> Vec<Signal> {
        self.shared.state().signals.clone()
    }

    /// How often the server has been asked for that, since counting began.
    pub fn asked(&self, stage: Stage) -> usize {
        self.shared.state().counts.get(&stage).copied().unwrap_or_default()
    }

    /// Those to which something was done.
    pub fn struck(&self) -> Vec<(Stage, Fault)> {
        self.shared.state().struck.clone()
    }
}

impl Drop for PostgresProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        connections.spawn(async move {
            // Either side may leave at any time; both are told by the end of this.
            let _ = connection(client, shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, stage: Stage) -> Option<Fault> {
        let mut state = self.state();
        let count = state.counts.entry(stage).or_default();
        *count += 1;
        let nth = *count;
        let fault = state.rule.as_mut().and_then(|rule| rule(stage, nth));
        state.struck.extend(fault.clone().map(|fault| (stage, fault)));
        fault
    }
}

/// What both directions of one connection share.
#[derive(Default)]
struct Link {
    /// The signal that is being answered, as an index into all of them.
    open: Option<usize>,
    /// What is done once it has been answered.
    after: Option<Fault>,
}

async fn connection(client: TcpStream, shared: Arc<Shared>) -> std::io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.port)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    log_in(&mut from_client, &mut to_server, &mut from_server, &mut to_client).await?;
    let link = Arc::new(Mutex::new(Link::default()));
    tokio::select! {
        ended = questions(from_client, to_server, shared.clone(), link.clone()) => ended,
        ended = answers(from_server, to_client, shared, link) => ended,
    }
}

/// Passes on what comes before the first message with a type.
async fn log_in(
    from_client: &mut OwnedReadHalf,
    to_server: &mut OwnedWriteHalf,
    from_server: &mut OwnedReadHalf,
    to_client: &mut OwnedWriteHalf,
) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    loop {
        let message = Message::read(from_client, false).await?;
        message.write(to_server).await?;
        if !message.asks_for_encryption() {
            return Ok(());
        }
        let answer = from_server.read_u8().await?;
        to_client.write_u8(answer).await?;
    }
}

async fn questions(
    mut from_client: OwnedReadHalf,
    mut to_server: OwnedWriteHalf,
    shared: Arc<Shared>,
    link: Arc<Mutex<Link>>,
) -> std::io::Result<()> {
    let mut statements = BTreeMap::new();
    loop {
        let message = Message::read(&mut from_client, true).await?;
        match judge(&message, &mut statements, &shared, &link) {
            Some(Fault::KillBefore) => {
                shared.grip.kill().await;
                return Ok(());
            }
            Some(Fault::Refuse { .. }) => return Ok(()),
            Some(Fault::FreezeBefore) => {
                shared.grip.freeze().await;
                shared.grip.thawed().await;
            }
            Some(Fault::FreezeAfter) => shared.grip.freeze().await,
            Some(Fault::Late(delay)) => tokio::time::sleep(delay).await,
            // Once it has been answered.
            Some(Fault::KillAfter | Fault::Lose | Fault::Deny(_) | Fault::CutWatches) | None => {}
        }
        message.write(&mut to_server).await?;
    }
}

/// What is to be done to a message: something only if it belongs to a statement that is known. One that signals is written
/// down.
fn judge(
    message: &Message,
    statements: &mut BTreeMap<String, Stage>,
    shared: &Shared,
    link: &Mutex<Link>,
) -> Option<Fault> {
    if let Some((name, text)) = message.parse() {
        let known = TEXTS.iter().find(|(words, _)| text.contains(words)).map(|(_, stage)| *stage);
        match known {
            Some(stage) => statements.insert(name, stage),
            None => statements.remove(&name),
        };
        return if known == Some(Stage::Send) { shared.judge(Stage::Prepare) } else { None };
    }
    let (name, values) = message.bind()?;
    let stage = *statements.get(&name)?;
    let fault = shared.judge(stage);
    let open = (stage == Stage::Send).then(|| {
        let pid = values.into_iter().next().flatten();
        let pid = pid.and_then(|pid| Some(i32::from_be_bytes(pid.try_into().ok()?)));
        let mut state = shared.state();
        state.signals.push(Signal { at: Timestamp::now(), pid, landed: None });
        state.signals.len() - 1
    });
    *link.lock().unwrap_or_else(PoisonError::into_inner) = Link { open, after: fault.clone() };
    fault
}

async fn answers(
    mut from_server: OwnedReadHalf,
    mut to_client: OwnedWriteHalf,
    shared: Arc<Shared>,
    link: Arc<Mutex<Link>>,
) -> std::io::Result<()> {
    loop {
        let message = Message::read(&mut from_server, true).await?;
        let (open, after) = {
            let link = link.lock().unwrap_or_else(PoisonError::into_inner);
            (link.open, link.after.clone())
        };
        let over = message.kind == Some(b'Z');
        if let Some(open) = open
            && let Some(signal) = shared.state().signals.get_mut(open)
        {
            match message.first_column() {
                // A boolean in binary form or as text.
                Some(value) => signal.landed = Some(matches!(value.as_deref(), Some([1] | [b't']))),
                None if over => signal.landed = Some(signal.landed.unwrap_or(false)),
                None => {}
            }
        }
        match (&after, over) {
            (Some(Fault::KillAfter), true) => {
                shared.grip.kill().await;
                return Ok(());
            }
            (Some(Fault::Lose | Fault::Deny(_)), true) => return Ok(()),
            (Some(Fault::KillAfter | Fault::Lose | Fault::Deny(_)), false) => continue,
            _ => {}
        }
        if over {
            *link.lock().unwrap_or_else(PoisonError::into_inner) = Link::default();
        }
        message.write(&mut to_client).await?;
    }
}
