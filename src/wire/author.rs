//! What we have of one author in one conversation (`keys/transcripts/CONVERSATION-FINGERPRINT`): their latest messages, those that
//! are missing before them, and what others say to have of them (design, section 4). What becomes of it is decided in
//! `client/author`. Ours are kept in the same form.

use std::collections::BTreeMap;

use prost::Message as _;

use super::generated::state as pb;
use super::identity::{ConversationId, Fingerprint};
use super::ranges::Ranges;
use super::transcript::TranscriptHash;
use super::{Malformed, array, decode, required};
use crate::clock::Timestamp;
use crate::limits::{
    CLAIMED_RANGES_MAX, FORMER_INCARNATIONS_MAX, GAPS_MAX, HELD_MESSAGES_MAX, PARTICIPANTS_MAX, WITHDRAWN_RANGES_MAX,
};

const HELD_BYTES: usize = 48;
const RANGE_BYTES: usize = 16;

/// The file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthorRecord {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub author: Fingerprint,
    /// At most two: the one that is current, and the one before it.
    pub incarnations: Vec<Incarnation>,
    /// Incarnations that are no longer kept: what is said of them is passed over.
    pub former: Vec<[u8; 16]>,
    /// What others have of the author that we have not, the latest of each, by their places among the participants.
    pub claims: BTreeMap<u8, KeptClaim>,
    /// Which contradictions a person was told of: a bit for each cause.
    pub told: u64,
    /// Of which a person is still to be told: by the number of its cause's bit, the message's counter.
    pub untold: BTreeMap<u8, u64>,
}

/// One life of an author's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Incarnation {
    /// Random.
    pub id: [u8; 16],
    /// The author's own time in the message with the highest counter.
    pub last_time: Timestamp,
    /// The highest counter of a message that is here.
    pub highest: u64,
    /// The latest messages that are here, by counter.
    pub held: BTreeMap<u64, Held>,
    /// What is missing below the highest, by the first counter of each gap.
    pub gaps: BTreeMap<u64, Gap>,
    /// What of all that is missing will not come, by the author's word. The gaps stay what they are: it may come all the same.
    /// The word counts for nothing where somebody else says to have it.
    pub withdrawn: Ranges,
    /// Of all that is missing what others say to have, or said, by their places.
    pub claimed: BTreeMap<u8, Ranges>,
}

/// A message that is here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// The time in its name.
    pub time: Timestamp,
    /// Its transcript hash.
    pub hash: TranscriptHash,
}

/// Messages that are missing between two of the same author.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The last counter.
    pub to: u64,
    /// The hash of that last one, as the message behind it has it.
    pub last: TranscriptHash,
    /// How it goes.
    pub progress: Progress,
}

/// How far something that is missing was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// When it was noticed, seconds since 1970.
    pub since: u64,
    /// How often it was asked for.
    pub asked: u32,
    /// When it was asked for last, or noticed, seconds since 1970.
    pub last: u64,
    /// Whether a person was told.
    pub is_told: bool,
}

/// What somebody says to have of the author.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The author's incarnation.
    pub incarnation: [u8; 16],
    /// The message's counter.
    pub counter: u64,
    /// Its hash.
    pub hash: TranscriptHash,
}

/// A claim about what is not here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeptClaim {
    /// What is said.
    pub claim: Claim,
    /// How it goes with what is missing by it. Each has its own: nobody's lies use up what others' claims are worth.
    pub progress: Progress,
}

impl Progress {
    /// Of what is noticed now.
    pub fn begin(now_s: u64) -> Self {
        Self { since: now_s, asked: 0, last: now_s, is_told: false }
    }

    fn parse(progress: pb::Progress) -> Self {
        let pb::Progress { since, asked, last, is_told } = progress;
        Self { since, asked, last, is_told }
    }

    fn to_generated(self) -> pb::Progress {
        let Self { since, asked, last, is_told } = self;
        pb::Progress { since, asked, last, is_told }
    }
}

impl AuthorRecord {
    /// Of somebody from whom there is nothing yet.
    pub fn new(conversation: ConversationId, author: Fingerprint) -> Self {
        Self {
            conversation,
            author,
            incarnations: Vec::new(),
            former: Vec::new(),
            claims: BTreeMap::new(),
            told: 0,
            untold: BTreeMap::new(),
        }
    }

