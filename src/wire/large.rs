//! A content that is sent in parts, as `keys/large/MESSAGE` says how far it is (design, section 4). Its bytes lie in
//! `journal/large/MESSAGE`.

use prost::Message as _;

use super::generated::payload as payload_pb;
use super::generated::state as pb;
use super::identity::{ConversationId, Fingerprint, MessageId};
use super::part::{self, Part};
use super::transcript::Transcript;
use super::{Malformed, array, decode};
use crate::clock::Timestamp;
use crate::limits::{CONTENT_BYTES_MAX, LARGE_CONTENT_BYTES_MAX};

/// A message of ours with a large content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeRecord {
    /// The message's id.
    pub message: MessageId,
    /// Where it belongs.
    pub conversation: ConversationId,
    /// [`super::identity::participants_hash`].
    pub participants: [u8; 32],
    /// Its name in the conversation's directory.
    pub file: String,
    /// The name that goes with it; empty if none does.
    pub file_name: Vec<u8>,
    /// Its time.
    pub time: Timestamp,
    /// Of ours, when it was written.
    pub incarnation: [u8; 16],
    /// Our count then.
    pub counter: u64,
    /// What it says of the messages before it.
    pub transcript: Option<Transcript>,
    /// Bytes of the content.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Who does not have all of it.
    pub recipients: Vec<LargeRecipient>,
}

/// How far one recipient is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeRecipient {
    /// Who.
    pub fingerprint: Fingerprint,
    /// The first part that is not sealed for them yet.
    pub next: u32,
    /// How often it was begun anew because they asked for it again.
    pub resent: u32,
    /// When a part was last sealed for them, or it was begun, seconds since 1970; 0 is not known.
    pub moved: u64,
}

impl LargeRecord {
    /// How many parts it has.
    pub fn parts(&self) -> u32 {
        part::count(self.size)
    }

    /// One of its parts.
    pub fn part(&self, number: u32) -> Part {
        Part { number, size: self.size, sha256: self.sha256 }
    }

    /// How far one recipient is, if they do not have all of it.
    pub fn recipient(&self, fingerprint: &Fingerprint) -> Option<&LargeRecipient> {
        self.recipients.iter().find(|recipient| recipient.fingerprint == *fingerprint)
    }

    /// Parses the file.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let large: pb::Large = decode("large content", bytes)?;
        if large.size <= CONTENT_BYTES_MAX as u64 || large.size > LARGE_CONTENT_BYTES_MAX {
            return Err(Malformed::new("large content size", "needs no parts, or too many"));
        }
        let transcript = match large.transcript.is_empty() {
            true => None,
            false => Some(Transcript::parse(decode::<payload_pb::Transcript>("large transcript", &large.transcript)?)?),
        };
        let parts = part::count(large.size);
        let recipients = large.recipients.iter().map(|recipient| LargeRecipient::parse(recipient, parts));
        Ok(Self {
            message: MessageId(array("large message id", &large.message)?),
            conversation: ConversationId::from_slice(&large.conversation)?,
            participants: array("large participants", &large.participants)?,
            file: large.file,
            file_name: large.file_name,
            time: Timestamp::from_micros(large.time),
            incarnation: array("large incarnation", &large.incarnation)?,
            counter: large.counter,
            transcript,
            size: large.size,
            sha256: array("large hash", &large.sha256)?,
            recipients: recipients.collect::<Result<_, _>>()?,
        })
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let transcript = self.transcript.as_ref().map(Transcript::to_generated);
        pb::Large {
            message: self.message.0.to_vec(),
            conversation: self.conversation.0.to_vec(),
            participants: self.participants.to_vec(),
            file: self.file.clone(),
            file_name: self.file_name.clone(),
            time: self.time.micros(),
            incarnation: self.incarnation.to_vec(),
            counter: self.counter,
            transcript: transcript.map_or_else(Vec::new, |transcript| transcript.encode_to_vec()),
            size: self.size,
            sha256: self.sha256.to_vec(),
            recipients: self.recipients.iter().copied().map(LargeRecipient::to_generated).collect(),
        }
        .encode_to_vec()
    }
}

impl LargeRecipient {
    /// Somebody who has nothing of it.
    pub fn new(fingerprint: Fingerprint, now: Timestamp) -> Self {
        Self { fingerprint, next: 0, resent: 0, moved: now.seconds() }
    }

    fn parse(recipient: &pb::LargeRecipient, parts: u32) -> Result<Self, Malformed> {
        if recipient.next > parts {
            return Err(Malformed::new("large recipient part", "beyond the last"));
        }
        let fingerprint = Fingerprint(array("large recipient", &recipient.fingerprint)?);
        Ok(Self { fingerprint, next: recipient.next, resent: recipient.resent, moved: recipient.moved })
    }

    fn to_generated(self) -> pb::LargeRecipient {
        let fingerprint = self.fingerprint.0.to_vec();
        pb::LargeRecipient { fingerprint, next: self.next, resent: self.resent, moved: self.moved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::transcript::Seen;
    use proptest::prelude::*;

    fn record() -> LargeRecord {
        let seen = vec![Seen { participant: 1, incarnation: [4; 16], counter: 5, hash: [6; 32] }];
        LargeRecord {
            message: MessageId([1; 16]),
            conversation: ConversationId([2; 16]),
            participants: [3; 32],
            file: "2026-11-22T101530.123456Z-alice-plan.pdf".into(),
            file_name: b"plan.pdf".to_vec(),
            time: Timestamp::from_micros(7),
            incarnation: [8; 16],
            counter: 9,
            transcript: Some(Transcript { previous: [10; 32], seen }),
            size: 100_000,
            sha256: [11; 32],
            recipients: vec![LargeRecipient { fingerprint: Fingerprint([12; 32]), next: 9, resent: 1, moved: 5 }],
        }
    }

    #[test]
    fn a_record_comes_back_as_written_and_nobody_is_beyond_its_last_part() {
        let record = record();
        assert_eq!(LargeRecord::from_bytes(&record.to_bytes()), Ok(record.clone()));
        let plain = LargeRecord { transcript: None, ..record.clone() };
        assert_eq!(LargeRecord::from_bytes(&plain.to_bytes()), Ok(plain));
        let mut beyond = record.clone();
        beyond.recipients[0].next = 10;
        assert!(LargeRecord::from_bytes(&beyond.to_bytes()).is_err());
        for size in [CONTENT_BYTES_MAX as u64, LARGE_CONTENT_BYTES_MAX + 1] {
            assert!(LargeRecord::from_bytes(&LargeRecord { size, ..record.clone() }.to_bytes()).is_err());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = LargeRecord::from_bytes(&bytes);
        }
    }
}
