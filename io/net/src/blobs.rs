//! Content by its hash: programs, input files, results too large for a message.
//!
//! The engine is iroh-blobs; nothing of it shows outside this module, so that it can be replaced. What
//! arrives is checked against its hash in pieces of 16 KiB while it arrives: a lying provider is noticed
//! at its first wrong piece. What was checked is kept, so a fetch that breaks goes on where it stopped,
//! from any provider, even after a restart. Large content is fetched from several providers at once
//! (`split.rs`).
//!
//! Content stays until [`Blobs::delete`]; the space is freed some minutes later. A crash may lose what was
//! put within the last half second: content can be put or fetched again, so it is not worth a disk flush.

mod admission;
mod split;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use glean_types::{Hash, NodeId};
use iroh::endpoint::{Connection, SendStream};
use iroh_blobs::api::Store;
use iroh_blobs::api::blobs::BlobStatus;
use iroh_blobs::api::remote::{GetProgress, GetProgressItem};
use iroh_blobs::get::GetError;
use iroh_blobs::provider::events::{ConnectionClosed, EventSender};
use iroh_blobs::provider::{StreamPair, handle_stream};
use iroh_blobs::store::GcConfig;
use iroh_blobs::store::{fs, mem};
use iroh_blobs::{BlobFormat, HashAndFormat};
use tokio::time::timeout;

use crate::address::PeerAddr;
use crate::errors::{BlobError, Cause, DialError};
use crate::limits::NetLimits;
use crate::pool::{Alpn, Pool};
use crate::stats::Counters;

/// How long deleted content still takes up space, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(300);

/// Where content is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BlobsAt {
    /// This node neither keeps nor serves content.
    #[default]
    Nowhere,
    /// In memory, gone when the node stops.
    Memory,
    /// In a folder that belongs to this node alone.
    Folder(PathBuf),
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Checked bytes that are here.
    pub have: u64,
    /// Bytes in all.
    pub size: u64,
}

/// Why content was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody was named who could have it.
    #[error("no provider of content {0} is known")]
    NoProvider(Hash),
    /// It is over the caller's limit. The size is proved by the hash, so no other provider would help.
    #[error("content {hash} has {size} bytes, over the limit of {size_max}")]
    TooLarge {
        /// The content.
        hash: Hash,
        /// Its size.
        size: u64,
        /// The caller's limit.
        size_max: u64,
    },
    /// Every provider failed; what they did deliver is kept.
    #[error("none of the {} providers delivered content {hash}; the last: {}", tried.len(), tried.last().map_or_else(String::new, |(_, e)| e.to_string()))]
    AllFailed {
        /// The content.
        hash: Hash,
        /// Each provider and what it did.
        tried: Vec<(NodeId, ProviderFailure)>,
    },
    /// Our own store failed.
    #[error(transparent)]
    Store(#[from] BlobError),
}

/// What one provider did instead of delivering.
#[derive(Debug, thiserror::Error)]
pub enum ProviderFailure {
    /// It could not be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It sent nothing for too long.
    #[error("sent nothing for {after_ms} ms")]
    Stalled {
        /// How long we waited.
        after_ms: u64,
    },
    /// It does not have the content, refused, sent something else, or the connection broke.
    #[error("did not deliver: {0}")]
    Broke(String),
}

/// The content of one node.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: Store,
    pool: Pool,
    patience: Duration,
    events: EventSender,
    counters: Arc<Counters>,
}

impl Blobs {
    pub(crate) async fn open(
        at: &BlobsAt,
        pool: Pool,
        limits: &NetLimits,
        counters: Arc<Counters>,
    ) -> Result<Option<Self>, BlobError> {
        let Some(store) = open_store(at, SWEEP_EVERY).await? else { return Ok(None) };
        let events = admission::spawn(limits, counters.clone());
        Ok(Some(Self { store, pool, patience: limits.message_timeout, events, counters }))
    }

    /// Answers one request, of which all bytes are here.
    pub(crate) async fn answer(&self, connection: &Connection, request: Bytes, stream: SendStream) {
        let pair = StreamPair::new(connection.stable_id() as u64, request, stream, self.events.clone());
        // An error is the peer's, or its leaving, and it has been told.
        let _ = handle_stream(pair, self.store.clone()).await;
    }

    /// A peer has left.
    pub(crate) async fn gone(&self, connection: &Connection) {
        let connection_id = connection.stable_id() as u64;
        // Fails only when the store is closing.
        let _ = self.events.connection_closed(|| ConnectionClosed { connection_id }).await;
    }

