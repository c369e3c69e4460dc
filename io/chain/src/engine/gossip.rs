//! Transactions on their way to whoever proposes next: a validator tells the others at once what its own users submit, and
//! now and again what still waits, for those that did not hear it.
//!
//! Nothing is lost that anybody counts on: a transaction is safe when its block is final. What no other validator hears of
//! runs when ours proposes.

use std::sync::Arc;
use std::time::Duration;

use alloy_eips::Encodable2718 as _;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::Buf as _;
use tokio::sync::broadcast::error::RecvError;

use super::committee::PublicKey;
use super::ground::Ground;
use crate::keeper::Keeper;
use crate::pool::TX_BYTES_MAX;

/// Between two times that what waits is told again.
const AGAIN: Duration = Duration::from_millis(500);
/// So much of it: those that hear it know it mostly.
const AGAIN_MAX: usize = 64;

/// Sends what is submitted here, and takes what the others send, until the engine ends.
pub(super) fn gossip(
    context: impl Ground,
    keeper: Arc<Keeper>,
    (mut sender, mut receiver): (impl Sender<PublicKey = PublicKey>, impl Receiver<PublicKey = PublicKey>),
) {
    let mut fresh = keeper.fresh();
    let waiting = keeper.clone();
    context.child("tell").spawn(|context| async move {
        loop {
            let raw = tokio::select! {
                biased;
                raw = fresh.recv() => raw,
                () = context.sleep(AGAIN) => {
                    for tx in waiting.pool().all().iter().take(AGAIN_MAX) {
                        sender.send(Recipients::All, tx.tx.encoded_2718(), false);
                    }
                    continue;
                }
            };
            match raw {
                Ok(raw) => _ = sender.send(Recipients::All, raw, false),
                Err(RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "transactions not told to the other validators")
                }
                Err(RecvError::Closed) => return,
            }
        }
    });
    context.child("hear").spawn(|_| async move {
        while let Ok((validator, mut raw)) = receiver.recv().await {
            if raw.remaining() > TX_BYTES_MAX {
                continue;
            }
            let raw = raw.copy_to_bytes(raw.remaining());
            if let Err(error) = keeper.admit(&raw) {
                tracing::debug!(%validator, %error, "a validator's transaction is not taken");
            }
        }
    });
}
