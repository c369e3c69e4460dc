//! What waits in the pool, as `txpool_` shows it.

use std::sync::Arc;

use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, U64};
use serde_json::{Map, Value, json};

use super::error::RpcError;
use super::eth::account;
use super::{Answer, Params, Shared, view};
use crate::pool::PooledTx;

/// Waiting transactions that could run next, and those behind a gap.
#[derive(Default)]
struct Waiting {
    pending: Vec<Arc<PooledTx>>,
    queued: Vec<Arc<PooledTx>>,
}

impl Shared {
    pub(super) fn pool_status(&self) -> Answer {
        let Waiting { pending, queued } = self.waiting()?;
        Ok(json!({ "pending": U64::from(pending.len()), "queued": U64::from(queued.len()) }))
    }

    pub(super) fn pool_content(&self) -> Answer {
        let Waiting { pending, queued } = self.waiting()?;
        Ok(json!({ "pending": by_account(&pending)?, "queued": by_account(&queued)? }))
    }

    pub(super) fn pool_content_from(&self, params: &Params) -> Answer {
        let from: Address = params.address(0)?;
        let Waiting { mut pending, mut queued } = self.waiting()?;
        pending.retain(|tx| tx.sender == from);
        queued.retain(|tx| tx.sender == from);
        Ok(json!({ "pending": by_nonce(&pending)?, "queued": by_nonce(&queued)? }))
    }

    fn waiting(&self) -> Result<Waiting, RpcError> {
        let view = self.view(None)?;
        let mut waiting = Waiting::default();
        for tx in self.keeper.pool().all() {
            let nonce = account(&view, tx.sender)?.nonce;
            let next = self.keeper.pool().next_nonce(tx.sender, nonce);
            let side = if tx.tx.nonce() < next { &mut waiting.pending } else { &mut waiting.queued };
            side.push(tx);
        }
        Ok(waiting)
    }
}

fn by_account(txs: &[Arc<PooledTx>]) -> Answer {
    let mut accounts = Map::new();
    for run in txs.chunk_by(|one, next| one.sender == next.sender) {
        accounts.insert(run[0].sender.to_string(), by_nonce(run)?);
    }
    Ok(Value::Object(accounts))
}

fn by_nonce(txs: &[Arc<PooledTx>]) -> Answer {
    let rows = txs.iter().map(|tx| Ok((tx.tx.nonce().to_string(), view::pending(tx)?)));
    rows.collect::<Result<Map<String, Value>, RpcError>>().map(Value::Object)
}
