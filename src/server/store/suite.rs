//! What every store promises, run against each of them; and RocksDB compared with the model in memory under random
//! operations.

use std::ops::Deref;

use proptest::prelude::*;
use tempfile::TempDir;

use super::memory::MemoryStore;
use super::rocks::{OpenError, RocksStore};
use super::watch::Hint;
use super::{Store, Stored};
use crate::clock::Timestamp;
use crate::crypto::dh::PublicKey;
use crate::crypto::kem::{ENCAPSULATION_KEY_BYTES, EncapsulationKey};
use crate::crypto::secret::Secret;
use crate::crypto::sign::SigningKey;
use crate::limits::{ENVELOPE_BYTES, MAILBOX_ENVELOPES_MAX, PREKEYS_PER_ACCOUNT_MAX, PREKEYS_REFILL_BELOW};
use crate::wire::envelope::Envelope;
use crate::wire::identity::{AccountId, Identity};
use crate::wire::prekey::{PrekeyKind, SignedPrekey};
use crate::wire::reply::{PrekeyCount, Refusal};

const BOB: AccountId = AccountId(PublicKey([7; 32]));
/// The account that follows bob's in key order.
const CAROL: AccountId = AccountId(PublicKey([8; 32]));

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn envelope(number: u64) -> Envelope {
    let mut bytes = vec![0; ENVELOPE_BYTES];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Envelope::from_vec(bytes).unwrap()
}

fn prekey(number: u8, kind: PrekeyKind, expires: u64) -> SignedPrekey {
    let key = SigningKey::from_secret(&Secret::new([1; 32]));
    let identity = Identity { signing: key.verifying_key(), auth: PublicKey([4; 32]) };
    let kem = EncapsulationKey::from_slice(&[5; ENCAPSULATION_KEY_BYTES]).unwrap();
    let keys = (PublicKey([number; 32]), PublicKey([3; 32]), kem);
    SignedPrekey::sign([number; 16], kind, expires, keys, &identity, &key)
}

fn one_time(numbers: std::ops::Range<u8>) -> Vec<SignedPrekey> {
    numbers.map(|number| prekey(number, PrekeyKind::OneTime, 1_000)).collect()
}

async fn ids(store: &impl Store, account: AccountId) -> Vec<u64> {
    store.list(account, 0, 256).await.unwrap().0.iter().map(|entry| entry.id).collect()
}

async fn without_an_account_everything_is_refused(store: &impl Store) {
    let refused = Err(Refusal::NoAccount);
    assert_eq!(store.deliver(BOB, envelope(1), at(1)).await, refused);
    assert_eq!(store.list(BOB, 0, 1).await.map(|_| ()), refused);
    assert_eq!(store.page(BOB, 0, 1).await.map(|_| ()), refused);
    assert_eq!(store.fetch(BOB, 1).await.map(|_| ()), refused);
    assert_eq!(store.delete_envelopes(BOB, vec![1]).await, refused);
    assert_eq!(store.add_prekeys(BOB, Vec::new(), false, at(1)).await, refused);
    assert_eq!(store.take_prekey(BOB, at(1)).await.map(|_| ()), refused);
    assert_eq!(store.count_prekeys(BOB, at(1)).await.map(|_| ()), refused);
    assert_eq!(store.read_counter(BOB).await.map(|_| ()), refused);
    assert_eq!(store.write_counter(BOB, vec![1]).await, refused);
    assert_eq!(store.require_account(BOB).await, refused);
    assert_eq!(store.delete_account(BOB).await, refused);
}

async fn ids_ascend_whatever_the_clock_does(store: &impl Store) {
    store.create_account(BOB).await.unwrap();
    store.deliver(BOB, envelope(1), at(100)).await.unwrap();
    store.deliver(BOB, envelope(2), at(50)).await.unwrap();
    store.delete_envelopes(BOB, ids(store, BOB).await).await.unwrap();
    store.deliver(BOB, envelope(3), at(50)).await.unwrap();
    store.deliver(BOB, envelope(4), at(200)).await.unwrap();
    assert_eq!(ids(store, BOB).await, [100_000_002, 200_000_000]);
    assert_eq!(store.fetch(BOB, 100_000_002).await.unwrap().envelope, envelope(3));
    assert_eq!(store.fetch(BOB, 100_000_000).await, Err(Refusal::NoEnvelope));
}

