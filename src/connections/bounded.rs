//! A stream of which no more is read than was agreed: whoever is on the other side, a parser that collects an answer until
//! it is whole must not collect for ever.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the owner of a connection knows about its stream, whatever has been made of that.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    left: AtomicUsize,
    head: Mutex<Vec<u8>>,
    trouble: Mutex<Option<Trouble>>,
}

/// Why a stream ended that its reader would have read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// More came than was agreed.
    TooMuch,
    /// TLS says so.
    Tls(String),
    /// The other side has closed it.
    Closed,
}

impl Gauge {
    /// From now on so many bytes may come, a buffer more or less.
    pub(super) fn allow(&self, bytes: usize) {
        self.left.store(bytes, Ordering::Relaxed);
    }

    /// The first bytes that have ever come, not many.
    pub(super) fn head(&self) -> Vec<u8> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why it has ended, where that is known.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn came(&self, bytes: &[u8]) {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.saturating_sub(bytes.len()), Ordering::Relaxed);
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let room = HEAD.saturating_sub(head.len());
        head.extend(bytes.iter().take(room));
    }

    fn say(&self, trouble: Trouble) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(trouble);
    }
}

/// A line of Redis that says why it hangs up fits.
const HEAD: usize = 128;

/// See the module.
pub(super) struct Bounded<S> {
    stream: S,
    gauge: Arc<Gauge>,
}

impl<S> Bounded<S> {
    pub(super) fn new(stream: S, gauge: Arc<Gauge>) -> Self {
        Self { stream, gauge }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.gauge.left.load(Ordering::Relaxed) == 0 {
            self.gauge.say(Trouble::TooMuch);
            return Poll::Ready(Err(io::Error::other("more than was agreed")));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let room = buffer.remaining() > 0;
        let came = buffer.filled().get(before..).unwrap_or_default();
        match &polled {
            Poll::Ready(Ok(())) if came.is_empty() && room => self.gauge.say(Trouble::Closed),
            Poll::Ready(Err(error)) => {
                let trouble = tls_error(error).map_or(Trouble::Closed, |tls| Trouble::Tls(tls.to_string()));
                self.gauge.say(trouble);
            }
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        self.gauge.came(came);
        polled
    }
}

/// What TLS says, where an error of a stream is its.
pub(super) fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn no_more_is_read_than_was_agreed_until_it_is_agreed_anew() {
        let gauge = Arc::new(Gauge::default());
        let mut stream = Bounded::new(tokio::io::repeat(b'+'), gauge.clone());
        let mut buffer = [0; 60];
        assert!(stream.read(&mut buffer).await.is_err(), "nothing was agreed");
        gauge.allow(100);
        let mut read = 0;
        while let Ok(some) = stream.read(&mut buffer).await {
            read += some;
        }
        assert_eq!((read, gauge.head(), gauge.trouble()), (120, vec![b'+'; 120], Some(Trouble::TooMuch)));
    }
}
