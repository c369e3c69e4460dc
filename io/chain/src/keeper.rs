//! The keeper of the chain's states: final ones in redb, executed but unfinalised ones in memory, and the one
//! way from the latter to the former.
//!
//! ```text
//!   genesis ── ... ── head (redb, snapshot) ── a ── b      executed, unfinalised
//!                                           └─ c           another candidate
//! ```
//!
//! What must stay true:
//! - a candidate is executed on the exact state of its parent, which is a snapshot plus the changes of the
//!   candidates between;
//! - `finalize` is the only writer, takes blocks in order and ignores those already written;
//! - a failure is final: after `fail` nothing more is written or acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_eips::eip1559::BaseFeeParams;
use alloy_primitives::{B256, U256, keccak256};
use bytes::Bytes;
use glean_ledger::{
    BuildError, Changes, Executed, Genesis, GenesisError, Proposal, Refusal, Rules, State, StateError, VerifyError,
    build_block, recover_senders, verify_block,
};
use tokio::sync::{broadcast, watch};

use crate::block::{BLOCK_BYTES_MAX, SealedBlock};
use crate::pool::{Pool, PoolError, PooledTx, Standing};
use crate::states::{Layer, Layered, rows};
use crate::store::{Record, Snapshot, Store, StoreError};
use crate::{FinalBlock, SUBSCRIPTION_BLOCKS};

/// Recent states kept readable. They cost the disk space of what later blocks replaced.
pub(crate) const RECENT_STATES: usize = 128;

/// Transactions that wait to be told to the other validators. Their users' nodes keep them and may send again.
const FRESH_MAX: usize = 1_024;

/// Why a candidate is not executed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    #[error("the parent's state is not known")]
    UnknownParent,
    #[error("a transaction's signature is not valid")]
    Signature,
    #[error(transparent)]
    Invalid(#[from] VerifyError),
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl ExecuteError {
    /// Says that this node, not the block, is at fault: a broken store, or coins from nowhere.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Build(_) | Self::Invalid(VerifyError::Build(_)))
    }
}

/// Why a final block was not written. All of them stop the node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FinalizeError {
    #[error("final block {number} cannot be executed: {source}")]
    Execute { number: u64, source: ExecuteError },
    #[error("final block {number} cannot be written: {source}")]
    Store { number: u64, source: StoreError },
}

/// Why a raw transaction was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    #[error(transparent)]
    Refused(#[from] PoolError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the ledger stopped: {0}")]
    Stopped(String),
}

/// A candidate and what executing it gave.
struct Candidate {
    block: Arc<SealedBlock>,
    record: Record,
    changes: Arc<Changes>,
    /// Coins burnt, or destroyed with a contract: by so much the sum of all balances falls.
    coins_gone: U256,
}

/// What moves together when a block becomes final.
struct Tips {
    /// Newest last; never empty.
    recent: VecDeque<(Arc<SealedBlock>, Arc<Snapshot>)>,
    unfinalised: BTreeMap<B256, Arc<Candidate>>,
}

/// See the head of this file.
pub(crate) struct Keeper {
    store: Store,
    pool: Pool,
    genesis: Genesis,
    genesis_block: Arc<SealedBlock>,
    rules: Rules,
    tips: Mutex<Tips>,
    /// Held by the one writer.
    writing: Mutex<()>,
    /// Grows whenever there may be new work for a proposal.
    work: watch::Sender<u64>,
    /// The value of `work` up to which everything was tried.
    rested: AtomicU64,
    /// Raw transactions that came to us first, for the other validators.
    fresh: broadcast::Sender<Bytes>,
    head: watch::Sender<u64>,
    finals: broadcast::Sender<FinalBlock>,
    failure: watch::Sender<Option<String>>,
}

impl Keeper {
    fn tips(&self) -> MutexGuard<'_, Tips> {
        // Nothing that can panic runs while the tips are half changed.
        self.tips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last final block.
    pub(crate) fn head(&self) -> Arc<SealedBlock> {
        let tips = self.tips();
        let (block, _) = tips.recent.back().expect("the genesis is always there");
        block.clone()
    }

    pub(crate) fn head_number(&self) -> u64 {
        self.head().number()
    }

    pub(crate) fn genesis_block(&self) -> Arc<SealedBlock> {
        self.genesis_block.clone()
    }

    pub(crate) fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The state after a recent final block.
    pub(crate) fn snapshot(&self, number: u64) -> Option<Arc<Snapshot>> {
        let tips = self.tips();
        let found = tips.recent.iter().find(|(block, _)| block.number() == number);
        found.map(|(_, snapshot)| snapshot.clone())
    }

