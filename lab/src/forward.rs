//! Lets Pods of a real node reach a server that listens on loopback: an address of the node, forwarded.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::bottle::NODE_ADDRESS;
use crate::error::{Error, Result};

/// A forwarded address; dropping it ends it, with all its connections.
#[derive(Debug)]
pub struct Forward {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forward {
    /// Forwards a port of the node's address to this port of loopback.
    ///
    /// # Errors
    /// Nothing can listen at the node's address.
    pub async fn start(port: u16) -> Result<Self> {
        let doing = || format!("listening at {NODE_ADDRESS}");
        let listener = TcpListener::bind((NODE_ADDRESS, 0)).await.map_err(Error::io(doing()))?;
        let address = listener.local_addr().map_err(Error::io(doing()))?;
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(("127.0.0.1", port)).await {
                        let _ = copy_bidirectional(&mut from, &mut to).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, task })
    }

    /// Where Pods reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}
