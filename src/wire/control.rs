//! What two programs tell each other about their sessions (design, section 5), and of messages that one wrote to the other
//! (section 4): no message, and nothing a person sees.

use prost::Message as _;

use super::generated::payload as pb;
use super::identity::{ConversationId, MessageId};
use super::payload::update;
use super::profile::SignedProfile;
use super::{Malformed, array};
use crate::limits::{NOTE_MESSAGES_MAX, NOTE_MISSING_MAX};

/// Where a session stands among several with the same peer: of two, both sides send in the higher.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rank {
    /// The larger of the opener's clock in microseconds and one above the highest that it knew.
    pub generation: u64,
    /// SHA-256 of the opening envelope's first 48 bytes. Of equal generations the lower is the higher session.
    pub opening: [u8; 32],
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.generation.cmp(&other.generation).then_with(|| other.opening.cmp(&self.opening))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A note from one program to the other, in a session like any message.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Control {
    /// The answer to an opening below it: the highest session that its author knows.
    pub highest: Option<Rank>,
    /// Its author has lost state, and asks again for what was sent to it since then (seconds since 1970).
    pub lost_since: Option<u64>,
    /// Its author's own, where it is newer than what the recipient may have.
    pub profile: Option<SignedProfile>,
    /// Messages of the recipient that are on its author's disk.
    pub acknowledged: Vec<Messages>,
    /// Messages of the recipient that its author lacks.
    pub missing: Vec<Missing>,
    /// Messages of the recipient that its author will not take.
    pub refused: Vec<Refused>,
    /// Messages of its author whose remaining parts will not come.
    pub cancelled: Vec<Messages>,
    /// Messages of its author, which the recipient asked for, that will not come.
    pub withdrawn: Vec<Missing>,
}

/// Messages of one conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Messages {
    /// The conversation.
    pub conversation: ConversationId,
    /// Their ids.
    pub ids: Vec<MessageId>,
}

/// Messages of one author in one conversation that somebody else knows by what came behind them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The conversation.
    pub conversation: ConversationId,
    /// The author's incarnation.
    pub incarnation: [u8; 16],
    /// The first counter.
    pub from: u64,
    /// The last one.
    pub to: u64,
}

/// A message that is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The conversation.
    pub conversation: ConversationId,
    /// The message's id.
    pub id: MessageId,
    /// Why.
    pub reason: RefusedReason,
}

/// Why a message is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusedReason {
    /// A reason that this version does not know.
    Unknown,
    /// It is larger than its recipient's limit.
    TooLarge,
    /// All parts came, and their hash is another.
    Damaged,
}

impl Control {
    pub(super) fn parse(control: pb::Control, profile: &[u8]) -> Result<Self, Malformed> {
        let highest = control.highest.map(|rank| {
            Ok::<_, Malformed>(Rank { generation: rank.generation, opening: array("control opening", &rank.opening)? })
        });
        if control.missing.len().max(control.withdrawn.len()) > NOTE_MISSING_MAX
            || control.refused.len() > NOTE_MESSAGES_MAX
        {
            return Err(Malformed::new("control", "more gaps or refusals than a note has"));
        }
        Ok(Self {
            highest: highest.transpose()?,
            lost_since: control.lost.map(|lost| lost.since),
            profile: update(profile)?,
            acknowledged: Messages::parse_all(&control.acknowledged)?,
            missing: control.missing.iter().map(Missing::parse).collect::<Result<_, _>>()?,
            refused: control.refused.iter().map(Refused::parse).collect::<Result<_, _>>()?,
            cancelled: Messages::parse_all(&control.cancelled)?,
            withdrawn: control.withdrawn.iter().map(Missing::parse).collect::<Result<_, _>>()?,
        })
    }

    /// The serialized form: a payload of nothing else.
    pub fn to_bytes(&self) -> Vec<u8> {
        let messages = |all: &[Messages]| all.iter().map(Messages::to_generated).collect();
        let control = pb::Control {
            highest: self.highest.map(|rank| pb::Rank { generation: rank.generation, opening: rank.opening.to_vec() }),
            lost: self.lost_since.map(|since| pb::Lost { since }),
            acknowledged: messages(&self.acknowledged),
            missing: self.missing.iter().copied().map(Missing::to_generated).collect(),
            refused: self.refused.iter().copied().map(Refused::to_generated).collect(),
            cancelled: messages(&self.cancelled),
            withdrawn: self.withdrawn.iter().copied().map(Missing::to_generated).collect(),
        };
        let profile = self.profile.as_ref().map_or_else(Vec::new, |profile| profile.as_bytes().to_vec());
        pb::Payload { control: Some(control), profile, ..Default::default() }.encode_to_vec()
    }
}

impl Messages {
    fn parse_all(all: &[pb::Messages]) -> Result<Vec<Self>, Malformed> {
        let too_many = Malformed::new("control messages", "more than 256");
        let ids: usize = all.iter().map(|messages| messages.ids.len() / 16).sum();
        if all.len().max(ids) > NOTE_MESSAGES_MAX {
            return Err(too_many);
        }
        all.iter().map(Self::parse).collect()
    }

    fn parse(messages: &pb::Messages) -> Result<Self, Malformed> {
        let (ids, rest) = messages.ids.as_chunks::<16>();
        if ids.is_empty() || !rest.is_empty() {
            return Err(Malformed::new("control ids", "none, or no multiple of 16 bytes"));
        }
        let conversation = ConversationId::from_slice(&messages.conversation)?;
        Ok(Self { conversation, ids: ids.iter().copied().map(MessageId).collect() })
    }

