//! The shelf of offers an index node keeps, and who keeps which. No network and no clock in here.
//!
//! An index node is a notice board, not a market: it keeps signed offers until they expire and hands out
//! those that match. It cannot forge an offer, only omit one, so offers go to several index nodes chosen
//! by [`index_nodes_for`], and requesters ask several.
//!
//! What must stay true:
//!
//! 1. Only validated offers are kept, each until it expires or its owner replaces it by a later one.
//! 2. A node that was dialled under its own key is believed about itself before anyone else is: what
//!    others say about it never displaces what it said itself.
//! 3. One node takes up at most [`ShelfLimits::offers_per_node_max`] places, and a full shelf turns
//!    newcomers away, so a stranger's flood displaces nobody.
//! 4. Answers are a fair sample of what matches, and not the "best": whoever offers for nothing does not
//!    crowd out the others.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use glean_types::{Amount, Hash, NodeId, params};
use serde::{Deserialize, Serialize};

/// Most index nodes an offer is sent to.
pub const INDEX_NODES_MAX: usize = 5;

/// What validation found in an offer: the part of it that a query can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The machine to dial.
    pub node: NodeId,
    /// Who signed, as the validator names it. A machine may be offered by several accounts, and one
    /// account must not replace what another signed.
    pub signer: [u8; 20],
    /// A later offer of the same node and signer replaces an earlier one.
    pub seq: u64,
    /// When it stops standing: its life from when we heard it, for its owner's clock need not agree with ours.
    pub expires_ms: u64,
    /// Determinism class of the machine's engine.
    pub class: Hash,
    /// gUSD for 10^9 fuel.
    pub price_per_gfuel: Amount,
    /// Largest guest memory, bytes.
    pub mem_max: u64,
    /// Idle slots.
    pub slots_free: u32,
}

/// What a requester looks for. Everything left out matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Only machines of this class.
    pub class: Option<Hash>,
    /// Only up to this price.
    pub price_per_gfuel_max: Option<Amount>,
    /// Only machines that give a task this much memory.
    pub mem_min: u64,
    /// Only machines with this many idle slots.
    pub slots_free_min: u32,
    /// How many offers are wanted.
    pub offers_max: u16,
    /// Which sample of the matching offers: another seed gives others.
    pub seed: u64,
}

impl Query {
    fn matches(&self, notice: &Notice) -> bool {
        self.class.is_none_or(|class| notice.class == class)
            && self.price_per_gfuel_max.is_none_or(|max| notice.price_per_gfuel <= max)
            && notice.mem_max >= self.mem_min
            && notice.slots_free >= self.slots_free_min
    }
}

/// How much a shelf holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShelfLimits {
    /// Offers in all.
    pub offers_max: usize,
    /// Offers for one machine, by whomever.
    pub offers_per_node_max: usize,
    /// Bytes of one offer.
    pub offer_bytes_max: usize,
    /// Offers in one answer.
    pub answer_offers_max: usize,
    /// Bytes of the offers in one answer.
    pub answer_bytes_max: usize,
    /// How long an offer may stand from now.
    pub ttl_ms_max: u64,
}

impl Default for ShelfLimits {
    fn default() -> Self {
        Self {
            offers_max: 16_384,
            offers_per_node_max: 4,
            offer_bytes_max: 2048,
            answer_offers_max: 256,
            answer_bytes_max: 256 << 10,
            ttl_ms_max: u64::from(params::OFFER_TTL_MS_MAX),
        }
    }
}

/// Why an offer is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// Over its time, or it claims to stand too long.
    #[error("the offer has expired or stands too long")]
    Expired,
    /// A later one is here already.
    #[error("a later offer of this machine is known")]
    Old,
    /// More bytes than an offer has.
    #[error("the offer is too large")]
    TooLarge,
    /// The machine takes up its share.
    #[error("too many offers for this machine")]
    NodeFull,
    /// The shelf is full.
    #[error("this index is full")]
    Full,
}

/// Who brought an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Brought {
    /// Another index node.
    ByNeighbour,
    /// The machine itself, under its own key.
    ByItself,
}

/// The offers one index node keeps.
#[derive(Debug)]
pub struct Shelf {
    limits: ShelfLimits,
    offers: BTreeMap<(NodeId, [u8; 20]), Kept>,
    /// When what expires; each offer once.
    expiries: BTreeSet<(u64, NodeId, [u8; 20])>,
}

