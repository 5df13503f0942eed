//! Messages that leave the queue of their recipient without their server's word: the recipient has acknowledged or refused
//! them, or they were given up. Couriers let go of them, too; an answer that comes later means nothing any more.

use std::collections::{BTreeMap, BTreeSet};

use super::engine::Engine;
use super::event::{Errand, Order};
use super::spool::Removed;
use crate::clock::Timestamp;
use crate::envelope;
use crate::ratchet;
use crate::wire::identity::Fingerprint;
use crate::wire::spool::Form;

/// What couriers must hear of once it is recorded.
#[derive(Debug, Default)]
pub struct LettingGo {
    places: BTreeMap<Fingerprint, BTreeSet<u64>>,
}

/// Why messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// Their recipient has spoken of them.
    Heard,
    /// They are not tried any longer.
    GivenUp,
}

impl Engine {
    /// Takes messages out of a recipient's queue, and hands out what they were.
    ///
    /// An envelope that opens a session stays, as nobody's, while others wait behind it that nothing else opens; also where the
    /// message in it has come by another envelope. Where it is given up with all that is behind it the session goes, too: the
    /// next message opens another.
    pub(super) fn let_go(
        &mut self,
        recipient: Fingerprint,
        places: &[u64],
        because: Because,
        now: Timestamp,
    ) -> Vec<Removed> {
        let mut gone = Vec::new();
        for place in places {
            if self.spool.is_opening(&recipient, *place) {
                // Where the disk does not give it now it is looked at again.
                let Some(opening) = self.spool.whole(&self.root, &recipient, *place) else { continue };
                if because == Because::Heard || self.spool.has_sealed_behind(&recipient, *place, places) {
                    gone.extend(self.spool.disown(&recipient, *place, opening, &mut self.pending));
                    continue;
                }
                if let Form::Sealed { envelope, .. } = &opening.form {
                    let hash = ratchet::opening_hash(&envelope::tag(envelope), &envelope::ephemeral(envelope));
                    self.sessions.abandon(&recipient, &hash, self.spool.may_have_arrived(&recipient, *place));
                }
            }
            gone.extend(self.spool.remove(&recipient, *place, &mut self.pending));
            self.letting_go.places.entry(recipient).or_default().insert(*place);
        }
        let wants_prekey = self.spool.has_waiting(&recipient)
            || self.large.waits_for(&recipient)
            || self.sessions.is_outranked(&recipient, now.seconds());
        if !wants_prekey && self.asked.remove(&recipient).is_some() {
            self.letting_go.places.entry(recipient).or_default();
        }
        gone
    }

    /// What couriers are to let go of.
    pub(super) fn released(&mut self) -> Vec<Order> {
        let mut orders = Vec::new();
        for (recipient, places) in std::mem::take(&mut self.letting_go.places) {
            let Some(profile) = self.people.profile(&recipient).cloned() else { continue };
            let wants_prekey = self.asked.contains_key(&recipient);
            let errand = Errand::LetGo { places, wants_prekey };
            orders.push(Order { recipient: profile, errand, spreads: false });
        }
        orders
    }
}
