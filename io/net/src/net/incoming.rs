//! The way in: handshake, gate, and the reading of what peers begin.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use glean_types::NodeId;
use iroh::endpoint::{Connection, IncomingAddr, ReadError, RecvStream, SendStream};
use iroh::{Endpoint, TransportAddr};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Admit;
use crate::blobs::Blobs;
use crate::bucket::{Buckets, Rate};
use crate::errors::{Broken, RequestError};
use crate::gate::{Gate, Hold, Slot};
use crate::limits::NetLimits;
use crate::pool::Alpn;
use crate::session::{Session, Shared, time_for};
use crate::stats::Counters;
use crate::wire::{REASON_BYTES_MAX, REPLY_OK, REPLY_REFUSED, Refusal, SESSION_VERSION};

/// How long a mirror waits for packets that do not come through a relay.
const MIRROR_WAIT: Duration = Duration::from_secs(3);
/// What one read of a request may bring at most.
const READ_BYTES: usize = 64 << 10;

/// Something a peer began.
#[derive(Debug)]
pub enum Incoming {
    /// A work session.
    Work(Session),
    /// A question.
    Rpc {
        /// Who asks.
        peer: NodeId,
        /// The question.
        request: Bytes,
        /// Where the answer goes.
        reply: ReplySender,
    },
    /// An offer or a query of offers.
    Index {
        /// Who asks.
        peer: NodeId,
        /// The message.
        request: Bytes,
        /// Where the answer goes.
        reply: ReplySender,
    },
}

/// The one answer to a request. Dropped unused, it tells the peer that there is none.
#[derive(Debug)]
pub struct ReplySender {
    stream: Option<SendStream>,
    patience: Duration,
    /// The room that the question takes until it is answered.
    _hold: Option<Hold>,
    _in_use: Arc<()>,
}

impl ReplySender {
    /// Answers. Returns once the transport has taken the answer.
    pub async fn send(self, answer: &[u8]) -> Result<(), RequestError> {
        self.write(REPLY_OK, answer).await
    }

    /// Says no, and why.
    pub async fn refuse(self, reason: &str) -> Result<(), RequestError> {
        let reason = reason.as_bytes();
        self.write(REPLY_REFUSED, &reason[..reason.len().min(REASON_BYTES_MAX)]).await
    }

    async fn write(mut self, kind: u8, body: &[u8]) -> Result<(), RequestError> {
        let mut stream = self.stream.take().expect("taken only here, which consumes the sender");
        let mut bytes = Vec::with_capacity(1 + body.len());
        bytes.push(kind);
        bytes.extend_from_slice(body);
        let allowed = time_for(bytes.len(), self.patience);
        match timeout(allowed, stream.write_all(&bytes)).await {
            Ok(Ok(())) => {
                // Fails only if the peer no longer wants the answer.
                let _ = stream.finish();
                Ok(())
            }
            Ok(Err(e)) => Err(Broken::from(e).into()),
            Err(_) => {
                let _ = stream.reset(Refusal::Stalled.code());
                Err(RequestError::TimedOut { after_ms: allowed.as_millis() as u64 })
            }
        }
    }
}

impl Drop for ReplySender {
    fn drop(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let _ = stream.reset(Refusal::NoReply.code());
        }
    }
}

/// Lets connections in until the endpoint closes.
pub(super) struct Door {
    pub(super) endpoint: Endpoint,
    pub(super) gate: Arc<Gate>,
    pub(super) limits: NetLimits,
    pub(super) counters: Arc<Counters>,
    pub(super) admit: Option<Admit>,
    pub(super) blobs: Option<Blobs>,
    pub(super) arrivals: Senders,
}

/// Where what peers began is left for [`Net::accept`](super::Net::accept).
pub(super) struct Senders {
    pub(super) work: mpsc::Sender<Incoming>,
    pub(super) rpc: mpsc::Sender<Incoming>,
    pub(super) index: mpsc::Sender<Incoming>,
}

