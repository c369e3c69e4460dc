//! A stranger that opens connections with fresh keys as fast as it can, and what it is let loose on when no node is at
//! hand.
//!
//! Both are this very test file, run again inside a namespace with its orders in the environment: a real process, real
//! handshakes, and nothing that a node would need to be shipped with.

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use glean_net::{Alpn, BlobsAt, Incoming, Net, NetConfig, NetLimits, NetStats};
use iroh::endpoint::{Connection, presets};
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, SecretKey, TransportAddr};

use super::common::hosts::Namespace;

/// Where the second life of this file finds what it is to be.
pub const ORDERS: &str = "GLEAN_STRANGER";
/// Handshakes that one stranger has in progress.
const AT_ONCE: usize = 12;
/// Keys whose connections it keeps, each with one on every protocol: far more than it will be allowed.
const KEYS_KEPT: usize = 100;
/// Handshakes that it leaves half open at a time: more than a node has room for.
const HALF_OPEN: usize = 400;
/// A node gives up on a half-open one after 15 s.
const HALF_OPEN_FOR: Duration = Duration::from_secs(14);
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests begun on one connection, and messages.
const BEGUN: usize = 32;
/// As long as a request may be and not yet complete.
const JUNK_BYTES: usize = (1 << 20) - 1;
const PROTOCOLS: [Alpn; 4] = [Alpn::Work, Alpn::Rpc, Alpn::Index, Alpn::Blobs];
const VICTIM_PORT: u16 = 7_000;
const VICTIM_KEY: [u8; 32] = [7; 32];

/// What a stranger does with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Completes handshakes; then idles on every second connection, and sends junk on the others.
    Rude,
    /// Proves its address, begins handshakes and never ends them.
    Mute,
}

/// This file again, in here, with these orders. A stranger computes on a machine of its own: on ours it gets only what
/// nodes leave, as their workers do.
pub fn again(place: &Namespace, orders: &str) -> Command {
    let me = std::env::current_exe().unwrap();
    let mut command = place.command("chrt");
    command.args(["--idle", "0"]).arg(me).args(["--exact", "second_life", "--nocapture"]).env(ORDERS, orders);
    command
}

/// The orders to flood whoever has this key there.
pub fn flood_orders(manner: Manner, node: &str, at: SocketAddr) -> String {
    format!("{manner:?} {node} {at}")
}

/// The orders to be a node's endpoint and nothing more, with its limits or with none.
pub fn victim_orders(is_limited: bool) -> String {
    format!("victim {is_limited}")
}

/// Key and port of such an endpoint.
pub fn victim() -> (String, u16) {
    (hex(&glean_net::node_id(&VICTIM_KEY).0), VICTIM_PORT)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> [u8; 32] {
    std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
}

/// What the second life of this file does, until it is killed.
pub fn obey(orders: &str) {
    let words: Vec<&str> = orders.split(' ').collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let target = || {
        let id = EndpointId::from_bytes(&unhex(words[1])).unwrap();
        EndpointAddr::from_parts(id, [TransportAddr::Ip(words[2].parse().unwrap())])
    };
    match words[0] {
        "victim" => runtime.block_on(be_a_victim(words[1] == "true")),
        "Rude" => runtime.block_on(be_rude(target())),
        "Mute" => runtime.block_on(be_mute(target())),
        other => panic!("orders: {other}"),
    }
}

async fn fresh() -> Endpoint {
    let mut key = [0; 32];
    getrandom::fill(&mut key).unwrap();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let builder = Endpoint::builder(presets::Minimal).secret_key(SecretKey::from_bytes(&key));
    builder.relay_mode(RelayMode::Disabled).clear_ip_transports().bind_addr(any).unwrap().bind().await.unwrap()
}

async fn be_rude(target: EndpointAddr) {
    let count = Arc::<AtomicU64>::default();
    let kept = Arc::<Mutex<VecDeque<(Endpoint, Vec<Connection>)>>>::default();
    let junk = PROTOCOLS.map(junk_for);
    let all = (0..AT_ONCE).map(|_| {
        let (target, count, kept, junk) = (target.clone(), count.clone(), kept.clone(), junk.clone());
        tokio::spawn(async move {
            loop {
                let endpoint = fresh().await;
                let mut connections = Vec::new();
                for (alpn, junk) in PROTOCOLS.iter().zip(&junk) {
                    let dialling = endpoint.connect(target.clone(), alpn.name());
                    let Ok(Ok(connection)) = tokio::time::timeout(PATIENCE, dialling).await else { continue };
                    if count.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
                        tokio::spawn(send_junk(connection.clone(), junk.clone()));
                    }
                    connections.push(connection);
                }
                let mut kept = kept.lock().unwrap();
                kept.push_back((endpoint, connections));
                // Without a goodbye: a peer that vanishes is missed only after a while.
                let _oldest = (kept.len() > KEYS_KEPT).then(|| kept.pop_front());
            }
        })
    });
    futures::future::join_all(all.collect::<Vec<_>>()).await;
}

