//! Who could do the work: offers as they stand, what we remember of each machine, and whom to prefer.
//!
//! Nothing in an offer is believed but its signature and its price. Speed is measured, trust is earned here,
//! and every preference is a sum of four parts that [`ScoreCard`] shows to people.

use std::collections::{BTreeMap, BTreeSet};

use glean_types::params::CHECK_ALL_FIRST;
use glean_types::{Address, Amount, Domain, Hash, Job, NodeId, Offer, Signed};
use serde::{Deserialize, Serialize};

/// Most machines at hand: those whose offer stands, and strangers. Beyond it, strangers whose offer has expired give their
/// place to newcomers, and those that worked for us and are gone take up none; if that is not enough, newcomers wait.
const MACHINES_MAX: usize = 4_096;

/// A machine's place in the market: stable while the node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ix(pub u32);

impl Ix {
    /// No machine.
    pub const NONE: Ix = Ix(u32::MAX);
    /// Our own worker.
    pub const OWN: Ix = Ix(u32::MAX - 1);
}

/// What we remember of a machine, whoever sold it to us.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Answers checked and found right.
    pub right: u32,
    /// Answers accepted.
    pub answers: u64,
    /// Wrong answers found. One is enough: it gets no further work.
    pub faults: u32,
    /// Slices lost in a row (vanished, late, refused).
    pub lost: u32,
    /// Promised in vouchers.
    pub paid: Amount,
    /// Measured speed of the whole machine, 10^6 fuel per second; 0 until measured.
    pub mfuel_per_s: u64,
}

impl History {
    /// Whether it says nothing that would be missed.
    fn is_strangers(&self) -> bool {
        (self.right, self.answers, self.faults, self.paid) == (0, 0, 0, Amount::ZERO)
    }

    /// Takes a measurement in: a quarter of the way towards it.
    pub fn measure(&mut self, fuel: u64, elapsed_ms: u64) {
        // fuel / 10^6 per ms / 10^3 = fuel / ms / 10^3.
        let speed = (fuel / elapsed_ms.max(1) / 1_000).max(1);
        self.mfuel_per_s = match self.mfuel_per_s {
            0 => speed,
            old => (old * 3 + speed) / 4,
        };
    }
}

/// A machine that has offered.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub node: NodeId,
    pub provider: Address,
    pub offer: Option<Offer>,
    /// By our clock.
    pub stands_until_ms: u64,
    pub history: History,
}

impl Machine {
    /// Its offer, if that still stands.
    pub fn standing(&self, now_ms: u64) -> Option<&Offer> {
        self.offer.as_ref().filter(|_| self.stands_until_ms > now_ms)
    }

    /// Speed of the whole machine: measured, or its own word until then.
    pub fn mfuel_per_s(&self) -> u64 {
        match (self.history.mfuel_per_s, &self.offer) {
            (0, Some(offer)) => offer.mfuel_per_s.saturating_mul(u64::from(offer.slots.max(1))).max(1),
            (0, None) => 1,
            (measured, _) => measured,
        }
    }

    /// Speed of one of its slots.
    pub fn slot_speed(&self) -> u64 {
        self.mfuel_per_s() / u64::from(self.slots())
    }

    pub fn slots(&self) -> u32 {
        self.offer.as_ref().map_or(1, |offer| offer.slots.max(1))
    }
}

/// Why an offer was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadOffer {
    Ours,
    Insane,
    OtherClass,
    Expired,
    Old,
    Signature,
    OtherOwner,
    Full,
}

/// What is between us and a machine, as far as its place in the market is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tie {
    /// Nothing, or nothing that is not also known without it.
    None,
    /// A session, or something to remember.
    Known,
    /// Money of ours lies with it.
    Money,
}

/// A machine's place, and whether it is new there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub ix: Ix,
    pub is_new: bool,
}

/// A machine's score in points, 1000 at best, and what it is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreCard {
    /// Up to 400: the cheapest offer over this one.
    pub price: u32,
    /// Up to 300: this machine's speed over the fastest.
    pub speed: u32,
    /// Up to 200: right answers, against slices lost.
    pub trust: u32,
    /// Up to 100: the part of its slots that is idle.
    pub free: u32,
}

