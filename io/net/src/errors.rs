//! What can go wrong between two nodes, one type per thing that was tried.

use std::net::SocketAddr;
use std::path::PathBuf;

use glean_types::{Hash, NodeId};
use iroh::endpoint::{ConnectError, ConnectionError, ReadError, WriteError};

use crate::address::ParsePeerError;
use crate::wire::{Refusal, close_reason, stream_reason};

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addrs:?}; hint: is another node already running on this port?")]
    Listen {
        /// What was asked for.
        addrs: Vec<SocketAddr>,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The relay's URL is none.
    #[error("`{url}` is not a relay URL; hint: it looks like http://host:port")]
    Relay {
        /// What was asked for.
        url: String,
        /// The cause.
        #[source]
        source: ParsePeerError,
    },
    /// The blob store did not open.
    #[error("cannot open the store of content")]
    Blobs(#[source] BlobError),
}

/// Why no connection to a peer came about.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// The address in the book is no address.
    #[error("{peer} cannot be dialled")]
    BadAddress {
        /// Who was dialled.
        peer: NodeId,
        /// The cause.
        #[source]
        source: ParsePeerError,
    },
    /// The peer is this node.
    #[error("a node does not dial itself")]
    ToSelf,
    /// Nobody told us where the peer is.
    #[error("no address is known for {peer}; hint: its address must come from a join line or an offer")]
    NoAddress {
        /// Who was dialled.
        peer: NodeId,
    },
    /// Nobody with that key answered, or it does not speak this protocol.
    #[error("{peer} did not answer")]
    Unreachable {
        /// Who was dialled.
        peer: NodeId,
        /// The cause.
        #[source]
        source: std::sync::Arc<ConnectError>,
    },
    /// No answer in time.
    #[error("{peer} did not answer within {after_ms} ms")]
    TimedOut {
        /// Who was dialled.
        peer: NodeId,
        /// How long we waited.
        after_ms: u64,
    },
    /// This node is shutting down.
    #[error("the network is closed")]
    Closed,
}

impl DialError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. })
    }
}

/// Why a request got no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RequestError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The peer said no.
    #[error("refused by the peer: {reason}")]
    Refused {
        /// The peer's reason.
        reason: String,
    },
    /// The answer is over the caller's limit.
    #[error("the answer is over {limit} bytes")]
    TooLarge {
        /// The caller's limit.
        limit: usize,
    },
    /// No answer in time.
    #[error("no answer within {after_ms} ms")]
    TimedOut {
        /// How long we waited.
        after_ms: u64,
    },
    /// The connection broke.
    #[error("the connection was lost: {reason}")]
    Lost {
        /// What the transport says.
        reason: String,
    },
}

impl RequestError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Dial(e) => e.is_transient(),
            Self::TimedOut { .. } | Self::Lost { .. } => true,
            Self::Refused { .. } | Self::TooLarge { .. } => false,
        }
    }
}

/// Why a session ended other than by its peer finishing it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A message over the limit, announced by the peer or given by the caller.
    #[error("a message of {got} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its announced size.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The peer began a message and did not end it, or does not take ours.
    #[error("the peer stalled in the middle of a message for {after_ms} ms")]
    Stalled {
        /// How long we waited.
        after_ms: u64,
    },
    /// The peer ended the session in the middle of a message, or speaks something else.
    #[error("the peer does not speak this protocol")]
    Malformed,
    /// Others at the peer's address have begun so much that there is no room for this message.
    #[error("too much is on its way from the peer's address")]
    Crowded,
    /// The peer said no.
    #[error("refused by the peer: {reason}")]
    Refused {
        /// The peer's reason.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection was lost: {reason}")]
    Lost {
        /// What the transport says.
        reason: String,
    },
    /// An earlier send was given up half way, so the peer could not tell where a message ends.
    #[error("an earlier message was sent only in part")]
    Torn,
}

/// How a stream broke: the peer's decision, or the wire's.
pub(crate) enum Broken {
    Refused(String),
    Lost(String),
    /// The peer closed the connection for being unused just when we used it. It does so only when it has
    /// taken nothing from it, so trying again cannot mean doing twice. Or its process is gone and a new one answers.
    Unused,
}

impl From<ConnectionError> for Broken {
    fn from(e: ConnectionError) -> Self {
        match close_reason(&e) {
            Some((code, _)) if code == Refusal::Unused.code() => Self::Unused,
            Some((_, reason)) => Self::Refused(reason),
            None => Self::Lost(e.to_string()),
        }
    }
}

impl From<ReadError> for Broken {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Reset(code) => Self::Refused(stream_reason(code)),
            ReadError::ConnectionLost(e) => e.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<WriteError> for Broken {
    fn from(e: WriteError) -> Self {
        match e {
            WriteError::Stopped(code) => Self::Refused(stream_reason(code)),
            WriteError::ConnectionLost(e) => e.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<Broken> for SessionError {
    fn from(b: Broken) -> Self {
        match b {
            Broken::Refused(reason) => Self::Refused { reason },
            Broken::Lost(reason) => Self::Lost { reason },
            Broken::Unused => Self::Lost { reason: Refusal::Unused.text().to_owned() },
        }
    }
}

impl From<Broken> for RequestError {
    fn from(b: Broken) -> Self {
        match b {
            Broken::Refused(reason) => Self::Refused { reason },
            Broken::Lost(reason) => Self::Lost { reason },
            Broken::Unused => Self::Lost { reason: Refusal::Unused.text().to_owned() },
        }
    }
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The folder cannot be used.
    #[error("cannot use {path} as a store of content; hint: is another node running on the same folder?")]
    Open {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The content is not here, or only a part of it.
    #[error("content {0} is not here")]
    Missing(Hash),
    /// The content is over the caller's limit.
    #[error("content {hash} has {size} bytes, over the limit of {size_max}")]
    TooLarge {
        /// The content.
        hash: Hash,
        /// Its size.
        size: u64,
        /// The caller's limit.
        size_max: u64,
    },
    /// A file cannot be read or written.
    #[error("cannot copy {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The store failed: a full or broken disk, or it is closed.
    #[error("the store of content failed")]
    Store(#[source] Cause),
}

/// An error of the engine below.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;
