//! The log file: made synced, appended to with one sync a batch, zeroed before it is used again.

use std::io;
use std::path::{Path, PathBuf};

use rand_core::{OsRng, RngCore as _};
use zeroize::Zeroizing;

use super::JournalError;
use super::format::{self, Header, RECORDS_START, SLOT_BYTES};
use crate::disk::atomic::{self, write_zeros};
use crate::disk::open::{self, OpenError};
use crate::disk::system::{Disk, OpenFile};
use crate::limits::{JOURNAL_FILE_BYTES_MAX, JOURNAL_LOG_BYTES};

/// A log that is being written.
pub(super) struct LogFile {
    file: Box<dyn OpenFile>,
    path: PathBuf,
    header: Header,
    slot: usize,
    /// Of the next batch.
    batch: u64,
    /// Where it goes.
    end: u64,
    /// Where the records end that were copied from an older log.
    carried_end: u64,
}

/// The header for `generation`, under `boot`, with a fresh nonce.
pub(super) fn header(generation: u64, boot: [u8; 16]) -> Header {
    Header { generation, nonce: OsRng.next_u64(), boot }
}

impl LogFile {
    /// Makes a log in `directory` with `payloads` as its first batch, and then erases the logs `old`, which hold nothing
    /// else that counts.
    ///
    /// # Errors
    /// [`JournalError::Io`]. Then the old logs are still found, or the new one is, or both, of which the newer counts.
    pub(super) fn succeed(
        disk: &dyn Disk,
        directory: &Path,
        header: Header,
        payloads: &[Zeroizing<Vec<u8>>],
        old: &[PathBuf],
    ) -> Result<Self, JournalError> {
        let (new, retired) = (directory.join("new"), directory.join("old"));
        // An earlier process may have died between retiring a log and syncing that: overwritten under its new name, it
        // would come back under its old one when the power fails.
        atomic::sync_directory(disk, directory).map_err(JournalError::from_atomic)?;
        for leftover in [&new, &retired] {
            atomic::erase(disk, leftover).map_err(JournalError::from_atomic)?;
        }
        let path = directory.join(format!("{LOG_PREFIX}{:016x}", header.generation));
        let mut log = match Self::create(disk, &new, header, payloads) {
            Ok(log) => log,
            Err(cause) => {
                // Tried again each second on a full disk: what was written must not keep others from what is left.
                let _ = disk.unlink(&new);
                return Err(JournalError::io("writing", &new)(cause));
            }
        };
        disk.rename_new(&new, &path).map_err(JournalError::io("creating", &path))?;
        log.path = path;
        atomic::sync_directory(disk, directory).map_err(JournalError::from_atomic)?;
        for path in old {
            // Out of the way first, and synced so: a log whose header is overwritten must not be found as a log.
            disk.rename(path, &retired).map_err(JournalError::io("retiring", path))?;
            atomic::sync_directory(disk, directory).map_err(JournalError::from_atomic)?;
            atomic::erase(disk, &retired).map_err(JournalError::from_atomic)?;
        }
        Ok(log)
    }

    /// The log `path` with `payloads` as its first batch, all of it synced except its name.
    fn create(disk: &dyn Disk, path: &Path, header: Header, payloads: &[Zeroizing<Vec<u8>>]) -> io::Result<Self> {
        let file = disk.create_new(path)?;
        // Zeros that were written, not a hole: blocks that are allocated and initialised already make a sync half as
        // long, since no metadata changes with it.
        write_zeros(&*file, 0, JOURNAL_LOG_BYTES)?;
        file.write_at(0, &header.to_bytes())?;
        let start = RECORDS_START as u64;
        let mut log = Self { file, path: path.to_owned(), header, slot: 0, batch: 1, end: start, carried_end: start };
        match payloads.is_empty() {
            true => log.file.sync()?,
            false => log.append(payloads)?,
        }
        log.carried_end = log.end;
        Ok(log)
    }

    /// Writes one batch and syncs it. After an error nothing is known about it, and the log must not be used again.
    pub(super) fn append(&mut self, payloads: &[Zeroizing<Vec<u8>>]) -> io::Result<()> {
        let bytes = format::batch(self.header, self.batch, payloads);
        self.file.write_at(self.end, &bytes)?;
        self.file.sync()?;
        self.batch += 1;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Empties the log: what was in it no longer counts, and is overwritten. After an error the log must not be used
    /// again.
    pub(super) fn reset(&mut self, boot: [u8; 16]) -> io::Result<()> {
        // The new generation first, synced: zeros among records that count would look like damage.
        let header = header(self.header.generation + 1, boot);
        let slot = 1 - self.slot;
        self.file.write_at((slot * SLOT_BYTES) as u64, &header.to_bytes())?;
        self.file.sync()?;
        let start = RECORDS_START as u64;
        write_zeros(&*self.file, start, self.end - start)?;
        self.file.sync()?;
        if self.end > JOURNAL_LOG_BYTES {
            // One unusually large batch made it grow. The rest is zeros by now.
            self.file.set_length(JOURNAL_LOG_BYTES)?;
        }
        (self.header, self.slot, self.batch, self.end, self.carried_end) = (header, slot, 1, start, start);
        Ok(())
    }

    /// Bytes of records, those not counted that the log began with.
    pub(super) fn written(&self) -> u64 {
        self.end - self.carried_end
    }

    /// Whether there are no records at all.
    pub(super) fn is_empty(&self) -> bool {
        self.end == RECORDS_START as u64
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The generation of the next record.
    pub(super) fn generation(&self) -> u64 {
        self.header.generation
    }

    /// Makes every write fail from now on.
    #[cfg(test)]
    pub(super) fn break_for_test(&mut self) {
        use crate::disk::real::RealDisk;
        self.file = RealDisk.open_to_write(Path::new("/dev/full")).expect("every Linux has it");
    }
}

/// How the name of a log begins.
const LOG_PREFIX: &str = "log-";

/// A log's path and bytes.
pub(super) type Log = (PathBuf, Zeroizing<Vec<u8>>);

/// The logs in `directory`.
///
/// # Errors
/// [`JournalError::Io`], [`JournalError::Malformed`].
pub(super) fn logs(disk: &dyn Disk, directory: &Path) -> Result<Vec<Log>, JournalError> {
    let mut logs = Vec::new();
    for entry in disk.entries(directory).map_err(JournalError::io("reading", directory))? {
        if entry.name.to_string_lossy().starts_with(LOG_PREFIX) {
            let path = directory.join(entry.name);
            let bytes = open::read_regular(disk, &path, JOURNAL_FILE_BYTES_MAX).map_err(|error| match error {
                OpenError::Io(cause) => JournalError::io("reading", &path)(cause),
                other => JournalError::io("reading", &path)(io::Error::other(other)),
            })?;
            logs.push((path, bytes));
        }
    }
    Ok(logs)
}
