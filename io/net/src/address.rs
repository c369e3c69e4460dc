//! Where a node can be reached: its key, the addresses it listens on, its relay.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Mutex;

use glean_types::NodeId;
use iroh::{EndpointAddr, EndpointId, RelayUrl, TransportAddr};
use serde::{Deserialize, Serialize};

use crate::text;

/// More addresses than any machine of ours listens on.
const DIRECT_MAX: usize = 16;
const RELAY_URL_BYTES_MAX: usize = 256;
const PEER_BYTES_MAX: usize = 1024;
const PREFIX: &str = "peer";

/// A node's key and how to reach it. Printed as one word: `peer1...`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerAddr {
    /// Who answers there, or nobody does.
    pub node: NodeId,
    /// UDP addresses it may be listening on, the likeliest first.
    pub direct: Vec<SocketAddr>,
    /// The relay it keeps a connection to.
    pub relay: Option<String>,
}

/// Why a text or some bytes are not a peer address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePeerError {
    /// Not one word of ours.
    #[error("not a peer address: {0}")]
    Text(#[from] text::TextError),
    /// Bytes that are no peer address.
    #[error("not a peer address: {0}")]
    Decode(#[from] glean_types::DecodeError),
    /// The key is not a point on the curve.
    #[error("not a peer address: the node id is not a public key")]
    Key,
    /// More or longer addresses than allowed.
    #[error("not a peer address: too many or too long addresses")]
    TooMany,
    /// The relay is not a URL.
    #[error("not a peer address: the relay is not a URL")]
    Relay,
}

impl PeerAddr {
    /// A peer of which only the key is known.
    pub fn of(node: NodeId) -> Self {
        Self { node, direct: Vec::new(), relay: None }
    }

    /// The same peer, reachable only through its relay.
    pub fn relay_only(&self) -> Self {
        Self { node: self.node, direct: Vec::new(), relay: self.relay.clone() }
    }

    /// Whether a stranger's address may be kept and dialled.
    pub fn check(&self) -> Result<(), ParsePeerError> {
        self.to_iroh().map(|_| ())
    }

    /// Reads the postcard form, with limits.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ParsePeerError> {
        let peer: Self = glean_types::decode(bytes, PEER_BYTES_MAX)?;
        peer.check()?;
        Ok(peer)
    }

    pub(crate) fn to_iroh(&self) -> Result<EndpointAddr, ParsePeerError> {
        let id = EndpointId::from_bytes(&self.node.0).map_err(|_| ParsePeerError::Key)?;
        let relay_bytes = self.relay.as_ref().map_or(0, String::len);
        if self.direct.len() > DIRECT_MAX || relay_bytes > RELAY_URL_BYTES_MAX {
            return Err(ParsePeerError::TooMany);
        }
        let mut addrs: Vec<_> = self.direct.iter().copied().map(TransportAddr::Ip).collect();
        if let Some(relay) = &self.relay {
            addrs.push(TransportAddr::Relay(parse_relay(relay)?));
        }
        Ok(EndpointAddr::from_parts(id, addrs))
    }

    pub(crate) fn from_iroh(addr: &EndpointAddr) -> Self {
        Self {
            node: NodeId(*addr.id.as_bytes()),
            direct: addr.ip_addrs().copied().take(DIRECT_MAX).collect(),
            relay: addr.relay_urls().next().map(|url| url.to_string()),
        }
    }
}

pub(crate) fn parse_relay(url: &str) -> Result<RelayUrl, ParsePeerError> {
    url.parse().map_err(|_| ParsePeerError::Relay)
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::encode(PREFIX, &glean_types::encode(self)))
    }
}

impl FromStr for PeerAddr {
    type Err = ParsePeerError;

    fn from_str(s: &str) -> Result<Self, ParsePeerError> {
        Self::from_bytes(&text::decode(PREFIX, s, PEER_BYTES_MAX)?)
    }
}

/// The addresses we were told, for as many peers as we have room for.
///
/// Addresses come in with offers, so a stranger can add entries; the one not touched for longest goes
/// first, and a peer in use is touched at every dial.
#[derive(Debug)]
pub struct AddressBook {
    peers_max: usize,
    inner: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    peers: BTreeMap<NodeId, (PeerAddr, u64)>,
    touched: BTreeMap<u64, NodeId>,
    clock: u64,
}

impl AddressBook {
    /// An empty book with room for `peers_max`.
    pub fn new(peers_max: usize) -> Self {
        Self { peers_max, inner: Mutex::default() }
    }

