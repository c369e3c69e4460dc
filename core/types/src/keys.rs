//! Account keys: the secp256k1 keys that sign papers and own money. Never printed, erased on drop.
//!
//! Every slice costs two signatures and two recoveries, so this is Bitcoin Core's C library, which the EVM's
//! `ecrecover` brings along anyway; the tests hold it against the pure-Rust `k256`.

use alloy_primitives::{Address, B256};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId, Signature as PlainSignature};
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The signature is not one a key could have made over that paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// Not a point on the curve, or malleable (high `s`).
    #[error("malformed signature")]
    Malformed,
    /// Valid, but somebody else's.
    #[error("signed by {got}, expected {expected}")]
    WrongSigner {
        /// Whose signature was wanted.
        expected: Address,
        /// Whose it is.
        got: Address,
    },
}

/// The bytes are not a secret key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a secp256k1 secret key: it must be 32 bytes, above zero and below the curve order")]
pub struct KeyError;

/// A recoverable signature: `r ‖ s ‖ v` with v = 27 or 28, as Solidity's `ecrecover` reads it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 65]);

impl Signature {
    /// Whoever signed this digest.
    pub fn signer(&self, digest: &B256) -> Result<Address, BadSignature> {
        let malformed = |_| BadSignature::Malformed;
        let given = PlainSignature::from_compact(&self.0[..64]).map_err(malformed)?;
        // One paper, one signature: the mirrored twin (high s) is refused, as OpenZeppelin and Solady do.
        let mut low = given;
        low.normalize_s();
        if low != given {
            return Err(BadSignature::Malformed);
        }
        let parity = match self.0[64] {
            27 => RecoveryId::Zero,
            28 => RecoveryId::One,
            _ => return Err(BadSignature::Malformed),
        };
        let signature = RecoverableSignature::from_compact(&self.0[..64], parity).map_err(malformed)?;
        let key = SECP256K1.recover_ecdsa(Message::from_digest(digest.0), &signature).map_err(malformed)?;
        Ok(address_of(&key))
    }

    /// That `expected` signed this digest.
    pub fn check(&self, digest: &B256, expected: Address) -> Result<(), BadSignature> {
        match self.signer(digest)? {
            got if got == expected => Ok(()),
            got => Err(BadSignature::WrongSigner { expected, got }),
        }
    }
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({}..)", hex::encode(&self.0[..4]))
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.serialize_str(&format!("0x{}", hex::encode(self.0)))
        } else {
            let (r, s_and_v) = self.0.split_at(32);
            let half = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).expect("split at 32 of 65 bytes");
            (half(r), half(&s_and_v[..32]), self.0[64]).serialize(s)
        }
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Signature, D::Error> {
        let mut raw = [0u8; 65];
        if d.is_human_readable() {
            let text = String::deserialize(d)?;
            let digits = text.strip_prefix("0x").unwrap_or(&text);
            hex::decode_to_slice(digits, &mut raw).map_err(serde::de::Error::custom)?;
        } else {
            let (r, s, v) = <([u8; 32], [u8; 32], u8)>::deserialize(d)?;
            raw[..32].copy_from_slice(&r);
            raw[32..64].copy_from_slice(&s);
            raw[64] = v;
        }
        Ok(Signature(raw))
    }
}

/// The last 20 bytes of the key's hash.
fn address_of(key: &PublicKey) -> Address {
    Address::from_raw_public_key(&key.serialize_uncompressed()[1..])
}

/// A secret key that signs papers and transactions.
#[derive(Clone)]
pub struct AccountKey {
    secret: SecretKey,
    /// Follows from the secret, at the price of a signature: computed once.
    address: Address,
}

impl Drop for AccountKey {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

impl AccountKey {
    /// A key from 32 secret bytes.
    pub fn from_bytes(secret: &[u8; 32]) -> Result<AccountKey, KeyError> {
        let secret = SecretKey::from_byte_array(*secret).map_err(|_| KeyError)?;
        Ok(AccountKey { secret, address: address_of(&secret.public_key(SECP256K1)) })
    }

    /// The secret bytes, for the keystore only.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.secret.secret_bytes())
    }

    /// The account that this key owns.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a 32-byte digest (RFC 6979: the same digest gives the same signature).
    pub fn sign(&self, digest: &B256) -> Signature {
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), &self.secret);
        let (recovery, r_and_s) = signature.serialize_compact();
        let mut raw = [0u8; 65];
        raw[..64].copy_from_slice(&r_and_s);
        // Above the group's order r would wrap around: a chance of 2^-127, and no `v` says so.
        raw[64] = 27 + u8::from(matches!(recovery, RecoveryId::One | RecoveryId::Three));
        Signature(raw)
    }
}

impl std::fmt::Debug for AccountKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccountKey({})", self.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::keccak256;

    fn key() -> AccountKey {
        AccountKey::from_bytes(&[7; 32]).unwrap()
    }

    #[test]
    fn signs_and_recovers() {
        let digest = keccak256(b"sheaf");
        let signature = key().sign(&digest);
        assert_eq!(signature.check(&digest, key().address()), Ok(()));
        assert!(matches!(
            signature.check(&keccak256(b"other"), key().address()),
            Err(BadSignature::WrongSigner { .. } | BadSignature::Malformed)
        ));
    }

    #[test]
    fn the_mirrored_twin_is_refused() {
        let digest = keccak256(b"sheaf");
        let mut raw = key().sign(&digest).0;
        let s: k256::Scalar = *k256::ecdsa::Signature::from_slice(&raw[..64]).unwrap().s();
        raw[32..64].copy_from_slice(&(-s).to_bytes());
        raw[64] = 27 + (28 - raw[64]);
        assert_eq!(Signature(raw).signer(&digest), Err(BadSignature::Malformed));
    }

    /// Two libraries, one signature and one account.
    #[test]
    fn another_library_agrees_on_every_byte() {
        for n in 1..=40u8 {
            let (secret, digest) = ([n; 32], keccak256([n]));
            let ours = AccountKey::from_bytes(&secret).unwrap();
            let theirs = k256::ecdsa::SigningKey::from_slice(&secret).unwrap();
            let (signature, recovery) = theirs.sign_prehash_recoverable(digest.as_slice()).unwrap();
            let raw = [signature.to_bytes().as_slice(), &[27 + u8::from(recovery.is_y_odd())]].concat();
            assert_eq!(ours.sign(&digest).0.as_slice(), raw);
            assert_eq!(ours.address(), Address::from_public_key(theirs.verifying_key()));
        }
    }

    #[test]
    fn secrets_stay_out_of_debug_text() {
        let text = format!("{:?}", key());
        assert!(!text.contains(&hex::encode([7u8; 32])));
        assert!(AccountKey::from_bytes(&[0; 32]).is_err());
    }
}
