//! Blocks: built ones verify, changed ones do not, money only burns, roots are those by the book.

#![allow(clippy::unwrap_used, reason = "a test helper that fails, fails the test")]

mod common;

use alloy_consensus::{Block, Header, TxEnvelope};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, b256, hex};
use alloy_trie::Nibbles;
use alloy_trie::proof::verify_proof;
use common::*;
use glean_ledger::*;
use glean_types::Amount;
use proptest::prelude::*;

/// A change here is another network: a decision, in its own commit.
#[test]
fn the_genesis_is_pinned() {
    let built = genesis().build().unwrap();
    let Addresses { gln, dollar, machines, channels } = built.addresses;
    assert_eq!(built.block_hash(), b256!("0x7e3564c9e2e01124153f8cf52bd0fa08c3523d4f712ebbb5ca82216e4ab5aab3"));
    let pins = [
        (gln, "0x083a2b5055da525607Af22FaE02e5fB529af42bD"),
        (dollar, "0x29340F77DAC70944501De578BA47CC1144fe6654"),
        (machines, "0x20b53b910eF3cE30a202F1f6E75051b1aa74A1Bd"),
        (channels, "0xA551bd623441a030f9B6b49a350F58dfE0008ad3"),
    ];
    for (at, pin) in pins {
        assert_eq!(at.to_string(), pin);
    }
}

#[test]
fn the_genesis_survives_json_and_binds_every_word() {
    let json = serde_json::to_string(&genesis()).unwrap();
    assert_eq!(serde_json::from_str::<Genesis>(&json).unwrap(), genesis());
    let hash = |genesis: Genesis| genesis.build().unwrap().block_hash();
    let others = [
        Genesis { chain_id: 5, ..genesis() },
        Genesis { faucet: None, ..genesis() },
        Genesis { grace_s: 1, ..genesis() },
        Genesis { minters: Default::default(), ..genesis() },
    ];
    for other in others {
        assert_ne!(hash(other), hash(genesis()));
    }
}

#[test]
fn a_genesis_beyond_the_bounds_is_refused_with_a_hint() {
    let greedy = Genesis { fee_bps: 1_001, ..genesis() }.build().unwrap_err();
    assert!(greedy.to_string().contains("the Channels contract") && greedy.to_string().contains("hint:"), "{greedy}");
    let gln = [(address(3), U256::MAX)].into();
    assert!(matches!(Genesis { gln, ..genesis() }.build(), Err(GenesisError::TooMuch("GLN"))));
}

#[test]
fn the_genesis_gives_out_what_it_says() {
    let world = World::new();
    assert_eq!(root_by_the_book(&world.state), world.head.state_root);
    assert_eq!(sum_of_balances(&world.state), world.supply);
    assert_eq!(world.supply, U256::from(600) * U256::from(GLN));
    assert_eq!(world.dollars(address(3)), Amount::whole(50).units());
    assert_eq!(world.nonce(OWNER), 0);
    let minter = world.ask(world.at.dollar, dollar::minters(address(MINTER)));
    assert_eq!(U256::from_be_slice(&minter[..32]), U256::from(Amount::whole(1_000).units()));
    let owner = world.ask(world.at.dollar, dollar::minters(address(OWNER)));
    assert_eq!(U256::from_be_slice(&owner[..32]), U256::ZERO);
}

#[test]
fn a_transfer_moves_the_value_burns_the_base_fee_and_tips_the_keeper() {
    let mut world = World::new();
    let tx = world.tx(3, 0, address(4), U256::from(GLN), Bytes::new());
    let (block, executed, refused) = world.push(&[tx]);
    assert_eq!(refused, []);
    assert_eq!(block.header.gas_used, 21_000);
    // EIP-1559: an empty parent lowers the base fee by an eighth.
    assert_eq!(block.header.base_fee_per_gas, Some(875_000_000));
    assert_eq!(executed.coins_gone, U256::from(21_000u64 * 875_000_000));
    assert_eq!(world.balance(address(KEEPER)), U256::from(21_000 * 1_000));
    assert_eq!(world.balance(address(4)), U256::from(101) * U256::from(GLN));
    assert_eq!(executed.senders, [address(3)]);
    assert!(executed.changes.code.is_empty());
    assert!(executed.tx_receipts[0].status());
}

