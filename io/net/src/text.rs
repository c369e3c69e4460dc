//! Bytes as one word a person can copy: `prefix1...`, in lower-case base32 with a checksum.
//!
//! Join lines and addresses are pasted into chats and read aloud. The alphabet has no look-alikes
//! (no `b`, `i`, `o`, and no `1` after the separator), and four checksum bytes turn a typing error into
//! a clear message instead of a dial to nowhere.

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const CHECKSUM_BYTES: usize = 4;

/// Why a text is not what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Another kind of text.
    #[error("expected a text that begins with `{expected}1`")]
    Prefix {
        /// The prefix that was expected.
        expected: String,
    },
    /// A character outside the alphabet.
    #[error("`{0}` cannot occur here")]
    Character(char),
    /// Typing error, or a part is missing.
    #[error("a character is wrong or missing; hint: copy the whole text again")]
    Checksum,
    /// Longer than anything we print.
    #[error("too long")]
    TooLong,
}

/// `prefix1` and the bytes with their checksum.
pub fn encode(prefix: &str, bytes: &[u8]) -> String {
    let mut sealed = bytes.to_vec();
    sealed.extend_from_slice(&checksum(prefix, bytes));
    let mut out = format!("{prefix}1");
    for group in sealed.chunks(5) {
        let mut word = [0u8; 8];
        word[3..3 + group.len()].copy_from_slice(group);
        let bits = u64::from_be_bytes(word);
        for digit in 0..(group.len() * 8).div_ceil(5) {
            let index = (bits >> (35 - 5 * digit)) & 31;
            out.push(char::from(ALPHABET[index as usize]));
        }
    }
    out
}

/// The bytes of a text made by [`encode`] with the same prefix; at most `bytes_max` of them.
pub fn decode(prefix: &str, text: &str, bytes_max: usize) -> Result<Vec<u8>, TextError> {
    let body = text.trim().strip_prefix(prefix).and_then(|rest| rest.strip_prefix('1'));
    let Some(body) = body else {
        return Err(TextError::Prefix { expected: prefix.to_owned() });
    };
    if body.len() > (bytes_max + CHECKSUM_BYTES).saturating_mul(8).div_ceil(5) {
        return Err(TextError::TooLong);
    }
    let mut sealed = Vec::with_capacity(body.len() * 5 / 8);
    let (mut bits, mut count) = (0u32, 0u32);
    for c in body.chars() {
        let lower = c.to_ascii_lowercase();
        let digit = ALPHABET.iter().position(|a| char::from(*a) == lower).ok_or(TextError::Character(c))?;
        bits = ((bits << 5) | digit as u32) & 0xfff;
        count += 5;
        if count >= 8 {
            count -= 8;
            sealed.push((bits >> count) as u8);
        }
    }
    let Some(split) = sealed.len().checked_sub(CHECKSUM_BYTES) else {
        return Err(TextError::Checksum);
    };
    // One text per value: leftover bits must be zero, and fewer than a whole digit.
    if count >= 5 || bits & ((1 << count) - 1) != 0 {
        return Err(TextError::Checksum);
    }
    let (bytes, sum) = sealed.split_at(split);
    if sum != checksum(prefix, bytes) {
        return Err(TextError::Checksum);
    }
    Ok(bytes.to_vec())
}

fn checksum(prefix: &str, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key("gleaner 2026 text checksum");
    hasher.update(prefix.as_bytes()).update(&[0]).update(bytes);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back() {
        for len in 0..70 {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 37 + 255) as u8).collect();
            let text = encode("glean", &bytes);
            assert_eq!(decode("glean", &text, 70).unwrap(), bytes, "{text}");
            assert_eq!(decode("glean", &format!(" {text}\n"), 70).unwrap(), bytes);
        }
    }

    #[test]
    fn one_wrong_character_is_noticed_anywhere() {
        let text = encode("glean", b"some address of a node");
        for at in 6..text.len() {
            let mut wrong: Vec<char> = text.chars().collect();
            wrong[at] = if wrong[at] == 'q' { 'p' } else { 'q' };
            let wrong: String = wrong.into_iter().collect();
            assert_eq!(decode("glean", &wrong, 64), Err(TextError::Checksum), "{wrong}");
        }
        assert_eq!(decode("glean", &text[..text.len() - 1], 64), Err(TextError::Checksum));
        assert_eq!(decode("glean", "glean1", 64), Err(TextError::Checksum));
        assert_eq!(decode("glean", "glean1b", 64), Err(TextError::Character('b')));
        assert!(matches!(decode("glean", "join1qq", 64), Err(TextError::Prefix { .. })));
        assert_eq!(decode("glean", &text, 8), Err(TextError::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_panic_and_each_value_has_one_text(text in "(glean1)?\\PC{0,40}", tail in "[qpzry9x8gf2tvdw0s3jn54khce6mua7l]{0,30}") {
            for text in [text, format!("glean1{tail}")] {
                if let Ok(bytes) = decode("glean", &text, 64) {
                    proptest::prop_assert_eq!(encode("glean", &bytes), text.trim().to_lowercase());
                }
            }
        }
    }
}
