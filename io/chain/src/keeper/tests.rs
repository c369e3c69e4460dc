//! Candidates, final blocks and what stops them.

use super::*;
use crate::testing::{NOBODY, genesis, transfer};

fn keeper(dir: &std::path::Path) -> Keeper {
    let store = Store::open(dir).expect("opens");
    Keeper::open(store, genesis(1), b"me").expect("opens")
}

fn send(keeper: &Keeper, nonce: u64) {
    keeper.submit(&transfer(0, nonce)).expect("fits");
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
    let paid = keeper.latest().account(NOBODY).expect("reads").expect("is there");
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
