//! Large content from several providers at once.
//!
//! What is missing is cut into pieces. Each provider takes the next piece when it has delivered the one before, so a fast one
//! delivers more; the piece of one that fails goes back to the others. Every piece is checked against the content's hash
//! on arrival, as all content is: a provider that sends one wrong bit is out, and nothing of it counts.

use std::sync::Mutex;

use futures::future::join_all;
use glean_types::{Hash, NodeId};
use iroh_blobs::HashAndFormat;
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt, GetRequest};

use super::{Attempt, Blobs, FetchError, Progress, ProviderFailure, ours, store_failed};
use crate::address::PeerAddr;

/// Smaller content is not worth a second connection.
pub(super) const FROM_BYTES: u64 = 32 << 20;
/// What is asked of one provider at a time.
const PIECE_BYTES: u64 = 8 << 20;
/// More would only share the same wire.
const PROVIDERS_MAX: usize = 4;

impl Blobs {
    /// Gets content of a proved size from several providers.
    pub(super) async fn fetch_split(
        &self,
        hash: Hash,
        size: u64,
        providers: &[PeerAddr],
        on_progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<u64, FetchError> {
        let content = HashAndFormat::raw(ours(hash));
        let local = self.store.remote().local(content).await.map_err(store_failed)?;
        let missing = local.missing().ranges.iter().next().cloned().unwrap_or_else(ChunkRanges::empty);
        let pieces = Mutex::new(pieces(&missing, size));
        let progress = Mutex::new((local.local_bytes(), on_progress));
        let count = |bytes| {
            let (have, on_progress) = &mut *progress.lock().expect("no panic while held");
            *have += bytes;
            on_progress(Progress { have: (*have).min(size), size });
        };
        let (mut left, mut tried) = (providers.to_vec(), Vec::new());
        while !self.has(hash).await? && !left.is_empty() {
            let some: Vec<NodeId> = left.iter().take(PROVIDERS_MAX).map(|provider| provider.node).collect();
            left.iter().take(PROVIDERS_MAX).for_each(|provider| self.pool.book.suggest(provider.clone()));
            let working = some.iter().map(|provider| self.deliver(hash, *provider, size, &pieces, &count));
            for (provider, done) in some.iter().zip(join_all(working).await) {
                let Err(failure) = done else { continue };
                tracing::debug!(provider = %provider.short(), content = %hash.short(), "fetch failed: {failure}");
                left.retain(|known| known.node != *provider);
                tried.push((*provider, failure));
            }
        }
        match self.has(hash).await? {
            true => Ok(size),
            false => Err(FetchError::AllFailed { hash, tried }),
        }
    }

    /// One provider delivers piece after piece until none is left.
    async fn deliver(
        &self,
        hash: Hash,
        provider: NodeId,
        size: u64,
        pieces: &Mutex<Vec<ChunkRanges>>,
        count: &(impl Fn(u64) + Sync),
    ) -> Result<(), ProviderFailure> {
        let take = || pieces.lock().expect("no panic while held").pop();
        let Some(mut piece) = take() else { return Ok(()) };
        let connection = match self.reach(hash, provider, size).await {
            Ok((connection, _)) => connection,
            Err(failure) => {
                pieces.lock().expect("no panic while held").push(piece);
                return Err(match failure {
                    Attempt::Failed(failure) => failure,
                    Attempt::Final(error) => ProviderFailure::Broke(error.to_string()),
                });
            }
        };
        loop {
            let request = GetRequest::blob_ranges(ours(hash), piece.clone());
            let sent = self.store.remote().execute_get(connection.clone(), request);
            if let Err(failure) = self.arrive(sent, count).await {
                pieces.lock().expect("no panic while held").push(piece);
                return Err(failure);
            }
            match take() {
                Some(next) => piece = next,
                None => return Ok(()),
            }
        }
    }
}

/// What is missing, cut up; the first piece comes last.
fn pieces(missing: &ChunkRanges, size: u64) -> Vec<ChunkRanges> {
    let starts = (0..size.div_ceil(PIECE_BYTES)).rev().map(|n| n * PIECE_BYTES);
    let cut = starts.map(|start| missing & &ChunkRanges::bytes(start..(start + PIECE_BYTES).min(size)));
    cut.filter(|piece| !piece.is_empty()).collect()
}
