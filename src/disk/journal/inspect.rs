//! Looking at a journal without opening it: what a start would find. Nothing is changed, and nothing is locked: the
//! caller makes sure that no daemon runs, or what is found may be half of something.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{DIRECTORY, Found, JournalError, Step};
use crate::disk::system::Disk;

/// What stands in a journal that nobody has open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Recorded transactions, which the next [`super::Journal::open`] applies.
    pub transactions: usize,
    /// All files and directories that they name, relative to the root.
    pub paths: HashSet<PathBuf>,
    /// Those of them that they write as a whole: what stands there now is of no consequence.
    pub written: HashSet<PathBuf>,
}

/// Reads the journal of `root` as [`super::Journal::open`] does. A torn end is no error, as there.
///
/// # Errors
/// [`JournalError`]: what would keep the journal from being opened.
pub fn inspect(disk: &dyn Disk, root: &Path) -> Result<Inspection, JournalError> {
    let found = Found::read(disk, &root.join(DIRECTORY))?;
    let steps = found.transactions.iter().flat_map(|transaction| &transaction.steps);
    let mut inspection = Inspection { transactions: found.transactions.len(), ..Inspection::default() };
    for step in steps {
        inspection.paths.extend(step.paths().map(Path::to_owned));
        if let Step::Move { path, .. } = step {
            inspection.written.insert(path.clone());
        }
        if matches!(step, Step::Put { .. } | Step::Place { .. } | Step::Mark { .. } | Step::MakeDirectory { .. }) {
            inspection.written.extend(step.paths().map(Path::to_owned));
        }
    }
    Ok(inspection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::journal::format::{Header, SLOT_BYTES};
    use crate::disk::journal::{Journal, Step, Transaction};
    use crate::disk::real::RealDisk;
    use std::fs;
    use std::sync::Arc;

    fn recorded(root: &Path) -> Journal {
        let (mut journal, _) = Journal::open(Arc::new(RealDisk), root).unwrap();
        for name in ["keys/one", "keys/two"] {
            let steps = vec![Step::MakeDirectory { path: "keys".into() }, Step::Remove { path: name.into() }];
            journal.commit(&mut vec![Transaction { steps }]).unwrap();
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
        let found = inspect(&RealDisk, root.path()).unwrap();
        let paths = ["keys", "keys/one", "keys/two"].map(PathBuf::from).into_iter().collect();
        let written = [PathBuf::from("keys")].into();
        assert_eq!(found, Inspection { transactions: 2, paths, written });
        assert_eq!(fs::read(log(root.path())).unwrap(), before);
        let (_journal, replayed) = Journal::open(Arc::new(RealDisk), root.path()).unwrap();
        assert_eq!(replayed.transactions, 2);
        assert_eq!(inspect(&RealDisk, root.path()).unwrap(), Inspection::default());
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
        assert_eq!(inspect(&RealDisk, root.path()).unwrap().transactions, 1);
        let mut damaged = whole;
        damaged[super::super::RECORDS_START + 50] ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(matches!(inspect(&RealDisk, root.path()), Err(JournalError::Damaged { .. })));
    }

    #[test]
    fn a_damaged_header_does_not_make_its_records_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let mut journal = recorded(root.path());
        // Emptied, so that an older header stands in the other slot.
        journal.checkpoint().unwrap();
        let steps = vec![Step::Remove { path: "keys/three".into() }];
        journal.commit(&mut vec![Transaction { steps }]).unwrap();
        drop(journal);
        assert_eq!(inspect(&RealDisk, root.path()).unwrap().transactions, 1);
        let (path, mut damaged) = (log(root.path()), fs::read(log(root.path())).unwrap());
        let (_, slot) = Header::read(&damaged).unwrap();
        damaged[slot * SLOT_BYTES + 20] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let error = inspect(&RealDisk, root.path()).unwrap_err();
        assert!(error.to_string().contains("journal header: damaged"), "{error}");
        assert!(matches!(Journal::open(Arc::new(RealDisk), root.path()), Err(JournalError::Malformed { .. })));
        assert_eq!(fs::read(&path).unwrap(), damaged, "nothing is changed");
    }

    #[test]
    fn a_fifo_in_the_place_of_a_log_does_not_hold_anybody_up() {
        let root = tempfile::tempdir().unwrap();
        drop(Journal::open(Arc::new(RealDisk), root.path()).unwrap());
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        let fifo = root.path().join("journal/log-fifo");
        rustix::fs::mknodat(rustix::fs::CWD, fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(inspect(&RealDisk, root.path()).unwrap_err().to_string().contains("it is a FIFO"));
    }
}
