//! Metrics and health over HTTP: small answers to whoever reaches the port, and no state for them.
//!
//! A slow or hostile client holds one of a few places for a bounded time; while all are taken the
//! others wait in the kernel's queue. Nothing here touches a shard.

use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, SERVER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{trace, warn};

use super::VERSION;
use crate::metrics::Metrics;

/// How much a client may take.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Connections served at a time.
    connections: usize,
    /// A request's head must have arrived within this time.
    head: Duration,
    /// A connection is closed after this time, whatever it does.
    connection: Duration,
}

const BOUNDS: Bounds = Bounds {
    connections: 64,
    head: Duration::from_secs(10),
    connection: Duration::from_secs(30),
};

/// The longest head of a request in bytes; the least that hyper can be told.
const HEAD_BYTES: usize = 8192;
/// The most header fields of a request.
const HEADER_FIELDS: usize = 64;

/// Whether the server serves clients; `/readyz` says so.
#[derive(Clone, Debug, Default)]
pub(super) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(super) fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the pages show.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Readiness,
}

/// Answers on `listener` for ever.
pub(super) async fn serve(listener: TcpListener, shown: Shown) {
    serve_within(BOUNDS, listener, shown).await;
}

/// Binds `address` for [`serve`]. Needs the control thread's runtime.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    adopt(net::TcpListener::bind(address)?)
}

/// Goes on with `listener` for [`serve`]. Needs the control thread's runtime.
pub(super) fn adopt(listener: net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn serve_within(bounds: Bounds, listener: TcpListener, shown: Shown) {
    let router = router(shown);
    let places = Arc::new(Semaphore::new(bounds.connections));
    // The semaphore is never closed, so this goes on for ever.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = accept(&listener).await;
        let router = router.clone();
        tokio::spawn(async move {
            serve_connection(bounds, stream, router).await;
            drop(place);
        });
    }
}

/// The next connection. Too few file descriptors, the one cause of failure that stays, is waited out.
async fn accept(listener: &TcpListener) -> TcpStream {
    let mut failed = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if !failed => {
                warn!("cannot accept a connection for metrics: {error}; trying again every second");
                failed = true;
            }
            Err(_) => {}
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// One request, one response: the next scrape is a new connection.
async fn serve_connection(bounds: Bounds, stream: TcpStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADER_FIELDS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(bounds.connection, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => trace!("a connection for metrics failed: {error}"),
        Err(_) => trace!("a connection for metrics took too long"),
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(map_response(with_common_headers))
        .with_state(shown)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match shown.metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            let text = format!("the metrics cannot be written out: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

async fn ready(State(shown): State<Shown>) -> (StatusCode, &'static str) {
    if shown.readiness.get() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn not_found() -> (StatusCode, &'static str) {
    let hint = "not found; there are /metrics, /healthz and /readyz\n";
    (StatusCode::NOT_FOUND, hint)
}

async fn method_not_allowed() -> (StatusCode, &'static str) {
    let hint = "method not allowed; use GET or HEAD\n";
    (StatusCode::METHOD_NOT_ALLOWED, hint)
}

async fn with_common_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if let Ok(server) = HeaderValue::from_str(&format!("turnstone/{VERSION}")) {
        headers.insert(SERVER, server);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;
    use crate::metrics::Page;

    const PATIENCE: Duration = Duration::from_secs(60);

    async fn start(bounds: Bounds) -> (SocketAddr, Shown) {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("bind");
        let address = listener.local_addr().expect("address");
        let metrics = Metrics::new(vec![Arc::new(Page::default())], VERSION).expect("metrics");
        let shown = Shown {
            metrics: Arc::new(metrics),
            readiness: Readiness::default(),
        };
        tokio::spawn(serve_within(bounds, listener, shown.clone()));
        (address, shown)
    }

    /// What the server sends back to `request` until it closes.
    async fn exchange(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        // A server that has seen enough may close before everything is written.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response).await;
        String::from_utf8(response).expect("UTF-8")
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await
    }

    #[tokio::test]
    async fn metrics_are_text() {
        let (address, _) = start(BOUNDS).await;
        let response = get(address, "/metrics").await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.contains("content-type: text/plain; version=0.0.4\r\n"));
        assert!(response.contains(&format!("server: turnstone/{VERSION}\r\n")));
        assert!(response.contains("connection: close\r\n"));
        assert!(response.contains("\nturnstone_shards 1\n"));
    }

    #[tokio::test]
    async fn readiness_follows_the_server() {
        let (address, shown) = start(BOUNDS).await;
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503 "));
        shown.readiness.set(true);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
        shown.readiness.set(false);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 503 "));
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused_with_a_hint() {
        let (address, _) = start(BOUNDS).await;
        let response = get(address, "/").await;
        assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
        assert!(response.contains("/metrics"));
        let post = "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        let response = exchange(address, post).await;
        assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
        assert!(response.contains("allow: GET,HEAD\r\n"), "{response}");
    }

    #[tokio::test]
    async fn head_has_no_body() {
        let (address, _) = start(BOUNDS).await;
        let response = exchange(address, "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert!(response.ends_with("\r\n\r\n"), "{response}");
    }

    #[tokio::test]
    async fn an_oversized_head_is_refused() {
        let (address, _) = start(BOUNDS).await;
        let long = "x".repeat(2 * HEAD_BYTES);
        let response = exchange(address, &format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n")).await;
        assert!(
            response.is_empty() || response.starts_with("HTTP/1.1 431 "),
            "{response}"
        );
        let many = "A: b\r\n".repeat(HEADER_FIELDS + 1);
        let response = exchange(address, &format!("GET / HTTP/1.1\r\n{many}\r\n")).await;
        assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    }

    #[tokio::test]
    async fn a_slow_head_is_cut_off() {
        let bounds = Bounds {
            head: Duration::from_millis(200),
            ..BOUNDS
        };
        let (address, _) = start(bounds).await;
        let started = Instant::now();
        let mut slow = TcpStream::connect(address).await.expect("connect");
        let mut closed = false;
        while !closed && started.elapsed() < PATIENCE {
            let mut byte = [0];
            let _ = slow.write_all(b"G").await;
            closed = matches!(
                timeout(Duration::from_millis(20), slow.read(&mut byte)).await,
                Ok(Ok(0) | Err(_))
            );
        }
        assert!(closed);
        assert!(started.elapsed() >= bounds.head);
    }

    #[tokio::test]
    async fn a_crowd_of_slow_clients_only_delays_the_others() {
        let bounds = Bounds {
            connections: 4,
            head: Duration::from_millis(300),
            ..BOUNDS
        };
        let (address, _) = start(bounds).await;
        let mut crowd = Vec::new();
        for _ in 0..20 {
            crowd.push(TcpStream::connect(address).await.expect("connect"));
        }
        let answered = timeout(PATIENCE, get(address, "/healthz")).await;
        assert!(answered.expect("in time").starts_with("HTTP/1.1 200 "));
    }

    #[tokio::test]
    async fn a_client_that_never_reads_is_dropped() {
        let bounds = Bounds {
            connections: 1,
            connection: Duration::from_millis(200),
            ..BOUNDS
        };
        let (address, _) = start(bounds).await;
        let mut silent = TcpStream::connect(address).await.expect("connect");
        silent
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
            .await
            .expect("write");
        let answered = timeout(PATIENCE, get(address, "/healthz")).await;
        assert!(answered.expect("in time").starts_with("HTTP/1.1 200 "));
    }
}
