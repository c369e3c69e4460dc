//! Ids are types: a job's id can never be passed where a channel's is wanted.
//!
//! All are 32 bytes. For people (and JSON) they are lower-case hex; on the wire they are the raw bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {kind}: expected 64 hex digits")]
pub struct ParseIdError {
    kind: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight hex digits: enough for a person to tell two apart on a screen.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(hex::Buffer::<32>::new().format(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let mut raw = [0u8; 32];
                let digits = text.strip_prefix("0x").unwrap_or(text);
                match hex::decode_to_slice(digits, &mut raw) {
                    Ok(()) => Ok(Self(raw)),
                    Err(_) => Err(ParseIdError { kind: $kind, text: text.chars().take(80).collect() }),
                }
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(raw: [u8; 32]) -> Self {
                Self(raw)
            }
        }

        impl From<alloy_primitives::B256> for $name {
            fn from(raw: alloy_primitives::B256) -> Self {
                Self(raw.0)
            }
        }

        impl From<$name> for alloy_primitives::B256 {
            fn from(id: $name) -> Self {
                alloy_primitives::B256::new(id.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() {
                    s.serialize_str(hex::Buffer::<32>::new().format(&self.0))
                } else {
                    self.0.serialize(s)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?.parse().map_err(de::Error::custom)
                } else {
                    <[u8; 32]>::deserialize(d).map(Self)
                }
            }
        }
    };
}

id!(
    /// BLAKE3 of some content: a program, an input file, an output. Content is fetched by it and checked against it.
    Hash, "content hash"
);
id!(
    /// A node's public key (ed25519): who we dial, not who we pay.
    NodeId, "node id"
);
id!(
    /// A job: the EIP-712 hash of its signed paper.
    JobId, "job id"
);
id!(
    /// A payment channel on the ledger. A closed id is never reborn.
    ChannelId, "channel id"
);

impl Hash {
    /// The hash of some bytes.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(*blake3::hash(bytes).as_bytes())
    }
}

/// One task of a job: `job/index` on every screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The job it belongs to.
    pub job: JobId,
    /// Its place among the job's tasks, from 0.
    pub index: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job.short(), self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_for_people_raw_for_the_wire() {
        let id = Hash::of(b"wheat");
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<Hash>(&json).unwrap(), id);
        let wire = crate::encode(&id);
        assert_eq!(wire, id.0);
        assert_eq!(crate::decode::<Hash>(&wire, 64).unwrap(), id);
    }

    #[test]
    fn foreign_text_is_refused_by_name() {
        let error = "xyz".parse::<JobId>().unwrap_err();
        assert_eq!(error.to_string(), "`xyz` is not a job id: expected 64 hex digits");
        assert!(format!("0x{}", Hash::of(b"a")).parse::<Hash>().is_ok());
    }
}
