//! Bytes that wipe themselves.

use std::fmt;
use std::ops::{Deref, DerefMut};

use rand_core::CryptoRngCore;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `N` secret bytes: wiped on drop, compared in constant time, `_` in `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    /// Takes the bytes over; the caller's copy, if any, is the caller's to wipe.
    pub fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// Fresh random bytes.
    pub fn random(rng: &mut impl CryptoRngCore) -> Self {
        let mut secret = Self([0; N]);
        rng.fill_bytes(&mut secret.0);
        secret
    }

    /// From a slice of exactly `N` bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes themselves, for a primitive or for the state file. Named so that every use stands out.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("_")
    }
}

/// Secret bytes of a length that is known only when they come: wiped on drop, `_` in `Debug`. A `Zeroizing<Vec<u8>>` wipes
/// byte by byte, which for an envelope costs a tenth of its decryption; this wipes its slice in one go.
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Zeros, to be written over.
    pub fn zeros(length: usize) -> Self {
        Self(vec![0; length])
    }

    /// A copy, which has no room beyond its length that would not be wiped.
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Deref for SecretBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for SecretBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0[..].zeroize();
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        assert_eq!(format!("{:?}", Secret::new([0x41; 4])), "_");
        assert_eq!(format!("{:?}", SecretBytes::copy_of(b"AAAA")), "_");
    }

    #[test]
    fn a_slice_of_another_length_is_refused() {
        assert!(Secret::<4>::from_slice(&[1, 2, 3]).is_none());
        assert_eq!(Secret::<3>::from_slice(&[1, 2, 3]), Some(Secret::new([1, 2, 3])));
    }
}
