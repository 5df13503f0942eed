//! What the daemon remembers of a conversation (`keys/conversations/ID`). `metadata.toml` is for people and programs;
//! this is what the daemon itself believes.

use std::collections::BTreeSet;

use prost::Message as _;

use super::generated::state as pb;
use super::identity::{ConversationId, Fingerprint, participants_hash};
use super::profile::SignedProfile;
use super::{Malformed, array, decode, salt};
use crate::clock::Timestamp;
use crate::limits::PARTICIPANTS_MAX;

/// A conversation: an id and a fixed set of participants (design, section 2).
#[derive(Clone, PartialEq, Debug)]
pub struct ConversationRecord {
    /// Its id.
    pub id: ConversationId,
    /// What the id is made with besides the participants, if anything.
    pub salt: Option<[u8; 16]>,
    /// Empty if there is none.
    pub subject: String,
    /// When it was opened, by its opener's clock.
    pub created: Timestamp,
    /// All participants, ours included, as they were introduced.
    pub profiles: Vec<SignedProfile>,
    /// Its name under `conversations/` when it was made. A person may have renamed it since.
    pub directory: String,
    /// Whether it is one of ours; else its messages wait in `requests/`.
    pub accepted: bool,
    /// Ours, random.
    pub incarnation: [u8; 16],
    /// Counts our messages.
    pub counter: u64,
    /// The time of our last message.
    pub last_time: Timestamp,
    /// Who got our introduction.
    pub introduced: BTreeSet<Fingerprint>,
    /// Whether something became of messages of ours that its `.delivery/` could not be told.
    pub behind: bool,
}

impl ConversationRecord {
    /// The fingerprints of all participants.
    pub fn participants(&self) -> Vec<Fingerprint> {
        self.profiles.iter().map(|profile| profile.identity().fingerprint()).collect()
    }

    /// Whether somebody takes part.
    pub fn has(&self, fingerprint: &Fingerprint) -> bool {
        self.profiles.iter().any(|profile| profile.identity().fingerprint() == *fingerprint)
    }

    /// The hash that every message of it carries.
    pub fn participants_hash(&self) -> [u8; 32] {
        participants_hash(&self.participants())
    }

    /// Parses the file.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let record: pb::Conversation = decode("conversation record", bytes)?;
        if record.profiles.len() > PARTICIPANTS_MAX {
            return Err(Malformed::new("conversation profiles", "more than 24"));
        }
        Ok(Self {
            id: ConversationId::from_slice(&record.id)?,
            salt: salt("conversation salt", &record.salt)?,
            subject: record.subject,
            created: Timestamp::from_micros(record.created),
            profiles: record.profiles.iter().map(|bytes| SignedProfile::from_bytes(bytes)).collect::<Result<_, _>>()?,
            directory: String::from_utf8(record.directory)
                .map_err(|_| Malformed::new("conversation directory", "not UTF-8"))?,
            accepted: record.accepted,
            incarnation: array("conversation incarnation", &record.incarnation)?,
            counter: record.counter,
            last_time: Timestamp::from_micros(record.last_time),
            introduced: record
                .introduced
                .iter()
                .map(|bytes| array("conversation introduced", bytes).map(Fingerprint))
                .collect::<Result<_, _>>()?,
            behind: record.behind,
        })
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Vec<u8> {
        pb::Conversation {
            id: self.id.0.to_vec(),
            salt: self.salt.map_or_else(Vec::new, |salt| salt.to_vec()),
            subject: self.subject.clone(),
            created: self.created.micros(),
            profiles: self.profiles.iter().map(|profile| profile.as_bytes().to_vec()).collect(),
            directory: self.directory.clone().into_bytes(),
            accepted: self.accepted,
            incarnation: self.incarnation.to_vec(),
            counter: self.counter,
            last_time: self.last_time.micros(),
            introduced: self.introduced.iter().map(|fingerprint| fingerprint.0.to_vec()).collect(),
            behind: self.behind,
        }
        .encode_to_vec()
    }
}
