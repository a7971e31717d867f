//! The proxy before the API server: plain HTTP for the operator, its certificate towards the server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{Method, Uri, header};
use futures::{Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::Client;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::{Fault, Grip};
use crate::control_plane::ControlPlane;
use crate::error::{Error, Result};
use crate::session::Session;

/// A request of the operator.
#[derive(Debug, Clone)]
pub struct Call {
    /// Such as `PATCH`.
    pub method: String,
    /// The resource and subresource, such as `latencyremediations/status`; the whole path where it is none.
    pub resource: String,
    /// Empty for what has none.
    pub namespace: String,
    /// Empty for lists and creations.
    pub name: String,
    /// Whether it begins a watch.
    pub watch: bool,
    /// The how manieth of this method and resource it is since counting began, from 1.
    pub nth: usize,
    /// What was sent; `null` where that is no JSON.
    pub body: Value,
}

impl Call {
    /// Whether it changes anything.
    pub fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS")
    }
}

type Rule = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;
type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;
/// Without an answer the connection ends.
type Answered = std::result::Result<Answer, std::io::Error>;

#[derive(Default)]
struct State {
    rule: Option<Rule>,
    counts: BTreeMap<(String, String), usize>,
    calls: Vec<(Call, Option<Fault>)>,
}

struct Shared {
    upstream: Client,
    grip: Grip,
    state: Mutex<State>,
    cuts: watch::Sender<u64>,
}

/// See the module. It ends when it is dropped.
pub struct ApiProxy {
    shared: Arc<Shared>,
    kubeconfig: PathBuf,
    task: AbortHandle,
}

impl ApiProxy {
    /// Starts a proxy that talks to the API server with the identity in `kubeconfig`, and has this grip on the operator.
    pub async fn start(
        session: &Session,
        control_plane: &ControlPlane,
        kubeconfig: &Path,
        grip: Grip,
    ) -> Result<Self> {
        let upstream = control_plane.client_with(kubeconfig).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, session.free_port()?))
            .await
            .map_err(Error::io("listening for the operator"))?;
        let port = listener.local_addr().map_err(Error::io("asking for the proxy's port"))?.port();
        let (_, folder) = session.new_folder("api-proxy", None)?;
        let own = folder.join("kubeconfig.json");
        std::fs::write(&own, plain(port).to_string()).map_err(Error::path("writing", &own))?;
        let shared = Arc::new(Shared { upstream, grip, state: Mutex::default(), cuts: watch::channel(0).0 });
        let task = tokio::spawn(serve(listener, shared.clone())).abort_handle();
        Ok(Self { shared, kubeconfig: own, task })
    }

    /// With which the operator talks to the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// From now on the rule says what is done to each request, and they are counted anew.
    pub fn when(&self, rule: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        let mut state = self.shared.state();
        state.rule = Some(Box::new(rule));
        state.counts.clear();
    }

    /// From now on nothing is done to any request.
    pub fn pass(&self) {
        self.shared.state().rule = None;
    }

    /// All requests so far, and what was done to each.
    pub fn calls(&self) -> Vec<(Call, Option<Fault>)> {
        self.shared.state().calls.clone()
    }

    /// The requests to which something was done.
    pub fn struck(&self) -> Vec<(Call, Fault)> {
        self.calls().into_iter().filter_map(|(call, fault)| Some((call, fault?))).collect()
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A kubeconfig without any secret: whoever reaches the port is the operator.
fn plain(port: u16) -> Value {
    let named = |kind: &str, content: Value| json!([{"name": "lab", kind: content}]);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": named("cluster", json!({"server": format!("http://127.0.0.1:{port}")})),
        "users": named("user", json!({})),
        "contexts": named("context", json!({"cluster": "lab", "user": "lab"})),
    })
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and with them their connections.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| answer(shared.clone(), request));
    // It fails where an answer is left out on purpose, or the operator is gone.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the request down and says what is to be done to it.
    fn judge(&self, method: &Method, uri: &Uri, body: &Bytes) -> Option<Fault> {
        let mut call = call(method, uri, body);
        let mut state = self.state();
        let count = state.counts.entry((call.method.clone(), call.resource.clone())).or_default();
        *count += 1;
        call.nth = *count;
        let fault = state.rule.as_mut().and_then(|rule| rule(&call));
        state.calls.push((call, fault.clone()));
        fault
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Answered {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let fault = shared.judge(&parts.method, &parts.uri, &body);
    let mut request = Request::from_parts(parts, kube::client::Body::from(body));
    // Of this connection, not of the next.
    for name in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        request.headers_mut().remove(name);
    }
    match fault {
        None => forward(&shared, request).await,
        Some(Fault::KillBefore) => {
            shared.grip.kill().await;
            Err(lost())
        }
        Some(Fault::KillAfter) => {
            let _ = whole(forward(&shared, request).await?).await;
            shared.grip.kill().await;
            Err(lost())
        }
        Some(Fault::FreezeBefore) => {
            shared.grip.freeze().await;
            let frozen = shared.clone();
            detached(shared, request, async move { frozen.grip.thawed().await }).await
        }
        Some(Fault::FreezeAfter) => {
            shared.grip.freeze().await;
            forward(&shared, request).await
        }
        Some(Fault::Lose) => {
            let _ = whole(forward(&shared, request).await?).await;
            Err(lost())
        }
        Some(Fault::Refuse { status, retry_after }) => Ok(refusal(status, retry_after)),
        Some(Fault::Deny(status)) => {
            let _ = whole(forward(&shared, request).await?).await;
            Ok(refusal(status, None))
        }
        Some(Fault::Late(delay)) => detached(shared, request, tokio::time::sleep(delay)).await,
        Some(Fault::CutWatches) => {
            let answer = forward(&shared, request).await;
            shared.cuts.send_modify(|cuts| *cuts += 1);
            answer
        }
    }
}

