//! Outgoing connections, one per peer and protocol.
//!
//! The first caller dials, the others wait for it, and a closed connection is replaced at the next use.
//!
//! A connection of which nothing is heard is the hard case. Its peer may be busy: a machine whose cores
//! are full of tasks can be silent for half a minute. Or its process was killed and started again, and
//! knows nothing of the connection. So silence makes a connection suspect, and a second handshake decides:
//! if the peer completes that and the old connection stays silent, the old one is dead and everything
//! waiting on it is told at once, instead of after [`NetLimits::silence_timeout`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use glean_types::NodeId;
use iroh::endpoint::{ConnectError, ConnectWithOptsError, Connection, WeakConnectionHandle};
use iroh::{Endpoint, EndpointAddr};
use tokio::time::timeout;

use crate::address::AddressBook;
use crate::errors::DialError;
use crate::limits::NetLimits;
use crate::stats::Counters;
use crate::wire::Refusal;

/// A peer that lives confirms a question within this, however long it thinks about the answer.
const DOUBT_AFTER: Duration = Duration::from_secs(1);
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
}

impl Alpn {
    pub(crate) const ALL: [Alpn; 4] = [Alpn::Work, Alpn::Index, Alpn::Rpc, Alpn::Blobs];

    /// The name that is agreed in the handshake.
    pub fn name(self) -> &'static [u8] {
        match self {
            Alpn::Work => b"glean-work/1",
            Alpn::Index => b"glean-index/1",
            Alpn::Rpc => b"glean-rpc/1",
            Alpn::Blobs => iroh_blobs::ALPN,
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
    dial_timeout: Duration,
    /// A connection that lives is heard of within this: two signs of life.
    heard_within: Duration,
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
        Self {
            endpoint,
            book: Arc::new(book),
            dial_timeout: limits.dial_timeout,
            heard_within: limits.keep_alive * 2,
            counters,
            lines: Arc::default(),
        }
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

    fn line(&self, peer: NodeId, alpn: Alpn) -> Arc<Line> {
        let mut lines = self.lines.lock().expect("no panic while looking");
        lines.entry((peer, alpn)).or_default().clone()
    }

    async fn dial(&self, peer: NodeId, alpn: Alpn) -> Result<Connection, DialError> {
        let addr = self.book.find(peer).to_iroh().map_err(|source| DialError::BadAddress { peer, source })?;
        let dialled = match timeout(self.dial_timeout, self.attempts(addr, alpn)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(e)) => Err(dial_error(peer, e)),
            Err(_) => Err(DialError::TimedOut { peer, after_ms: self.dial_timeout.as_millis() as u64 }),
        };
        match &dialled {
            Ok(_) => self.counters.connections_dialled.one(),
            Err(_) => self.counters.dials_failed.one(),
        }
        dialled
    }

    /// Dials again and again, each time with twice the patience: an attempt that met a closed port while the peer was
    /// starting does not notice when it is there.
    async fn attempts(&self, addr: EndpointAddr, alpn: Alpn) -> Result<Connection, ConnectError> {
        let mut patience = FIRST_ATTEMPT;
        loop {
            if let Ok(done) = timeout(patience, self.endpoint.connect(addr.clone(), alpn.name())).await {
                return done;
            }
            patience *= 2;
        }
    }

    /// Looks after a connection until it is closed.
    async fn watch(self, connection: WeakConnectionHandle, peer: NodeId, alpn: Alpn) {
        let mut closed = std::pin::pin!(connection.closed());
        let mut heard = 0;
        while timeout(self.heard_within, &mut closed).await.is_err() {
            let Some(suspect) = connection.upgrade() else { break };
            let now = datagrams_from(&suspect);
            if now == heard {
                self.examine(suspect, peer, alpn).await;
            } else {
                heard = now;
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
}

impl Doubt {
    pub(crate) fn new(pool: Pool, alpn: Alpn) -> Doubt {
        Doubt { pool, alpn, state: Arc::default() }
    }

    /// Something is being sent: a peer that lives says within [`DOUBT_AFTER`] that it came.
    pub(crate) fn arises(&self, connection: &Connection, peer: NodeId) {
        self.state.is_renewed.store(true, Ordering::Relaxed);
        if self.state.is_open.swap(true, Ordering::Relaxed) {
            return;
        }
        let (pool, alpn, state, connection) = (self.pool.clone(), self.alpn, self.state.clone(), connection.clone());
        tokio::spawn(async move {
            while state.is_renewed.swap(false, Ordering::Relaxed) && connection.close_reason().is_none() {
                let heard = datagrams_from(&connection);
                tokio::time::sleep(DOUBT_AFTER).await;
                if datagrams_from(&connection) == heard {
                    pool.examine(connection.clone(), peer, alpn).await;
                }
            }
            state.is_open.store(false, Ordering::Relaxed);
        });
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
