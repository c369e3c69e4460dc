//! Routes, the token, and the Host check.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST, HeaderName};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api::error::Failure;
use crate::api::types::{MachineLine, NetworkInfo, ShareRequest, ShareStatus, Status};
use crate::api::{jobs, metrics};
use crate::app::App;

/// Largest request body: a job with a million short lines.
const BODY_BYTES_MAX: usize = 64 << 20;

/// The API being served.
pub struct Api {
    /// Where.
    pub addr: SocketAddr,
}

struct Guard {
    token: String,
    port: u16,
}

/// Serves until `stop` turns true. Port 0 takes a free one.
pub async fn serve(app: Arc<App>, port: u16, token: String, mut stop: watch::Receiver<bool>) -> std::io::Result<Api> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let addr = listener.local_addr()?;
    let guard = Arc::new(Guard { token, port: addr.port() });
    let router = router(app.clone())
        .layer(middleware::from_fn_with_state(guard.clone(), check))
        .merge(open_router(app).layer(middleware::from_fn_with_state(guard, check_host)));
    tokio::spawn(async move {
        let stopped = async move {
            // An error means that the node is gone already.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "the local API stopped");
        }
    });
    Ok(Api { addr })
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/jobs", post(jobs::submit).get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/events", get(jobs::events))
        .route("/v1/jobs/{id}/tasks", get(jobs::tasks))
        .route("/v1/jobs/{id}/outputs", get(jobs::outputs))
        .route("/v1/jobs/{id}/tasks/{index}/stdout", get(jobs::stdout))
        .route("/v1/jobs/{id}/tasks/{index}/stderr", get(jobs::stderr))
        .route("/v1/jobs/{id}/tasks/{index}/file", get(jobs::file))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/rerun", post(jobs::rerun))
        .route("/v1/jobs/{id}/explain", get(jobs::explain_job))
        .route("/v1/jobs/{id}/explain/{index}", get(jobs::explain_task))
        .route("/v1/jobs/{id}/receipts", get(jobs::receipts))
        .route("/v1/quote", post(jobs::quote))
        .route("/v1/share", get(share).put(set_share).delete(unshare))
        .route("/v1/machines", get(machines))
        .route("/v1/faucet", post(faucet))
        .route("/v1/network", get(network))
        .route("/v1/stop", post(stop))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

/// What needs no token: see [`metrics`].
fn open_router(app: Arc<App>) -> Router {
    Router::new().route("/healthz", get(metrics::healthz)).route("/metrics", get(metrics::metrics)).with_state(app)
}

async fn check_host(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Result<Response, Failure> {
    guard.admit_host(request.headers())?;
    Ok(next.run(request).await)
}

async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Result<Response, Failure> {
    guard.admit(request.headers())?;
    Ok(next.run(request).await)
}

impl Guard {
    /// Token and Host. A page in a browser has neither: it cannot read the token, and after DNS rebinding its Host
    /// header still names the foreign site.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Failure> {
        self.admit_host(headers)?;
        let given = header(headers, AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default();
        // Hashes are compared, so that the time taken tells nothing about the token.
        if blake3::hash(given.as_bytes()) != blake3::hash(self.token.as_bytes()) {
            return Err(Failure::forbidden("bad_token", "missing or wrong token"));
        }
        Ok(())
    }
}

impl Guard {
    fn admit_host(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let hosts = ["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{}", self.port));
        if !hosts.iter().any(|host| host == header(headers, HOST)) {
            return Err(Failure::forbidden("bad_host", "the Host header does not name this machine"));
        }
        Ok(())
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn status(State(app): State<Arc<App>>) -> Result<Json<Status>, Failure> {
    app.status().await.map(Json)
}

async fn share(State(app): State<Arc<App>>) -> Result<Json<Option<ShareStatus>>, Failure> {
    app.share_status().await.map(Json)
}

async fn set_share(
    State(app): State<Arc<App>>,
    Json(request): Json<ShareRequest>,
) -> Result<Json<Option<ShareStatus>>, Failure> {
    app.share(&request).await?;
    app.share_status().await.map(Json)
}

async fn unshare(State(app): State<Arc<App>>) -> Result<Json<()>, Failure> {
    app.unshare().await.map(Json)
}

async fn machines(State(app): State<Arc<App>>) -> Result<Json<Vec<MachineLine>>, Failure> {
    app.machines().await.map(Json)
}

async fn faucet(State(app): State<Arc<App>>) -> Result<Json<Status>, Failure> {
    app.ledger
        .faucet()
        .await
        .map_err(|e| Failure::unavailable("faucet_refused", e, "a private network grants credits once per account"))?;
    app.status().await.map(Json)
}

async fn network(State(app): State<Arc<App>>) -> Json<NetworkInfo> {
    Json(app.network_info())
}

async fn stop(State(app): State<Arc<App>>) -> Json<()> {
    app.stop();
    Json(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_page_gets_nowhere() {
        let guard = Guard { token: "secret".into(), port: 8800 };
        let headers = |host: &str, token: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            headers
        };
        assert!(guard.admit(&headers("127.0.0.1:8800", "secret")).is_ok());
        assert!(guard.admit(&headers("localhost:8800", "secret")).is_ok());
        for (host, token) in [
            ("evil.test:8800", "secret"),
            ("127.0.0.1:8801", "secret"),
            ("127.0.0.1:8800", "guess"),
            ("127.0.0.1:8800", ""),
        ] {
            assert!(guard.admit(&headers(host, token)).is_err(), "{host} {token}");
        }
        assert!(
            guard.admit_host(&headers("127.0.0.1:8800", "")).is_ok()
                && guard.admit_host(&headers("evil.test:8800", "")).is_err()
        );
        assert!(guard.admit(&HeaderMap::new()).is_err());
    }
}
