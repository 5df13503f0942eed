//! Trouble of arti's with what it keeps on disk, and what a person does about it.

use std::error::Error;
use std::path::Path;

use arti_client::{ErrorKind, HasKind};

use super::in_words;

/// Below Tor's directory: the guards, and how long circuits take.
pub(super) const STATE: &str = "state/state";

/// Below Tor's directory: the introduction points of an onion service, not its key.
pub(super) const SERVICE_STATE: &str = "state/hss";

/// Below Tor's directory: what relays there are.
const CACHE: &str = "cache";

/// The error in words, and what helps, where it is known. `state` is what has been read below Tor's `directory`.
pub(super) fn advise(error: &(impl Error + HasKind), directory: &Path, state: &str) -> String {
    let words = in_words(error);
    // Never all of the directory: the key of an onion service is in there.
    let damaged = |part: &str| {
        let path = directory.join(part);
        format!("{words}. Stop this program, move {} away, and start it: Tor makes that anew", path.display())
    };
    match error.kind() {
        ErrorKind::FsPermissions => {
            format!("{words}. Take the right to write there from others (chmod go-w); it is tried again")
        }
        ErrorKind::PersistentStateCorrupted => damaged(state),
        ErrorKind::CacheCorrupted => damaged(CACHE),
        // SQLite's words for a file that is not even damaged, which arti takes for a wrong configuration.
        ErrorKind::InvalidConfig if words.contains("file is not a database") => damaged(CACHE),
        ErrorKind::PersistentStateAccessFailed | ErrorKind::CacheAccessFailed | ErrorKind::KeystoreAccessFailed => {
            format!("{words}. See to the disk: space, permissions; it is tried again")
        }
        _ => format!("{words}; it is tried again"),
    }
}
