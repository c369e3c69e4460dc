//! The engine's view of a block: bytes with a name, a number and a parent.
//!
//! A consensus block IS an Ethereum block. Its digest is keccak256 of the RLP header, the very hash that
//! wallets and explorers show, so nothing has to be mapped between the two worlds. What must stay true: the
//! encoding is canonical (decode then encode gives the same bytes) and the digest commits to the whole body,
//! which `SealedBlock::decode` enforces before the engine ever sees a foreign block.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use alloy_primitives::B256;
use bytes::BufMut;
use commonware_codec::{Buf, EncodeSize, Error as CodecError, FixedSize, RangeCfg, Read, ReadExt, Write};
use commonware_consensus::types::Height;
use commonware_cryptography::Digestible;
use commonware_math::algebra::Random;
use commonware_utils::{Array, Span};

use crate::block::{BLOCK_BYTES_MAX, SealedBlock};

/// A block hash in the shape the engine wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub [u8; 32]);

impl From<B256> for Digest {
    fn from(hash: B256) -> Self {
        Self(hash.0)
    }
}

impl From<Digest> for B256 {
    fn from(digest: Digest) -> Self {
        B256::new(digest.0)
    }
}

impl Ord for Digest {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Digest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&B256::new(self.0), f)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&B256::new(self.0), f)
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Digest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Write for Digest {
    fn write(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }
}

impl Read for Digest {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, CodecError> {
        Ok(Self(<[u8; 32]>::read(buf)?))
    }
}

impl FixedSize for Digest {
    const SIZE: usize = 32;
}

impl Span for Digest {}
impl Array for Digest {}

impl Random for Digest {
    fn random(mut rng: impl rand_core::CryptoRng) -> Self {
        let mut bytes = [0u8; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }
}

impl commonware_cryptography::Digest for Digest {
    const EMPTY: Self = Self([0u8; 32]);
}

/// A sealed block in the shape the engine wants; shared, never copied.
#[derive(Clone, Debug)]
pub(crate) struct EngineBlock(pub(crate) Arc<SealedBlock>);

impl Digestible for EngineBlock {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        self.0.hash().into()
    }
}

impl commonware_consensus::Heightable for EngineBlock {
    fn height(&self) -> Height {
        Height::new(self.0.number())
    }
}

impl commonware_consensus::Block for EngineBlock {
    fn parent(&self) -> Digest {
        self.0.parent_hash().into()
    }
}

impl Write for EngineBlock {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.rlp().write(buf);
    }
}

impl EncodeSize for EngineBlock {
    fn encode_size(&self) -> usize {
        self.0.rlp().encode_size()
    }
}

impl Read for EngineBlock {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, CodecError> {
        let rlp = bytes::Bytes::read_cfg(buf, &RangeCfg::from(0..=BLOCK_BYTES_MAX))?;
        let block = SealedBlock::decode(rlp).map_err(|error| CodecError::Wrapped("block", Box::new(error)))?;
        Ok(Self(Arc::new(block)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::tests::empty_block;
    use commonware_codec::{Copying, DecodeExt, Encode};

    #[test]
    fn a_block_survives_the_engine_codec_and_keeps_its_hash() {
        let block = EngineBlock(Arc::new(empty_block(7)));
        let back = EngineBlock::decode(block.encode()).expect("own encoding");
        assert_eq!(back.digest(), block.digest());
        assert_eq!(B256::from(back.digest()), block.0.hash());
    }

    #[test]
    fn cut_bytes_are_refused_without_panic() {
        let bytes = EngineBlock(Arc::new(empty_block(7))).encode();
        for cut in 0..bytes.len() {
            assert!(EngineBlock::decode(Copying(&bytes[..cut])).is_err());
        }
    }
}
