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
//! | `file` | the log on disk: syncs, zeroing, its successors |
//! | `apply` `deferred` `place` `moving` `take` `expire` | the steps |
//! | `error` | what a failure leaves behind |
//! | `inspect` | what is there, without opening it |

mod apply;
mod deferred;
mod error;
mod expire;
mod file;
mod format;
mod inspect;
mod moving;
mod place;
mod take;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

pub use self::error::{JournalError, Outcome};
pub use self::inspect::{Inspection, inspect};
pub use crate::wire::journal::{FileIdentity, Step, Transaction, stays_below};

use self::apply::{Applier, Mode};
use self::file::LogFile;
use self::format::{Header, RECORDS_START};
use super::atomic;
use super::system::{Disk, OpenDirectory, Stat};
use crate::crypto::hash::sha256;
use crate::limits::{JOURNAL_CHECKPOINT_BYTES, JOURNAL_RECORD_BYTES_MAX};
use crate::wire::Malformed;

/// Where the log lies, below the root.
pub const DIRECTORY: &str = "journal";

/// Where scratch files lie, below the root. Names beginning with `journal-` are the journal's own; whatever begins with
/// `new-` when it is opened was left half made by a crash, and is erased; so is what begins with `expired-`, once the log is
/// empty.
pub const SCRATCH: &str = "tmp/chatterboxd";

/// An open journal. One per root: the caller holds its lock.
pub struct Journal {
    disk: Arc<dyn Disk>,
    /// Held open since before the first write, so that its `sync_filesystem` reports every failure since.
    root_directory: Box<dyn OpenDirectory>,
    /// The root as it was when it was opened: another in its place is not ours to write into.
    root_identity: Stat,
    root: PathBuf,
    boot: [u8; 16],
    log: LogFile,
    applier: Applier,
    /// Recorded steps that are not applied, with what is known about them.
    pending: VecDeque<(Step, Mode)>,
    poisoned: bool,
}

impl fmt::Debug for Journal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pending, log_bytes) = (self.pending.len(), self.log.written());
        let mut shown = formatter.debug_struct("Journal");
        shown.field("root", &self.root).field("pending", &pending).field("log_bytes", &log_bytes);
        shown.field("poisoned", &self.poisoned).finish_non_exhaustive()
    }
}

/// What opening the journal found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Transactions that were in the log, and have been applied to their end.
    pub transactions: usize,
    /// The directories that they make, relative to the root.
    pub directories: Vec<PathBuf>,
    /// Whether they were recorded before this boot of the machine: after a power failure, as far as we know.
    pub other_boot: bool,
}

impl Journal {
    /// Opens the journal of `root`, made if need be; applies what is recorded and empties the log.
    ///
    /// # Errors
    /// [`JournalError`]. Nothing is lost; if it is temporary, opening again later goes on.
    pub fn open(disk: Arc<dyn Disk>, root: &Path) -> Result<(Self, Replayed), JournalError> {
        let boot = disk.boot_id(root).map_err(JournalError::io("reading the boot id for", root))?;
        Self::open_at_boot(disk, root, boot)
    }

