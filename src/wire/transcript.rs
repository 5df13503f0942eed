//! What ties a message to those before it: the hash of its author's last one, and of the latest that its author has of every
//! other participant (design, section 4). Whoever withholds, reorders or changes messages for one of several participants
//! is noticed when two hashes meet.

use super::generated::payload as pb;
use super::identity::{ConversationId, Fingerprint, MessageId};
use super::{Malformed, array};
use crate::clock::Timestamp;
use crate::crypto::hash::sha256;
use crate::limits::PARTICIPANTS_MAX;

const LABEL: &[u8] = b"chatterbox 1 transcript\0";

/// A message's own transcript hash.
pub type TranscriptHash = [u8; 32];

/// In the place of the hash before an author's first message.
pub const NOTHING_BEFORE: TranscriptHash = [0; 32];

/// What a message says of those before it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Transcript {
    /// Of its author's message before; [`NOTHING_BEFORE`] in the first of an incarnation.
    pub previous: TranscriptHash,
    /// What its author has of others, by rising [`Seen::participant`].
    pub seen: Vec<Seen>,
}

/// The latest message that an author has of somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Whose: the place among the sorted fingerprints of all participants.
    pub participant: u8,
    /// Their incarnation.
    pub incarnation: [u8; 16],
    /// Their own count in it.
    pub counter: u64,
    /// Its hash.
    pub hash: TranscriptHash,
}

/// Of a message, what all of its recipients share besides its [`Transcript`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shared<'a> {
    /// Who wrote it.
    pub author: Fingerprint,
    /// Where.
    pub conversation: ConversationId,
    /// [`super::identity::participants_hash`].
    pub participants: [u8; 32],
    /// Its id.
    pub id: MessageId,
    /// Its author's incarnation.
    pub incarnation: [u8; 16],
    /// Its author's count.
    pub counter: u64,
    /// Its author's time.
    pub time: Timestamp,
    /// The sender's file name, empty if it had no extension.
    pub file_name: &'a [u8],
    /// Bytes of its content.
    pub size: u64,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
}

impl Transcript {
    /// ```text
    /// SHA-256(LABEL("transcript") || author || conversation || participants || incarnation || u64(counter) || u64(time)
    ///   || id || u16(length of file name) || file name || u64(size) || SHA-256(content) || previous
    ///   || u8(seen) || for each of them: u8(participant) || incarnation || u64(counter) || hash)
    /// ```
    ///
    /// Numbers are little-endian.
    pub fn hash(&self, shared: &Shared<'_>) -> TranscriptHash {
        let name_length = u16::try_from(shared.file_name.len()).unwrap_or(u16::MAX);
        let seen_count = u8::try_from(self.seen.len()).unwrap_or(u8::MAX);
        let mut seen = Vec::with_capacity(self.seen.len() * 57);
        for one in &self.seen {
            seen.push(one.participant);
            seen.extend_from_slice(&one.incarnation);
            seen.extend_from_slice(&one.counter.to_le_bytes());
            seen.extend_from_slice(&one.hash);
        }
        sha256(&[
            LABEL,
            &shared.author.0,
            &shared.conversation.0,
            &shared.participants,
            &shared.incarnation,
            &shared.counter.to_le_bytes(),
            &shared.time.micros().to_le_bytes(),
            &shared.id.0,
            &name_length.to_le_bytes(),
            shared.file_name,
            &shared.size.to_le_bytes(),
            &shared.sha256,
            &self.previous,
            &[seen_count],
            &seen,
        ])
    }

    pub(super) fn parse(transcript: pb::Transcript) -> Result<Self, Malformed> {
        if transcript.seen.len() >= PARTICIPANTS_MAX {
            return Err(Malformed::new("transcript seen", "more than 19"));
        }
        let seen = transcript.seen.iter().map(Seen::parse).collect::<Result<Vec<_>, _>>()?;
        if !seen.is_sorted_by(|left, right| left.participant < right.participant) {
            return Err(Malformed::new("transcript seen", "not sorted, or somebody twice"));
        }
        Ok(Self { previous: array("transcript previous", &transcript.previous)?, seen })
    }