#[test]
fn refusals_cost_nothing_and_say_what_geth_says() {
    let mut world = World::new();
    let cheap = {
        let mut tx = match world.tx(3, 0, address(4), U256::ZERO, Bytes::new()) {
            TxEnvelope::Eip1559(tx) => tx.into_parts().0,
            other => panic!("{other:?}"),
        };
        (tx.max_fee_per_gas, tx.max_priority_fee_per_gas) = (10, 0);
        sign(tx, 3)
    };
    let txs = [
        world.tx(3, 2, address(4), U256::ZERO, Bytes::new()),
        cheap,
        world.tx(77, 0, address(4), U256::from(1), Bytes::new()),
        world.tx(3, 0, address(4), U256::ZERO, Bytes::new()),
        world.tx(3, 0, address(4), U256::ZERO, Bytes::new()),
    ];
    // Pushing also verifies: what was refused on the way leaves no trace in the block.
    let (block, _, refused) = world.push(&txs);
    let texts: Vec<_> = refused.iter().map(Refusal::to_string).collect();
    let starts = [
        "nonce too high: address 0x",
        "max fee per gas less than block base fee: address 0x",
        "insufficient funds for gas * price + value: address 0x",
        "nonce too low: address 0x",
    ];
    assert_eq!(texts.len(), starts.len());
    for (text, start) in texts.iter().zip(starts) {
        assert!(text.starts_with(start), "{text}");
    }
    assert_eq!(block.body.transactions, txs[3..4]);
    let last: Vec<_> = refused.iter().map(Refusal::is_final).collect();
    assert_eq!(last, [false, false, false, true]);
}

#[test]
fn a_block_takes_what_fits() {
    let world = World::from(Genesis { gas_limit: 3_030_000, ..genesis() });
    let txs: Vec<_> = (0..4).map(|i| world.tx(3, i, address(4), U256::ZERO, Bytes::new())).collect();
    // Each may use 3 million gas and uses 21 thousand: after two, the third might not fit.
    let built = world.build(&txs);
    assert_eq!(built.block.body.transactions, txs[..2]);
    let full = Refusal::BlockFull { wanted: 3_000_000, left: 2_988_000 };
    assert_eq!(built.refused, [(*txs[2].tx_hash(), full.clone()), (*txs[3].tx_hash(), full)]);
    let small = Proposal { bytes_max: 250, ..world.proposal() };
    let senders = txs.iter().map(|tx| (tx, address(3)));
    assert_eq!(build_block(&world.state, &world.head, &small, senders).unwrap().block.body.transactions, txs[..2]);
}

/// Each line changes one thing in a good block, with all that hangs on it left alone.
#[test]
fn a_changed_block_is_refused_by_the_name_of_the_field() {
    let mut world = World::new();
    world.now += 5;
    let tx = world.tx(3, 0, address(4), U256::from(7), Bytes::new());
    let Built { block, executed, .. } = world.build(&[tx]);
    type Change = fn(&mut Block<TxEnvelope>);
    let changes: [(&str, Change); 14] = [
        ("parent_hash", |b| b.header.parent_hash = B256::ZERO),
        ("number", |b| b.header.number = 2),
        ("gas_limit", |b| b.header.gas_limit += 1),
        ("base_fee_per_gas", |b| b.header.base_fee_per_gas = Some(1)),
        ("mix_hash", |b| b.header.mix_hash = B256::ZERO),
        ("extra_data", |b| b.header.extra_data = Bytes::from_static(b"x")),
        ("gas_used", |b| b.header.gas_used -= 1),
        ("transactions_root", |b| b.header.transactions_root = B256::ZERO),
        ("receipts_root", |b| b.header.receipts_root = B256::ZERO),
        ("logs_bloom", |b| b.header.logs_bloom.0[3] = 1),
        ("state_root", |b| b.header.state_root = B256::ZERO),
        ("state_root", |b| b.header.beneficiary = Address::ZERO),
        ("(one that must be empty)", |b| b.header.requests_hash = None),
        ("(one that must be empty)", |b| b.header.difficulty = U256::from(1)),
    ];
    let verify =
        |block: &Block<TxEnvelope>| verify_block(&world.state, CHAIN_ID, &world.head, block, &executed.senders);
    assert_eq!(verify(&block), Ok(executed.clone()));
    for (name, change) in changes {
        let mut other = block.clone();
        change(&mut other);
        assert_eq!(verify(&other), Err(VerifyError::Header(name)));
    }
    let early = Header { timestamp: world.head.timestamp - 1, ..block.header.clone() };
    let early = verify(&Block { header: early, body: block.body.clone() });
    assert!(matches!(early, Err(VerifyError::Build(BuildError::Timestamp { .. }))));
    let twice = Block {
        header: block.header.clone(),
        body: body(&[block.body.transactions[0].clone(), block.body.transactions[0].clone()]),
    };
    let senders = [address(3), address(3)];
    let twice = verify_block(&world.state, CHAIN_ID, &world.head, &twice, &senders);
    assert!(matches!(twice, Err(VerifyError::Transaction { index: 1, refusal: Refusal::NonceTooLow { .. } })));
    let nobody = verify_block(&world.state, CHAIN_ID, &world.head, &block, &[]);
    assert_eq!(nobody, Err(VerifyError::Senders { senders: 0, txs: 1 }));
    let mut widowed = block.clone();
    widowed.body.withdrawals = None;
    assert!(matches!(verify(&widowed), Err(VerifyError::Body(_))));
}

