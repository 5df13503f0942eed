//! One loss, told and gone on with, by an engine on a real disk.

use super::super::account::Account;
use super::super::event::Event;
use super::super::policy::Policy;
use super::super::root::Root;
use super::*;
use crate::crypto::dh::SecretKey;
use crate::disk::journal::Journal;
use crate::disk::watch::Hint;
use crate::net::dialer::Way;
use crate::wire::address::ServerAddress;
use crate::wire::counter::CounterRecord;
use rand_core::OsRng;
use std::fs;

const NOW: u64 = 1_790_000_000;

fn at(second: u64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn account(directory: &Path, name: &str) -> (Root, Account) {
    let root = Root::new(directory.join(name));
    fs::create_dir(root.path()).unwrap();
    let server = ServerAddress::new("localhost", 1, SecretKey::random(&mut OsRng).public()).unwrap();
    let account = Account::create(&root, name, server, "", &mut OsRng).unwrap();
    (root, account)
}

/// Alice with some contacts, as her daemon runs her.
struct Running {
    scratch: tempfile::TempDir,
    root: Root,
    account: Account,
    journal: Journal,
    engine: Engine,
    now: u64,
}

impl Running {
    fn new(contacts: &[&str]) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let (root, account) = account(scratch.path(), "alice");
        let (journal, _) = Journal::open(root.shared_disk(), root.path()).unwrap();
        let engine = Engine::load(root.clone(), Policy::by_default(&Way::Direct)).unwrap();
        let mut running = Self { scratch, root, account, journal, engine, now: NOW };
        contacts.iter().for_each(|name| running.meet(name));
        running.handle(Event::Hint(Hint::Rescan));
        running
    }

    fn meet(&mut self, name: &str) {
        let (_, account) = account(self.scratch.path(), name);
        fs::write(self.root.contacts().join(format!("{name}.card")), format!("{}\n", account.profile)).unwrap();
    }

    fn handle(&mut self, event: Event) -> Vec<String> {
        self.engine.handle(event, at(self.now)).unwrap();
        let mut batch: Vec<_> = self.engine.transaction().into_iter().collect();
        self.journal.commit(&mut batch).unwrap();
        self.engine.recorded(at(self.now));
        self.engine.applied();
        let mut queued: Vec<String> =
            self.engine.spool.recipients().iter().map(|peer| self.engine.people.name(peer)).collect();
        queued.sort();
        queued
    }

    /// So many seconds go by.
    fn pass(&mut self, seconds: u64) -> Vec<String> {
        let mut queued = Vec::new();
        for _ in 0..seconds {
            self.now += 1;
            queued = self.handle(Event::Tick);
        }
        queued
    }

    fn restart(&mut self) {
        self.journal.checkpoint().unwrap();
        self.engine = Engine::load(self.root.clone(), Policy::by_default(&Way::Direct)).unwrap();
        self.handle(Event::Hint(Hint::Rescan));
    }

    fn lose(&mut self) {
        let record = CounterRecord { number: 5, time: NOW }.seal(&self.account.keys, &mut OsRng);
        self.handle(Event::Counter(Some(record)));
    }
}

#[test]
fn all_are_told_once_one_after_the_other_and_those_too_who_are_added_later() {
    let mut alice = Running::new(&["bob", "carol", "dave"]);
    assert!(alice.pass(5).is_empty(), "nothing starts by itself");
    alice.lose();
    assert_eq!(alice.pass(1).len(), 1, "no burst");
    alice.restart();
    assert_eq!(alice.pass(8), ["bob", "carol", "dave"]);
    alice.meet("erin");
    alice.handle(Event::Hint(Hint::Rescan));
    assert_eq!(alice.pass(3), ["bob", "carol", "dave", "erin"]);
    alice.restart();
    alice.pass(10);
    assert_eq!(alice.engine.spool.len(), 4, "a note for each");
    alice.now += RECOVERY_LIFETIME_S + 1;
    alice.handle(Event::Prekeys { count: PrekeyCount::default(), after_upload: true });
    alice.meet("frank");
    alice.restart();
    alice.pass(5);
    assert_eq!(alice.engine.spool.len(), 4, "it is long ago");
    alice.restart();
    let is_left = |name: &str| name == "recovery" || name.starts_with(TOLD_PREFIX);
    let keys = fs::read_dir(alice.root.keys()).unwrap();
    assert!(!keys.into_iter().any(|entry| is_left(entry.unwrap().file_name().to_str().unwrap())));
}

#[test]
fn prekeys_are_replaced_until_the_server_has_the_new_ones() {
    let mut alice = Running::new(&[]);
    let full = PrekeyCount { one_time: 100, last_resort_expires: Some(u64::MAX) };
    alice.lose();
    let uploads = |alice: &mut Running, event: Event| {
        alice.engine.handle(event, at(alice.now)).unwrap();
        let consequences = alice.engine.recorded(at(alice.now));
        (consequences.uploads.len(), consequences.replaces)
    };
    // The connection ends before the upload; the next one finds the pool full, of prekeys without secrets.
    alice.restart();
    let (made, replaces) = uploads(&mut alice, Event::Prekeys { count: full, after_upload: false });
    assert!(made > 100 && replaces);
    alice.handle(Event::Prekeys { count: full, after_upload: true });
    alice.restart();
    assert_eq!(uploads(&mut alice, Event::Prekeys { count: full, after_upload: false }), (0, false));
}

#[test]
fn one_request_of_a_peer_an_hour_begins_and_a_second_one_waits() {
    let (mut recovery, bob) = (Recovery::default(), Fingerprint([7; 32]));
    assert!(recovery.ask(bob, 100, 1, NOW));
    assert!(!recovery.ask(bob, 60, 2, NOW + 1));
    assert!(!recovery.ask(bob, 80, 3, NOW + 2));
    recovery.resend_is_done(0);
    assert!(recovery.pass(9, NOW + RESEND_INTERVAL_S).is_empty(), "not before all of the first is done");
    recovery.introduced(&bob);
    assert!(recovery.pass(9, NOW + RESEND_INTERVAL_S - 1).is_empty());
    assert_eq!(recovery.pass(9, NOW + RESEND_INTERVAL_S), [bob]);
    let open = recovery.open_resends();
    assert!(matches!(open[..], [(0, Resend { since: 60, until: 9, again: None, .. })]), "{open:?}");
    recovery.resend_is_done(0);
    recovery.introduced(&bob);
    assert!(recovery.pass(9, NOW + 2 * RESEND_INTERVAL_S).is_empty());
    assert!(recovery.state.resends.is_empty());
    assert!(recovery.ask(bob, 100, 10, NOW + 2 * RESEND_INTERVAL_S), "and then another may begin");
}
