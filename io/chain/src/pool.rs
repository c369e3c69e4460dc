//! Transactions that wait for a block.
//!
//! What must stay true:
//! - every transaction here has a recovered sender, fits the limits below and was affordable when it came;
//! - per account at most one transaction per nonce; a replacement pays at least 10 % more in both fees;
//! - the pool never grows past its limits: the account with the most transactions gives way first, from its
//!   highest nonce down, because those are the last that could run;
//! - nothing here is durable: a transaction is safe when its block is final, and the caller is told so.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy_consensus::Transaction as _;
use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_eips::Decodable2718 as _;
use alloy_eips::Encodable2718 as _;
use alloy_primitives::{Address, B256, U256};

use crate::block::Transaction;

/// Transactions in the pool.
const TXS_MAX: usize = 8_192;
/// Transactions of one account.
const TXS_PER_ACCOUNT_MAX: usize = 512;
/// Bytes of all transactions.
const BYTES_MAX: usize = 32 << 20;
/// Bytes of one transaction.
pub(crate) const TX_BYTES_MAX: usize = 128 * 1024;
/// Bytes of transactions in one block, well below the block's limit.
const SELECTION_BYTES_MAX: usize = 3 << 20;
/// A replacement must pay this many percent of what it replaces.
const REPLACEMENT_PERCENT: u128 = 110;

/// Why a transaction was not taken. The texts are geth's, which wallets look for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PoolError {
    #[error("rlp: transaction cannot be decoded: {0}")]
    Undecodable(String),
    #[error("oversized data: transaction size {0}, limit {TX_BYTES_MAX}")]
    Oversized(usize),
    #[error("transaction type not supported")]
    UnsupportedType,
    #[error("invalid sender: invalid chain id for signer: have {have} want {want}")]
    WrongChain { have: u64, want: u64 },
    #[error("only replay-protected (EIP-155) transactions allowed over RPC")]
    Unprotected,
    #[error("invalid sender")]
    InvalidSender,
    #[error("already known")]
    AlreadyKnown,
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow { next: u64, nonce: u64 },
    #[error("nonce too high: next nonce {next}, tx nonce {nonce}")]
    NonceTooHigh { next: u64, nonce: u64 },
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas { gas: u64, needed: u64 },
    #[error("exceeds block gas limit")]
    ExceedsBlockGas,
    #[error("max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {tip}, maxFeePerGas: {cap}")]
    TipAboveCap { tip: u128, cap: u128 },
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {overshot}")]
    InsufficientFunds { balance: U256, cost: U256, overshot: U256 },
    #[error("max initcode size exceeded: code size {0}, limit {INITCODE_BYTES_MAX}")]
    InitcodeTooLarge(usize),
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    #[error("txpool is full")]
    Full,
    #[error("account limit exceeded: pooled {TXS_PER_ACCOUNT_MAX} txs of this account")]
    AccountFull,
}

const INITCODE_BYTES_MAX: usize = 2 * 24_576;

/// A transaction with everything that was computed once.
#[derive(Debug)]
pub(crate) struct PooledTx {
    pub(crate) tx: Transaction,
    pub(crate) hash: B256,
    pub(crate) sender: Address,
    bytes: usize,
    arrival: u64,
}

impl PooledTx {
    /// Decodes and recovers a raw transaction; the expensive part of an insert, done outside every lock.
    pub(crate) fn decode(raw: &[u8], chain_id: u64) -> Result<Self, PoolError> {
        if raw.len() > TX_BYTES_MAX {
            return Err(PoolError::Oversized(raw.len()));
        }
        let mut rest = raw;
        let tx = Transaction::decode_2718(&mut rest).map_err(|error| PoolError::Undecodable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(PoolError::Undecodable("trailing bytes".into()));
        }
        if tx.is_eip4844() {
            return Err(PoolError::UnsupportedType);
        }
        match tx.chain_id() {
            Some(have) if have != chain_id => {
                return Err(PoolError::WrongChain { have, want: chain_id });
            }
            None => return Err(PoolError::Unprotected),
            Some(_) => {}
        }
        let sender = tx.recover_signer().map_err(|_| PoolError::InvalidSender)?;
        Ok(Self { hash: *tx.tx_hash(), bytes: tx.encode_2718_len(), tx, sender, arrival: 0 })
    }

