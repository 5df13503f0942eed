//! What stands inside an envelope, under the ratchet and the padding (design, section 4).

use prost::Message as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::control::Control;
use super::generated::payload as pb;
use super::identity::{ConversationId, Fingerprint, MessageId};
use super::part::Part;
use super::profile::SignedProfile;
use super::transcript::{Shared, Transcript, TranscriptHash};
use super::{Malformed, array, decode, salt};
use crate::clock::Timestamp;
use crate::crypto::hash::sha256;
use crate::limits::{CONTENT_BYTES_MAX, FILE_NAME_BYTES_MAX, PARTICIPANTS_MAX, SUBJECT_BYTES_MAX};

/// What an envelope held.
#[derive(Clone, PartialEq)]
pub enum Plaintext {
    /// A message, for people.
    Message(Payload),
    /// A note between the two programs.
    Control(Control),
}

impl Plaintext {
    /// Parses what an envelope held.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut payload: pb::Payload = decode("payload", bytes)?;
        match payload.control.take() {
            Some(control) => Control::parse(control, &payload.profile).map(Self::Control),
            None => Payload::parse(payload).map(Self::Message),
        }
    }
}

/// A message as its author wrote it. No `Debug`: it is private text.
#[derive(Clone, PartialEq)]
pub struct Payload {
    /// Random; counts only together with author and conversation.
    pub id: MessageId,
    /// Where it belongs.
    pub conversation: ConversationId,
    /// [`super::identity::participants_hash`] of the conversation as its author knows it.
    pub participants: [u8; 32],
    /// The author's `max(clock, last + 1 us)`.
    pub time: Timestamp,
    /// Random, new after the author lost state.
    pub incarnation: [u8; 16],
    /// The author's own count in this conversation and incarnation, from 1.
    pub counter: u64,
    /// With the first message of a conversation to somebody.
    pub introduction: Option<Introduction>,
    /// The author's own, where it is newer than what the recipient may have.
    pub profile: Option<SignedProfile>,
    /// How often it was sealed anew because it was asked for again.
    pub resent: u32,
    /// What it says of the messages before it. With all content but the later parts.
    pub transcript: Option<Transcript>,
    /// Which part of the content it has, where there are several.
    pub part: Option<Part>,
    /// The file, or a part of it; none in a message that only introduces.
    pub content: Option<Content>,
}

/// What a new participant must know of a conversation.
#[derive(Clone, PartialEq)]
pub struct Introduction {
    /// Empty if there is none.
    pub subject: String,
    /// When it was opened, by its opener's clock.
    pub created: Timestamp,
    /// All participants, the author included.
    pub profiles: Vec<SignedProfile>,
    /// What the conversation's id is made with besides the participants, if anything.
    pub salt: Option<[u8; 16]>,
}

/// A file.
#[derive(Clone, PartialEq)]
pub struct Content {
    /// The sender's name for the file, if it had an extension. Unescaped and not to be trusted.
    pub file_name: Vec<u8>,
    /// Exactly what was in it.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl Payload {
    fn parse(payload: pb::Payload) -> Result<Self, Malformed> {
        if payload.counter == 0 {
            return Err(Malformed::new("payload counter", "zero"));
        }
        let content = payload.content.map(|content| Content::parse(content, payload.part.is_some())).transpose()?;
        let length = content.as_ref().map_or(0, |content| content.bytes.len());
        let part = payload.part.map(|part| Part::parse(&part, length)).transpose()?;
        Ok(Self {
            id: MessageId(array("payload id", &payload.id)?),
            conversation: ConversationId::from_slice(&payload.conversation)?,
            participants: array("payload participants", &payload.participants)?,
            time: Timestamp::from_micros(payload.time),
            incarnation: array("payload incarnation", &payload.incarnation)?,
            counter: payload.counter,
            introduction: payload.introduction.map(Introduction::parse).transpose()?,
            profile: update(&payload.profile)?,
            resent: payload.resent,
            transcript: payload.transcript.map(Transcript::parse).transpose()?,
            part,
            content,
        })
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut payload = pb::Payload {
            id: self.id.0.to_vec(),
            conversation: self.conversation.0.to_vec(),
            participants: self.participants.to_vec(),
            time: self.time.micros(),
            incarnation: self.incarnation.to_vec(),
            counter: self.counter,
            introduction: self.introduction.as_ref().map(Introduction::to_generated),
            profile: self.profile.as_ref().map_or_else(Vec::new, |profile| profile.as_bytes().to_vec()),
            resent: self.resent,
            control: None,
            transcript: self.transcript.as_ref().map(Transcript::to_generated),
            part: self.part.map(Part::to_generated),
            content: self
                .content
                .as_ref()
                .map(|content| pb::Content { file_name: content.file_name.clone(), bytes: content.bytes.to_vec() }),
        };
        let bytes = Zeroizing::new(payload.encode_to_vec());
        if let Some(content) = &mut payload.content {
            content.bytes.zeroize();
        }
        bytes
    }
}

