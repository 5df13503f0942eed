//! Which part of a large content an envelope holds (design, section 4). Every part names the whole, so that they may come in
//! any order.

use super::generated::payload as pb;
use super::{Malformed, array};
use crate::limits::{CONTENT_BYTES_MAX, LARGE_CONTENT_BYTES_MAX, PART_BYTES};

/// A part, and the whole that it is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// From 0.
    pub number: u32,
    /// Bytes of the whole content.
    pub size: u64,
    /// SHA-256 of the whole content.
    pub sha256: [u8; 32],
}

impl Part {
    /// How many parts the whole has.
    pub fn count(&self) -> u32 {
        count(self.size)
    }

    /// Where it begins in the whole.
    pub fn offset(&self) -> u64 {
        u64::from(self.number) * PART_BYTES
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        PART_BYTES.min(self.size.saturating_sub(self.offset()))
    }

    pub(super) fn parse(part: &pb::Part, length: usize) -> Result<Self, Malformed> {
        let parsed = Self { number: part.number, size: part.size, sha256: array("part hash", &part.sha256)? };
        let smallest = u64::try_from(CONTENT_BYTES_MAX).unwrap_or(u64::MAX);
        if part.size <= smallest || part.size > LARGE_CONTENT_BYTES_MAX {
            return Err(Malformed::new("part size", "needs no parts, or too many"));
        }
        if part.number >= parsed.count() {
            return Err(Malformed::new("part number", "beyond the last"));
        }
        if u64::try_from(length) != Ok(parsed.length()) {
            return Err(Malformed::new("part content", "not as long as its part is"));
        }
        Ok(parsed)
    }

    pub(super) fn to_generated(self) -> pb::Part {
        pb::Part { number: self.number, size: self.size, sha256: self.sha256.to_vec() }
    }
}

/// How many parts a content of this size has.
pub fn count(size: u64) -> u32 {
    u32::try_from(size.div_ceil(PART_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(number: u32, size: u64, length: u64) -> Result<Part, Malformed> {
        Part::parse(&pb::Part { number, size, sha256: vec![1; 32] }, usize::try_from(length).unwrap())
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        for size in [PART_BYTES + 1, 2 * PART_BYTES, 64 * 1024 * 1024, LARGE_CONTENT_BYTES_MAX] {
            let parts = (0..count(size)).map(|number| Part { number, size, sha256: [1; 32] });
            let mut end = 0;
            for part in parts {
                assert_eq!(part.offset(), end);
                assert_eq!(Part::parse(&part.to_generated(), usize::try_from(part.length()).unwrap()), Ok(part));
                end += part.length();
            }
            assert_eq!(end, size);
        }
    }

    #[test]
    fn what_is_no_part_of_its_whole_is_refused() {
        let small = u64::try_from(CONTENT_BYTES_MAX).unwrap();
        assert!(parsed(0, small, small).is_err());
        assert!(parsed(0, small + 1, small + 1).is_ok(), "it does not fit one message");
        assert!(parsed(0, LARGE_CONTENT_BYTES_MAX + 1, PART_BYTES).is_err());
        assert!(parsed(0, u64::MAX, PART_BYTES).is_err());
        assert!(parsed(2, 2 * PART_BYTES, 0).is_err());
        assert!(parsed(u32::MAX, 2 * PART_BYTES, 0).is_err());
        assert!(parsed(1, 2 * PART_BYTES, PART_BYTES - 1).is_err());
        assert!(parsed(1, 2 * PART_BYTES - 5, PART_BYTES - 5).is_ok());
        assert!(parsed(1, 2 * PART_BYTES - 5, PART_BYTES).is_err());
    }
}