    fn open_at_boot(disk: Arc<dyn Disk>, root: &Path, boot: [u8; 16]) -> Result<(Self, Replayed), JournalError> {
        let root_directory = disk.open_directory(root).map_err(JournalError::io("opening", root))?;
        let root_identity = root_directory.stat().map_err(JournalError::io("opening", root))?;
        let directory = root.join(DIRECTORY);
        for made in [&directory, &root.join(SCRATCH)] {
            atomic::make_private_directory(&*disk, made).map_err(JournalError::from_atomic)?;
        }
        let mut applier = Applier::new(disk.clone(), root);
        applier.sweep()?;
        let found = Found::read(&*disk, &directory)?;
        let (transactions, recorded) = (found.transactions.len(), found.header.map_or(boot, |header| header.boot));
        // Until all is applied and synced the log keeps the boot id it was written under: a crash in the middle of this
        // must not make a repair after a power failure look done.
        let mode = if recorded == boot { Mode::SameBoot } else { Mode::OtherBoot };
        let generation = found.header.map_or(0, |header| header.generation) + 1;
        // Always a new file: nobody knows whether the old one's last sync succeeded, and if it failed, what can be read
        // may not be on the disk, and syncing again may not write it.
        let header = file::header(generation, if transactions > 0 { recorded } else { boot });
        let log = LogFile::succeed(&*disk, &directory, header, &found.payloads, &found.paths)?;
        if mode == Mode::OtherBoot {
            applier.taking.expect(contents(&found.transactions));
        }
        let steps = found.transactions.into_iter().flat_map(|transaction| transaction.steps);
        let mut directories = Vec::new();
        let pending = steps
            .inspect(|step| {
                if let Step::MakeDirectory { path } = step {
                    directories.push(path.clone());
                }
            })
            .map(|step| (step, mode))
            .collect();
        let root = root.to_owned();
        let mut journal =
            Self { disk, root_directory, root_identity, root, boot, log, applier, pending, poisoned: false };
        journal.apply_pending().map_err(|cause| JournalError::Unapplied { cause: Box::new(cause) })?;
        journal.empty()?;
        journal.applier.taking.replayed();
        journal.applier.sweep_unfinished()?;
        Ok((journal, Replayed { transactions, directories, other_boot: mode == Mode::OtherBoot }))
    }

    /// Records `batch` with one sync. From then on it will happen, all of it, in order, whatever crashes; each transaction
    /// is atomic by itself. What is recorded is taken out of `batch`. [`Self::apply`] is to follow.
    ///
    /// # Errors
    /// [`JournalError`]; [`JournalError::outcome`] says what became of the batch. After [`Outcome::Unknown`] everything is
    /// refused as [`JournalError::Poisoned`] until the journal is opened anew.
    pub fn record(&mut self, batch: &mut Vec<Transaction>) -> Result<(), JournalError> {
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
        self.check_root()?;
        self.sync_moved(batch)?;
        self.prepare(batch)?;
        if let Err(cause) = self.log.append(&payloads) {
            // The scratch files stay: if the batch turns out to be recorded, their absence would mean that it was
            // applied.
            self.poisoned = true;
            return Err(JournalError::NotSynced { cause });
        }
        let steps = batch.drain(..).flat_map(|transaction| transaction.steps);
        self.pending = steps.map(|step| (step, Mode::Live)).collect();
        Ok(())
    }

    /// Applies what is recorded, and empties the log where it is full.
    ///
    /// # Errors
    /// [`JournalError::Unapplied`], [`JournalError::NotEmptied`]; it may be called again.
    pub fn apply(&mut self) -> Result<(), JournalError> {
        self.retry().map_err(|cause| JournalError::Unapplied { cause: Box::new(cause) })?;
        if self.is_full() {
            self.checkpoint().map_err(|cause| JournalError::NotEmptied { cause: Box::new(cause) })?;
        }
        Ok(())
    }

    /// [`Self::record`], then [`Self::apply`].
    ///
    /// # Errors
    /// As theirs.
    pub fn commit(&mut self, batch: &mut Vec<Transaction>) -> Result<(), JournalError> {
        self.record(batch)?;
        self.apply()
    }

