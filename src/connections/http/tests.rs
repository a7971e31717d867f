//! Against real listeners: what is sent, and what is made of servers that answer badly or not at all.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Long enough for everything that ends by itself.
const LONG: Duration = Duration::from_secs(30);
/// For what never ends.
const SHORT: Duration = Duration::from_millis(300);

/// A listener that treats each connection in its own way, and counts them.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, connections, task }
    }

    /// Reads a request, says that, and closes.
    async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<Vec<u8>> = Arc::new(answer.into());
        Self::start(move |mut stream| {
            let answer = answer.clone();
            async move {
                request(&mut stream).await;
                let _ = stream.write_all(&answer).await;
            }
        })
        .await
    }

    /// Reads a request, says that, and then one letter again and again.
    async fn dripping(beginning: &'static str, letter: &'static [u8]) -> Self {
        Self::start(move |mut stream| async move {
            request(&mut stream).await;
            let _ = stream.write_all(beginning.as_bytes()).await;
            while stream.write_all(letter).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    async fn ask(&self, timeout: Duration) -> Result<Answer, Failure> {
        get(&to(self.address, Scheme::Http), timeout).await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was sent, up to the empty line.
async fn request(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(read).unwrap()
}

fn to(address: SocketAddr, scheme: Scheme) -> Get {
    Get { address, scheme, host: host("orders", "shop"), path: UrlPath::parse("/api/health?full=1").unwrap() }
}

#[tokio::test]
async fn what_is_sent_is_the_authors_path_and_nothing_else_of_theirs() {
    let (told, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let told = told.clone();
        async move {
            told.send(request(&mut stream).await).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let answer = server.ask(LONG).await.unwrap();
    assert_eq!((answer.status, answer.cut, answer.timing.tls), (200, false, None));
    let Timing { connect, first_byte, total, .. } = answer.timing;
    assert!(connect <= first_byte.unwrap() && first_byte.unwrap() <= total, "{:?}", answer.timing);
    let expected = format!(
        "GET /api/health?full=1 HTTP/1.1\r\nhost: orders.shop.svc\r\nuser-agent: {AGENT}\r\naccept: */*\r\n\r\n"
    );
    assert_eq!(asked.recv().await.unwrap(), expected);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let other = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let at_home = format!("http://{}/latest/meta-data/", other.address);
    for location in
        [at_home.as_str(), "http://169.254.169.254/latest/meta-data/", "https://kubernetes.default.svc/"]
    {
        for status in [301, 302, 303, 307, 308] {
            let answer =
                format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            let server = Server::saying(answer).await;
            assert_eq!(server.ask(LONG).await.unwrap().status, status);
            assert_eq!(server.connections(), 1);
        }
    }
    assert_eq!(other.connections(), 0, "a redirect was followed");
}

#[tokio::test]
async fn who_never_answers_or_answers_for_ever_is_left_in_time() {
    let silent = Server::dripping("", b"").await;
    let slow_head = Server::dripping("HTTP/1.1 200 OK\r\nx-slow: ", b".").await;
    for server in [&silent, &slow_head] {
        let Err(Failure::TimedOut(timing)) = server.ask(SHORT).await else { panic!("no time-out") };
        assert_eq!(timing.first_byte, None);
        assert!(timing.total >= SHORT);
    }
    let slow_body = Server::dripping("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", b".").await;
    let Err(Failure::TimedOut(timing)) = slow_body.ask(SHORT).await else { panic!("no time-out") };
    assert!(timing.first_byte.is_some());
}

#[tokio::test]
async fn a_long_body_is_cut_off_and_what_follows_is_not_read() {
    const WHOLE: usize = 100 << 20;
    for head in [format!("content-length: {WHOLE}"), "connection: close".to_owned()] {
        let written = Arc::new(AtomicUsize::new(0));
        let counted = written.clone();
        let server = Server::start(move |mut stream| {
            let (head, counted) = (format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"), counted.clone());
            async move {
                request(&mut stream).await;
                let _ = stream.write_all(head.as_bytes()).await;
                let part = vec![b'x'; 64 << 10];
                while counted.load(Ordering::SeqCst) < WHOLE && stream.write_all(&part).await.is_ok() {
                    counted.fetch_add(part.len(), Ordering::SeqCst);
                }
            }
        })
        .await;
        let answer = server.ask(LONG).await.unwrap();
        assert!(answer.cut && answer.status == 200);
        // What has been written beyond the bound is in the buffers of the two sockets.
        assert!(written.load(Ordering::SeqCst) < WHOLE / 2, "{written:?}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_told_as_that() {
    for answer in ["SSH-2.0-OpenSSH_9.6\r\n", "HTTP/1.1 ABC\r\n\r\n", "\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n"] {
        let failure = Server::saying(answer).await.ask(LONG).await.unwrap_err();
        assert!(matches!(failure, Failure::NotHttp(_)), "{answer:?}: {failure}");
    }
    for endless in ["x-a: b\r\n", "x"] {
        let server = Server::start(move |mut stream| async move {
            request(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await;
            while stream.write_all(endless.repeat(1000).as_bytes()).await.is_ok() {}
        })
        .await;
        let failure = server.ask(LONG).await.unwrap_err();
        assert!(matches!(failure, Failure::NotHttp(_)), "{failure}");
    }
}

#[tokio::test]
async fn an_answer_that_is_broken_off_is_none() {
    for answer in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345"] {
        let failure = Server::saying(answer).await.ask(LONG).await.unwrap_err();
        assert_eq!(failure, Failure::BrokenOff, "{answer:?}");
    }
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent_and_that_is_told() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let failure = get(&to(address, Scheme::Http), LONG).await.unwrap_err();
    assert_eq!(failure, Failure::Unreachable("it was refused".to_owned()));

    // A queue that nobody works off: once it is full, the system answers no further connection.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 100, "the queue is never full");
    }
    let failure = get(&to(address, Scheme::Http), SHORT).await.unwrap_err();
    assert_eq!(failure, Failure::ConnectTimeout(SHORT));
}

#[tokio::test]
async fn a_certificate_that_nobody_knows_is_good_enough_and_no_tls_is_not() {
    let issued = rcgen::generate_simple_self_signed(vec!["elsewhere.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut read = [0; 1024];
            let _ = stream.read(&mut read).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    let answer = get(&to(server.address, Scheme::Https), LONG).await.unwrap();
    assert_eq!(answer.status, 204);
    assert!(answer.timing.tls.unwrap() >= answer.timing.connect);

    let plain = Server::start(|mut stream| async move {
        let _ = stream.read_u8().await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let failure = get(&to(plain.address, Scheme::Https), LONG).await.unwrap_err();
    assert!(matches!(failure, Failure::Tls(_)), "{failure}");

    let silent = Server::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let Err(Failure::TimedOut(timing)) = get(&to(silent.address, Scheme::Https), SHORT).await else {
        panic!("no time-out")
    };
    assert_eq!(timing.tls, None);
}

#[test]
fn each_path_that_is_accepted_can_be_sent_and_the_others_say_why() {
    for letter in (0..=0x2ff).filter_map(char::from_u32) {
        for path in [format!("/a{letter}b"), format!("/a?b={letter}"), format!("/{letter}")] {
            if let Ok(path) = UrlPath::parse(&path) {
                let uri: hyper::Uri = path.as_str().parse().unwrap();
                assert_eq!(uri.to_string(), path.as_str());
                assert_eq!((uri.host(), uri.scheme()), (None, None));
            }
        }
    }
    assert!(UrlPath::parse(&format!("/{}", "x".repeat(LONGEST_PATH - 1))).is_ok());
    for path in
        ["/", "/api/v1/orders?page=1&filter[state]=open", "/a//b", "/%20", "/?q={x|y}^~", "/api/@me:x;y"]
    {
        assert!(UrlPath::parse(path).is_ok(), "{path}");
    }
    let long = format!("/{}", "x".repeat(LONGEST_PATH));
    for (path, problem) in [
        ("", "a path begins with /"),
        ("api", "a path begins with /"),
        ("http://169.254.169.254/", "a path begins with /"),
        ("@169.254.169.254/", "a path begins with /"),
        ("//169.254.169.254/", "a path begins with one /"),
        ("/a b", "' ' cannot be sent"),
        ("/a\r\nhost: x", "'\\r' cannot be sent"),
        ("/a#b", "'#' cannot be sent"),
        ("/\\example.com", "'\\\\' cannot be sent"),
        ("/é", "'é' cannot be sent"),
        ("/\u{7f}", "'\\u{7f}' cannot be sent"),
        (&long, "it is longer than 1024"),
    ] {
        let error = UrlPath::parse(path).unwrap_err();
        assert!(error.starts_with(problem), "{path:?}: {error}");
    }
}

#[tokio::test]
async fn a_body_that_somebody_wants_is_whole_or_nothing() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    let request = to(server.address, Scheme::Http);
    for (most, expected) in [(5, (false, &b"hello"[..])), (4, (true, b""))] {
        let (answer, body) = fetch(&request, LONG, most).await.unwrap();
        assert_eq!((answer.cut, &*body), expected);
    }
}
