//! Two endpoints on loopback, and peers that break the rules: giants, stallers, strangers, vanishers.

use std::time::Duration;

use iroh::endpoint::Connection;

use super::*;
use crate::pool::DOUBT_AFTER;
use crate::testing::{PATIENCE, config, echo, introduce, key_of, limited, net, soon};
use crate::{DialError, SessionError};

/// Long enough that a busy machine meets it, short enough to wait for.
const SHORT: Duration = Duration::from_millis(500);

fn impatient() -> NetLimits {
    NetLimits { message_timeout: SHORT, ..NetLimits::default() }
}

/// Two nodes of which the first knows the second.
async fn pair(limits_b: NetLimits) -> (Net, Net) {
    let (a, b) = (net(1).await, limited(2, limits_b).await);
    introduce(&a, &b);
    (a, b)
}

/// An open session and its other end.
async fn session_between(a: &Net, b: &Net) -> (Session, Session) {
    let (near, far) = soon(futures::future::join(a.open_work(b.id()), b.accept())).await;
    let (near, Some(Incoming::Work(far))) = (near.unwrap(), far) else { panic!("a session") };
    assert_eq!((near.peer(), far.peer()), (b.id(), a.id()));
    (near, far)
}

/// A connection that does not keep to our rules.
async fn rogue(a: &Net, b: &Net, alpn: Alpn) -> Connection {
    soon(a.inner.endpoint.connect(b.addr().to_iroh().unwrap(), alpn.name())).await.unwrap()
}

async fn close(nets: impl IntoIterator<Item = Net>) {
    for net in nets {
        soon(net.close()).await;
    }
}

async fn ping(a: &Net, b: &Net) -> Result<Bytes, RequestError> {
    soon(a.request(b.id(), Alpn::Rpc, b"ping", 64, PATIENCE)).await
}

#[tokio::test]
async fn a_peer_is_dialled_by_its_key_and_a_request_comes_back() {
    let (a, b) = pair(NetLimits::default()).await;
    let serving = echo(&b);
    assert_eq!(ping(&a, &b).await.unwrap(), b"ping"[..]);
    assert_eq!(b.stats().requests_received, 1);
    assert_eq!((a.stats().connections_dialled, b.stats().connections_live), (1, 1));
    ping(&a, &b).await.unwrap();
    assert_eq!(a.stats().connections_dialled, 1, "the connection is reused");
    close([a, b]).await;
    soon(serving).await.unwrap();
}

#[tokio::test]
async fn whoever_answers_must_hold_the_dialled_key() {
    let (a, b) = (net(1).await, net(2).await);
    echo(&b);
    a.add_peer(PeerAddr { node: key_of(9), ..b.addr() });
    let refused = soon(a.request(key_of(9), Alpn::Rpc, b"ping", 64, PATIENCE)).await.unwrap_err();
    assert!(matches!(refused, RequestError::Dial(DialError::Unreachable { .. })), "{refused:?}");
    assert_eq!(b.stats().connections_accepted, 0);
    // The same endpoint under its own key is reached.
    introduce(&a, &b);
    ping(&a, &b).await.unwrap();
    close([a, b]).await;
}

#[tokio::test]
async fn nobody_is_searched_for_and_a_node_does_not_dial_itself() {
    let a = net(1).await;
    let unknown = soon(a.request(key_of(9), Alpn::Rpc, b"", 64, PATIENCE)).await.unwrap_err();
    assert!(matches!(unknown, RequestError::Dial(DialError::NoAddress { .. })), "{unknown:?}");
    introduce(&a, &a);
    let own = ping(&a, &a).await.unwrap_err();
    assert!(matches!(own, RequestError::Dial(DialError::ToSelf)), "{own:?}");
    a.close().await;
    let closed = ping(&a, &a).await.unwrap_err();
    assert!(matches!(closed, RequestError::Dial(DialError::Closed | DialError::ToSelf)), "{closed:?}");
}

#[tokio::test]
async fn an_unknown_protocol_is_refused_in_the_handshake() {
    let (a, b) = pair(NetLimits::default()).await;
    let addr = b.addr().to_iroh().unwrap();
    assert!(soon(a.inner.endpoint.connect(addr, b"glean/nonsense/1")).await.is_err());
    assert_eq!(b.stats().connections_accepted, 0);
    rogue(&a, &b, Alpn::Rpc).await;
    close([a, b]).await;
}

