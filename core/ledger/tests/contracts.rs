//! The smaller contracts, and questions to them.

#![allow(clippy::unwrap_used, reason = "a test helper that fails, fails the test")]

mod common;

use alloy_primitives::{B256, Bytes, U256, keccak256};
use alloy_sol_types::SolCall;
use common::*;
use glean_ledger::contracts::{GLN as Coin, Machines};
use glean_ledger::*;
use glean_types::Amount;

fn word(bytes: Bytes) -> U256 {
    U256::from_be_slice(&bytes)
}

#[test]
fn a_minter_stays_under_its_ceiling() {
    let mut world = World::new();
    let at = world.at.dollar;
    assert!(world.send(MINTER, at, dollar::mint(address(5), Amount::whole(900))));
    assert!(!world.send(MINTER, at, dollar::mint(address(5), Amount::whole(101))));
    assert!(!world.send(3, at, dollar::mint(address(3), Amount::whole(1))));
    // Whoever burns what they minted may mint it again; others only lose theirs.
    assert!(world.send(MINTER, at, dollar::mint(address(MINTER), Amount::whole(100))));
    assert!(world.send(5, at, dollar::burn(Amount::whole(900))));
    assert!(!world.send(MINTER, at, dollar::mint(address(5), Amount::whole(1))));
    assert!(world.send(MINTER, at, dollar::burn(Amount::whole(100))));
    assert!(world.send(MINTER, at, dollar::mint(address(5), Amount::whole(100))));
    assert!(!world.send(3, at, dollar::set_ceiling(address(3), Amount::MAX)));
    assert!(world.send(OWNER, at, dollar::set_ceiling(address(MINTER), Amount::ZERO)));
    assert!(!world.send(MINTER, at, dollar::mint(address(5), Amount::from_units(1).unwrap())));
}

#[test]
fn wrapped_coins_are_backed_and_vote() {
    let mut world = World::new();
    let at = world.at.gln;
    let wrap = world.tx(3, 0, at, U256::from(GLN), Bytes::new());
    world.push(&[wrap]);
    assert_eq!(word(world.ask(at, dollar::balance_of(address(3)))), U256::from(GLN));
    assert_eq!(world.balance(at), U256::from(GLN));
    assert!(world.send(3, at, Coin::delegateCall { delegatee: address(4) }.abi_encode().into()));
    let votes = Coin::getVotesCall { account: address(4) }.abi_encode();
    assert_eq!(word(world.ask(at, votes.clone().into())), U256::from(GLN));
    assert!(!world.send(4, at, Coin::withdrawCall { amount: U256::from(1) }.abi_encode().into()));
    assert!(world.send(3, at, Coin::withdrawCall { amount: U256::from(GLN) }.abi_encode().into()));
    assert_eq!((world.balance(at), word(world.ask(at, votes.into()))), (U256::ZERO, U256::ZERO));
}

#[test]
fn a_machine_has_one_key_one_owner_and_an_operator() {
    let mut world = World::new();
    let at = world.at.machines;
    let register =
        |node: u8| Machines::registerCall { nodeKey: B256::repeat_byte(node), operator: address(5) }.abi_encode();
    assert!(world.send(3, at, register(7).into()));
    assert!(world.send(4, at, register(8).into()));
    assert!(!world.send(4, at, register(7).into()), "taken");
    assert!(!world.send(4, at, register(0).into()), "nobody's key");
    let id = Machines::machineOfCall { nodeKey: B256::repeat_byte(8) }.abi_encode();
    assert_eq!(word(world.ask(at, id.into())), U256::from(2));
    let node = Machines::nodeOfCall { id: U256::from(1) }.abi_encode();
    assert_eq!(world.ask(at, node.into())[..], [7; 32]);
    let operate = |id: u64| Machines::setOperatorCall { id: U256::from(id), operator: address(6) }.abi_encode();
    assert!(world.send(3, at, operate(1).into()));
    assert!(!world.send(3, at, operate(2).into()), "not the owner");
    assert!(!world.send(5, at, operate(1).into()), "an operator cannot name another");
    let operator = Machines::operatorOfCall { id: U256::from(1) }.abi_encode();
    assert_eq!(world.ask(at, operator.into())[12..], address(6)[..]);
}

fn request(world: &World, amount: Amount) -> CallRequest {
    let data = dollar::transfer(address(4), amount);
    CallRequest { from: address(3), to: Some(world.at.dollar), data, ..CallRequest::default() }
}

#[test]
fn a_question_changes_nothing_and_says_what_it_touched() {
    let world = World::new();
    let ask = |request: &CallRequest| call(&world.state, CHAIN_ID, &world.head, request, &Overrides::new()).unwrap();
    let answer = ask(&request(&world, Amount::whole(1)));
    assert_eq!((answer.outcome, answer.logs.len()), (CallOutcome::Success, 1));
    // Both balances: the mapping at slot 0, by address.
    let slot = |who| keccak256([address(who).into_word().0, [0; 32]].concat());
    let slots = answer.touched[&world.at.dollar].iter().copied().collect::<Vec<_>>();
    assert!(slots.contains(&slot(3)) && slots.contains(&slot(4)));
    let refused = ask(&request(&world, Amount::whole(51)));
    assert_eq!(refused.outcome, CallOutcome::Revert);
    assert_eq!(world.dollars(address(3)), Amount::whole(50).units());
    let short = ask(&CallRequest { gas: Some(25_000), ..request(&world, Amount::whole(1)) });
    assert_eq!(short.outcome, CallOutcome::Halt("out of gas".into()));
}