impl ScoreCard {
    /// The sum.
    pub fn total(&self) -> u32 {
        self.price + self.speed + self.trust + self.free
    }
}

/// `part / whole` of `points`, in integers.
fn share(part: u128, whole: u128, points: u32) -> u32 {
    let points = u128::from(points);
    u32::try_from((part.min(whole) * points).checked_div(whole).unwrap_or(points)).unwrap_or(u32::MAX)
}

/// All machines we know.
#[derive(Debug, Default)]
pub(crate) struct Market {
    pub machines: Vec<Machine>,
    by_node: BTreeMap<NodeId, Ix>,
    /// Accounts that sold a wrong answer: another machine of the same owner is no other machine.
    banned: BTreeSet<Address>,
    /// Places for newcomers, as they were counted last.
    vacant: Vec<Ix>,
    room: usize,
    counted_ms: Option<u64>,
}

impl Market {
    pub fn get(&self, ix: Ix) -> Option<&Machine> {
        self.machines.get(ix.0 as usize)
    }

    pub fn find(&self, node: &NodeId) -> Option<Ix> {
        self.by_node.get(node).copied()
    }

    pub fn node(&self, ix: Ix) -> Option<NodeId> {
        self.get(ix).map(|machine| machine.node)
    }

    /// The machine of that node, made if it is new.
    pub fn ensure(&mut self, node: NodeId, provider: Address) -> Ix {
        if let Some(ix) = self.find(&node) {
            return ix;
        }
        let ix = Ix(u32::try_from(self.machines.len()).expect("far below 2^32 machines"));
        self.machines.push(Machine { node, provider, offer: None, stands_until_ms: 0, history: History::default() });
        self.by_node.insert(node, ix);
        ix
    }

    /// A machine was caught: neither it nor any other of its owner's gets work.
    pub fn ban(&mut self, ix: Ix, owner: Address) {
        if let Some(history) = self.history_mut(ix) {
            history.faults += 1;
        }
        if owner != Address::ZERO {
            self.banned.insert(owner);
        }
    }

    /// Whether a machine, or its owner with another one, was caught.
    pub fn is_banned(&self, machine: &Machine) -> bool {
        machine.history.faults > 0 || self.banned.contains(&machine.provider)
    }

    pub fn history_mut(&mut self, ix: Ix) -> Option<&mut History> {
        self.machines.get_mut(ix.0 as usize).map(|machine| &mut machine.history)
    }

    /// Whether so few of a machine's answers have been compared that each one is, before it is paid for.
    pub fn is_stranger(&self, ix: Ix) -> bool {
        self.get(ix).is_none_or(|machine| machine.history.right < CHECK_ALL_FIRST)
    }

    /// Checks an offer and keeps it. Where our money lies with a machine, only its own account may change its offer, else a
    /// stranger could redirect that money by naming its node.
    pub fn take(
        &mut self,
        signed: Signed<Offer>,
        us: NodeId,
        class: Hash,
        domain: &Domain,
        now_ms: u64,
        tie: impl Fn(Ix) -> Tie,
    ) -> Result<Taken, BadOffer> {
        let offer = &signed.paper;
        if offer.node == us {
            return Err(BadOffer::Ours);
        }
        if !offer.is_sane() {
            return Err(BadOffer::Insane);
        }
        if offer.class != class {
            return Err(BadOffer::OtherClass);
        }
        if !offer.is_current(now_ms) {
            return Err(BadOffer::Expired);
        }
        let known = self.find(&offer.node);
        if let Some(ix) = known {
            let machine = &self.machines[ix.0 as usize];
            let stands = machine.standing(now_ms).is_some() || tie(ix) == Tie::Money;
            if machine.provider != offer.provider && stands {
                return Err(BadOffer::OtherOwner);
            }
            if machine.provider == offer.provider && machine.offer.as_ref().is_some_and(|had| had.seq >= offer.seq) {
                return Err(BadOffer::Old);
            }
        } else if !self.has_place(now_ms, &tie) {
            return Err(BadOffer::Full);
        }
        signed.check(domain, offer.provider).map_err(|_| BadOffer::Signature)?;
        let ix = known.unwrap_or_else(|| self.settle(offer.node, offer.provider));
        let machine = &mut self.machines[ix.0 as usize];
        machine.provider = offer.provider;
        machine.stands_until_ms = now_ms.saturating_add(signed.paper.ttl_ms.into());
        machine.offer = Some(signed.paper);
        Ok(Taken { ix, is_new: known.is_none() })
    }

