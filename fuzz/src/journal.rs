//! Reading the journal's log (design, section 9, rule 2). An input is a byte that says which of three, and what follows:
//!
//! | byte modulo 3 | log | what must hold |
//! |---:|---|---|
//! | 0 | the bytes as they are | nothing panics or grows; what is read can be written and read again |
//! | 1 | records in any order and with any numbers, checksums right | and nothing is read that was not written |
//! | 2 | as the program writes it, then damaged | and what is read is exactly what the rule says |
//!
//! The space between the header slots, of which nothing is read, is no part of an input: so inputs are short.

use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Range;
use std::path::{Component, Path};

use chatterbox::disk::journal::{JournalError, Step, Transaction, read_log, write_log};
use zeroize::Zeroizing;

use super::input::Input;

// The format once more, as the table in `disk::journal::format` has it, so that the two are compared.
const SLOT_BYTES: usize = 4096;
const RECORDS_START: usize = 2 * SLOT_BYTES;
const HEADER_BYTES: usize = 48;
/// Behind these a slot holds zeros only.
const HEADER_BYTES_READ: usize = 44;
const ALIGNMENT: usize = 16;

/// Enough to have something before, at and behind every damage.
const BATCHES_MAX: usize = 8;
const RECORDS_MAX: usize = 4;

type Payload = Zeroizing<Vec<u8>>;
type Batches = Vec<Vec<Payload>>;

/// Checks one input; says whether it is a log that is read.
///
/// # Panics
/// If something does not hold.
pub fn check(input: &[u8]) -> bool {
    let mut input = Input(input);
    match input.byte() % 3 {
        0 => read(&as_it_is(input.0)).is_ok(),
        1 => any_records(input),
        _ => damaged(input),
    }
}

/// Reads a log, and checks what must hold for every log.
fn read(log: &[u8]) -> Result<Vec<Transaction>, JournalError> {
    let transactions = read_log(Path::new("log"), log)?;
    let mut size = 0;
    for transaction in &transactions {
        let bytes = transaction.to_bytes();
        let again = Transaction::from_bytes(&bytes).expect("what was read can be read again");
        assert_eq!(&again, transaction);
        assert_eq!(again.to_bytes(), bytes);
        for step in &transaction.steps {
            assert!(step.paths().all(stays_below), "a path leaves the root");
            size += content(step) + step.paths().map(|path| path.as_os_str().len()).sum::<usize>();
        }
    }
    assert!(size <= log.len(), "{} bytes gave {size}", log.len());
    Ok(transactions)
}

fn content(step: &Step) -> usize {
    match step {
        Step::Put { bytes, .. } | Step::Place { bytes, .. } => bytes.len(),
        Step::Append { bytes, .. } | Step::Mark { bytes, .. } => bytes.len(),
        Step::Write { bytes, .. } => bytes.len(),
        Step::Move { .. } | Step::Expire { .. } => 0,
        Step::Take { .. } | Step::Erase { .. } | Step::Remove { .. } | Step::MakeDirectory { .. } => 0,
    }
}

/// Not the program's own check: that one is under test.
fn stays_below(path: &Path) -> bool {
    let root = Path::new("/root");
    let joined = root.join(path);
    let climbs = joined.components().any(|component| component == Component::ParentDir);
    !climbs && joined.starts_with(root) && joined != root
}

/// Both header slots, then the records.
fn as_it_is(input: &[u8]) -> Vec<u8> {
    let mut input = Input(input);
    let mut log = vec![0; RECORDS_START];
    for slot in [0, SLOT_BYTES] {
        let bytes = input.take(HEADER_BYTES);
        log[slot..slot + bytes.len()].copy_from_slice(bytes);
    }
    log.extend_from_slice(input.0);
    log
}