#[test]
fn two_blocks_may_share_a_second() {
    let mut world = World::new();
    world.push(&[]);
    world.push(&[]);
    assert_eq!((world.head.number, world.head.timestamp), (2, 1_700_000_000));
}

/// A state that answers like another one but gives `who` one unit more once its base was asked: a planted mint.
struct Minting<'a> {
    honest: &'a MemoryState,
    who: Address,
    asked: std::sync::atomic::AtomicU32,
}

impl State for Minting<'_> {
    fn account(&self, address: Address) -> Result<Option<Account>, StateError> {
        let account = self.honest.account(address)?;
        if address != self.who {
            return Ok(account);
        }
        // The first answer goes into the EVM, later ones are the balance before the block.
        let first = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        Ok(account.map(|account| Account { balance: account.balance + U256::from(u8::from(first)), ..account }))
    }
    fn slot(&self, address: Address, slot: U256) -> Result<U256, StateError> {
        self.honest.slot(address, slot)
    }
    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        self.honest.code(hash)
    }
    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.honest.block_hash(number)
    }
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.honest.node(key)
    }
}

#[test]
fn a_planted_mint_is_caught() {
    let world = World::new();
    let tx = world.tx(3, 0, address(4), U256::from(7), Bytes::new());
    let attempt = |who| {
        let state = Minting { honest: &world.state, who, asked: Default::default() };
        build_block(&state, &world.head, &world.proposal(), [(&tx, address(3))]).map(|built| built.executed.coins_gone)
    };
    assert!(attempt(address(77)).is_ok());
    for who in [address(3), address(4)] {
        let caught = attempt(who).unwrap_err();
        assert!(matches!(caught, BuildError::Sum(_)) && caught.to_string().ends_with("coins were minted"), "{caught}");
    }
}

/// A contract that is made, paid and destroyed in one transaction takes its coins with it: the only other way to burn.
#[test]
fn coins_destroyed_with_a_contract_are_counted() {
    let mut world = World::new();
    // PUSH0-free init code: ADDRESS SELFDESTRUCT, so the beneficiary is the contract itself.
    let tx = world.tx(3, 0, TxKind::Create, U256::from(1_000), Bytes::from_static(&hex!("30ff")));
    let (block, executed, _) = world.push(&[tx]);
    let burnt = U256::from(block.header.gas_used) * U256::from(block.header.base_fee_per_gas.unwrap());
    assert_eq!(executed.coins_gone, burnt + U256::from(1_000));
    assert_eq!(sum_of_balances(&world.state), world.supply);
}

/// Code is written once, when it is deployed, and not again with every call.
#[test]
fn calls_rewrite_no_code() {
    let mut world = World::new();
    let pay = world.tx(3, 0, world.at.dollar, U256::ZERO, dollar::transfer(address(4), Amount::whole(1)));
    // Init code that returns one zero byte: PUSH1 1, PUSH0, RETURN.
    let deploy = world.tx(3, 1, TxKind::Create, U256::ZERO, Bytes::from_static(&hex!("60015ff3")));
    let (_, executed, _) = world.push(&[pay, deploy]);
    assert_eq!(executed.changes.code.into_values().collect::<Vec<_>>(), [Bytes::from_static(&[0])]);
}

