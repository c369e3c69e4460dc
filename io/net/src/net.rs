//! The endpoint: one key, one set of sockets, connections by protocol and peer.
//!
//! Outgoing connections are kept and shared, one per peer and protocol ([`crate::pool`]). Incoming ones pass the
//! gate (room, admission), then their streams are read under the limits (`incoming`) and handed out by
//! [`Net::accept`].

mod incoming;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use glean_types::NodeId;
use iroh::endpoint::{PortmapperConfig, ReadExactError, ReadToEndError, presets};
use iroh::{Endpoint, RelayConfig, RelayMode, SecretKey, Watcher};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use self::incoming::{Incoming, ReplySender};
use crate::address::{AddressBook, ParsePeerError, PeerAddr, parse_relay};
use crate::blobs::{Blobs, BlobsAt};
use crate::errors::{BindError, Broken, RequestError};
use crate::gate::Gate;
use crate::limits::NetLimits;
use crate::pool::{Alpn, Doubt, NetPath, Pool, datagrams_from, transport_config};
use crate::session::{Session, Shared};
use crate::stats::{Counters, NetStats};
use crate::wire::{REPLY_OK, REPLY_REFUSED, Refusal, SESSION_VERSION, readable};

/// How long peers may take to acknowledge that we leave.
const GOODBYE: Duration = Duration::from_secs(1);
/// Peers whose addresses are remembered.
const ADDRESS_BOOK_PEERS: usize = 65_536;
/// An IPv6 address in brackets with scope and port.
const MIRROR_BYTES_MAX: usize = 64;

/// Whether a peer may speak a protocol with this node. A private network admits its members only.
pub type Admit = Arc<dyn Fn(NodeId, Alpn) -> bool + Send + Sync>;

/// What an endpoint is made of.
#[derive(Clone)]
pub struct NetConfig {
    /// The node's private key (ed25519).
    pub secret: [u8; 32],
    /// Where to listen: at most one IPv4 and one IPv6 address. Port 0 takes a free one; empty is all
    /// interfaces.
    pub bind: Vec<SocketAddr>,
    /// Relays to be reachable through; none means direct connections only.
    pub relays: Vec<String>,
    /// How much strangers may use.
    pub limits: NetLimits,
    /// Where content is kept, if any is kept or served.
    pub blobs: BlobsAt,
    /// Who is let in; without it, everyone within the limits.
    pub admit: Option<Admit>,
}

impl NetConfig {
    /// An endpoint with this key on all interfaces, with no relay and no content.
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            bind: Vec::new(),
            relays: Vec::new(),
            limits: NetLimits::default(),
            blobs: BlobsAt::Nowhere,
            admit: None,
        }
    }
}

impl fmt::Debug for NetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of logs.
        f.debug_struct("NetConfig")
            .field("bind", &self.bind)
            .field("relays", &self.relays)
            .field("limits", &self.limits)
            .field("blobs", &self.blobs)
            .finish_non_exhaustive()
    }
}

/// What peers began and nobody has taken yet. One queue for each protocol, so that a flood of questions
/// does not hold up the work.
struct Arrivals {
    work: mpsc::Receiver<Incoming>,
    rpc: mpsc::Receiver<Incoming>,
    index: mpsc::Receiver<Incoming>,
}

