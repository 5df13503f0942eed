//! Looking at a journal without opening it: what a start would find. Nothing is changed, and nothing is locked: the
//! caller makes sure that no daemon runs, or what is found may be half of something.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{DIRECTORY, Found, JournalError};
use crate::limits::{JOURNAL_LOG_BYTES, JOURNAL_RECORD_BYTES_MAX};
use crate::wire::Malformed;

/// What stands in a journal that nobody has open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Recorded transactions, which the next [`super::Journal::open`] applies.
    pub transactions: usize,
    /// All files and directories that they make, change or remove, relative to the root. What stands there now may be
    /// half done, and is of no consequence.
    pub paths: HashSet<PathBuf>,
}

/// Reads the journal of `root` as [`super::Journal::open`] does. A torn end is no error, as there.
///
/// # Errors
/// [`JournalError`]: what would keep the journal from being opened.
pub fn inspect(root: &Path) -> Result<Inspection, JournalError> {
    let directory = root.join(DIRECTORY);
    check_kinds(&directory)?;
    let found = Found::read(&directory)?;
    let steps = found.transactions.iter().flat_map(|transaction| &transaction.steps);
    let paths = steps.flat_map(|step| step.paths()).map(Path::to_owned).collect();
    Ok(Inspection { transactions: found.transactions.len(), paths })
}

/// Refuses what would hold up whoever reads it (a FIFO), or fill their memory.
fn check_kinds(directory: &Path) -> Result<(), JournalError> {
    // One batch is appended before the log is looked at, and a replayed one is copied as a whole.
    let limit = JOURNAL_LOG_BYTES + 2 * JOURNAL_RECORD_BYTES_MAX;
    for entry in fs::read_dir(directory).map_err(JournalError::io("reading", directory))? {
        let path = entry.map_err(JournalError::io("reading", directory))?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-")) {
            continue;
        }
        let found = fs::symlink_metadata(&path).map_err(JournalError::io("reading", &path))?;
        if !found.is_file() {
            return Err(JournalError::io("reading", &path)(io::Error::other("it is no regular file")));
        }
        if found.len() > limit {
            let cause = Malformed::new("journal", "the log is larger than any that this program makes");
            return Err(JournalError::Malformed { path, cause });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::journal::{Journal, Step, Transaction};

    fn recorded(root: &Path) -> Journal {
        let (mut journal, _) = Journal::open(root).unwrap();
        for name in ["keys/one", "keys/two"] {
            let steps = vec![Step::MakeDirectory { path: "keys".into() }, Step::Remove { path: name.into() }];
            journal.commit(&[Transaction { steps }]).unwrap();
        }
        journal
    }

    fn log(root: &Path) -> PathBuf {
        let mut entries = fs::read_dir(root.join(DIRECTORY)).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| path.to_string_lossy().contains("/log-")).unwrap()
    }

    #[test]
    fn what_the_next_start_will_apply_is_counted_and_nothing_is_changed() {
        let root = tempfile::tempdir().unwrap();
        drop(recorded(root.path()));
        let before = fs::read(log(root.path())).unwrap();
        let found = inspect(root.path()).unwrap();
        let paths = ["keys", "keys/one", "keys/two"].map(PathBuf::from).into_iter().collect();
        assert_eq!(found, Inspection { transactions: 2, paths });
        assert_eq!(fs::read(log(root.path())).unwrap(), before);
        let (_journal, replayed) = Journal::open(root.path()).unwrap();
        assert_eq!(replayed.transactions, 2);
        assert_eq!(inspect(root.path()).unwrap(), Inspection::default());
    }

    #[test]
    fn damage_before_a_later_batch_is_an_error_and_a_torn_end_is_none() {
        let root = tempfile::tempdir().unwrap();
        drop(recorded(root.path()));
        let (path, whole) = (log(root.path()), fs::read(log(root.path())).unwrap());
        let last = whole.iter().rposition(|byte| *byte != 0).unwrap();
        let mut torn = whole.clone();
        torn[last] ^= 1;
        fs::write(&path, torn).unwrap();
        assert_eq!(inspect(root.path()).unwrap().transactions, 1);
        let mut damaged = whole;
        damaged[super::super::RECORDS_START + 50] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(matches!(inspect(root.path()), Err(JournalError::Damaged { .. })));
    }

    #[test]
    fn a_fifo_in_the_place_of_a_log_does_not_hold_anybody_up() {
        let root = tempfile::tempdir().unwrap();
        drop(Journal::open(root.path()).unwrap());
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let fifo = root.path().join("journal/log-fifo");
        rustix::fs::mknodat(rustix::fs::CWD, fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(inspect(root.path()).unwrap_err().to_string().contains("no regular file"));
    }
}
