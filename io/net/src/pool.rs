//! Outgoing connections, one per peer and protocol.
//!
//! The first caller dials, the others wait for it, and a closed connection is replaced at the next use.
//!
//! A connection of which nothing is heard is the hard case. Its peer may be busy: a machine whose cores
//! are full of tasks can be silent for half a minute. Or its process was killed and started again, and
//! knows nothing of the connection. So silence makes a connection suspect, and a second handshake decides:
//! if the peer completes that and the old connection stays silent, the old one is dead and everything
//! waiting on it is told at once, instead of after [`NetLimits::silence_timeout`]. A connection whose path dies is given up
//! with it, though it may have another one: what was on its way can hang for as long as it lives.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use glean_types::NodeId;
use iroh::endpoint::{
    ConnectError, ConnectOptions, ConnectWithOptsError, Connection, IdleTimeout, PathEvent, QuicTransportConfig,
    VarInt, WeakConnectionHandle,
};
use iroh::{Endpoint, EndpointAddr};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::address::AddressBook;
use crate::errors::DialError;
use crate::limits::NetLimits;
use crate::stats::Counters;
use crate::wire::Refusal;

/// A peer that lives confirms a question within this, however long it thinks about the answer.
pub(crate) const DOUBT_AFTER: Duration = Duration::from_secs(1);
/// How long the first attempt of a dial may take: enough for a handshake across the world.
const FIRST_ATTEMPT: Duration = Duration::from_secs(1);

/// The protocols a node speaks. Each has its own connections, so that a flood on one cannot hold up
/// another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alpn {
    /// Long sessions between requester and provider.
    Work,
    /// Offers: published to and queried from index nodes.
    Index,
    /// One question, one answer: the ledger, status.
    Rpc,
    /// Content by its hash.
    Blobs,
    /// Under which address a peer sees us.
    Mirror,
}

/// How packets reach a peer now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetPath {
    /// From our socket to its own, through whatever routers.
    Direct,
    /// Through a relay that both keep a connection to.
    Relayed,
}

impl NetPath {
    fn of(connection: &Connection) -> Option<NetPath> {
        let paths = connection.paths();
        let used = paths.iter().find(|path| path.is_selected())?;
        Some(if used.is_relay() { NetPath::Relayed } else { NetPath::Direct })
    }
}

impl Alpn {
    pub(crate) const ALL: [Alpn; 5] = [Alpn::Work, Alpn::Index, Alpn::Rpc, Alpn::Blobs, Alpn::Mirror];

