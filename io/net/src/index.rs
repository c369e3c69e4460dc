//! The shelf of offers an index node keeps, and who keeps which. No network and no clock in here.
//!
//! An index node is a notice board, not a market: it keeps signed offers until they expire and hands out
//! those that match. It cannot forge an offer, only omit one, so offers go to several index nodes chosen
//! by [`keepers_of`], and requesters ask several.
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
//! 5. An answer costs the same whether a thousand machines are on the shelf or a million: offers lie in racks
//!    by class and memory, are drawn there by lot, and at most [`ShelfLimits::looks_max`] are looked at. So what
//!    very few offers have may be missed; another seed looks at others.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use glean_types::{Amount, Hash, NodeId, Offer, params};
use serde::{Deserialize, Serialize};

/// Most index nodes that are asked at once.
const INDEX_NODES_MAX: usize = 5;
/// Index nodes that keep the same offer: one honest one among them is enough.
const OFFER_COPIES: usize = 3;
/// How long the same index nodes keep an offer, milliseconds: who keeps whom cannot be arranged for long.
const INDEX_EPOCH_MS: u64 = 3_600_000;
/// Offers asked for in one query: plenty for one job, little enough for one message.
const SAMPLE_MAX: u16 = 256;

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

impl Notice {
    /// What a valid offer says to whoever hears it now.
    pub fn of(offer: &Offer, now_ms: u64) -> Notice {
        Notice {
            node: offer.node,
            signer: offer.provider.into(),
            seq: offer.seq,
            expires_ms: now_ms.saturating_add(offer.ttl_ms.into()),
            class: offer.class,
            price_per_gfuel: offer.price_per_gfuel,
            mem_max: offer.mem_max,
            slots_free: offer.slots_free,
        }
    }

    fn key(&self) -> Key {
        (self.node, self.signer)
    }

    /// Where it lies: by class, and by the power of two that its memory reaches.
    fn rack(&self) -> Rack {
        (self.class, self.mem_max.checked_ilog2().unwrap_or(0))
    }
}

/// An offer's machine and signer.
type Key = (NodeId, [u8; 20]);
type Rack = (Hash, u32);

/// What a requester looks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Only machines of this class: no others can be checked against each other.
    pub class: Hash,
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
    /// Any machines of a class, by lot.
    pub fn sample(class: Hash, lot: u64) -> Query {
        Query { class, offers_max: SAMPLE_MAX, seed: lot, ..Query::default() }
    }

    fn matches(&self, notice: &Notice) -> bool {
        self.price_per_gfuel_max.is_none_or(|max| notice.price_per_gfuel <= max)
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
    /// Offers looked at for one answer.
    pub looks_max: usize,
    /// How long an offer may stand from now.
    pub ttl_ms_max: u64,
}

