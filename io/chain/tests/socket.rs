//! JSON-RPC over WebSocket, as ethers' and viem's socket providers speak it.

mod common;

use std::net::SocketAddr;

use common::*;
use futures::{SinkExt as _, StreamExt as _};
use glean_chain::HttpServer;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// A client that keeps what it was told while it waited for something else.
struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    unread: Vec<Value>,
}

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        let (socket, _) = connect_async(format!("ws://{addr}/")).await.expect("connects");
        Self { socket, unread: Vec::new() }
    }

    async fn send(&mut self, id: u64, method: &str, params: Value) {
        let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.socket.send(Message::text(body.to_string())).await.expect("sends");
    }

    /// The first message, now or later, that `wanted` likes.
    async fn hear(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(place) = self.unread.iter().position(&wanted) {
            return self.unread.remove(place);
        }
        loop {
            let message = self.socket.next().await.expect("still open").expect("a message");
            let Message::Text(text) = message else { continue };
            let value: Value = serde_json::from_str(&text).expect("JSON");
            if wanted(&value) {
                return value;
            }
            self.unread.push(value);
        }
    }

    async fn ask(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.send(id, method, params).await;
        self.hear(|message| message["id"] == id).await
    }

    async fn subscribe(&mut self, id: u64, params: Value) -> Value {
        self.ask(id, "eth_subscribe", params).await["result"].take()
    }

    async fn told(&mut self, subscription: &Value) -> Value {
        self.hear(|message| message["params"]["subscription"] == *subscription).await["params"]["result"].take()
    }
}

async fn served(chain: &glean_chain::Chain) -> HttpServer {
    chain.serve_http("127.0.0.1:0".parse().expect("an address")).await.expect("listens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_hear_of_blocks_logs_and_waiting_transactions() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = open(dir.path()).expect("opens");
    let server = served(&chain).await;
    let mut client = Client::connect(server.addr()).await;
    let heads = client.subscribe(1, json!(["newHeads"])).await;
    let logs = client.subscribe(2, json!(["logs", { "address": gusd() }])).await;
    let waiting = client.subscribe(3, json!(["newPendingTransactions"])).await;
    // A gap: it waits until the test is over.
    let gap = client.ask(4, "eth_sendRawTransaction", json!([hex_of(&transfer(&key(2), 1, gusd()))])).await;
    assert_eq!(client.told(&waiting).await, gap["result"]);

    let request = json!({ "from": key(7).address(), "to": key(9).address() });
    client.send(5, "glean_faucet", json!([key(9).address()])).await;
    let head = client.told(&heads).await;
    assert_eq!(head["parentHash"].as_str().map(str::len), Some(66), "{head}");
    assert!(head.get("size").is_none() && head.get("transactions").is_none(), "{head}");
    let log = client.told(&logs).await;
    assert_eq!(log["address"], json!(gusd()), "{log}");
    assert_eq!(client.ask(6, "eth_estimateGas", json!([request])).await["result"], "0x5208");

    assert_eq!(client.ask(7, "eth_unsubscribe", json!([heads])).await["result"], true);
    assert_eq!(client.ask(8, "eth_unsubscribe", json!([heads])).await["result"], false);
    assert_eq!(client.ask(9, "eth_subscribe", json!(["weather"])).await["error"]["code"], -32602);
    drop(server);
    let end = client.socket.next().await;
    assert!(!matches!(end, Some(Ok(Message::Text(_)))), "connections end with the server");
    chain.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_subscriptions_and_hosts_are_limited() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = open(dir.path()).expect("opens");
    let server = served(&chain).await;
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(Client::connect(server.addr()).await);
    }
    assert!(connect_async(format!("ws://{}/", server.addr())).await.is_err(), "no seat is left");
    let client = clients.last_mut().expect("64 of them");
    for id in 0..64 {
        assert!(client.subscribe(id, json!(["newHeads"])).await.is_string());
    }
    assert_eq!(client.ask(64, "eth_subscribe", json!(["newHeads"])).await["error"]["code"], -32005);
    drop(clients);
    let mut rebound = format!("ws://{}/", server.addr()).into_client_request().expect("a request");
    rebound.headers_mut().insert("host", "evil.example".parse().expect("a host"));
    assert!(connect_async(rebound).await.is_err(), "a page that rebinds its name gets nothing");
    drop(server);
    chain.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_request_holds_nobody_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let chain = open(dir.path()).expect("opens");
    let server = served(&chain).await;
    let mut client = Client::connect(server.addr()).await;
    // It waits behind a gap, for as long as it may.
    let raw = hex_of(&transfer(&key(1), 1, key(9).address()));
    client.send(1, "eth_sendRawTransactionSync", json!([raw, "0xbb8"])).await;
    assert_eq!(client.ask(2, "eth_chainId", json!([])).await["result"], format!("{CHAIN_ID:#x}"));
    assert!(client.unread.is_empty(), "the other one still waits");
    assert_eq!(client.hear(|message| message["id"] == 1).await["error"]["code"], 4);
    drop(server);
    chain.close().await;
}