    /// Whether there is a place for a newcomer. Counted at most once a step, for a flood of offers would count for ever.
    fn has_place(&mut self, now_ms: u64, tie: &impl Fn(Ix) -> Tie) -> bool {
        while self.vacant.last().is_some_and(|ix| !self.is_vacant(*ix, now_ms, tie)) {
            self.vacant.pop();
        }
        if self.room > 0 || !self.vacant.is_empty() {
            return true;
        }
        if self.counted_ms.replace(now_ms) == Some(now_ms) {
            return false;
        }
        let all = || (0u32..).map(Ix).take(self.machines.len());
        let is_at_hand = |ix: &Ix| tie(*ix) == Tie::None || self.machines[ix.0 as usize].standing(now_ms).is_some();
        let room = MACHINES_MAX.saturating_sub(all().filter(is_at_hand).count());
        let vacant = all().filter(|ix| self.is_vacant(*ix, now_ms, tie)).collect();
        (self.room, self.vacant) = (room, vacant);
        self.room > 0 || !self.vacant.is_empty()
    }

    fn is_vacant(&self, ix: Ix, now_ms: u64, tie: &impl Fn(Ix) -> Tie) -> bool {
        let machine = &self.machines[ix.0 as usize];
        machine.standing(now_ms).is_none() && machine.history.is_strangers() && tie(ix) == Tie::None
    }

    /// Gives a newcomer one of the places that were found.
    fn settle(&mut self, node: NodeId, provider: Address) -> Ix {
        let Some(ix) = self.vacant.pop() else {
            self.room = self.room.saturating_sub(1);
            return self.ensure(node, provider);
        };
        let newcomer = Machine { node, provider, offer: None, stands_until_ms: 0, history: History::default() };
        let left = std::mem::replace(&mut self.machines[ix.0 as usize], newcomer);
        self.by_node.remove(&left.node);
        self.by_node.insert(node, ix);
        ix
    }

    /// Why a machine cannot do a job, apart from what is between us and it; `None` when it can.
    pub fn obstacle(&self, ix: Ix, job: &Job, now_ms: u64) -> Option<&'static str> {
        let Some(machine) = self.get(ix) else { return Some("unknown machine") };
        if machine.history.faults > 0 {
            return Some("caught with a wrong answer: it gets no further work");
        }
        if self.is_banned(machine) {
            return Some("another machine of its owner was caught with a wrong answer");
        }
        let Some(offer) = machine.standing(now_ms) else { return Some("its offer has expired") };
        if offer.mem_max < job.mem_max {
            return Some("the job needs more memory than it offers");
        }
        if offer.slots == 0 {
            return Some("it offers no slots");
        }
        None
    }

    /// The best price and speed among standing offers: what the others are measured against.
    pub fn yardstick(&self, now_ms: u64) -> Yardstick {
        let standing = || self.machines.iter().filter(|m| !self.is_banned(m) && m.standing(now_ms).is_some());
        Yardstick {
            cheapest: standing().filter_map(|m| m.offer.as_ref()).map(|o| o.price_per_gfuel).min().unwrap_or_default(),
            fastest: standing().map(Machine::mfuel_per_s).max().unwrap_or(1),
        }
    }

    /// A machine's points.
    pub fn score(&self, ix: Ix, yardstick: &Yardstick) -> ScoreCard {
        let Some(machine) = self.get(ix) else { return ScoreCard::default() };
        let Some(offer) = &machine.offer else { return ScoreCard::default() };
        let history = &machine.history;
        let right = u128::from(history.right);
        ScoreCard {
            price: share(yardstick.cheapest.units(), offer.price_per_gfuel.units(), 400),
            speed: share(machine.mfuel_per_s().into(), yardstick.fastest.into(), 300),
            // Half the points at 20 right answers; each slice lost in a row weighs as 20.
            trust: share(right, right + 20 + 20 * u128::from(history.lost), 200),
            free: share(offer.slots_free.into(), offer.slots.into(), 100),
        }
    }

    /// All machines, best first; ties by node, so that every replay chooses the same.
    pub fn ranked(&self, now_ms: u64) -> Vec<Ix> {
        let yardstick = self.yardstick(now_ms);
        let mut ranked: Vec<(u32, NodeId, Ix)> = (0u32..)
            .zip(&self.machines)
            .filter(|(_, machine)| !self.is_banned(machine) && machine.standing(now_ms).is_some())
            .map(|(i, machine)| (self.score(Ix(i), &yardstick).total(), machine.node, Ix(i)))
            .collect();
        ranked.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        ranked.into_iter().map(|(_, _, ix)| ix).collect()
    }
}

