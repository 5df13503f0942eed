//! The log's format. All numbers are little-endian; offsets and lengths are bytes.
//!
//! ```text
//! 0      header slot 0 }  the valid slot with the higher generation counts; a checkpoint writes the other one, so
//! 4096   header slot 1 }  that a torn write of it leaves the log as it was
//! 8192   records, back to back, then zeros (or remains of older generations and torn writes, which do not count)
//!
//! header slot, 48 bytes
//! 0   8   "CBXLOG\0\1", the last byte is the version
//! 8   8   generation, counts up with every checkpoint and every new file
//! 16  8   nonce of the generation, random
//! 24  16  id of the boot and the mount under which the records were applied (`Disk::boot_id`)
//! 40  4   CRC-32 of bytes 0..40
//! 44  4   zeros
//!
//! record, 48 bytes and a payload, zero-filled to a multiple of 16
//! 0   4   "CBXr"
//! 4   4   CRC-32 of bytes 8.. up to and including the filling
//! 8   4   length of the payload
//! 12  4   place in its batch, from 0
//! 16  4   records in its batch
//! 20  4   zeros
//! 24  8   batch number, from 1 in each generation
//! 32  8   generation
//! 40  8   nonce of the generation
//! 48      payload: a `Transaction` of proto/journal.proto
//! ```
//!
//! Only whole batches are synced, each after the one before. So where reading stops short, what stands there is either
//! the end or a batch whose sync did not finish; a record of a *later* batch behind it proves that it had been synced,
//! and was damaged since. The nonce keeps the content of a message from posing as such a record.
//!
//! A header is synced before the first record of its generation is written. So where the first record is of a later
//! generation than the header that counts, a later header had been synced, and was damaged since. No content of a message
//! ever begins at that place.

use zeroize::Zeroizing;

use crate::limits::JOURNAL_RECORD_BYTES_MAX;

/// Where the second header slot begins: another block, so that writing one slot cannot tear the other.
pub(super) const SLOT_BYTES: usize = 4096;

/// Where records begin.
pub(super) const RECORDS_START: usize = 2 * SLOT_BYTES;

const MAGIC: &[u8; 8] = b"CBXLOG\0\x01";
const RECORD_MAGIC: &[u8; 4] = b"CBXr";
const HEADER_BYTES: usize = 48;
const RECORD_HEADER_BYTES: usize = 48;
const ALIGNMENT: usize = 16;

/// What a header slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) generation: u64,
    pub(super) nonce: u64,
    pub(super) boot: [u8; 16],
}

/// What was found behind the header.
pub(super) struct Scanned {
    /// The payloads of complete records, in order.
    pub(super) payloads: Vec<Zeroizing<Vec<u8>>>,
}

/// A record that cannot be read although it had been synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Where it begins, from the start of the records.
    pub(super) offset: usize,
}

impl Header {
    /// One slot, zero-filled to its size.
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.boot);
        let crc = crc32fast::hash(&bytes[..40]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn from_slot(slot: &[u8]) -> Option<Self> {
        let intact = slot.starts_with(MAGIC) && u32_at(slot, 40)? == crc32fast::hash(slot.get(..40)?);
        let boot = slot.get(24..40)?.try_into().ok()?;
        intact.then_some(Self { generation: u64_at(slot, 8)?, nonce: u64_at(slot, 16)?, boot })
    }

    /// The header of a log, and which slot holds it.
    pub(super) fn read(log: &[u8]) -> Option<(Self, usize)> {
        let slots = (0..2).filter_map(|slot| Some((Self::from_slot(log.get(slot * SLOT_BYTES..)?)?, slot)));
        slots.max_by_key(|(header, _)| header.generation)
    }

    /// Whether a later header than this one was synced, and is lost: `records` begin with one of its generation.
    pub(super) fn is_outdated_by(self, records: &[u8]) -> bool {
        Record::matching(records, 0, |generation, _| generation > self.generation).is_some()
    }
}

