//! Who could do the work: offers as they stand, what we remember of each machine, and whom to prefer.
//!
//! Nothing in an offer is believed but its signature and its price. Speed is measured, trust is earned here,
//! and every preference is a sum of four parts that [`ScoreCard`] shows to people.

use std::collections::{BTreeMap, BTreeSet};

use glean_types::params::CHECK_ALL_FIRST;
use glean_types::{Address, Amount, Domain, Hash, Job, NodeId, Offer, Signed};
use serde::{Deserialize, Serialize};

/// Most machines kept. Beyond it, expired strangers make room; if there are none, newcomers wait.
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

    /// Checks an offer and keeps it. `is_bound` tells whether a machine has a channel with us: then only its
    /// own account may change its offer, else a stranger could redirect our money by naming its node.
    pub fn take(
        &mut self,
        signed: Signed<Offer>,
        us: NodeId,
        class: Hash,
        domain: &Domain,
        now_ms: u64,
        is_bound: impl Fn(Ix) -> bool,
    ) -> Result<Ix, BadOffer> {
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
            let stands = machine.standing(now_ms).is_some() || is_bound(ix);
            if machine.provider != offer.provider && stands {
                return Err(BadOffer::OtherOwner);
            }
            if machine.provider == offer.provider && machine.offer.as_ref().is_some_and(|had| had.seq >= offer.seq) {
                return Err(BadOffer::Old);
            }
        } else if self.machines.len() >= MACHINES_MAX {
            return Err(BadOffer::Full);
        }
        signed.check(domain, offer.provider).map_err(|_| BadOffer::Signature)?;
        let ix = self.ensure(offer.node, offer.provider);
        let machine = &mut self.machines[ix.0 as usize];
        machine.provider = offer.provider;
        machine.stands_until_ms = now_ms.saturating_add(signed.paper.ttl_ms.into());
        machine.offer = Some(signed.paper);
        Ok(ix)
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
        let signed = offer.sign(&key(owner), &domain());
        market.take(signed, NodeId([99; 32]), Hash([1; 32]), &domain(), NOW, |_| false)
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
