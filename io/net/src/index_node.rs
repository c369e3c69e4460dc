//! Offers on the wire: keeping them for others, publishing ours, asking for those of others.
//!
//! An index node takes an offer in this order: has this peer asked too often, is it junk, does it belong
//! on the shelf, and only then do its neighbours hear of it. Junk costs the sender far more of its
//! allowance than a good offer. Neighbours are the other index nodes this one was told of; what they
//! bring is validated like everything else and goes no further, so nothing goes round in circles.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use glean_types::{Domain, NodeId, Offer, Signed, decode, encode};
use serde::{Deserialize, Serialize};

use crate::address::PeerAddr;
use crate::bucket::{Buckets, Rate};
use crate::errors::RequestError;
use crate::index::{Brought, NotKept, Notice, Query, Shelf, ShelfLimits};
use crate::net::{Net, ReplySender};
use crate::pool::Alpn;

const ASK_BYTES_MAX: usize = 16 << 10;
const ANSWER_BYTES_MAX: usize = 512 << 10;
/// What junk costs, in good messages.
const JUNK_COST: u32 = 20;
/// How long one index node may take; the others have answered by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells what an offer says, or why it is none. The second argument is the time, Unix milliseconds.
pub type Validate = Arc<dyn Fn(&[u8], u64) -> Result<Notice, String> + Send + Sync>;

/// What is asked on the index protocol.
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    /// Keep this offer of mine.
    Publish(Vec<u8>),
    /// Keep this offer that I keep.
    Forward(Vec<u8>),
    /// Offers that match.
    Find(Query),
}

/// Settings of an index node.
#[derive(Debug, Clone)]
pub struct IndexConfig {
    /// How much it keeps.
    pub shelf: ShelfLimits,
    /// How often a peer may ask.
    pub peer_rate: Rate,
    /// How often a neighbour may.
    pub neighbour_rate: Rate,
    /// The other index nodes.
    pub neighbours: Vec<NodeId>,
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            shelf: ShelfLimits::default(),
            peer_rate: Rate { per_second: 5, burst: 100 },
            neighbour_rate: Rate { per_second: 500, burst: 5_000 },
            neighbours: Vec::new(),
        }
    }
}

/// Peers that may be active at the same time.
const PEERS_MAX: usize = 65_536;

/// A node's part as an index node.
pub struct IndexNode {
    validate: Validate,
    neighbours: Vec<NodeId>,
    desk: Mutex<Desk>,
}

struct Desk {
    shelf: Shelf,
    peers: Buckets,
    neighbours: Buckets,
}

/// What an index node does with a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Reaction {
    /// The answer, or why there is none.
    pub answer: Result<Vec<u8>, String>,
    /// What the neighbours should hear.
    pub forward: Option<Vec<u8>>,
}

impl IndexNode {
    /// An index node with an empty shelf.
    pub fn new(config: IndexConfig, validate: Validate) -> Self {
        let desk = Desk {
            shelf: Shelf::new(config.shelf),
            peers: Buckets::new(config.peer_rate, PEERS_MAX),
            neighbours: Buckets::new(config.neighbour_rate, config.neighbours.len()),
        };
        Self { validate, neighbours: config.neighbours, desk: Mutex::new(desk) }
    }

