//! The target's API, as far as it is asked to fill a cache: a real listener that writes down what it is asked for, and breaks
//! something at an exact request where a test wants it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use lab::proxy::{Fault, Grip};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// When it was asked, and for what.
pub(crate) type Asked = Vec<(Timestamp, String)>;

/// What befalls the how manieth request, and who holds the operator.
type Trap = Option<(usize, Fault, Grip)>;

/// Ends when the last of its clones is dropped.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
    _task: Arc<Task>,
}

struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Default)]
struct Seen {
    asked: Mutex<Asked>,
    status: AtomicU16,
    body: Mutex<String>,
    connections: AtomicUsize,
    struck: AtomicUsize,
    trap: Mutex<Trap>,
}

impl Target {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen { status: AtomicU16::new(200), ..Seen::default() });
        let shared = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(shared.clone().answer(stream));
            }
        });
        Self { address, seen, _task: Arc::new(Task(task)) }
    }

    /// From now on it answers with this status; a redirect leads to another port of this machine.
    pub(crate) fn answers(&self, status: u16) {
        self.seen.status.store(status, Ordering::SeqCst);
    }

    /// From now on its answers say this.
    #[allow(dead_code, reason = "the sweep does not care")]
    pub(crate) fn says(&self, body: &str) {
        body.clone_into(&mut self.seen.body.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn asked(&self) -> Asked {
        self.seen.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets that befall the how manieth request.
    #[allow(dead_code, reason = "only the sweep does so")]
    pub(crate) fn strike(&self, nth: usize, fault: Fault, grip: Grip) {
        *self.seen.trap.lock().unwrap_or_else(PoisonError::into_inner) = Some((nth, fault, grip));
    }

    /// How often something has befallen a request.
    #[allow(dead_code, reason = "only the sweep asks")]
    pub(crate) fn struck(&self) -> usize {
        self.seen.struck.load(Ordering::SeqCst)
    }
}

impl Seen {
    async fn answer(self: Arc<Self>, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8_lossy(&head);
        if head.contains("Prometheus/") {
            // It takes this port for that of a test that is over.
            return;
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let nth = self.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let trap = self.trap.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let trap = trap.filter(|(at, ..)| *at == nth);
        self.struck.fetch_add(usize::from(trap.is_some()), Ordering::SeqCst);
        let mut status = self.status.load(Ordering::SeqCst);
        if let Some((_, Fault::KillBefore, grip)) = &trap {
            return grip.kill().await;
        }
        if let Some((_, Fault::Late(span), _)) = &trap {
            tokio::time::sleep(*span).await;
        }
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((Timestamp::now(), path));
        match trap {
            Some((_, Fault::KillAfter, grip)) => return grip.kill().await,
            Some((_, Fault::FreezeAfter, grip)) => grip.freeze().await,
            Some((_, Fault::Lose, _)) => return,
            Some((_, Fault::Refuse { status: refused, .. }, _)) => status = refused,
            Some(_) | None => {}
        }
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} so\r\nlocation: http://127.0.0.1:1/\r\nx-body: {body}\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        );
        let _ = stream.write_all(head.as_bytes()).await;
    }
}
