//! The store in RocksDB. One thread writes ([`committer`]); reads see only what is durable, and run on the runtime's
//! threads for blocking work.
//!
//! | module | what |
//! |---|---|
//! | [`layout`] | column families, keys and records |
//! | [`tables`] | the database, opened and read |
//! | [`committer`] | the thread that commits in groups |
//! | [`operations`] | what each write does |

mod committer;
mod layout;
mod operations;
mod tables;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use self::committer::{Group, Job};
use self::layout::{AccountRecord, Table};
use self::tables::{Tables, damaged};
use super::watch::{Subscription, Watchers};
use super::{Store, Stored};
use crate::clock::Timestamp;
use crate::limits::STORE_QUEUE_MAX;
use crate::wire::envelope::Envelope;
use crate::wire::identity::AccountId;
use crate::wire::prekey::SignedPrekey;
use crate::wire::reply::{EnvelopeEntry, PrekeyCount, Refusal, StoredEnvelope};

pub use tables::OpenError;

/// A store in a directory of its own. Dropping it waits for what is queued and closes the database.
pub struct RocksStore {
    tables: Arc<Tables>,
    watchers: Arc<Watchers>,
    /// `None` only while dropping.
    queue: Option<mpsc::Sender<Job>>,
    committer: Option<JoinHandle<()>>,
}

impl RocksStore {
    /// Opens the database in `directory`, or makes it.
    ///
    /// # Errors
    /// [`OpenError`]; `InUse` is the one that trying again later may help.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let tables = Arc::new(Tables::open(directory)?);
        let watchers = Arc::new(Watchers::default());
        let (queue, jobs) = mpsc::channel(STORE_QUEUE_MAX);
        let (its_tables, its_watchers) = (Arc::clone(&tables), Arc::clone(&watchers));
        let committer = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || committer::run(&its_tables, jobs, &its_watchers))
            .map_err(|error| OpenError::Failed(format!("starting a thread: {error}")))?;
        Ok(Self { tables, watchers, queue: Some(queue), committer: Some(committer) })
    }

    /// Queues an operation with its first poll, and waits until it is durable.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Group<'_>) -> Stored<T> + Send + 'static,
    ) -> Stored<T> {
        let queue = self.queue.as_ref().ok_or(Refusal::Unavailable)?;
        let (job, outcome) = Job::new(work);
        queue.send(job).await.map_err(|_| gone())?;
        outcome.await.map_err(|_| gone())?
    }

    /// Reads on a thread that may block.
    async fn read<T: Send + 'static>(&self, work: impl FnOnce(&Tables) -> Stored<T> + Send + 'static) -> Stored<T> {
        let tables = Arc::clone(&self.tables);
        tokio::task::spawn_blocking(move || work(&tables)).await.map_err(|_| gone())?
    }
}

impl Store for RocksStore {
    async fn create_account(&self, account: AccountId) -> Stored<()> {
        self.write(move |group| operations::create_account(group, &account)).await
    }

    async fn delete_account(&self, account: AccountId) -> Stored<()> {
        self.write(move |group| operations::delete_account(group, &account)).await
    }

    async fn require_account(&self, account: AccountId) -> Stored<()> {
        self.read(move |tables| record(tables, &account).map(|_| ())).await
    }

    async fn deliver(&self, account: AccountId, envelope: Envelope, now: Timestamp) -> Stored<()> {
        let sha256 = envelope.sha256();
        self.write(move |group| operations::deliver(group, &account, &envelope, sha256, now)).await
    }

    async fn list(&self, account: AccountId, after: u64, limit: usize) -> Stored<(Vec<EnvelopeEntry>, bool)> {
        self.read(move |tables| {
            let mut entries = Vec::new();
            for entry in above(tables, Table::Listing, &account, after)? {
                let (id, value) = entry?;
                if entries.len() == limit {
                    return Ok((entries, true));
                }
                let sha256 = value[..].try_into().map_err(|_| damaged(Table::Listing))?;
                entries.push(EnvelopeEntry { id, sha256 });
            }
            Ok((entries, false))
        })
        .await
    }

