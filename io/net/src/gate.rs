//! Who is let in, and how many of them at once.
//!
//! A slot is held by what it pays for (a connection, a session) and given back when that is dropped, so
//! the counts cannot drift.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use glean_types::NodeId;

use crate::limits::NetLimits;
use crate::stats::Counters;
use crate::wire::Refusal;

#[derive(Debug)]
pub(crate) struct Gate {
    connections_max: usize,
    connections_per_peer_max: usize,
    connections_per_ip_max: usize,
    sessions_per_peer_max: usize,
    counters: Arc<Counters>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    connections: usize,
    peers: BTreeMap<NodeId, PeerUse>,
    ips: BTreeMap<IpAddr, usize>,
}

#[derive(Debug, Default)]
struct PeerUse {
    connections: usize,
    sessions: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Connection,
    Session,
}

/// A place that is ours until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    gate: Arc<Gate>,
    peer: NodeId,
    /// Where a connection comes from, if it does not come through a relay.
    ip: Option<IpAddr>,
    kind: Kind,
}

impl Gate {
    pub(crate) fn new(limits: &NetLimits, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            connections_max: limits.connections_max,
            connections_per_peer_max: limits.connections_per_peer_max,
            connections_per_ip_max: limits.connections_per_ip_max,
            sessions_per_peer_max: limits.sessions_per_peer_max,
            counters,
            held: Mutex::default(),
        })
    }

    pub(crate) fn connection(self: &Arc<Self>, peer: NodeId, ip: Option<IpAddr>) -> Result<Slot, Refusal> {
        let ip = ip.map(neighbourhood);
        let mut held = self.held.lock().expect("no panic while counting");
        if held.connections >= self.connections_max {
            return Err(Refusal::Full);
        }
        let here = held.peers.get(&peer).map_or(0, |p| p.connections);
        if here >= self.connections_per_peer_max {
            return Err(Refusal::PeerFull);
        }
        if let Some(ip) = ip {
            let from_there = held.ips.get(&ip).copied().unwrap_or(0);
            if from_there >= self.connections_per_ip_max {
                return Err(Refusal::IpFull);
            }
            held.ips.insert(ip, from_there + 1);
        }
        held.connections += 1;
        held.peers.entry(peer).or_default().connections += 1;
        self.counters.connections_live.one();
        Ok(Slot { gate: self.clone(), peer, ip, kind: Kind::Connection })
    }

    pub(crate) fn session(self: &Arc<Self>, peer: NodeId) -> Result<Slot, Refusal> {
        let mut held = self.held.lock().expect("no panic while counting");
        let here = held.peers.get(&peer).map_or(0, |p| p.sessions);
        if here >= self.sessions_per_peer_max {
            return Err(Refusal::SessionsFull);
        }
        held.peers.entry(peer).or_default().sessions += 1;
        Ok(Slot { gate: self.clone(), peer, ip: None, kind: Kind::Session })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.gate.held.lock().expect("no panic while counting");
        if let Kind::Connection = self.kind {
            held.connections -= 1;
            self.gate.counters.connections_live.less_one();
        }
        if let Some(ip) = self.ip {
            match held.ips.get_mut(&ip) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(held.ips.remove(&ip)),
            }
        }
        let Some(here) = held.peers.get_mut(&self.peer) else { return };
        match self.kind {
            Kind::Connection => here.connections -= 1,
            Kind::Session => here.sessions -= 1,
        }
        if here.connections == 0 && here.sessions == 0 {
            held.peers.remove(&self.peer);
        }
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
}