/// A node's place on the network. Cheap to clone; all clones are the same place.
#[derive(Clone)]
pub struct Net {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    endpoint: Endpoint,
    pool: Pool,
    limits: NetLimits,
    counters: Arc<Counters>,
    blobs: Option<Blobs>,
    arrivals: Mutex<Arrivals>,
    door: std::sync::Mutex<Option<JoinHandle<()>>>,
    /// Our address as the mirror showed it last.
    seen: Mutex<Option<SocketAddr>>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// The public key of a secret: who a node is, without starting it.
pub fn node_id(secret: &[u8; 32]) -> NodeId {
    NodeId(*SecretKey::from_bytes(secret).public().as_bytes())
}

impl Net {
    /// Opens the sockets and starts letting peers in.
    pub async fn bind(config: NetConfig) -> Result<Net, BindError> {
        let counters = Arc::new(Counters::default());
        let endpoint = bind_endpoint(&config).await?;
        let pool = Pool::new(endpoint.clone(), AddressBook::new(ADDRESS_BOOK_PEERS), &config.limits, counters.clone());
        let blobs = Blobs::open(&config.blobs, pool.clone(), &config.limits, counters.clone()).await;
        let blobs = match blobs {
            Ok(blobs) => blobs,
            Err(e) => {
                endpoint.close().await;
                return Err(BindError::Blobs(e));
            }
        };
        let backlog = config.limits.backlog_max.max(1);
        let (work_sender, work) = mpsc::channel(backlog);
        let (rpc_sender, rpc) = mpsc::channel(backlog);
        let (index_sender, index) = mpsc::channel(backlog);
        let door = incoming::Door {
            endpoint: endpoint.clone(),
            gate: Gate::new(&config.limits, counters.clone()),
            limits: config.limits.clone(),
            counters: counters.clone(),
            admit: config.admit,
            blobs: blobs.clone(),
            arrivals: incoming::Senders { work: work_sender, rpc: rpc_sender, index: index_sender },
        };
        let door = tokio::spawn(door.run());
        let inner = Inner {
            endpoint,
            pool,
            limits: config.limits,
            counters,
            blobs,
            arrivals: Mutex::new(Arrivals { work, rpc, index }),
            door: std::sync::Mutex::new(Some(door)),
            seen: Mutex::default(),
        };
        Ok(Net { inner: Arc::new(inner) })
    }

    /// This node's public key.
    pub fn id(&self) -> NodeId {
        NodeId(*self.inner.endpoint.id().as_bytes())
    }

    /// How this node can be reached, as far as it knows now.
    pub fn addr(&self) -> PeerAddr {
        PeerAddr::from_iroh(&self.inner.endpoint.addr())
    }

    /// Waits until one of the configured relays answers. Never returns while none does.
    pub async fn online(&self) {
        self.inner.endpoint.online().await;
    }

    /// Keeps a connection to one more relay, and is reached through it.
    pub async fn use_relay(&self, url: &str) -> Result<(), ParsePeerError> {
        let url = parse_relay(url)?;
        let config = Arc::new(RelayConfig::new(url.clone(), None));
        self.inner.endpoint.insert_relay(url, config).await;
        Ok(())
    }

    /// Asks a peer under which address it sees this node, and is reached under that one, too, from now on: behind a router it
    /// is none of our own. The peer is believed, so ask one that has nothing to win by a lie.
    pub async fn look_in_mirror(&self, peer: NodeId) -> Result<Option<SocketAddr>, RequestError> {
        let patience = self.inner.limits.dial_timeout;
        let answer = self.request(peer, Alpn::Mirror, &[], MIRROR_BYTES_MAX, patience).await?;
        let told: Option<SocketAddr> = std::str::from_utf8(&answer).ok().and_then(|text| text.parse().ok());
        let now = told.filter(|addr| !addr.ip().is_loopback());
        let mut seen = self.inner.seen.lock().await;
        if *seen != now {
            if let Some(old) = *seen {
                self.inner.endpoint.remove_external_addr(&old).await;
            }
            if let Some(new) = now {
                self.inner.endpoint.add_external_addr(new).await;
            }
            *seen = now;
        }
        Ok(now)
    }

    /// How the packets of our work sessions with a peer travel, if we have opened one.
    pub fn path(&self, peer: NodeId) -> Option<NetPath> {
        self.inner.pool.path(peer, Alpn::Work)
    }

    /// How many of the connections that we opened are direct, and how many relayed.
    pub fn paths(&self) -> (u64, u64) {
        self.inner.pool.paths()
    }

