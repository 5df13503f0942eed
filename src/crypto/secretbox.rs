//! XSalsa20-Poly1305 ("secretbox") and the NaCl box.
//!
//! `secretbox(key, nonce, message) = Poly1305 tag || XSalsa20(message)`; `box` is `secretbox` under
//! `HSalsa20(X25519(secret, public), 0)`.

use salsa20::cipher::consts::U10;
use thiserror::Error;
use xsalsa20poly1305::aead::{Aead, AeadInPlace as _, KeyInit};
use xsalsa20poly1305::{Key, Nonce, Tag, XSalsa20Poly1305};

use super::dh::{PublicKey, SecretKey, SmallOrder};
use super::secret::{Secret, SecretBytes};
use crate::limits::BOX_OVERHEAD_BYTES;

/// A nonce, 24 bytes.
pub type NonceBytes = [u8; 24];

/// The nonce of boxes whose key serves only once.
pub const ZERO_NONCE: NonceBytes = [0; 24];

/// The box was not made with this key and nonce, or was changed since.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("the box does not open")]
pub struct Forged;

/// A key for boxes, 32 bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoxKey(Secret<32>);

impl BoxKey {
    /// From key material that a derivation made for this purpose alone.
    pub fn new(key: Secret<32>) -> Self {
        Self(key)
    }

    /// The NaCl box key of two parties: `HSalsa20(X25519(ours, theirs), 0)` ("beforenm").
    ///
    /// # Errors
    /// [`SmallOrder`] if the agreement is all zeros.
    pub fn between(ours: &SecretKey, theirs: &PublicKey) -> Result<Self, SmallOrder> {
        let shared = ours.agree(theirs)?;
        let mut key = salsa20::hsalsa::<U10>(shared.expose().into(), &[0; 16].into());
        let boxed = Secret::new(key.into());
        zeroize::Zeroize::zeroize(key.as_mut_slice());
        Ok(Self(boxed))
    }

    /// The key's bytes, for the state file.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// `tag || ciphertext`, 16 bytes longer than `message`. A nonce serves once under one key.
    pub fn seal(&self, nonce: &NonceBytes, message: &[u8]) -> Vec<u8> {
        self.cipher().encrypt(Nonce::from_slice(nonce), message).expect("XSalsa20 takes messages up to 2^70 bytes")
    }

    /// The message, after its tag was checked.
    ///
    /// # Errors
    /// [`Forged`], whatever the reason.
    pub fn open(&self, nonce: &NonceBytes, boxed: &[u8]) -> Result<SecretBytes, Forged> {
        let (tag, text) = boxed.split_at_checked(BOX_OVERHEAD_BYTES).ok_or(Forged)?;
        let mut message = SecretBytes::copy_of(text);
        self.cipher()
            .decrypt_in_place_detached(Nonce::from_slice(nonce), &[], &mut message, Tag::from_slice(tag))
            .map_err(|_| Forged)?;
        Ok(message)
    }

    fn cipher(&self) -> XSalsa20Poly1305 {
        XSalsa20Poly1305::new(Key::from_slice(self.0.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    // The example that runs through "Cryptography in NaCl" (tests/box.c and tests/secretbox.c of NaCl).
    const FIRST_KEY: &str = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389";
    const NONCE: &str = "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37";
    const MESSAGE: &str = "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc\
        e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb31\
        0e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde\
        048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705";
    const BOXED: &str = "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce\
        48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c972\
        71d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae\
        90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b3\
        7973f622a43d14a6599b1f654cb45a74e355a5";

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    fn secret_key(text: &str) -> SecretKey {
        SecretKey::from_secret(&Secret::from_slice(&hex(text)).unwrap())
    }

    #[test]
    fn nacl_secretbox() {
        let key = BoxKey::new(Secret::from_slice(&hex(FIRST_KEY)).unwrap());
        let nonce: NonceBytes = hex(NONCE).try_into().unwrap();
        assert_eq!(HEXLOWER.encode(&key.seal(&nonce, &hex(MESSAGE))), BOXED);
        assert_eq!(*key.open(&nonce, &hex(BOXED)).unwrap(), hex(MESSAGE));
    }

    #[test]
    fn nacl_box() {
        let alice = secret_key("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let bob = secret_key("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        assert_eq!(HEXLOWER.encode(BoxKey::between(&alice, &bob.public()).unwrap().expose()), FIRST_KEY);
        assert_eq!(HEXLOWER.encode(BoxKey::between(&bob, &alice.public()).unwrap().expose()), FIRST_KEY);
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let key = BoxKey::new(Secret::new([1; 32]));
        let boxed = key.seal(&ZERO_NONCE, b"message");
        for position in 0..boxed.len() {
            let mut changed = boxed.clone();
            changed[position] ^= 1;
            assert_eq!(key.open(&ZERO_NONCE, &changed).map(|_| ()), Err(Forged));
        }
        assert_eq!(key.open(&ZERO_NONCE, &boxed[..15]).map(|_| ()), Err(Forged));
    }
}