/// Passes a request on after a while. Its connection may be gone by then: what was sent is under way all the same.
async fn detached(
    shared: Arc<Shared>,
    request: Request<kube::client::Body>,
    wait: impl Future<Output = ()> + Send + 'static,
) -> Answered {
    let late = tokio::spawn(async move {
        wait.await;
        forward(&shared, request).await
    });
    late.await.map_err(std::io::Error::other)?
}

fn lost() -> std::io::Error {
    std::io::Error::other("left without an answer")
}

/// Waits for the end of an answer.
async fn whole(answer: Answer) -> std::result::Result<Bytes, std::io::Error> {
    Ok(answer.into_body().collect().await?.to_bytes())
}

async fn forward(shared: &Shared, request: Request<kube::client::Body>) -> Answered {
    let answer = shared.upstream.send(request).await.map_err(std::io::Error::other)?;
    let (mut parts, body) = answer.into_parts();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    let frames = body.into_data_stream().map(|data| data.map(Frame::data).map_err(std::io::Error::other));
    // Only what has no known length is a watch, or may be one.
    let body = if parts.headers.contains_key(header::CONTENT_LENGTH) {
        StreamBody::new(frames).boxed_unsync()
    } else {
        StreamBody::new(cuttable(frames, shared.cuts.subscribe())).boxed_unsync()
    };
    Ok(Response::from_parts(parts, body))
}

type Data = std::result::Result<Frame<Bytes>, std::io::Error>;

/// The same, until it ends by itself or everything is cut: then it breaks off.
fn cuttable(frames: impl Stream<Item = Data>, mut cuts: watch::Receiver<u64>) -> impl Stream<Item = Data> {
    let end = futures::stream::once(async { None });
    let cut = futures::stream::once(async move {
        // Its sender goes with the proxy, which cuts everything too.
        let _ = cuts.changed().await;
        Some(Err(lost()))
    });
    let both = futures::stream::select(frames.map(Some).chain(end), cut);
    both.take_while(|frame| std::future::ready(frame.is_some())).filter_map(std::future::ready)
}

/// What the API server itself would say.
fn refusal(status: u16, retry_after: Option<u32>) -> Answer {
    let reason = match status {
        409 => "Conflict",
        429 => "TooManyRequests",
        504 => "Timeout",
        _ => "InternalError",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": status,
        "message": format!("{reason}: the laboratory refuses this one"),
    });
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// Reads a path as the API server does: `/api/v1/…` or `/apis/<group>/<version>/…`, with or without a namespace.
fn call(method: &Method, uri: &Uri, body: &Bytes) -> Call {
    let parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let rest = match parts.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => &[],
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (resource, name) = match rest {
        [resource, name, subresource, ..] => (format!("{resource}/{subresource}"), *name),
        [resource, name] => ((*resource).to_owned(), *name),
        [resource] => ((*resource).to_owned(), ""),
        [] => (uri.path().to_owned(), ""),
    };
    let query = uri.query().unwrap_or_default();
    Call {
        method: method.to_string(),
        resource,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        watch: query.split('&').any(|part| matches!(part, "watch=true" | "watch=1")),
        nth: 0,
        body: serde_json::from_slice(body).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, path: &'static str) -> Call {
        call(&method, &Uri::from_static(path), &Bytes::new())
    }

    #[test]
    fn paths_are_read_as_the_api_server_reads_them() {
        let scale =
            read(Method::PATCH, "/apis/apps/v1/namespaces/shop/deployments/orders/scale?fieldManager=x");
        assert_eq!(
            (scale.resource.as_str(), scale.namespace.as_str(), scale.name.as_str(), scale.is_write()),
            ("deployments/scale", "shop", "orders", true)
        );
        let watch = read(Method::GET, "/apis/a.dev/v1/latencypolicies?&watch=true&timeoutSeconds=290");
        assert_eq!(
            (watch.resource.as_str(), watch.watch, watch.is_write()),
            ("latencypolicies", true, false)
        );
        assert_eq!(read(Method::GET, "/api/v1/namespaces/shop").resource, "namespaces");
        assert_eq!(read(Method::GET, "/api/v1/namespaces/shop").name, "shop");
        assert_eq!(read(Method::GET, "/version").resource, "/version");
    }
}
