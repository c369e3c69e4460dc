//! The chain that the cases ask about: a genesis in geth's JSON, and blocks one after another in RLP.

use std::collections::BTreeMap;
use std::path::Path;

use alloy_consensus::Header;
use alloy_genesis::{ChainConfig, Genesis, GenesisAccount};
use alloy_primitives::{Address, U256};
use bytes::Bytes;
use glean_chain::SealedBlock;
use glean_chain::import::Foreign;
use glean_ledger::Rules;
use glean_ledger::replay::{Endowment, SpecId};

/// Executes the whole history; a block that gives another result than its header says ends the test.
pub fn import(data: &Path, dir: &Path) -> Foreign {
    let genesis = std::fs::read(data.join("genesis.json")).expect("reads");
    let genesis: Genesis = serde_json::from_slice(&genesis).expect("a genesis");
    let accounts: BTreeMap<Address, Endowment> =
        genesis.alloc.iter().map(|(address, account)| (*address, endowment(account))).collect();
    let config = &genesis.config;
    let chain = Foreign::open(dir, config.chain_id, header(&genesis), &accounts, rules(config, u64::MAX, u64::MAX));
    let chain = chain.expect("opens");
    let rlp = Bytes::from(std::fs::read(data.join("chain.rlp")).expect("reads"));
    for rlp in items(rlp) {
        let block = SealedBlock::decode(rlp.clone()).expect("a block");
        let (number, timestamp) = (block.number(), block.header().timestamp);
        let taken = chain.push(rlp, rules(config, number, timestamp));
        taken.unwrap_or_else(|error| panic!("block {number}: {error}"));
    }
    chain
}

fn endowment(account: &GenesisAccount) -> Endowment {
    let slots = account.storage.iter().flatten();
    Endowment {
        balance: account.balance,
        nonce: account.nonce.unwrap_or_default(),
        code: account.code.clone().unwrap_or_default(),
        slots: slots.map(|(slot, value)| (U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0))).collect(),
    }
}

fn header(genesis: &Genesis) -> Header {
    Header {
        gas_limit: genesis.gas_limit,
        difficulty: genesis.difficulty,
        nonce: genesis.nonce.into(),
        extra_data: genesis.extra_data.clone(),
        timestamp: genesis.timestamp,
        beneficiary: genesis.coinbase,
        mix_hash: genesis.mix_hash,
        ..Header::default()
    }
}

/// Cuts a file of RLP lists, one after another.
fn items(file: Bytes) -> Vec<Bytes> {
    let mut items = Vec::new();
    let mut start = 0;
    while start < file.len() {
        let mut rest = &file[start..];
        let head = alloy_rlp::Header::decode(&mut rest).expect("a list");
        let end = file.len() - rest.len() + head.payload_length;
        items.push(file.slice(start..end));
        start = end;
    }
    items
}

/// The fork of a block, by its number before the merge and by its time after it.
fn rules(config: &ChainConfig, number: u64, timestamp: u64) -> Rules {
    let from = |start: Option<u64>, now: u64| start.is_some_and(|start| start <= now);
    let forks = [
        (SpecId::OSAKA, from(config.osaka_time, timestamp)),
        (SpecId::PRAGUE, from(config.prague_time, timestamp)),
        (SpecId::CANCUN, from(config.cancun_time, timestamp)),
        (SpecId::SHANGHAI, from(config.shanghai_time, timestamp)),
        (SpecId::MERGE, from(config.merge_netsplit_block, number)),
        (SpecId::LONDON, from(config.london_block, number)),
        (SpecId::BERLIN, from(config.berlin_block, number)),
        (SpecId::ISTANBUL, from(config.istanbul_block, number)),
        // revm knows no Constantinople of its own; what Petersburg took back of it, this chain does not use.
        (SpecId::PETERSBURG, from(config.constantinople_block, number)),
        (SpecId::BYZANTIUM, from(config.byzantium_block, number)),
        (SpecId::SPURIOUS_DRAGON, from(config.eip158_block, number)),
        (SpecId::TANGERINE, from(config.eip150_block, number)),
    ];
    let spec = forks.into_iter().find(|(_, holds)| *holds).map_or(SpecId::HOMESTEAD, |(spec, _)| spec);
    let schedules = [
        ("bpo2", from(config.bpo2_time, timestamp)),
        ("bpo1", from(config.bpo1_time, timestamp)),
        ("osaka", from(config.osaka_time, timestamp)),
        ("prague", from(config.prague_time, timestamp)),
        ("cancun", true),
    ];
    let schedule = schedules.into_iter().find(|(_, holds)| *holds).and_then(|(name, _)| config.blob_schedule.get(name));
    let blob_fee_fraction = schedule.expect("the genesis names it").update_fraction.try_into().expect("fits");
    Rules { spec, blob_fee_fraction, has_beacon: true }
}
