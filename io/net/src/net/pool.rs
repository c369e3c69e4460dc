//! Outgoing connections, one per peer and protocol.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use glean_types::NodeId;
use iroh::Endpoint;
use iroh::endpoint::{ConnectError, ConnectWithOptsError, Connection, RecvStream, SendStream};

use super::Alpn;
use crate::address::AddressBook;
use crate::errors::DialError;
use crate::stats::Counters;

pub(crate) type OpenStream = (Connection, (SendStream, RecvStream));

#[derive(Debug, Clone)]
pub(crate) struct Pool {
    endpoint: Endpoint,
    pub(crate) book: Arc<AddressBook>,
    dial_timeout: Duration,
    counters: Arc<Counters>,
    lines: Arc<Mutex<Lines>>,
}

type Lines = BTreeMap<(NodeId, Alpn), Arc<Line>>;

/// The way to one peer: its connection, and a queue of those who wait for it.
#[derive(Debug, Default)]
struct Line {
    live: Mutex<Option<Connection>>,
    dialling: tokio::sync::Mutex<()>,
}

impl Line {
    fn live(&self) -> Option<Connection> {
        let live = self.live.lock().expect("no panic while looking");
        live.as_ref().filter(|connection| connection.close_reason().is_none()).cloned()
    }
}

impl Pool {
    pub(crate) fn new(endpoint: Endpoint, book: AddressBook, dial_timeout: Duration, counters: Arc<Counters>) -> Self {
        Self { endpoint, book: Arc::new(book), dial_timeout, counters, lines: Arc::default() }
    }

    /// The live connection to a peer, dialled if there is none.
    pub(crate) async fn connect(&self, peer: NodeId, alpn: Alpn) -> Result<Connection, DialError> {
        let line = self.line(peer, alpn);
        if let Some(connection) = line.live() {
            return Ok(connection);
        }
        let _turn = line.dialling.lock().await;
        if let Some(connection) = line.live() {
            return Ok(connection);
        }
        let dialled = self.dial(peer, alpn).await;
        match &dialled {
            Ok(connection) => {
                self.counters.connections_dialled.one();
                *line.live.lock().expect("no panic while setting") = Some(connection.clone());
                self.forget_when_closed(connection, peer, alpn);
            }
            Err(_) => {
                self.counters.dials_failed.one();
                self.forget(peer, alpn);
            }
        }
        dialled
    }

    fn line(&self, peer: NodeId, alpn: Alpn) -> Arc<Line> {
        let mut lines = self.lines.lock().expect("no panic while looking");
        lines.entry((peer, alpn)).or_default().clone()
    }

    async fn dial(&self, peer: NodeId, alpn: Alpn) -> Result<Connection, DialError> {
        let addr = self.book.find(peer).to_iroh().map_err(|source| DialError::BadAddress { peer, source })?;
        let dialling = self.endpoint.connect(addr, alpn.name());
        match tokio::time::timeout(self.dial_timeout, dialling).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(e)) => Err(dial_error(peer, e)),
            Err(_) => Err(DialError::TimedOut { peer, after_ms: self.dial_timeout.as_millis() as u64 }),
        }
    }

    fn forget_when_closed(&self, connection: &Connection, peer: NodeId, alpn: Alpn) {
        let (pool, closed) = (self.clone(), connection.weak_handle().closed());
        tokio::spawn(async move {
            closed.await;
            pool.forget(peer, alpn);
        });
    }

    /// Removes a line that leads nowhere. One that was redialled in the meantime stays.
    fn forget(&self, peer: NodeId, alpn: Alpn) {
        let mut lines = self.lines.lock().expect("no panic while looking");
        if lines.get(&(peer, alpn)).is_some_and(|line| line.live().is_none()) {
            lines.remove(&(peer, alpn));
        }
    }
}

fn dial_error(peer: NodeId, e: ConnectError) -> DialError {
    match e {
        ConnectError::Connect { source: ConnectWithOptsError::SelfConnect { .. }, .. } => DialError::ToSelf,
        ConnectError::Connect { source: ConnectWithOptsError::EndpointClosed { .. }, .. } => DialError::Closed,
        ConnectError::Connect { source: ConnectWithOptsError::NoAddress { .. }, .. } => DialError::NoAddress { peer },
        other => DialError::Unreachable { peer, source: Arc::new(other) },
    }
}
