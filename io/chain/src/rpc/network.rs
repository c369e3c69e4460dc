//! What this network is and what this node keeps of it, as newer tools ask before anything else.

use std::collections::BTreeMap;

use alloy_eips::eip2124::ForkHash;
use alloy_primitives::{Address, Bytes, U64};
use glean_ledger::Rules;
use serde_json::{Value, json};

use super::{Answer, Shared};
use crate::keeper::RECENT_STATES;

/// The precompiles of our rules by the names that their EIPs give them.
const PRECOMPILES: [(&str, u16); 18] = [
    ("ECREC", 0x01),
    ("SHA256", 0x02),
    ("RIPEMD160", 0x03),
    ("ID", 0x04),
    ("MODEXP", 0x05),
    ("BN254_ADD", 0x06),
    ("BN254_MUL", 0x07),
    ("BN254_PAIRING", 0x08),
    ("BLAKE2F", 0x09),
    ("KZG_POINT_EVALUATION", 0x0a),
    ("BLS12_G1ADD", 0x0b),
    ("BLS12_G1MSM", 0x0c),
    ("BLS12_G2ADD", 0x0d),
    ("BLS12_G2MSM", 0x0e),
    ("BLS12_PAIRING_CHECK", 0x0f),
    ("BLS12_MAP_FP_TO_G1", 0x10),
    ("BLS12_MAP_FP2_TO_G2", 0x11),
    ("P256VERIFY", 0x100),
];

impl Shared {
    /// EIP-7910. One fork holds from block 0; no blobs, and none of the contracts that serve a beacon chain.
    pub(super) fn config(&self) -> Answer {
        let precompiles: BTreeMap<&str, Address> =
            PRECOMPILES.into_iter().map(|(name, low)| (name, precompile(low))).collect();
        let ForkHash(fork_id) = ForkHash::from(self.keeper.genesis_block().hash());
        Ok(json!({
            "current": {
                "activationTime": 0,
                "blobSchedule": {
                    "target": 0,
                    "max": 0,
                    "baseFeeUpdateFraction": Rules::OURS.blob_fee_fraction,
                },
                "chainId": U64::from(self.keeper.chain_id()),
                "forkId": Bytes::copy_from_slice(&fork_id),
                "precompiles": precompiles,
                "systemContracts": {},
            },
            "next": null,
            "last": null,
        }))
    }

    /// From which block on what can be asked.
    pub(super) fn capabilities(&self) -> Answer {
        let head = self.keeper.head();
        let all = json!({ "disabled": false, "oldestBlock": U64::ZERO });
        let states = json!({
            "disabled": false,
            "oldestBlock": U64::from(self.keeper.oldest_state()),
            "deleteStrategy": { "type": "window", "retentionBlocks": U64::from(RECENT_STATES) },
        });
        let mut answer = json!({ "head": { "number": U64::from(head.number()), "hash": head.hash() } });
        for kind in ["tx", "logs", "receipts", "blocks"] {
            answer[kind] = Value::clone(&all);
        }
        for kind in ["state", "stateproofs"] {
            answer[kind] = Value::clone(&states);
        }
        Ok(answer)
    }
}

fn precompile(low: u16) -> Address {
    Address::left_padding_from(&low.to_be_bytes())
}
