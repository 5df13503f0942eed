//! Which openings our prekeys have served, so that none serves twice unseen: the other half of `keys/prekeys`.

use super::generated::state as pb;
use super::sealing::Tag;
use super::{Malformed, array};

/// An opening's name: SHA-256 of the first 48 bytes of its envelope.
pub type OpeningHash = [u8; 32];

/// What all our prekeys have served.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Served {
    /// One-time prekeys, whose secrets are gone.
    pub one_time: Vec<Used>,
    /// Last-resort prekeys, whose secrets are here.
    pub last_resort: Vec<LastResort>,
}

/// A one-time prekey that served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// The tag of its openings.
    pub tag: Tag,
    /// The one that it served.
    pub opening: OpeningHash,
    /// Until when this is remembered, seconds since 1970.
    pub until: u64,
}

/// What a last-resort prekey has served, and whether it had to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastResort {
    /// The tag of its openings.
    pub tag: Tag,
    /// All of them.
    pub openings: Vec<OpeningHash>,
    /// Our server said, since this prekey was made, that few one-time prekeys were left.
    pub was_low: bool,
    /// It served although our server had not said so, and has not been asked yet.
    pub is_doubted: bool,
}

impl Served {
    pub(super) fn parse(used: Vec<pb::UsedPrekey>, last_resort: Vec<pb::LastResort>) -> Result<Self, Malformed> {
        let used = used.into_iter().map(|used| {
            let (tag, opening) = (array("used prekey", &used.tag)?, array("used prekey", &used.opening)?);
            Ok(Used { tag, opening, until: used.until })
        });
        let last_resort = last_resort.into_iter().map(|served| {
            let openings = served.openings.iter().map(|opening| array("last-resort opening", opening));
            Ok(LastResort {
                tag: array("last-resort prekey", &served.tag)?,
                openings: openings.collect::<Result<_, Malformed>>()?,
                was_low: served.was_low,
                is_doubted: served.is_doubted,
            })
        });
        Ok(Self {
            one_time: used.collect::<Result<_, Malformed>>()?,
            last_resort: last_resort.collect::<Result<_, Malformed>>()?,
        })
    }

    pub(super) fn to_generated(&self) -> (Vec<pb::UsedPrekey>, Vec<pb::LastResort>) {
        let used = self.one_time.iter().map(|used| pb::UsedPrekey {
            tag: used.tag.to_vec(),
            opening: used.opening.to_vec(),
            until: used.until,
        });
        let last_resort = self.last_resort.iter().map(|served| pb::LastResort {
            tag: served.tag.to_vec(),
            openings: served.openings.iter().map(|opening| opening.to_vec()).collect(),
            was_low: served.was_low,
            is_doubted: served.is_doubted,
        });
        (used.collect(), last_resort.collect())
    }
}
