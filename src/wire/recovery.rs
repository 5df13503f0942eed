//! What is under way because state was lost (`keys/recovery`): ours, or that of others who ask again for what we sent.

use prost::Message as _;

use super::generated::state as pb;
use super::identity::{ConversationId, Fingerprint};
use super::{Malformed, array, decode};

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryState {
    /// We have lost state, not long ago.
    pub lost: Option<Loss>,
    /// What is sealed anew, for whom.
    pub resends: Vec<Resend>,
}

/// Our own loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When it was noticed, seconds since 1970.
    pub noticed: u64,
    /// What was sent to us from then on may be unreadable, seconds since 1970.
    pub since: u64,
    /// Whether our server still hands out prekeys whose secrets are lost, for all we know.
    pub prekeys_due: bool,
    /// Conversations from this one on are still to be counted anew; none if all are.
    pub renewing_from: Option<ConversationId>,
}

/// Messages that are sealed anew for one recipient: those that were sealed at `since` or later and are remembered in a
/// place from `from` up to `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resend {
    /// For whom.
    pub peer: Fingerprint,
    /// Seconds since 1970.
    pub since: u64,
    /// The first place.
    pub from: u64,
    /// The place behind the last.
    pub until: u64,
    /// When they asked for it, seconds since 1970; none where we do it because of our own loss.
    pub asked: Option<u64>,
    /// All of it is in their queue.
    pub is_done: bool,
    /// They have asked again, for what was sealed at this second or later, and that waits.
    pub again: Option<u64>,
    /// It is not forgotten everywhere yet that they know our conversations.
    pub introduces: bool,
}

impl RecoveryState {
    /// Parses the file.
    ///
    /// # Errors
    /// [`Malformed`], naming the field.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let state: pb::Recovery = decode("recovery", bytes)?;
        Ok(Self {
            lost: state.lost.map(Loss::parse).transpose()?,
            resends: state.resends.into_iter().map(Resend::parse).collect::<Result<_, _>>()?,
        })
    }

    /// The serialized form; empty if nothing is under way.
    pub fn to_bytes(&self) -> Vec<u8> {
        pb::Recovery {
            lost: self.lost.map(Loss::to_generated),
            resends: self.resends.iter().copied().map(Resend::to_generated).collect(),
        }
        .encode_to_vec()
    }
}

impl Loss {
    fn parse(lost: pb::Loss) -> Result<Self, Malformed> {
        let from = Some(&lost.renewing_from[..]).filter(|from| !from.is_empty());
        Ok(Self {
            noticed: lost.noticed,
            since: lost.since,
            prekeys_due: lost.prekeys_due,
            renewing_from: from.map(ConversationId::from_slice).transpose()?,
        })
    }

    fn to_generated(self) -> pb::Loss {
        pb::Loss {
            noticed: self.noticed,
            since: self.since,
            prekeys_due: self.prekeys_due,
            renewing_from: self.renewing_from.map_or_else(Vec::new, |from| from.0.to_vec()),
        }
    }
}

impl Resend {
    /// One that has just begun, of what was sealed since then and is remembered between these places.
    pub fn begin(peer: Fingerprint, since: u64, (from, until): (u64, u64)) -> Self {
        Self { peer, since, from, until, asked: None, is_done: false, again: None, introduces: false }
    }

    fn parse(resend: pb::Resend) -> Result<Self, Malformed> {
        Ok(Self {
            peer: Fingerprint(array("resend peer", &resend.peer)?),
            since: resend.since,
            from: resend.from,
            until: resend.until,
            asked: resend.asked,
            is_done: resend.is_done,
            again: resend.again,
            introduces: resend.introduces,
        })
    }

    fn to_generated(self) -> pb::Resend {
        pb::Resend {
            peer: self.peer.0.to_vec(),
            since: self.since,
            from: self.from,
            until: self.until,
            asked: self.asked,
            is_done: self.is_done,
            again: self.again,
            introduces: self.introduces,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_comes_back_as_written() {
        let resend = Resend {
            peer: Fingerprint([1; 32]),
            since: 2,
            from: 3,
            until: 4,
            asked: Some(5),
            is_done: true,
            again: Some(0),
            introduces: false,
        };
        let other = Resend { asked: None, is_done: false, again: None, introduces: true, ..resend };
        let lost = Some(Loss { noticed: 6, since: 0, prekeys_due: true, renewing_from: None });
        let renewing = lost.map(|lost| Loss { renewing_from: Some(ConversationId([7; 16])), ..lost });
        for state in [
            RecoveryState { lost, resends: Vec::new() },
            RecoveryState { lost: None, resends: vec![resend, other] },
            RecoveryState { lost: renewing, resends: vec![other] },
        ] {
            assert_eq!(RecoveryState::from_bytes(&state.to_bytes()), Ok(state));
        }
        assert!(RecoveryState::default().to_bytes().is_empty());
    }
}