    /// Calls back whenever this node is reached under other addresses than before, until it is closed.
    pub async fn on_addr_change<F: Future<Output = ()>>(&self, mut changed: impl FnMut() -> F) {
        let mut addr = self.inner.endpoint.watch_addr();
        loop {
            tokio::select! {
                update = addr.updated() => match update {
                    Ok(_) => changed().await,
                    Err(_) => return,
                },
                () = self.inner.endpoint.closed() => return,
            }
        }
    }

    /// Remembers where a peer is. Whether it is really there shows when it is dialled.
    pub fn add_peer(&self, peer: PeerAddr) {
        self.inner.pool.book.add(peer);
    }

    /// The content this node keeps, if it was configured to keep any.
    pub fn blobs(&self) -> Option<&Blobs> {
        self.inner.blobs.as_ref()
    }

    /// A reading of the counters.
    pub fn stats(&self) -> NetStats {
        self.inner.counters.read()
    }

    /// The next session or request of a peer; nothing once the network is closed. May be given up at any
    /// point without losing one.
    pub async fn accept(&self) -> Option<Incoming> {
        let mut arrivals = self.inner.arrivals.lock().await;
        let Arrivals { work, rpc, index } = &mut *arrivals;
        tokio::select! {
            Some(incoming) = work.recv() => Some(incoming),
            Some(incoming) = rpc.recv() => Some(incoming),
            Some(incoming) = index.recv() => Some(incoming),
            else => None,
        }
    }

    /// Opens a work session. Returns once the peer has taken it.
    pub async fn open_work(&self, peer: NodeId) -> Result<Session, RequestError> {
        let patience = self.inner.limits.message_timeout;
        let opening = async {
            match self.greet(peer).await {
                Err(Unasked::Broken(Broken::Unused)) => self.greet(peer).await,
                session => session,
            }
        };
        match timeout(patience, opening).await {
            Ok(session) => session.map_err(RequestError::from),
            Err(_) => Err(RequestError::TimedOut { after_ms: patience.as_millis() as u64 }),
        }
    }

    async fn greet(&self, peer: NodeId) -> Result<Session, Unasked> {
        let connection = self.inner.pool.connect(peer, Alpn::Work).await.map_err(RequestError::from)?;
        let (mut send, mut recv) = connection.open_bi().await.map_err(Broken::from)?;
        send.write_all(&[SESSION_VERSION]).await.map_err(Broken::from)?;
        let mut version = [0];
        match recv.read_exact(&mut version).await {
            Ok(()) if version[0] == SESSION_VERSION => {}
            Err(ReadExactError::ReadError(e)) => return Err(Broken::from(e).into()),
            Ok(()) | Err(ReadExactError::FinishedEarly(_)) => {
                return Err(RequestError::Refused { reason: Refusal::Protocol.text().to_owned() }.into());
            }
        }
        let counters = self.inner.counters.clone();
        let doubt = Some(Doubt::new(self.inner.pool.clone(), Alpn::Work));
        let shared = Shared { peer, counters, connection, doubt, _slot: None, _in_use: Arc::default() };
        Ok(Session::new((send, recv), &self.inner.limits, None, shared))
    }

    /// One question and its answer of at most `answer_bytes_max`, within `patience` in all.
    pub async fn request(
        &self,
        peer: NodeId,
        alpn: Alpn,
        request: &[u8],
        answer_bytes_max: usize,
        patience: Duration,
    ) -> Result<Bytes, RequestError> {
        self.inner.counters.requests_made.one();
        let asking = async {
            match self.ask(peer, alpn, request, answer_bytes_max).await {
                Err(Unasked::Broken(Broken::Unused)) => self.ask(peer, alpn, request, answer_bytes_max).await,
                answer => answer,
            }
        };
        match timeout(patience, asking).await {
            Ok(answer) => answer.map_err(RequestError::from),
            Err(_) => Err(RequestError::TimedOut { after_ms: patience.as_millis() as u64 }),
        }
    }

