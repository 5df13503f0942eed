//! Envelopes that nothing opens (design, section 5, "Recovery"): kept, bounded, tried again when a session, a contact
//! or a conversation is added, and given up with an alert. They never cause anything to be sent.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::pending::Pending;
use super::state::{self, StateError};
use super::trials::Tried;
use crate::disk::system::Disk;
use crate::limits::{UNOPENED_LIFETIME_S, UNOPENED_MAX};
use crate::wire::envelope::Envelope;
use crate::wire::identity::Fingerprint;

/// The envelopes in `journal/unopened/SECOND-HASH`, oldest first.
#[derive(Debug, Default)]
pub struct Unopened {
    kept: BTreeMap<(u64, [u8; 32]), Kept>,
    /// Those that this round has not come to.
    round: VecDeque<(u64, [u8; 32])>,
    /// With whom there were new sessions when it began.
    added: Vec<Fingerprint>,
}

/// One envelope, out of [`Unopened`] while it is tried.
#[derive(Debug)]
pub struct Kept {
    /// When it came, seconds since 1970.
    pub since: u64,
    /// Its SHA-256.
    pub hash: [u8; 32],
    /// Itself.
    pub envelope: Envelope,
    /// How far its trial has come.
    pub tried: Tried,
}

impl Unopened {
    /// Reads `journal/unopened/`.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn load(disk: &dyn Disk, directory: &Path) -> Result<Self, StateError> {
        let mut unopened = Self::default();
        for (path, name) in state::files(disk, directory)? {
            let Some(since) = name.split_once('-').and_then(|(since, _)| since.parse().ok()) else { continue };
            let bytes = state::read(disk, &path)?;
            let envelope = Envelope::from_slice(&bytes).map_err(|error| StateError::malformed(&path, error))?;
            let kept = Kept { since, hash: envelope.sha256(), envelope, tried: Tried::None };
            unopened.kept.insert((since, kept.hash), kept);
        }
        Ok(unopened)
    }

    /// Keeps one. Hands out how many were given up for it that came after `quiet_until`.
    pub fn keep(&mut self, kept: Kept, quiet_until: u64, pending: &mut Pending) -> usize {
        pending.put(file(kept.since, &kept.hash), kept.envelope.as_bytes().to_vec());
        self.put_back(kept);
        let surplus = self.kept.len().saturating_sub(UNOPENED_MAX);
        self.give_up_first(surplus, quiet_until, pending)
    }

    /// Whether one of them has not been tried in all sessions.
    pub fn is_trying(&self) -> bool {
        self.kept.values().any(|kept| kept.tried != Tried::All)
    }

    /// Begins to try them again: all of them, or those that have not been tried in all sessions.
    pub fn begin_round(&mut self, all: bool, added: Vec<Fingerprint>) {
        let tried_now = self.kept.iter().filter(|(_, kept)| all || kept.tried != Tried::All);
        self.round = tried_now.map(|(key, _)| *key).collect();
        self.added = added;
    }

    /// Whether each has had its turn.
    pub fn is_round_over(&self) -> bool {
        self.round.is_empty()
    }

    /// Takes out the next one, to be tried; if it still does not open it comes back through [`Unopened::put_back`].
    pub fn next_of_round(&mut self) -> Option<Kept> {
        // Some may have been given up meanwhile.
        std::iter::from_fn(|| self.round.pop_front()).find_map(|key| self.kept.remove(&key))
    }

    /// With whom there were new sessions when the round began. They come back, if it goes on, through
    /// [`Unopened::put_back_added`].
    pub fn take_added(&mut self) -> Vec<Fingerprint> {
        std::mem::take(&mut self.added)
    }

    /// For the rest of the round.
    pub fn put_back_added(&mut self, added: Vec<Fingerprint>) {
        self.added = added;
    }

    /// How many are kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Puts one back that still does not open: its file is there already.
    pub fn put_back(&mut self, kept: Kept) {
        self.kept.insert((kept.since, kept.hash), kept);
    }

    /// One that was taken out has opened: its file goes.
    pub fn opened(&mut self, since: u64, hash: &[u8; 32], pending: &mut Pending) {
        pending.remove(file(since, hash));
    }

    /// Gives up those that were kept for too long. Hands out how many of them came after `quiet_until`.
    pub fn give_up_old(&mut self, now_s: u64, quiet_until: u64, pending: &mut Pending) -> usize {
        let old = self.kept.keys().filter(|(since, _)| since + UNOPENED_LIFETIME_S < now_s).count();
        self.give_up_first(old, quiet_until, pending)
    }

    fn give_up_first(&mut self, count: usize, quiet_until: u64, pending: &mut Pending) -> usize {
        let mut told = 0;
        for _ in 0..count {
            if let Some(((since, hash), _)) = self.kept.pop_first() {
                pending.remove(file(since, &hash));
                told += usize::from(since > quiet_until);
            }
        }
        told
    }
}

fn file(since: u64, hash: &[u8; 32]) -> PathBuf {
    PathBuf::from(format!("journal/unopened/{since:020}-{}", HEXLOWER.encode(hash)))
}
