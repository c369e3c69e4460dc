//! A relay inside our own process, for peers that cannot reach each other directly.
//!
//! It passes on encrypted packets between keys and understands none of them; peers behind routers keep a
//! connection to it and are reachable under its URL. It speaks plain HTTP: on the open internet put it
//! behind a proxy with a certificate and name that in `public_url`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use glean_types::NodeId;
use iroh::EndpointId;
use iroh_relay::server::{
    Access, AccessControl, ClientRateLimit, ClientRequest, ConnectionId, RelayConfig as EngineConfig, Server,
    ServerConfig, SpawnError,
};

use crate::address::{ParsePeerError, parse_relay};

/// Whether a key may use the relay.
pub type RelayAdmit = Arc<dyn Fn(NodeId) -> bool + Send + Sync>;

/// What a relay is made of.
#[derive(Clone)]
pub struct RelayConfig {
    /// Where to listen (TCP). Port 0 takes a free one.
    pub bind: SocketAddr,
    /// Under which URL others reach it; without it, the address it listens on.
    pub public_url: Option<String>,
    /// One that listens on all addresses, and has no URL, names this one.
    pub shown: Option<IpAddr>,
    /// Connections in all.
    pub clients_max: usize,
    /// Connections of one key: a client that reconnects before its old connection is missed has two.
    pub clients_per_key_max: usize,
    /// Bytes per second taken from one client.
    pub client_bytes_per_second: Option<NonZeroU32>,
    /// Who may use it; without it, everyone within the limits.
    pub admit: Option<RelayAdmit>,
}

impl RelayConfig {
    /// A relay for everyone within sensible limits.
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind,
            public_url: None,
            shown: None,
            clients_max: 4096,
            clients_per_key_max: 4,
            client_bytes_per_second: NonZeroU32::new(16 << 20),
            admit: None,
        }
    }
}

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The address cannot be listened on.
    #[error("cannot start a relay on {bind}; hint: is the port taken?")]
    Listen {
        /// What was asked for.
        bind: SocketAddr,
        /// The cause.
        #[source]
        source: SpawnError,
    },
    /// Nobody could dial the address that was bound.
    #[error("a relay on {bind} needs a public URL; hint: give one such as http://relay.example:3340")]
    NoUrl {
        /// What was asked for.
        bind: SocketAddr,
    },
    /// The given URL is none.
    #[error("`{url}` is not a relay URL; hint: it looks like http://host:port")]
    Url {
        /// What was asked for.
        url: String,
        /// The cause.
        #[source]
        source: ParsePeerError,
    },
}

/// A running relay. Dropping it stops it.
#[derive(Debug)]
pub struct Relay {
    server: Server,
    url: String,
}

impl Relay {
    /// Starts a relay.
    pub async fn spawn(config: RelayConfig) -> Result<Relay, RelayError> {
        let bind = config.bind;
        if bind.ip().is_unspecified() && config.public_url.is_none() && config.shown.is_none() {
            return Err(RelayError::NoUrl { bind });
        }
        if let Some(url) = &config.public_url {
            parse_relay(url).map_err(|source| RelayError::Url { url: url.clone(), source })?;
        }
        let mut engine = EngineConfig::new(bind);
        engine.limits.client_rx = config.client_bytes_per_second.map(ClientRateLimit::new);
        let (public_url, shown) = (config.public_url.clone(), config.shown);
        engine.access = Arc::new(Porter { config, inside: Mutex::default() });
        let mut server_config = ServerConfig::default();
        server_config.relay = Some(engine);
        let server = Server::spawn(server_config).await.map_err(|source| RelayError::Listen { bind, source })?;
        let mut bound = server.http_addr().unwrap_or(bind);
        if let Some(shown) = shown.filter(|_| bound.ip().is_unspecified()) {
            bound.set_ip(shown);
        }
        let url = public_url.unwrap_or_else(|| format!("http://{bound}/"));
        Ok(Relay { server, url })
    }

    /// What peers put in [`NetConfig::relays`](crate::NetConfig::relays).
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the relay and closes its connections.
    pub async fn close(self) {
        if let Err(e) = self.server.shutdown().await {
            tracing::debug!("the relay did not stop cleanly: {e}");
        }
    }
}

/// Stands at the relay's door and counts.
struct Porter {
    config: RelayConfig,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    all: usize,
    by_key: BTreeMap<NodeId, usize>,
}

impl fmt::Debug for Porter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Porter").finish_non_exhaustive()
    }
}

