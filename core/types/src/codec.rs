//! One binary codec (postcard) for everything a node stores or sends, with limits on everything it reads.

use serde::{Serialize, de::DeserializeOwned};

/// Why foreign bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than this kind of message may be.
    #[error("message of {got} bytes is over the limit of {limit}")]
    TooLong {
        /// Bytes received.
        got: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not an encoding of the expected type.
    #[error("malformed message")]
    Malformed,
    /// A valid encoding followed by something else.
    #[error("{0} bytes after the end of the message")]
    TrailingBytes(usize),
}

/// The encoding of a value of ours.
///
/// # Panics
/// Never for the types of this workspace: postcard fails only on unsized sequences and on a full buffer.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("our types have known lengths and a Vec grows")
}

/// Reads a value from foreign bytes: at most `limit` bytes, every byte used.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { got: bytes.len(), limit });
    }
    match decode_head(bytes, limit)? {
        (value, []) => Ok(value),
        (_, rest) => Err(DecodeError::TrailingBytes(rest.len())),
    }
}

/// Reads the first of several values that follow each other, from at most `limit` bytes; gives the bytes after it, too.
pub fn decode_head<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<(T, &[u8]), DecodeError> {
    let head = &bytes[..bytes.len().min(limit)];
    let (value, rest) = postcard::take_from_bytes(head).map_err(|_| DecodeError::Malformed)?;
    Ok((value, &bytes[head.len() - rest.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold() {
        let bytes = encode(&(7u32, "grain"));
        assert_eq!(decode::<(u32, String)>(&bytes, 64).unwrap(), (7, "grain".to_owned()));
        assert_eq!(decode::<(u32, String)>(&bytes, 3), Err(DecodeError::TooLong { got: 7, limit: 3 }));
        assert_eq!(decode::<(u32, String)>(&bytes[..4], 64), Err(DecodeError::Malformed));
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(decode_head::<(u32, String)>(&longer, 64).unwrap().1, [0]);
        assert_eq!(decode_head::<(u32, String)>(&longer, 3), Err(DecodeError::Malformed));
        assert_eq!(decode::<(u32, String)>(&longer, 64), Err(DecodeError::TrailingBytes(1)));
    }

    #[test]
    fn a_lying_length_does_not_allocate() {
        // Length prefix of 2^60 elements, then nothing.
        let bytes = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(decode::<Vec<u64>>(&bytes, 64), Err(DecodeError::Malformed));
    }
}