    fn nonce(&self) -> u64 {
        self.tx.nonce()
    }

    /// What the sender must own: the most the transaction can cost.
    fn cost(&self) -> U256 {
        U256::from(self.tx.max_fee_per_gas())
            .saturating_mul(U256::from(self.tx.gas_limit()))
            .saturating_add(self.tx.value())
    }

    fn tip_cap(&self) -> u128 {
        self.tx.max_priority_fee_per_gas().unwrap_or(self.tx.max_fee_per_gas())
    }
}

/// What a transaction is checked against: the sender's account and the block limits at the head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) block_gas_limit: u64,
}

/// The waiting transactions.
pub(crate) struct Pool {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    accounts: BTreeMap<Address, BTreeMap<u64, Arc<PooledTx>>>,
    by_hash: BTreeMap<B256, Arc<PooledTx>>,
    bytes: usize,
    arrivals: u64,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Inner::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No method leaves the maps half changed when it panics: they hold no user code.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a transaction in, or says why not.
    pub(crate) fn insert(&self, tx: PooledTx, standing: Standing) -> Result<Arc<PooledTx>, PoolError> {
        check_alone(&tx, standing)?;
        let mut inner = self.lock();
        if inner.by_hash.contains_key(&tx.hash) {
            return Err(PoolError::AlreadyKnown);
        }
        inner.check_affordable(&tx, standing)?;
        inner.check_replacement(&tx)?;
        inner.make_room(&tx)?;
        inner.arrivals += 1;
        let tx = Arc::new(PooledTx { arrival: inner.arrivals, ..tx });
        inner.put(tx.clone());
        Ok(tx)
    }

    /// A waiting transaction by hash.
    pub(crate) fn get(&self, hash: &B256) -> Option<Arc<PooledTx>> {
        self.lock().by_hash.get(hash).cloned()
    }

    /// The nonce after the unbroken run of waiting transactions that starts at `nonce`.
    pub(crate) fn next_nonce(&self, account: Address, nonce: u64) -> u64 {
        let inner = self.lock();
        let Some(waiting) = inner.accounts.get(&account) else {
            return nonce;
        };
        let mut next = nonce;
        while waiting.contains_key(&next) {
            next += 1;
        }
        next
    }

