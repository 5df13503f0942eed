//! An input, read piece by piece. Where nothing is left, it is zeros: every input means something.

use chatterbox::limits::{CHAIN_JUMP_MAX, SKIPPED_KEYS_MAX};

/// What is left of an input.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// Small ones, and those near the end of what a number can be.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            large @ 250.. => u64::MAX - u64::from(255 - large),
            small => u64::from(small),
        }
    }

    pub fn place(&mut self, below: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % below.max(1)
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        filled(self.take(N))
    }

    /// As many bytes as the first says.
    pub fn chunk(&mut self) -> &'a [u8] {
        let length = self.byte();
        self.take(usize::from(length))
    }

    /// A position in a chain: small, near one of the bounds, or near the end of what a number can be.
    pub fn counter(&mut self) -> u64 {
        match self.byte() {
            small @ ..200 => u64::from(small),
            // A walk of more takes long, and is like any other.
            200..220 => self.place(1 << 12) as u64,
            kept @ 220..230 => SKIPPED_KEYS_MAX as u64 + u64::from(kept) - 225,
            jump @ 230..240 => CHAIN_JUMP_MAX + u64::from(jump) - 235,
            large => u64::MAX - u64::from(255 - large),
        }
    }

    /// Changes some of `bytes`, perhaps to what they were.
    pub fn edit(&mut self, bytes: &mut [u8]) {
        let (kind, place) = (self.byte(), self.place(bytes.len()));
        let here = &mut bytes[place..];
        match kind % 4 {
            0 => {
                let change = self.byte();
                here.iter_mut().take(1).for_each(|byte| *byte ^= change);
            }
            1 => {
                let count = self.place(here.len() + 1);
                here[..count].fill(kind);
            }
            2 => here.iter_mut().zip(self.chunk()).for_each(|(byte, new)| *byte = *new),
            _ => {
                let from = self.place(bytes.len());
                let count = self.place((bytes.len() - from.max(place)) + 1);
                bytes.copy_within(from..from + count, place);
            }
        }
    }
}

/// The beginning of `bytes`, with zeros behind it where it is short.
pub fn filled<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.iter_mut().zip(bytes).for_each(|(byte, given)| *byte = *given);
    array
}
