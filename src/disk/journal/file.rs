//! The log file: made synced, appended to with one sync a batch, zeroed before it is used again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rand_core::{OsRng, RngCore as _};
use zeroize::Zeroizing;

use super::format::{self, Header, RECORDS_START, SLOT_BYTES};
use crate::disk::atomic::write_zeros;
use crate::limits::JOURNAL_LOG_BYTES;

/// A log that is being written.
pub(super) struct LogFile {
    file: File,
    header: Header,
    slot: usize,
    /// Of the next batch.
    batch: u64,
    /// Where it goes.
    end: u64,
}

/// The header for `generation`, under `boot`, with a fresh nonce.
pub(super) fn header(generation: u64, boot: [u8; 16]) -> Header {
    Header { generation, nonce: OsRng.next_u64(), boot }
}

impl LogFile {
    /// Makes the log `path` with `payloads` as its first batch, all of it synced except its name.
    pub(super) fn create(path: &Path, header: Header, payloads: &[Zeroizing<Vec<u8>>]) -> io::Result<Self> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        // Zeros that were written, not a hole: blocks that are allocated and initialised already make a sync half as
        // long, since no metadata changes with it.
        write_zeros(&mut file, JOURNAL_LOG_BYTES)?;
        file.write_all_at(&header.to_bytes(), 0)?;
        let mut log = Self { file, header, slot: 0, batch: 1, end: RECORDS_START as u64 };
        if payloads.is_empty() {
            log.file.sync_all()?
        } else {
            log.append(payloads)?
        }
        log.file.sync_all()?;
        Ok(log)
    }

    /// Writes one batch and syncs it. After an error nothing is known about it, and the log must not be used again.
    pub(super) fn append(&mut self, payloads: &[Zeroizing<Vec<u8>>]) -> io::Result<()> {
        let bytes = format::batch(self.header, self.batch, payloads);
        self.file.write_all_at(&bytes, self.end)?;
        self.file.sync_data()?;
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
        self.file.write_all_at(&header.to_bytes(), (slot * SLOT_BYTES) as u64)?;
        self.file.sync_data()?;
        self.file.seek(SeekFrom::Start(RECORDS_START as u64))?;
        let written = self.written();
        write_zeros(&mut self.file, written)?;
        self.file.sync_data()?;
        if self.end > JOURNAL_LOG_BYTES {
            // One unusually large batch made it grow. The rest is zeros by now.
            self.file.set_len(JOURNAL_LOG_BYTES)?;
        }
        (self.header, self.slot, self.batch, self.end) = (header, slot, 1, RECORDS_START as u64);
        Ok(())
    }

    /// Bytes of records.
    pub(super) fn written(&self) -> u64 {
        self.end - RECORDS_START as u64
    }

    /// Makes every write fail from now on.
    #[cfg(test)]
    pub(super) fn break_for_test(&mut self) {
        self.file = OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
    }

    /// The generation of the next record.
    pub(super) fn generation(&self) -> u64 {
        self.header.generation
    }
}

/// The logs in `directory`, each with its bytes.
pub(super) fn logs(directory: &Path) -> io::Result<Vec<(PathBuf, Zeroizing<Vec<u8>>)>> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-")) {
            let mut file = File::open(&path)?;
            let size = usize::try_from(file.metadata()?.len()).unwrap_or(0);
            let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
            file.read_to_end(&mut bytes)?;
            logs.push((path, bytes));
        }
    }
    Ok(logs)
}

/// The id of this boot of the machine, which tells a crash of the daemon from one of the machine.
pub(super) fn boot_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits = text.trim().replace('-', "");
    let number = u128::from_str_radix(&digits, 16).map_err(|_| io::Error::other("the boot id is not hexadecimal"))?;
    Ok(number.to_be_bytes())
}
