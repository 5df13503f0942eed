//! Which peer's session an envelope belongs to, by its tag: one look-up, however many contacts there are.
//!
//! A tag stands for the first 8 of its 16 bytes: what is found is tried, so that a coincidence costs a trial and no more.

use std::collections::HashMap;

use crate::ratchet::{Announced, Session};
use crate::wire::identity::Fingerprint;
use crate::wire::sealing::Tag;

/// The tags that the sessions of all peers expect.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// From the tag to the place in `peers`.
    places: HashMap<u64, u32>,
    peers: Vec<Peer>,
    by_fingerprint: HashMap<Fingerprint, u32>,
}

#[derive(Debug)]
struct Peer {
    fingerprint: Fingerprint,
    /// What leads here.
    tags: Vec<u64>,
    /// Where the sessions stood when these were made.
    announced: Vec<Announced>,
}

fn short(tag: &Tag) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&tag[..8]);
    u64::from_le_bytes(first)
}

impl Tags {
    /// Whose sessions expect this tag.
    pub(super) fn find(&self, tag: &Tag) -> Option<Fingerprint> {
        let place = usize::try_from(*self.places.get(&short(tag))?).ok()?;
        self.peers.get(place).map(|peer| peer.fingerprint)
    }

    /// Renews a peer's tags, if its sessions have moved on too far from those that were announced, or are others. A tag
    /// that has served and is still known leads to its session, which knows that the key was used.
    pub(super) fn keep_up(&mut self, peer: &Fingerprint, sessions: &[Session]) {
        let known = self.by_fingerprint.get(peer).and_then(|place| self.peers.get(usize::try_from(*place).ok()?));
        let outrun = known.is_none_or(|known| {
            sessions.len() != known.announced.len()
                || sessions.iter().zip(&known.announced).any(|(session, before)| session.has_outrun(before))
        });
        if outrun {
            self.renew(peer, sessions);
        }
    }

    fn renew(&mut self, peer: &Fingerprint, sessions: &[Session]) {
        let place = *self.by_fingerprint.entry(*peer).or_insert_with(|| {
            self.peers.push(Peer { fingerprint: *peer, tags: Vec::new(), announced: Vec::new() });
            u32::try_from(self.peers.len() - 1).unwrap_or(u32::MAX)
        });
        let Some(known) = usize::try_from(place).ok().and_then(|place| self.peers.get_mut(place)) else { return };
        for tag in &known.tags {
            self.places.remove(tag);
        }
        known.tags.clear();
        known.tags.extend(sessions.iter().flat_map(Session::expected_tags).map(|tag| short(&tag)));
        known.announced = sessions.iter().map(Session::announced).collect();
        self.places.extend(known.tags.iter().map(|tag| (*tag, place)));
    }
}
