//! Numbers that are the same in every run.

use chatterbox::crypto::hash::sha256;
use rand_core::{CryptoRng, Error, RngCore};

/// What SHA-256 makes of a seed and a count.
#[derive(Clone)]
pub struct Rng {
    seed: [u8; 32],
    count: u64,
}

impl Rng {
    pub fn new(seed: &[u8]) -> Self {
        Self { seed: sha256(&[seed]), count: 0 }
    }
}

impl RngCore for Rng {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            self.count += 1;
            let block = sha256(&[&self.seed, &self.count.to_le_bytes()]);
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// Nobody else's secrets depend on it.
impl CryptoRng for Rng {}