    /// The name that is agreed in the handshake.
    pub fn name(self) -> &'static [u8] {
        match self {
            Alpn::Work => b"glean-work/1",
            Alpn::Index => b"glean-index/1",
            Alpn::Rpc => b"glean-rpc/1",
            Alpn::Blobs => iroh_blobs::ALPN,
            Alpn::Mirror => b"glean-mirror/1",
        }
    }

    pub(crate) fn of(name: &[u8]) -> Option<Alpn> {
        Self::ALL.into_iter().find(|alpn| alpn.name() == name)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Pool {
    endpoint: Endpoint,
    pub(crate) book: Arc<AddressBook>,
    /// What every connection that we dial is given; its signs of life are told apart by [`Pool::keep_alive`].
    limits: NetLimits,
    counters: Arc<Counters>,
    lines: Arc<Mutex<Lines>>,
}

type Lines = BTreeMap<(NodeId, Alpn), Arc<Line>>;

/// The way to one peer: its connection, and a queue of those who wait for it.
#[derive(Debug, Default)]
struct Line {
    live: Mutex<Option<Connection>>,
    dialling: tokio::sync::Mutex<()>,
}

impl Line {
    fn live(&self) -> Option<Connection> {
        let live = self.live.lock().expect("no panic while looking");
        live.as_ref().filter(|connection| connection.close_reason().is_none()).cloned()
    }

    fn set(&self, connection: Connection) {
        *self.live.lock().expect("no panic while setting") = Some(connection);
    }
}

impl Pool {
    pub(crate) fn new(endpoint: Endpoint, book: AddressBook, limits: &NetLimits, counters: Arc<Counters>) -> Self {
        Self { endpoint, book: Arc::new(book), limits: limits.clone(), counters, lines: Arc::default() }
    }

    /// The live connection to a peer, dialled if there is none.
    pub(crate) async fn connect(&self, peer: NodeId, alpn: Alpn) -> Result<Connection, DialError> {
        let line = self.line(peer, alpn);
        if let Some(connection) = line.live() {
            return Ok(connection);
        }
        let _turn = line.dialling.lock().await;
        if let Some(connection) = line.live() {
            return Ok(connection);
        }
        let dialled = self.dial(peer, alpn).await;
        match &dialled {
            Ok(connection) => {
                line.set(connection.clone());
                tokio::spawn(self.clone().watch(connection.weak_handle(), peer, alpn));
            }
            Err(_) => self.forget(peer, alpn),
        }
        dialled
    }

    /// How the packets of the live connection to a peer travel, if there is one.
    pub(crate) fn path(&self, peer: NodeId, alpn: Alpn) -> Option<NetPath> {
        let live = self.lines.lock().expect("no panic while looking").get(&(peer, alpn))?.live()?;
        NetPath::of(&live)
    }

    /// How many live connections that we dialled are direct, and how many are relayed.
    pub(crate) fn paths(&self) -> (u64, u64) {
        let lines: Vec<_> = self.lines.lock().expect("no panic while looking").values().cloned().collect();
        let paths: Vec<NetPath> = lines.iter().filter_map(|line| NetPath::of(&line.live()?)).collect();
        let relayed = paths.iter().filter(|path| **path == NetPath::Relayed).count();
        ((paths.len() - relayed) as u64, relayed as u64)
    }

    fn line(&self, peer: NodeId, alpn: Alpn) -> Arc<Line> {
        let mut lines = self.lines.lock().expect("no panic while looking");
        lines.entry((peer, alpn)).or_default().clone()
    }

    async fn dial(&self, peer: NodeId, alpn: Alpn) -> Result<Connection, DialError> {
        let dial_timeout = self.limits.dial_timeout;
        let dialled = match timeout(dial_timeout, self.attempts(peer, alpn)).await {
            Ok(dialled) => dialled,
            Err(_) => Err(DialError::TimedOut { peer, after_ms: dial_timeout.as_millis() as u64 }),
        };
        match &dialled {
            Ok(connection) => {
                self.counters.connections_dialled.one();
                connection.set_receive_window(VarInt::from_u32(self.limits.unread_bytes_max));
            }
            Err(_) => self.counters.dials_failed.one(),
        }
        dialled
    }

    /// Dials again and again, each time with twice the patience: an attempt that met a closed port while the peer was
    /// starting does not notice when it is there. Each takes the newest address: a peer that has just started may be told of
    /// before it has its relay.
    async fn attempts(&self, peer: NodeId, alpn: Alpn) -> Result<Connection, DialError> {
        let mut patience = FIRST_ATTEMPT;
        loop {
            let addr = self.book.find(peer).to_iroh().map_err(|source| DialError::BadAddress { peer, source })?;
            if let Ok(done) = timeout(patience, self.attempt(addr, alpn)).await {
                return done.map_err(|e| dial_error(peer, e));
            }
            patience *= 2;
        }
    }

    async fn attempt(&self, addr: EndpointAddr, alpn: Alpn) -> Result<Connection, ConnectError> {
        let transport = transport_config(&self.limits, self.keep_alive(alpn));
        let options = ConnectOptions::new().with_transport_config(transport);
        Ok(self.endpoint.connect_with_opts(addr, alpn.name(), options).await?.await?)
    }

    /// How often a connection that we dialled shows that it lives.
    fn keep_alive(&self, alpn: Alpn) -> Duration {
        match alpn {
            Alpn::Work => self.limits.keep_alive_at_work,
            Alpn::Index | Alpn::Rpc | Alpn::Blobs | Alpn::Mirror => self.limits.keep_alive,
        }
    }

    /// Looks after a connection until it is closed. One that lives is heard of at least every other time.
    async fn watch(self, connection: WeakConnectionHandle, peer: NodeId, alpn: Alpn) {
        let mut closed = std::pin::pin!(async {
            tokio::select! {
                _ = connection.closed() => {}
                () = give_up_with_path(&connection) => {}
            }
        });
        let (mut heard, mut silences) = (0, 0);
        while timeout(self.keep_alive(alpn), &mut closed).await.is_err() {
            let Some(suspect) = connection.upgrade() else { break };
            let now = datagrams_from(&suspect);
            silences = if now == heard { silences + 1 } else { 0 };
            heard = now;
            if silences >= 2 {
                self.examine(suspect, peer, alpn).await;
            }
        }
        self.forget(peer, alpn);
    }

    /// Returns once a connection has proven dead: nothing came on it since `heard`, not even word that our question arrived,
    /// and its peer answers elsewhere. Never returns otherwise.
    pub(crate) async fn dead(&self, connection: &Connection, heard: u64, peer: NodeId, alpn: Alpn) {
        tokio::time::sleep(DOUBT_AFTER).await;
        if datagrams_from(connection) == heard && self.examine(connection.clone(), peer, alpn).await {
            return;
        }
        std::future::pending().await
    }

    /// Ends a silent connection if its peer answers elsewhere; whether it did.
    async fn examine(&self, suspect: Connection, peer: NodeId, alpn: Alpn) -> bool {
        let before = datagrams_from(&suspect);
        // No answer means that the peer is away or busy; that is for the silence timeout to decide.
        let Ok(fresh) = self.dial(peer, alpn).await else { return false };
        let is_dead = datagrams_from(&suspect) == before;
        if is_dead {
            tracing::debug!(peer = %peer.short(), "a silent connection is given up: the peer answers on a new one");
            suspect.close(Refusal::Silent.code(), Refusal::Silent.text().as_bytes());
        }
        // The next use dials again, which is rare enough not to hand this one over.
        fresh.close(Refusal::Closed.code(), Refusal::Closed.text().as_bytes());
        is_dead
    }

    /// Removes a line that leads nowhere. One that was redialled in the meantime stays.
    fn forget(&self, peer: NodeId, alpn: Alpn) {
        let mut lines = self.lines.lock().expect("no panic while looking");
        if lines.get(&(peer, alpn)).is_some_and(|line| line.live().is_none()) {
            lines.remove(&(peer, alpn));
        }
    }
}

/// The question, after something was sent on a connection, whether its peer still knows it.
#[derive(Debug)]
pub(crate) struct Doubt {
    pool: Pool,
    alpn: Alpn,
    state: Arc<DoubtState>,
}

#[derive(Debug, Default)]
struct DoubtState {
    /// Somebody is waiting for a sign of life.
    is_open: AtomicBool,
    /// Something was sent since that wait began.
    is_renewed: AtomicBool,
    /// What had been heard when something was sent last: word that it came must be more.
    heard: AtomicU64,
}

impl Doubt {
    pub(crate) fn new(pool: Pool, alpn: Alpn) -> Doubt {
        Doubt { pool, alpn, state: Arc::default() }
    }

    /// Something is being sent: a peer that lives says within [`DOUBT_AFTER`] that it came.
    pub(crate) fn arises(&self, connection: &Connection, peer: NodeId) {
        self.state.heard.store(datagrams_from(connection), Ordering::Relaxed);
        self.state.is_renewed.store(true, Ordering::Relaxed);
        if self.state.is_open.swap(true, Ordering::Relaxed) {
            return;
        }
        let (pool, alpn, state, connection) = (self.pool.clone(), self.alpn, self.state.clone(), connection.clone());
        tokio::spawn(async move {
            while state.is_renewed.swap(false, Ordering::Relaxed) && connection.close_reason().is_none() {
                let heard = state.heard.load(Ordering::Relaxed);
                tokio::time::sleep(DOUBT_AFTER).await;
                if datagrams_from(&connection) == heard {
                    pool.examine(connection.clone(), peer, alpn).await;
                }
            }
            state.is_open.store(false, Ordering::Relaxed);
        });
    }
}

/// Returns once the path that a connection's packets took is closed: one that died, for a path is no longer in use when it is
/// closed for a better one. What was on its way may stay lost although the connection lives on over other paths: the
/// transport waits with sending it again until the peer has closed that path, too.
async fn path_lost(connection: &WeakConnectionHandle) {
    let Some(strong) = connection.upgrade() else { return std::future::pending().await };
    let mut events = strong.path_events();
    let mut used = strong.paths().iter().find(|path| path.is_selected()).map(|path| path.id());
    drop(strong);
    while let Some(event) = events.next().await {
        match event {
            PathEvent::Selected { id, .. } => used = Some(id),
            PathEvent::Closed { id, .. } if used == Some(id) => return,
            _ => {}
        }
    }
    std::future::pending().await
}

async fn give_up_with_path(connection: &WeakConnectionHandle) {
    path_lost(connection).await;
    // A peer that says goodbye closes its paths, too, and shall be heard.
    tokio::time::sleep(DOUBT_AFTER).await;
    if let Some(connection) = connection.upgrade() {
        tracing::debug!("a connection is given up with the path that it used");
        connection.close(Refusal::Silent.code(), Refusal::Silent.text().as_bytes());
    }
}

/// Datagrams that have come in on a connection.
pub(crate) fn datagrams_from(connection: &Connection) -> u64 {
    connection.stats().udp_rx.datagrams
}

fn dial_error(peer: NodeId, e: ConnectError) -> DialError {
    match e {
        ConnectError::Connect { source: ConnectWithOptsError::SelfConnect { .. }, .. } => DialError::ToSelf,
        ConnectError::Connect { source: ConnectWithOptsError::EndpointClosed { .. }, .. } => DialError::Closed,
        ConnectError::Connect { source: ConnectWithOptsError::NoAddress { .. }, .. } => DialError::NoAddress { peer },
        other => DialError::Unreachable { peer, source: Arc::new(other) },
    }
}

/// Windows of single streams stay at the transport's default: larger ones break connections that lose
/// packets ("too many gaps in stream buffer"). A long fat path is filled by several streams.
pub(crate) fn transport_config(limits: &NetLimits, keep_alive: Duration) -> QuicTransportConfig {
    let silence = IdleTimeout::try_from(limits.silence_timeout).unwrap_or(VarInt::MAX.into());
    QuicTransportConfig::builder()
        .max_idle_timeout(Some(silence))
        .keep_alive_interval(keep_alive)
        .default_path_keep_alive_interval(keep_alive)
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams_per_connection_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        // Of connections that peers open; `Pool` opens our own ones further.
        .receive_window(VarInt::from_u32(limits.unread_bytes_incoming_max))
        .datagram_receive_buffer_size(None)
        .build()
}