#[tokio::test]
async fn a_refusal_says_why() {
    let (a, b) = pair(NetLimits::default()).await;
    let asking = tokio::spawn({
        let (a, b) = (a.clone(), b.id());
        async move {
            let refused = a.request(b, Alpn::Rpc, b"pay me", 64, PATIENCE).await;
            let dropped = a.request(b, Alpn::Index, b"", 64, PATIENCE).await;
            let large = a.request(b, Alpn::Rpc, b"", 3, PATIENCE).await;
            (refused.unwrap_err(), dropped.unwrap_err(), large.unwrap_err())
        }
    });
    let Some(Incoming::Rpc { request, reply, .. }) = soon(b.accept()).await else { panic!("a request") };
    assert_eq!(request, b"pay me"[..]);
    reply.refuse("not today").await.unwrap();
    let Some(Incoming::Index { reply, .. }) = soon(b.accept()).await else { panic!("a request") };
    drop(reply);
    let Some(Incoming::Rpc { reply, .. }) = soon(b.accept()).await else { panic!("a request") };
    reply.send(b"four").await.unwrap();
    let (refused, dropped, large) = soon(asking).await.unwrap();
    assert_eq!(refused.to_string(), "refused by the peer: not today");
    assert_eq!(dropped.to_string(), "refused by the peer: the request was dropped without an answer");
    assert!(matches!(large, RequestError::TooLarge { limit: 3 }), "{large:?}");
    close([a, b]).await;
}

#[tokio::test]
async fn many_small_messages_arrive_in_order() {
    const MESSAGES: u32 = 20_000;
    let (a, b) = pair(NetLimits::default()).await;
    let (near, far) = session_between(&a, &b).await;
    let (mut sender, mut receiver) = near.split();
    let sending = tokio::spawn(async move {
        for i in 0..MESSAGES {
            sender.send(&i.to_le_bytes()[..1 + i as usize % 4]).await.unwrap();
        }
        sender.finish().await.unwrap();
    });
    let (mut far_sender, mut far_receiver) = far.split();
    for i in 0..MESSAGES {
        let message = soon(far_receiver.recv()).await.unwrap().expect("a message");
        assert_eq!(message, i.to_le_bytes()[..1 + i as usize % 4]);
    }
    assert_eq!(soon(far_receiver.recv()).await, Ok(None), "finished is not broken");
    soon(sending).await.unwrap();
    // The other direction still works.
    far_sender.send(b"thanks").await.unwrap();
    assert_eq!(soon(receiver.recv()).await.unwrap().unwrap(), b"thanks"[..]);
    drop(far_sender);
    let broken = soon(receiver.recv()).await.unwrap_err();
    assert!(matches!(broken, SessionError::Refused { .. }), "broken is not finished: {broken:?}");
    close([a, b]).await;
}

#[tokio::test]
async fn receiving_may_be_given_up_at_any_point() {
    let (a, b) = pair(NetLimits::default()).await;
    let (mut near, mut far) = session_between(&a, &b).await;
    let messages: Vec<Vec<u8>> = (0..200u8).map(|i| vec![i; 1 + 7 * usize::from(i)]).collect();
    let sending = tokio::spawn({
        let messages = messages.clone();
        async move {
            for message in &messages {
                near.send(message).await.unwrap();
            }
            near
        }
    });
    for message in &messages {
        let received = loop {
            // Polled once and dropped, again and again.
            match futures::FutureExt::now_or_never(far.recv()) {
                Some(received) => break received,
                None => tokio::task::yield_now().await,
            }
        };
        assert_eq!(received.unwrap().unwrap(), message[..]);
    }
    soon(sending).await.unwrap();
    close([a, b]).await;
}