    async fn page(&self, account: AccountId, after: u64, limit: usize) -> Stored<Vec<StoredEnvelope>> {
        self.read(move |tables| {
            let entries = above(tables, Table::Envelopes, &account, after)?;
            entries.take(limit).map(|entry| entry.and_then(|(id, value)| stored(id, value.into_vec()))).collect()
        })
        .await
    }

    async fn fetch(&self, account: AccountId, id: u64) -> Stored<StoredEnvelope> {
        self.read(move |tables| {
            record(tables, &account)?;
            let value = tables.get(Table::Envelopes, &layout::envelope(&account, id))?;
            stored(id, value.ok_or(Refusal::NoEnvelope)?)
        })
        .await
    }

    async fn delete_envelopes(&self, account: AccountId, ids: Vec<u64>) -> Stored<()> {
        self.write(move |group| operations::delete_envelopes(group, &account, ids)).await
    }

    async fn add_prekeys(
        &self,
        account: AccountId,
        prekeys: Vec<SignedPrekey>,
        replace: bool,
        now: Timestamp,
    ) -> Stored<()> {
        self.write(move |group| operations::add_prekeys(group, &account, prekeys, replace, now)).await
    }

    async fn take_prekey(&self, account: AccountId, now: Timestamp) -> Stored<SignedPrekey> {
        self.write(move |group| operations::take_prekey(group, &account, now)).await
    }

    async fn count_prekeys(&self, account: AccountId, now: Timestamp) -> Stored<PrekeyCount> {
        self.read(move |tables| {
            record(tables, &account)?;
            let mut count = PrekeyCount::default();
            let last_resort = layout::last_resort(&account);
            for entry in tables.scan(Table::Prekeys, &account, account.as_bytes()) {
                let (key, value) = entry?;
                let prekey = operations::parse(&value)?;
                match operations::is_expired(&prekey, now) {
                    true => {}
                    false if *key == *last_resort => count.last_resort_expires = Some(prekey.expires),
                    false => count.one_time += 1,
                }
            }
            Ok(count)
        })
        .await
    }

    async fn read_counter(&self, account: AccountId) -> Stored<Option<Vec<u8>>> {
        self.read(move |tables| {
            record(tables, &account)?;
            tables.get(Table::Counters, &layout::account(&account))
        })
        .await
    }

    async fn write_counter(&self, account: AccountId, record: Vec<u8>) -> Stored<()> {
        self.write(move |group| operations::write_counter(group, &account, record)).await
    }

    fn watch(&self, account: AccountId) -> Subscription {
        self.watchers.register(account)
    }
}

impl Drop for RocksStore {
    fn drop(&mut self) {
        // Without a sender the committer ends once it has written what is queued.
        self.queue = None;
        if let Some(committer) = self.committer.take() {
            // If it panicked, the panic has been reported, and there is nothing left to wait for.
            let _ = committer.join();
        }
    }
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RocksStore").finish_non_exhaustive()
    }
}

fn gone() -> Refusal {
    tracing::error!("the database's thread is gone");
    Refusal::Unavailable
}

fn record(tables: &Tables, account: &AccountId) -> Stored<AccountRecord> {
    let bytes = tables.get(Table::Accounts, account.as_bytes())?.ok_or(Refusal::NoAccount)?;
    AccountRecord::from_bytes(&bytes).ok_or_else(|| damaged(Table::Accounts))
}

/// Ids above `after` with their values, from a table whose keys are account and id.
fn above<'a>(
    tables: &'a Tables,
    table: Table,
    account: &AccountId,
    after: u64,
) -> Stored<impl Iterator<Item = Stored<(u64, Box<[u8]>)>> + use<'a>> {
    record(tables, account)?;
    // Above the highest id there is nothing, which the end of the account's keys says.
    let start = after.checked_add(1).map_or_else(|| layout::end(account), |first| layout::envelope(account, first));
    let entries = tables.scan(table, account, &start);
    Ok(entries.map(move |entry| {
        let (key, value) = entry?;
        Ok((layout::envelope_id(&key).ok_or_else(|| damaged(table))?, value))
    }))
}

fn stored(id: u64, value: Vec<u8>) -> Stored<StoredEnvelope> {
    let envelope = Envelope::from_vec(value).map_err(|_| damaged(Table::Envelopes))?;
    Ok(StoredEnvelope { id, envelope })
}
