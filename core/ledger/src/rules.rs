//! Which of Ethereum's rules hold: one set on this ledger, from its first block on, and others only where the history of
//! another chain is replayed.

use revm::primitives::eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE;
use revm::primitives::hardfork::SpecId;

/// Which of Ethereum's rules hold in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The fork.
    pub spec: SpecId,
    /// How slowly the price of blobs follows the demand.
    pub blob_fee_fraction: u64,
    /// Every block calls the contracts that serve a beacon chain, as far as the fork knows them.
    pub has_beacon: bool,
}

impl Rules {
    /// Those of this ledger, from block 0 on.
    pub const OURS: Rules =
        Rules { spec: SpecId::OSAKA, blob_fee_fraction: BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE, has_beacon: false };
}
