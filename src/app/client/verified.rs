//! `ui_info/chatterbox/verified`: the fingerprints that a person has compared with their owners, 64 hex digits a line.
//!
//! The mark belongs to a fingerprint and not to a name: other keys under the same name are not verified. The daemon does
//! not know of it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::output;
use super::{PROGRAM, causes};
use crate::app::failure::{Exit, Failure};
use crate::client::root::Root;
use crate::disk::atomic;
use crate::disk::lock::{LockError, RootLock};
use crate::disk::open::{self, OpenError};
use crate::disk::real::RealDisk;
use crate::limits::VERIFIED_FILE_BYTES_MAX;
use crate::wire::identity::Fingerprint;

/// What stands behind the name of somebody who is verified. No stranger's name has parentheses in it.
const MARK: &str = " (verified)";

/// Whose fingerprints were compared.
#[derive(Debug, Default)]
pub(super) struct Verified {
    fingerprints: BTreeSet<Fingerprint>,
}

impl Verified {
    /// Reads the marks. Where they cannot be read, that is said and nobody is verified: a list is shown all the same.
    pub(super) fn load(root: &Root) -> Self {
        Self::read(root).unwrap_or_else(|error| {
            output::note(format!("note: {}: {error}; nobody is shown as verified", output::shown(&file(root))));
            Self::default()
        })
    }

    fn read(root: &Root) -> Result<Self, OpenError> {
        let bytes = match open::read_regular(&RealDisk, &file(root), VERIFIED_FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(OpenError::Absent) => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&bytes);
        Ok(Self { fingerprints: text.lines().filter_map(|line| Fingerprint::from_hex(line.trim())).collect() })
    }

    /// Whether this identity was compared.
    pub(super) fn contains(&self, fingerprint: &Fingerprint) -> bool {
        self.fingerprints.contains(fingerprint)
    }

    /// A name, marked if its owner's identity was compared.
    pub(super) fn marked(&self, name: &str, who: Option<&Fingerprint>) -> String {
        let mark = who.filter(|fingerprint| self.contains(fingerprint)).map_or("", |_| MARK);
        format!("{name}{mark}")
    }

    /// Adds or takes back a mark, and writes the file.
    pub(super) fn set(root: &Root, doing: &str, fingerprint: Fingerprint, verified: bool) -> Result<(), Failure> {
        let (scratch, directory) = (root.tmp(PROGRAM), directory(root));
        let failed = |error| causes::disk(doing, &error);
        [&scratch, &directory]
            .iter()
            .try_for_each(|path| atomic::make_private_directory(&RealDisk, path))
            .map_err(failed)?;
        // Of two that change the file at once, one would lose what the other wrote.
        let _lock = RootLock::acquire(&directory.join("lock")).map_err(|error| busy(doing, &error))?;
        let remedy = "Make it a plain file that you may read, or remove it: then nobody is verified.";
        let mut marks = Self::read(root).map_err(|error| {
            Failure::new(
                causes::open_exit(&error),
                format!("{doing}: reading {}", output::shown(&file(root))),
                error,
                remedy,
            )
        })?;
        let changed = match verified {
            true => marks.fingerprints.insert(fingerprint),
            false => marks.fingerprints.remove(&fingerprint),
        };
        if !changed {
            return Ok(());
        }
        let text: String = marks.fingerprints.iter().map(|fingerprint| format!("{fingerprint}\n")).collect();
        atomic::replace(&RealDisk, &scratch, &file(root), text.as_bytes()).map_err(failed)
    }
}

fn busy(doing: &str, error: &LockError) -> Failure {
    let (exit, remedy) = match error {
        LockError::Held { .. } | LockError::LookedAt { .. } => {
            (Exit::TemporaryFailure, "Another program changes the marks; try again.")
        }
        LockError::Io { .. } => (Exit::Io, "Check that the directory ui_info/ is yours."),
    };
    Failure::new(exit, doing, error, remedy)
}

fn directory(root: &Root) -> PathBuf {
    root.join("ui_info").join(PROGRAM)
}

fn file(root: &Root) -> PathBuf {
    directory(root).join("verified")
}
