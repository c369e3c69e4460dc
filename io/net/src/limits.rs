//! How much of this machine a stranger may use.

use std::time::Duration;

use glean_types::params;

/// The limits of one endpoint. The defaults suit a node that shares a home machine.
#[derive(Debug, Clone)]
pub struct NetLimits {
    /// Live incoming connections, all peers together.
    pub connections_max: usize,
    /// Live incoming connections of one peer. One per protocol is normal use; more is a peer that lost
    /// some and does not know it yet.
    pub connections_per_peer_max: usize,
    /// Live incoming connections from one IP address (one /64 of IPv6), all keys together: keys are free,
    /// addresses are not. Connections through a relay do not count here.
    pub connections_per_ip_max: usize,
    /// Handshakes in progress. Half of them makes us ask newcomers to prove their address first.
    pub handshakes_max: usize,
    /// Handshakes in progress from one IP address, with the same half: whoever proves an address and then stalls holds
    /// up only its neighbours. Those through relays have half of all.
    pub handshakes_per_ip_max: usize,
    /// Open streams on one connection: questions in flight, sessions, blob requests.
    pub streams_per_connection_max: u32,
    /// Work sessions of one peer.
    pub sessions_per_peer_max: usize,
    /// Largest message of a work session.
    pub frame_bytes_max: usize,
    /// Largest rpc or index request.
    pub request_bytes_max: usize,
    /// Unread bytes we hold for one connection that we opened, all its streams together.
    pub unread_bytes_max: u32,
    /// The same for one that a peer opened: messages and requests come on it, content does not.
    pub unread_bytes_incoming_max: u32,
    /// Bytes of messages and requests that are not complete, or not yet answered: all peers together. Those through
    /// relays have half of them.
    pub unfinished_bytes_max: usize,
    /// The same from one IP address.
    pub unfinished_bytes_per_ip_max: usize,
    /// Requests one peer may make on the rpc and index protocols, each.
    pub requests_per_second: u32,
    /// Requests one peer may save up.
    pub requests_burst: u32,
    /// Requests waiting for this node to take them.
    pub backlog_max: usize,
    /// A message that began must be complete, and one that is sent must be taken, within this and the time
    /// that its size takes on a very slow line.
    pub message_timeout: Duration,
    /// A connection must be established within this.
    pub dial_timeout: Duration,
    /// A silent peer is gone after this. Long, because a machine whose cores are busy with tasks can be
    /// silent for half a minute and still be honest.
    pub silence_timeout: Duration,
    /// How often an idle connection shows that it lives, which also keeps the way through home routers
    /// open. At most 5 s.
    pub keep_alive: Duration,
    /// The same on a connection for work that we dialled. Whoever waits there for an answer sends nothing and so cannot
    /// miss that it came: two of these without a sign of life, and the peer is asked whether it was restarted.
    pub keep_alive_at_work: Duration,
    /// An incoming connection without any open stream is closed after this.
    pub unused_timeout: Duration,
    /// Blob bytes per second sent to one peer; 0 is no limit.
    pub blob_bytes_per_second: u64,
    /// Blob requests served at once, all peers together.
    pub blob_requests_max: usize,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            // Four protocols, and what earlier lives of a peer that crashes again and again have left behind: those
            // connections are missed only after the silence timeout.
            connections_per_peer_max: 32,
            connections_per_ip_max: 256,
            handshakes_max: 256,
            handshakes_per_ip_max: 64,
            streams_per_connection_max: 256,
            sessions_per_peer_max: 32,
            frame_bytes_max: params::FRAME_MAX,
            request_bytes_max: 1 << 20,
            unread_bytes_max: 16 << 20,
            unread_bytes_incoming_max: 1 << 20,
            unfinished_bytes_max: 512 << 20,
            unfinished_bytes_per_ip_max: 128 << 20,
            requests_per_second: 2_000,
            requests_burst: 4_000,
            backlog_max: 1024,
            message_timeout: Duration::from_secs(30),
            dial_timeout: Duration::from_secs(15),
            silence_timeout: Duration::from_secs(75),
            keep_alive: Duration::from_secs(5),
            keep_alive_at_work: Duration::from_secs(1),
            unused_timeout: Duration::from_secs(300),
            blob_bytes_per_second: 0,
            blob_requests_max: 256,
        }
    }
}