/// The records of one batch, to be written behind what is there.
pub(super) fn batch(header: Header, number: u64, payloads: &[Zeroizing<Vec<u8>>]) -> Zeroizing<Vec<u8>> {
    let size = payloads.iter().map(|payload| record_bytes(payload.len())).sum();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    // The callers bound both: a batch by its records, a record by JOURNAL_RECORD_BYTES_MAX.
    let count = u32::try_from(payloads.len()).unwrap_or(u32::MAX);
    for (index, payload) in (0..count).zip(payloads) {
        let start = bytes.len();
        bytes.extend_from_slice(RECORD_MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&index.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&header.generation.to_le_bytes());
        bytes.extend_from_slice(&header.nonce.to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(start + record_bytes(payload.len()), 0);
        let crc = crc32fast::hash(&bytes[start + 8..]);
        bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// Reads the records of `header`'s generation from `records`, what follows the header slots.
///
/// # Errors
/// [`Damage`] if a record is unreadable and a later batch follows.
pub(super) fn scan(header: Header, records: &[u8]) -> Result<Scanned, Damage> {
    let mut payloads = Vec::new();
    let mut position = 0;
    let (mut batch, mut next, mut count) = (0, 0, 0);
    while let Some(record) = Record::at(header, records, position) {
        let follows = if next < count {
            (record.batch, record.index, record.count) == (batch, next, count)
        } else {
            (record.batch, record.index) == (batch + 1, 0)
        };
        if !follows {
            break;
        }
        (batch, next, count) = (record.batch, record.index + 1, record.count);
        payloads.push(Zeroizing::new(record.payload.to_vec()));
        position += record_bytes(record.payload.len());
    }
    let unfinished = if next < count { batch } else { batch + 1 };
    let later = |offset| Record::at(header, records, offset).is_some_and(|record| record.batch > unfinished);
    if (position..end_of_data(records)).step_by(ALIGNMENT).any(later) {
        return Err(Damage { offset: position });
    }
    Ok(Scanned { payloads })
}

/// Where the zeros begin, about, that are most of a log. No record begins in them.
fn end_of_data(records: &[u8]) -> usize {
    static ZEROS: [u8; SLOT_BYTES] = [0; SLOT_BYTES];
    let mut end = records.len();
    while end >= SLOT_BYTES && records[end - SLOT_BYTES..end] == ZEROS {
        end -= SLOT_BYTES;
    }
    end
}

struct Record<'a> {
    batch: u64,
    index: u32,
    count: u32,
    payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The intact record of this generation at `position`, if there is one.
    fn at(header: Header, records: &'a [u8], position: usize) -> Option<Self> {
        Self::matching(records, position, |generation, nonce| (generation, nonce) == (header.generation, header.nonce))
    }

    /// The intact record at `position`, if there is one whose generation and nonce are wanted.
    fn matching(records: &'a [u8], position: usize, is_wanted: impl FnOnce(u64, u64) -> bool) -> Option<Self> {
        let bytes = records.get(position..)?;
        if !bytes.starts_with(RECORD_MAGIC) {
            return None;
        }
        let length = u32_at(bytes, 8)?;
        if u64::from(length) > JOURNAL_RECORD_BYTES_MAX {
            return None;
        }
        let length = usize::try_from(length).ok()?;
        let whole = bytes.get(..record_bytes(length))?;
        // Before the checksum, which is the dear part.
        if !is_wanted(u64_at(whole, 32)?, u64_at(whole, 40)?) || u32_at(whole, 4)? != crc32fast::hash(whole.get(8..)?) {
            return None;
        }
        Some(Self {
            batch: u64_at(whole, 24)?,
            index: u32_at(whole, 12)?,
            count: u32_at(whole, 16)?,
            payload: whole.get(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + length)?,
        })
    }
}

/// The size on disk of a record with a payload of `length` bytes.
fn record_bytes(length: usize) -> usize {
    (RECORD_HEADER_BYTES + length).next_multiple_of(ALIGNMENT)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: Header = Header { generation: 7, nonce: 0x1234, boot: [3; 16] };

    fn payloads(texts: &[&str]) -> Vec<Zeroizing<Vec<u8>>> {
        texts.iter().map(|text| Zeroizing::new(text.as_bytes().to_vec())).collect()
    }

    fn read(records: &[u8]) -> Result<Vec<String>, Damage> {
        let scanned = scan(HEADER, records)?;
        Ok(scanned.payloads.iter().map(|payload| String::from_utf8(payload.to_vec()).unwrap()).collect())
    }

    fn log(batches: &[&[&str]]) -> Vec<u8> {
        (1..).zip(batches).flat_map(|(number, texts)| batch(HEADER, number, &payloads(texts)).to_vec()).collect()
    }

    #[test]
    fn a_torn_tail_is_dropped_at_every_byte() {
        let earlier = log(&[&["one"], &["two", "three"]]).len();
        let whole = log(&[&["one"], &["two", "three"], &["the last record"]]);
        for end in earlier..whole.len() {
            let mut torn = whole[..end].to_vec();
            assert_eq!(read(&torn).unwrap(), ["one", "two", "three"], "cut at {end}");
            torn.resize(whole.len() + 4096, 0);
            let expected: &[&str] = if torn.starts_with(&whole) {
                &["one", "two", "three", "the last record"]
            } else {
                &["one", "two", "three"]
            };
            assert_eq!(read(&torn).unwrap(), expected, "zeros from {end}");
        }
    }

    #[test]
    fn a_flipped_bit_in_any_byte_of_a_synced_record_is_an_error() {
        let first = log(&[&["one"]]).len();
        let second = log(&[&["one"], &["two", "three"]]).len();
        let whole = log(&[&["one"], &["two", "three"], &["four"], &["five"]]);
        for position in 0..second {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[position] ^= 1 << bit;
                let Err(damage) = read(&damaged) else { panic!("byte {position} bit {bit} went unnoticed") };
                assert!(damage.offset <= position && (position < first) == (damage.offset == 0));
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_the_last_batch_drops_it_from_there() {
        let earlier = log(&[&["one"]]).len();
        let whole = log(&[&["one"], &["two", "three"]]);
        for position in earlier..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x10;
            assert!(
                ["one"].as_slice() == read(&damaged).unwrap() || ["one", "two"].as_slice() == read(&damaged).unwrap()
            );
        }
    }

    #[test]
    fn records_of_another_generation_do_not_count() {
        let other = Header { generation: 6, ..HEADER };
        let mut records = log(&[&["new"]]);
        records.extend_from_slice(&batch(other, 2, &payloads(&["old"])));
        records.extend_from_slice(&batch(Header { nonce: 9, ..HEADER }, 5, &payloads(&["posing as a record"])));
        assert_eq!(read(&records).unwrap(), ["new"]);
    }

    #[test]
    fn a_header_is_outdated_by_whole_records_of_a_later_generation_at_their_place_only() {
        let older = Header { generation: 6, nonce: 9, ..HEADER };
        let mut records = log(&[&["new"]]);
        assert!(older.is_outdated_by(&records) && !HEADER.is_outdated_by(&records));
        assert!(!HEADER.is_outdated_by(&batch(older, 1, &payloads(&["old"]))));
        let posing = batch(older, 1, &[Zeroizing::new(records.clone())]);
        assert!(!older.is_outdated_by(&posing), "one inside a message may be anybody's");
        records[50] ^= 1;
        assert!(!older.is_outdated_by(&records), "one that is not whole may be what its sync left");
    }

    #[test]
    fn the_higher_intact_header_counts() {
        let mut log = vec![0; RECORDS_START];
        assert_eq!(Header::read(&log), None);
        log[..HEADER_BYTES].copy_from_slice(&HEADER.to_bytes());
        assert_eq!(Header::read(&log), Some((HEADER, 0)));
        let next = Header { generation: 8, ..HEADER };
        log[SLOT_BYTES..SLOT_BYTES + HEADER_BYTES].copy_from_slice(&next.to_bytes());
        assert_eq!(Header::read(&log), Some((next, 1)));
        log[SLOT_BYTES + 30] ^= 1;
        assert_eq!(Header::read(&log), Some((HEADER, 0)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            batches in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..4), 0..5),
            zeros in 0usize..200,
        ) {
            let mut bytes = Vec::new();
            for (number, texts) in (1..).zip(&batches) {
                let payloads: Vec<_> = texts.iter().cloned().map(Zeroizing::new).collect();
                bytes.extend_from_slice(&batch(HEADER, number, &payloads));
            }
            bytes.resize(bytes.len() + zeros, 0);
            let read: Vec<_> = scan(HEADER, &bytes).ok().unwrap().payloads.iter().map(|one| one.to_vec()).collect();
            prop_assert_eq!(read, batches.concat());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Header::read(&bytes);
            let _ = scan(HEADER, &bytes);
        }
    }
}
