//! The way to the user's own node: HTTP and JSON on 127.0.0.1, with the token that only this user can read.
//!
//! One connection per call: on loopback that costs less than a millisecond, and a node that restarts
//! between two calls is then no special case. Proxies are never asked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use glean_node::api::types::{ApiError, ApiFile, NetworkInfo};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::fail::Fail;
use crate::text;
use crate::ui::Ui;

/// How long a node may take from its start to its first answer.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a node may take to answer whether it is there.
const HELLO_TIME_MAX: Duration = Duration::from_secs(5);
/// How often a starting node is asked.
const POLL_EVERY: Duration = Duration::from_millis(15);
/// How much of a dead node's log is shown.
const LOG_LINES: usize = 8;

/// A running node.
#[derive(Debug, Clone)]
pub struct Client {
    addr: SocketAddr,
    token: String,
    /// Its process.
    pub pid: u32,
}

impl Client {
    /// The node of that home, if one answers.
    pub async fn find(home: &Path) -> Option<Client> {
        let file = std::fs::read(home.join("run/api.json")).ok()?;
        let file: ApiFile = serde_json::from_slice(&file).ok()?;
        let addr = file.url.strip_prefix("http://")?.trim_end_matches('/').parse().ok()?;
        let client = Client { addr, token: file.token, pid: file.pid };
        // A question that the node answers by itself: others wait for a ledger that may be far.
        let hello = tokio::time::timeout(HELLO_TIME_MAX, client.get::<NetworkInfo>("/network"));
        matches!(hello.await, Ok(Ok(_))).then_some(client)
    }

    /// The node of that home, started in the background if need be.
    pub async fn ensure(home: &Path, ui: &Ui) -> Result<Client> {
        if let Some(client) = Client::find(home).await {
            return Ok(client);
        }
        if !home.join("network.json").exists() {
            return Err(Fail::new("no_network", home.display().to_string()).into());
        }
        let spinner = ui.spinner(text!(ui, "node-starting"));
        let mut child = spawn_node(home, &[], Stdio::null())?;
        let client = wait_ready(home, &mut child).await;
        spinner.finish_and_clear();
        client
    }

    /// Asks.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json(Method::GET, path, Vec::new()).await
    }

    /// Tells, and reads the answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.json(Method::POST, path, serde_json::to_vec(body)?).await
    }

    /// Sets.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.json(Method::PUT, path, serde_json::to_vec(body)?).await
    }

    /// Tells, whatever the answer says.
    pub async fn act(&self, method: Method, path: &str) -> Result<()> {
        self.send(method, path, Vec::new()).await?.collect().await?;
        Ok(())
    }

    /// Reads raw bytes.
    pub async fn bytes(&self, path: &str) -> Result<Bytes> {
        Ok(self.send(Method::GET, path, Vec::new()).await?.collect().await?.to_bytes())
    }

    /// Reads lines for as long as the node sends them.
    pub async fn lines(&self, path: &str) -> Result<Lines> {
        Ok(Lines { body: self.send(Method::GET, path, Vec::new()).await?, rest: BytesMut::new() })
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T> {
        let bytes = self.send(method, path, body).await?.collect().await?.to_bytes();
        serde_json::from_slice(&bytes).with_context(|| format!("the node's answer to {path} has other fields"))
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Incoming> {
        let stream = TcpStream::connect(self.addr).await.map_err(|e| Fail::new("node_gone", e.to_string()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1{path}"))
            .header("host", self.addr.to_string())
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await.map_err(|e| Fail::new("node_gone", e.to_string()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let bytes = response.into_body().collect().await?.to_bytes();
        Err(refusal(status, &bytes).into())
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Fail {
    match serde_json::from_slice::<ApiError>(body) {
        Ok(error) => Fail(error),
        Err(_) => Fail::new("bad_answer", format!("HTTP {status}: {}", String::from_utf8_lossy(body))),
    }
}

/// An NDJSON stream.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    rest: BytesMut,
}

impl Lines {
    /// Whether the next value is here already.
    pub fn has_next(&self) -> bool {
        self.rest.contains(&b'\n')
    }

    /// The next value and its line as it came; `None` at the end. Safe to drop and call again (no line is lost).
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Bytes)>> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1).freeze();
                if !line.trim_ascii().is_empty() {
                    let value = serde_json::from_slice(&line).context("a line of the node's stream")?;
                    return Ok(Some((value, line)));
                }
                continue;
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Some(data) = frame.map_err(|e| Fail::new("node_gone", e.to_string()))?.data_ref() {
                self.rest.extend_from_slice(data);
            }
        }
    }
}

/// Starts a node in its own process group, so that the terminal's Ctrl-C is not for it.
pub fn spawn_node(home: &Path, flags: &[&str], stdin: Stdio) -> Result<Child> {
    let log = log_path(home);
    std::fs::create_dir_all(log.parent().unwrap_or(home)).with_context(|| cannot_make(&log))?;
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).with_context(|| cannot_make(&log))?;
    let me = std::env::current_exe().context("could not find this program's own file")?;
    let mut command = Command::new(me);
    command.arg("node").arg("--home").arg(home).args(flags);
    command.stdin(stdin).stdout(file.try_clone()?).stderr(file);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().context("could not start the node's process")
}

/// Waits until the node answers. Should its process end first, another process may have been faster: then
/// that one answers.
pub async fn wait_ready(home: &Path, child: &mut Child) -> Result<Client> {
    let start = Instant::now();
    let mut ended = false;
    while start.elapsed() < START_TIME_MAX {
        if let Some(client) = Client::find(home).await {
            return Ok(client);
        }
        // A held lock: another process has started the node at the same moment, and it is not ready yet.
        if ended && lock_is_free(home)? {
            bail!(Fail::new("node_start", last_lines(&log_path(home))));
        }
        ended = child.try_wait()?.is_some();
        tokio::time::sleep(POLL_EVERY).await;
    }
    bail!(Fail::new("node_start", last_lines(&log_path(home))))
}

/// Whether no process holds the home.
pub fn lock_is_free(home: &Path) -> Result<bool> {
    let path = home.join("run/lock");
    match std::fs::File::open(&path) {
        Ok(file) => Ok(file.try_lock().is_ok()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e).with_context(|| format!("could not open {}", path.display())),
    }
}

fn cannot_make(path: &Path) -> String {
    format!("could not make {}", path.display())
}

fn log_path(home: &Path) -> PathBuf {
    home.join("log/node.log")
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
    format!("{}:\n  {tail}", log.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_code_and_hint_and_survives_a_strange_body() {
        let body = br#"{"code":"not_found","message":"no job x","hint":"glean jobs"}"#;
        let fail = refusal(StatusCode::NOT_FOUND, body);
        assert_eq!((fail.0.code.as_str(), fail.0.hint.as_deref()), ("not_found", Some("glean jobs")));
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, b"<html>").0.code, "bad_answer");
    }

    #[tokio::test]
    async fn a_stale_address_file_is_no_node() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("run")).unwrap();
        // Port 1 on loopback: nobody listens there.
        let file = r#"{"url":"http://127.0.0.1:1","token":"t","pid":1}"#;
        std::fs::write(home.path().join("run/api.json"), file).unwrap();
        assert!(Client::find(home.path()).await.is_none());
    }
}
