//! Who is let in, and how many of them at once.
//!
//! A slot is held by what it pays for (a handshake, a connection, a session, bytes of a message) and given back when
//! that is dropped, so the counts cannot drift. Keys are free and addresses are not, so most of it is counted by
//! address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use glean_types::NodeId;

use crate::limits::NetLimits;
use crate::stats::Counters;
use crate::wire::Refusal;

#[derive(Debug)]
pub(crate) struct Gate {
    limits: NetLimits,
    counters: Arc<Counters>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: PlaceUse,
    peers: BTreeMap<NodeId, PeerUse>,
    places: BTreeMap<Place, PlaceUse>,
}

/// Where something comes from: an address, or a relay, whose guests are counted as one.
type Place = Option<IpAddr>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PlaceUse {
    handshakes: usize,
    connections: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct PeerUse {
    connections: usize,
    sessions: usize,
}

impl Held {
    fn place(&self, place: Place) -> PlaceUse {
        self.places.get(&place).copied().unwrap_or_default()
    }

    /// Changes what a place uses, and with it what all do.
    fn change(&mut self, place: Place, change: impl Fn(&mut PlaceUse)) {
        change(&mut self.all);
        let here = self.places.entry(place).or_default();
        change(here);
        if *here == PlaceUse::default() {
            self.places.remove(&place);
        }
    }

    fn leave(&mut self, peer: NodeId, change: impl Fn(&mut PeerUse)) {
        let Some(here) = self.peers.get_mut(&peer) else { return };
        change(here);
        if here.connections == 0 && here.sessions == 0 {
            self.peers.remove(&peer);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Handshake(Place),
    Connection(NodeId, Place),
    Session(NodeId),
}

/// A place that is ours until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    gate: Arc<Gate>,
    kind: Kind,
}

impl Gate {
    pub(crate) fn new(limits: &NetLimits, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self { limits: limits.clone(), counters, held: Mutex::default() })
    }

    /// Room for a handshake, and whether so many are in progress that a newcomer should prove its address first: a
    /// forged sender never sees the token that it would have to send back, and so never has more than half of anybody's
    /// room.
    pub(crate) fn handshake(self: &Arc<Self>, ip: Option<IpAddr>) -> Result<(Slot, bool), Refusal> {
        let place = ip.map(neighbourhood);
        let mut held = self.held.lock().expect("no panic while counting");
        let all_max = self.limits.handshakes_max.max(1);
        let here_max = place.map_or(all_max / 2, |_| self.limits.handshakes_per_ip_max).max(1);
        let (all, here) = (held.all.handshakes, held.place(place).handshakes);
        if all >= all_max {
            return Err(Refusal::Full);
        }
        if here >= here_max {
            return Err(Refusal::IpFull);
        }
        held.change(place, |used| used.handshakes += 1);
        self.counters.handshakes_live.one();
        let is_busy = all > all_max / 2 || here > here_max / 2;
        Ok((Slot { gate: self.clone(), kind: Kind::Handshake(place) }, is_busy))
    }

    pub(crate) fn connection(self: &Arc<Self>, peer: NodeId, ip: Option<IpAddr>) -> Result<Slot, Refusal> {
        let place = ip.map(neighbourhood);
        let mut held = self.held.lock().expect("no panic while counting");
        if held.all.connections >= self.limits.connections_max {
            return Err(Refusal::Full);
        }
        let here = held.peers.get(&peer).map_or(0, |p| p.connections);
        if here >= self.limits.connections_per_peer_max {
            return Err(Refusal::PeerFull);
        }
        if place.is_some() && held.place(place).connections >= self.limits.connections_per_ip_max {
            return Err(Refusal::IpFull);
        }
        held.change(place, |used| used.connections += 1);
        held.peers.entry(peer).or_default().connections += 1;
        self.counters.connections_live.one();
        Ok(Slot { gate: self.clone(), kind: Kind::Connection(peer, place) })
    }

    pub(crate) fn session(self: &Arc<Self>, peer: NodeId) -> Result<Slot, Refusal> {
        let mut held = self.held.lock().expect("no panic while counting");
        let here = held.peers.get(&peer).map_or(0, |p| p.sessions);
        if here >= self.limits.sessions_per_peer_max {
            return Err(Refusal::SessionsFull);
        }
        held.peers.entry(peer).or_default().sessions += 1;
        Ok(Slot { gate: self.clone(), kind: Kind::Session(peer) })
    }

    /// Room for a message that is going to come.
    pub(crate) fn hold(self: &Arc<Self>, ip: Option<IpAddr>) -> Hold {
        Hold { gate: self.clone(), place: ip.map(neighbourhood), bytes: 0 }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.gate.held.lock().expect("no panic while counting");
        match self.kind {
            Kind::Handshake(place) => {
                held.change(place, |used| used.handshakes -= 1);
                self.gate.counters.handshakes_live.less_one();
            }
            Kind::Connection(peer, place) => {
                held.change(place, |used| used.connections -= 1);
                held.leave(peer, |used| used.connections -= 1);
                self.gate.counters.connections_live.less_one();
            }
            Kind::Session(peer) => held.leave(peer, |used| used.sessions -= 1),
        }
    }
}

/// Steps in which room for messages is counted: most fit into one.
const HOLD_STEP: usize = 4 << 10;

/// The room that a message takes while it is not complete, or not answered; given back when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    gate: Arc<Gate>,
    place: Place,
    bytes: usize,
}

