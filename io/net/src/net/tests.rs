use std::time::Duration;

use super::*;
use crate::testing::{PATIENCE, config, introduce, net, soon};
use crate::{DialError, SessionError};

#[tokio::test]
async fn a_peer_is_dialled_by_its_key_and_a_request_comes_back() {
    let (a, b) = (net(1).await, net(2).await);
    introduce(&a, &b);
    let serving = answer_all(b.clone());
    let answer = soon(a.request(b.id(), Alpn::Rpc, b"ping", 64, PATIENCE)).await.unwrap();
    assert_eq!(answer, b"ping from 01"[..]);
    assert_eq!(b.stats().requests_received, 1);
    assert_eq!((a.stats().connections_dialled, b.stats().connections_live), (1, 1));
    soon(a.request(b.id(), Alpn::Rpc, b"again", 64, PATIENCE)).await.unwrap();
    assert_eq!(a.stats().connections_dialled, 1, "the connection is reused");
    a.close().await;
    b.close().await;
    soon(serving).await.unwrap();
}

#[tokio::test]
async fn whoever_answers_must_hold_the_dialled_key() {
    let (a, b) = (net(1).await, net(2).await);
    let stranger = NodeId(*SecretKey::from_bytes(&[9; 32]).public().as_bytes());
    a.add_peer(PeerAddr { node: stranger, ..b.addr() });
    let refused = soon(a.request(stranger, Alpn::Rpc, b"ping", 64, PATIENCE)).await.unwrap_err();
    assert!(matches!(refused, RequestError::Dial(DialError::Unreachable { .. })), "{refused:?}");
    assert_eq!(b.stats().connections_accepted, 0);
    // The same endpoint under its own key is reached.
    introduce(&a, &b);
    let serving = answer_all(b.clone());
    soon(a.request(b.id(), Alpn::Rpc, b"ping", 64, PATIENCE)).await.unwrap();
    a.close().await;
    b.close().await;
    soon(serving).await.unwrap();
}

#[tokio::test]
async fn nobody_is_searched_for_and_a_node_does_not_dial_itself() {
    let a = net(1).await;
    let stranger = NodeId(*SecretKey::from_bytes(&[9; 32]).public().as_bytes());
    let unknown = soon(a.request(stranger, Alpn::Rpc, b"", 64, PATIENCE)).await.unwrap_err();
    assert!(matches!(unknown, RequestError::Dial(DialError::NoAddress { .. })), "{unknown:?}");
    introduce(&a, &a);
    let own = soon(a.request(a.id(), Alpn::Rpc, b"", 64, PATIENCE)).await.unwrap_err();
    assert!(matches!(own, RequestError::Dial(DialError::ToSelf)), "{own:?}");
    a.close().await;
    let closed = soon(a.request(stranger, Alpn::Rpc, b"", 64, PATIENCE)).await.unwrap_err();
    assert!(matches!(closed, RequestError::Dial(DialError::Closed)), "{closed:?}");
}

#[tokio::test]
async fn an_unknown_protocol_is_refused_in_the_handshake() {
    let (a, b) = (net(1).await, net(2).await);
    let addr = b.addr().to_iroh().unwrap();
    assert!(soon(a.inner.endpoint.connect(addr.clone(), b"glean/nonsense/1")).await.is_err());
    assert_eq!(b.stats().connections_accepted, 0);
    assert!(soon(a.inner.endpoint.connect(addr, Alpn::Rpc.name())).await.is_ok());
    a.close().await;
    b.close().await;
}

/// Answers every request with itself and the first byte of who asked.
fn answer_all(net: Net) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(incoming) = net.accept().await {
            if let Incoming::Rpc { peer, request, reply } = incoming {
                let key = if peer == NodeId(*SecretKey::from_bytes(&[1; 32]).public().as_bytes()) { "01" } else { "??" };
                let answer = [&request[..], b" from ", key.as_bytes()].concat();
                let _ = reply.send(&answer).await;
            }
        }
    })
}
