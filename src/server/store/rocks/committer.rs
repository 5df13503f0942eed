//! The one thread that writes. It takes what waits, decides each operation against the database and what it decided
//! before in the same group, writes one synced batch for all of them, and answers them then.
//!
//! So an operation is atomic without locks, a disk sync serves everybody who waited for the one before, and nobody is
//! answered or can read anything before it is durable.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rocksdb::WriteBatch;
use tokio::sync::{mpsc, oneshot};

use super::layout::{self, AccountRecord, Table};
use super::tables::{Tables, damaged};
use crate::limits::STORE_BATCH_MAX;
use crate::server::store::Stored;
use crate::server::store::watch::{Hint, Watchers};
use crate::wire::identity::AccountId;
use crate::wire::reply::Refusal;

/// An operation: it reads and decides, writes then, and leaves a function that tells its outcome once it is known
/// whether the group is durable.
pub(super) struct Job(Box<dyn FnOnce(&mut Group<'_>) -> Answer + Send>);

type Answer = Box<dyn FnOnce(Stored<()>)>;

impl Job {
    /// A job for `work`, and where its outcome arrives.
    pub(super) fn new<T: Send + 'static>(
        work: impl FnOnce(&mut Group<'_>) -> Stored<T> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Stored<T>>) {
        let (sender, receiver) = oneshot::channel();
        let run = move |group: &mut Group<'_>| -> Answer {
            let outcome = work(group);
            // Who asked may have hung up; what was decided stands all the same.
            Box::new(move |committed| drop(sender.send(committed.and(outcome))))
        };
        (Self(Box::new(run)), receiver)
    }
}

/// Commits until the last sender is gone.
pub(super) fn run(tables: &Tables, mut queue: mpsc::Receiver<Job>, watchers: &Arc<Watchers>) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = Group::new(tables);
        let mut answers = vec![(first.0)(&mut group)];
        while answers.len() < STORE_BATCH_MAX
            && let Ok(next) = queue.try_recv()
        {
            answers.push((next.0)(&mut group));
        }
        let (committed, hints) = group.commit();
        if committed.is_ok() {
            for (account, hint) in hints {
                watchers.hint(&account, hint);
            }
        }
        for answer in answers {
            // A refusal, too, may rest on what the group was going to write.
            answer(committed);
        }
    }
}

/// The operations that are committed together, and the database as it will be after them.
///
/// An operation makes all its reads before its first write: what may fail comes before what must not be half done.
pub(super) struct Group<'a> {
    tables: &'a Tables,
    batch: WriteBatch,
    /// What this group wrote, `None` for deleted.
    written: HashMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    /// Accounts that this group deleted: of these nothing in the database counts any more.
    wiped: HashSet<[u8; 32]>,
    hints: Vec<(AccountId, Hint)>,
}

impl<'a> Group<'a> {
    fn new(tables: &'a Tables) -> Self {
        Self { tables, batch: WriteBatch::default(), written: HashMap::new(), wiped: HashSet::new(), hints: Vec::new() }
    }

    fn commit(self) -> (Stored<()>, Vec<(AccountId, Hint)>) {
        // Nothing but refusals and repetitions needs no sync: what they rest on is durable already.
        let committed = if self.batch.is_empty() { Ok(()) } else { self.tables.commit(self.batch) };
        (committed, self.hints)
    }

    /// One value.
    pub(super) fn get(&self, table: Table, key: Vec<u8>) -> Stored<Option<Vec<u8>>> {
        let wiped = table != Table::Meta && key.get(..32).is_some_and(|account| self.wiped.contains(account));
        let place = (table, key);
        match self.written.get(&place) {
            Some(written) => Ok(written.clone()),
            None if wiped => Ok(None),
            None => self.tables.get(table, &place.1),
        }
    }

    /// An account's record.
    ///
    /// # Errors
    /// [`Refusal::NoAccount`] if there is none.
    pub(super) fn account(&self, account: &AccountId) -> Stored<AccountRecord> {
        let bytes = self.get(Table::Accounts, layout::account(account))?.ok_or(Refusal::NoAccount)?;
        AccountRecord::from_bytes(&bytes).ok_or_else(|| damaged(Table::Accounts))
    }

    /// Writes an account's record.
    pub(super) fn put_account(&mut self, account: &AccountId, record: AccountRecord) {
        self.put(Table::Accounts, layout::account(account), record.to_bytes());
    }

    /// Writes a value.
    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.batch.put_cf(self.tables.family(table), &key, &value);
        self.written.insert((table, key), Some(value));
    }

    /// Writes a value that no operation reads, so that the group need not hold it twice.
    pub(super) fn put_unread(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.tables.family(table), key, value);
    }

    /// Deletes a value; fine if there is none.
    pub(super) fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.batch.delete_cf(self.tables.family(table), &key);
        self.written.insert((table, key), None);
    }

    /// Deletes all that an account has.
    pub(super) fn wipe(&mut self, account: &AccountId) {
        for table in Table::OF_ACCOUNTS {
            self.batch.delete_range_cf(self.tables.family(table), layout::account(account), layout::end(account));
        }
        self.written.retain(|(table, key), _| *table == Table::Meta || !key.starts_with(account.as_bytes()));
        self.wiped.insert(*account.as_bytes());
    }

    /// Wakes watchers once the group is durable.
    pub(super) fn hint(&mut self, account: AccountId, hint: Hint) {
        self.hints.push((account, hint));
    }
}
