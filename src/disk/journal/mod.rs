//! The write-ahead journal: what must change together is recorded together, then applied step by step (design,
//! section 9).
//!
//! A commit goes: prepare the files that are to appear, append the batch to the log, *one* sync, apply without syncing.
//! From the sync on the batch will happen, whatever crashes. Behind that a checkpoint syncs what was applied, and only
//! then empties the log.
//!
//! The checkpoint uses `syncfs` on the root's filesystem, not an `fsync` for each file: one call covers every file,
//! directory and removed name, in what order they ever were touched, so nothing can be forgotten; and since Linux 5.8 it
//! reports failed writes as `fsync` does, for all that happened since the root was opened here. Its price is that it
//! also waits for other programs' data, which nobody waits for here.
//!
//! | file | idea |
//! |---|---|
//! | `format` | the log's bytes: records, checksums, damage and torn tails |
//! | `file` | the log on disk: syncs, zeroing, boot id |
//! | `apply` `place` `take` | the steps |
//! | `error` | what a failure leaves behind |

mod apply;
mod error;
mod file;
mod format;
mod place;
mod take;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

pub use self::error::{JournalError, Outcome};
pub use crate::wire::journal::{Step, Transaction, stays_below};

use self::apply::{Applier, Mode};
use self::file::LogFile;
use self::format::{Header, RECORDS_START};
use super::atomic;
use crate::limits::{JOURNAL_CHECKPOINT_BYTES, JOURNAL_RECORD_BYTES_MAX};
use crate::wire::Malformed;

/// Where the log lies, below the root.
pub const DIRECTORY: &str = "journal";

/// Where scratch files lie, below the root. Names beginning with `journal-` are the journal's own; whatever begins with
/// `new-` when it is opened was left half made by a crash, and is erased.
pub const SCRATCH: &str = "tmp/chatterboxd";

/// An open journal. One per root: the caller holds its lock.
pub struct Journal {
    /// Held open since before the first write, so that `syncfs` reports every failure since.
    root_directory: File,
    root: PathBuf,
    boot: [u8; 16],
    log: LogFile,
    applier: Applier,
    /// Recorded steps that are not applied, with what is known about them.
    pending: VecDeque<(Step, Mode)>,
    poisoned: bool,
}

/// What opening the journal found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Transactions that were in the log, and have been applied to their end.
    pub transactions: usize,
    /// Whether they were recorded before this boot of the machine: after a power failure, as far as we know.
    pub other_boot: bool,
}

impl Journal {
    /// Opens the journal of `root`, made if need be; applies what is recorded and empties the log.
    ///
    /// # Errors
    /// [`JournalError`]. Nothing is lost; if it is temporary, opening again later goes on.
    pub fn open(root: &Path) -> Result<(Self, Replayed), JournalError> {
        let boot =
            file::boot_id().map_err(JournalError::io("reading", Path::new("/proc/sys/kernel/random/boot_id")))?;
        Self::open_at_boot(root, boot)
    }

    fn open_at_boot(root: &Path, boot: [u8; 16]) -> Result<(Self, Replayed), JournalError> {
        let root_directory = File::open(root).map_err(JournalError::io("opening", root))?;
        let directory = root.join(DIRECTORY);
        for made in [&directory, &root.join(SCRATCH)] {
            atomic::make_private_directory(made).map_err(JournalError::from_atomic)?;
        }
        let applier = Applier::new(root);
        applier.sweep()?;
        let found = Found::read(&directory)?;
        let (transactions, recorded) = (found.transactions.len(), found.header.map_or(boot, |header| header.boot));
        // Until all is applied and synced the log keeps the boot id it was written under: a crash in the middle of this
        // must not make a repair after a power failure look done.
        let mode = if recorded == boot { Mode::SameBoot } else { Mode::OtherBoot };
        let log = found.renew(&directory, if transactions > 0 { recorded } else { boot })?;
        let steps = found.transactions.into_iter().flat_map(|transaction| transaction.steps);
        let pending = steps.map(|step| (step, mode)).collect();
        let root = root.to_owned();
        let mut journal = Self { root_directory, root, boot, log, applier, pending, poisoned: false };
        journal.apply_pending()?;
        journal.checkpoint()?;
        journal.applier.sweep_unfinished()?;
        Ok((journal, Replayed { transactions, other_boot: mode == Mode::OtherBoot }))
    }

