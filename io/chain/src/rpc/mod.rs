//! Ethereum JSON-RPC 2.0 over any transport: bytes in, bytes out.
//!
//! What must stay true:
//! - the answers are those of geth where geth has an answer: wallets compare codes and even texts;
//! - every request is bounded before it costs anything: bytes, batch length, gas, blocks, logs, waiting time;
//! - work that takes milliseconds runs on blocking threads, a few at a time, so that cheap calls stay quick.

mod call;
mod error;
mod eth;
mod fees;
mod fill;
mod filter;
mod glean;
mod http;
mod logs;
mod network;
mod simulate;
pub(crate) mod socket;
mod trace;
mod view;
mod waiting;

use std::sync::Arc;

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

pub use http::{HttpError, HttpServer};

use crate::OpenError;
use crate::keeper::Keeper;
use error::RpcError;
use filter::Filters;
use glean::Faucet;

/// Bytes of one request body, batch or not.
pub(crate) const REQUEST_BYTES_MAX: usize = 5 << 20;
/// Requests in one batch.
const BATCH_MAX: usize = 100;
/// Bytes of one answer; a batch that would exceed it is cut short with errors.
const RESPONSE_BYTES_MAX: usize = 25 << 20;
/// Heavy requests that run at the same time.
const HEAVY_MAX: usize = 2;

type Answer = Result<Value, RpcError>;

/// Answers JSON-RPC requests. Clones share one state and are cheap.
#[derive(Clone)]
pub struct RpcHandler {
    shared: Arc<Shared>,
}

/// What all clones of a handler share.
struct Shared {
    keeper: Arc<Keeper>,
    filters: Filters,
    faucet: Option<Faucet>,
    heavy: Semaphore,
}

impl RpcHandler {
    pub(crate) fn new(keeper: Arc<Keeper>, faucet_key: Option<Zeroizing<[u8; 32]>>) -> Result<Self, OpenError> {
        let faucet = match (faucet_key, keeper.genesis().faucet) {
            (Some(key), Some(terms)) => Some(Faucet::new(&key, terms)?),
            _ => None,
        };
        let shared = Shared { keeper, filters: Filters::new(), faucet, heavy: Semaphore::new(HEAVY_MAX) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Answers one body: a request or a batch. A body of notifications only has an empty answer.
    ///
    /// Must run inside a tokio runtime.
    pub async fn handle(&self, body: Bytes) -> Bytes {
        if body.len() > REQUEST_BYTES_MAX {
            let error = RpcError::invalid_request("request body too large");
            return to_bytes(&failure(Value::Null, error));
        }
        match serde_json::from_slice::<Value>(&body) {
            Ok(Value::Array(batch)) => self.handle_batch(batch).await,
            Ok(request) => match self.handle_one(request).await {
                Some(response) => to_bytes(&response),
                None => Bytes::new(),
            },
            Err(error) => to_bytes(&failure(Value::Null, RpcError::parse(error))),
        }
    }

    async fn handle_batch(&self, batch: Vec<Value>) -> Bytes {
        if batch.is_empty() {
            let error = RpcError::invalid_request("empty batch");
            return to_bytes(&failure(Value::Null, error));
        }
        if batch.len() > BATCH_MAX {
            let error =
                RpcError::invalid_request(format!("batch too large: {} requests, limit {BATCH_MAX}", batch.len()));
            return to_bytes(&failure(Value::Null, error));
        }
        let mut answers = Vec::with_capacity(batch.len());
        let mut bytes = 0;
        for request in batch {
            if bytes > RESPONSE_BYTES_MAX {
                let id = request.get("id").cloned().unwrap_or(Value::Null);
                answers.push(to_bytes(&failure(id, RpcError::limit("response too large"))));
                continue;
            }
            if let Some(answer) = self.handle_one(request).await {
                let answer = to_bytes(&answer);
                bytes += answer.len();
                answers.push(answer);
            }
        }
        if answers.is_empty() {
            return Bytes::new();
        }
        let mut joined = Vec::with_capacity(bytes + answers.len() + 2);
        joined.push(b'[');
        joined.extend_from_slice(&answers.join(&b","[..]));
        joined.push(b']');
        joined.into()
    }

    /// Answers one request; `None` for a notification.
    async fn handle_one(&self, request: Value) -> Option<Value> {
        let (id, call) = match Call::parse(request) {
            Ok((Some(id), call)) => (id, call),
            Ok((None, _)) => return None,
            Err((id, error)) => return Some(failure(id, error)),
        };
        Some(match self.shared.clone().answer(call).await {
            Ok(result) => success(id, result),
            Err(error) => failure(id, error),
        })
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, call: Call) -> Answer {
        if call.method == "eth_sendRawTransactionSync" {
            return self.send_raw_transaction_sync(&call.params).await;
        }
        if call.method == "glean_faucet" {
            return self.grant(&call.params).await;
        }
        if !is_heavy(&call.method) {
            return self.answer_now(&call.method, &call.params);
        }
        let shared = self.clone();
        let _turn = self.heavy.acquire().await.map_err(RpcError::internal)?;
        let task = move || shared.answer_now(&call.method, &call.params);
        tokio::task::spawn_blocking(task).await.map_err(RpcError::internal)?
    }

    /// Every method that needs no waiting.
    fn answer_now(&self, method: &str, params: &Params) -> Answer {
        match method.split_once('_').map_or(method, |(namespace, _)| namespace) {
            "glean" => self.glean(method, params),
            _ => self.eth(method, params),
        }
    }
}

/// Methods that execute code or read many rows.
fn is_heavy(method: &str) -> bool {
    matches!(
        method,
        "eth_call"
            | "eth_estimateGas"
            | "eth_fillTransaction"
            | "eth_simulateV1"
            | "eth_getStorageValues"
            | "debug_traceTransaction"
            | "debug_traceBlockByNumber"
            | "debug_traceBlockByHash"
            | "debug_traceCall"
            | "eth_createAccessList"
            | "eth_getLogs"
            | "eth_getFilterLogs"
            | "eth_getFilterChanges"
            | "eth_getProof"
            | "eth_feeHistory"
            | "eth_getBlockReceipts"
            | "glean_channel"
            | "glean_status"
    )
}

/// A request after the envelope is checked.
struct Call {
    method: String,
    params: Params,
}

impl Call {
    /// The id is `None` for a notification.
    fn parse(request: Value) -> Result<(Option<Value>, Self), (Value, RpcError)> {
        let invalid = |id: Value| (id, RpcError::invalid_request("invalid request"));
        let Value::Object(mut request) = request else {
            return Err(invalid(Value::Null));
        };
        let id = request.remove("id");
        let known = id.clone().unwrap_or(Value::Null);
        if !matches!(known, Value::Null | Value::String(_) | Value::Number(_)) {
            return Err(invalid(Value::Null));
        }
        let versioned = request.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
        let Some(Value::String(method)) = request.remove("method").filter(|_| versioned) else {
            return Err(invalid(known));
        };
        let params = match request.remove("params") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(params)) => params,
            Some(_) => return Err((known, RpcError::invalid_params("non-array args"))),
        };
        Ok((id, Self { method, params: Params(params) }))
    }
}