#[test]
fn a_question_may_pretend() {
    let world = World::new();
    let slot = keccak256([address(3).into_word().0, [0; 32]].concat());
    let slots = [(slot.into(), U256::from(Amount::whole(60).units()))].into();
    let rich = [(world.at.dollar, AccountOverride { slots, ..Default::default() })].into();
    let answer = call(&world.state, CHAIN_ID, &world.head, &request(&world, Amount::whole(51)), &rich).unwrap();
    assert_eq!(answer.outcome, CallOutcome::Success);
    // PUSH1 7, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN: the answer is 7.
    let code = Some(Bytes::from_static(&[0x60, 7, 0x5f, 0x52, 0x60, 32, 0x5f, 0xf3]));
    let other = [(world.at.dollar, AccountOverride { code, ..Default::default() })].into();
    let answer = call(&world.state, CHAIN_ID, &world.head, &request(&world, Amount::ZERO), &other).unwrap();
    assert_eq!(word(answer.output), U256::from(7));
}

#[test]
fn an_estimate_is_enough_and_not_much_more() {
    let mut world = World::new();
    let estimate = |world: &World, request: &CallRequest| {
        estimate_gas(&world.state, CHAIN_ID, &world.head, request, &Overrides::new())
    };
    let plain = CallRequest { from: address(3), to: Some(address(4)), value: U256::from(1), ..CallRequest::default() };
    assert_eq!(estimate(&world, &plain), Ok(21_000));
    let transfer = request(&world, Amount::whole(1));
    let gas = estimate(&world, &transfer).unwrap();
    let spent = call(&world.state, CHAIN_ID, &world.head, &transfer, &Overrides::new()).unwrap().gas_used;
    assert!(gas >= spent && gas <= spent + spent / 32, "{gas} for {spent}");
    // Unwrapping all clears a slot, whose refund comes only at the end: the limit must be above the use.
    let wrap = world.tx(3, 0, world.at.gln, U256::from(GLN), Bytes::new());
    world.push(&[wrap]);
    let data: Bytes = Coin::withdrawCall { amount: U256::from(GLN) }.abi_encode().into();
    let unwrap = CallRequest { from: address(3), to: Some(world.at.gln), data, ..CallRequest::default() };
    let gas = estimate(&world, &unwrap).unwrap();
    let at = |gas| {
        call(&world.state, CHAIN_ID, &world.head, &CallRequest { gas: Some(gas), ..unwrap.clone() }, &Overrides::new())
    };
    assert_eq!(at(gas).unwrap().outcome, CallOutcome::Success);
    assert!(at(gas).unwrap().gas_used < gas);
    assert_ne!(at(gas - gas / 32).unwrap().outcome, CallOutcome::Success);
}

#[test]
fn a_hopeless_request_has_no_estimate() {
    let world = World::new();
    let estimate =
        |request: &CallRequest| estimate_gas(&world.state, CHAIN_ID, &world.head, request, &Overrides::new());
    let reverted = estimate(&request(&world, Amount::whole(51))).unwrap_err();
    assert_eq!(reverted.to_string(), "execution reverted");
    assert!(matches!(reverted, EstimateError::Reverted(data) if data.len() == 4 + 3 * 32));
    let broke = CallRequest { from: address(77), to: Some(address(4)), value: U256::from(1), ..CallRequest::default() };
    assert!(estimate(&broke).unwrap_err().to_string().starts_with("insufficient funds"));
}

/// Wallets name a price when they estimate: nobody is refused for not being able to pay for a whole block.
#[test]
fn an_estimate_stays_within_what_the_sender_can_pay() {
    let world = World::new();
    let estimate =
        |request: &CallRequest| estimate_gas(&world.state, CHAIN_ID, &world.head, request, &Overrides::new());
    let transfer = request(&world, Amount::whole(1));
    // 100 GLN pay for a million gas at this price, and then for twenty thousand.
    let dear = CallRequest { gas_price: 100_000_000_000_000, ..transfer.clone() };
    assert_eq!(estimate(&dear), estimate(&transfer));
    let dearer = estimate(&CallRequest { gas_price: 5_000_000_000_000_000, ..transfer.clone() }).unwrap_err();
    assert_eq!(dearer.to_string(), "out of gas (gas limit 20000)");
    let short = estimate(&CallRequest { gas: Some(25_000), ..transfer }).unwrap_err();
    assert_eq!(short.to_string(), "out of gas (gas limit 25000)");
}

/// `Error(string)` and panics are told in words, as geth does.
#[test]
fn reasons_are_told() {
    use alloy_sol_types::SolError;
    let told = alloy_sol_types::Revert::from("no").abi_encode();
    assert_eq!(revert_text(&told.into()), "execution reverted: no");
    let panicked = alloy_sol_types::Panic::from(0x11).abi_encode();
    assert!(revert_text(&panicked.into()).contains("arithmetic"));
    assert_eq!(revert_text(&Bytes::new()), "execution reverted");
}
