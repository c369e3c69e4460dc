//! Small networks on 127.0.0.1 for the tests.

use std::future::Future;
use std::time::Duration;

use glean_types::NodeId;
use tokio::task::JoinHandle;

use crate::{Incoming, Net, NetConfig, NetLimits};

/// How long any single step of a test may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration on a free port of the loopback interface.
pub(crate) fn config(seed: u8) -> NetConfig {
    NetConfig { bind: vec!["127.0.0.1:0".parse().unwrap()], ..NetConfig::new([seed; 32]) }
}

pub(crate) async fn net(seed: u8) -> Net {
    Net::bind(config(seed)).await.unwrap()
}

pub(crate) async fn limited(seed: u8, limits: NetLimits) -> Net {
    Net::bind(NetConfig { limits, ..config(seed) }).await.unwrap()
}

/// The public key of a seed that is bound to nothing.
pub(crate) fn key_of(seed: u8) -> NodeId {
    NodeId(*iroh::SecretKey::from_bytes(&[seed; 32]).public().as_bytes())
}

/// Tells `a` where `b` is.
pub(crate) fn introduce(a: &Net, b: &Net) {
    a.add_peer(b.addr());
}

/// Fails the test instead of hanging it.
pub(crate) async fn soon<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, step).await.expect("the step to end in time")
}

/// Sends every request and every message of a session back until the network closes.
pub(crate) fn echo(net: &Net) -> JoinHandle<()> {
    let net = net.clone();
    tokio::spawn(async move {
        while let Some(incoming) = net.accept().await {
            match incoming {
                Incoming::Rpc { request, reply, .. } | Incoming::Index { request, reply, .. } => {
                    let _ = reply.send(&request).await;
                }
                Incoming::Work(mut session) => {
                    tokio::spawn(async move {
                        while let Ok(Some(message)) = session.recv().await {
                            if session.send(&message).await.is_err() {
                                break;
                            }
                        }
                    });
                }
            }
        }
    })
}
