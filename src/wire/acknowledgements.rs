//! What is between us and one peer of acknowledgements: which of their messages are to be acknowledged, and where they
//! acknowledge ours (`keys/acknowledgements/FINGERPRINT`). Ids; no content.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use super::generated::state as pb;
use super::identity::{ConversationId, MessageId};
use super::{Malformed, array, decode};

/// Between us and one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledgements {
    /// Messages of theirs that are to be acknowledged, and since when (seconds since 1970).
    pub owed: BTreeMap<(ConversationId, MessageId), u64>,
    /// Conversations in which they have acknowledged a message of ours.
    pub acknowledging: BTreeSet<ConversationId>,
}

impl Acknowledgements {
    /// Parses the file.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let record: pb::Acknowledgements = decode("acknowledgements", bytes)?;
        let owed = record.owed.iter().map(|owed| {
            let conversation = ConversationId::from_slice(&owed.conversation)?;
            Ok(((conversation, MessageId(array("owed message id", &owed.message)?)), owed.since))
        });
        let acknowledging = record.acknowledging.iter().map(|id| ConversationId::from_slice(id));
        Ok(Self { owed: owed.collect::<Result<_, _>>()?, acknowledging: acknowledging.collect::<Result<_, _>>()? })
    }

    /// The serialized form; empty where there is nothing to remember.
    pub fn to_bytes(&self) -> Vec<u8> {
        let owed = self.owed.iter().map(|((conversation, message), since)| pb::Owed {
            conversation: conversation.0.to_vec(),
            message: message.0.to_vec(),
            since: *since,
        });
        let acknowledging = self.acknowledging.iter().map(|id| id.0.to_vec());
        pb::Acknowledgements { owed: owed.collect(), acknowledging: acknowledging.collect() }.encode_to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_comes_back_as_written_and_nothing_is_empty() {
        let owed =
            [((ConversationId([1; 16]), MessageId([2; 16])), 3), ((ConversationId([4; 16]), MessageId([5; 16])), 6)];
        let record = Acknowledgements { owed: owed.into(), acknowledging: [ConversationId([7; 16])].into() };
        assert_eq!(Acknowledgements::from_bytes(&record.to_bytes()), Ok(record));
        assert!(Acknowledgements::default().to_bytes().is_empty());
        assert!(Acknowledgements::from_bytes(&[9, 9]).is_err());
    }
}
