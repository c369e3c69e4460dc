//! Another chain's history behind our JSON-RPC: for the official conformance cases, and nobody else.
//!
//! What is special: blocks come from outside with their rules ([`glean_ledger::replay`]), there is no engine and no
//! clock, and the chain id is the other chain's. Store, states, pool and [`RpcHandler`] are the ones that ship.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use alloy_consensus::Header;
use alloy_primitives::Address;
use bytes::Bytes;
use glean_ledger::replay::{self, Endowment, ReplayError};
use glean_ledger::{Genesis, Rules, recover_senders};

use crate::OpenError;
use crate::block::{BlockError, SealedBlock};
use crate::keeper::{Keeper, KeeperError};
use crate::rpc::RpcHandler;
use crate::store::{Record, Store, StoreError};

/// A chain that came from outside, block by block.
pub struct Foreign {
    keeper: Arc<Keeper>,
    rpc: RpcHandler,
}

/// Why the history was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The bytes are no block.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A transaction's signature is none.
    #[error("a transaction's signature is not valid")]
    Signature,
    /// Executing it gives something else.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// It could not be kept.
    #[error("{0}")]
    Store(String),
    /// There is no JSON-RPC to be had.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<KeeperError> for ImportError {
    fn from(error: KeeperError) -> Self {
        Self::Store(error.to_string())
    }
}

impl Foreign {
    /// Begins with the other chain's block 0, in an empty directory. `rules` are those after its last block: what is
    /// simulated stands on it.
    pub fn open(
        dir: &Path,
        chain_id: u64,
        header: Header,
        accounts: &BTreeMap<Address, Endowment>,
        rules: Rules,
    ) -> Result<Self, ImportError> {
        let (block, changes) = replay::genesis(header, accounts)?;
        let store = Store::open(dir)?;
        let block = SealedBlock::seal(block);
        let keeper = Keeper::open_from(store, settings(chain_id), block, &changes, rules, b"import")?;
        let keeper = Arc::new(keeper);
        Ok(Self { rpc: RpcHandler::new(keeper.clone(), None)?, keeper })
    }

    /// Executes the next block and holds it against its own header, then keeps it.
    pub fn push(&self, rlp: Bytes, rules: Rules) -> Result<(), ImportError> {
        let block = SealedBlock::decode(rlp)?;
        let senders = recover_senders(block.block()).ok_or(ImportError::Signature)?;
        let (head, state) = (self.keeper.head(), self.keeper.latest());
        let replayed = replay::block(rules, self.keeper.chain_id(), &*state, head.header(), block.block(), &senders)?;
        let supply = state.supply() + replayed.minted - replayed.burnt;
        let record = Record { senders, tx_receipts: replayed.tx_receipts };
        Ok(self.keeper.adopt(block, record, replayed.changes, supply)?)
    }

    /// The last block.
    pub fn head(&self) -> Arc<SealedBlock> {
        self.keeper.head()
    }

    /// The JSON-RPC interface.
    pub fn rpc(&self) -> RpcHandler {
        self.rpc.clone()
    }
}

/// Only the chain id of these is ever asked for: block 0 is there already.
fn settings(chain_id: u64) -> Genesis {
    Genesis {
        chain_id,
        timestamp: 0,
        gas_limit: 0,
        base_fee_per_gas: 0,
        owner: Address::ZERO,
        fee_recipient: Address::ZERO,
        fee_bps: 0,
        grace_s: 0,
        gln: BTreeMap::new(),
        dollars: BTreeMap::new(),
        minters: BTreeMap::new(),
        faucet: None,
    }
}