/// The beginning of a message or request, and nothing that would be one.
fn junk_for(alpn: Alpn) -> Bytes {
    let mut junk = vec![0; JUNK_BYTES];
    getrandom::fill(&mut junk).unwrap();
    match alpn {
        // The version of a session, and a message of 16 MiB.
        Alpn::Work => {
            junk[0] = 1;
            junk[1..5].copy_from_slice(&(16_u32 << 20).to_le_bytes());
        }
        // A request for one blob.
        Alpn::Blobs => junk[0] = 0,
        _ => {}
    }
    Bytes::from(junk)
}

/// Begins many messages or requests, and ends none.
async fn send_junk(connection: Connection, junk: Bytes) {
    let mut begun = Vec::new();
    for _ in 0..BEGUN {
        let Ok((mut send, recv)) = connection.open_bi().await else { break };
        // What is refused in the middle is replaced by the next.
        let _ = tokio::time::timeout(PATIENCE, send.write_chunk(junk.clone())).await;
        begun.push((send, recv));
    }
    connection.closed().await;
}

async fn be_mute(target: EndpointAddr) {
    let endpoint = fresh().await;
    let all = (0..HALF_OPEN).map(|n| {
        let (endpoint, target) = (endpoint.clone(), target.clone());
        let alpn = PROTOCOLS[n % PROTOCOLS.len()];
        tokio::spawn(async move {
            loop {
                let _ = tokio::time::timeout(HALF_OPEN_FOR, endpoint.connect(target.clone(), alpn.name())).await;
            }
        })
    });
    futures::future::join_all(all.collect::<Vec<_>>()).await;
}

async fn be_a_victim(is_limited: bool) {
    let mut config = NetConfig::new(VICTIM_KEY);
    config.bind = vec![SocketAddr::from(([0, 0, 0, 0], VICTIM_PORT))];
    config.blobs = BlobsAt::Memory;
    if !is_limited {
        config.limits = NetLimits {
            connections_max: usize::MAX,
            connections_per_ip_max: usize::MAX,
            handshakes_max: 1 << 20,
            handshakes_per_ip_max: 1 << 20,
            unfinished_bytes_max: usize::MAX / 2,
            unfinished_bytes_per_ip_max: usize::MAX / 2,
            unread_bytes_incoming_max: NetLimits::default().unread_bytes_max,
            ..NetLimits::default()
        };
    }
    let net = Net::bind(config).await.unwrap();
    let mut out = std::io::stdout();
    // Not a sleep in the loop: those who come would put it off for ever.
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            Some(begun) = net.accept() => {
                if let Incoming::Work(mut session) = begun {
                    tokio::spawn(async move { while session.recv().await.is_ok_and(|message| message.is_some()) {} });
                }
            }
            _ = tick.tick() => {
                let NetStats { handshakes, unfinished_bytes, .. } = net.stats();
                // Whoever listens has left when this fails.
                let _ = writeln!(out, "{handshakes} {unfinished_bytes}").and_then(|()| out.flush());
            }
        }
    }
}