    /// How many offers are kept.
    pub fn len(&self) -> usize {
        self.desk().shelf.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All offers that are kept, to be put back after a restart.
    pub fn offers(&self) -> Vec<Bytes> {
        self.desk().shelf.offers()
    }

    /// Puts offers of an earlier life back, each validated as if a stranger had brought it. Returns how many are kept.
    pub fn put_back(&self, offers: Vec<Bytes>, now_ms: u64) -> usize {
        for offer in offers {
            if let Ok(notice) = (self.validate)(&offer, now_ms) {
                // What is too much today was not promised to anybody.
                let _ = self.desk().shelf.insert(notice, offer, Brought::ByItself, now_ms);
            }
        }
        self.len()
    }

    /// Answers one message of a peer and passes on what the neighbours should hear.
    pub async fn serve(&self, net: &Net, peer: NodeId, request: &[u8], reply: ReplySender, now_ms: u64) {
        let reaction = self.on_message(peer, request, now_ms);
        // A peer that left does not miss its answer, and a neighbour that is away hears of the offer when
        // it is renewed.
        let _ = match &reaction.answer {
            Ok(answer) => reply.send(answer).await,
            Err(reason) => reply.refuse(reason).await,
        };
        if let Some(message) = reaction.forward {
            let others = self.neighbours.iter().filter(|neighbour| **neighbour != peer);
            join_all(others.map(|to| net.request(*to, Alpn::Index, &message, 0, PATIENCE))).await;
        }
    }

    /// The same without the network.
    pub fn on_message(&self, peer: NodeId, message: &[u8], now_ms: u64) -> Reaction {
        let is_neighbour = self.neighbours.contains(&peer);
        if !self.desk().buckets(is_neighbour).take(peer, 1, now_ms) {
            return Reaction::refusal("too many messages; slow down");
        }
        match decode::<Ask>(message, ASK_BYTES_MAX) {
            Ok(Ask::Find(query)) => {
                let found: Vec<Bytes> = self.desk().shelf.query(&query, now_ms);
                Reaction { answer: Ok(encode(&found)), forward: None }
            }
            Ok(Ask::Publish(offer)) => self.on_offer(peer, is_neighbour, offer, Brought::ByItself, now_ms),
            Ok(Ask::Forward(offer)) if is_neighbour => self.on_offer(peer, true, offer, Brought::ByNeighbour, now_ms),
            Ok(Ask::Forward(_)) => self.junk(peer, is_neighbour, "not a neighbour of this index", now_ms),
            Err(e) => self.junk(peer, is_neighbour, &e.to_string(), now_ms),
        }
    }

    /// Keeps an offer of this very node, which cannot dial itself. Why not, if not.
    pub fn keep(&self, node: NodeId, offer: Vec<u8>, now_ms: u64) -> Result<(), String> {
        self.on_offer(node, false, offer, Brought::ByItself, now_ms).answer.map(drop)
    }

    /// The offers that match, asked by this very node.
    pub fn find(&self, query: &Query, now_ms: u64) -> Vec<Bytes> {
        self.desk().shelf.query(query, now_ms)
    }

    fn on_offer(&self, peer: NodeId, is_neighbour: bool, offer: Vec<u8>, brought: Brought, now_ms: u64) -> Reaction {
        // Outside the lock: a signature takes longer to check than all the rest.
        let notice = match (self.validate)(&offer, now_ms) {
            Ok(notice) => notice,
            Err(reason) => return self.junk(peer, is_neighbour, &reason, now_ms),
        };
        if brought == Brought::ByItself && notice.node != peer {
            return self.junk(peer, is_neighbour, "the offer is for another machine", now_ms);
        }
        let bytes = Bytes::from(offer);
        match self.desk().shelf.insert(notice, bytes.clone(), brought, now_ms) {
            Ok(()) => Reaction {
                answer: Ok(Vec::new()),
                forward: (brought == Brought::ByItself).then(|| encode(&Ask::Forward(bytes.to_vec()))),
            },
            // A neighbour cannot know what we have heard already.
            Err(NotKept::Old) if brought == Brought::ByNeighbour => Reaction { answer: Ok(Vec::new()), forward: None },
            Err(e) => Reaction::refusal(&e.to_string()),
        }
    }

    fn junk(&self, peer: NodeId, is_neighbour: bool, reason: &str, now_ms: u64) -> Reaction {
        self.desk().buckets(is_neighbour).fine(peer, JUNK_COST, now_ms);
        Reaction::refusal(reason)
    }

    fn desk(&self) -> std::sync::MutexGuard<'_, Desk> {
        self.desk.lock().expect("no panic at the desk")
    }
}

