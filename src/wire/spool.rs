//! A message on its way to one recipient, as it waits in `journal/spool/FINGERPRINT/SEQUENCE`.

use prost::Message as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::envelope::Envelope;
use super::generated::state as pb;
use super::identity::{ConversationId, MessageId};
use super::{Malformed, array, decode, required};

/// One message for one recipient.
#[derive(Clone)]
pub struct Spooled {
    /// The message's id.
    pub message: MessageId,
    /// Where it belongs.
    pub conversation: ConversationId,
    /// Its file's name in the conversation's directory.
    pub file: String,
    /// Whether it is one part of a large content.
    pub is_part: bool,
    /// Whether others are sent something at the same time: then it leaves after a random delay.
    pub spreads: bool,
    /// How far it is.
    pub form: Form,
}

/// Before and after sealing.
#[derive(Clone)]
pub enum Form {
    /// There is no session yet: a serialized payload.
    Waiting(Zeroizing<Vec<u8>>),
    /// Sealed, once and for all: this is what is sent, as often as need be.
    Sealed {
        /// What the recipient's server gets.
        envelope: Envelope,
        /// Whether it opens a session: then it is accepted before the next one leaves.
        opening: bool,
    },
}

impl Spooled {
    /// Parses the file.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let spooled: pb::Spooled = decode("spooled message", bytes)?;
        let form = match required("spooled form", spooled.form)? {
            pb::spooled::Form::Payload(payload) => Form::Waiting(Zeroizing::new(payload)),
            pb::spooled::Form::Envelope(bytes) => {
                Form::Sealed { envelope: Envelope::from_vec(bytes)?, opening: spooled.opening }
            }
        };
        Ok(Self {
            message: MessageId(array("spooled message id", &spooled.message)?),
            conversation: ConversationId::from_slice(&spooled.conversation)?,
            file: String::from_utf8(spooled.file).map_err(|_| Malformed::new("spooled file", "not UTF-8"))?,
            is_part: spooled.part,
            spreads: spooled.spreads,
            form,
        })
    }

    /// The serialized form.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (form, opening) = match &self.form {
            Form::Waiting(payload) => (pb::spooled::Form::Payload(payload.to_vec()), false),
            Form::Sealed { envelope, opening } => (pb::spooled::Form::Envelope(envelope.as_bytes().to_vec()), *opening),
        };
        let mut spooled = pb::Spooled {
            message: self.message.0.to_vec(),
            conversation: self.conversation.0.to_vec(),
            file: self.file.clone().into_bytes(),
            form: Some(form),
            opening,
            part: self.is_part,
            spreads: self.spreads,
        };
        let bytes = Zeroizing::new(spooled.encode_to_vec());
        if let Some(pb::spooled::Form::Payload(payload)) = &mut spooled.form {
            payload.zeroize();
        }
        bytes
    }
}