impl Payload {
    /// What all recipients of the message share of it; none where it only introduces.
    pub fn shared(&self, author: Fingerprint) -> Option<Shared<'_>> {
        let content = self.content.as_ref()?;
        let (size, sha256) = match self.part {
            Some(part) => (part.size, part.sha256),
            None => (u64::try_from(content.bytes.len()).unwrap_or(u64::MAX), sha256(&[&content.bytes])),
        };
        Some(Shared {
            author,
            conversation: self.conversation,
            participants: self.participants,
            id: self.id,
            incarnation: self.incarnation,
            counter: self.counter,
            time: self.time,
            file_name: &content.file_name,
            size,
            sha256,
        })
    }

    /// The message's place in its author's transcript; none for what has none: an introduction alone, a later part, or a
    /// message without a transcript.
    pub fn transcript_hash(&self, author: Fingerprint) -> Option<TranscriptHash> {
        Some(self.transcript.as_ref()?.hash(&self.shared(author)?))
    }
}

/// A profile that travels with what its owner writes; none where the field is empty.
pub(super) fn update(bytes: &[u8]) -> Result<Option<SignedProfile>, Malformed> {
    if bytes.is_empty() { Ok(None) } else { SignedProfile::from_bytes(bytes).map(Some) }
}

impl Introduction {
    fn parse(introduction: pb::Introduction) -> Result<Self, Malformed> {
        if introduction.subject.len() > SUBJECT_BYTES_MAX {
            return Err(Malformed::new("introduction subject", "longer than 200 bytes"));
        }
        if introduction.profiles.len() < 2 || introduction.profiles.len() > PARTICIPANTS_MAX {
            return Err(Malformed::new("introduction profiles", "fewer than 2 or more than 20"));
        }
        let profiles = introduction
            .profiles
            .iter()
            .map(|bytes| SignedProfile::from_bytes(bytes))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            subject: introduction.subject,
            created: Timestamp::from_micros(introduction.created),
            profiles,
            salt: salt("introduction salt", &introduction.salt)?,
        })
    }

    fn to_generated(&self) -> pb::Introduction {
        pb::Introduction {
            subject: self.subject.clone(),
            created: self.created.micros(),
            profiles: self.profiles.iter().map(|profile| profile.as_bytes().to_vec()).collect(),
            salt: self.salt.map_or_else(Vec::new, |salt| salt.to_vec()),
        }
    }
}

impl Content {
    fn parse(content: pb::Content, is_part: bool) -> Result<Self, Malformed> {
        if content.file_name.len() > FILE_NAME_BYTES_MAX {
            return Err(Malformed::new("content file name", "longer than 255 bytes"));
        }
        // How long a part must be its part says.
        if content.bytes.is_empty() || (!is_part && content.bytes.len() > CONTENT_BYTES_MAX) {
            return Err(Malformed::new("content", "empty or too long"));
        }
        Ok(Self { file_name: content.file_name, bytes: Zeroizing::new(content.bytes) })
    }
}
