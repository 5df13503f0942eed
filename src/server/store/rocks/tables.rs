//! RocksDB, opened and read. Whatever fails here is logged here, without ids, and refused as
//! [`Refusal::Unavailable`].

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBIterator, DBRecoveryMode,
    Direction, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};
use thiserror::Error;

use super::layout::{self, FORMAT, META_FORMAT, Table};
use crate::limits::{STORE_BUFFER_BYTES, STORE_CACHE_BYTES, STORE_FILES_MAX, STORE_LOG_BYTES_MAX};
use crate::server::store::Stored;
use crate::wire::identity::AccountId;
use crate::wire::reply::Refusal;

/// Opening the database failed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another process is using it")]
    InUse,
    /// It was written by another version.
    #[error("it has format {found}, and this version knows format {FORMAT}")]
    Format {
        /// The number on disk.
        found: u64,
    },
    /// RocksDB cannot open it.
    #[error("{0}")]
    Failed(String),
}

/// A key and its value.
pub(super) type Entry = (Box<[u8]>, Box<[u8]>);

/// The database with its column families.
pub(super) struct Tables {
    db: DB,
    /// Whether the last write failed: a full disk is logged when it begins and when it ends, not for every request that
    /// peers make meanwhile.
    failing: AtomicBool,
}

impl Tables {
    /// Opens the database in `directory`, or makes it.
    pub(super) fn open(directory: &Path) -> Result<Self, OpenError> {
        let cache = Cache::new_lru_cache(STORE_CACHE_BYTES);
        let families = Table::ALL.map(|table| ColumnFamilyDescriptor::new(table.name(), table_options(&cache)));
        let db = DB::open_cf_descriptors(&database_options(), directory, families).map_err(|error| {
            let message = error.into_string();
            // All that RocksDB tells is a text: one for another process, one for another handle in this one. That the
            // file LOCK cannot be opened at all is something else.
            let in_use = ["While lock file", "lock hold by current process"].iter().any(|text| message.contains(text));
            if in_use { OpenError::InUse } else { OpenError::Failed(message) }
        })?;
        let tables = Self { db, failing: AtomicBool::new(false) };
        tables.check_format()?;
        Ok(tables)
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let failed = |_| OpenError::Failed("its format cannot be read or written".to_owned());
        match self.get(Table::Meta, META_FORMAT).map_err(failed)? {
            Some(bytes) => match layout::number(&bytes) {
                Some(FORMAT) => Ok(()),
                found => Err(OpenError::Format { found: found.unwrap_or(0) }),
            },
            None => {
                let mut batch = WriteBatch::default();
                batch.put_cf(self.family(Table::Meta), META_FORMAT, FORMAT.to_le_bytes());
                self.commit(batch).map_err(failed)
            }
        }
    }

    pub(super) fn family(&self, table: Table) -> &ColumnFamily {
        self.db.cf_handle(table.name()).expect("open() opened every table")
    }

    /// One value.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Stored<Option<Vec<u8>>> {
        self.db.get_cf(self.family(table), key).map_err(|error| unavailable("reading", table, &error))
    }

    /// Keys and values of `account` from `start` on, ascending.
    pub(super) fn scan<'a>(
        &'a self,
        table: Table,
        account: &AccountId,
        start: &[u8],
    ) -> impl Iterator<Item = Stored<Entry>> + use<'a> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(layout::end(account));
        let mode = IteratorMode::From(start, Direction::Forward);
        let entries: DBIterator<'_> = self.db.iterator_cf_opt(self.family(table), options, mode);
        entries.map(move |entry| entry.map_err(|error| unavailable("reading", table, &error)))
    }

    /// Writes all of `batch` or nothing, and syncs it before anybody can read it.
    pub(super) fn commit(&self, batch: WriteBatch) -> Stored<()> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        match self.db.write_opt(batch, &options) {
            Ok(()) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("writing to the database works again");
                }
                Ok(())
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(cause = %error, "writing to the database failed; refusing writes until it works");
                }
                Err(Refusal::Unavailable)
            }
        }
    }
}

/// Damage: a record that this program did not write.
pub(super) fn damaged(table: Table) -> Refusal {
    tracing::error!(table = table.name(), "reading the database: a record is damaged");
    Refusal::Unavailable
}

fn unavailable(doing: &'static str, table: Table, error: &rocksdb::Error) -> Refusal {
    tracing::error!(table = table.name(), cause = %error, "{doing} the database failed");
    Refusal::Unavailable
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A torn tail was never acknowledged. Damage anywhere else must be seen, not cut off with all that follows it,
    // which is what RocksDB's default would do.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_paranoid_checks(true);
    options.set_db_write_buffer_size(STORE_BUFFER_BYTES);
    options.set_max_total_wal_size(STORE_LOG_BYTES_MAX);
    options.set_max_open_files(STORE_FILES_MAX);
    // RocksDB's own log: only what went wrong, and little of it.
    options.set_log_level(LogLevel::Error);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1024 * 1024);
    options
}

fn table_options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    // Most look-ups are for hashes that are not there: has this envelope come before?
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    // Ciphertext and keys do not shrink.
    options.set_compression_type(DBCompressionType::None);
    options
}
