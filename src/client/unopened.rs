//! Envelopes that nothing opens (design, section 5, "Recovery"): kept, bounded, tried again when a session, a contact
//! or a conversation is added, and given up with an alert. They never cause anything to be sent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::pending::Pending;
use super::state::{self, StateError};
use crate::disk::system::Disk;
use crate::limits::{UNOPENED_LIFETIME_S, UNOPENED_MAX};
use crate::wire::envelope::Envelope;

/// The envelopes in `journal/unopened/SECOND-HASH`, oldest first.
#[derive(Debug, Default)]
pub struct Unopened {
    kept: BTreeMap<(u64, [u8; 32]), Envelope>,
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
            unopened.kept.insert((since, envelope.sha256()), envelope);
        }
        Ok(unopened)
    }

    /// Keeps one. Hands out how many older ones were given up for it.
    pub fn keep(&mut self, envelope: Envelope, hash: [u8; 32], now_s: u64, pending: &mut Pending) -> usize {
        pending.put(file(now_s, &hash), envelope.as_bytes().to_vec());
        self.kept.insert((now_s, hash), envelope);
        let surplus = self.kept.len().saturating_sub(UNOPENED_MAX);
        self.give_up_first(surplus, pending)
    }

    /// Takes all of them out, to be tried again; those that still do not open come back through [`Unopened::put_back`].
    pub fn take_all(&mut self) -> Vec<(u64, [u8; 32], Envelope)> {
        std::mem::take(&mut self.kept).into_iter().map(|((since, hash), envelope)| (since, hash, envelope)).collect()
    }

    /// Puts one back that still does not open: its file is there already.
    pub fn put_back(&mut self, since: u64, hash: [u8; 32], envelope: Envelope) {
        self.kept.insert((since, hash), envelope);
    }

    /// One that was taken out has opened: its file goes.
    pub fn opened(&mut self, since: u64, hash: &[u8; 32], pending: &mut Pending) {
        pending.remove(file(since, hash));
    }

    /// Gives up those that were kept for too long. Hands out how many.
    pub fn give_up_old(&mut self, now_s: u64, pending: &mut Pending) -> usize {
        let old = self.kept.keys().filter(|(since, _)| since + UNOPENED_LIFETIME_S < now_s).count();
        self.give_up_first(old, pending)
    }

    fn give_up_first(&mut self, count: usize, pending: &mut Pending) -> usize {
        for _ in 0..count {
            if let Some(((since, hash), _)) = self.kept.pop_first() {
                pending.remove(file(since, &hash));
            }
        }
        count
    }
}

fn file(since: u64, hash: &[u8; 32]) -> PathBuf {
    PathBuf::from(format!("journal/unopened/{since:020}-{}", HEXLOWER.encode(hash)))
}
