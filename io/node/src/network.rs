//! Which network a home belongs to, and the one line that lets another host join it.
//!
//! The line holds the genesis block's hash and one node to ask. The joiner computes the genesis block itself from
//! what that node sends and compares: a wrong or tampered network is refused before anything is signed.

use alloy_primitives::U256;
use glean_ledger::{Faucet, Genesis};
use glean_net::{PeerAddr, text};
use glean_types::{Address, Amount, Domain, Hash, decode, encode};
use serde::{Deserialize, Serialize};

const PREFIX: &str = "glean";
const LINE_BYTES_MAX: usize = 2048;

/// `<home>/network.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// For people.
    pub name: String,
    /// Where papers are valid.
    pub domain: Domain,
    /// Hash of block 0.
    pub genesis: Hash,
    /// gUSD.
    pub dollar: Address,
    /// Machine registry.
    pub machines: Address,
    /// Whom to ask about the ledger; also an index node. `None`: this node keeps the ledger.
    pub ledger: Option<PeerAddr>,
}

/// What a join line holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinLine {
    /// For people.
    pub name: String,
    /// Hash of block 0.
    pub genesis: Hash,
    /// Whom to ask.
    pub ledger: PeerAddr,
}

/// Why a line is no join line.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Not one of ours, or a typing error.
    #[error("this is not a join line: {0}\nhint: copy the whole line that `glean network init` printed")]
    Text(#[from] text::TextError),
    /// Right checksum, wrong content.
    #[error("this is not a join line: {0}\nhint: is that host's glean newer than this one?")]
    Content(#[from] glean_types::DecodeError),
    /// The address inside cannot be dialled.
    #[error("this join line has an unusable address: {0}")]
    Peer(#[from] glean_net::ParsePeerError),
}

impl std::fmt::Display for JoinLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&text::encode(PREFIX, &encode(self)))
    }
}

impl std::str::FromStr for JoinLine {
    type Err = JoinError;

    fn from_str(line: &str) -> Result<JoinLine, JoinError> {
        let line: JoinLine = decode(&text::decode(PREFIX, line, LINE_BYTES_MAX)?, LINE_BYTES_MAX)?;
        line.ledger.check()?;
        Ok(line)
    }
}

/// What each newcomer of a private network is given: credits, not money.
const GIFT_DOLLARS: Amount = Amount::whole(100);
const GIFT_GLN: u64 = 10;
/// Gas limit of a block.
const BLOCK_GAS: u64 = 60_000_000;
/// In 10^-18 GLN: a channel costs about a millionth of the gift.
const BASE_FEE: u64 = 1_000_000_000;
/// Seconds between asking for a channel's closing and taking the rest back.
const GRACE_S: u64 = 24 * 3600;
/// The protocol's share of what is settled, in hundredths of a per cent.
const FEE_BPS: u16 = 500;

/// The first block of a private network: one owner, who also hands out the credits.
pub fn private_genesis(chain_id: u64, timestamp: u64, owner: Address) -> Genesis {
    let coin = U256::from(10).pow(U256::from(18));
    Genesis {
        chain_id,
        timestamp,
        gas_limit: BLOCK_GAS,
        base_fee_per_gas: BASE_FEE,
        owner,
        fee_recipient: owner,
        fee_bps: FEE_BPS,
        grace_s: GRACE_S,
        gln: [(owner, coin * U256::from(1_000_000_000))].into(),
        dollars: [].into(),
        minters: [(owner, Amount::whole(1_000_000_000))].into(),
        faucet: Some(Faucet { account: owner, gln: coin * U256::from(GIFT_GLN), dollars: GIFT_DOLLARS }),
    }
}

/// What every node derives from a genesis: nothing here is taken on anybody's word.
pub fn network_of(
    name: &str,
    genesis: &Genesis,
    ledger: Option<PeerAddr>,
) -> Result<Network, glean_ledger::GenesisError> {
    let built = genesis.build()?;
    Ok(Network {
        name: name.to_owned(),
        domain: Domain { chain_id: genesis.chain_id, channels: built.addresses.channels },
        genesis: Hash(built.block_hash().0),
        dollar: built.addresses.dollar,
        machines: built.addresses.machines,
        ledger,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use glean_types::NodeId;

    #[test]
    fn a_join_line_survives_a_chat_window() {
        let node = NodeId(*iroh_key());
        let line = JoinLine {
            name: "phylab".into(),
            genesis: Hash([2; 32]),
            ledger: PeerAddr { node, direct: vec!["127.0.0.1:7000".parse().unwrap()], relay: None },
        };
        let text = line.to_string();
        assert!(text.starts_with("glean1"));
        assert_eq!(format!("  {text}\n").parse::<JoinLine>().unwrap(), line);
        let wrong = text.replace(&text[20..21], if &text[20..21] == "q" { "p" } else { "q" });
        assert!(wrong.parse::<JoinLine>().unwrap_err().to_string().contains("hint:"));
    }

    /// A point on the curve: the ed25519 base point.
    fn iroh_key() -> &'static [u8; 32] {
        const KEY: [u8; 32] = {
            let mut key = [0x66; 32];
            key[0] = 0x58;
            key
        };
        &KEY
    }
}