    /// Records `batch` with one sync, then applies it: all of it, in order. Each transaction is atomic by itself.
    ///
    /// # Errors
    /// [`JournalError`]; [`JournalError::outcome`] says what became of the batch. After [`Outcome::Unknown`] every
    /// commit is refused as [`JournalError::Poisoned`] until the journal is opened anew.
    pub fn commit(&mut self, batch: &[Transaction]) -> Result<(), JournalError> {
        self.record(batch)?;
        self.retry().map_err(|cause| JournalError::Unapplied { cause: Box::new(cause) })?;
        if self.log.written() > JOURNAL_CHECKPOINT_BYTES {
            self.checkpoint().map_err(|cause| JournalError::NotEmptied { cause: Box::new(cause) })?;
        }
        Ok(())
    }

    /// Applies what is recorded and was not applied because the disk refused it.
    ///
    /// # Errors
    /// [`JournalError::Io`]: the first step that is still refused.
    pub fn retry(&mut self) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        self.apply_pending()
    }

    /// Whether recorded steps wait for [`Self::retry`].
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether only opening the journal anew helps.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Bytes of records since the last checkpoint.
    pub fn log_bytes(&self) -> u64 {
        self.log.written()
    }

    /// Syncs all that was applied, overwrites the secrets that served, and empties the log.
    ///
    /// # Errors
    /// [`JournalError`]. After a failed sync the journal is poisoned: what the kernel could not write once, it may call
    /// written the next time, so only replaying the log makes sure.
    pub fn checkpoint(&mut self) -> Result<(), JournalError> {
        self.retry()?;
        if self.log.written() == 0 {
            return Ok(());
        }
        self.applier.overwrite_trash()?;
        if let Err(error) = rustix::fs::syncfs(&self.root_directory) {
            self.poisoned = true;
            return Err(JournalError::io("syncing", &self.root)(error.into()));
        }
        self.applier.unlink_trash()?;
        self.log.reset(self.boot).map_err(|cause| {
            self.poisoned = true;
            JournalError::io("emptying the log of", &self.root)(cause)
        })
    }

    /// The part of a commit before anything is applied.
    fn record(&mut self, batch: &[Transaction]) -> Result<(), JournalError> {
        // What an earlier batch began comes first: later steps may build on it.
        self.retry()?;
        check(batch)?;
        let payloads: Vec<_> = batch.iter().map(Transaction::to_bytes).collect();
        let limit = JOURNAL_RECORD_BYTES_MAX;
        if let Some(size) = payloads.iter().map(|payload| payload.len() as u64).find(|size| *size > limit) {
            return Err(JournalError::TooLarge { size, limit });
        }
        if payloads.is_empty() {
            return Ok(());
        }
        self.prepare(batch)?;
        if let Err(cause) = self.log.append(&payloads) {
            // The scratch files stay: if the batch turns out to be recorded, their absence would mean that it was
            // applied.
            self.poisoned = true;
            return Err(JournalError::NotSynced { cause });
        }
        self.pending = batch.iter().flat_map(|one| one.steps.iter().map(|step| (step.clone(), Mode::Live))).collect();
        Ok(())
    }

    /// Writes the scratch files of all `Place` steps, or none.
    fn prepare(&self, batch: &[Transaction]) -> Result<(), JournalError> {
        let mut written = Vec::new();
        for step in batch.iter().flat_map(|transaction| &transaction.steps) {
            let Step::Place { scratch, bytes, .. } = step else { continue };
            let scratch = self.root.join(scratch);
            let result = place::prepare(&scratch, bytes);
            written.push(scratch);
            if let (Err(cause), Some(scratch)) = (result, written.last()) {
                let error = JournalError::io("writing", scratch)(cause);
                // What cannot be removed now is written over when the batch is committed again.
                written.iter().for_each(|scratch| drop(atomic::remove(scratch)));
                return Err(error);
            }
        }
        Ok(())
    }

    fn apply_pending(&mut self) -> Result<(), JournalError> {
        while let Some((step, mode)) = self.pending.front() {
            self.applier.apply(step, *mode)?;
            self.pending.pop_front();
        }
        Ok(())
    }
}