/// What every connection's loop shares.
struct Hall {
    door: Door,
    opened: Instant,
    rpc_rate: std::sync::Mutex<Buckets>,
    index_rate: std::sync::Mutex<Buckets>,
}

impl Door {
    pub(super) async fn run(self) {
        let rate = Rate { per_second: self.limits.requests_per_second, burst: self.limits.requests_burst };
        let buckets = || std::sync::Mutex::new(Buckets::new(rate, self.limits.connections_max.saturating_mul(4)));
        let (rpc_rate, index_rate) = (buckets(), buckets());
        let hall = Arc::new(Hall { door: self, opened: Instant::now(), rpc_rate, index_rate });
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                arrival = hall.door.endpoint.accept() => {
                    let Some(arrival) = arrival else { break };
                    let ip = address_of(&arrival);
                    match hall.door.gate.handshake(ip) {
                        // A forged sender never sees the token it would have to send back.
                        Ok((_, true)) if !arrival.remote_addr_validated() => {
                            if let Err(e) = arrival.retry() {
                                e.into_incoming().refuse();
                            }
                        }
                        Ok((room, _)) => drop(connections.spawn(hall.clone().welcome(arrival, ip, room))),
                        Err(_) => {
                            hall.door.counters.connections_refused.one();
                            arrival.refuse();
                        }
                    }
                }
                Some(ended) = connections.join_next() => {
                    if let Err(e) = ended && e.is_panic() {
                        tracing::error!("a connection's loop panicked: {e}");
                    }
                }
            }
        }
        connections.shutdown().await;
    }
}

impl Hall {
    async fn welcome(self: Arc<Self>, arrival: iroh::endpoint::Incoming, ip: Option<IpAddr>, room: Slot) {
        self.door.counters.handshakes.one();
        let Ok(accepting) = arrival.accept() else { return };
        // An unknown protocol or a wrong key ends the handshake, and with it this line.
        let Ok(Ok(connection)) = timeout(self.door.limits.dial_timeout, accepting).await else { return };
        drop(room);
        let peer = NodeId(*connection.remote_id().as_bytes());
        match self.admit(peer, ip, connection.alpn()) {
            Ok((alpn, slot)) => {
                self.door.counters.connections_accepted.one();
                self.serve(connection, peer, ip, alpn).await;
                drop(slot);
            }
            Err(refusal) => {
                self.door.counters.connections_refused.one();
                tracing::debug!(peer = %peer.short(), "connection refused: {}", refusal.text());
                connection.close(refusal.code(), refusal.text().as_bytes());
            }
        }
    }

    fn admit(&self, peer: NodeId, ip: Option<IpAddr>, name: &[u8]) -> Result<(Alpn, Slot), Refusal> {
        let alpn = Alpn::of(name).ok_or(Refusal::Protocol)?;
        if let Some(admit) = &self.door.admit
            && !admit(peer, alpn)
        {
            return Err(Refusal::NotAdmitted);
        }
        Ok((alpn, self.door.gate.connection(peer, ip)?))
    }

    async fn serve(&self, connection: Connection, peer: NodeId, ip: Option<IpAddr>, alpn: Alpn) {
        if alpn == Alpn::Blobs && self.door.blobs.is_none() {
            return connection.close(Refusal::NotServed.code(), Refusal::NotServed.text().as_bytes());
        }
        let in_use = Arc::new(());
        let mut streams = JoinSet::new();
        let mut check_use = tokio::time::interval(self.door.limits.unused_timeout.max(Duration::from_millis(1)));
        check_use.tick().await;
        let mut used = true;
        loop {
            tokio::select! {
                stream = connection.accept_bi() => {
                    let Ok((send, recv)) = stream else { break };
                    used = true;
                    let hold = self.door.gate.hold(ip);
                    let (in_use, connection) = (in_use.clone(), connection.clone());
                    let stream = Arrival { peer, alpn, send, recv, hold, in_use, connection };
                    self.take(stream, &mut streams);
                }
                Some(_) = streams.join_next() => {}
                _ = check_use.tick() => {
                    if !used && Arc::strong_count(&in_use) == 1 {
                        connection.close(Refusal::Unused.code(), Refusal::Unused.text().as_bytes());
                        break;
                    }
                    used = false;
                }
            }
        }
        if let (Alpn::Blobs, Some(blobs)) = (alpn, &self.door.blobs) {
            blobs.gone(&connection).await;
        }
    }

