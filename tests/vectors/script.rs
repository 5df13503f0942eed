//! Randomness that was written down, and secrets from the file.

use std::collections::VecDeque;

use chatterbox::crypto::dh::{PublicKey, SecretKey};
use chatterbox::crypto::kem::DecapsulationKey;
use chatterbox::crypto::secret::Secret;
use rand_core::{CryptoRng, Error, RngCore};

use super::file::Part;

/// Hands out values of the file, in this order and no more than these.
pub struct Script(VecDeque<u8>);

impl Script {
    pub fn of(draws: &[(&Part<'_>, &str)]) -> Self {
        Self(draws.iter().flat_map(|(part, name)| part.bytes(name)).collect())
    }

    /// What beginning a chain draws.
    pub fn of_chain(chain: &Part<'_>) -> Self {
        Self::of(&CHAIN_DRAWS.map(|name| (chain, name)))
    }

    pub fn none() -> Self {
        Self(VecDeque::new())
    }

    pub fn and(mut self, more: Self) -> Self {
        self.0.extend(more.0);
        self
    }

    /// Everything was drawn.
    #[track_caller]
    pub fn end(self) {
        assert!(self.0.is_empty(), "{} bytes of randomness were not drawn", self.0.len());
    }
}

/// In the order in which [`chatterbox::ratchet`] draws them.
const CHAIN_DRAWS: [&str; 4] = ["ratchet_secret", "encapsulation_randomness", "auth_secret", "kem_seed"];

impl RngCore for Script {
    fn next_u32(&mut self) -> u32 {
        panic!("keys are drawn as bytes")
    }

    fn next_u64(&mut self) -> u64 {
        panic!("keys are drawn as bytes")
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        assert!(bytes.len() <= self.0.len(), "{} bytes are drawn, {} are left", bytes.len(), self.0.len());
        bytes.fill_with(|| self.0.pop_front().unwrap());
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Script {}

pub fn secret_key(part: &Part<'_>, name: &str) -> SecretKey {
    SecretKey::from_secret(&Secret::new(part.array(name)))
}

pub fn public_key(part: &Part<'_>, name: &str) -> PublicKey {
    PublicKey(part.array(name))
}

pub fn kem_pair(part: &Part<'_>, name: &str) -> DecapsulationKey {
    DecapsulationKey::from_seed(Secret::new(part.array(name)))
}