/// What no caller should ask for: such a record would be written and never be readable.
fn check(batch: &[Transaction]) -> Result<(), JournalError> {
    let mut scratches = HashSet::new();
    for step in batch.iter().flat_map(|transaction| &transaction.steps) {
        if !step.paths().all(stays_below) {
            return Err(JournalError::Refused { problem: "a path leaves the root" });
        }
        let scratch = match step {
            Step::Place { scratch, .. } | Step::Take { scratch, .. } => scratch,
            _ => continue,
        };
        if !scratches.insert(scratch) {
            return Err(JournalError::Refused { problem: "two steps share a scratch file" });
        }
    }
    Ok(())
}

/// The logs that an earlier process left. More than one if it crashed while it made a new one, which then holds all
/// that the older held.
struct Found {
    paths: Vec<PathBuf>,
    header: Option<Header>,
    payloads: Vec<Zeroizing<Vec<u8>>>,
    transactions: Vec<Transaction>,
}

impl Found {
    fn read(directory: &Path) -> Result<Self, JournalError> {
        let logs = file::logs(directory).map_err(JournalError::io("reading", directory))?;
        let mut newest: Option<(Header, &Path, &[u8])> = None;
        for (path, bytes) in &logs {
            let malformed = || JournalError::Malformed {
                path: path.clone(),
                cause: Malformed::new("journal header", "no intact one of a version that this program knows"),
            };
            let (header, _) = Header::read(bytes).ok_or_else(malformed)?;
            if newest.is_none_or(|(other, ..)| other.generation < header.generation) {
                newest = Some((header, path, bytes.get(RECORDS_START..).unwrap_or_default()));
            }
        }
        let mut found = Self { paths: Vec::new(), header: None, payloads: Vec::new(), transactions: Vec::new() };
        if let Some((header, path, records)) = newest {
            found.header = Some(header);
            found.payloads = format::scan(header, records)
                .map_err(|damage| JournalError::Damaged {
                    path: path.to_owned(),
                    offset: (RECORDS_START + damage.offset) as u64,
                })?
                .payloads;
            let transactions = found.payloads.iter().map(|payload| Transaction::from_bytes(payload));
            found.transactions = transactions
                .collect::<Result<_, _>>()
                .map_err(|cause| JournalError::Malformed { path: path.to_owned(), cause })?;
        }
        found.paths = logs.into_iter().map(|(path, _)| path).collect();
        Ok(found)
    }

    /// Makes a new log with the same records, synced, and erases the old ones.
    ///
    /// Always a new file: nobody knows whether the old one's last sync succeeded, and if it failed, what can be read
    /// may not be on the disk, and syncing again may not write it.
    fn renew(&self, directory: &Path, boot: [u8; 16]) -> Result<LogFile, JournalError> {
        let (new, old) = (directory.join("new"), directory.join("old"));
        for leftover in [&new, &old] {
            atomic::erase(leftover).map_err(JournalError::from_atomic)?;
        }
        let header = file::header(self.header.map_or(0, |header| header.generation) + 1, boot);
        let log = LogFile::create(&new, header, &self.payloads).map_err(JournalError::io("writing", &new))?;
        let name = directory.join(format!("log-{:016x}", log.generation()));
        atomic::rename_new(&new, &name).map_err(JournalError::io("creating", &name))?;
        atomic::sync_directory(directory).map_err(JournalError::from_atomic)?;
        for path in &self.paths {
            // Out of the way first, and synced so: a log whose header is overwritten must not be found as a log.
            fs::rename(path, &old).map_err(JournalError::io("retiring", path))?;
            atomic::sync_directory(directory).map_err(JournalError::from_atomic)?;
            atomic::erase(&old).map_err(JournalError::from_atomic)?;
        }
        Ok(log)
    }
}
