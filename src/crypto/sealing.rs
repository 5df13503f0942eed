//! What envelopes are sealed with: XChaCha20-Poly1305 in NaCl's form, and a one-time MAC.
//!
//! `seal(key, nonce, message) = Poly1305 tag || XChaCha20(message)`, the tag over the ciphertext, its key the first 32 bytes of
//! the key stream: `crypto_secretbox_xchacha20poly1305` of libsodium. It has the security of XSalsa20-Poly1305, and its package
//! computes it on several blocks at a time, which halves the time of an envelope.

use std::fmt;

use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit as _, UniversalHash as _};
use subtle::ConstantTimeEq as _;
use xsalsa20poly1305::aead::AeadInPlace as _;
use xsalsa20poly1305::{Key, Nonce, Tag, XChaCha20Poly1305};

use super::secret::{Secret, SecretBytes};
use super::secretbox::{Forged, NonceBytes};

/// Bytes of a Poly1305 tag.
const TAG_BYTES: usize = 16;

/// Seals parts of an envelope, 32 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealKey(Secret<32>);

impl SealKey {
    /// From key material that a derivation made for this purpose alone.
    pub fn new(key: Secret<32>) -> Self {
        Self(key)
    }

    /// The key's bytes, for the state file.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Appends `tag || ciphertext`, 16 bytes longer than `message`. A nonce serves once under one key.
    pub fn seal(&self, nonce: &NonceBytes, message: &[u8], sealed: &mut Vec<u8>) {
        let tag_at = sealed.len();
        let text_at = tag_at + TAG_BYTES;
        sealed.resize(text_at, 0);
        sealed.extend_from_slice(message);
        let tag = self.cipher().encrypt_in_place_detached(Nonce::from_slice(nonce), &[], &mut sealed[text_at..]);
        let tag = tag.expect("XChaCha20 takes messages up to 256 GiB");
        sealed[tag_at..text_at].copy_from_slice(&tag);
    }

    /// The message, after its tag was checked.
    ///
    /// # Errors
    /// [`Forged`], whatever the reason.
    pub fn open(&self, nonce: &NonceBytes, sealed: &[u8]) -> Result<SecretBytes, Forged> {
        let (tag, text) = sealed.split_at_checked(TAG_BYTES).ok_or(Forged)?;
        let mut message = SecretBytes::copy_of(text);
        self.cipher()
            .decrypt_in_place_detached(Nonce::from_slice(nonce), &[], &mut message, Tag::from_slice(tag))
            .map_err(|_| Forged)?;
        Ok(message)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(Key::from_slice(self.0.expose()))
    }
}

/// A Poly1305 tag (RFC 8439, section 2.5), 16 bytes, compared in constant time.
#[derive(Clone, Copy)]
pub struct OneTimeMac([u8; TAG_BYTES]);

impl OneTimeMac {
    /// Its length in bytes.
    pub const BYTES: usize = TAG_BYTES;

    /// The tag of `message` under a key that serves for no other message: it is used up.
    pub fn of(key: Secret<32>, message: &[u8]) -> Self {
        let mut mac = Poly1305::new(key.expose().into());
        // Whole blocks first: these are taken several at a time, and of them `update_padded` pads none.
        let (whole, rest) = message.split_at(message.len() / TAG_BYTES * TAG_BYTES);
        mac.update_padded(whole);
        Self(mac.compute_unpadded(rest).into())
    }

    /// Its bytes, for the envelope.
    pub fn as_bytes(&self) -> &[u8; TAG_BYTES] {
        &self.0
    }

    /// Whether it is these bytes.
    pub fn is(&self, claimed: &[u8]) -> bool {
        self.0.ct_eq(claimed).into()
    }
}

impl fmt::Debug for OneTimeMac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("OneTimeMac(_)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    /// The key, the text and its tag of RFC 8439, section 2.5.2.
    #[test]
    fn rfc_8439_section_2_5_2() {
        let key = hex("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b");
        let mac = OneTimeMac::of(Secret::from_slice(&key).unwrap(), b"Cryptographic Forum Research Group");
        assert_eq!(mac.as_bytes()[..], hex("a8061dc1305136c6c22b8baf0c0127a9"));
        assert!(mac.is(&hex("a8061dc1305136c6c22b8baf0c0127a9")));
        assert!(!mac.is(&hex("a8061dc1305136c6c22b8baf0c0127a8")) && !mac.is(&[]));
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let key = SealKey::new(Secret::new([1; 32]));
        let mut sealed = b"front".to_vec();
        key.seal(&[2; 24], b"message", &mut sealed);
        let sealed = &sealed[5..];
        assert_eq!(*key.open(&[2; 24], sealed).unwrap(), *b"message");
        assert_eq!(key.open(&[3; 24], sealed).map(|_| ()), Err(Forged));
        for position in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[position] ^= 1;
            assert_eq!(key.open(&[2; 24], &changed).map(|_| ()), Err(Forged));
        }
        assert_eq!(key.open(&[2; 24], &sealed[..15]).map(|_| ()), Err(Forged));
    }
}