    /// Applies what is recorded and was not applied because the disk refused it, and empties the log where that was
    /// refused and is due.
    ///
    /// # Errors
    /// [`JournalError::Io`]: the first step that is still refused.
    pub fn retry(&mut self) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        if !self.pending.is_empty() {
            self.check_root()?;
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

    /// Whether the log has grown to where it must be emptied before more is recorded.
    pub fn is_full(&self) -> bool {
        self.log.written() > JOURNAL_CHECKPOINT_BYTES
    }

    /// Looks again at outbox files that somebody had open for writing when they were to go.
    ///
    /// # Errors
    /// [`JournalError::Io`]; nothing is forgotten by it.
    pub fn settle(&mut self) -> Result<(), JournalError> {
        self.applier.taking.settle_all().map_err(JournalError::io("taking files from the outbox of", &self.root))
    }

    /// Outbox files, relative to the root, whose messages are sent, and which wait for their writers.
    pub fn unsettled(&self) -> impl Iterator<Item = &Path> {
        self.applier.taking.unsettled()
    }

    /// Outbox files, relative to the root, whose messages are sent, and which their directories have not let go yet: they leave by
    /// [`Self::settle`], and must not be sent again.
    pub fn untaken(&self) -> impl Iterator<Item = (PathBuf, FileIdentity)> {
        self.applier.taking.untaken()
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
        self.check_root()?;
        self.empty()
    }

    /// The root is still the directory that was opened.
    ///
    /// # Errors
    /// [`JournalError::RootGone`], or [`JournalError::RootUnreadable`] where the disk does not tell.
    pub fn check_root(&self) -> Result<(), JournalError> {
        let there = self.disk.open_directory(&self.root).and_then(|directory| directory.stat());
        match there {
            Ok(there) if there.is_same(&self.root_identity) => Ok(()),
            Err(cause) if !atomic::is_absent(&cause) => {
                Err(JournalError::RootUnreadable { root: self.root.clone(), cause })
            }
            _ => Err(JournalError::RootGone { root: self.root.clone() }),
        }
    }

    fn empty(&mut self) -> Result<(), JournalError> {
        if self.log.is_empty() {
            return Ok(());
        }
        self.settle()?;
        self.applier.write_deferred()?;
        if let Err(error) = self.applier.sync_expired() {
            self.poisoned = true;
            return Err(error);
        }
        self.applier.overwrite_trash()?;
        if let Err(error) = self.root_directory.sync_filesystem() {
            self.poisoned = true;
            return Err(JournalError::io("syncing", &self.root)(error));
        }
        self.applier.unlink_trash()?;
        let carried = self.applier.taking.carried();
        let emptied = match carried.is_empty() {
            true => self.log.reset(self.boot).map_err(JournalError::io("emptying the log of", &self.root)),
            false => self.carry_over(Transaction { steps: carried }),
        };
        self.poisoned |= emptied.is_err();
        if emptied.is_ok() {
            self.applier.emptied();
        }
        emptied
    }

    /// Begins a new log with what is not settled. Such files are few, and a new log is dear only in zeros.
    fn carry_over(&mut self, carried: Transaction) -> Result<(), JournalError> {
        let header = file::header(self.log.generation() + 1, self.boot);
        let old = [self.log.path().to_owned()];
        let directory = self.root.join(DIRECTORY);
        self.log = LogFile::succeed(&*self.disk, &directory, header, &[carried.to_bytes()], &old)?;
        Ok(())
    }

    /// Empties the log before a file moves that it holds bytes of, or is erased: they would be written again by a replay, into
    /// a file that is in its place already, or gone, and were made anew; and nobody has synced them yet.
    fn sync_moved(&mut self, batch: &[Transaction]) -> Result<(), JournalError> {
        let mut steps = batch.iter().flat_map(|transaction| &transaction.steps);
        let is_held = |step: &Step| match step {
            Step::Move { from: path, .. } | Step::Expire { path, .. } => self.applier.is_written(path),
            _ => false,
        };
        match steps.any(is_held) {
            true => self.empty(),
            false => Ok(()),
        }
    }

    /// Writes the scratch files of all `Place` steps, or none.
    fn prepare(&self, batch: &[Transaction]) -> Result<(), JournalError> {
        let mut written = Vec::new();
        for step in batch.iter().flat_map(|transaction| &transaction.steps) {
            let Step::Place { scratch, bytes, .. } = step else { continue };
            let scratch = self.root.join(scratch);
            let result = place::prepare(&*self.disk, &self.root, &scratch, bytes);
            written.push(scratch);
            if let (Err(cause), Some(scratch)) = (result, written.last()) {
                let error = JournalError::io("writing", scratch)(cause);
                // What cannot be removed now is written over when the batch is committed again.
                written.iter().for_each(|scratch| drop(atomic::remove(&*self.disk, scratch)));
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

/// The contents of messages by their hashes: what an outbox file that lost blocks is compared with.
fn contents(transactions: &[Transaction]) -> HashMap<[u8; 32], Zeroizing<Vec<u8>>> {
    let steps = transactions.iter().flat_map(|transaction| &transaction.steps);
    let placed = steps.filter_map(|step| match step {
        Step::Place { bytes, .. } => Some((sha256(&[bytes]), bytes.clone())),
        _ => None,
    });
    placed.collect()
}

/// What no caller should ask for: such a record would be written and never be readable.
fn check(batch: &[Transaction]) -> Result<(), JournalError> {
    let (mut scratches, mut written) = (HashSet::new(), HashSet::new());
    for step in batch.iter().flat_map(|transaction| &transaction.steps) {
        if !step.paths().all(stays_below) {
            return Err(JournalError::Refused { problem: "a path leaves the root" });
        }
        if let Step::Write { path, .. } = step {
            written.insert(path);
        }
        if matches!(step, Step::Move { from, .. } if written.contains(from)) {
            return Err(JournalError::Refused { problem: "a file is written and moved at once" });
        }
        let scratch = match step {
            Step::Place { scratch, .. } | Step::Take { scratch, .. } => scratch,
            Step::Move { from, .. } => from,
            Step::Expire { aside, .. } => aside,
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
    fn read(disk: &dyn Disk, directory: &Path) -> Result<Self, JournalError> {
        let logs = file::logs(disk, directory)?;
        let mut newest: Option<(Header, &Path, &[u8])> = None;
        for (path, bytes) in &logs {
            let (header, records) = split(path, bytes)?;
            if newest.is_none_or(|(other, ..)| other.generation < header.generation) {
                newest = Some((header, path, records));
            }
        }
        let mut found = Self { paths: Vec::new(), header: None, payloads: Vec::new(), transactions: Vec::new() };
        if let Some((header, path, records)) = newest {
            found.header = Some(header);
            (found.payloads, found.transactions) = parse(path, header, records)?;
        }
        found.paths = logs.into_iter().map(|(path, _)| path).collect();
        Ok(found)
    }
}

/// The transactions in the bytes of a log, `path` for what is said about it.
///
/// # Errors
/// [`JournalError::Damaged`], [`JournalError::Malformed`].
pub fn read_log(path: &Path, bytes: &[u8]) -> Result<Vec<Transaction>, JournalError> {
    let (header, records) = split(path, bytes)?;
    Ok(parse(path, header, records)?.1)
}

/// A log of `generation` with these batches of payloads behind one another, as the program writes them: what
/// [`read_log`] reads, for tests and fuzzers. An empty batch is left out, as by [`Journal::commit`].
pub fn write_log(generation: u64, nonce: u64, batches: &[Vec<Zeroizing<Vec<u8>>>]) -> Zeroizing<Vec<u8>> {
    let header = Header { generation, nonce, boot: [0; 16] };
    let mut log = Zeroizing::new(header.to_bytes().to_vec());
    log.resize(RECORDS_START, 0);
    for (number, payloads) in (1..).zip(batches.iter().filter(|payloads| !payloads.is_empty())) {
        log.extend_from_slice(&format::batch(header, number, payloads));
    }
    log
}

/// The header of a log, and its records.
fn split<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Header, &'a [u8]), JournalError> {
    let malformed =
        |problem| JournalError::Malformed { path: path.to_owned(), cause: Malformed::new("journal header", problem) };
    let (header, _) =
        Header::read(bytes).ok_or_else(|| malformed("no intact one of a version that this program knows"))?;
    let records = bytes.get(RECORDS_START..).unwrap_or_default();
    if header.is_outdated_by(records) {
        return Err(malformed("damaged, and intact records of its generation follow"));
    }
    Ok((header, records))
}

type Payloads = Vec<Zeroizing<Vec<u8>>>;

fn parse(path: &Path, header: Header, records: &[u8]) -> Result<(Payloads, Vec<Transaction>), JournalError> {
    let damaged = |damage: format::Damage| JournalError::Damaged {
        path: path.to_owned(),
        offset: (RECORDS_START + damage.offset) as u64,
    };
    let payloads = format::scan(header, records).map_err(damaged)?.payloads;
    let transactions = payloads.iter().map(|payload| Transaction::from_bytes(payload)).collect::<Result<_, _>>();
    let transactions = transactions.map_err(|cause| JournalError::Malformed { path: path.to_owned(), cause })?;
    Ok((payloads, transactions))
}