async fn a_second_copy_is_dropped_while_the_first_is_there(store: &impl Store) {
    store.create_account(BOB).await.unwrap();
    store.create_account(CAROL).await.unwrap();
    for now in 1..4 {
        store.deliver(BOB, envelope(1), at(now)).await.unwrap();
    }
    store.deliver(CAROL, envelope(1), at(9)).await.unwrap();
    assert_eq!(ids(store, BOB).await, [1_000_000]);
    assert_eq!(ids(store, CAROL).await, [9_000_000]);
    store.delete_envelopes(BOB, vec![1_000_000, 1_000_000, 5]).await.unwrap();
    store.deliver(BOB, envelope(1), at(5)).await.unwrap();
    assert_eq!(ids(store, BOB).await, [5_000_000]);
}

async fn a_long_mailbox_is_read_page_by_page(store: &impl Store) {
    store.create_account(BOB).await.unwrap();
    store.create_account(CAROL).await.unwrap();
    store.deliver(CAROL, envelope(0), at(1)).await.unwrap();
    for number in 1..=600 {
        store.deliver(BOB, envelope(number), at(1)).await.unwrap();
    }
    let (mut after, mut seen, mut more) = (0, Vec::new(), true);
    while more {
        let (entries, further) = store.list(BOB, after, 256).await.unwrap();
        after = entries.last().unwrap().id;
        seen.extend(entries.iter().map(|entry| entry.sha256));
        more = further;
    }
    assert_eq!(seen, (1..=600).map(|number| envelope(number).sha256()).collect::<Vec<_>>());
    let page = store.page(BOB, after - 2, 4).await.unwrap();
    assert_eq!(page.iter().map(|stored| stored.id).collect::<Vec<_>>(), [after - 1, after]);
    assert_eq!(page[1].envelope, envelope(600));
    assert_eq!(store.list(BOB, u64::MAX, 256).await, Ok((Vec::new(), false)));
}

async fn prekeys_are_taken_in_order_and_once(store: &impl Store) {
    store.create_account(BOB).await.unwrap();
    store.add_prekeys(BOB, one_time(0..3), false, at(1)).await.unwrap();
    store.add_prekeys(BOB, one_time(1..5), false, at(1)).await.unwrap();
    let last_resort = prekey(200, PrekeyKind::LastResort, 500);
    store.add_prekeys(BOB, vec![prekey(201, PrekeyKind::LastResort, 500)], false, at(1)).await.unwrap();
    store.add_prekeys(BOB, vec![last_resort.clone()], false, at(1)).await.unwrap();
    let count = PrekeyCount { one_time: 5, last_resort_expires: Some(500) };
    assert_eq!(store.count_prekeys(BOB, at(1)).await, Ok(count));
    for number in 0..5 {
        assert_eq!(store.take_prekey(BOB, at(1)).await.unwrap().id, [number; 16]);
    }
    for _ in 0..3 {
        assert_eq!(store.take_prekey(BOB, at(1)).await, Ok(last_resort.clone()));
    }
    assert_eq!(store.take_prekey(BOB, at(500)).await, Err(Refusal::NoPrekey), "expired");
    assert_eq!(store.count_prekeys(BOB, at(500)).await, Ok(PrekeyCount::default()));
}

async fn expired_prekeys_are_skipped_and_the_pool_is_bounded(store: &impl Store) {
    store.create_account(BOB).await.unwrap();
    let early: Vec<_> = (0..150).map(|number| prekey(number, PrekeyKind::OneTime, 10)).collect();
    store.add_prekeys(BOB, early, false, at(1)).await.unwrap();
    assert_eq!(store.add_prekeys(BOB, one_time(150..201), false, at(1)).await, Err(Refusal::PrekeysFull));
    assert_eq!(store.count_prekeys(BOB, at(1)).await.unwrap().one_time, 150, "all of an upload or nothing");
    store.add_prekeys(BOB, one_time(150..200), false, at(1)).await.unwrap();
    assert_eq!(store.count_prekeys(BOB, at(1)).await.unwrap().one_time as usize, PREKEYS_PER_ACCOUNT_MAX);
    assert_eq!(store.count_prekeys(BOB, at(10)).await.unwrap().one_time, 50);
    store.add_prekeys(BOB, one_time(0..1), false, at(10)).await.unwrap();
    assert_eq!(store.take_prekey(BOB, at(10)).await.unwrap().id, [150; 16]);
    let fresh = vec![prekey(1, PrekeyKind::OneTime, 99), prekey(2, PrekeyKind::OneTime, 10)];
    store.add_prekeys(BOB, fresh, true, at(10)).await.unwrap();
    assert_eq!(store.count_prekeys(BOB, at(10)).await.unwrap().one_time, 1);
    assert_eq!(store.take_prekey(BOB, at(10)).await.unwrap().id, [1; 16]);
    assert_eq!(store.take_prekey(BOB, at(10)).await, Err(Refusal::NoPrekey));
}

