//! The index nodes: the shipped shelves, told and asked as a node's own `offers.rs` does, without the wires between.

use bytes::Bytes;
use glean_net::index::{Brought, Notice, Query, Shelf, ShelfLimits, asked_by_lot, keepers_of};
use glean_types::{Hash, NodeId, Offer, Signed, decode, encode};

/// All index nodes of a world.
pub struct Index {
    nodes: Vec<NodeId>,
    shelves: Vec<Shelf>,
}

impl Index {
    pub fn new(count: usize) -> Index {
        let nodes = (0..count).map(|n| NodeId(Hash::of(&encode(&("index", n as u64))).0)).collect();
        Index { nodes, shelves: (0..count).map(|_| Shelf::new(ShelfLimits::default())).collect() }
    }

    fn shelf(&mut self, node: &NodeId) -> &mut Shelf {
        let at = self.nodes.iter().position(|known| known == node).expect("one of the known index nodes");
        &mut self.shelves[at]
    }

    /// Tells the index nodes that keep this machine's offers. A full shelf turns it away, as in life.
    pub fn publish(&mut self, offer: &Signed<Offer>, now_ms: u64) {
        let (notice, bytes) = (Notice::of(&offer.paper, now_ms), Bytes::from(encode(offer)));
        for node in keepers_of(&notice.node, now_ms, &self.nodes) {
            let _ = self.shelf(&node).insert(notice.clone(), bytes.clone(), Brought::ByItself, now_ms);
        }
    }

    /// Asks a few index nodes by lot; an offer that several of them name is taken once.
    pub fn query(&mut self, class: Hash, lot: u64, now_ms: u64) -> Vec<Signed<Offer>> {
        let (asked, query) = (asked_by_lot(lot, &self.nodes), Query::sample(class, lot));
        let mut found: Vec<Bytes> = asked.iter().flat_map(|node| self.shelf(node).query(&query, now_ms)).collect();
        found.sort_unstable();
        found.dedup();
        found.iter().filter_map(|bytes| decode(bytes, bytes.len()).ok()).collect()
    }

    /// Offers kept by the one that keeps the most.
    pub fn shelf_len_max(&self) -> usize {
        self.shelves.iter().map(Shelf::len).max().unwrap_or(0)
    }
}