    /// Parses the file.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let record: pb::Author = decode("author record", bytes)?;
        if record.incarnations.len() > 2 || record.former.len() > FORMER_INCARNATIONS_MAX {
            return Err(Malformed::new("author incarnations", "more than are kept"));
        }
        Ok(Self {
            conversation: ConversationId::from_slice(&record.conversation)?,
            author: Fingerprint(array("author", &record.author)?),
            incarnations: record.incarnations.into_iter().map(Incarnation::parse).collect::<Result<_, _>>()?,
            former: record.former.iter().map(|id| array("author former", id)).collect::<Result<_, _>>()?,
            claims: record.claims.into_iter().map(parse_claim).collect::<Result<_, _>>()?,
            told: record.told,
            untold: record.untold.iter().map(parse_untold).collect::<Result<_, _>>()?,
        })
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let claim = |(by, KeptClaim { claim, progress }): (&u8, &KeptClaim)| pb::Claim {
            by: u32::from(*by),
            incarnation: claim.incarnation.to_vec(),
            counter: claim.counter,
            hash: claim.hash.to_vec(),
            progress: Some(progress.to_generated()),
        };
        let untold = |(cause, counter): (&u8, &u64)| pb::Untold { cause: u32::from(*cause), counter: *counter };
        pb::Author {
            conversation: self.conversation.0.to_vec(),
            author: self.author.0.to_vec(),
            incarnations: self.incarnations.iter().map(Incarnation::to_generated).collect(),
            former: self.former.iter().map(|id| id.to_vec()).collect(),
            claims: self.claims.iter().map(claim).collect(),
            told: self.told,
            untold: self.untold.iter().map(untold).collect(),
        }
        .encode_to_vec()
    }
}

fn parse_untold(untold: &pb::Untold) -> Result<(u8, u64), Malformed> {
    let cause = u8::try_from(untold.cause).ok().filter(|cause| u32::from(*cause) < u64::BITS);
    Ok((cause.ok_or(Malformed::new("author untold", "no bit of a cause"))?, untold.counter))
}

fn parse_claim(claim: pb::Claim) -> Result<(u8, KeptClaim), Malformed> {
    let by = parse_place(claim.by)?;
    let incarnation = array("author claim's incarnation", &claim.incarnation)?;
    let progress = Progress::parse(required("claim progress", claim.progress)?);
    let hash = array("author claim's hash", &claim.hash)?;
    Ok((by, KeptClaim { claim: Claim { incarnation, counter: claim.counter, hash }, progress }))
}

fn parse_place(by: u32) -> Result<u8, Malformed> {
    let by = u8::try_from(by).ok().filter(|by| usize::from(*by) < PARTICIPANTS_MAX);
    by.ok_or(Malformed::new("author claim", "by nobody who can take part"))
}

impl Incarnation {
    fn parse(incarnation: pb::Incarnation) -> Result<Self, Malformed> {
        let (held, rest) = incarnation.held.as_chunks::<HELD_BYTES>();
        if held.len() > HELD_MESSAGES_MAX || !rest.is_empty() {
            return Err(Malformed::new("author held", "more than are kept, or no multiple of 48 bytes"));
        }
        if incarnation.gaps.len() > GAPS_MAX {
            return Err(Malformed::new("author gaps", "more than are kept"));
        }
        let gaps = incarnation.gaps.into_iter().map(|gap| {
            let progress = Progress::parse(required("gap progress", gap.progress)?);
            if gap.from == 0 || gap.to < gap.from {
                return Err(Malformed::new("author gap", "no range of counters"));
            }
            Ok((gap.from, Gap { to: gap.to, last: array("gap hash", &gap.last)?, progress }))
        });
        Ok(Self {
            id: array("author incarnation", &incarnation.id)?,
            last_time: Timestamp::from_micros(incarnation.last_time),
            highest: incarnation.highest,
            held: held.iter().map(parse_held).collect(),
            gaps: gaps.collect::<Result<_, _>>()?,
            withdrawn: parse_ranges(&incarnation.withdrawn, WITHDRAWN_RANGES_MAX)?,
            claimed: parse_claimed(&incarnation.claimed)?,
        })
    }

    fn to_generated(&self) -> pb::Incarnation {
        let gap = |(from, gap): (&u64, &Gap)| pb::Gap {
            from: *from,
            to: gap.to,
            last: gap.last.to_vec(),
            progress: Some(gap.progress.to_generated()),
        };
        let held = self.held.iter().flat_map(|(counter, held)| {
            [&counter.to_le_bytes()[..], &held.time.micros().to_le_bytes(), &held.hash].concat()
        });
        let claimed =
            |(by, ranges): (&u8, &Ranges)| pb::Claimed { by: u32::from(*by), ranges: ranges_to_bytes(ranges) };
        pb::Incarnation {
            id: self.id.to_vec(),
            last_time: self.last_time.micros(),
            highest: self.highest,
            held: held.collect(),
            gaps: self.gaps.iter().map(gap).collect(),
            withdrawn: ranges_to_bytes(&self.withdrawn),
            claimed: self.claimed.iter().map(claimed).collect(),
        }
    }
}