/// Records whose checksums are right, and all else as the input has it.
fn any_records(mut input: Input<'_>) -> bool {
    let mut log = vec![0; RECORDS_START];
    let mut newest = None;
    for slot in [0, SLOT_BYTES] {
        let (intact, generation, nonce) = (input.byte() & 3 != 0, input.number(), input.number());
        if intact {
            log[slot..slot + HEADER_BYTES].copy_from_slice(&write_log(generation, nonce, &[])[..HEADER_BYTES]);
            // Of two equal ones the second counts.
            newest = newest.max(Some((generation, slot, nonce)));
        }
    }
    let mut records = Vec::new();
    while !input.0.is_empty() {
        let start = log.len();
        let (lie, index, count) = (input.byte(), input.byte(), input.byte());
        let (batch, generation, nonce) = (input.number(), input.number(), input.number());
        let payload = input.payload();
        let length = u32::try_from(payload.len()).expect("short") + u32::from(lie.saturating_sub(200));
        log.extend_from_slice(b"CBXr\0\0\0\0");
        log.extend_from_slice(&length.to_le_bytes());
        log.extend_from_slice(&u32::from(index).to_le_bytes());
        log.extend_from_slice(&u32::from(count).to_le_bytes());
        log.extend_from_slice(&[0; 4]);
        for number in [batch, generation, nonce] {
            log.extend_from_slice(&number.to_le_bytes());
        }
        log.extend_from_slice(&payload);
        log.resize(log.len().next_multiple_of(ALIGNMENT), 0);
        records.push((start, length as usize, generation, nonce));
    }
    // A record whose length is a lie takes in those behind it, with their checksums: so from the end.
    let mut written = Vec::new();
    for (start, length, generation, nonce) in records.into_iter().rev() {
        let end = start + record_bytes(length);
        if end <= log.len() {
            let checksum = crc32fast::hash(&log[start + 8..end]);
            log[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
            written.insert(0, (start, length, generation, nonce));
        }
    }
    let Ok(transactions) = read(&log) else { return false };
    let (generation, _, nonce) = newest.expect("a log without a header is not read");
    let ours = written.iter().filter(|record| (record.2, record.3) == (generation, nonce));
    let mut ours = ours.filter_map(|&(start, length, ..)| {
        let payload = start + HEADER_BYTES..start + HEADER_BYTES + length;
        Transaction::from_bytes(&log[payload]).ok()
    });
    for transaction in transactions {
        assert!(ours.any(|written| written == transaction), "a record was read that was not written");
    }
    true
}

/// A log of the program, and what it holds.
struct Log {
    bytes: Vec<u8>,
    /// Where each record is, and its batch.
    records: Vec<(Range<usize>, usize)>,
    payloads: Vec<Payload>,
}

impl Log {
    fn new(generation: u64, nonce: u64, batches: &Batches) -> Self {
        let bytes = write_log(generation, nonce, batches).to_vec();
        let (mut records, mut end) = (Vec::new(), RECORDS_START);
        for (batch, payload) in
            (0..).zip(batches).flat_map(|(batch, payloads)| payloads.iter().map(move |one| (batch, one)))
        {
            let start = end;
            end += record_bytes(payload.len());
            records.push((start..end, batch));
        }
        assert_eq!(end, bytes.len(), "the format is another than in the table");
        Self { bytes, records, payloads: batches.concat() }
    }

    /// Whether what was written as `record` stands whole in `bytes`, at this place.
    fn is_at(&self, record: &Range<usize>, bytes: &[u8], at: usize) -> bool {
        bytes.get(at..).is_some_and(|found| found.starts_with(&self.bytes[record.clone()]))
    }

    /// What the payloads of the first records say; an intact record that is no transaction is an error.
    fn transactions(&self, count: usize) -> Option<Vec<Transaction>> {
        self.payloads[..count].iter().map(|payload| Transaction::from_bytes(payload).ok()).collect()
    }
}

/// What reading must give.
#[derive(Debug, PartialEq)]
enum Expected {
    Read(Vec<Transaction>),
    DamagedAt(usize),
    Malformed,
}

/// A log as the program leaves it, with what a crash or a bad disk does to it.
fn damaged(mut input: Input<'_>) -> bool {
    // Not for the input to choose: a payload cannot know it.
    let mut hasher = DefaultHasher::new();
    hasher.write(input.0);
    let nonce = hasher.finish();
    let generation = u64::from(input.byte()) + 2;
    let shape = input.byte();
    let log = Log::new(generation, nonce, &input.batches(shape & 1 != 0, nonce));
    let older = Log::new(generation - 1, nonce ^ 1, &input.batches(true, nonce));
    let mut bytes = log.bytes.clone();
    if shape & 2 != 0 {
        // Emptied once, from the other slot.
        bytes[SLOT_BYTES..SLOT_BYTES + HEADER_BYTES].copy_from_slice(&older.bytes[..HEADER_BYTES]);
    }
    if shape & 4 != 0 {
        bytes.extend_from_slice(older.bytes.get(bytes.len()..).unwrap_or_default());
    }
    if shape & 8 != 0 {
        bytes.resize(bytes.len() + 256, 0);
    }
    for _ in 0..input.byte() % 4 {
        input.damage(&mut bytes);
    }

    let result = read(&bytes);
    let intact = |log: &Log, slot: usize| {
        bytes.get(slot..).is_some_and(|there| there.starts_with(&log.bytes[..HEADER_BYTES_READ]))
    };
    let expected = if intact(&log, 0) {
        expected(&log, &bytes)
    } else if !intact(&older, SLOT_BYTES) {
        Expected::Malformed
    } else if log.records.first().is_some_and(|(record, _)| log.is_at(record, &bytes, RECORDS_START)) {
        // Its header had been synced before it was written.
        Expected::Malformed
    } else {
        // Begun anew and torn, as far as anybody can see.
        expected(&older, &bytes)
    };
    let found = match result {
        Ok(transactions) => Expected::Read(transactions),
        Err(JournalError::Damaged { offset, .. }) => Expected::DamagedAt(usize::try_from(offset).expect("short")),
        Err(JournalError::Malformed { .. }) => Expected::Malformed,
        Err(error) => panic!("{error}"),
    };
    assert_eq!(found, expected);
    matches!(found, Expected::Read(_))
}

/// Rule 2, said by somebody who knows what was written: the records up to the first that is not there any more, unless
/// one of a later batch is.
fn expected(log: &Log, bytes: &[u8]) -> Expected {
    let whole = log.records.iter().take_while(|(record, _)| log.is_at(record, bytes, record.start)).count();
    let Some((missing, batch)) = log.records.get(whole) else {
        return log.transactions(whole).map_or(Expected::Malformed, Expected::Read);
    };
    let later: Vec<_> = log.records[whole..].iter().filter(|(_, later)| later > batch).collect();
    let is_proof = |at: usize| later.iter().any(|(record, _)| log.is_at(record, bytes, at));
    if (missing.start..bytes.len()).step_by(ALIGNMENT).any(is_proof) {
        return Expected::DamagedAt(missing.start);
    }
    log.transactions(whole).map_or(Expected::Malformed, Expected::Read)
}

/// The size on disk of a record with a payload of `length` bytes.
fn record_bytes(length: usize) -> usize {
    (HEADER_BYTES + length).next_multiple_of(ALIGNMENT)
}

/// What a log is made of.
impl Input<'_> {
    fn payload(&mut self) -> Payload {
        Zeroizing::new(self.chunk().to_vec())
    }

    /// Payloads of transactions; if `raw`, of whatever stands there.
    fn batches(&mut self, raw: bool, nonce: u64) -> Batches {
        let batches = usize::from(self.byte()) % (BATCHES_MAX + 1);
        (0..batches).map(|_| self.batch(raw, nonce)).collect()
    }

    fn batch(&mut self, raw: bool, nonce: u64) -> Vec<Payload> {
        let records = 1 + usize::from(self.byte()) % RECORDS_MAX;
        (0..records).map(|_| self.record(raw, nonce)).collect()
    }

    fn record(&mut self, raw: bool, nonce: u64) -> Payload {
        let padding = usize::from(self.byte());
        let mut payload = self.payload();
        if padding > 240 {
            // Somebody's message that wants to be taken for a later record.
            let later = write_log(self.number(), nonce ^ 2, &vec![vec![payload]; BATCHES_MAX + 2]);
            payload = Zeroizing::new(vec![b'x'; padding - 240]);
            payload.extend_from_slice(&later[RECORDS_START..]);
        }
        if raw || Transaction::from_bytes(&payload).is_ok() {
            return payload;
        }
        let scratch = "tmp/chatterboxd/1".into();
        Transaction { steps: vec![Step::Place { path: "c/1".into(), scratch, bytes: payload }] }.to_bytes()
    }

    fn damage(&mut self, log: &mut Vec<u8>) {
        let kind = self.byte();
        let place = match kind & 0x70 {
            0 => self.place(HEADER_BYTES),
            0x10 => SLOT_BYTES + self.place(HEADER_BYTES),
            _ => RECORDS_START + self.place(log.len().saturating_sub(RECORDS_START)),
        };
        match kind % 5 {
            // Few enough bits that the checksum must notice, whatever they are.
            0 => {
                let bit = self.byte() % 8;
                if let Some(byte) = log.get_mut(place) {
                    *byte ^= 1 << bit;
                }
            }
            1 => log.truncate(place),
            2 => {
                let end = log.len();
                log.truncate(place);
                log.resize(end, 0);
            }
            3 => {
                let end = log.len().min(place + usize::from(self.byte()));
                if let Some(lost) = log.get_mut(place..end) {
                    lost.fill(0);
                }
            }
            // A block that was written to the wrong place. Not to the first, where a record of any later generation is
            // believed to be the program's.
            _ => {
                let length = self.place(SLOT_BYTES);
                let from = place..log.len().min(place + length);
                let blocks = log.len().saturating_sub(RECORDS_START) / ALIGNMENT;
                let to = RECORDS_START + (1 + self.place(blocks)) * ALIGNMENT;
                if from.start < from.end && to + from.len() <= log.len() {
                    log.copy_within(from, to);
                }
            }
        }
    }
}