    fn take(&self, stream: Arrival, streams: &mut JoinSet<()>) {
        let (limits, counters) = (self.door.limits.clone(), self.door.counters.clone());
        let Senders { work, rpc, index } = &self.door.arrivals;
        let (peer, alpn) = (stream.peer, stream.alpn);
        match alpn {
            Alpn::Work => match self.door.gate.session(peer) {
                Ok(slot) => {
                    streams.spawn(stream.into_session(slot, limits, counters, work.clone()));
                }
                Err(refusal) => {
                    counters.rate_limited.one();
                    stream.refuse(refusal);
                }
            },
            Alpn::Rpc | Alpn::Index | Alpn::Mirror if self.is_too_fast(peer, alpn) => {
                counters.rate_limited.one();
                stream.refuse(Refusal::RateLimited);
            }
            Alpn::Rpc => {
                streams.spawn(stream.into_request(limits, counters, rpc.clone()));
            }
            Alpn::Index => {
                streams.spawn(stream.into_request(limits, counters, index.clone()));
            }
            Alpn::Mirror => {
                streams.spawn(stream.into_mirror(limits.message_timeout));
            }
            Alpn::Blobs => match self.door.blobs.clone() {
                Some(blobs) => drop(streams.spawn(stream.into_fetch(limits, counters, blobs))),
                None => stream.refuse(Refusal::NotServed),
            },
        }
    }

    fn is_too_fast(&self, peer: NodeId, alpn: Alpn) -> bool {
        let now_ms = self.opened.elapsed().as_millis() as u64;
        let buckets = if alpn == Alpn::Index { &self.index_rate } else { &self.rpc_rate };
        !buckets.lock().expect("no panic while counting").take(peer, 1, now_ms)
    }
}

/// Where a newcomer is, if it does not come through a relay.
fn address_of(arrival: &iroh::endpoint::Incoming) -> Option<IpAddr> {
    match arrival.remote_addr() {
        IncomingAddr::Ip(addr) => Some(addr.ip()),
        _ => None,
    }
}

/// The address that packets of a connection come from, once some have come directly.
async fn seen_at(connection: &Connection) -> Option<SocketAddr> {
    let mut changes = std::pin::pin!(connection.paths_stream());
    while let Some(paths) = changes.next().await {
        let direct = paths.iter().find_map(|path| match path.remote_addr() {
            TransportAddr::Ip(addr) => Some(*addr),
            _ => None,
        });
        if direct.is_some() {
            return direct;
        }
    }
    None
}

/// A stream that a peer opened.
struct Arrival {
    peer: NodeId,
    alpn: Alpn,
    send: SendStream,
    recv: RecvStream,
    hold: Hold,
    in_use: Arc<()>,
    connection: Connection,
}

/// Why a request is not here.
enum Unread {
    Refused(Refusal),
    Gone,
}

impl Arrival {
    fn refuse(mut self, refusal: Refusal) {
        self.say_no(refusal);
    }

    fn say_no(&mut self, refusal: Refusal) {
        let _ = self.recv.stop(refusal.code());
        let _ = self.send.reset(refusal.code());
    }

