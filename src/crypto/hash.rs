//! SHA-256 over labelled parts.

use sha2::{Digest, Sha256};

/// SHA-256 of the concatenation of `parts`. Callers put a label first and fixed lengths after it, so that no two
/// meanings share an input.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// SHA-256 of what comes a portion at a time.
#[derive(Clone, Debug, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// The next portion.
    pub fn add(&mut self, portion: &[u8]) {
        self.0.update(portion);
    }

    /// The hash of all portions.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// The first 16 bytes of [`sha256`], for ids and tags.
pub fn sha256_128(parts: &[&[u8]]) -> [u8; 16] {
    let digest = sha256(parts);
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[test]
    fn fips_180_4_abc() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(HEXLOWER.encode(&sha256(&[b"a", b"bc"])), expected);
        let mut hasher = Hasher::default();
        [&b"ab"[..], b"", b"c"].iter().for_each(|portion| hasher.add(portion));
        assert_eq!(HEXLOWER.encode(&hasher.finish()), expected);
        assert_eq!(HEXLOWER.encode(&sha256_128(&[b"abc"])), expected[..32]);
    }
}
