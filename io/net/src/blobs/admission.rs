//! Which blob requests of strangers are served, and how fast.
//!
//! Served: reading one blob, by whoever knows its hash. Refused: anything that writes to us, anything
//! that makes one short request mean many blobs, and watching our store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use iroh_blobs::provider::events::{
    AbortReason, ConnectMode, EventMask, EventSender, ObserveMode, ProviderMessage, RequestMode, ThrottleMode,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::limits::NetLimits;
use crate::stats::Counters;

/// Messages of the engine waiting for a decision.
const BACKLOG: usize = 64;

/// Starts deciding; ends when the last sender is dropped.
pub(super) fn spawn(limits: &NetLimits, counters: Arc<Counters>) -> EventSender {
    let throttle = if limits.blob_bytes_per_second > 0 { ThrottleMode::Intercept } else { ThrottleMode::None };
    let mask = EventMask {
        connected: ConnectMode::None,
        get: RequestMode::Intercept,
        get_many: RequestMode::Disabled,
        push: RequestMode::Disabled,
        observe: ObserveMode::Intercept,
        throttle,
    };
    let (sender, mut messages) = EventSender::channel(BACKLOG, mask);
    let mut desk = Desk {
        room: Arc::new(Semaphore::new(limits.blob_requests_max)),
        bytes_per_second: limits.blob_bytes_per_second,
        free_at: BTreeMap::new(),
        counters,
    };
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            desk.on_message(message).await;
        }
    });
    sender
}

struct Desk {
    room: Arc<Semaphore>,
    bytes_per_second: u64,
    /// When each connection may be sent its next piece.
    free_at: BTreeMap<u64, Instant>,
    counters: Arc<Counters>,
}

impl Desk {
    async fn on_message(&mut self, message: ProviderMessage) {
        // A peer that left does not wait for our decision, so a failed answer is nothing to act on.
        match message {
            ProviderMessage::GetRequestReceived(request) => {
                let permit = self.room.clone().try_acquire_owned();
                let verdict = match &permit {
                    _ if !request.request.ranges.is_blob() => Err(AbortReason::Permission),
                    Ok(_) => Ok(()),
                    Err(_) => Err(AbortReason::RateLimited),
                };
                if verdict.is_ok() {
                    self.counters.blob_requests.one();
                } else {
                    self.counters.blob_requests_refused.one();
                }
                let mut updates = request.rx;
                let _ = request.tx.send(verdict).await;
                tokio::spawn(async move {
                    // The channel ends with the request, and the room it took with it.
                    while let Ok(Some(_)) = updates.recv().await {}
                    drop(permit);
                });
            }
            ProviderMessage::ObserveRequestReceived(request) => {
                self.counters.blob_requests_refused.one();
                let _ = request.tx.send(Err(AbortReason::Permission)).await;
            }
            ProviderMessage::Throttle(piece) => {
                let until = self.book(piece.inner.connection_id, piece.inner.size);
                tokio::spawn(async move {
                    tokio::time::sleep_until(until).await;
                    let _ = piece.tx.send(Ok(())).await;
                });
            }
            ProviderMessage::ConnectionClosed(closed) => {
                self.free_at.remove(&closed.inner.connection_id);
            }
            // Not asked for by the mask, or refused by it.
            _ => {}
        }
    }

    /// When a piece may go out, and the connection's next free moment after it.
    fn book(&mut self, connection: u64, bytes: u64) -> Instant {
        let now = Instant::now();
        let micros = bytes.saturating_mul(1_000_000) / self.bytes_per_second.max(1);
        let free_at = self.free_at.entry(connection).or_insert(now);
        let start = (*free_at).max(now);
        *free_at = start + Duration::from_micros(micros);
        start
    }
}