#[derive(Debug, Clone)]
enum Step {
    Send { from: u8, to: u8, units: u64 },
    Dollars { from: u8, to: u8, amount: Amount },
    Wrap { from: u8, units: u64 },
    Unwrap { from: u8, units: u64 },
    Register { from: u8, machine: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let who = || prop::sample::select(PEOPLE.to_vec());
    prop_oneof![
        (who(), 0u8..40, 0u64..GLN).prop_map(|(from, to, units)| Step::Send { from, to, units }),
        // Sometimes more than anybody has.
        (who(), 0u8..40, 0u64..3).prop_map(|(from, to, n)| Step::Dollars { from, to, amount: Amount::whole(30 * n) }),
        (who(), 0u64..GLN).prop_map(|(from, units)| Step::Wrap { from, units }),
        (who(), 0u64..GLN).prop_map(|(from, units)| Step::Unwrap { from, units }),
        (who(), 0u8..6).prop_map(|(from, machine)| Step::Register { from, machine }),
    ]
}

impl Step {
    fn tx(&self, world: &World, sent: &mut std::collections::BTreeMap<u8, u64>) -> TxEnvelope {
        use alloy_sol_types::SolCall;
        let (from, to, value, data) = match *self {
            Step::Send { from, to, units } => {
                (from, Address::left_padding_from(&[to]), U256::from(units), Bytes::new())
            }
            Step::Dollars { from, to, amount } => {
                let to = Address::left_padding_from(&[to.max(1)]);
                (from, world.at.dollar, U256::ZERO, dollar::transfer(to, amount))
            }
            Step::Wrap { from, units } => (from, world.at.gln, U256::from(units), Bytes::new()),
            Step::Unwrap { from, units } => {
                let data = contracts::GLN::withdrawCall { amount: U256::from(units) }.abi_encode();
                (from, world.at.gln, U256::ZERO, data.into())
            }
            Step::Register { from, machine } => {
                let call =
                    contracts::Machines::registerCall { nodeKey: B256::repeat_byte(machine), operator: address(from) };
                let data = call.abi_encode();
                (from, world.at.machines, U256::ZERO, data.into())
            }
        };
        let ahead = sent.entry(from).or_default();
        *ahead += 1;
        world.tx(from, *ahead - 1, to, value, data)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever people do: roots are those by the book, balances sum to the supply, and proofs convince alloy-trie.
    #[test]
    fn any_blocks_keep_the_books(blocks in prop::collection::vec(prop::collection::vec(step(), 0..8), 1..6)) {
        let mut world = World::new();
        for steps in blocks {
            let mut sent = Default::default();
            let txs: Vec<_> = steps.iter().map(|step| step.tx(&world, &mut sent)).collect();
            let (_, executed, refused) = world.push(&txs);
            prop_assert_eq!(refused, []);
            prop_assert_eq!(root_by_the_book(&world.state), world.head.state_root);
            prop_assert_eq!(sum_of_balances(&world.state), world.supply);
            for address in executed.changes.accounts.keys().chain([&Address::repeat_byte(0xee)]) {
                check_proofs(&world, &executed.changes, *address);
            }
        }
    }
}

fn check_proofs(world: &World, changes: &Changes, address: Address) {
    let slots: Vec<_> = changes.slots.keys().filter(|(owner, _)| *owner == address).map(|(_, slot)| *slot).collect();
    let slots = [slots, vec![U256::from(0xdead)]].concat();
    let proven = prove_account(&world.state, world.head.state_root, address, &slots).unwrap();
    let path = |bytes: &[u8]| Nibbles::unpack(alloy_primitives::keccak256(bytes));
    let row = world.state.account(address).unwrap().map(alloy_rlp::encode);
    verify_proof(world.head.state_root, path(address.as_slice()), row, &proven.proof).unwrap();
    for slot in proven.slots {
        let value = (!slot.value.is_zero()).then(|| alloy_rlp::encode(slot.value));
        let root = proven.account.storage_root;
        verify_proof(root, path(&slot.slot.to_be_bytes::<32>()), value, &slot.proof).unwrap();
    }
}