/// The positional arguments of a request.
struct Params(Vec<Value>);

impl Params {
    /// A required argument.
    fn get<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        self.opt(index)?.ok_or_else(|| RpcError::invalid_params(format!("missing value for required argument {index}")))
    }

    /// An optional argument; null counts as absent.
    fn opt<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>, RpcError> {
        match self.0.get(index) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value)
                .map(Some)
                .map_err(|error| RpcError::invalid_params(format!("invalid argument {index}: {error}"))),
        }
    }

    /// Refuses arguments beyond `most`.
    fn at_most(&self, most: usize) -> Result<(), RpcError> {
        if self.0.len() > most {
            return Err(RpcError::invalid_params(format!("too many arguments, want at most {most}")));
        }
        Ok(())
    }

    fn address(&self, index: usize) -> Result<Address, RpcError> {
        self.prefixed(index)
    }

    fn hash(&self, index: usize) -> Result<B256, RpcError> {
        self.prefixed(index)
    }

    /// Bytes of a fixed length, which geth reads with their 0x only.
    fn prefixed<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        match self.0.get(index) {
            Some(Value::String(text)) if !text.starts_with("0x") => {
                Err(RpcError::invalid_params(format!("invalid argument {index}: hex string without 0x prefix")))
            }
            _ => self.get(index),
        }
    }
}

/// Any serialisable result.
fn json(value: impl Serialize) -> Answer {
    serde_json::to_value(value).map_err(RpcError::internal)
}

fn success(id: Value, result: Value) -> Value {
    envelope(id, "result", result)
}

fn failure(id: Value, error: RpcError) -> Value {
    let error = serde_json::to_value(error).expect("an error is three plain fields");
    envelope(id, "error", error)
}

fn envelope(id: Value, key: &str, value: Value) -> Value {
    let mut object = Map::new();
    object.insert("jsonrpc".into(), "2.0".into());
    object.insert("id".into(), id);
    object.insert(key.into(), value);
    Value::Object(object)
}

fn to_bytes(value: &Value) -> Bytes {
    serde_json::to_vec(value).expect("a JSON value is always written").into()
}
