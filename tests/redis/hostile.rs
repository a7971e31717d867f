//! Servers that are none, and that lie: whatever comes is bounded, told, and quotes nothing.

use engine::model::NoDataReason;
use latency_operator::connections::RedisCredentials;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{PASSWORD, connection, nobody_at, read, trouble};

const PONG: &[u8] = b"+PONG\r\n";

/// A listener that answers the first thing that it is told with the first text, the second with the second, and so on, and
/// goes on with `endless` after that for as long as it is listened to.
struct Liar {
    port: u16,
    task: JoinHandle<()>,
}

impl Liar {
    async fn saying(texts: &[&[u8]], endless: &[u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.to_vec()).collect();
        let endless = endless.to_vec();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (texts, endless) = (texts.clone(), endless.clone());
                tokio::spawn(async move {
                    let mut asked = [0; 16 * 1024];
                    for text in &texts {
                        if !matches!(stream.read(&mut asked).await, Ok(1..)) {
                            return;
                        }
                        let _ = stream.write_all(text).await;
                    }
                    while !endless.is_empty() && stream.write_all(&endless).await.is_ok() {}
                    // It stays connected until we go.
                    while matches!(stream.read(&mut asked).await, Ok(1..)) {}
                });
            }
        });
        Self { port, task }
    }

    /// Without a login the first thing that it hears is PING, and the second the look.
    fn credentials(&self) -> RedisCredentials {
        RedisCredentials { password: None, ..nobody_at(self.port) }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_redis_is_told_and_not_quoted() {
    let nested = "*1\r\n".repeat(100_000);
    let wide = format!("*1000000000\r\n{}", ":1\r\n".repeat(1000));
    let texts: [&[u8]; 11] = [
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2 a-secret-of-somebody\r\n",
        b"\xff\xfe\x00\x01\r\n",
        b"$-5\r\n",
        b"*-7\r\n",
        b":a-secret-of-somebody\r\n",
        b"$a-secret-of-somebody\r\n",
        b"+a-secret-of-somebody\r\n",
        b">2\r\n+message\r\n+a-secret-of-somebody\r\n+PING\r\n",
        b"%18446744073709551615\r\n",
        nested.as_bytes(),
    ];
    for text in texts {
        let liar = Liar::saying(&[text], b"").await;
        let no_data = trouble(&connection(liar.credentials())).await;
        let start = String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned();
        assert_eq!(no_data.reason, NoDataReason::BadAnswer, "{start}: {no_data}");
        assert!(!no_data.detail.contains("somebody"), "{no_data}");
    }
    // An alert of TLS: it was spoken to in the wrong language.
    let liar = Liar::saying(&[b"\x15\x03\x03\x00\x02\x02\x0a"], b"").await;
    let no_data = trouble(&connection(liar.credentials())).await;
    assert_eq!(no_data.reason, NoDataReason::TlsFailed, "{no_data}");
    // These promise more than they send.
    for text in [wide.as_bytes(), b"$9223372036854775807\r\nx", b"|3\r\n+a\r\n", b"+PON"] {
        let liar = Liar::saying(&[text], b"").await;
        let no_data = trouble(&connection(liar.credentials())).await;
        assert_eq!(no_data.reason, NoDataReason::Timeout, "{no_data}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_talks_without_end_is_not_listened_to_for_long() {
    let much = bulk(&"x".repeat(10 * 1024 * 1024));
    let filler = "x".repeat(64 * 1024);
    let (list, deep) = (":1\r\n".repeat(10_000), "$1\r\nx\r\n".repeat(10_000));
    // Texts, lines, errors and lists without end.
    let cases: [(&[&[u8]], &str); 7] = [
        (&[PONG, much.as_bytes()], ""),
        (&[b"$9000000000\r\n"], &filler),
        (&[PONG, b"$9000000000\r\n"], &filler),
        (&[PONG, b"+"], &filler),
        (&[b"-ERR "], &filler),
        (&[PONG, b"*1000000000\r\n"], &list),
        (&[PONG, b"*1\r\n*1\r\n*1\r\n*1000000000\r\n"], &deep),
    ];
    let mut enough = 0;
    for (said, endless) in cases {
        let liar = Liar::saying(said, endless.as_bytes()).await;
        let no_data = trouble(&connection(liar.credentials())).await;
        // On a busy machine our time is over before the limit is reached.
        if no_data.reason != NoDataReason::Timeout {
            assert_eq!(no_data.reason, NoDataReason::BadAnswer, "{no_data}");
            assert!(no_data.detail.contains("answers with more than 1 MiB"), "{:?}: {no_data}", said.last());
            enough += 1;
        }
    }
    assert!(enough > 0, "nobody was told that it is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_repeated_is_not_repeated_to_people() {
    let echo = format!("-ERR unknown command 'AUTH', with args beginning with: '{PASSWORD}'\r\n");
    let denied = format!("-NOPERM {PASSWORD}\r\n");
    let odd = format!("-{PASSWORD} {PASSWORD}\r\n");
    let simple = format!("+{PASSWORD}\r\n");
    for text in [&echo, &denied, &odd, &simple] {
        // In place of the answer to AUTH, to PING, to INFO.
        for before in [&[] as &[&[u8]], &[b"+OK\r\n"], &[b"+OK\r\n", PONG]] {
            let nine = text.repeat(9);
            let said = [before, &[nine.as_bytes()]].concat();
            let liar = Liar::saying(&said, b"").await;
            trouble(&connection(nobody_at(liar.port))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_in_the_middle_is_unreachable_and_answers_out_of_turn_are_no_facts() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let hanging_up = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await;
            let _ = stream.write_all(b"$100\r\nhalf of").await;
        }
    });
    let no_data = trouble(&connection(RedisCredentials { password: None, ..nobody_at(port) })).await;
    assert_eq!(no_data.reason, NoDataReason::Unreachable, "{no_data}");
    hanging_up.abort();

    let unasked = PONG.repeat(20);
    let liar = Liar::saying(&[&unasked, &unasked], b"").await;
    let connection = connection(liar.credentials());
    for _ in 0..3 {
        let read = read(&connection).await;
        assert!(read.is_err(), "{read:?}");
    }
}
