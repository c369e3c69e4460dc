//! JSON-RPC over WebSocket: the same requests on one connection, and `eth_subscribe`.
//!
//! What must stay true:
//! - a bounded number of connections, each with a bounded number of subscriptions and of requests at work;
//! - a client that reads too slowly is cut off: nobody else waits for it, and nothing piles up for it;
//! - connections end with the server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B128, B256};
use alloy_rpc_types_eth::Filter;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::error::RpcError;
use super::filter::random_id;
use super::logs::check_filter;
use super::{Answer, Call, Params, REQUEST_BYTES_MAX, RpcHandler, failure, success, to_bytes, view};
use crate::FinalBlock;

/// Open connections.
const CONNECTIONS_MAX: usize = 64;
/// Subscriptions of one connection.
const SUBSCRIPTIONS_MAX: usize = 64;
/// Requests of one connection that are at work; the next is read when one is answered.
const AT_WORK_MAX: usize = 16;
/// How long a client may take to accept one message.
const SEND_MAX: Duration = Duration::from_secs(10);
/// How often the pool is looked at for those who want to hear of it.
const POOL_INTERVAL: Duration = Duration::from_millis(250);

/// All connections of one server.
#[derive(Clone)]
pub(super) struct Sockets {
    rpc: RpcHandler,
    seats: Arc<Semaphore>,
    /// Closed with the server.
    server: watch::Receiver<()>,
}

impl Sockets {
    pub(super) fn new(rpc: RpcHandler, server: watch::Receiver<()>) -> Self {
        Self { rpc, seats: Arc::new(Semaphore::new(CONNECTIONS_MAX)), server }
    }

    pub(super) fn accept(&self, upgrade: WebSocketUpgrade) -> Response {
        let Ok(seat) = self.seats.clone().try_acquire_owned() else {
            return (StatusCode::SERVICE_UNAVAILABLE, "too many connections").into_response();
        };
        let (rpc, mut server) = (self.rpc.clone(), self.server.clone());
        let upgrade = upgrade.max_message_size(REQUEST_BYTES_MAX).max_frame_size(REQUEST_BYTES_MAX);
        upgrade.on_upgrade(async move |socket| {
            tokio::select! {
                () = Session::new(rpc, socket).run() => {}
                _ = server.changed() => {}
            }
            drop(seat);
        })
    }
}

/// What a client wants to hear of.
enum Topic {
    Heads,
    Logs(Box<Filter>),
    /// Waiting transactions, whole or by hash.
    Transactions {
        whole: bool,
    },
}

impl Topic {
    fn parse(params: &Params) -> Result<Self, RpcError> {
        match params.get::<String>(0)?.as_str() {
            "newHeads" => Ok(Self::Heads),
            "logs" => {
                let filter: Filter = params.opt(1)?.unwrap_or_default();
                check_filter(&filter)?;
                Ok(Self::Logs(Box::new(filter)))
            }
            "newPendingTransactions" => Ok(Self::Transactions { whole: params.opt(1)?.unwrap_or(false) }),
            other => Err(RpcError::invalid_params(format!("no \"{other}\" subscription in eth namespace"))),
        }
    }
}

/// One connection.
struct Session {
    rpc: RpcHandler,
    socket: WebSocket,
    topics: BTreeMap<B128, Topic>,
    finals: broadcast::Receiver<FinalBlock>,
    pool: Interval,
    /// Waiting transactions already told.
    told: BTreeSet<B256>,
    at_work: FuturesUnordered<BoxFuture<'static, Bytes>>,
}