#[tokio::test]
async fn a_giant_message_is_cut_off_and_the_connection_goes_on() {
    let (a, b) = pair(NetLimits { frame_bytes_max: 1000, ..NetLimits::default() }).await;
    let connection = rogue(&a, &b, Alpn::Work).await;
    let (mut send, _recv) = soon(connection.open_bi()).await.unwrap();
    let announced = 3_000_000_000u32;
    let giant = [&[SESSION_VERSION][..], &announced.to_le_bytes(), &[7; 100]].concat();
    send.write_all(&giant).await.unwrap();
    let Some(Incoming::Work(mut session)) = soon(b.accept()).await else { panic!("a session") };
    let cut = soon(session.recv()).await.unwrap_err();
    assert_eq!(cut, SessionError::TooLarge { got: announced as usize, limit: 1000 });
    let stopped = soon(send.stopped()).await.unwrap();
    assert_eq!(stopped, Some(Refusal::TooLarge.code()), "the sender is told");
    assert_eq!(b.stats().too_large, 1);
    // On the same connection, a message of exactly the limit passes.
    let (mut send, _recv) = soon(connection.open_bi()).await.unwrap();
    send.write_all(&[&[SESSION_VERSION][..], &1000u32.to_le_bytes(), &[7; 1000]].concat()).await.unwrap();
    let Some(Incoming::Work(mut session)) = soon(b.accept()).await else { panic!("a session") };
    assert_eq!(soon(session.recv()).await.unwrap().unwrap(), [7; 1000][..]);
    // Ours does not even leave, and the session goes on.
    assert_eq!(session.send(&[0; 1001]).await, Err(SessionError::TooLarge { got: 1001, limit: 1000 }));
    session.send(&[0; 1000]).await.unwrap();
    close([a, b]).await;
}

#[tokio::test]
async fn a_request_that_is_too_large_or_never_ends_is_refused() {
    let (a, b) = pair(NetLimits { request_bytes_max: 1000, ..impatient() }).await;
    echo(&b);
    let refused = soon(a.request(b.id(), Alpn::Rpc, &[0; 1001], 64, PATIENCE)).await.unwrap_err();
    assert_eq!(refused.to_string(), "refused by the peer: the message is too large");
    assert_eq!(soon(a.request(b.id(), Alpn::Rpc, &[0; 1000], 1000, PATIENCE)).await.unwrap().len(), 1000);
    let connection = rogue(&a, &b, Alpn::Rpc).await;
    let (mut send, mut recv) = soon(connection.open_bi()).await.unwrap();
    send.write_all(b"and then").await.unwrap();
    let reset = soon(recv.read_to_end(64)).await.unwrap_err();
    assert!(
        matches!(reset, ReadToEndError::Read(iroh::endpoint::ReadError::Reset(code)) if code == Refusal::Stalled.code())
    );
    assert_eq!((b.stats().stalled, b.stats().too_large), (1, 1));
    close([a, b]).await;
}

#[tokio::test]
async fn a_peer_that_stalls_in_a_message_is_dropped_and_one_that_is_silent_is_not() {
    let (a, b) = pair(impatient()).await;
    let connection = rogue(&a, &b, Alpn::Work).await;
    let (mut stalling, _recv) = soon(connection.open_bi()).await.unwrap();
    stalling.write_all(&[SESSION_VERSION, 9, 0, 0, 0, 1]).await.unwrap();
    let Some(Incoming::Work(mut session)) = soon(b.accept()).await else { panic!("a session") };
    assert_eq!(soon(session.recv()).await, Err(SessionError::Stalled { after_ms: SHORT.as_millis() as u64 }));
    assert_eq!(soon(stalling.stopped()).await.unwrap(), Some(Refusal::Stalled.code()));
    // A stream that does not even say what it is.
    let (mut mute, _recv) = soon(connection.open_bi()).await.unwrap();
    mute.write_all(&[SESSION_VERSION + 1]).await.unwrap();
    assert_eq!(soon(mute.stopped()).await.unwrap(), Some(Refusal::Protocol.code()));
    // Silent for longer than the patience, then heard.
    let (mut near, mut far) = session_between(&a, &b).await;
    assert!(tokio::time::timeout(SHORT * 3, far.recv()).await.is_err(), "nothing to receive, and no error");
    near.send(b"here I am").await.unwrap();
    assert_eq!(soon(far.recv()).await.unwrap().unwrap(), b"here I am"[..]);
    close([a, b]).await;
}

#[tokio::test]
async fn a_peer_that_does_not_take_our_messages_is_dropped() {
    let (a, b) = (limited(1, impatient()).await, net(2).await);
    introduce(&a, &b);
    let (mut near, far) = session_between(&a, &b).await;
    let message = vec![0; 10_000];
    let stalled = loop {
        if let Err(e) = soon(near.send(&message)).await {
            break e;
        }
    };
    assert!(matches!(stalled, SessionError::Stalled { .. }), "{stalled:?}");
    assert_eq!(near.send(b"more").await, Err(SessionError::Torn), "the peer could not tell where a message ends");
    drop(far);
    close([a, b]).await;
}