fn parse_claimed(all: &[pb::Claimed]) -> Result<BTreeMap<u8, Ranges>, Malformed> {
    let mut claimed = BTreeMap::new();
    for pb::Claimed { by, ranges } in all {
        claimed.insert(parse_place(*by)?, parse_ranges(ranges, CLAIMED_RANGES_MAX)?);
    }
    claimed.retain(|_, ranges| !ranges.is_empty());
    Ok(claimed)
}

/// For each `u64(from) || u64(to)`, little-endian.
fn parse_ranges(bytes: &[u8], most: usize) -> Result<Ranges, Malformed> {
    let (all, rest) = bytes.as_chunks::<RANGE_BYTES>();
    if all.len() > most || !rest.is_empty() {
        return Err(Malformed::new("author ranges", "more than are kept, or no multiple of 16 bytes"));
    }
    let mut ranges = Ranges::default();
    for bytes in all {
        match bytes.as_chunks::<8>().0.iter().copied().map(u64::from_le_bytes).collect::<Vec<_>>()[..] {
            [from, to] if 0 < from && from <= to => ranges.add(from, to),
            _ => return Err(Malformed::new("author range", "no range of counters")),
        }
    }
    Ok(ranges)
}

fn ranges_to_bytes(ranges: &Ranges) -> Vec<u8> {
    ranges.iter().flat_map(|(from, to)| [from.to_le_bytes(), to.to_le_bytes()].concat()).collect()
}

/// `u64(counter) || u64(time) || hash`, little-endian.
fn parse_held(bytes: &[u8; HELD_BYTES]) -> (u64, Held) {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let hash = bytes[16..].try_into().expect("32 bytes are left");
    (number(0), Held { time: Timestamp::from_micros(number(8)), hash })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> AuthorRecord {
        let progress = Progress { since: 8, asked: 2, last: 9, is_told: true };
        let held = |counter| (counter, Held { time: Timestamp::from_micros(counter * 7), hash: [9; 32] });
        let incarnation = Incarnation {
            id: [1; 16],
            last_time: Timestamp::from_micros(5),
            highest: 8,
            held: [held(3), held(8)].into(),
            gaps: [(1, Gap { to: 2, last: [4; 32], progress }), (4, Gap { to: 7, last: [5; 32], progress })].into(),
            withdrawn: Ranges::of(5, 6),
            claimed: [(0, Ranges::of(2, 2)), (19, Ranges::of(4, 6))].into(),
        };
        AuthorRecord {
            incarnations: vec![incarnation.clone(), Incarnation { id: [2; 16], ..incarnation }],
            former: vec![[3; 16]],
            claims: [(4, KeptClaim { claim: Claim { incarnation: [1; 16], counter: 7, hash: [6; 32] }, progress })]
                .into(),
            told: u64::MAX,
            untold: [(3, 9), (62, u64::MAX)].into(),
            ..AuthorRecord::new(ConversationId([7; 16]), Fingerprint([8; 32]))
        }
    }

    #[test]
    fn the_record_comes_back_as_written() {
        let empty = AuthorRecord::new(ConversationId([7; 16]), Fingerprint([8; 32]));
        for record in [record(), empty] {
            assert_eq!(AuthorRecord::from_bytes(&record.to_bytes()), Ok(record));
        }
    }

    #[test]
    fn the_largest_record_is_a_few_kib() {
        let mut largest = record();
        let progress = Progress { since: u64::MAX, asked: u32::MAX, last: u64::MAX, is_told: true };
        for incarnation in &mut largest.incarnations {
            let many = |count: usize| (0..count).map(|number| u64::MAX - u64::try_from(number).unwrap());
            incarnation.held = many(HELD_MESSAGES_MAX).map(|at| (at, incarnation.held[&3])).collect();
            incarnation.gaps = many(GAPS_MAX).map(|at| (at, Gap { to: at, last: [4; 32], progress })).collect();
            let ranges = |count: usize| {
                let mut ranges = Ranges::default();
                many(2 * count).filter(|counter| counter % 2 == 0).for_each(|counter| ranges.add(counter, counter));
                assert_eq!(ranges.len(), count);
                ranges
            };
            incarnation.withdrawn = ranges(WITHDRAWN_RANGES_MAX);
            let places = (0..u8::try_from(PARTICIPANTS_MAX).unwrap()).map(|by| (by, ranges(CLAIMED_RANGES_MAX)));
            incarnation.claimed = places.collect();
        }
        assert_eq!(AuthorRecord::from_bytes(&largest.to_bytes()), Ok(largest.clone()));
        assert!(largest.to_bytes().len() < 36 * 1024, "{}", largest.to_bytes().len());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = AuthorRecord::from_bytes(&bytes);
        }
    }
}
