//! The twin in memory: the same promises but durability, in the plainest code that keeps them. Tests of connections run
//! on it, and it is the model that RocksDB is compared with.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use super::watch::{Hint, Subscription, Watchers};
use super::{Store, Stored};
use crate::clock::Timestamp;
use crate::limits::{ACCOUNTS_MAX, MAILBOX_ENVELOPES_MAX, PREKEYS_PER_ACCOUNT_MAX, PREKEYS_REFILL_BELOW};
use crate::wire::envelope::Envelope;
use crate::wire::identity::AccountId;
use crate::wire::prekey::{PrekeyKind, SignedPrekey};
use crate::wire::reply::{EnvelopeEntry, PrekeyCount, Refusal, StoredEnvelope};

/// A store that lives as long as its process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    accounts: Mutex<HashMap<AccountId, Account>>,
    watchers: Arc<Watchers>,
}

#[derive(Debug, Default)]
struct Account {
    last_id: u64,
    envelopes: BTreeMap<u64, Envelope>,
    one_time: VecDeque<SignedPrekey>,
    last_resort: Option<SignedPrekey>,
    counter: Option<Vec<u8>>,
}

impl MemoryStore {
    fn accounts<T>(&self, work: impl FnOnce(&mut HashMap<AccountId, Account>) -> Stored<T>) -> Stored<T> {
        work(&mut self.accounts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn account<T>(&self, account: AccountId, work: impl FnOnce(&mut Account) -> Stored<T>) -> Stored<T> {
        self.accounts(|accounts| work(accounts.get_mut(&account).ok_or(Refusal::NoAccount)?))
    }
}

impl Account {
    fn above(&self, after: u64) -> impl Iterator<Item = (&u64, &Envelope)> {
        self.envelopes.range((Bound::Excluded(after), Bound::Unbounded))
    }

    /// Drops expired prekeys from the old end.
    fn drop_expired(&mut self, now: Timestamp) {
        while self.one_time.front().is_some_and(|prekey| prekey.expires <= now.seconds()) {
            self.one_time.pop_front();
        }
    }
}

impl Store for MemoryStore {
    async fn create_account(&self, account: AccountId) -> Stored<()> {
        self.accounts(|accounts| {
            if !accounts.contains_key(&account) && accounts.len() as u64 >= ACCOUNTS_MAX {
                return Err(Refusal::ServerFull);
            }
            accounts.entry(account).or_default();
            Ok(())
        })
    }

    async fn delete_account(&self, account: AccountId) -> Stored<()> {
        self.accounts(|accounts| accounts.remove(&account).map(|_| ()).ok_or(Refusal::NoAccount))?;
        self.watchers.hint(&account, Hint::Ended);
        Ok(())
    }

    async fn require_account(&self, account: AccountId) -> Stored<()> {
        self.account(account, |_| Ok(()))
    }

    async fn deliver(&self, account: AccountId, envelope: Envelope, now: Timestamp) -> Stored<()> {
        self.account(account, |account| {
            if account.envelopes.values().any(|stored| *stored == envelope) {
                return Ok(());
            }
            if account.envelopes.len() as u64 >= MAILBOX_ENVELOPES_MAX {
                return Err(Refusal::MailboxFull);
            }
            account.last_id = now.micros().max(account.last_id + 1);
            account.envelopes.insert(account.last_id, envelope);
            Ok(())
        })?;
        self.watchers.hint(&account, Hint::Mailbox);
        Ok(())
    }

    async fn list(&self, account: AccountId, after: u64, limit: usize) -> Stored<(Vec<EnvelopeEntry>, bool)> {
        self.account(account, |account| {
            let mut entries: Vec<_> = account
                .above(after)
                .take(limit + 1)
                .map(|(id, envelope)| EnvelopeEntry { id: *id, sha256: envelope.sha256() })
                .collect();
            let more = entries.len() > limit;
            entries.truncate(limit);
            Ok((entries, more))
        })
    }

    async fn page(&self, account: AccountId, after: u64, limit: usize) -> Stored<Vec<StoredEnvelope>> {
        self.account(account, |account| {
            let stored = |(id, envelope): (&u64, &Envelope)| StoredEnvelope { id: *id, envelope: envelope.clone() };
            Ok(account.above(after).take(limit).map(stored).collect())
        })
    }

    async fn fetch(&self, account: AccountId, id: u64) -> Stored<StoredEnvelope> {
        self.account(account, |account| {
            let envelope = account.envelopes.get(&id).cloned().ok_or(Refusal::NoEnvelope)?;
            Ok(StoredEnvelope { id, envelope })
        })
    }

    async fn delete_envelopes(&self, account: AccountId, ids: Vec<u64>) -> Stored<()> {
        self.account(account, |account| {
            for id in ids {
                account.envelopes.remove(&id);
            }
            Ok(())
        })
    }

    async fn add_prekeys(
        &self,
        account: AccountId,
        prekeys: Vec<SignedPrekey>,
        replace: bool,
        now: Timestamp,
    ) -> Stored<()> {
        self.account(account, |account| {
            account.drop_expired(now);
            let mut pool = if replace { VecDeque::new() } else { account.one_time.clone() };
            let mut last_resort = if replace { None } else { account.last_resort.clone() };
            for prekey in prekeys.into_iter().filter(|prekey| prekey.expires > now.seconds()) {
                match prekey.kind {
                    PrekeyKind::OneTime if pool.iter().any(|pooled| pooled.id == prekey.id) => {}
                    PrekeyKind::OneTime => pool.push_back(prekey),
                    PrekeyKind::LastResort => last_resort = Some(prekey),
                }
            }
            if pool.len() > PREKEYS_PER_ACCOUNT_MAX {
                return Err(Refusal::PrekeysFull);
            }
            (account.one_time, account.last_resort) = (pool, last_resort);
            Ok(())
        })
    }

    async fn take_prekey(&self, account: AccountId, now: Timestamp) -> Stored<SignedPrekey> {
        let (prekey, left) = self.account(account, |account| {
            account.drop_expired(now);
            let prekey = account.one_time.pop_front().or_else(|| account.last_resort.clone());
            Ok((prekey, account.one_time.len()))
        })?;
        if left < PREKEYS_REFILL_BELOW {
            self.watchers.hint(&account, Hint::Prekeys);
        }
        prekey.filter(|prekey| prekey.expires > now.seconds()).ok_or(Refusal::NoPrekey)
    }

    async fn count_prekeys(&self, account: AccountId, now: Timestamp) -> Stored<PrekeyCount> {
        self.account(account, |account| {
            let good = |prekey: &&SignedPrekey| prekey.expires > now.seconds();
            let one_time = account.one_time.iter().filter(good).count();
            Ok(PrekeyCount {
                one_time: u32::try_from(one_time).unwrap_or(u32::MAX),
                last_resort_expires: account.last_resort.as_ref().filter(good).map(|prekey| prekey.expires),
            })
        })
    }

    async fn read_counter(&self, account: AccountId) -> Stored<Option<Vec<u8>>> {
        self.account(account, |account| Ok(account.counter.clone()))
    }

    async fn write_counter(&self, account: AccountId, record: Vec<u8>) -> Stored<()> {
        self.account(account, |account| {
            account.counter = Some(record);
            Ok(())
        })
    }

    fn watch(&self, account: AccountId) -> Subscription {
        self.watchers.register(account)
    }
}