    pub(super) fn to_generated(&self) -> pb::Transcript {
        let seen = self.seen.iter().map(|one| pb::Seen {
            participant: one.participant.into(),
            incarnation: one.incarnation.to_vec(),
            counter: one.counter,
            hash: one.hash.to_vec(),
        });
        pb::Transcript { previous: self.previous.to_vec(), seen: seen.collect() }
    }
}

impl Seen {
    fn parse(seen: &pb::Seen) -> Result<Self, Malformed> {
        let participant = u8::try_from(seen.participant).ok();
        let participant = participant.filter(|place| usize::from(*place) < PARTICIPANTS_MAX);
        if seen.counter == 0 {
            return Err(Malformed::new("transcript counter", "zero"));
        }
        Ok(Self {
            participant: participant.ok_or(Malformed::new("transcript participant", "not below 20"))?,
            incarnation: array("transcript incarnation", &seen.incarnation)?,
            counter: seen.counter,
            hash: array("transcript hash", &seen.hash)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(participant: u8) -> Seen {
        Seen { participant, incarnation: [2; 16], counter: 3, hash: [4; 32] }
    }

    fn shared() -> Shared<'static> {
        Shared {
            author: Fingerprint([1; 32]),
            conversation: ConversationId([2; 16]),
            participants: [3; 32],
            id: MessageId([4; 16]),
            incarnation: [5; 16],
            counter: 6,
            time: Timestamp::from_micros(7),
            file_name: b"a.txt",
            size: 8,
            sha256: [9; 32],
        }
    }

    #[test]
    fn a_transcript_comes_back_as_written_and_is_refused_out_of_order() {
        let transcript = Transcript { previous: [1; 32], seen: vec![seen(0), seen(19)] };
        assert_eq!(Transcript::parse(transcript.to_generated()), Ok(transcript));
        for wrong in [vec![seen(1), seen(0)], vec![seen(1), seen(1)], vec![seen(20)], vec![seen(0); 20]] {
            let transcript = Transcript { previous: [1; 32], seen: wrong };
            assert!(Transcript::parse(transcript.to_generated()).is_err());
        }
        let zero = Transcript { previous: [1; 32], seen: vec![Seen { counter: 0, ..seen(1) }] };
        assert!(Transcript::parse(zero.to_generated()).is_err());
    }

    #[test]
    fn every_field_is_in_the_hash() {
        let transcript = Transcript { previous: [1; 32], seen: vec![seen(1)] };
        let hash = transcript.hash(&shared());
        assert_eq!(hash, transcript.hash(&shared()));
        let others = [
            Shared { author: Fingerprint([0; 32]), ..shared() },
            Shared { conversation: ConversationId([0; 16]), ..shared() },
            Shared { participants: [0; 32], ..shared() },
            Shared { id: MessageId([0; 16]), ..shared() },
            Shared { incarnation: [0; 16], ..shared() },
            Shared { counter: 0, ..shared() },
            Shared { time: Timestamp::from_micros(0), ..shared() },
            Shared { file_name: b"b.txt", ..shared() },
            Shared { size: 0, ..shared() },
            Shared { sha256: [0; 32], ..shared() },
        ];
        for other in others {
            assert_ne!(transcript.hash(&other), hash, "{other:?}");
        }
        for other in [
            Transcript { previous: [0; 32], ..transcript.clone() },
            Transcript { seen: vec![], ..transcript.clone() },
            Transcript { seen: vec![seen(2)], ..transcript.clone() },
            Transcript { seen: vec![Seen { incarnation: [0; 16], ..seen(1) }], ..transcript.clone() },
            Transcript { seen: vec![Seen { counter: 9, ..seen(1) }], ..transcript.clone() },
            Transcript { seen: vec![Seen { hash: [0; 32], ..seen(1) }], ..transcript.clone() },
        ] {
            assert_ne!(other.hash(&shared()), hash, "{other:?}");
        }
    }
}
