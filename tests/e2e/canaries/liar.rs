//! A server that asks for a password, and says it aloud.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(super) struct Liar {
    port: u16,
    told: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Liar {
    /// One that speaks as PostgreSQL does, or as Redis does.
    pub(super) async fn start(postgres: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let told = Arc::new(Mutex::new(String::new()));
        let shared = told.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let told = shared.clone();
                if postgres {
                    tokio::spawn(as_postgres(stream, told));
                } else {
                    tokio::spawn(as_redis(stream, told));
                }
            }
        });
        Self { port, told, task }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn was_told(&self, password: &str) -> bool {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).contains(password)
    }
}

fn heard(told: &Mutex<String>, words: &str) {
    told.lock().unwrap_or_else(PoisonError::into_inner).push_str(words);
}

/// Asks for the password in clear, and refuses it by name: in the error's message, its detail, and a notice before.
async fn as_postgres(mut stream: TcpStream, told: Arc<Mutex<String>>) -> Option<()> {
    let startup = stream.read_i32().await.ok()?;
    let mut ignored = vec![0; usize::try_from(startup).ok()?.checked_sub(4)?];
    stream.read_exact(&mut ignored).await.ok()?;
    stream.write_all(b"R\0\0\0\x08\0\0\0\x03").await.ok()?;
    let _kind = stream.read_u8().await.ok()?;
    let length = stream.read_i32().await.ok()?;
    let mut password = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
    stream.read_exact(&mut password).await.ok()?;
    let password = String::from_utf8_lossy(&password).trim_end_matches('\0').to_owned();
    heard(&told, &password);
    for kind in [b'N', b'E'] {
        let said = format!(
            "SFATAL\0VFATAL\0C28P01\0Mno {password} here\0Dit was {password}\0Hnot {password}\0Rauth_failed\0\0"
        );
        let length = i32::try_from(said.len() + 4).ok()?;
        stream.write_u8(kind).await.ok()?;
        stream.write_i32(length).await.ok()?;
        stream.write_all(said.as_bytes()).await.ok()?;
    }
    stream.flush().await.ok()
}

/// Answers to whatever it is told with just that, as an error.
async fn as_redis(mut stream: TcpStream, told: Arc<Mutex<String>>) -> Option<()> {
    let mut read = vec![0; 4096];
    loop {
        let many = stream.read(&mut read).await.ok().filter(|many| *many > 0)?;
        let words = String::from_utf8_lossy(read.get(..many)?).replace(['\r', '\n'], " ");
        heard(&told, &words);
        stream.write_all(format!("-ERR I was told {words}\r\n").as_bytes()).await.ok()?;
    }
}