    /// All waiting transactions, by account and nonce.
    pub(crate) fn all(&self) -> Vec<Arc<PooledTx>> {
        let inner = self.lock();
        inner.accounts.values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Transactions that can run now: best tip first, each account in nonce order, up to a block's worth.
    pub(crate) fn select(&self, base_fee: u64, mut nonce_of: impl FnMut(Address) -> u64) -> Vec<Arc<PooledTx>> {
        let inner = self.lock();
        let mut heads = BinaryHeap::new();
        let candidate = |tx: &Arc<PooledTx>| {
            let tip = tx.tx.effective_tip_per_gas(base_fee)?;
            Some((tip, Reverse(tx.arrival), tx.hash))
        };
        for (account, waiting) in &inner.accounts {
            let next = nonce_of(*account);
            heads.extend(waiting.get(&next).and_then(candidate));
        }
        let mut selected = Vec::new();
        let mut bytes = 0;
        while let Some((_, _, hash)) = heads.pop() {
            let Some(tx) = inner.by_hash.get(&hash) else { continue };
            bytes += tx.bytes;
            if bytes > SELECTION_BYTES_MAX {
                break;
            }
            let following = inner.accounts.get(&tx.sender).and_then(|waiting| waiting.get(&(tx.nonce() + 1)));
            heads.extend(following.and_then(candidate));
            selected.push(tx.clone());
        }
        selected
    }

    /// Drops what a final block made pointless: everything below each touched account's new nonce.
    pub(crate) fn settle(&self, nonces: &BTreeMap<Address, u64>) {
        let mut inner = self.lock();
        for (account, next) in nonces {
            let stale: Vec<u64> = inner
                .accounts
                .get(account)
                .map(|waiting| waiting.range(..next).map(|(nonce, _)| *nonce).collect())
                .unwrap_or_default();
            for nonce in stale {
                inner.remove(*account, nonce);
            }
        }
    }

    /// Drops a transaction that can never run.
    pub(crate) fn discard(&self, hash: &B256) {
        let mut inner = self.lock();
        if let Some(tx) = inner.by_hash.get(hash).cloned() {
            inner.remove(tx.sender, tx.nonce());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().by_hash.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().by_hash.is_empty()
    }
}

impl Inner {
    fn put(&mut self, tx: Arc<PooledTx>) {
        self.remove(tx.sender, tx.nonce());
        self.bytes += tx.bytes;
        self.by_hash.insert(tx.hash, tx.clone());
        self.accounts.entry(tx.sender).or_default().insert(tx.nonce(), tx);
    }

    fn remove(&mut self, account: Address, nonce: u64) {
        let Some(waiting) = self.accounts.get_mut(&account) else { return };
        if let Some(tx) = waiting.remove(&nonce) {
            self.bytes -= tx.bytes;
            self.by_hash.remove(&tx.hash);
        }
        if waiting.is_empty() {
            self.accounts.remove(&account);
        }
    }

    /// The sender must be able to pay for this and everything it already queued.
    fn check_affordable(&self, tx: &PooledTx, standing: Standing) -> Result<(), PoolError> {
        let queued = self.accounts.get(&tx.sender).map_or(U256::ZERO, |waiting| {
            waiting
                .values()
                .filter(|other| other.nonce() != tx.nonce())
                .fold(U256::ZERO, |sum, other| sum.saturating_add(other.cost()))
        });
        let cost = queued.saturating_add(tx.cost());
        if cost > standing.balance {
            return Err(PoolError::InsufficientFunds {
                balance: standing.balance,
                cost,
                overshot: cost - standing.balance,
            });
        }
        Ok(())
    }

    fn check_replacement(&self, tx: &PooledTx) -> Result<(), PoolError> {
        let Some(waiting) = self.accounts.get(&tx.sender) else { return Ok(()) };
        let Some(old) = waiting.get(&tx.nonce()) else {
            return if waiting.len() >= TXS_PER_ACCOUNT_MAX { Err(PoolError::AccountFull) } else { Ok(()) };
        };
        let enough =
            |old: u128, new: u128| new.saturating_mul(100) >= old.saturating_mul(REPLACEMENT_PERCENT) && new > old;
        let pays = enough(old.tx.max_fee_per_gas(), tx.tx.max_fee_per_gas()) && enough(old.tip_cap(), tx.tip_cap());
        if pays { Ok(()) } else { Err(PoolError::ReplacementUnderpriced) }
    }

    /// Evicts from the most crowded account until the newcomer fits; refuses the newcomer when that account is
    /// its own.
    fn make_room(&mut self, tx: &PooledTx) -> Result<(), PoolError> {
        while self.by_hash.len() >= TXS_MAX || self.bytes + tx.bytes > BYTES_MAX {
            let crowded = self.accounts.iter().max_by_key(|(_, waiting)| waiting.len());
            let Some((account, waiting)) = crowded else { return Err(PoolError::Full) };
            if *account == tx.sender || waiting.len() < 2 {
                return Err(PoolError::Full);
            }
            let Some((nonce, _)) = waiting.last_key_value() else { return Err(PoolError::Full) };
            let (account, nonce) = (*account, *nonce);
            self.remove(account, nonce);
        }
        Ok(())
    }
}

/// Checks that need no other transaction.
fn check_alone(tx: &PooledTx, standing: Standing) -> Result<(), PoolError> {
    let nonce = tx.nonce();
    if nonce < standing.nonce {
        return Err(PoolError::NonceTooLow { next: standing.nonce, nonce });
    }
    if nonce - standing.nonce >= TXS_PER_ACCOUNT_MAX as u64 {
        return Err(PoolError::NonceTooHigh { next: standing.nonce, nonce });
    }
    if tx.tx.gas_limit() > standing.block_gas_limit {
        return Err(PoolError::ExceedsBlockGas);
    }
    let (tip, cap) = (tx.tip_cap(), tx.tx.max_fee_per_gas());
    if tip > cap {
        return Err(PoolError::TipAboveCap { tip, cap });
    }
    if tx.tx.is_create() && tx.tx.input().len() > INITCODE_BYTES_MAX {
        return Err(PoolError::InitcodeTooLarge(tx.tx.input().len()));
    }
    let (gas, needed) = (tx.tx.gas_limit(), intrinsic_gas(&tx.tx));
    if gas < needed {
        return Err(PoolError::IntrinsicGas { gas, needed });
    }
    Ok(())
}

/// The gas a transaction costs before its first instruction, including the calldata floor of EIP-7623.
fn intrinsic_gas(tx: &Transaction) -> u64 {
    let zeros = tx.input().iter().filter(|byte| **byte == 0).count() as u64;
    let others = tx.input().len() as u64 - zeros;
    let tokens = zeros + 4 * others;
    let mut gas = 21_000 + 4 * tokens;
    if tx.is_create() {
        gas += 32_000 + 2 * (tx.input().len() as u64).div_ceil(32);
    }
    if let Some(list) = tx.access_list() {
        let slots: usize = list.iter().map(|item| item.storage_keys.len()).sum();
        gas += 2_400 * list.len() as u64 + 1_900 * slots as u64;
    }
    gas += 25_000 * tx.authorization_list().map_or(0, |list| list.len() as u64);
    gas.max(21_000 + 10 * tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{SignableTransaction, TxEip1559};
    use alloy_primitives::{Signature, TxKind};

    const RICH: Standing = Standing { nonce: 0, balance: U256::MAX, block_gas_limit: 30_000_000 };

    fn tx(sender: u8, nonce: u64, tip: u128) -> PooledTx {
        let inner = TxEip1559 {
            chain_id: 1,
            nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 1_000 + tip,
            max_priority_fee_per_gas: tip,
            to: TxKind::Call(Address::ZERO),
            value: U256::from(sender),
            ..Default::default()
        };
        let tx = Transaction::Eip1559(inner.into_signed(Signature::test_signature()));
        PooledTx {
            hash: *tx.tx_hash(),
            bytes: tx.encode_2718_len(),
            tx,
            sender: Address::repeat_byte(sender),
            arrival: 0,
        }
    }

    fn nonces(selected: &[Arc<PooledTx>]) -> Vec<(u8, u64)> {
        selected.iter().map(|tx| (tx.sender[0], tx.nonce())).collect()
    }

    #[test]
    fn best_tip_first_but_nonces_in_order() {
        let pool = Pool::new();
        for tx in [tx(1, 0, 1), tx(1, 1, 50), tx(2, 0, 10), tx(3, 4, 99)] {
            pool.insert(tx, RICH).expect("fits");
        }
        let selected = pool.select(0, |_| 0);
        assert_eq!(nonces(&selected), [(2, 0), (1, 0), (1, 1)], "account 3 has a gap");
    }

    #[test]
    fn a_fee_below_the_base_fee_waits() {
        let pool = Pool::new();
        pool.insert(tx(1, 0, 1), RICH).expect("fits");
        assert!(pool.select(2_000, |_| 0).is_empty());
        assert_eq!(pool.select(500, |_| 0).len(), 1);
    }

    #[test]
    fn a_replacement_pays_a_tenth_more() {
        let pool = Pool::new();
        let first = pool.insert(tx(1, 0, 10_000), RICH).expect("fits");
        let error = pool.insert(tx(1, 0, 10_900), RICH).expect_err("too cheap");
        assert_eq!(error, PoolError::ReplacementUnderpriced);
        pool.insert(tx(1, 0, 12_000), RICH).expect("pays enough");
        assert!(pool.get(&first.hash).is_none());
        assert_eq!(pool.all().len(), 1);
    }

    #[test]
    fn refusals_name_their_reason() {
        let pool = Pool::new();
        let poor = Standing { balance: U256::from(5), ..RICH };
        assert!(matches!(pool.insert(tx(1, 0, 1), poor), Err(PoolError::InsufficientFunds { .. })));
        let later = Standing { nonce: 3, ..RICH };
        assert!(matches!(pool.insert(tx(1, 0, 1), later), Err(PoolError::NonceTooLow { next: 3, nonce: 0 })));
        pool.insert(tx(1, 0, 1), RICH).expect("fits");
        assert_eq!(pool.insert(tx(1, 0, 1), RICH).expect_err("twice"), PoolError::AlreadyKnown);
        assert_eq!(pool.insert(tx(1, 512, 1), RICH).expect_err("far"), PoolError::NonceTooHigh { next: 0, nonce: 512 });
    }

    #[test]
    fn queued_costs_add_up() {
        let pool = Pool::new();
        let one = tx(1, 0, 0).cost();
        let standing = Standing { balance: one + one / U256::from(2), ..RICH };
        pool.insert(tx(1, 0, 0), standing).expect("the first is affordable");
        assert!(matches!(pool.insert(tx(1, 1, 0), standing), Err(PoolError::InsufficientFunds { .. })));
    }

    #[test]
    fn a_crowd_gives_way_to_a_newcomer() {
        let pool = Pool::new();
        let accounts = (TXS_MAX / TXS_PER_ACCOUNT_MAX) as u8;
        for account in 1..=accounts {
            for nonce in 0..TXS_PER_ACCOUNT_MAX as u64 {
                pool.insert(tx(account, nonce, 1), RICH).expect("fits");
            }
        }
        pool.insert(tx(200, 0, 1), RICH).expect("a newcomer finds room");
        assert_eq!(pool.all().len(), TXS_MAX);
        assert!(pool.select(0, |_| 0).iter().any(|tx| tx.sender[0] == 200));
    }

    #[test]
    fn a_final_block_clears_what_it_settled() {
        let pool = Pool::new();
        for nonce in 0..3 {
            pool.insert(tx(1, nonce, 1), RICH).expect("fits");
        }
        pool.settle(&BTreeMap::from([(Address::repeat_byte(1), 2)]));
        assert_eq!(nonces(&pool.all()), [(1, 2)]);
        pool.settle(&BTreeMap::from([(Address::repeat_byte(1), 3)]));
        assert!(pool.is_empty());
    }

    #[test]
    fn foreign_bytes_never_panic() {
        for raw in [&[][..], &[0x02], &[0xff; 40], &[0x03, 0xc0], &[0xf8, 0xff, 0xff]] {
            assert!(PooledTx::decode(raw, 1).is_err());
        }
        assert_eq!(
            PooledTx::decode(&vec![0; TX_BYTES_MAX + 1], 1).expect_err("big"),
            PoolError::Oversized(TX_BYTES_MAX + 1)
        );
    }

    #[test]
    fn intrinsic_gas_counts_data_and_creation() {
        let mut inner =
            TxEip1559 { input: vec![0, 1, 1].into(), to: TxKind::Call(Address::ZERO), ..Default::default() };
        let sign = |tx: &TxEip1559| Transaction::Eip1559(tx.clone().into_signed(Signature::test_signature()));
        assert_eq!(intrinsic_gas(&sign(&inner)), 21_000 + 10 * 9, "the calldata floor");
        inner.to = TxKind::Create;
        assert_eq!(intrinsic_gas(&sign(&inner)), 21_000 + 4 * 9 + 32_000 + 2);
    }
}
