//! The target's API, as far as it is asked to fill a cache: a real listener that writes down what it is asked for.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// When it was asked, and for what.
pub(crate) type Asked = Vec<(Timestamp, String)>;

/// Ends when it is dropped.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Asked>>,
    status: Arc<AtomicU16>,
    task: tokio::task::JoinHandle<()>,
}

impl Target {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (asked, status) = (Arc::new(Mutex::new(Asked::new())), Arc::new(AtomicU16::new(200)));
        let (seen, says) = (asked.clone(), status.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, seen.clone(), says.clone()));
            }
        });
        Self { address, asked, status, task }
    }

    /// From now on it answers with this status; a redirect leads to another port of this machine.
    pub(crate) fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn asked(&self) -> Asked {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, asked: Arc<Mutex<Asked>>, status: Arc<AtomicU16>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push((Timestamp::now(), path));
    let status = status.load(Ordering::SeqCst);
    let head = format!(
        "HTTP/1.1 {status} so\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
    );
    let _ = stream.write_all(head.as_bytes()).await;
}