#[tokio::test]
async fn one_peer_gets_only_its_share_and_is_told_so() {
    let limits = NetLimits {
        connections_per_peer_max: 2,
        connections_per_ip_max: 4,
        sessions_per_peer_max: 1,
        ..NetLimits::default()
    };
    let (a, b) = pair(limits).await;
    echo(&b);
    let _first = rogue(&a, &b, Alpn::Rpc).await;
    ping(&a, &b).await.unwrap();
    let third = rogue(&a, &b, Alpn::Rpc).await;
    let closed = soon(third.closed()).await;
    let (code, reason) = crate::wire::close_reason(&closed).expect("closed by the peer");
    assert_eq!((code, &reason[..]), (Refusal::PeerFull.code(), "too many connections from this node"));
    ping(&a, &b).await.expect("those inside go on");
    // Another peer is not affected.
    let c = net(3).await;
    introduce(&c, &b);
    ping(&c, &b).await.unwrap();
    let mut session = soon(c.open_work(b.id())).await.unwrap();
    session.send(b"one").await.unwrap();
    assert_eq!(soon(session.recv()).await.unwrap().unwrap(), b"one"[..]);
    let second = soon(c.open_work(b.id())).await.unwrap_err();
    assert_eq!(second.to_string(), "refused by the peer: too many sessions from this node");
    assert_eq!((b.stats().connections_refused, b.stats().rate_limited), (1, 1));
    // All these come from one address, which has its share, too.
    let d = net(4).await;
    introduce(&d, &b);
    let full = ping(&d, &b).await.unwrap_err();
    assert_eq!(full.to_string(), "refused by the peer: too many connections from this address");
    close([a, b, c, d]).await;
}