impl Desk {
    fn buckets(&mut self, is_neighbour: bool) -> &mut Buckets {
        if is_neighbour { &mut self.neighbours } else { &mut self.peers }
    }
}

impl Reaction {
    fn refusal(reason: &str) -> Self {
        Self { answer: Err(reason.to_owned()), forward: None }
    }
}

/// Validation of the network's own offers: signed, sane, in time, and for a machine that can be dialled.
pub fn validate_offers(domain: Domain) -> Validate {
    Arc::new(move |bytes, now_ms| {
        let offer: Signed<Offer> = decode(bytes, ASK_BYTES_MAX).map_err(|e| e.to_string())?;
        let signer = offer.signer(&domain).map_err(|e| e.to_string())?;
        let offer = offer.paper;
        if signer != offer.provider {
            return Err("the offer is not signed by whom it pays".to_owned());
        }
        if !offer.is_sane() || !offer.is_current(now_ms) {
            return Err("the offer is out of bounds or has expired".to_owned());
        }
        let address = PeerAddr::from_bytes(&offer.peer).map_err(|e| e.to_string())?;
        if address.node != offer.node {
            return Err("the offer's address is of another machine".to_owned());
        }
        Ok(Notice::of(&offer, now_ms))
    })
}

/// Why index nodes did not give an answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// No index node is known.
    #[error("no index node is known; hint: join a network first")]
    NoIndex,
    /// None of them answered or took the offer.
    #[error("none of the {} index nodes answered; the last: {}", tried.len(), tried.last().map_or_else(String::new, |(_, e)| e.to_string()))]
    AllFailed {
        /// Each index node and what it said.
        tried: Vec<(NodeId, RequestError)>,
    },
}

/// Sends an offer to index nodes; fine if at least one took it. Returns how many did.
pub async fn publish(net: &Net, index_nodes: &[NodeId], offer: &[u8]) -> Result<usize, IndexError> {
    let message = encode(&Ask::Publish(offer.to_vec()));
    let (taken, tried) = ask_all(net, index_nodes, &message).await?;
    if taken.is_empty() { Err(IndexError::AllFailed { tried }) } else { Ok(taken.len()) }
}

/// Asks several index nodes for offers and keeps the latest valid one of each machine and signer, so that
/// one honest index node among them is enough.
pub async fn query(
    net: &Net,
    index_nodes: &[NodeId],
    query: &Query,
    validate: &Validate,
    now_ms: u64,
) -> Result<Vec<(Notice, Bytes)>, IndexError> {
    let (answers, tried) = ask_all(net, index_nodes, &encode(&Ask::Find(query.clone()))).await?;
    if answers.is_empty() {
        return Err(IndexError::AllFailed { tried });
    }
    let mut latest: BTreeMap<(NodeId, [u8; 20]), (Notice, Bytes)> = BTreeMap::new();
    for answer in answers {
        let Ok(offers) = decode::<Vec<Bytes>>(&answer, ANSWER_BYTES_MAX) else { continue };
        for offer in offers {
            let Ok(notice) = validate(&offer, now_ms) else { continue };
            let key = (notice.node, notice.signer);
            if latest.get(&key).is_none_or(|(known, _)| known.seq < notice.seq) {
                latest.insert(key, (notice, offer));
            }
        }
    }
    Ok(latest.into_values().collect())
}

type Failures = Vec<(NodeId, RequestError)>;

async fn ask_all(net: &Net, index_nodes: &[NodeId], message: &[u8]) -> Result<(Vec<Bytes>, Failures), IndexError> {
    if index_nodes.is_empty() {
        return Err(IndexError::NoIndex);
    }
    let asking = index_nodes
        .iter()
        .map(|node| async { (*node, net.request(*node, Alpn::Index, message, ANSWER_BYTES_MAX, PATIENCE).await) });
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    for (node, answer) in join_all(asking).await {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(e) => failures.push((node, e)),
        }
    }
    Ok((answers, failures))
}

#[cfg(test)]
mod tests;
