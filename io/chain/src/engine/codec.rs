//! The engine's view of a block: bytes with a name, a number and a parent.
//!
//! A consensus block IS an Ethereum block. Its digest is keccak256 of the RLP header, the very hash that
//! wallets and explorers show, so nothing has to be mapped between the two worlds. What must stay true: the
//! encoding is canonical (decode then encode gives the same bytes) and the digest commits to the whole body,
//! which `SealedBlock::decode` enforces before the engine ever sees a foreign block.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

use alloy_primitives::B256;
use bytes::BufMut;
use commonware_codec::{
    Buf, EncodeSize, Error as CodecError, FixedSize, RangeCfg, Read, ReadExt, Write,
};
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

impl Digestible for SealedBlock {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        self.hash().into()
    }
}

impl commonware_consensus::Heightable for SealedBlock {
    fn height(&self) -> Height {
        Height::new(self.number())
    }
}

impl commonware_consensus::Block for SealedBlock {
    fn parent(&self) -> Digest {
        self.parent_hash().into()
    }
}

impl Write for SealedBlock {
    fn write(&self, buf: &mut impl BufMut) {
        self.rlp().write(buf);
    }
}

impl EncodeSize for SealedBlock {
    fn encode_size(&self) -> usize {
        self.rlp().encode_size()
    }
}

impl Read for SealedBlock {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, _: &()) -> Result<Self, CodecError> {
        let rlp = bytes::Bytes::read_cfg(buf, &RangeCfg::from(0..=BLOCK_BYTES_MAX))?;
        SealedBlock::decode(rlp).map_err(|error| CodecError::Wrapped("block", Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commonware_codec::{DecodeExt, Encode};

    #[test]
    fn a_block_survives_the_engine_codec_and_keeps_its_hash() {
        let block = crate::block::tests::empty_block(7);
        let bytes = block.encode();
        let back = SealedBlock::decode(bytes).expect("own encoding");
        assert_eq!(back.digest(), block.digest());
        assert_eq!(B256::from(back.digest()), block.hash());
    }

    #[test]
    fn foreign_bytes_are_refused_without_panic() {
        let mut bytes = crate::block::tests::empty_block(7).encode().to_vec();
        for cut in 0..bytes.len() {
            assert!(<SealedBlock as DecodeExt<()>>::decode(&bytes[..cut]).is_err());
        }
        bytes[10] ^= 0x55;
        let _ = <SealedBlock as DecodeExt<()>>::decode(&bytes[..]);
    }
}