    async fn ask(&self, peer: NodeId, alpn: Alpn, request: &[u8], answer_bytes_max: usize) -> Result<Bytes, Unasked> {
        let connection = self.inner.pool.connect(peer, alpn).await.map_err(RequestError::from)?;
        let heard = datagrams_from(&connection);
        let (mut send, mut recv) = connection.open_bi().await.map_err(Broken::from)?;
        send.write_all(request).await.map_err(Broken::from)?;
        // Fails only for a stream that the peer has already stopped, which the answer tells.
        let _ = send.finish();
        let read = tokio::select! {
            read = recv.read_to_end(answer_bytes_max.saturating_add(1)) => read,
            // Its peer was restarted and knows nothing of it: as if nobody had asked.
            () = self.inner.pool.dead(&connection, heard, peer, alpn) => return Err(Broken::Unused.into()),
        };
        let mut answer = match read {
            Ok(answer) => Bytes::from(answer),
            Err(ReadToEndError::Read(e)) => return Err(Broken::from(e).into()),
            Err(ReadToEndError::TooLong) => {
                let _ = recv.stop(Refusal::TooLarge.code());
                return Err(RequestError::TooLarge { limit: answer_bytes_max }.into());
            }
        };
        let refused = |reason| Err(RequestError::Refused { reason }.into());
        match answer.first() {
            Some(&REPLY_OK) => Ok(answer.split_off(1)),
            Some(&REPLY_REFUSED) => refused(readable(&answer[1..])),
            _ => refused(Refusal::Protocol.text().to_owned()),
        }
    }

    #[cfg(test)]
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// Says goodbye to all peers and closes the store. Without it peers wait for a timeout.
    pub async fn close(&self) {
        // A peer that is gone already does not answer the goodbye; the store must be closed all the same.
        let _ = tokio::time::timeout(GOODBYE, self.inner.endpoint.close()).await;
        let door = self.inner.door.lock().expect("no panic while taking").take();
        if let Some(door) = door {
            // The door ends by itself once the endpoint is closed; a panic in it has been reported there.
            let _ = door.await;
        }
        if let Some(blobs) = &self.inner.blobs {
            blobs.shutdown().await;
        }
    }
}

/// Why asking failed: for good, or in a way that may be worth a second try.
enum Unasked {
    Request(RequestError),
    Broken(Broken),
}

impl From<RequestError> for Unasked {
    fn from(e: RequestError) -> Self {
        Self::Request(e)
    }
}

impl From<Broken> for Unasked {
    fn from(e: Broken) -> Self {
        Self::Broken(e)
    }
}

impl From<Unasked> for RequestError {
    fn from(e: Unasked) -> Self {
        match e {
            Unasked::Request(e) => e,
            Unasked::Broken(e) => e.into(),
        }
    }
}

async fn bind_endpoint(config: &NetConfig) -> Result<Endpoint, BindError> {
    let listen_failed =
        |source: Box<dyn std::error::Error + Send + Sync>| BindError::Listen { addrs: config.bind.clone(), source };
    let mut relays = Vec::new();
    for url in &config.relays {
        let relay = parse_relay(url).map_err(|source| BindError::Relay { url: url.clone(), source })?;
        // It tells no addresses: a probe for that would only be waited for.
        relays.push(RelayConfig::new(relay, None));
    }
    // Only those that were named, now or later: never anybody's defaults.
    let relay_mode = RelayMode::Custom(relays.into_iter().collect());
    let mut builder = Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&config.secret))
        .alpns(Alpn::ALL.iter().map(|alpn| alpn.name().to_vec()).collect())
        .relay_mode(relay_mode)
        .portmapper_config(PortmapperConfig::Disabled)
        .transport_config(transport_config(&config.limits, config.limits.keep_alive));
    if !config.bind.is_empty() {
        builder = builder.clear_ip_transports();
    }
    for addr in &config.bind {
        builder = builder.bind_addr(*addr).map_err(|e| listen_failed(Box::new(e)))?;
    }
    builder.bind().await.map_err(|e| listen_failed(Box::new(e)))
}

#[cfg(test)]
mod tests;
