//! JSON-RPC over HTTP and WebSocket, for wallets and tools on this machine.
//!
//! What must stay true: loopback only, and only for requests that name this machine as their host. A web page
//! may talk to us (CORS is open, as wallets need), but a page that rebinds its own name to 127.0.0.1 may not.

use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tower_http::cors::{Any, CorsLayer};
use tower_http::limit::RequestBodyLimitLayer;

use super::socket::Sockets;
use super::{REQUEST_BYTES_MAX, RpcHandler};

/// Why the HTTP server could not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Another address than loopback was asked for.
    #[error(
        "JSON-RPC over HTTP listens on loopback only, not on {0}\nhint: reach other machines through the node's own network"
    )]
    NotLoopback(IpAddr),
    /// The address is taken.
    #[error("cannot listen on {addr}: {source}\nhint: choose another port, or 0 for any free one")]
    Bind {
        /// What was asked for.
        addr: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A running HTTP server; dropping it stops it.
pub struct HttpServer {
    addr: SocketAddr,
    task: JoinHandle<()>,
    /// Dropped with the server, which ends what it started.
    _alive: watch::Sender<()>,
}

/// What requests reach.
#[derive(Clone)]
struct Served {
    rpc: RpcHandler,
    sockets: Sockets,
}

impl HttpServer {
    pub(crate) async fn bind(rpc: RpcHandler, addr: SocketAddr) -> Result<Self, HttpError> {
        if !addr.ip().is_loopback() {
            return Err(HttpError::NotLoopback(addr.ip()));
        }
        let bind_error = |source| HttpError::Bind { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(bind_error)?;
        let addr = listener.local_addr().map_err(bind_error)?;
        let cors = CorsLayer::new()
            .allow_origin(Any)
            .allow_methods([axum::http::Method::POST])
            .allow_headers([header::CONTENT_TYPE]);
        let (alive, server) = watch::channel(());
        let served = Served { sockets: Sockets::new(rpc.clone(), server), rpc };
        let app = Router::new()
            .route("/", post(answer).get(upgrade))
            .layer(RequestBodyLimitLayer::new(REQUEST_BYTES_MAX))
            .layer(cors)
            .layer(axum::middleware::from_fn(check_host))
            .with_state(served);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                tracing::warn!(%error, "JSON-RPC over HTTP stopped");
            }
        });
        Ok(Self { addr, task, _alive: alive })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Before anything else, whatever the method: a page whose name was bound to this machine gets nothing.
async fn check_host(request: Request, next: Next) -> Response {
    match names_this_machine(request.headers()) {
        true => next.run(request).await,
        false => (StatusCode::FORBIDDEN, "invalid host specified").into_response(),
    }
}

async fn answer(State(served): State<Served>, body: Bytes) -> Response {
    let answer = served.rpc.handle(body).await;
    ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
}

async fn upgrade(State(served): State<Served>, upgrade: WebSocketUpgrade) -> Response {
    served.sockets.accept(upgrade)
}

/// The Host header must be localhost or a loopback address, with any port.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    if let Ok(addr) = host.parse::<SocketAddr>() {
        return addr.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_served() {
        let named = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header value"));
            names_this_machine(&headers)
        };
        for host in ["localhost", "LOCALHOST:8545", "127.0.0.1", "127.0.0.1:80", "[::1]:8545", "[::1]"] {
            assert!(named(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8545", "10.0.0.1:8545", "localhost.evil.example", ""] {
            assert!(!named(host), "{host}");
        }
        assert!(!names_this_machine(&HeaderMap::new()));
    }
}
