//! What two programs tell each other about their sessions (design, section 5): no message, and nothing a person sees.

use prost::Message as _;

use super::generated::payload as pb;
use super::payload::update;
use super::profile::SignedProfile;
use super::{Malformed, array};

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
}

impl Control {
    pub(super) fn parse(control: pb::Control, profile: &[u8]) -> Result<Self, Malformed> {
        let highest = control.highest.map(|rank| {
            Ok::<_, Malformed>(Rank { generation: rank.generation, opening: array("control opening", &rank.opening)? })
        });
        Ok(Self {
            highest: highest.transpose()?,
            lost_since: control.lost.map(|lost| lost.since),
            profile: update(profile)?,
        })
    }

    /// The serialized form: a payload of nothing else.
    pub fn to_bytes(&self) -> Vec<u8> {
        let control = pb::Control {
            highest: self.highest.map(|rank| pb::Rank { generation: rank.generation, opening: rank.opening.to_vec() }),
            lost: self.lost_since.map(|since| pb::Lost { since }),
        };
        let profile = self.profile.as_ref().map_or_else(Vec::new, |profile| profile.as_bytes().to_vec());
        pb::Payload { control: Some(control), profile, ..Default::default() }.encode_to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::payload::Plaintext;

    #[test]
    fn a_note_comes_back_as_written() {
        let rank = Rank { generation: 7, opening: [8; 32] };
        for control in [
            Control::default(),
            Control { highest: Some(rank), ..Control::default() },
            Control { lost_since: Some(9), ..Control::default() },
        ] {
            assert!(Plaintext::from_bytes(&control.to_bytes()) == Ok(Plaintext::Control(control)));
        }
    }

    #[test]
    fn of_equal_generations_the_lower_opening_is_higher() {
        let rank = |generation, byte| Rank { generation, opening: [byte; 32] };
        assert!(rank(2, 9) > rank(1, 0));
        assert!(rank(2, 0) > rank(2, 1));
    }
}