    pub(crate) async fn shutdown(&self) {
        // The folder's lock is released only by this. An error means that it was shut down before.
        if let Err(e) = self.store.shutdown().await {
            tracing::debug!("the store was already closed: {e}");
        }
    }

    /// Keeps some bytes.
    pub async fn put(&self, bytes: impl Into<Bytes>) -> Result<Hash, BlobError> {
        let added = self.store.blobs().add_bytes(bytes).temp_tag().await.map_err(store_failed)?;
        let hash = Hash(*added.hash().as_bytes());
        self.keep(hash).await?;
        Ok(hash)
    }

    /// Keeps a copy of a file.
    pub async fn put_file(&self, path: &Path) -> Result<Hash, BlobError> {
        let failed = |source: Cause| BlobError::File { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(|e| failed(Box::new(e)))?;
        let added = self.store.blobs().add_path(absolute).temp_tag().await.map_err(|e| failed(Box::new(e)))?;
        let hash = Hash(*added.hash().as_bytes());
        self.keep(hash).await?;
        Ok(hash)
    }

    /// Returns once everything put or fetched so far survives a crash.
    pub async fn sync(&self) -> Result<(), BlobError> {
        self.store.sync_db().await.map_err(store_failed)
    }

    /// The size of some content, if all of it is here.
    pub async fn size(&self, hash: Hash) -> Result<Option<u64>, BlobError> {
        match self.store.blobs().status(ours(hash)).await.map_err(store_failed)? {
            BlobStatus::Complete { size } => Ok(Some(size)),
            BlobStatus::Partial { .. } | BlobStatus::NotFound => Ok(None),
        }
    }

    /// Whether all of some content is here.
    pub async fn has(&self, hash: Hash) -> Result<bool, BlobError> {
        Ok(self.size(hash).await?.is_some())
    }

    /// Content that is here, in memory.
    pub async fn get(&self, hash: Hash, size_max: u64) -> Result<Bytes, BlobError> {
        let size = self.size(hash).await?.ok_or(BlobError::Missing(hash))?;
        if size > size_max {
            return Err(BlobError::TooLarge { hash, size, size_max });
        }
        self.store.blobs().get_bytes(ours(hash)).await.map_err(store_failed)
    }

    /// Copies content that is here into a file; what the file held before is replaced.
    pub async fn export(&self, hash: Hash, path: &Path) -> Result<(), BlobError> {
        if !self.has(hash).await? {
            return Err(BlobError::Missing(hash));
        }
        let failed = |source: Cause| BlobError::File { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(|e| failed(Box::new(e)))?;
        self.store.blobs().export(ours(hash), absolute).finish().await.map_err(|e| failed(Box::new(e)))?;
        Ok(())
    }

    /// Gives up content. Its space is freed some minutes later.
    pub async fn delete(&self, hash: Hash) -> Result<(), BlobError> {
        self.store.tags().delete(tag_of(hash)).await.map_err(store_failed)?;
        Ok(())
    }

    /// Gets content from these providers, going on from what is here: what is small from the first that delivers, what is
    /// large from several at once. Every byte is checked before it counts. Returns the size. May be dropped at any time:
    /// what came is kept.
    pub async fn fetch(
        &self,
        hash: Hash,
        providers: &[PeerAddr],
        size_max: u64,
        mut on_progress: impl FnMut(Progress) + Send,
    ) -> Result<u64, FetchError> {
        if let Some(size) = self.size(hash).await? {
            if size > size_max {
                return Err(FetchError::TooLarge { hash, size, size_max });
            }
            self.keep(hash).await?;
            return Ok(size);
        }
        if providers.is_empty() {
            return Err(FetchError::NoProvider(hash));
        }
        let mut tried = Vec::new();
        for provider in providers {
            // A key alone, or an address that somebody else named, must not push out a better one.
            self.pool.book.suggest(provider.clone());
            let fetched = match self.reach(hash, provider.node, size_max).await {
                Ok((_, size)) if size > split::FROM_BYTES && providers.len() > 1 => {
                    return self.fetch_split(hash, size, providers, &mut on_progress).await;
                }
                Ok((connection, size)) => self.fetch_from(hash, connection, size, &mut on_progress).await,
                Err(e) => Err(e),
            };
            match fetched {
                Ok(size) => return Ok(size),
                Err(Attempt::Final(e)) => return Err(e),
                Err(Attempt::Failed(e)) => {
                    tracing::debug!(provider = %provider.node.short(), content = %hash.short(), "fetch failed: {e}");
                    tried.push((provider.node, e));
                }
            }
        }
        Err(FetchError::AllFailed { hash, tried })
    }

    /// A connection to a provider that has the content, and its proved size.
    async fn reach(&self, hash: Hash, provider: NodeId, size_max: u64) -> Result<(Connection, u64), Attempt> {
        let connection = self.pool.connect(provider, Alpn::Blobs).await.map_err(ProviderFailure::from)?;
        let theirs = ours(hash);
        let size = self.patiently(iroh_blobs::get::request::get_verified_size(&connection, &theirs)).await?;
        let (size, _) = size.map_err(broke)?;
        if size > size_max {
            return Err(Attempt::Final(FetchError::TooLarge { hash, size, size_max }));
        }
        // Before the first byte arrives, or the sweep could take what is half here.
        self.keep(hash).await.map_err(FetchError::from)?;
        Ok((connection, size))
    }

    async fn fetch_from(
        &self,
        hash: Hash,
        connection: Connection,
        size: u64,
        on_progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<u64, Attempt> {
        let content = HashAndFormat::raw(ours(hash));
        let here =
            self.store.remote().local(content).await.map_err(|e| FetchError::from(store_failed(e)))?.local_bytes();
        let mut have = here;
        let count = |bytes| {
            have += bytes;
            on_progress(Progress { have: have.min(size), size });
        };
        self.arrive(self.store.remote().fetch(connection, content), count).await?;
        if self.has(hash).await.map_err(FetchError::from)? {
            Ok(size)
        } else {
            Err(ProviderFailure::Broke("has only a part of it".to_owned()).into())
        }
    }

    /// Takes in what a provider sends, and counts its bytes as they come.
    async fn arrive(&self, sent: GetProgress, mut count: impl FnMut(u64) + Send) -> Result<(), ProviderFailure> {
        let mut arriving = std::pin::pin!(sent.stream());
        let mut counted = 0;
        while let Some(item) = self.patiently(arriving.next()).await? {
            match item {
                GetProgressItem::Progress(bytes) => {
                    let new = bytes.saturating_sub(counted);
                    self.counters.blob_bytes_fetched.add(new);
                    counted = bytes;
                    count(new);
                }
                GetProgressItem::Done(_) => {}
                GetProgressItem::Error(e) => return Err(broke(e)),
            }
        }
        Ok(())
    }

    async fn patiently<T>(&self, waiting: impl Future<Output = T>) -> Result<T, ProviderFailure> {
        let patience = self.patience;
        timeout(patience, waiting).await.map_err(|_| {
            self.counters.stalled.one();
            ProviderFailure::Stalled { after_ms: patience.as_millis() as u64 }
        })
    }

    async fn keep(&self, hash: Hash) -> Result<(), BlobError> {
        let content = HashAndFormat { hash: ours(hash), format: BlobFormat::Raw };
        self.store.tags().set(tag_of(hash), content).await.map_err(store_failed)
    }
}

/// How one provider failed: try the next, or give up.
enum Attempt {
    Failed(ProviderFailure),
    Final(FetchError),
}

impl From<ProviderFailure> for Attempt {
    fn from(e: ProviderFailure) -> Self {
        Self::Failed(e)
    }
}

impl From<FetchError> for Attempt {
    fn from(e: FetchError) -> Self {
        Self::Final(e)
    }
}

async fn open_store(at: &BlobsAt, sweep_every: Duration) -> Result<Option<Store>, BlobError> {
    let sweep = GcConfig { interval: sweep_every, add_protected: None };
    match at {
        BlobsAt::Nowhere => Ok(None),
        BlobsAt::Memory => Ok(Some(mem::MemStore::new_with_opts(mem::Options { gc_config: Some(sweep) }).into())),
        BlobsAt::Folder(path) => {
            let options = fs::options::Options { gc: Some(sweep), ..fs::options::Options::new(path) };
            let opened = fs::FsStore::load_with_opts(path.join("blobs.db"), options).await;
            let store = opened.map_err(|e| BlobError::Open { path: path.clone(), source: e.into() })?;
            Ok(Some(store.into()))
        }
    }
}

fn ours(hash: Hash) -> iroh_blobs::Hash {
    iroh_blobs::Hash::from_bytes(hash.0)
}

fn tag_of(hash: Hash) -> String {
    format!("keep-{hash}")
}

fn store_failed(e: impl Into<Cause>) -> BlobError {
    BlobError::Store(e.into())
}

fn broke(e: GetError) -> ProviderFailure {
    ProviderFailure::Broke(format!("{e:#}"))
}

#[cfg(test)]
mod tests;