#[derive(Debug)]
struct Kept {
    notice: Notice,
    brought: Brought,
    bytes: Bytes,
}

impl Shelf {
    /// An empty shelf.
    pub fn new(limits: ShelfLimits) -> Self {
        Self { limits, offers: BTreeMap::new(), expiries: BTreeSet::new() }
    }

    /// How many offers are kept, expired ones that nobody asked for since included.
    pub fn len(&self) -> usize {
        self.offers.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.offers.is_empty()
    }

    /// All that is kept.
    pub fn offers(&self) -> Vec<Bytes> {
        self.offers.values().map(|kept| kept.bytes.clone()).collect()
    }

    /// Keeps a validated offer.
    pub fn insert(&mut self, notice: Notice, bytes: Bytes, brought: Brought, now_ms: u64) -> Result<(), NotKept> {
        self.expire(now_ms);
        let latest_ms = now_ms.saturating_add(self.limits.ttl_ms_max);
        if notice.expires_ms <= now_ms || notice.expires_ms > latest_ms {
            return Err(NotKept::Expired);
        }
        if bytes.len() > self.limits.offer_bytes_max {
            return Err(NotKept::TooLarge);
        }
        let key = (notice.node, notice.signer);
        match self.offers.get(&key) {
            Some(kept) if (kept.brought, kept.notice.seq) >= (brought, notice.seq) => return Err(NotKept::Old),
            Some(_) => {}
            None => self.make_room(notice.node, brought)?,
        }
        self.remove(key);
        self.expiries.insert((notice.expires_ms, key.0, key.1));
        self.offers.insert(key, Kept { notice, brought, bytes });
        Ok(())
    }

    /// A fair sample of the offers that match.
    pub fn query(&mut self, query: &Query, now_ms: u64) -> Vec<Bytes> {
        self.expire(now_ms);
        let wanted = usize::from(query.offers_max).min(self.limits.answer_offers_max);
        let matching = self.offers.iter().filter(|(_, kept)| query.matches(&kept.notice));
        let mut drawn: Vec<_> = matching.map(|(key, kept)| (lot(query.seed, key), &kept.bytes)).collect();
        drawn.sort_unstable_by_key(|(lot, _)| *lot);
        let mut room = self.limits.answer_bytes_max;
        let fits = |bytes: &&Bytes| match room.checked_sub(bytes.len()) {
            Some(left) => {
                room = left;
                true
            }
            None => false,
        };
        drawn.into_iter().map(|(_, bytes)| bytes).take(wanted).take_while(fits).cloned().collect()
    }

    fn make_room(&mut self, node: NodeId, brought: Brought) -> Result<(), NotKept> {
        let first = (node, [0; 20]);
        let last = (node, [0xff; 20]);
        if self.offers.range(first..=last).count() >= self.limits.offers_per_node_max {
            // What others said about a machine gives way to what it says itself.
            let hearsay = self.offers.range(first..=last).find(|(_, kept)| kept.brought < brought);
            let key = hearsay.map(|(key, _)| *key).ok_or(NotKept::NodeFull)?;
            self.remove(key);
        }
        if self.offers.len() >= self.limits.offers_max {
            return Err(NotKept::Full);
        }
        Ok(())
    }

    fn expire(&mut self, now_ms: u64) {
        while let Some(&(expires_ms, node, signer)) = self.expiries.first() {
            if expires_ms > now_ms {
                break;
            }
            self.remove((node, signer));
        }
    }

    fn remove(&mut self, key: (NodeId, [u8; 20])) {
        if let Some(kept) = self.offers.remove(&key) {
            self.expiries.remove(&(kept.notice.expires_ms, key.0, key.1));
        }
    }
}

/// An offer's place in a draw that its owner cannot foresee.
fn lot(seed: u64, key: &(NodeId, [u8; 20])) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("gleaner 2026 offer draw");
    hasher.update(&seed.to_le_bytes()).update(&key.0.0).update(&key.1);
    *hasher.finalize().as_bytes()
}

