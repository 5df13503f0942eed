//! What is remembered of a message that was sealed for somebody (`keys/sent-N`): where its content lies and what else
//! went with it, so that it can be sealed anew if it is asked for again. No content.

use std::sync::Arc;

use prost::Message as _;

use super::generated::{payload, state as pb};
use super::identity::{ConversationId, Fingerprint, MessageId};
use super::transcript::Transcript;
use super::{Malformed, array, decode};
use crate::clock::Timestamp;

/// In the place of a number of times: more often than any.
pub const TAKEN_BACK: u32 = u32::MAX;

/// The same of what nobody is known to have taken back: it was erased for its age, or lost.
pub const GONE: u32 = u32::MAX - 1;

/// One message for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentEntry {
    /// For whom.
    pub recipient: Fingerprint,
    /// The message's id.
    pub message: MessageId,
    /// Where it belongs.
    pub conversation: ConversationId,
    /// Its name in the conversation's directory.
    pub file: String,
    /// The name that went with it; empty if none did.
    pub file_name: Vec<u8>,
    /// Its time.
    pub time: Timestamp,
    /// Of ours, when it was written.
    pub incarnation: [u8; 16],
    /// Our count then.
    pub counter: u64,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// When it was sealed last, seconds since 1970.
    pub sealed: u64,
    /// How often it was sealed anew; [`TAKEN_BACK`] where a person has deleted or changed it since, [`GONE`] where it is not there
    /// for another reason.
    pub resent: u32,
    /// What it says of those before it: one for all recipients of the message.
    pub transcript: Arc<Transcript>,
}

/// Which message for whom: an id counts only with these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SentKey {
    /// For whom.
    pub recipient: Fingerprint,
    /// Where it belongs.
    pub conversation: ConversationId,
    /// The message's id.
    pub message: MessageId,
}

/// What became of a message. A later one takes the place of an earlier one only where it is higher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Nothing is known yet.
    #[default]
    Open,
    /// It was given up. It may have arrived all the same.
    Failed,
    /// Its recipient will not take it.
    Refused,
    /// It is on its recipient's disk.
    Acknowledged,
}

/// One record of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SentRecord {
    /// A message that was sealed.
    Entry(SentEntry),
    /// What became of one.
    Fate(SentKey, Fate),
}

impl SentKey {
    /// As it stands in the file, with what became of the message: `varint(length) || Sent`.
    pub fn to_bytes(&self, fate: Fate) -> Vec<u8> {
        let fate = match fate {
            Fate::Open => pb::sent::Fate::None,
            Fate::Failed => pb::sent::Fate::Failed,
            Fate::Refused => pb::sent::Fate::Refused,
            Fate::Acknowledged => pb::sent::Fate::Acknowledged,
        };
        pb::Sent {
            recipient: self.recipient.0.to_vec(),
            message: self.message.0.to_vec(),
            conversation: self.conversation.0.to_vec(),
            fate: fate.into(),
            ..Default::default()
        }
        .encode_length_delimited_to_vec()
    }
}

impl SentRecord {
    /// Parses a file: records one behind the other. Zeros between them are a hole, where the file was removed while the
    /// log still held its last records.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn all_from_bytes(mut bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let mut records = Vec::new();
        // No record is empty, so its length does not begin with a zero.
        while let Some(begin) = bytes.iter().position(|byte| *byte != 0) {
            bytes = &bytes[begin..];
            let record = pb::Sent::decode_length_delimited(&mut bytes);
            records.push(Self::parse(
                record.map_err(|_| Malformed::new("sent message", "not the protobuf it should be"))?,
            )?);
        }
        Ok(records)
    }

    fn parse(record: pb::Sent) -> Result<Self, Malformed> {
        let fate = match pb::sent::Fate::try_from(record.fate) {
            Ok(pb::sent::Fate::None) => return SentEntry::parse(record).map(Self::Entry),
            Ok(pb::sent::Fate::Failed) => Fate::Failed,
            Ok(pb::sent::Fate::Refused) => Fate::Refused,
            Ok(pb::sent::Fate::Acknowledged) => Fate::Acknowledged,
            Err(_) => return Err(Malformed::new("sent fate", "none that this program knows")),
        };
        let key = SentKey {
            recipient: Fingerprint(array("sent recipient", &record.recipient)?),
            conversation: ConversationId::from_slice(&record.conversation)?,
            message: MessageId(array("sent message id", &record.message)?),
        };
        Ok(Self::Fate(key, fate))
    }
}