/// What offers are measured against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Yardstick {
    cheapest: Amount,
    fastest: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use glean_types::params::CLOCK_SKEW_MS;
    use glean_types::{AccountKey, Paper};

    const NOW: u64 = 1_800_000_000_000;

    fn domain() -> Domain {
        Domain { chain_id: 7, channels: Address::repeat_byte(0xcc) }
    }

    fn key(n: u8) -> AccountKey {
        AccountKey::from_bytes(&[n; 32]).unwrap()
    }

    fn offer(node: u8, owner: u8) -> Offer {
        Offer {
            node: NodeId([node; 32]),
            provider: key(owner).address(),
            seq: 1,
            issued_ms: NOW,
            ttl_ms: 60_000,
            price_per_gfuel: Amount::whole(1),
            slots: 4,
            slots_free: 4,
            mem_max: 1 << 30,
            mfuel_per_s: 1_000,
            machine: 0,
            class: Hash([1; 32]),
            region: String::new(),
            peer: vec![],
        }
    }

    fn take(market: &mut Market, offer: Offer, owner: u8) -> Result<Ix, BadOffer> {
        take_at(market, offer, owner, NOW, |_| Tie::None).map(|taken| taken.ix)
    }

    fn take_at(
        market: &mut Market,
        offer: Offer,
        owner: u8,
        now_ms: u64,
        tie: impl Fn(Ix) -> Tie,
    ) -> Result<Taken, BadOffer> {
        let signed = offer.sign(&key(owner), &domain());
        market.take(signed, NodeId([99; 32]), Hash([1; 32]), &domain(), now_ms, tie)
    }

    /// A stranger's offer; the market looks at signatures only when it has a place.
    fn stranger(n: u32, issued_ms: u64) -> Offer {
        let mut node = [7; 32];
        node[..4].copy_from_slice(&n.to_le_bytes());
        Offer { node: NodeId(node), issued_ms, ..offer(1, 1) }
    }

    #[test]
    fn a_full_market_lets_newcomers_in_where_strangers_have_gone() {
        let mut market = Market::default();
        for n in 0..MACHINES_MAX as u32 {
            market.room = usize::MAX;
            let ix = market.settle(stranger(n, NOW).node, key(1).address());
            market.machines[ix.0 as usize].stands_until_ms = NOW + 60_000;
            market.machines[ix.0 as usize].offer = Some(stranger(n, NOW));
        }
        market.room = 0;
        // Number 0 has worked for us, and our money lies with number 1.
        market.machines[0].history.right = 1;
        let tie = |ix: Ix| if ix.0 == 1 { Tie::Money } else { Tie::None };
        let newcomer = |n| stranger(1_000_000 + n, NOW);
        assert_eq!(take_at(&mut market, newcomer(0), 1, NOW, tie), Err(BadOffer::Full));
        let later_ms = NOW + 60_000;
        for n in 0..MACHINES_MAX as u32 - 1 {
            let taken = take_at(&mut market, Offer { issued_ms: later_ms, ..newcomer(n) }, 1, later_ms, tie).unwrap();
            assert!(taken.is_new && taken.ix.0 != 0 && taken.ix.0 != 1, "{taken:?}");
            assert_eq!(market.find(&newcomer(n).node), Some(taken.ix));
        }
        // Who is gone with our money takes up no newcomer's place, and is not forgotten.
        assert_eq!(take_at(&mut market, newcomer(9_999), 1, later_ms, tie), Err(BadOffer::Full));
        assert!(market.find(&stranger(0, NOW).node).is_some() && market.find(&stranger(1, NOW).node).is_some());
        assert_eq!(market.find(&stranger(2, NOW).node), None, "forgotten");
        assert_eq!(market.machines.len(), MACHINES_MAX + 1);
    }

    #[test]
    fn only_sound_offers_are_kept() {
        let mut market = Market::default();
        assert!(take(&mut market, offer(1, 1), 1).is_ok());
        let bad = [
            (offer(99, 1), 1, BadOffer::Ours),
            (offer(2, 1), 2, BadOffer::Signature),
            (Offer { ttl_ms: u32::MAX, ..offer(2, 1) }, 1, BadOffer::Insane),
            (Offer { issued_ms: NOW + CLOCK_SKEW_MS + 1, ..offer(2, 1) }, 1, BadOffer::Expired),
            (Offer { issued_ms: NOW - CLOCK_SKEW_MS - 60_000, ..offer(2, 1) }, 1, BadOffer::Expired),
            (Offer { class: Hash([2; 32]), ..offer(2, 1) }, 1, BadOffer::OtherClass),
            (offer(1, 1), 1, BadOffer::Old),
            (Offer { seq: 9, ..offer(1, 2) }, 2, BadOffer::OtherOwner),
        ];
        for (offer, owner, why) in bad {
            assert_eq!(take(&mut market, offer, owner), Err(why));
        }
        assert_eq!(market.machines.len(), 1);
        assert!(take(&mut market, Offer { seq: 2, ..offer(1, 1) }, 1).is_ok());
    }

    #[test]
    fn an_offer_stands_from_when_it_was_heard_whatever_its_owners_clock_says() {
        for issued_ms in [NOW - 3_600_000, NOW, NOW + 3_600_000] {
            let mut market = Market::default();
            let ix = take(&mut market, Offer { issued_ms, ..offer(1, 1) }, 1).unwrap();
            let stands = |now_ms| market.get(ix).unwrap().standing(now_ms).is_some();
            assert!(stands(NOW + 59_999) && !stands(NOW + 60_000), "{issued_ms}");
        }
    }

    #[test]
    fn cheap_fast_and_proven_come_first_and_liars_not_at_all() {
        let mut market = Market::default();
        let plain = take(&mut market, offer(1, 1), 1).unwrap();
        let cheap =
            take(&mut market, Offer { price_per_gfuel: Amount::from_units(1).unwrap(), ..offer(2, 2) }, 2).unwrap();
        let proven = take(&mut market, offer(3, 3), 3).unwrap();
        let liar = take(&mut market, offer(4, 4), 4).unwrap();
        market.history_mut(proven).unwrap().right = 200;
        market.ban(liar, key(4).address());
        take(&mut market, offer(5, 4), 4).unwrap();
        assert_eq!(market.ranked(NOW), vec![cheap, proven, plain]);
        let yardstick = market.yardstick(NOW);
        assert_eq!(market.score(cheap, &yardstick), ScoreCard { price: 400, speed: 300, trust: 0, free: 100 });
    }

    #[test]
    fn speed_is_measured_in_integers() {
        let mut history = History::default();
        history.measure(2_000_000_000, 1_000);
        assert_eq!(history.mfuel_per_s, 2_000);
        history.measure(0, 0);
        assert_eq!(history.mfuel_per_s, 1_500);
    }
}
