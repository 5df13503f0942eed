//! What is remembered of a message that was sealed for somebody (`keys/sent-N`): where its content lies and what else
//! went with it, so that it can be sealed anew if it is asked for again. No content.

use std::sync::Arc;

use prost::Message as _;

use super::generated::{payload, state as pb};
use super::identity::{ConversationId, Fingerprint, MessageId};
use super::transcript::Transcript;
use super::{Malformed, array, decode};
use crate::clock::Timestamp;

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
    /// How often it was sealed anew.
    pub resent: u32,
    /// What it says of those before it: one for all recipients of the message.
    pub transcript: Arc<Transcript>,
}

impl SentEntry {
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
        }
        .encode_length_delimited_to_vec()
    }

    /// Parses a file: entries one behind the other. Zeros between them are a hole, where the file was removed while the
    /// log still held its last entries.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn all_from_bytes(mut bytes: &[u8]) -> Result<Vec<Self>, Malformed> {
        let mut entries = Vec::new();
        // No entry is empty, so its length does not begin with a zero.
        while let Some(begin) = bytes.iter().position(|byte| *byte != 0) {
            bytes = &bytes[begin..];
            let entry = pb::Sent::decode_length_delimited(&mut bytes);
            entries.push(Self::parse(
                entry.map_err(|_| Malformed::new("sent message", "not the protobuf it should be"))?,
            )?);
        }
        Ok(entries)
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
    fn entries_come_back_as_written_and_a_file_that_is_cut_off_is_refused() {
        let entries: Vec<SentEntry> = (0..3).map(entry).collect();
        let bytes: Vec<u8> = entries.iter().flat_map(SentEntry::to_bytes).collect();
        assert_eq!(SentEntry::all_from_bytes(&bytes), Ok(entries.clone()));
        let with_hole = [&[0; 77][..], &bytes].concat();
        assert_eq!(SentEntry::all_from_bytes(&with_hole), Ok(entries));
        assert!(SentEntry::all_from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(SentEntry::all_from_bytes(&[5]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = SentEntry::all_from_bytes(&bytes);
        }
    }
}