async fn a_deleted_account_leaves_nothing_to_its_successor(store: &impl Store) {
    for account in [BOB, CAROL, BOB] {
        store.create_account(account).await.unwrap();
        store.deliver(account, envelope(1), at(1)).await.unwrap();
        store.add_prekeys(account, one_time(0..2), false, at(1)).await.unwrap();
        store.write_counter(account, vec![5; 256]).await.unwrap();
    }
    let mut watch = store.watch(BOB);
    // In one group where the store commits in groups: what was deleted before must not show through.
    let (deleted, created, delivered) =
        tokio::join!(store.delete_account(BOB), store.create_account(BOB), store.deliver(BOB, envelope(1), at(2)));
    assert_eq!((deleted, created, delivered), (Ok(()), Ok(()), Ok(())));
    assert_eq!(watch.hint().await, Hint::Ended);
    assert_eq!(ids(store, BOB).await, [2_000_000]);
    assert_eq!(store.count_prekeys(BOB, at(1)).await, Ok(PrekeyCount::default()));
    assert_eq!(store.read_counter(BOB).await, Ok(None));
    assert_eq!(ids(store, CAROL).await, [1_000_000]);
    assert_eq!(store.read_counter(CAROL).await, Ok(Some(vec![5; 256])));
    assert_eq!(store.count_prekeys(CAROL, at(1)).await.unwrap().one_time, 2);
}

async fn a_watch_hints_at_deliveries_and_at_few_prekeys(store: &impl Store) {
    store.create_account(BOB).await.unwrap();
    let enough = u8::try_from(PREKEYS_REFILL_BELOW).unwrap() + 1;
    store.add_prekeys(BOB, one_time(0..enough), false, at(1)).await.unwrap();
    let mut watch = store.watch(BOB);
    store.take_prekey(BOB, at(1)).await.unwrap();
    store.deliver(BOB, envelope(1), at(1)).await.unwrap();
    assert_eq!(watch.hint().await, Hint::Mailbox, "fifty are enough");
    store.take_prekey(BOB, at(1)).await.unwrap();
    assert_eq!(watch.hint().await, Hint::Prekeys);
}

async fn writes_polled_together_take_effect_in_their_order(store: &impl Store) {
    store.create_account(BOB).await.unwrap();
    let deliveries = (0..100).map(|number| store.deliver(BOB, envelope(number), at(1)));
    assert!(futures_util::future::join_all(deliveries).await.iter().all(Result::is_ok));
    let (entries, _) = store.list(BOB, 0, 256).await.unwrap();
    let hashes: Vec<_> = entries.iter().map(|entry| entry.sha256).collect();
    assert_eq!(hashes, (0..100).map(|number| envelope(number).sha256()).collect::<Vec<_>>());
}

