//! A sealed block: the decoded Ethereum block, its exact bytes and its hash, checked once and then shared.
//!
//! What must stay true: `hash = keccak256(rlp(header))`, the body is the one the header commits to, and
//! `rlp` is the only encoding of this block.

use alloy_consensus::proofs::calculate_transaction_root;
use alloy_consensus::{Block, BlockBody, Header, TxEnvelope};
use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Decodable, Encodable};
use bytes::Bytes;

/// The largest block that is built, accepted from a peer or stored.
pub(crate) const BLOCK_BYTES_MAX: usize = 4 << 20;

/// The transaction type of block bodies.
pub type Transaction = TxEnvelope;

/// Why foreign bytes are not a block.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// Longer than a block may be.
    #[error("block of {0} bytes is larger than the limit of {BLOCK_BYTES_MAX} bytes")]
    TooLarge(usize),
    /// Not an RLP block.
    #[error("not a block: {0}")]
    Rlp(#[from] alloy_rlp::Error),
    /// The same block could be written in another way.
    #[error("block is not in canonical form")]
    NotCanonical,
    /// The header names another body.
    #[error("block body is not the one its header commits to")]
    BodyMismatch,
}

/// An Ethereum block with its bytes and hash.
#[derive(Clone, Debug)]
pub struct SealedBlock {
    hash: B256,
    rlp: Bytes,
    block: Block<Transaction>,
}

impl PartialEq for SealedBlock {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for SealedBlock {}

impl SealedBlock {
    /// Seals a block that this process built.
    pub fn seal(block: Block<Transaction>) -> Self {
        let mut rlp = Vec::with_capacity(block.length());
        block.encode(&mut rlp);
        Self { hash: keccak256(alloy_rlp::encode(&block.header)), rlp: rlp.into(), block }
    }

    /// Decodes foreign bytes: bounded, canonical, and with the body its header names.
    pub fn decode(rlp: Bytes) -> Result<Self, BlockError> {
        if rlp.len() > BLOCK_BYTES_MAX {
            return Err(BlockError::TooLarge(rlp.len()));
        }
        let block = Block::<Transaction>::decode(&mut rlp.as_ref())?;
        let sealed = Self::seal(block);
        if sealed.rlp != rlp {
            return Err(BlockError::NotCanonical);
        }
        let body = &sealed.block.body;
        let header = &sealed.block.header;
        let body_matches = calculate_transaction_root(&body.transactions) == header.transactions_root
            && body.calculate_ommers_root() == header.ommers_hash
            && body.calculate_withdrawals_root() == header.withdrawals_root;
        if !body_matches {
            return Err(BlockError::BodyMismatch);
        }
        Ok(sealed)
    }

    /// keccak256 of the header.
    pub fn hash(&self) -> B256 {
        self.hash
    }

    /// The parent's hash.
    pub fn parent_hash(&self) -> B256 {
        self.block.header.parent_hash
    }

    /// The height.
    pub fn number(&self) -> u64 {
        self.block.header.number
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.block.header
    }

    /// The body.
    pub fn body(&self) -> &BlockBody<Transaction> {
        &self.block.body
    }

    /// The whole block.
    pub fn block(&self) -> &Block<Transaction> {
        &self.block
    }

    /// The canonical bytes.
    pub fn rlp(&self) -> &Bytes {
        &self.rlp
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn empty_block(number: u64) -> SealedBlock {
        let body = BlockBody::<Transaction>::default();
        let header = Header {
            number,
            transactions_root: calculate_transaction_root(&body.transactions),
            ommers_hash: body.calculate_ommers_root(),
            withdrawals_root: body.calculate_withdrawals_root(),
            ..Default::default()
        };
        SealedBlock::seal(Block { header, body })
    }

    #[test]
    fn a_header_with_another_body_is_refused() {
        let honest = empty_block(3);
        let mut block = honest.block().clone();
        block.header.transactions_root = B256::repeat_byte(9);
        let forged = SealedBlock::seal(block);
        let error = SealedBlock::decode(forged.rlp().clone()).expect_err("forged");
        assert!(matches!(error, BlockError::BodyMismatch));
    }
}
