//! What a lying server keeps: all that an honest one does, and what it makes of it is the test's to say.

use std::collections::HashMap;
use std::sync::Mutex;

use chatterbox::clock::Timestamp;
use chatterbox::server::store::memory::MemoryStore;
use chatterbox::server::store::watch::Subscription;
use chatterbox::server::store::{Store, Stored};
use chatterbox::wire::envelope::Envelope;
use chatterbox::wire::identity::AccountId;
use chatterbox::wire::prekey::SignedPrekey;
use chatterbox::wire::reply::{EnvelopeEntry, PrekeyCount, StoredEnvelope};

/// What becomes of an envelope that is delivered. The sender is told that it is stored, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stored,
    /// Gone.
    Dropped,
    /// Kept back, until the test delivers it.
    Withheld,
    /// Stored with a changed byte, in this place.
    Changed(usize),
}

type OnDelivery = Box<dyn FnMut(AccountId) -> Fate + Send>;
type OnPrekey = Box<dyn FnMut(AccountId, SignedPrekey, &Uploads) -> SignedPrekey + Send>;
type OnCounter = Box<dyn FnMut(AccountId, Option<Vec<u8>>) -> Option<Vec<u8>> + Send>;

/// Every prekey that was ever uploaded, by account.
pub type Uploads = HashMap<AccountId, Vec<SignedPrekey>>;

/// How the server lies, and what it has seen.
#[derive(Default)]
pub struct Lies {
    pub on_delivery: Option<OnDelivery>,
    /// Given the prekey that is due, hands out the one that is given.
    pub on_prekey: Option<OnPrekey>,
    /// Given the record that was last written, hands out the one that is given.
    pub on_counter: Option<OnCounter>,
    /// Pushes each envelope twice in a row.
    pub pushes_twice: bool,
    /// Each envelope that was ever delivered, in order.
    pub seen: Vec<(AccountId, Envelope)>,
    /// What is withheld, in order.
    pub withheld: Vec<(AccountId, Envelope)>,
    pub uploads: Uploads,
    /// Every counter record that was ever written, in order.
    pub counters: Vec<(AccountId, Vec<u8>)>,
}

#[derive(Default)]
pub struct LyingStore {
    honest: MemoryStore,
    lies: Mutex<Lies>,
}

impl LyingStore {
    pub fn lie<T>(&self, how: impl FnOnce(&mut Lies) -> T) -> T {
        how(&mut self.lies.lock().unwrap())
    }

    pub async fn deliver_honestly(&self, account: AccountId, envelope: Envelope) {
        self.honest.deliver(account, envelope, Timestamp::now()).await.unwrap();
    }

    pub async fn in_mailbox(&self, account: AccountId) -> usize {
        self.honest.list(account, 0, 10_000).await.unwrap().0.len()
    }
}

impl Store for LyingStore {
    async fn create_account(&self, account: AccountId) -> Stored<()> {
        self.honest.create_account(account).await
    }

    async fn delete_account(&self, account: AccountId) -> Stored<()> {
        self.honest.delete_account(account).await
    }

    async fn require_account(&self, account: AccountId) -> Stored<()> {
        self.honest.require_account(account).await
    }

    async fn deliver(&self, account: AccountId, envelope: Envelope, now: Timestamp) -> Stored<()> {
        self.require_account(account).await?;
        let fate = self.lie(|lies| {
            lies.seen.push((account, envelope.clone()));
            let fate = lies.on_delivery.as_mut().map_or(Fate::Stored, |decide| decide(account));
            if fate == Fate::Withheld {
                lies.withheld.push((account, envelope.clone()));
            }
            fate
        });
        match fate {
            Fate::Stored => self.honest.deliver(account, envelope, now).await,
            Fate::Changed(place) => {
                let mut bytes = envelope.as_bytes().to_vec();
                bytes[place] ^= 1;
                self.honest.deliver(account, Envelope::from_vec(bytes).unwrap(), now).await
            }
            Fate::Dropped | Fate::Withheld => Ok(()),
        }
    }

    async fn list(&self, account: AccountId, after: u64, limit: usize) -> Stored<(Vec<EnvelopeEntry>, bool)> {
        self.honest.list(account, after, limit).await
    }

    async fn page(&self, account: AccountId, after: u64, limit: usize) -> Stored<Vec<StoredEnvelope>> {
        let page = self.honest.page(account, after, limit).await?;
        let times = if self.lie(|lies| lies.pushes_twice) { 2 } else { 1 };
        Ok(page.into_iter().flat_map(|stored| vec![stored; times]).collect())
    }

    async fn fetch(&self, account: AccountId, id: u64) -> Stored<StoredEnvelope> {
        self.honest.fetch(account, id).await
    }

    async fn delete_envelopes(&self, account: AccountId, ids: Vec<u64>) -> Stored<()> {
        self.honest.delete_envelopes(account, ids).await
    }

    async fn add_prekeys(
        &self,
        account: AccountId,
        prekeys: Vec<SignedPrekey>,
        replace: bool,
        now: Timestamp,
    ) -> Stored<()> {
        self.lie(|lies| lies.uploads.entry(account).or_default().extend(prekeys.iter().cloned()));
        self.honest.add_prekeys(account, prekeys, replace, now).await
    }

    async fn take_prekey(&self, account: AccountId, now: Timestamp) -> Stored<SignedPrekey> {
        let due = self.honest.take_prekey(account, now).await?;
        Ok(self.lie(|lies| match &mut lies.on_prekey {
            Some(choose) => choose(account, due, &lies.uploads),
            None => due,
        }))
    }

    async fn count_prekeys(&self, account: AccountId, now: Timestamp) -> Stored<PrekeyCount> {
        self.honest.count_prekeys(account, now).await
    }

    async fn read_counter(&self, account: AccountId) -> Stored<Option<Vec<u8>>> {
        let written = self.honest.read_counter(account).await?;
        Ok(self.lie(|lies| match &mut lies.on_counter {
            Some(choose) => choose(account, written),
            None => written,
        }))
    }

    async fn write_counter(&self, account: AccountId, record: Vec<u8>) -> Stored<()> {
        self.lie(|lies| lies.counters.push((account, record.clone())));
        self.honest.write_counter(account, record).await
    }

    fn watch(&self, account: AccountId) -> Subscription {
        self.honest.watch(account)
    }
}