    /// The first block whose state is still readable.
    pub(crate) fn oldest_state(&self) -> u64 {
        let tips = self.tips();
        let (oldest, _) = tips.recent.front().expect("the genesis is always there");
        oldest.number()
    }

    /// The state after the last final block.
    pub(crate) fn latest(&self) -> Arc<Snapshot> {
        let tips = self.tips();
        let (_, snapshot) = tips.recent.back().expect("the genesis is always there");
        snapshot.clone()
    }

    /// A final block by number.
    pub(crate) fn block(&self, number: u64) -> Result<Option<Arc<SealedBlock>>, StoreError> {
        let recent = {
            let tips = self.tips();
            let found = tips.recent.iter().find(|(block, _)| block.number() == number);
            found.map(|(block, _)| block.clone())
        };
        match recent {
            Some(block) => Ok(Some(block)),
            None => self.store.block(number),
        }
    }

    /// The hash of a final block.
    pub(crate) fn block_hash(&self, number: u64) -> Option<B256> {
        self.block(number).ok().flatten().map(|block| block.hash())
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<FinalBlock> {
        self.finals.subscribe()
    }

    /// Changes whenever a block becomes final.
    pub(crate) fn watch_head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    pub(crate) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    /// Stops the chain for good, with the first reason given.
    pub(crate) fn fail(&self, report: String) {
        tracing::error!(report, "the ledger stopped");
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(report);
            first
        });
    }

    /// Takes a raw transaction of one of our users into the pool, and tells the other validators.
    pub(crate) fn submit(&self, raw: &[u8]) -> Result<B256, SubmitError> {
        let hash = self.admit(raw)?;
        // Nobody listens where nobody else votes.
        let _ = self.fresh.send(Bytes::copy_from_slice(raw));
        Ok(hash)
    }

    /// Raw transactions submitted here from now on.
    pub(crate) fn fresh(&self) -> broadcast::Receiver<Bytes> {
        self.fresh.subscribe()
    }

    /// Takes a raw transaction into the pool.
    pub(crate) fn admit(&self, raw: &[u8]) -> Result<B256, SubmitError> {
        if let Some(report) = self.failure.borrow().clone() {
            return Err(SubmitError::Stopped(report));
        }
        // Before the sender is recovered, which takes a hundred times as long.
        if self.pool.get(&keccak256(raw)).is_some() {
            return Err(PoolError::AlreadyKnown.into());
        }
        let tx = PooledTx::decode(raw, self.chain_id())?;
        let account = self.latest().account(tx.sender)?.unwrap_or_default();
        let standing = Standing {
            nonce: account.nonce,
            balance: account.balance,
            block_gas_limit: self.head().header().gas_limit,
        };
        let tx = self.pool.insert(tx, standing)?;
        self.announce_work();
        Ok(tx.hash)
    }

    fn announce_work(&self) {
        self.work.send_modify(|seen| *seen += 1);
    }

    /// Waits until the pool may have something to run.
    pub(crate) async fn wait_for_work(&self) -> u64 {
        let mut work = self.work.subscribe();
        let untried = work.wait_for(|seen| *seen > self.rested.load(Ordering::Acquire)).await;
        *untried.expect("the sender is ours")
    }

    /// Everything announced up to `seen` was tried and cannot run now.
    pub(crate) fn rest(&self, seen: u64) {
        self.rested.fetch_max(seen, Ordering::AcqRel);
    }

    /// Opens the states kept in `store`, writing the genesis into an empty one.
    pub(crate) fn open(store: Store, genesis: Genesis, validator: &[u8]) -> Result<Self, KeeperError> {
        let built = genesis.build()?;
        let genesis_block = SealedBlock::seal(built.block);
        Self::open_from(store, genesis, genesis_block, &built.changes, Rules::OURS, validator)
    }

    /// Like [`Keeper::open`], with a block 0 and rules that are there already.
    pub(crate) fn open_from(
        store: Store,
        genesis: Genesis,
        genesis_block: SealedBlock,
        changes: &Changes,
        rules: Rules,
        validator: &[u8],
    ) -> Result<Self, KeeperError> {
        let supply = changes.accounts.values().flatten().map(|account| account.balance).sum();
        match store.validator()? {
            None => store.create(validator, &genesis_block, supply, &rows(changes))?,
            Some(found) if found != validator => return Err(KeeperError::OtherValidator),
            Some(_) => {}
        }
        let stored = store.block(0)?.ok_or(StoreError::Damaged { what: "block", number: 0 })?;
        if *stored != genesis_block {
            return Err(KeeperError::OtherGenesis { found: stored.hash(), expected: genesis_block.hash() });
        }
        let snapshot = store.snapshot()?.ok_or(StoreError::Damaged { what: "head", number: 0 })?;
        let (found, expected) = (sum_of_balances(&snapshot)?, snapshot.supply());
        if found != expected {
            return Err(KeeperError::Supply { found, expected });
        }
        let number = snapshot.number();
        let head = store.block(number)?.ok_or(StoreError::Damaged { what: "block", number })?;
        Ok(Self {
            store,
            pool: Pool::new(),
            genesis,
            genesis_block: stored,
            rules,
            tips: Mutex::new(Tips {
                recent: VecDeque::from([(head, Arc::new(snapshot))]),
                unfinalised: BTreeMap::new(),
            }),
            writing: Mutex::new(()),
            work: watch::channel(0).0,
            rested: AtomicU64::new(0),
            fresh: broadcast::channel(FRESH_MAX).0,
            head: watch::channel(number).0,
            finals: broadcast::channel(SUBSCRIPTION_BLOCKS).0,
            failure: watch::channel(None).0,
        })
    }

    pub(crate) fn chain_id(&self) -> u64 {
        self.genesis.chain_id
    }

    /// The rules of the blocks that follow.
    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    /// True when blocks can be executed on top of this one.
    pub(crate) fn knows(&self, hash: B256) -> bool {
        let tips = self.tips();
        let (head, _) = tips.recent.back().expect("the genesis is always there");
        head.hash() == hash || tips.unfinalised.contains_key(&hash)
    }

    /// The state after `tip`: the newest snapshot and the candidates between.
    fn state_after(&self, tip: B256) -> Result<Layered, ExecuteError> {
        let tips = self.tips();
        let (head, base) = tips.recent.back().expect("the genesis is always there");
        let mut layers = Vec::new();
        let mut hash = tip;
        while hash != head.hash() {
            let executed = tips.unfinalised.get(&hash).ok_or(ExecuteError::UnknownParent)?;
            layers.push(Layer { number: executed.block.number(), hash, changes: executed.changes.clone() });
            hash = executed.block.parent_hash();
        }
        layers.reverse();
        Ok(Layered { base: base.clone(), layers })
    }

    /// Builds and remembers a block on `parent` from what waits in the pool; `now_s` is our clock, seconds since 1970.
    pub(crate) fn build(&self, parent: &SealedBlock, now_s: u64) -> Result<Arc<SealedBlock>, ExecuteError> {
        let state = self.state_after(parent.hash())?;
        let selected = self.pool.select(self.base_fee_after(parent), |account| {
            let account = state.account(account);
            account.map_or(u64::MAX, |account| account.map_or(0, |account| account.nonce))
        });
        let proposal = Proposal {
            chain_id: self.chain_id(),
            timestamp: now_s.max(parent.header().timestamp),
            beneficiary: self.genesis.fee_recipient,
            bytes_max: BLOCK_BYTES_MAX / 2,
        };
        let offered = selected.iter().map(|tx| (&tx.tx, tx.sender));
        let built = build_block(&state, parent.header(), &proposal, offered)?;
        for (hash, refusal) in &built.refused {
            // Without funds at its own nonce it only blocks what follows.
            if refusal.is_final() || matches!(refusal, Refusal::Funds { .. }) {
                tracing::debug!(%hash, %refusal, "dropped from the pool");
                self.pool.discard(hash);
            }
        }
        let block = Arc::new(SealedBlock::seal(built.block));
        self.remember(block.clone(), built.executed);
        Ok(block)
    }

    /// Executes and remembers a candidate whose parent's state is known.
    pub(crate) fn execute(&self, block: Arc<SealedBlock>) -> Result<(), ExecuteError> {
        if self.knows(block.hash()) {
            return Ok(());
        }
        self.executed(block).map(drop)
    }

    /// What executing a candidate gives, remembered or computed now.
    fn executed(&self, block: Arc<SealedBlock>) -> Result<Arc<Candidate>, ExecuteError> {
        if let Some(candidate) = self.tips().unfinalised.get(&block.hash()) {
            return Ok(candidate.clone());
        }
        let state = self.state_after(block.parent_hash())?;
        let parent = self.known_block(block.parent_hash()).ok_or(ExecuteError::UnknownParent)?;
        let senders = recover_senders(block.block()).ok_or(ExecuteError::Signature)?;
        let executed = verify_block(&state, self.chain_id(), parent.header(), block.block(), &senders)?;
        Ok(self.remember(block, executed))
    }

    fn known_block(&self, hash: B256) -> Option<Arc<SealedBlock>> {
        let tips = self.tips();
        let (head, _) = tips.recent.back().expect("the genesis is always there");
        if head.hash() == hash {
            return Some(head.clone());
        }
        tips.unfinalised.get(&hash).map(|executed| executed.block.clone())
    }

    fn remember(&self, block: Arc<SealedBlock>, executed: Executed) -> Arc<Candidate> {
        let hash = block.hash();
        let candidate = Arc::new(Candidate {
            block,
            record: Record { senders: executed.senders, tx_receipts: executed.tx_receipts },
            changes: Arc::new(executed.changes),
            coins_gone: executed.coins_gone,
        });
        self.tips().unfinalised.insert(hash, candidate.clone());
        candidate
    }

    /// Writes a final block; durable when this returns. Blocks already written are ignored.
    pub(crate) fn finalize(&self, block: &Arc<SealedBlock>) -> Result<(), FinalizeError> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let number = block.number();
        if number <= self.head_number() {
            return Ok(());
        }
        let execute_error = |source| FinalizeError::Execute { number, source };
        let candidate = self.executed(block.clone()).map_err(execute_error)?;
        let store_error = |source| FinalizeError::Store { number, source };
        let supply = self.latest().supply() - candidate.coins_gone;
        self.write(&candidate, supply).map_err(store_error)
    }

    /// Writes a block that somebody else executed, after the head: the door of [`crate::import`].
    pub(crate) fn adopt(
        &self,
        block: SealedBlock,
        record: Record,
        changes: Changes,
        supply: U256,
    ) -> Result<(), StoreError> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let candidate =
            Candidate { block: Arc::new(block), record, changes: Arc::new(changes), coins_gone: U256::ZERO };
        self.write(&candidate, supply)
    }

    fn write(&self, candidate: &Candidate, supply: U256) -> Result<(), StoreError> {
        self.store.commit(&candidate.block, &candidate.record, supply, &rows(&candidate.changes))?;
        let snapshot = self.store.snapshot()?.expect("a block was just written");
        self.advance(&candidate.block, Arc::new(snapshot));
        self.settle(candidate);
        Ok(())
    }

    fn advance(&self, block: &Arc<SealedBlock>, snapshot: Arc<Snapshot>) {
        let mut tips = self.tips();
        tips.recent.push_back((block.clone(), snapshot));
        if tips.recent.len() > RECENT_STATES {
            tips.recent.pop_front();
        }
        let number = block.number();
        tips.unfinalised.retain(|_, executed| executed.block.number() > number);
    }

    /// Tells the pool, subscribers and waiting callers about a final block.
    fn settle(&self, candidate: &Candidate) {
        let accounts = candidate.changes.accounts.iter();
        let nonces =
            accounts.filter_map(|(address, account)| account.map(|account| (*address, account.nonce))).collect();
        self.pool.settle(&nonces);
        if !self.pool.is_empty() {
            self.announce_work();
        }
        self.head.send_replace(candidate.block.number());
        // No subscriber is no error.
        let _ = self
            .finals
            .send(FinalBlock { block: candidate.block.clone(), state_root: candidate.block.header().state_root });
    }

    /// Drops every candidate: the next engine session asks again for what it needs.
    pub(crate) fn forget_unfinalised(&self) {
        self.tips().unfinalised.clear();
    }

    /// The base fee of a block on top of `parent`.
    pub(crate) fn base_fee_after(&self, parent: &SealedBlock) -> u64 {
        let fee = parent.header().next_block_base_fee(BaseFeeParams::ethereum());
        fee.unwrap_or_default()
    }

    pub(crate) fn next_base_fee(&self) -> u64 {
        self.base_fee_after(&self.head())
    }
}

/// Why the kept states could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeeperError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    #[error("balances sum up to {found}, not {expected}")]
    Supply { found: U256, expected: U256 },
    #[error("another validator key")]
    OtherValidator,
    #[error("genesis {found}, expected {expected}")]
    OtherGenesis { found: B256, expected: B256 },
}

/// Every coin there is: the slow truth that the running figure is held against at each start.
fn sum_of_balances(snapshot: &Snapshot) -> Result<U256, StateError> {
    let mut sum = U256::ZERO;
    snapshot.each_account(|account| sum += account.balance)?;
    Ok(sum)
}

#[cfg(test)]
mod tests;
