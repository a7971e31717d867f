//! What stands before the real Prometheus: it hears every header, and answers with something else where a test wants it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

struct Inner {
    behind: String,
    http: reqwest::Client,
    heard: Mutex<String>,
    asked: AtomicUsize,
    answer: Mutex<Option<(u16, String)>>,
}

pub(super) struct Backend {
    pub(super) address: SocketAddr,
    inner: Arc<Inner>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    pub(super) async fn start(behind: &str) -> Self {
        let inner = Arc::new(Inner {
            behind: behind.trim_end_matches('/').to_owned(),
            http: reqwest::Client::new(),
            heard: Mutex::default(),
            asked: AtomicUsize::default(),
            answer: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(answer).with_state(inner.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, inner, task }
    }

    /// From now on everything is answered with this status and body; with `None` as the real one answers.
    pub(super) fn answers(&self, answer: Option<(u16, String)>) {
        *self.inner.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// How often it was asked.
    pub(super) fn asked(&self) -> usize {
        self.inner.asked.load(Ordering::SeqCst)
    }

    /// The headers of all requests.
    pub(super) fn heard(&self) -> String {
        self.inner.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn answer(State(inner): State<Arc<Inner>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let told: Vec<_> = headers.values().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    inner.heard.lock().unwrap_or_else(PoisonError::into_inner).push_str(&told.join("\n"));
    inner.asked.fetch_add(1, Ordering::SeqCst);
    let lie = inner.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((status, body)) = lie {
        let kind = if body.starts_with('{') { "application/json" } else { "text/html" };
        let status = StatusCode::from_u16(status).expect("a status");
        return (status, [(header::CONTENT_TYPE, kind)], body).into_response();
    }
    let request = inner.http.post(format!("{}{}", inner.behind, uri.path()));
    let kind = headers.get(header::CONTENT_TYPE).cloned();
    let request = kind.into_iter().fold(request, |request, kind| request.header(header::CONTENT_TYPE, kind));
    match request.body(body).send().await {
        Ok(answer) => {
            let (status, body) = (answer.status(), answer.bytes().await.unwrap_or_default());
            (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