impl Session {
    fn new(rpc: RpcHandler, socket: WebSocket) -> Self {
        let finals = rpc.shared.keeper.subscribe();
        let mut pool = interval(POOL_INTERVAL);
        pool.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            rpc,
            socket,
            topics: BTreeMap::new(),
            finals,
            pool,
            told: BTreeSet::new(),
            at_work: FuturesUnordered::new(),
        }
    }

    /// Until the client leaves, or is too slow.
    async fn run(mut self) {
        while let Some(messages) = self.next().await {
            for message in messages {
                let Ok(text) = String::from_utf8(message.to_vec()) else { return };
                let sent = timeout(SEND_MAX, self.socket.send(Message::Text(text.into()))).await;
                if !matches!(sent, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }

    /// What to send next; `None` to end.
    async fn next(&mut self) -> Option<Vec<Bytes>> {
        tokio::select! {
            Some(answer) = self.at_work.next() => Some(if answer.is_empty() { Vec::new() } else { vec![answer] }),
            message = self.socket.recv(), if self.at_work.len() < AT_WORK_MAX => match message?.ok()? {
                Message::Text(text) => Some(self.take(text.into())),
                Message::Binary(bytes) => Some(self.take(bytes)),
                Message::Ping(_) | Message::Pong(_) => Some(Vec::new()),
                Message::Close(_) => None,
            },
            block = self.finals.recv() => match block {
                Ok(block) => Some(self.on_block(&block)),
                Err(RecvError::Lagged(_) | RecvError::Closed) => None,
            },
            _ = self.pool.tick(), if self.hears_pool() => Some(self.on_pool()),
        }
    }

    /// Answers what concerns this connection; everything else is put to work.
    fn take(&mut self, body: Bytes) -> Vec<Bytes> {
        let Some((id, call)) = subscription_call(&body) else {
            let rpc = self.rpc.clone();
            self.at_work.push(Box::pin(async move { rpc.handle(body).await }));
            return Vec::new();
        };
        let answer = match call.method.as_str() {
            "eth_subscribe" => self.subscribe(&call.params),
            _ => call.params.get::<B128>(0).map(|id| Value::Bool(self.topics.remove(&id).is_some())),
        };
        vec![to_bytes(&answer.map_or_else(|error| failure(id.clone(), error), |result| success(id.clone(), result)))]
    }

    fn subscribe(&mut self, params: &Params) -> Answer {
        if self.topics.len() >= SUBSCRIPTIONS_MAX {
            return Err(RpcError::limit("too many subscriptions"));
        }
        let topic = Topic::parse(params)?;
        if matches!(topic, Topic::Transactions { .. }) && !self.hears_pool() {
            self.told = self.rpc.shared.keeper.pool().all().iter().map(|tx| tx.hash).collect();
        }
        let id = B128::from_slice(&random_id()[16..]);
        self.topics.insert(id, topic);
        super::json(id)
    }

    fn hears_pool(&self) -> bool {
        self.topics.values().any(|topic| matches!(topic, Topic::Transactions { .. }))
    }

    fn on_block(&self, final_block: &FinalBlock) -> Vec<Bytes> {
        let (number, mut notes) = (final_block.block.number(), Vec::new());
        for (id, topic) in &self.topics {
            match topic {
                Topic::Heads => notes.extend(note(id, super::json(view::head(&final_block.block)))),
                Topic::Logs(filter) => {
                    let logs = self.rpc.shared.logs_between(filter, number, number).unwrap_or_default();
                    notes.extend(logs.into_iter().filter_map(|log| note(id, super::json(log))));
                }
                Topic::Transactions { .. } => {}
            }
        }
        notes
    }

    fn on_pool(&mut self) -> Vec<Bytes> {
        let waiting = self.rpc.shared.keeper.pool().all();
        let mut notes = Vec::new();
        for tx in waiting.iter().filter(|tx| !self.told.contains(&tx.hash)) {
            for (id, topic) in &self.topics {
                if let Topic::Transactions { whole } = topic {
                    notes.extend(note(id, if *whole { view::pending(tx) } else { super::json(tx.hash) }));
                }
            }
        }
        self.told = waiting.iter().map(|tx| tx.hash).collect();
        notes
    }
}

/// A request that only its connection can answer, and its id.
fn subscription_call(body: &[u8]) -> Option<(Value, Call)> {
    let (id, call) = Call::parse(serde_json::from_slice(body).ok()?).ok()?;
    matches!(call.method.as_str(), "eth_subscribe" | "eth_unsubscribe").then_some((id?, call))
}

/// Whether these bytes are a subscription that a connection would take.
pub(crate) fn is_subscription(body: &[u8]) -> bool {
    subscription_call(body).is_some_and(|(_, call)| Topic::parse(&call.params).is_ok())
}

/// A notification. What cannot be shown is not sent.
fn note(id: &B128, result: Answer) -> Option<Bytes> {
    let params = json!({ "subscription": id, "result": result.ok()? });
    Some(to_bytes(&json!({ "jsonrpc": "2.0", "method": "eth_subscription", "params": params })))
}