impl Hold {
    /// The message has so many bytes now.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), Refusal> {
        let (was, wanted) = (self.bytes, bytes.next_multiple_of(HOLD_STEP));
        if wanted == was {
            return Ok(());
        }
        let limits = &self.gate.limits;
        let mut held = self.gate.held.lock().expect("no panic while counting");
        let all_max = limits.unfinished_bytes_max;
        let here_max = self.place.map_or(all_max / 2, |_| limits.unfinished_bytes_per_ip_max);
        let over = |used: PlaceUse, most: usize| used.bytes - was + wanted > most;
        if wanted > was && (over(held.all, all_max) || over(held.place(self.place), here_max)) {
            return Err(Refusal::Crowded);
        }
        held.change(self.place, |used| used.bytes = used.bytes - was + wanted);
        let counter = &self.gate.counters.unfinished_bytes;
        if wanted > was {
            counter.add((wanted - was) as u64)
        } else {
            counter.less((was - wanted) as u64)
        }
        self.bytes = wanted;
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.set(0).expect("less always fits");
    }
}

/// What one party has cheaply: an IPv4 address, or all of an IPv6 /64.
fn neighbourhood(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let limits = NetLimits {
            connections_max: 3,
            connections_per_peer_max: 2,
            sessions_per_peer_max: 1,
            ..NetLimits::default()
        };
        let gate = Gate::new(&limits, Arc::default());
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        let first = gate.connection(a, None).unwrap();
        let _second = gate.connection(a, None).unwrap();
        assert_eq!(gate.connection(a, None).unwrap_err(), Refusal::PeerFull);
        let _third = gate.connection(b, None).unwrap();
        assert_eq!(gate.connection(b, None).unwrap_err(), Refusal::Full);
        drop(first);
        let _fourth = gate.connection(b, None).unwrap();
        let session = gate.session(a).unwrap();
        assert_eq!(gate.session(a).unwrap_err(), Refusal::SessionsFull);
        drop(session);
        assert!(gate.session(a).is_ok());
    }

    #[test]
    fn many_keys_from_one_address_are_one_party() {
        let gate = Gate::new(&NetLimits { connections_per_ip_max: 2, ..NetLimits::default() }, Arc::default());
        let (here, there): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = gate.connection(NodeId([1; 32]), Some(here)).unwrap();
        let _second = gate.connection(NodeId([2; 32]), Some("::ffff:192.0.2.1".parse().unwrap())).unwrap();
        assert_eq!(gate.connection(NodeId([3; 32]), Some(here)).unwrap_err(), Refusal::IpFull);
        let _third = gate.connection(NodeId([3; 32]), Some(there)).unwrap();
        let _relayed = gate.connection(NodeId([3; 32]), None).unwrap();
        drop(first);
        let _fourth = gate.connection(NodeId([4; 32]), Some(here)).unwrap();
        assert_eq!(neighbourhood("2001:db8::1:2:3:4".parse().unwrap()), "2001:db8::".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn whoever_stalls_in_handshakes_holds_up_only_its_neighbours() {
        let limits = NetLimits { handshakes_max: 8, handshakes_per_ip_max: 3, ..NetLimits::default() };
        let gate = Gate::new(&limits, Arc::default());
        let ip = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        let stalled: Vec<_> = (0..3).map(|_| gate.handshake(ip(1)).unwrap()).collect();
        assert_eq!(stalled.iter().map(|(_, is_busy)| *is_busy).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(gate.handshake(ip(1)).unwrap_err(), Refusal::IpFull);
        let relayed: Vec<_> = (0..4).map(|_| gate.handshake(None).unwrap()).collect();
        assert_eq!(gate.handshake(None).unwrap_err(), Refusal::IpFull);
        let (_other, is_busy) = gate.handshake(ip(2)).unwrap();
        assert!(is_busy, "more than half of all");
        assert_eq!(gate.handshake(ip(3)).unwrap_err(), Refusal::Full);
        drop((stalled, relayed));
        assert!(gate.handshake(ip(1)).is_ok_and(|(_, is_busy)| !is_busy));
    }

    #[test]
    fn unfinished_messages_have_a_bound_each_place_and_all_together() {
        let limits = NetLimits {
            unfinished_bytes_max: 16 * HOLD_STEP,
            unfinished_bytes_per_ip_max: 10 * HOLD_STEP,
            ..NetLimits::default()
        };
        let gate = Gate::new(&limits, Arc::default());
        let mut first = gate.hold(Some(IpAddr::from([192, 0, 2, 1])));
        let mut second = gate.hold(Some(IpAddr::from([192, 0, 2, 2])));
        first.set(1).unwrap();
        assert_eq!(gate.counters.read().unfinished_bytes, HOLD_STEP as u64);
        first.set(10 * HOLD_STEP).unwrap();
        assert_eq!(first.set(10 * HOLD_STEP + 1), Err(Refusal::Crowded));
        second.set(6 * HOLD_STEP).unwrap();
        assert_eq!(second.set(7 * HOLD_STEP), Err(Refusal::Crowded), "all together");
        first.set(0).unwrap();
        second.set(10 * HOLD_STEP).unwrap();
        let mut relayed = gate.hold(None);
        assert_eq!(relayed.set(8 * HOLD_STEP), Err(Refusal::Crowded));
        relayed.set(6 * HOLD_STEP).unwrap();
        drop((first, second, relayed));
        assert_eq!(gate.counters.read().unfinished_bytes, 0);
    }
}