/// Which of the known index nodes keep the offers of a topic (a machine class, a region) in an epoch.
///
/// Highest hash of topic, epoch and node wins, so both sides compute the same few nodes without asking
/// anyone, a node that joins or leaves moves only its own share, and who keeps what changes with time.
pub fn index_nodes_for(topic: &[u8], epoch: u64, known: &[NodeId], count: usize) -> Vec<NodeId> {
    let mut ranked: Vec<_> = known.iter().map(|node| (weight(topic, epoch, node), *node)).collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.into_iter().rev().map(|(_, node)| node).take(count.min(INDEX_NODES_MAX)).collect()
}

fn weight(topic: &[u8], epoch: u64, node: &NodeId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("gleaner 2026 index rendezvous");
    hasher.update(&epoch.to_le_bytes()).update(&node.0).update(topic);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    fn price(units: u128) -> Amount {
        Amount::from_units(units).unwrap()
    }

    fn notice(node: u8, signer: u8, seq: u64) -> Notice {
        Notice {
            node: NodeId([node; 32]),
            signer: [signer; 20],
            seq,
            expires_ms: 10 * MINUTE,
            class: Hash([0; 32]),
            price_per_gfuel: price(100),
            mem_max: 1 << 30,
            slots_free: 2,
        }
    }

    fn bytes(notice: &Notice) -> Bytes {
        Bytes::from(format!("{} {} {}", notice.node.0[0], notice.signer[0], notice.seq))
    }

    fn put(shelf: &mut Shelf, notice: Notice, brought: Brought) -> Result<(), NotKept> {
        let bytes = bytes(&notice);
        shelf.insert(notice, bytes, brought, 0)
    }

    fn all() -> Query {
        Query { offers_max: u16::MAX, ..Query::default() }
    }

    fn texts(mut found: Vec<Bytes>) -> Vec<String> {
        found.sort_unstable();
        found.into_iter().map(|b| String::from_utf8(b.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_later_offer_replaces_and_an_earlier_one_does_not() {
        let mut shelf = Shelf::new(ShelfLimits::default());
        put(&mut shelf, notice(1, 1, 5), Brought::ByItself).unwrap();
        assert_eq!(put(&mut shelf, notice(1, 1, 5), Brought::ByItself), Err(NotKept::Old));
        assert_eq!(put(&mut shelf, notice(1, 1, 4), Brought::ByItself), Err(NotKept::Old));
        put(&mut shelf, notice(1, 1, 6), Brought::ByItself).unwrap();
        assert_eq!(texts(shelf.query(&all(), 0)), ["1 1 6"]);
    }

    #[test]
    fn what_a_machine_says_itself_is_not_displaced_by_hearsay() {
        let mut shelf = Shelf::new(ShelfLimits { offers_per_node_max: 2, ..ShelfLimits::default() });
        put(&mut shelf, notice(1, 1, 1), Brought::ByItself).unwrap();
        assert_eq!(put(&mut shelf, notice(1, 1, 9), Brought::ByNeighbour), Err(NotKept::Old));
        put(&mut shelf, notice(1, 2, 1), Brought::ByNeighbour).unwrap();
        assert_eq!(put(&mut shelf, notice(1, 3, 1), Brought::ByNeighbour), Err(NotKept::NodeFull));
        put(&mut shelf, notice(1, 4, 1), Brought::ByItself).unwrap();
        assert_eq!(texts(shelf.query(&all(), 0)), ["1 1 1", "1 4 1"]);
        assert_eq!(put(&mut shelf, notice(1, 5, 1), Brought::ByItself), Err(NotKept::NodeFull));
    }

    #[test]
    fn a_full_shelf_turns_newcomers_away_and_time_makes_room() {
        let mut shelf = Shelf::new(ShelfLimits { offers_max: 2, ..ShelfLimits::default() });
        put(&mut shelf, notice(1, 1, 1), Brought::ByItself).unwrap();
        let longer = Notice { expires_ms: 12 * MINUTE, ..notice(2, 1, 1) };
        put(&mut shelf, longer, Brought::ByItself).unwrap();
        assert_eq!(put(&mut shelf, notice(3, 1, 1), Brought::ByItself), Err(NotKept::Full));
        put(&mut shelf, notice(1, 1, 2), Brought::ByItself).expect("those inside go on");
        assert_eq!(texts(shelf.query(&all(), 10 * MINUTE - 1)), ["1 1 2", "2 1 1"]);
        assert_eq!(texts(shelf.query(&all(), 10 * MINUTE)), ["2 1 1"]);
        let later = Notice { expires_ms: 20 * MINUTE, ..notice(3, 1, 1) };
        shelf.insert(later.clone(), bytes(&later), Brought::ByItself, 10 * MINUTE).unwrap();
        assert_eq!(shelf.len(), 2);
    }

    #[test]
    fn times_and_sizes_are_bounded() {
        let mut shelf = Shelf::new(ShelfLimits::default());
        let forever = Notice { expires_ms: u64::MAX, ..notice(1, 1, 1) };
        assert_eq!(put(&mut shelf, forever, Brought::ByItself), Err(NotKept::Expired));
        let past = Notice { expires_ms: 0, ..notice(1, 1, 1) };
        assert_eq!(put(&mut shelf, past, Brought::ByItself), Err(NotKept::Expired));
        let large = Bytes::from(vec![0; 2049]);
        assert_eq!(shelf.insert(notice(1, 1, 1), large, Brought::ByItself, 0), Err(NotKept::TooLarge));
        assert!(shelf.is_empty() && shelf.expiries.is_empty());
    }

    #[test]
    fn a_query_finds_what_matches() {
        let mut shelf = Shelf::new(ShelfLimits::default());
        put(&mut shelf, notice(1, 1, 1), Brought::ByItself).unwrap();
        put(&mut shelf, Notice { price_per_gfuel: price(300), ..notice(2, 1, 1) }, Brought::ByItself).unwrap();
        put(&mut shelf, Notice { slots_free: 0, ..notice(3, 1, 1) }, Brought::ByItself).unwrap();
        put(&mut shelf, Notice { mem_max: 1, ..notice(4, 1, 1) }, Brought::ByItself).unwrap();
        put(&mut shelf, Notice { class: Hash([7; 32]), ..notice(5, 1, 1) }, Brought::ByItself).unwrap();
        let mut find = |query| texts(shelf.query(&query, 0));
        assert_eq!(find(Query { price_per_gfuel_max: Some(price(299)), ..all() }).len(), 4);
        assert_eq!(find(Query { slots_free_min: 1, mem_min: 2, ..all() }), ["1 1 1", "2 1 1", "5 1 1"]);
        assert_eq!(find(Query { class: Some(Hash([7; 32])), ..all() }), ["5 1 1"]);
    }

    #[test]
    fn an_answer_is_a_fair_sample_within_bounds() {
        let mut shelf = Shelf::new(ShelfLimits { answer_bytes_max: 100, ..ShelfLimits::default() });
        for node in 0..40 {
            let price_per_gfuel = price(u128::from(node));
            put(&mut shelf, Notice { price_per_gfuel, ..notice(node, 1, 1) }, Brought::ByItself).unwrap();
        }
        assert!(shelf.query(&all(), 0).iter().map(Bytes::len).sum::<usize>() <= 100);
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let found = shelf.query(&Query { offers_max: 4, seed, ..all() }, 0);
            assert_eq!(found.len(), 4);
            seen.extend(found);
        }
        assert_eq!(seen.len(), 40, "every machine is found sooner or later");
    }

    #[test]
    fn both_sides_choose_the_same_index_nodes_and_a_leaver_moves_only_its_share() {
        let known: Vec<_> = (0..50).map(|i| NodeId([i; 32])).collect();
        let chosen = index_nodes_for(b"class", 3, &known, 3);
        let mut shuffled = known.clone();
        shuffled.reverse();
        shuffled.extend_from_slice(&known);
        assert_eq!(index_nodes_for(b"class", 3, &shuffled, 3), chosen);
        assert_ne!(index_nodes_for(b"class", 4, &known, 3), chosen, "the set changes with the epoch");
        let without: Vec<_> = known.iter().copied().filter(|n| *n != chosen[1]).collect();
        let after = index_nodes_for(b"class", 3, &without, 3);
        assert_eq!((after[0], after[1]), (chosen[0], chosen[2]));
        assert_eq!(index_nodes_for(b"class", 3, &known[..2], 5).len(), 2);
        assert_eq!(index_nodes_for(b"class", 3, &known, 50).len(), INDEX_NODES_MAX);
    }
}
