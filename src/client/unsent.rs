//! What a stop knows of envelopes that wait: that nobody has written them to a connection (`keys/unsent`). So it is exact also
//! across a restart whether a message that is given up can have arrived.
//!
//! A stop that was asked for takes their tickets back before it records them: nothing leaves behind that. The first record of
//! the next run removes the file: nothing leaves before that. A daemon that is killed leaves no file, and what waits then may
//! have arrived. So may what waits in a state of which the home server has not said yet that it is the newest, and all where
//! state is read anew in the middle of a run: a disk that has lost what was written may show the file again.

use std::collections::HashMap;
use std::path::Path;

use super::engine::Engine;
use super::root;
use super::state::{self, StateError};
use crate::disk::open::OpenError;
use crate::disk::system::Disk;
use crate::wire::identity::Fingerprint;

/// A fingerprint, and a place in their queue.
const ENTRY_BYTES: usize = 40;

/// From which place on nothing of a recipient's queue was ever written.
pub type Unsent = HashMap<Fingerprint, u64>;

/// Reads `keys/unsent`. Without the file nothing is known, nor is it by one that is damaged, and that loses nothing.
///
/// # Errors
/// [`StateError`], naming the file, where it cannot be read.
fn load(disk: &dyn Disk, path: &Path) -> Result<Unsent, StateError> {
    let mut unsent = Unsent::new();
    let read = state::read_entries(disk, path, |entry: &[u8; ENTRY_BYTES]| {
        if let Some((recipient, place)) = entry.split_first_chunk()
            && let Some(place) = place.first_chunk()
        {
            unsent.insert(Fingerprint(*recipient), u64::from_le_bytes(*place));
        }
    });
    match read {
        Ok(_) => Ok(unsent),
        Err(StateError::Open { source: OpenError::Absent, .. }) => Ok(Unsent::new()),
        Err(error @ StateError::Malformed { .. }) => {
            tracing::warn!(%error, "what the last stop knew of messages that wait is lost");
            Ok(Unsent::new())
        }
        Err(error) => Err(error),
    }
}

fn to_bytes(unsent: &Unsent) -> Vec<u8> {
    let entry = |(recipient, place): (&Fingerprint, &u64)| [&recipient.0[..], &place.to_le_bytes()].concat();
    unsent.iter().flat_map(entry).collect()
}

impl Engine {
    /// The daemon starts, and nothing has left it so far: what the last stop knew is known again.
    ///
    /// # Errors
    /// [`StateError`], naming the file.
    pub fn trust_the_stop(&mut self) -> Result<(), StateError> {
        let unsent = load(self.root.disk(), &self.root.join(root::unsent_file()))?;
        self.spool.trust(&unsent);
        Ok(())
    }

    /// The daemon is about to stop: what was not written to a connection so far is not any more, and that is recorded.
    pub fn stop_sending(&mut self) {
        let unsent = self.spool.withdraw_unsent();
        if !unsent.is_empty() {
            self.pending.put(root::unsent_file(), to_bytes(&unsent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::root::Root;

    #[test]
    fn what_is_written_is_read_and_nothing_from_a_file_that_was_cut() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::new(scratch.path());
        let path = scratch.path().join("unsent");
        assert!(load(root.disk(), &path).unwrap().is_empty());
        let unsent: Unsent = (1..100).map(|number| (Fingerprint([number; 32]), u64::MAX - u64::from(number))).collect();
        let bytes = to_bytes(&unsent);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(load(root.disk(), &path).unwrap(), unsent);
        for length in [0, 39, 41] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(load(root.disk(), &path).unwrap().is_empty());
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = load(root.disk(), &path).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}
