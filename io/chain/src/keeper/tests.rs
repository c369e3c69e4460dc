//! Candidates, final blocks and what stops them.

use super::*;
use alloy_consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, Signature, TxKind};
use glean_types::AccountKey;

fn key() -> AccountKey {
    AccountKey::from_bytes(&[1; 32]).expect("a scalar")
}

fn genesis() -> Genesis {
    Genesis {
        chain_id: 5,
        timestamp: 0,
        gas_limit: 30_000_000,
        base_fee_per_gas: 1_000,
        owner: Address::repeat_byte(1),
        fee_recipient: Address::repeat_byte(2),
        fee_bps: 0,
        grace_s: 60,
        gln: BTreeMap::from([(key().address(), U256::from(u64::MAX))]),
        dollars: BTreeMap::new(),
        minters: BTreeMap::new(),
        faucet: None,
    }
}

fn keeper(dir: &std::path::Path) -> Keeper {
    let store = Store::open(dir).expect("opens");
    Keeper::open(store, genesis(), b"me").expect("opens")
}

fn send(keeper: &Keeper, nonce: u64) {
    let tx = TxEip1559 {
        chain_id: 5,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000,
        to: TxKind::Call(Address::repeat_byte(9)),
        value: U256::from(1),
        ..TxEip1559::default()
    };
    let raw = key().sign(&tx.signature_hash()).0;
    let signature = Signature::from_raw_array(&raw).expect("65 bytes");
    let raw = TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718();
    keeper.submit(&raw).expect("fits");
}

#[test]
fn a_candidate_stands_on_unfinalised_ancestors() {
    let dir = tempfile::tempdir().expect("a directory");
    let keeper = keeper(dir.path());
    send(&keeper, 0);
    let first = keeper.build(&keeper.head(), 1).expect("builds");
    send(&keeper, 1);
    let second = keeper.build(&first, 1).expect("builds on the first");
    assert_eq!(second.body().transactions.len(), 1, "the first one's transaction is not taken twice");
    keeper.finalize(&first).expect("writes");
    keeper.finalize(&second).expect("writes");
    keeper.finalize(&first).expect("ignores what is written");
    assert_eq!(keeper.head().hash(), second.hash());
    assert!(keeper.pool().is_empty());
    let paid = keeper.latest().account(Address::repeat_byte(9)).expect("reads").expect("is there");
    assert_eq!(paid.balance, U256::from(2));
}

#[test]
fn final_blocks_are_executed_anew_when_nothing_is_remembered() {
    let (here, there) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (builder, follower) = (keeper(here.path()), keeper(there.path()));
    send(&builder, 0);
    let block = builder.build(&builder.head(), 1).expect("builds");
    builder.forget_unfinalised();
    for keeper in [&builder, &follower] {
        keeper.finalize(&block).expect("executes and writes");
        assert_eq!(keeper.latest().supply(), builder.latest().supply());
    }
    assert!(builder.latest().supply() < U256::from(u64::MAX), "the base fee is burnt");
}

#[test]
fn a_forged_block_is_refused_and_not_our_fault() {
    let dir = tempfile::tempdir().expect("a directory");
    let keeper = keeper(dir.path());
    send(&keeper, 0);
    let mut block = keeper.build(&keeper.head(), 1).expect("builds").block().clone();
    block.header.state_root = B256::repeat_byte(1);
    let error = keeper.execute(Arc::new(SealedBlock::seal(block.clone()))).expect_err("forged");
    assert!(!error.is_ours(), "{error}");
    block.header.parent_hash = B256::repeat_byte(7);
    let error = keeper.execute(Arc::new(SealedBlock::seal(block))).expect_err("an orphan");
    assert!(matches!(error, ExecuteError::UnknownParent));
}

#[test]
fn the_first_failure_is_kept_and_stops_the_pool() {
    let dir = tempfile::tempdir().expect("a directory");
    let keeper = keeper(dir.path());
    keeper.fail("the disk is gone".into());
    keeper.fail("and so on".into());
    assert_eq!(keeper.failure().borrow().as_deref(), Some("the disk is gone"));
    assert!(matches!(keeper.submit(&[]), Err(SubmitError::Stopped(_))));
}