/// A store with the directory it lives in, if any.
struct Scratch<S>(S, #[allow(dead_code, reason = "removes the directory when dropped")] Option<TempDir>);

impl<S> Deref for Scratch<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

fn memory() -> Scratch<MemoryStore> {
    Scratch(MemoryStore::default(), None)
}

fn rocks() -> Scratch<RocksStore> {
    let directory = tempfile::tempdir().unwrap();
    Scratch(RocksStore::open(directory.path()).unwrap(), Some(directory))
}

macro_rules! suite {
    ($($claim:ident)*) => {
        mod memory_store {
            $(#[tokio::test] async fn $claim() { super::$claim(&*super::memory()).await })*
        }
        mod rocks_store {
            $(#[tokio::test] async fn $claim() { super::$claim(&*super::rocks()).await })*
        }
    };
}

suite! {
    without_an_account_everything_is_refused
    ids_ascend_whatever_the_clock_does
    a_second_copy_is_dropped_while_the_first_is_there
    a_long_mailbox_is_read_page_by_page
    prekeys_are_taken_in_order_and_once
    expired_prekeys_are_skipped_and_the_pool_is_bounded
    a_deleted_account_leaves_nothing_to_its_successor
    a_watch_hints_at_deliveries_and_at_few_prekeys
    writes_polled_together_take_effect_in_their_order
}

#[tokio::test]
async fn a_full_mailbox_refuses_and_takes_again_after_a_delete() {
    let store = rocks();
    store.create_account(BOB).await.unwrap();
    for start in (0..MAILBOX_ENVELOPES_MAX).step_by(1_024) {
        let deliveries = (start..start + 1_024).map(|number| store.deliver(BOB, envelope(number), at(1)));
        assert!(futures_util::future::join_all(deliveries).await.iter().all(Result::is_ok));
    }
    assert_eq!(store.deliver(BOB, envelope(MAILBOX_ENVELOPES_MAX), at(1)).await, Err(Refusal::MailboxFull));
    assert_eq!(store.deliver(BOB, envelope(0), at(1)).await, Ok(()), "that one is stored");
    store.delete_envelopes(BOB, vec![1_000_000]).await.unwrap();
    assert_eq!(store.deliver(BOB, envelope(MAILBOX_ENVELOPES_MAX), at(1)).await, Ok(()));
}

#[tokio::test]
async fn rocks_keeps_ids_and_prekeys_across_a_restart_and_one_process_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = RocksStore::open(directory.path()).unwrap();
    assert!(matches!(RocksStore::open(directory.path()), Err(OpenError::InUse)));
    store.create_account(BOB).await.unwrap();
    store.deliver(BOB, envelope(1), at(100)).await.unwrap();
    store.delete_envelopes(BOB, vec![100_000_000]).await.unwrap();
    store.add_prekeys(BOB, one_time(0..3), false, at(1)).await.unwrap();
    store.take_prekey(BOB, at(1)).await.unwrap();
    drop(store);
    let store = RocksStore::open(directory.path()).unwrap();
    store.deliver(BOB, envelope(2), at(1)).await.unwrap();
    assert_eq!(ids(&store, BOB).await, [100_000_001]);
    assert_eq!(store.take_prekey(BOB, at(1)).await.unwrap().id, [1; 16]);
}

/// One random operation on one of two accounts.
#[derive(Clone, Debug)]
enum Step {
    Create,
    Delete,
    Deliver(u64),
    Remove(Vec<usize>),
    Upload(Vec<(u8, bool, u64)>, bool),
    Take,
    Counter(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let upload = proptest::collection::vec((0..40u8, any::<bool>(), 0..120u64), 0..30);
    prop_oneof![
        2 => Just(Step::Create),
        1 => Just(Step::Delete),
        8 => (0..20u64).prop_map(Step::Deliver),
        3 => proptest::collection::vec(0..8usize, 0..4).prop_map(Step::Remove),
        3 => (upload, any::<bool>()).prop_map(|(prekeys, replace)| Step::Upload(prekeys, replace)),
        6 => Just(Step::Take),
        1 => any::<u8>().prop_map(Step::Counter),
    ]
}

/// What can be seen of an account.
async fn view(store: &impl Store, account: AccountId, now: Timestamp) -> String {
    let listed = store.list(account, 0, 256).await;
    let page = store.page(account, 0, 3).await.map(|page| page.iter().map(|s| s.envelope.sha256()).collect::<Vec<_>>());
    let (count, counter) = (store.count_prekeys(account, now).await, store.read_counter(account).await);
    format!("{listed:?} {page:?} {count:?} {counter:?}")
}

async fn take(store: &impl Store, step: Step, account: AccountId, now: Timestamp) -> Stored<Option<SignedPrekey>> {
    let done = match step {
        Step::Create => store.create_account(account).await,
        Step::Delete => store.delete_account(account).await,
        Step::Deliver(number) => store.deliver(account, envelope(number), now).await,
        Step::Remove(positions) => {
            let present = store.list(account, 0, 256).await.map(|(entries, _)| entries).unwrap_or_default();
            let ids = positions.iter().filter_map(|position| present.get(*position).map(|entry| entry.id)).collect();
            store.delete_envelopes(account, ids).await
        }
        Step::Upload(prekeys, replace) => {
            let kind = |last| if last { PrekeyKind::LastResort } else { PrekeyKind::OneTime };
            let prekeys = prekeys.iter().map(|(number, last, expires)| prekey(*number, kind(*last), *expires));
            store.add_prekeys(account, prekeys.collect(), replace, now).await
        }
        Step::Take => return store.take_prekey(account, now).await.map(Some),
        Step::Counter(byte) => store.write_counter(account, vec![byte; 256]).await,
    };
    done.map(|()| None)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rocks_does_what_the_model_in_memory_does(
        steps in proptest::collection::vec((step(), any::<bool>(), 0..100u64), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (memory, rocks) = (memory(), rocks());
            for (step, first, seconds) in steps {
                let (account, now) = (if first { BOB } else { CAROL }, at(seconds));
                let expected = take(&*memory, step.clone(), account, now).await;
                prop_assert_eq!(take(&*rocks, step, account, now).await, expected);
                prop_assert_eq!(view(&*rocks, account, now).await, view(&*memory, account, now).await);
            }
            Ok(())
        })?;
    }
}