impl Default for ShelfLimits {
    fn default() -> Self {
        Self {
            offers_max: 65_536,
            offers_per_node_max: 4,
            offer_bytes_max: 2048,
            answer_offers_max: 256,
            answer_bytes_max: 256 << 10,
            looks_max: 4_096,
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
    racks: BTreeMap<Rack, Vec<Kept>>,
    /// Where each offer lies.
    places: BTreeMap<Key, (Rack, usize)>,
    /// When what expires; each offer once.
    expiries: BTreeSet<(u64, Key)>,
}

#[derive(Debug)]
struct Kept {
    notice: Notice,
    brought: Brought,
    bytes: Bytes,
}

/// An answer, and what it took to find.
#[derive(Debug, Default)]
struct Found {
    offers: Vec<Bytes>,
    looks: usize,
}

impl Shelf {
    /// An empty shelf.
    pub fn new(limits: ShelfLimits) -> Self {
        Self { limits, racks: BTreeMap::new(), places: BTreeMap::new(), expiries: BTreeSet::new() }
    }

    /// How many offers are kept, expired ones that nobody asked for since included.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All that is kept.
    pub fn offers(&self) -> Vec<Bytes> {
        self.racks.values().flatten().map(|kept| kept.bytes.clone()).collect()
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
        let key = notice.key();
        match self.get(&key) {
            Some(kept) if (kept.brought, kept.notice.seq) >= (brought, notice.seq) => return Err(NotKept::Old),
            Some(_) => {}
            None => self.make_room(notice.node, brought)?,
        }
        self.remove(key);
        self.expiries.insert((notice.expires_ms, key));
        let rack = self.racks.entry(notice.rack()).or_default();
        self.places.insert(key, (notice.rack(), rack.len()));
        rack.push(Kept { notice, brought, bytes });
        Ok(())
    }

    /// A fair sample of the offers that match.
    pub fn query(&mut self, query: &Query, now_ms: u64) -> Vec<Bytes> {
        self.expire(now_ms);
        self.draw(query).offers
    }

    /// Draws offers by lot, each at most once, until there are enough.
    fn draw(&self, query: &Query) -> Found {
        let wanted = usize::from(query.offers_max).min(self.limits.answer_offers_max);
        // One rack per power of two, so never more than 64.
        let least = (query.class, query.mem_min.checked_ilog2().unwrap_or(0));
        let racks: Vec<&[Kept]> =
            self.racks.range(least..=(query.class, u32::MAX)).map(|(_, rack)| rack.as_slice()).collect();
        let mut lots = Lots::new(query.seed, racks.iter().map(|rack| rack.len()).sum());
        let (mut found, mut room) = (Found::default(), self.limits.answer_bytes_max);
        while found.offers.len() < wanted && found.looks < self.limits.looks_max {
            let Some(lot) = lots.next() else { break };
            found.looks += 1;
            let kept = nth(&racks, lot);
            if !query.matches(&kept.notice) {
                continue;
            }
            let Some(left) = room.checked_sub(kept.bytes.len()) else { break };
            room = left;
            found.offers.push(kept.bytes.clone());
        }
        found
    }

    fn get(&self, key: &Key) -> Option<&Kept> {
        let (rack, at) = self.places.get(key)?;
        self.racks.get(rack)?.get(*at)
    }

    fn make_room(&mut self, node: NodeId, brought: Brought) -> Result<(), NotKept> {
        let of_node: Vec<Key> = self.places.range((node, [0; 20])..=(node, [0xff; 20])).map(|(key, _)| *key).collect();
        if of_node.len() >= self.limits.offers_per_node_max {
            // What others said about a machine gives way to what it says itself.
            let is_hearsay = |key: &&Key| self.get(key).is_some_and(|kept| kept.brought < brought);
            let key = of_node.iter().find(is_hearsay).ok_or(NotKept::NodeFull)?;
            self.remove(*key);
        }
        if self.len() >= self.limits.offers_max {
            return Err(NotKept::Full);
        }
        Ok(())
    }

    fn expire(&mut self, now_ms: u64) {
        while let Some(&(expires_ms, key)) = self.expiries.first() {
            if expires_ms > now_ms {
                break;
            }
            self.remove(key);
        }
    }

    /// Takes an offer away; the last of its rack takes its place.
    fn remove(&mut self, key: Key) {
        let Some((name, at)) = self.places.remove(&key) else { return };
        let rack = self.racks.get_mut(&name).expect("an offer's place is in a rack");
        let kept = rack.swap_remove(at);
        self.expiries.remove(&(kept.notice.expires_ms, key));
        if let Some(moved) = rack.get(at) {
            self.places.insert(moved.notice.key(), (name, at));
        }
        if rack.is_empty() {
            self.racks.remove(&name);
        }
    }
}

fn nth<'a>(racks: &[&'a [Kept]], mut n: usize) -> &'a Kept {
    for rack in racks {
        match rack.get(n) {
            Some(kept) => return kept,
            None => n -= rack.len(),
        }
    }
    unreachable!("lots are drawn below the length of all racks")
}

/// The numbers below `count` in an order that follows from a seed, each once; what is not asked for costs nothing.
/// (Fisher and Yates' shuffle, of which only the places that differ from their number are kept.)
struct Lots {
    chance: blake3::OutputReader,
    drawn: usize,
    count: usize,
    moved: BTreeMap<usize, usize>,
}

impl Lots {
    fn new(seed: u64, count: usize) -> Lots {
        let mut hasher = blake3::Hasher::new_derive_key("gleaner 2026 offer draw");
        Lots { chance: hasher.update(&seed.to_le_bytes()).finalize_xof(), drawn: 0, count, moved: BTreeMap::new() }
    }
}

impl Iterator for Lots {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let left = (self.count - self.drawn) as u64;
        let mut bytes = [0; 8];
        self.chance.fill(&mut bytes);
        // Uniform but for one part in 2^44 at a million offers.
        let at = self.drawn + u64::from_le_bytes(bytes).checked_rem(left)? as usize;
        let first = self.moved.remove(&self.drawn).unwrap_or(self.drawn);
        self.drawn += 1;
        if at + 1 == self.drawn { Some(first) } else { Some(self.moved.insert(at, first).unwrap_or(at)) }
    }
}

/// The index nodes that keep a machine's offers now. The load is spread evenly however many machines there are.
pub fn keepers_of(machine: &NodeId, now_ms: u64, known: &[NodeId]) -> Vec<NodeId> {
    choose(&machine.0, now_ms / INDEX_EPOCH_MS, known, OFFER_COPIES)
}

/// The index nodes that a lot falls on: whoever asks them has a fair sample of all machines.
pub fn asked_by_lot(lot: u64, known: &[NodeId]) -> Vec<NodeId> {
    choose(&lot.to_le_bytes(), 0, known, INDEX_NODES_MAX)
}

