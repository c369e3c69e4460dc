//! The network of a Gleaner node: who is reached, by which key, with which limits.
//!
//! Everything travels over QUIC connections dialled by public key ([`Net`]). On top of that there are
//! five protocols, each with its own name ([`Alpn`]): **work** sessions between a requester and a
//! provider, **rpc** (one question, one answer), the offer **index**, content-addressed **blobs**,
//! and the **mirror** (under which address a peer sees us: a router has changed it).
//! The payload bytes mean nothing here: this crate touches the world and decides nothing.
//!
//! What must stay true:
//!
//! 1. Nobody is contacted unless the caller named them: no default relays, no public lookup services,
//!    no port mapping. With no internet everything still works between addresses that are given.
//! 2. Whoever answers holds the private key of the [`NodeId`](glean_types::NodeId) that was dialled.
//! 3. Every byte a stranger can make us keep is bounded: connections, sessions, streams, message sizes,
//!    half-read messages in time ([`NetLimits`]). A refused peer is told why.
//! 4. Content is checked against its hash before anyone sees it, and half-fetched content is kept
//!    ([`Blobs`]).
//! 5. An offer is validated before it is kept, and kept before it is forwarded ([`index`]).

mod address;
mod blobs;
mod bucket;
mod errors;
mod gate;
pub mod index;
mod index_node;
mod limits;
mod net;
mod pool;
mod relay;
mod session;
mod stats;
#[cfg(test)]
mod testing;
pub mod text;
mod wire;

pub use address::{AddressBook, ParsePeerError, PeerAddr};
pub use blobs::{Blobs, BlobsAt, FetchError, Progress, ProviderFailure};
pub use bucket::{Bucket, Buckets, Rate};
pub use errors::{BindError, BlobError, Cause, DialError, RequestError, SessionError};
pub use index_node::{IndexConfig, IndexError, IndexNode, Reaction, Validate, publish, query, validate_offers};
pub use limits::NetLimits;
pub use net::{Admit, Incoming, Net, NetConfig, ReplySender, node_id};
pub use pool::{Alpn, NetPath};
pub use relay::{Relay, RelayAdmit, RelayConfig, RelayError};
pub use session::{Receiver, Sender, Session};
pub use stats::NetStats;