/// A stranger begins messages and requests on every protocol, and ends none. Method: the same with room for all of it,
/// and with room for a third.
#[tokio::test]
async fn what_is_half_sent_takes_only_so_much_room() {
    const PIECE: usize = 256 << 10;
    const PIECES: usize = 4;
    let protocols = [Alpn::Work, Alpn::Rpc, Alpn::Blobs];
    let all = (protocols.len() * PIECES * PIECE) as u64;
    for room in [NetLimits::default().unfinished_bytes_per_ip_max, PIECES * PIECE] {
        let limits = NetLimits { unfinished_bytes_per_ip_max: room, ..NetLimits::default() };
        let b = Net::bind(NetConfig { limits, blobs: BlobsAt::Memory, ..config(2) }).await.unwrap();
        let a = net(1).await;
        introduce(&a, &b);
        echo(&b);
        let mut begun = Vec::new();
        for alpn in protocols {
            let connection = rogue(&a, &b, alpn).await;
            for _ in 0..PIECES {
                let (mut send, recv) = soon(connection.open_bi()).await.unwrap();
                let mut piece = vec![0; PIECE];
                if alpn == Alpn::Work {
                    piece[0] = SESSION_VERSION;
                    piece[1..5].copy_from_slice(&(16_u32 << 20).to_le_bytes());
                }
                // Where there is no room it is refused half way, which is what this is about.
                let _ = soon(send.write_all(&piece)).await;
                begun.push((connection.clone(), send, recv));
            }
        }
        let is_roomy = room as u64 > all;
        let is_so = |stats: NetStats| if is_roomy { stats.unfinished_bytes >= all } else { stats.crowded > 0 };
        soon(async {
            while !is_so(b.stats()) {
                assert!(b.stats().unfinished_bytes <= room as u64);
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(b.stats().crowded == 0, is_roomy, "{:?}", b.stats());
        close([a]).await;
        soon(async {
            while b.stats().unfinished_bytes > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        close([b]).await;
    }
}

/// The engine that serves content would wait for the rest of a request as long as the peer likes, with room set aside.
#[tokio::test]
async fn a_request_for_content_must_be_complete_in_time() {
    let limits = NetLimits { request_bytes_max: 1 << 10, ..impatient() };
    let b = Net::bind(NetConfig { limits, blobs: BlobsAt::Memory, ..config(2) }).await.unwrap();
    let a = net(1).await;
    introduce(&a, &b);
    let connection = rogue(&a, &b, Alpn::Blobs).await;
    let (mut slow, _recv) = soon(connection.open_bi()).await.unwrap();
    slow.write_all(&[0]).await.unwrap();
    assert_eq!(soon(slow.stopped()).await.unwrap(), Some(Refusal::Stalled.code()));
    let (mut giant, _recv) = soon(connection.open_bi()).await.unwrap();
    giant.write_all(&[0; 2 << 10]).await.unwrap();
    assert_eq!(soon(giant.stopped()).await.unwrap(), Some(Refusal::TooLarge.code()));
    close([a, b]).await;
}

#[tokio::test]
async fn a_private_network_admits_its_members_only() {
    let members: Admit = Arc::new(|peer, alpn| alpn == Alpn::Rpc && peer == key_of(1));
    let b = Net::bind(NetConfig { admit: Some(members), ..config(2) }).await.unwrap();
    let (a, stranger) = (net(1).await, net(3).await);
    echo(&b);
    introduce(&a, &b);
    introduce(&stranger, &b);
    ping(&a, &b).await.unwrap();
    let refused = ping(&stranger, &b).await.unwrap_err();
    assert_eq!(refused.to_string(), "refused by the peer: this node is not admitted");
    let refused = soon(a.request(b.id(), Alpn::Index, b"", 64, PATIENCE)).await.unwrap_err();
    assert_eq!(refused.to_string(), "refused by the peer: this node is not admitted");
    close([a, b, stranger]).await;
}

#[tokio::test]
async fn who_asks_too_often_is_slowed_down_alone() {
    let limits = NetLimits { requests_per_second: 1, requests_burst: 3, ..NetLimits::default() };
    let (a, b) = pair(limits).await;
    echo(&b);
    let (mut answered, mut slowed) = (0, 0);
    for _ in 0..20 {
        match ping(&a, &b).await {
            Ok(_) => answered += 1,
            Err(e) => {
                assert_eq!(e.to_string(), "refused by the peer: too many requests; slow down");
                slowed += 1;
            }
        }
    }
    assert!(answered >= 3 && slowed >= 10, "{answered} answered, {slowed} slowed");
    let c = net(3).await;
    introduce(&c, &b);
    ping(&c, &b).await.expect("another peer is not affected");
    close([a, b, c]).await;
}

#[tokio::test]
async fn an_unused_connection_is_closed_and_nobody_notices() {
    let (a, b) = pair(NetLimits { unused_timeout: Duration::from_millis(50), ..NetLimits::default() }).await;
    echo(&b);
    ping(&a, &b).await.unwrap();
    let connection = soon(a.inner.pool.connect(b.id(), Alpn::Rpc)).await.unwrap();
    let closed = soon(connection.closed()).await;
    assert_eq!(crate::wire::close_reason(&closed).map(|(code, _)| code), Some(Refusal::Unused.code()));
    ping(&a, &b).await.unwrap();
    assert_eq!(a.stats().connections_dialled, 2);
    // A connection with a silent session on it is in use.
    let mut session = soon(a.open_work(b.id())).await.unwrap();
    session.send(b"one").await.unwrap();
    soon(session.recv()).await.unwrap().unwrap();
    assert!(tokio::time::timeout(SHORT, session.recv()).await.is_err(), "silence, and no error");
    session.send(b"two").await.unwrap();
    assert_eq!(soon(session.recv()).await.unwrap().unwrap(), b"two"[..]);
    close([a, b]).await;
}

#[test]
fn a_peer_that_vanishes_is_missed_and_an_idle_one_is_kept() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let silence = Duration::from_secs(2);
    let limits = NetLimits { silence_timeout: silence, keep_alive_at_work: silence / 4, ..NetLimits::default() };
    let a = here.block_on(limited(1, limits));
    let b = there.block_on(net(2));
    introduce(&a, &b);
    let _entered = there.enter();
    echo(&b);
    here.block_on(async {
        let mut session = soon(a.open_work(b.id())).await.unwrap();
        session.send(b"one").await.unwrap();
        soon(session.recv()).await.unwrap().unwrap();
        assert!(tokio::time::timeout(silence * 2, session.recv()).await.is_err(), "idle, and no error");
        session.send(b"two").await.unwrap();
        assert_eq!(soon(session.recv()).await.unwrap().unwrap(), b"two"[..]);
        // As a killed process: no goodbye.
        there.shutdown_background();
        let lost = soon(session.recv()).await.unwrap_err();
        assert!(matches!(lost, SessionError::Lost { .. }), "{lost:?}");
        soon(a.close()).await;
    });
}

/// Two messages half a second apart, both confirmed at once: that nothing comes afterwards proves nothing.
#[tokio::test]
async fn a_session_with_nothing_to_say_is_not_doubted() {
    let (a, b) = pair(NetLimits::default()).await;
    echo(&b);
    let mut session = soon(a.open_work(b.id())).await.unwrap();
    for message in [b"one", b"two"] {
        session.send(message).await.unwrap();
        assert_eq!(soon(session.recv()).await.unwrap().unwrap(), message[..]);
        assert!(tokio::time::timeout(SHORT, session.recv()).await.is_err(), "silence, and no error");
    }
    assert!(tokio::time::timeout(3 * DOUBT_AFTER, session.recv()).await.is_err(), "silence, and no error");
    assert_eq!(a.stats().connections_dialled, 1, "nobody looked whether the peer still lives");
    close([a, b]).await;
}

#[tokio::test]
async fn a_mirror_shows_where_packets_come_from() {
    let (a, b) = pair(NetLimits::default()).await;
    let seen = soon(a.request(b.id(), Alpn::Mirror, &[], MIRROR_BYTES_MAX, PATIENCE)).await.unwrap();
    assert_eq!(seen, a.addr().direct[0].to_string());
    assert_eq!(soon(a.look_in_mirror(b.id())).await.unwrap(), None, "nobody else could use this one");
    close([a, b]).await;
}

/// Goal: a peer that was killed and started again is found again at once, although its old connections are
/// not missed before the silence timeout. Method: as above, then the same key on the same port.
#[test]
fn a_peer_that_was_restarted_is_found_again() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (here, there) = (runtime(), runtime());
    let limits = NetLimits { keep_alive_at_work: Duration::from_millis(200), ..NetLimits::default() };
    assert!(limits.silence_timeout > PATIENCE * 2, "or the test would prove nothing");
    let a = here.block_on(limited(1, limits));
    let b = there.block_on(net(2));
    let address = b.addr();
    introduce(&a, &b);
    {
        // Its loop must live in the runtime that is dropped below.
        let _inside = there.enter();
        echo(&b);
    }
    here.block_on(async {
        let mut session = soon(a.open_work(address.node)).await.unwrap();
        soon(a.request(address.node, Alpn::Rpc, b"before", 64, PATIENCE)).await.unwrap();
        there.shutdown_background();
        drop(b);
        let again = soon(async {
            loop {
                match Net::bind(NetConfig { bind: address.direct.clone(), ..config(2) }).await {
                    Ok(net) => break net,
                    // The old socket is not closed yet.
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        })
        .await;
        echo(&again);
        let lost = soon(session.recv()).await.unwrap_err();
        assert!(matches!(lost, SessionError::Lost { .. }), "{lost:?}");
        soon(async { while a.request(address.node, Alpn::Rpc, b"after", 64, PATIENCE).await.is_err() {} }).await;
        let mut session = soon(a.open_work(address.node)).await.unwrap();
        session.send(b"after").await.unwrap();
        assert_eq!(soon(session.recv()).await.unwrap().unwrap(), b"after"[..]);
        close([a, again]).await;
    });
}

#[tokio::test]
async fn a_goodbye_is_heard_at_once() {
    let (a, b) = pair(NetLimits::default()).await;
    let (mut near, _far) = session_between(&a, &b).await;
    close([b]).await;
    let gone = soon(near.recv()).await.unwrap_err();
    assert_eq!(gone, SessionError::Refused { reason: "closed".to_owned() });
    close([a]).await;
}

#[tokio::test]
async fn two_nodes_do_not_share_a_port_and_a_bad_relay_is_named() {
    let a = net(1).await;
    let taken = Net::bind(NetConfig { bind: a.addr().direct, ..config(2) }).await.unwrap_err();
    assert!(taken.to_string().contains("hint: is another node already running"), "{taken}");
    let bad = Net::bind(NetConfig { relays: vec!["relay".to_owned()], ..config(2) }).await.unwrap_err();
    assert!(bad.to_string().contains("`relay` is not a relay URL"), "{bad}");
    close([a]).await;
}