/// Some of the known index nodes for a topic in an epoch.
///
/// Highest hash of topic, epoch and node wins, so both sides compute the same few nodes without asking
/// anyone, a node that joins or leaves moves only its own share, and who keeps what changes with time.
fn choose(topic: &[u8], epoch: u64, known: &[NodeId], count: usize) -> Vec<NodeId> {
    let mut ranked: Vec<_> = known.iter().map(|node| (weight(topic, epoch, node), *node)).collect();
    ranked.sort_unstable();
    ranked.dedup();
    ranked.into_iter().rev().map(|(_, node)| node).take(count).collect()
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
        assert_eq!(find(Query { price_per_gfuel_max: Some(price(299)), ..all() }).len(), 3);
        assert_eq!(find(Query { slots_free_min: 1, mem_min: 2, ..all() }), ["1 1 1", "2 1 1"]);
        assert_eq!(find(Query { class: Hash([7; 32]), ..all() }), ["5 1 1"]);
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

    /// A shelf of so many machines, of which one in a hundred has much memory.
    fn shelf_of(machines: u32) -> Shelf {
        let mut shelf = Shelf::new(ShelfLimits { offers_max: usize::MAX, ..ShelfLimits::default() });
        for n in 0..machines {
            let mem_max = if n % 100 == 0 { 1 << 36 } else { 1 << 30 };
            let node = NodeId(*blake3::hash(&n.to_le_bytes()).as_bytes());
            put(&mut shelf, Notice { node, mem_max, ..notice(0, 1, 1) }, Brought::ByItself).unwrap();
        }
        shelf
    }

    #[test]
    fn an_answer_looks_at_as_few_offers_on_a_large_shelf_as_on_a_small_one() {
        let ask = |shelf: &Shelf, query| {
            let Found { offers, looks } = shelf.draw(&query);
            (offers.len(), looks)
        };
        for machines in [1_000, 10_000, 100_000] {
            let shelf = shelf_of(machines);
            assert_eq!(ask(&shelf, all()), (256, 256), "{machines}");
            let large = Query { mem_min: 1 << 36, offers_max: 10, ..all() };
            assert_eq!(ask(&shelf, large), (10, 10), "{machines}: those with much memory lie apart");
            // What no rack tells apart is looked for, but not without end.
            let cheap = Query { price_per_gfuel_max: Some(price(99)), ..all() };
            assert_eq!(ask(&shelf, cheap), (0, 4_096.min(machines as usize)), "{machines}");
        }
        // The control: a shelf that may look at everything does.
        let mut shelf = shelf_of(100_000);
        shelf.limits.looks_max = usize::MAX;
        assert_eq!(ask(&shelf, Query { price_per_gfuel_max: Some(price(99)), ..all() }), (0, 100_000));
    }

    #[test]
    fn lots_are_each_number_once_and_fair() {
        let mut all: Vec<usize> = Lots::new(1, 1_000).collect();
        assert_ne!(all, Lots::new(2, 1_000).collect::<Vec<_>>());
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1_000));
        assert_eq!(Lots::new(1, 0).next(), None);
        let mut times = [0; 10];
        (0..10_000).for_each(|seed| Lots::new(seed, 10).take(3).for_each(|lot| times[lot] += 1));
        assert!(times.iter().all(|times| (2_800..3_200).contains(times)), "{times:?}");
    }

    #[test]
    fn what_is_taken_away_leaves_the_others_in_place() {
        let mut shelf = Shelf::new(ShelfLimits::default());
        for node in 0..100 {
            let expires_ms = MINUTE + u64::from(node % 7) * MINUTE;
            put(&mut shelf, Notice { expires_ms, ..notice(node, 1, 1) }, Brought::ByItself).unwrap();
        }
        for minute in 0..9 {
            let found = texts(shelf.query(&all(), minute * MINUTE));
            let mut left: Vec<String> =
                (0..100).filter(|node| 1 + node % 7 > minute).map(|node| format!("{node} 1 1")).collect();
            left.sort_unstable();
            assert_eq!(found, left, "minute {minute}");
            assert_eq!(shelf.places.len(), left.len());
        }
        assert!(shelf.racks.is_empty() && shelf.expiries.is_empty());
    }

    #[test]
    fn both_sides_choose_the_same_index_nodes_and_a_leaver_moves_only_its_share() {
        let known: Vec<_> = (0..50).map(|i| NodeId([i; 32])).collect();
        let chosen = choose(b"machine", 3, &known, 3);
        let mut shuffled = known.clone();
        shuffled.reverse();
        shuffled.extend_from_slice(&known);
        assert_eq!(choose(b"machine", 3, &shuffled, 3), chosen);
        assert_ne!(choose(b"machine", 4, &known, 3), chosen, "the set changes with the epoch");
        let without: Vec<_> = known.iter().copied().filter(|n| *n != chosen[1]).collect();
        let after = choose(b"machine", 3, &without, 3);
        assert_eq!((after[0], after[1]), (chosen[0], chosen[2]));
        assert_eq!(choose(b"machine", 3, &known[..2], 5).len(), 2);
        assert_eq!(keepers_of(&known[0], 0, &known).len(), OFFER_COPIES);
        assert_eq!(asked_by_lot(7, &known).len(), INDEX_NODES_MAX);
    }
}