impl SentEntry {
    /// Which message for whom.
    pub fn key(&self) -> SentKey {
        SentKey { recipient: self.recipient, conversation: self.conversation, message: self.message }
    }

    /// Whether a person has deleted or changed it where it stood, which was found when it should be sealed anew.
    pub fn is_taken_back(&self) -> bool {
        self.resent == TAKEN_BACK
    }

    /// Whether it will not be sealed anew for want of it, of which its recipient is to know. One that was sealed anew as often as
    /// may be is none: if its recipient lacks it still, somebody keeps it from them.
    pub fn is_gone(&self, fate: Fate) -> bool {
        fate == Fate::Refused || (fate < Fate::Refused && self.is_taken_back())
    }

    /// As it stands in the file: `varint(length) || Sent`.
    pub fn to_bytes(&self) -> Vec<u8> {
        pb::Sent {
            recipient: self.recipient.0.to_vec(),
            message: self.message.0.to_vec(),
            conversation: self.conversation.0.to_vec(),
            file: self.file.clone(),
            file_name: self.file_name.clone(),
            time: self.time.micros(),
            incarnation: self.incarnation.to_vec(),
            counter: self.counter,
            sha256: self.sha256.to_vec(),
            sealed: self.sealed,
            resent: self.resent,
            transcript: self.transcript.to_generated().encode_to_vec(),
            fate: pb::sent::Fate::None.into(),
        }
        .encode_length_delimited_to_vec()
    }

    fn parse(entry: pb::Sent) -> Result<Self, Malformed> {
        Ok(Self {
            recipient: Fingerprint(array("sent recipient", &entry.recipient)?),
            message: MessageId(array("sent message id", &entry.message)?),
            conversation: ConversationId::from_slice(&entry.conversation)?,
            file: entry.file,
            file_name: entry.file_name,
            time: Timestamp::from_micros(entry.time),
            incarnation: array("sent incarnation", &entry.incarnation)?,
            counter: entry.counter,
            sha256: array("sent hash", &entry.sha256)?,
            sealed: entry.sealed,
            resent: entry.resent,
            transcript: Arc::new(Transcript::parse(decode::<payload::Transcript>(
                "sent transcript",
                &entry.transcript,
            )?)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(number: u8) -> SentEntry {
        SentEntry {
            recipient: Fingerprint([number; 32]),
            message: MessageId([2; 16]),
            conversation: ConversationId([3; 16]),
            file: "2026-11-22T101530.123456Z-alice-plan.pdf".into(),
            file_name: b"plan.pdf".to_vec(),
            time: Timestamp::from_micros(5),
            incarnation: [6; 16],
            counter: 7,
            sha256: [8; 32],
            sealed: 9,
            resent: u32::from(number),
            transcript: Arc::new(Transcript { previous: [number; 32], seen: Vec::new() }),
        }
    }

    #[test]
    fn records_come_back_as_written_and_a_file_that_is_cut_off_is_refused() {
        let entries: Vec<SentEntry> = (0..3).map(entry).collect();
        let key = entries[1].key();
        let fates = [Fate::Failed, Fate::Refused, Fate::Acknowledged];
        let bytes: Vec<u8> = entries.iter().flat_map(SentEntry::to_bytes).collect();
        let bytes = [bytes, fates.iter().flat_map(|fate| key.to_bytes(*fate)).collect()].concat();
        let records: Vec<SentRecord> = entries.into_iter().map(SentRecord::Entry).collect();
        let records = [records, fates.map(|fate| SentRecord::Fate(key, fate)).to_vec()].concat();
        assert_eq!(SentRecord::all_from_bytes(&bytes), Ok(records.clone()));
        let with_hole = [&[0; 77][..], &bytes].concat();
        assert_eq!(SentRecord::all_from_bytes(&with_hole), Ok(records));
        assert!(SentRecord::all_from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(SentRecord::all_from_bytes(&[5]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = SentRecord::all_from_bytes(&bytes);
        }
    }
}