impl Porter {
    fn enter(&self, key: NodeId) -> Result<(), &'static str> {
        if let Some(admit) = &self.config.admit
            && !admit(key)
        {
            return Err("this key is not admitted");
        }
        let mut inside = self.inside.lock().expect("no panic while counting");
        if inside.all >= self.config.clients_max {
            return Err("this relay is full");
        }
        let of_key = inside.by_key.get(&key).copied().unwrap_or(0);
        if of_key >= self.config.clients_per_key_max {
            return Err("too many connections of this key");
        }
        inside.by_key.insert(key, of_key + 1);
        inside.all += 1;
        Ok(())
    }

    fn leave(&self, key: NodeId) {
        let mut inside = self.inside.lock().expect("no panic while counting");
        inside.all = inside.all.saturating_sub(1);
        match inside.by_key.get_mut(&key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                inside.by_key.remove(&key);
            }
        }
    }
}

impl AccessControl for Porter {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        match self.enter(NodeId(*request.endpoint_id().as_bytes())) {
            Ok(()) => Access::Allow,
            Err(reason) => Access::Deny { reason: Some(reason.to_owned()) },
        }
    }

    fn on_disconnect(&self, endpoint_id: EndpointId, _connection_id: ConnectionId) {
        self.leave(NodeId(*endpoint_id.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use iroh::Watcher;

    use super::*;
    use crate::testing::{PATIENCE, config, echo, key_of, soon};
    use crate::{Alpn, Net, NetConfig, PeerAddr};

    fn on_loopback() -> RelayConfig {
        RelayConfig::new("127.0.0.1:0".parse().unwrap())
    }

    async fn behind(relay: &Relay, seed: u8) -> Net {
        Net::bind(NetConfig { relays: vec![relay.url().to_owned()], ..config(seed) }).await.unwrap()
    }

    #[tokio::test]
    async fn two_nodes_that_know_only_the_relay_talk_through_it() {
        let relay = Relay::spawn(on_loopback()).await.unwrap();
        let (a, b) = (behind(&relay, 1).await, behind(&relay, 2).await);
        echo(&b);
        soon(b.online()).await;
        let address = b.addr().relay_only();
        assert_eq!(address, PeerAddr { node: b.id(), direct: Vec::new(), relay: Some(relay.url().to_owned()) });
        let before = relay.server.metrics().server.send_packets_sent.get();
        a.add_peer(address);
        let answer = soon(a.request(b.id(), Alpn::Rpc, b"over there", 64, PATIENCE)).await.unwrap();
        assert_eq!(answer, b"over there"[..]);
        assert!(relay.server.metrics().server.send_packets_sent.get() > before, "the way led through the relay");
        soon(a.close()).await;
        soon(b.close()).await;
        soon(relay.close()).await;
    }

    #[tokio::test]
    async fn a_key_that_is_not_admitted_is_told_so() {
        let admit: RelayAdmit = Arc::new(|key| key == key_of(1));
        let relay = Relay::spawn(RelayConfig { admit: Some(admit), ..on_loopback() }).await.unwrap();
        let (member, stranger) = (behind(&relay, 1).await, behind(&relay, 2).await);
        soon(member.online()).await;
        let mut status = stranger.endpoint().home_relay_status();
        let reason = soon(async {
            loop {
                let denied = status.get().iter().find_map(|s| s.auth_denied_reason().map(str::to_owned));
                match denied {
                    Some(reason) => break reason,
                    None => status.updated().await.unwrap(),
                };
            }
        })
        .await;
        assert_eq!(reason, "this key is not admitted");
        soon(member.close()).await;
        soon(stranger.close()).await;
        soon(relay.close()).await;
    }

    #[test]
    fn the_porter_counts() {
        let config = RelayConfig { clients_max: 3, clients_per_key_max: 2, ..on_loopback() };
        let porter = Porter { config, inside: Mutex::default() };
        porter.enter(key_of(1)).unwrap();
        porter.enter(key_of(1)).unwrap();
        assert_eq!(porter.enter(key_of(1)), Err("too many connections of this key"));
        porter.enter(key_of(2)).unwrap();
        assert_eq!(porter.enter(key_of(3)), Err("this relay is full"));
        porter.leave(key_of(1));
        porter.enter(key_of(3)).unwrap();
        porter.leave(key_of(3));
        porter.enter(key_of(1)).unwrap();
    }

    #[tokio::test]
    async fn a_relay_that_nobody_could_dial_does_not_start() {
        let everywhere = RelayConfig::new("0.0.0.0:0".parse().unwrap());
        assert!(matches!(Relay::spawn(everywhere.clone()).await, Err(RelayError::NoUrl { .. })));
        let named = RelayConfig { public_url: Some("http://relay.example:3340".to_owned()), ..everywhere.clone() };
        assert_eq!(Relay::spawn(named).await.unwrap().url(), "http://relay.example:3340");
        let bad = RelayConfig { public_url: Some("relay".to_owned()), ..everywhere };
        assert!(matches!(Relay::spawn(bad).await, Err(RelayError::Url { .. })));
    }
}
