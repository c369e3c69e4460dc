//! Who is let in, and how many of them at once.
//!
//! A slot is held by what it pays for (a connection, a session) and given back when that is dropped, so
//! the counts cannot drift.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use glean_types::NodeId;

use crate::limits::NetLimits;
use crate::stats::Counters;
use crate::wire::Refusal;

#[derive(Debug)]
pub(crate) struct Gate {
    connections_max: usize,
    connections_per_peer_max: usize,
    sessions_per_peer_max: usize,
    counters: Arc<Counters>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    connections: usize,
    peers: BTreeMap<NodeId, PeerUse>,
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
    kind: Kind,
}

impl Gate {
    pub(crate) fn new(limits: &NetLimits, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            connections_max: limits.connections_max,
            connections_per_peer_max: limits.connections_per_peer_max,
            sessions_per_peer_max: limits.sessions_per_peer_max,
            counters,
            held: Mutex::default(),
        })
    }

    pub(crate) fn connection(self: &Arc<Self>, peer: NodeId) -> Result<Slot, Refusal> {
        let mut held = self.held.lock().expect("no panic while counting");
        if held.connections >= self.connections_max {
            return Err(Refusal::Full);
        }
        let here = held.peers.get(&peer).map_or(0, |p| p.connections);
        if here >= self.connections_per_peer_max {
            return Err(Refusal::PeerFull);
        }
        held.connections += 1;
        held.peers.entry(peer).or_default().connections += 1;
        self.counters.connections_live.one();
        Ok(Slot { gate: self.clone(), peer, kind: Kind::Connection })
    }

    pub(crate) fn session(self: &Arc<Self>, peer: NodeId) -> Result<Slot, Refusal> {
        let mut held = self.held.lock().expect("no panic while counting");
        let here = held.peers.get(&peer).map_or(0, |p| p.sessions);
        if here >= self.sessions_per_peer_max {
            return Err(Refusal::SessionsFull);
        }
        held.peers.entry(peer).or_default().sessions += 1;
        Ok(Slot { gate: self.clone(), peer, kind: Kind::Session })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.gate.held.lock().expect("no panic while counting");
        if let Kind::Connection = self.kind {
            held.connections -= 1;
            self.gate.counters.connections_live.less_one();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let limits = NetLimits { connections_max: 3, connections_per_peer_max: 2, sessions_per_peer_max: 1, ..NetLimits::default() };
        let gate = Gate::new(&limits, Arc::default());
        let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
        let first = gate.connection(a).unwrap();
        let _second = gate.connection(a).unwrap();
        assert_eq!(gate.connection(a).unwrap_err(), Refusal::PeerFull);
        let _third = gate.connection(b).unwrap();
        assert_eq!(gate.connection(b).unwrap_err(), Refusal::Full);
        drop(first);
        let _fourth = gate.connection(b).unwrap();
        let session = gate.session(a).unwrap();
        assert_eq!(gate.session(a).unwrap_err(), Refusal::SessionsFull);
        drop(session);
        assert!(gate.session(a).is_ok());
    }
}