    async fn into_session(
        mut self,
        slot: Slot,
        limits: NetLimits,
        counters: Arc<Counters>,
        arrivals: mpsc::Sender<Incoming>,
    ) {
        let mut version = [0];
        match timeout(limits.message_timeout, self.recv.read_exact(&mut version)).await {
            Ok(Ok(())) if version[0] == SESSION_VERSION => {}
            Ok(_) => return self.refuse(Refusal::Protocol),
            Err(_) => {
                counters.stalled.one();
                return self.refuse(Refusal::Stalled);
            }
        }
        // The peer may have left again, which whoever takes the session will see.
        let _ = timeout(limits.message_timeout, self.send.write_all(&[SESSION_VERSION])).await;
        let Self { peer, send, recv, hold, in_use, connection, .. } = self;
        let shared = Shared { peer, counters, connection, doubt: None, _slot: Some(slot), _in_use: in_use };
        // Fails only when the network is closing, and the session with it.
        let _ = arrivals.send(Incoming::Work(Session::new((send, recv), &limits, Some(hold), shared))).await;
    }

    /// Answers where the peer's packets come from, with nothing if they only come through a relay.
    async fn into_mirror(self, patience: Duration) {
        // A connection may begin over the relay and be direct a moment later.
        let seen = timeout(MIRROR_WAIT, seen_at(&self.connection)).await.ok().flatten();
        let seen = seen.map(|addr| addr.to_string());
        let reply = ReplySender { stream: Some(self.send), patience, _hold: None, _in_use: self.in_use };
        // Fails only for a peer that has left again.
        let _ = reply.send(seen.unwrap_or_default().as_bytes()).await;
    }

    async fn into_request(mut self, limits: NetLimits, counters: Arc<Counters>, arrivals: mpsc::Sender<Incoming>) {
        let Some(request) = self.request(&limits, &counters).await else { return };
        counters.requests_received.one();
        let Self { peer, alpn, send, hold, in_use, .. } = self;
        let patience = limits.message_timeout;
        let reply = ReplySender { stream: Some(send), patience, _hold: Some(hold), _in_use: in_use };
        let incoming = match alpn {
            Alpn::Index => Incoming::Index { peer, request, reply },
            _ => Incoming::Rpc { peer, request, reply },
        };
        // Fails only when the network is closing, and the request with it.
        let _ = arrivals.send(incoming).await;
    }

    /// A request for content. The engine would set aside a mebibyte for each that has begun, for as long as the peer
    /// likes.
    async fn into_fetch(mut self, limits: NetLimits, counters: Arc<Counters>, blobs: Blobs) {
        let Some(request) = self.request(&limits, &counters).await else { return };
        blobs.answer(&self.connection, request, self.send).await;
    }

    /// All of a request, in time and within the limits; otherwise the peer is told why not.
    async fn request(&mut self, limits: &NetLimits, counters: &Counters) -> Option<Bytes> {
        let allowed = time_for(limits.request_bytes_max, limits.message_timeout);
        let read = timeout(allowed, self.read_whole(limits.request_bytes_max)).await;
        let refusal = match read.unwrap_or(Err(Unread::Refused(Refusal::Stalled))) {
            Ok(request) => return Some(request),
            Err(Unread::Gone) => return None,
            Err(Unread::Refused(refusal)) => refusal,
        };
        match refusal {
            Refusal::TooLarge => counters.too_large.one(),
            Refusal::Crowded => counters.crowded.one(),
            _ => counters.stalled.one(),
        }
        self.say_no(refusal);
        None
    }

    async fn read_whole(&mut self, bytes_max: usize) -> Result<Bytes, Unread> {
        let mut request = BytesMut::new();
        while let Some(chunk) = self.recv.read_chunk(READ_BYTES).await.map_err(|_: ReadError| Unread::Gone)? {
            if request.len() + chunk.len() > bytes_max {
                return Err(Unread::Refused(Refusal::TooLarge));
            }
            request.extend_from_slice(&chunk);
            self.hold.set(request.len()).map_err(Unread::Refused)?;
        }
        Ok(request.freeze())
    }
}