    fn to_generated(&self) -> pb::Messages {
        let ids = self.ids.iter().flat_map(|id| id.0).collect();
        pb::Messages { conversation: self.conversation.0.to_vec(), ids }
    }
}

impl Missing {
    fn parse(missing: &pb::Missing) -> Result<Self, Malformed> {
        if missing.from == 0 || missing.to < missing.from {
            return Err(Malformed::new("control missing", "no range of counters"));
        }
        Ok(Self {
            conversation: ConversationId::from_slice(&missing.conversation)?,
            incarnation: array("control incarnation", &missing.incarnation)?,
            from: missing.from,
            to: missing.to,
        })
    }

    fn to_generated(self) -> pb::Missing {
        let Self { conversation, incarnation, from, to } = self;
        pb::Missing { conversation: conversation.0.to_vec(), incarnation: incarnation.to_vec(), from, to }
    }
}

impl Refused {
    fn parse(refused: &pb::Refused) -> Result<Self, Malformed> {
        Ok(Self {
            conversation: ConversationId::from_slice(&refused.conversation)?,
            id: MessageId(array("control message id", &refused.id)?),
            reason: match refused.reason() {
                pb::refused::Reason::Unknown => RefusedReason::Unknown,
                pb::refused::Reason::TooLarge => RefusedReason::TooLarge,
                pb::refused::Reason::Damaged => RefusedReason::Damaged,
            },
        })
    }

    fn to_generated(self) -> pb::Refused {
        let reason = match self.reason {
            RefusedReason::Unknown => pb::refused::Reason::Unknown,
            RefusedReason::TooLarge => pb::refused::Reason::TooLarge,
            RefusedReason::Damaged => pb::refused::Reason::Damaged,
        };
        pb::Refused { conversation: self.conversation.0.to_vec(), id: self.id.0.to_vec(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PROFILE_BYTES_MAX;
    use crate::wire::payload::Plaintext;

    #[test]
    fn a_note_comes_back_as_written() {
        let rank = Rank { generation: 7, opening: [8; 32] };
        for control in [
            Control::default(),
            Control { highest: Some(rank), ..Control::default() },
            Control { lost_since: Some(9), ..Control::default() },
            Control { acknowledged: vec![messages(1, 3), messages(2, 1)], ..Control::default() },
            Control { missing: vec![missing(4, 4), missing(5, u64::MAX)], ..Control::default() },
            Control { refused: vec![refused(RefusedReason::TooLarge)], ..Control::default() },
            Control { cancelled: vec![messages(1, NOTE_MESSAGES_MAX)], ..Control::default() },
            Control { withdrawn: vec![missing(4, 4), missing(5, u64::MAX)], ..Control::default() },
        ] {
            assert!(Plaintext::from_bytes(&control.to_bytes()) == Ok(Plaintext::Control(control)));
        }
    }

    fn messages(conversation: u8, count: usize) -> Messages {
        Messages { conversation: ConversationId([conversation; 16]), ids: vec![MessageId([7; 16]); count] }
    }

    fn missing(from: u64, to: u64) -> Missing {
        Missing { conversation: ConversationId([1; 16]), incarnation: [2; 16], from, to }
    }

    fn refused(reason: RefusedReason) -> Refused {
        Refused { conversation: ConversationId([1; 16]), id: MessageId([7; 16]), reason }
    }

    #[test]
    fn a_note_at_its_largest_fits_an_envelope_and_a_larger_one_is_refused() {
        let largest: Vec<_> = (0..NOTE_MESSAGES_MAX).map(|_| messages(1, 1)).collect();
        let note = Control { acknowledged: largest.clone(), ..Control::default() };
        // Less the profile that may stand beside it.
        assert!(note.to_bytes().len() + PROFILE_BYTES_MAX + 8 <= 13_804);
        let most = vec![missing(u64::MAX, u64::MAX); NOTE_MISSING_MAX];
        let gaps = Control { missing: most.clone(), withdrawn: most, ..Control::default() };
        assert!(gaps.to_bytes().len() + PROFILE_BYTES_MAX + 8 <= 13_804);
        for wrong in [
            Control { acknowledged: [largest, vec![messages(1, 1)]].concat(), ..Control::default() },
            Control { acknowledged: vec![messages(1, NOTE_MESSAGES_MAX + 1)], ..Control::default() },
            Control { cancelled: vec![messages(1, 0)], ..Control::default() },
            Control { missing: vec![missing(0, 1)], ..Control::default() },
            Control { missing: vec![missing(2, 1)], ..Control::default() },
            Control { missing: vec![missing(1, 1); NOTE_MISSING_MAX + 1], ..Control::default() },
            Control { withdrawn: vec![missing(0, 1)], ..Control::default() },
            Control { withdrawn: vec![missing(2, 1)], ..Control::default() },
            Control { withdrawn: vec![missing(1, 1); NOTE_MISSING_MAX + 1], ..Control::default() },
            Control { refused: vec![refused(RefusedReason::Damaged); NOTE_MESSAGES_MAX + 1], ..Control::default() },
        ] {
            assert!(Plaintext::from_bytes(&wrong.to_bytes()).is_err());
        }
    }

    #[test]
    fn of_equal_generations_the_lower_opening_is_higher() {
        let rank = |generation, byte| Rank { generation, opening: [byte; 32] };
        assert!(rank(2, 9) > rank(1, 0));
        assert!(rank(2, 0) > rank(2, 1));
    }
}