    /// Remembers a peer; what was known about it before is replaced.
    pub fn add(&self, peer: PeerAddr) {
        let mut pages = self.inner.lock().expect("no panic while the book is open");
        pages.touch(peer);
        while pages.peers.len() > self.peers_max {
            let Some((_, oldest)) = pages.touched.pop_first() else { break };
            pages.peers.remove(&oldest);
        }
    }

    /// Remembers where a peer may be, on somebody else's word: nothing that is known is replaced by it.
    pub fn suggest(&self, peer: PeerAddr) {
        let is_known = self.inner.lock().expect("no panic while the book is open").peers.contains_key(&peer.node);
        if !is_known && (!peer.direct.is_empty() || peer.relay.is_some()) {
            self.add(peer);
        }
    }

    /// What is known about a peer: at least its key.
    pub fn find(&self, node: NodeId) -> PeerAddr {
        let mut pages = self.inner.lock().expect("no panic while the book is open");
        match pages.peers.get(&node).map(|(peer, _)| peer.clone()) {
            Some(peer) => {
                pages.touch(peer.clone());
                peer
            }
            None => PeerAddr::of(node),
        }
    }
}

impl Pages {
    fn touch(&mut self, peer: PeerAddr) {
        self.clock += 1;
        let (node, now) = (peer.node, self.clock);
        if let Some((_, before)) = self.peers.insert(node, (peer, now)) {
            self.touched.remove(&before);
        }
        self.touched.insert(now, node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerAddr {
        let key = iroh::SecretKey::from_bytes(&[seed; 32]).public();
        PeerAddr {
            node: NodeId(*key.as_bytes()),
            direct: vec!["192.0.2.7:4433".parse().unwrap(), "[2001:db8::1]:4433".parse().unwrap()],
            relay: Some("http://192.0.2.9:3340/".to_owned()),
        }
    }

    #[test]
    fn a_suggestion_replaces_nothing_that_is_known() {
        let book = AddressBook::new(8);
        let elsewhere = |seed| PeerAddr { direct: vec!["203.0.113.1:1".parse().unwrap()], ..peer(seed) };
        book.suggest(elsewhere(1));
        assert_eq!(book.find(peer(1).node), elsewhere(1));
        book.add(peer(2));
        book.suggest(elsewhere(2));
        book.suggest(PeerAddr::of(peer(2).node));
        assert_eq!(book.find(peer(2).node), peer(2));
        book.suggest(PeerAddr::of(peer(3).node));
        book.add(peer(3));
        assert_eq!(book.find(peer(3).node), peer(3));
    }

    #[test]
    fn an_address_is_one_word() {
        let peer = peer(1);
        let word = peer.to_string();
        assert!(word.starts_with("peer1") && !word.contains(char::is_whitespace), "{word}");
        assert_eq!(word.parse::<PeerAddr>().unwrap(), peer);
        assert_eq!(PeerAddr::from_iroh(&peer.to_iroh().unwrap()), peer);
    }

    #[test]
    fn foreign_addresses_are_bounded() {
        let mut many = peer(1);
        many.direct = vec!["192.0.2.7:1".parse().unwrap(); DIRECT_MAX + 1];
        assert_eq!(PeerAddr::from_bytes(&glean_types::encode(&many)), Err(ParsePeerError::TooMany));
        let mut junk = peer(1);
        junk.relay = Some("no url".to_owned());
        assert_eq!(junk.to_string().parse::<PeerAddr>(), Err(ParsePeerError::Relay));
        let mut off_curve = peer(1);
        off_curve.node = NodeId([2; 32]);
        assert_eq!(PeerAddr::from_bytes(&glean_types::encode(&off_curve)), Err(ParsePeerError::Key));
    }

    #[test]
    fn a_full_book_forgets_whom_nobody_asked_for() {
        let book = AddressBook::new(2);
        book.add(peer(1));
        book.add(peer(2));
        assert_eq!(book.find(peer(1).node), peer(1));
        book.add(peer(3));
        assert_eq!(book.find(peer(1).node), peer(1));
        assert_eq!(book.find(peer(2).node), PeerAddr::of(peer(2).node));
        assert_eq!(book.find(peer(3).node), peer(3));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), flip in 0usize..100) {
            let _ = PeerAddr::from_bytes(&bytes);
            let mut almost = glean_types::encode(&peer(1));
            let at = flip % almost.len();
            almost[at] ^= bytes.first().copied().unwrap_or(1);
            if let Ok(read) = PeerAddr::from_bytes(&almost) {
                proptest::prop_assert_eq!(PeerAddr::from_bytes(&glean_types::encode(&read)), Ok(read));
            }
        }
    }
}
