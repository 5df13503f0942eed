//! What a home server keeps, behind one trait, so that a distributed engine can stand in for RocksDB later.
//!
//! | module | what |
//! |---|---|
//! | [`rocks`] | RocksDB, with one thread that commits in groups |
//! | [`memory`] | the same in memory: for tests, and the model that RocksDB is compared with |
//! | [`watch`] | hints that a mailbox or a pool of prekeys changed |
//!
//! Time is passed in. An operation refuses with what the peer hears; why a disk failed is logged where it happened,
//! without ids.

pub mod memory;
pub mod rocks;
#[cfg(test)]
mod suite;
pub mod watch;

use std::future::Future;

use crate::clock::Timestamp;
use crate::wire::envelope::Envelope;
use crate::wire::identity::AccountId;
use crate::wire::prekey::SignedPrekey;
use crate::wire::reply::{EnvelopeEntry, PrekeyCount, Refusal, StoredEnvelope};

use watch::Subscription;

/// The outcome of an operation.
pub type Stored<T> = Result<T, Refusal>;

/// Accounts with their mailboxes, prekeys and counter records.
///
/// Every write is atomic, and durable when its future is ready. Writes take effect in the order in which their
/// futures were first polled, which is what lets a connection have several under way. All operations but
/// [`Store::create_account`] refuse with [`Refusal::NoAccount`] where there is no account, and all with
/// [`Refusal::Unavailable`] where the disk does not do its part; then nothing of the operation is visible, and whether
/// it survives a crash is open.
pub trait Store: Send + Sync + 'static {
    /// Makes an account; fine if there is one.
    ///
    /// # Errors
    /// [`Refusal::ServerFull`] at [`ACCOUNTS_MAX`](crate::limits::ACCOUNTS_MAX).
    fn create_account(&self, account: AccountId) -> impl Future<Output = Stored<()>> + Send;

    /// Removes an account with all it has, and ends its watches.
    fn delete_account(&self, account: AccountId) -> impl Future<Output = Stored<()>> + Send;

    /// Whether there is such an account: [`Refusal::NoAccount`] if not.
    fn require_account(&self, account: AccountId) -> impl Future<Output = Stored<()>> + Send;

    /// Puts an envelope into a mailbox, under the id `max(now in microseconds, last id + 1)`. A second copy of one that
    /// is still there changes nothing.
    ///
    /// # Errors
    /// [`Refusal::MailboxFull`] at [`MAILBOX_ENVELOPES_MAX`](crate::limits::MAILBOX_ENVELOPES_MAX).
    fn deliver(
        &self,
        account: AccountId,
        envelope: Envelope,
        now: Timestamp,
    ) -> impl Future<Output = Stored<()>> + Send;

    /// At most `limit` entries with ids above `after`, ascending, and whether there are more.
    fn list(
        &self,
        account: AccountId,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Stored<(Vec<EnvelopeEntry>, bool)>> + Send;

    /// At most `limit` envelopes with ids above `after`, ascending. The caller's memory is `limit` times 16 KiB.
    fn page(
        &self,
        account: AccountId,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Stored<Vec<StoredEnvelope>>> + Send;

    /// One envelope.
    ///
    /// # Errors
    /// [`Refusal::NoEnvelope`].
    fn fetch(&self, account: AccountId, id: u64) -> impl Future<Output = Stored<StoredEnvelope>> + Send;

    /// Deletes envelopes; ids that are not there are fine.
    fn delete_envelopes(&self, account: AccountId, ids: Vec<u64>) -> impl Future<Output = Stored<()>> + Send;

    /// Adds prekeys, after dropping all that are there if `replace`. One-time prekeys that are expired, or in the pool
    /// already (a repeated upload), are skipped; of last-resort prekeys the newest upload stays.
    ///
    /// # Errors
    /// [`Refusal::PrekeysFull`] beyond [`PREKEYS_PER_ACCOUNT_MAX`](crate::limits::PREKEYS_PER_ACCOUNT_MAX); then none
    /// of them was added and none dropped.
    fn add_prekeys(
        &self,
        account: AccountId,
        prekeys: Vec<SignedPrekey>,
        replace: bool,
        now: Timestamp,
    ) -> impl Future<Output = Stored<()>> + Send;

    /// Takes the oldest one-time prekey, which nobody else will get, or else shows the last-resort prekey.
    ///
    /// # Errors
    /// [`Refusal::NoPrekey`] where there is neither.
    fn take_prekey(&self, account: AccountId, now: Timestamp) -> impl Future<Output = Stored<SignedPrekey>> + Send;

    /// What [`Store::take_prekey`] could still hand out.
    fn count_prekeys(&self, account: AccountId, now: Timestamp) -> impl Future<Output = Stored<PrekeyCount>> + Send;

    /// The sealed counter record, if one was written.
    fn read_counter(&self, account: AccountId) -> impl Future<Output = Stored<Option<Vec<u8>>>> + Send;

    /// Writes the sealed counter record.
    fn write_counter(&self, account: AccountId, record: Vec<u8>) -> impl Future<Output = Stored<()>> + Send;

    /// Watches an account. Part of the trait, since with a distributed engine another process may take the delivery.
    fn watch(&self, account: AccountId) -> Subscription;
}
