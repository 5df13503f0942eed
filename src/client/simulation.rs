//! Two clients and their server on simulated disks: stopped before every operation in turn, with every kind of loss, and
//! an oracle that compares both ends.
//!
//! Everything below the daemon's threads is the real thing: engine, journal, ratchet, envelopes. The server is a few maps
//! that keep what they took, as the real one does (which has crash tests of its own); no reply of it is lost that a
//! restart does not lose.
//!
//! `CHATTERBOX_SIMULATED_CRASHES` says how many points of each scenario are tried, evenly spread: a number, or `all`
//! (`scripts/crash-matrix`).

#![allow(clippy::unwrap_used, reason = "a test, as a whole")]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand_core::OsRng;

use super::account::Account;
use super::contacts;
use super::engine::{Consequences, Engine};
use super::event::{Errand, Event, Order};
use super::root::Root;
use crate::clock::Timestamp;
use crate::crypto::dh::SecretKey;
use crate::disk::journal::{Journal, JournalError};
use crate::disk::simulated::{Fault, Loss, SimulatedDisk};
use crate::disk::system::{Disk as _, Kind};
use crate::disk::watch::Hint;
use crate::envelope;
use crate::name::is_ignored;
use crate::wire::address::ServerAddress;
use crate::wire::envelope::Envelope;
use crate::wire::identity::{AccountId, Fingerprint};
use crate::wire::prekey::{PrekeyKind, SignedPrekey};
use crate::wire::profile::SignedProfile;
use crate::wire::reply::{PrekeyCount, StoredEnvelope};
use crate::wire::sealing::Tag;

/// Points of each scenario if nothing else is asked for.
const POINTS: usize = 8;

/// Rounds after which two clients that have nothing to wait for must be done.
const ROUNDS_MAX: usize = 400;

const ROOT: &str = "/home/root";

/// The server of both.
#[derive(Clone, Default)]
struct Server {
    mailboxes: HashMap<AccountId, BTreeMap<u64, Envelope>>,
    seen: HashSet<[u8; 32]>,
    one_time: HashMap<AccountId, VecDeque<SignedPrekey>>,
    last_resort: HashMap<AccountId, SignedPrekey>,
    last_id: u64,
    /// Each place in a chain has a tag of its own: two envelopes with one tag were sealed under one chain key.
    sealed: HashMap<Tag, [u8; 32]>,
}

impl Server {
    fn deliver(&mut self, account: AccountId, envelope: &Envelope) {
        let hash = envelope.sha256();
        let first = *self.sealed.entry(envelope::tag(envelope)).or_insert(hash);
        assert_eq!(first, hash, "two envelopes were sealed in one place of a chain");
        if self.seen.insert(hash) {
            self.last_id += 1;
            self.mailboxes.entry(account).or_default().insert(self.last_id, envelope.clone());
        }
    }

    fn upload(&mut self, account: AccountId, prekeys: Vec<SignedPrekey>) {
        for prekey in prekeys {
            match prekey.kind {
                PrekeyKind::OneTime => self.one_time.entry(account).or_default().push_back(prekey),
                PrekeyKind::LastResort => drop(self.last_resort.insert(account, prekey)),
            }
        }
    }

    fn take_prekey(&mut self, account: AccountId) -> Option<SignedPrekey> {
        let one_time = self.one_time.get_mut(&account).and_then(VecDeque::pop_front);
        one_time.or_else(|| self.last_resort.get(&account).cloned())
    }

    fn count(&self, account: AccountId) -> PrekeyCount {
        let one_time = self.one_time.get(&account).map_or(0, VecDeque::len);
        let last_resort_expires = self.last_resort.get(&account).map(|prekey| prekey.expires);
        PrekeyCount { one_time: u32::try_from(one_time).unwrap(), last_resort_expires }
    }
}

/// A client that runs.
struct Running {
    journal: Journal,
    engine: Engine,
    events: VecDeque<Event>,
    pushed: HashSet<u64>,
}

/// One of the two, running or not.
struct Machine {
    name: &'static str,
    disk: SimulatedDisk,
    root: Root,
    profile: SignedProfile,
    running: Option<Running>,
}

impl Machine {
    fn new(name: &'static str) -> Self {
        let disk = SimulatedDisk::with_directory(Path::new(ROOT));
        let root = Root::on(Arc::new(disk.clone()), ROOT);
        let server = ServerAddress::new("localhost", 1, SecretKey::random(&mut OsRng).public()).unwrap();
        let account = Account::create(&root, name, server, "", &mut OsRng).unwrap();
        Self { name, disk, root, profile: account.profile, running: None }
    }

    /// Of the same content, not running.
    fn copy(&self) -> Self {
        let disk = self.disk.copy();
        let root = Root::on(Arc::new(disk.clone()), ROOT);
        Self { name: self.name, disk, root, profile: self.profile.clone(), running: None }
    }

    fn account(&self) -> AccountId {
        self.profile.profile().account
    }

    fn fingerprint(&self) -> Fingerprint {
        self.profile.identity().fingerprint()
    }

    /// Starts it. False if the power went off meanwhile.
    fn start(&mut self, server: &Server, now: Timestamp) -> bool {
        let opened = Journal::open(Arc::new(self.disk.clone()), self.root.path());
        let loaded = opened.map_err(|error| error.to_string()).and_then(|(journal, _)| {
            let engine = Engine::load(self.root.clone()).map_err(|error| error.to_string())?;
            Ok((journal, engine))
        });
        let (journal, engine) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                assert!(self.disk.has_fault(), "{} does not start: {error}", self.name);
                return false;
            }
        };
        let count = Event::Prekeys { count: server.count(self.account()), after_upload: false };
        let events = [Event::Hint(Hint::Rescan), Event::Connected, count].into();
        let mut running = Running { journal, engine, events, pushed: HashSet::new() };
        running.engine.handle(running.events.pop_front().unwrap(), now).ok();
        let found = running.engine.take_directories();
        running.engine.restore_outbox(&found);
        self.running = Some(running);
        true
    }

    /// Everything that is to be done now. True if there was anything; the machine may not run any more afterwards.
    fn step(&mut self, server: &mut Server, peers: &HashMap<Fingerprint, AccountId>, now: Timestamp) -> bool {
        let account = self.account();
        let Some(running) = &mut self.running else { return false };
        for (id, envelope) in server.mailboxes.get(&account).into_iter().flatten() {
            if running.pushed.insert(*id) {
                let stored = StoredEnvelope { id: *id, envelope: envelope.clone() };
                running.events.push_back(Event::Envelope(stored));
            }
        }
        let mut busy = !running.events.is_empty();
        for event in running.events.drain(..).chain([Event::Hint(Hint::Rescan), Event::Tick]) {
            // What fails here fails because the power is off.
            let _ = running.engine.handle(event, now);
        }
        while running.engine.work_outbox(now) {}
        running.engine.take_directories();
        let mut batch: Vec<_> = running.engine.transaction().into_iter().collect();
        busy |= !batch.is_empty();
        if let Err(error) = running.journal.record(&mut batch) {
            return self.recover(&error, server, now);
        }
        if self.disk.has_crashed() {
            self.running = None;
            return true;
        }
        let Consequences { deletions, uploads, orders, .. } = running.engine.recorded(now);
        if let Some(mailbox) = server.mailboxes.get_mut(&account) {
            deletions.iter().for_each(|id| drop(mailbox.remove(id)));
        }
        if !uploads.is_empty() {
            server.upload(account, uploads);
            let count = server.count(account);
            running.events.push_back(Event::Prekeys { count, after_upload: true });
        }
        for Order { recipient, errand } in orders {
            let recipient = recipient.identity().fingerprint();
            let event = match errand {
                Errand::Deliver { sequence, envelope, .. } => {
                    server.deliver(peers[&recipient], &envelope);
                    Event::Accepted { recipient, sequence }
                }
                Errand::TakePrekey => match server.take_prekey(peers[&recipient]) {
                    Some(prekey) => Event::Prekey { recipient, prekey },
                    None => Event::NoPrekey { recipient, reason: "none left".into() },
                },
                Errand::NewProfile => continue,
            };
            running.events.push_back(event);
        }
        if let Err(error) = running.journal.apply() {
            return self.recover(&error, server, now);
        }
        running.engine.applied();
        busy || !running.events.is_empty()
    }

    /// As the daemon does after a sync that failed: all state anew from the disk. With the power off it ends.
    fn recover(&mut self, error: &JournalError, server: &Server, now: Timestamp) -> bool {
        self.running = None;
        if !self.disk.has_crashed() {
            assert!(error.is_temporary(), "{error}");
            self.start(server, now);
        }
        true
    }

    fn checkpoint(&mut self, server: &Server, now: Timestamp) {
        let Some(running) = &mut self.running else { return };
        if running.journal.checkpoint().is_err() {
            self.running = None;
            if !self.disk.has_crashed() {
                self.start(server, now);
            }
        }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Files below a directory, hidden ones left out, with their content.
    fn files(&self, directory: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for entry in self.disk.entries(&self.path(directory)).unwrap() {
            let name = entry.name.to_str().unwrap().to_owned();
            if name.starts_with('.') {
                continue;
            }
            let path = format!("{directory}/{name}");
            match entry.kind {
                Kind::Directory => found.extend(self.files(&path)),
                _ => {
                    let content = self.disk.read_file(&self.path(&path));
                    found.push((path, String::from_utf8_lossy(&content).into_owned()));
                }
            }
        }
        found
    }

    fn messages(&self) -> Vec<String> {
        let files = self.files("conversations").into_iter().filter(|(path, _)| !path.ends_with("metadata.toml"));
        let mut messages: Vec<String> = files.map(|(_, content)| content).collect();
        messages.sort();
        messages
    }

    fn outbox(&self) -> Vec<(String, String)> {
        let is_message = |path: &str| !is_ignored(Path::new(path).file_name().unwrap());
        self.files("outbox").into_iter().filter(|(path, _)| is_message(path)).collect()
    }
}

/// What happens in a scenario.
#[derive(Clone, Copy, Debug)]
enum Act {
    Start(usize),
    /// A file appears in an outbox, whole; on the disk for certain, or in memory only.
    Drop {
        from: usize,
        name: &'static str,
        content: &'static str,
        synced: bool,
    },
    /// Until nothing is to be done.
    Run,
    Checkpoint(usize),
    Kill(usize),
}

use Act::{Checkpoint, Drop, Kill, Run, Start};

const fn drop_by(from: usize, name: &'static str, content: &'static str) -> Act {
    Drop { from, name, content, synced: true }
}

/// Both, their server, and what was dropped so far.
struct World {
    machines: [Machine; 2],
    server: Server,
    now: u64,
    /// By whom, what, and whether it was on the disk when it was dropped.
    dropped: Vec<(usize, &'static str, bool)>,
}

impl World {
    fn new() -> Self {
        let machines = ["alice", "bob"].map(Machine::new);
        for (one, other) in [(0, 1), (1, 0)] {
            let card = format!("{}\n", machines[other].profile);
            let file = format!("contacts/{}{}", machines[other].name, contacts::SUFFIX);
            machines[one].disk.write_file(&machines[one].path(&file), card.as_bytes(), true);
            let outbox = machines[one].path("outbox").join(machines[other].name);
            machines[one].disk.make_directory(&outbox).unwrap();
            machines[one].disk.open_directory(outbox.parent().unwrap()).unwrap().sync().unwrap();
        }
        Self { machines, server: Server::default(), now: 1_790_000_000_000_000, dropped: Vec::new() }
    }

    /// Of the same content; nobody runs.
    fn copy(&self) -> Self {
        let machines = [0, 1].map(|place| self.machines[place].copy());
        Self { machines, server: self.server.clone(), now: self.now, dropped: self.dropped.clone() }
    }

    fn time(&mut self) -> Timestamp {
        self.now += 1_000_000;
        Timestamp::from_micros(self.now)
    }

    fn act(&mut self, act: Act) {
        let now = self.time();
        match act {
            Start(who) => {
                // The daemon tries again each second what a sync that failed kept it from.
                let _ = self.machines[who].start(&self.server, now) || self.machines[who].start(&self.server, now);
            }
            Drop { from, name, content, synced } => {
                let machine = &self.machines[from];
                if machine.disk.has_crashed() {
                    return;
                }
                let path = machine.path("outbox").join(self.machines[1 - from].name).join(name);
                machine.disk.write_file(&path, content.as_bytes(), synced);
                self.dropped.push((from, content, synced));
            }
            Run => self.run(),
            Checkpoint(who) => self.machines[who].checkpoint(&self.server, now),
            // The process dies, the machine does not.
            Kill(who) => self.machines[who].running = None,
        }
    }

    fn run(&mut self) {
        let peers = self.machines.iter().map(|machine| (machine.fingerprint(), machine.account())).collect();
        for _ in 0..ROUNDS_MAX {
            let now = self.time();
            let busy = [0, 1].map(|place| self.machines[place].step(&mut self.server, &peers, now));
            if busy == [false, false] && self.machines.iter().all(|machine| !machine.waits()) {
                return;
            }
        }
        panic!("never quiet: {:?}", self.machines.each_ref().map(|machine| machine.outbox()));
    }

    /// A base for scenarios: everybody stopped, everything on disk.
    fn rest(mut self, acts: &[Act]) -> Self {
        acts.iter().for_each(|act| self.act(*act));
        for place in [0, 1] {
            let now = self.time();
            self.machines[place].checkpoint(&self.server, now);
            self.machines[place].running = None;
        }
        self
    }

    /// After whatever happened: both start again, go on, and must agree.
    fn finish(mut self, told: &str) {
        for place in [0, 1] {
            let now = self.time();
            self.machines[place].running = None;
            assert!(self.machines[place].start(&self.server, now));
        }
        self.run();
        for act in [drop_by(0, "z", "the last of alice"), drop_by(1, "z", "the last of bob"), Run] {
            self.act(act);
        }
        for place in [0, 1] {
            let now = self.time();
            self.machines[place].checkpoint(&self.server, now);
        }
        self.compare(told);
    }

    /// The oracle.
    fn compare(&self, told: &str) {
        let [mut alice, bob] = self.machines.each_ref().map(Machine::messages);
        assert_eq!(alice, bob, "{told}: what one has and the other has not");
        let mut outboxes = self.machines.each_ref().map(Machine::outbox);
        let mut expected: Vec<&str> = Vec::new();
        for (from, content, synced) in &self.dropped {
            if *synced || alice.iter().any(|message| message == content) {
                expected.push(content);
                continue;
            }
            // What nobody synced and was not recorded may be lost, and its remains are a file like any other.
            let is_remains = |text: &str| {
                let lost = |(there, ours): (u8, u8)| there == ours || there == 0;
                text.len() <= content.len() && text.bytes().zip(content.bytes()).all(lost)
            };
            outboxes[*from].retain(|(_, text)| !is_remains(text));
            if let Some(place) = alice.iter().position(|message| is_remains(message)) {
                alice.remove(place);
            }
        }
        expected.sort_unstable();
        assert_eq!(alice, expected, "{told}: what was sent and what came");
        assert!(outboxes.iter().all(Vec::is_empty), "{told}: {outboxes:?}");
        for machine in &self.machines {
            for empty in ["alerts", "requests", "journal/spool", "journal/unopened", "tmp"] {
                let left = machine.files(empty);
                assert!(left.is_empty(), "{told}: {} has left {left:?}", machine.name);
            }
        }
        assert!(self.server.mailboxes.values().all(BTreeMap::is_empty), "{told}: something was not fetched");
    }
}

impl Machine {
    /// Whether something is under way that needs no event but time.
    fn waits(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.engine.has_queue())
    }
}

/// How the power fails in the short form, for the `number`th point.
fn losses(number: u64, all: bool) -> Vec<Loss> {
    let mut losses = vec![Loss::Process, Loss::Everything, Loss::Nothing, Loss::Content, Loss::Names];
    losses.extend((0..if all { 8 } else { 2 }).map(|more| Loss::Some(number * 64 + more)));
    losses
}

/// How many points each scenario tries.
fn wanted(available: u64) -> (u64, bool) {
    match std::env::var("CHATTERBOX_SIMULATED_CRASHES") {
        Ok(text) if text == "all" => (available, true),
        Ok(text) => (text.parse::<u64>().unwrap().min(available), true),
        Err(_) => (available.min(POINTS as u64), false),
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Stops `victim` before each of its operations in `acts`, in turn, and lets the power fail in every way; then lets
/// `again` happen to what is left, a second crash in which is tried likewise if it is asked for.
fn crash_everywhere(name: &str, base: &World, victim: usize, acts: &[Act]) {
    let mut world = base.copy();
    world.machines[victim].disk.expect(None);
    acts.iter().for_each(|act| world.act(*act));
    let (operations, _) = world.machines[victim].disk.counts();
    world.finish(&format!("{name}: nothing crashes"));

    let (tries, all) = wanted(operations);
    let mut covered = 0;
    for number in 0..tries {
        let point = 1 + (2 * number + 1) * operations / (2 * tries);
        let mut world = base.copy();
        world.machines[victim].disk.expect(Some(Fault::Crash(point)));
        acts.iter().for_each(|act| world.act(*act));
        if !world.machines[victim].disk.has_crashed() {
            // Random names and numbers decide about an operation or two.
            continue;
        }
        for loss in losses(number, all) {
            let after = world.copy();
            after.machines[victim].disk.restart(loss);
            after.finish(&format!("{name}, {}: {point} of {operations}, {loss:?}", ["alice", "bob"][victim]));
            covered += 1;
        }
    }
    assert!(covered > 0);
    say(&format!(
        "simulated crashes covered: {covered} at {tries} of {operations} points ({name}, {})",
        ["alice", "bob"][victim]
    ));
}

/// Crashes in the replay of what a crash left, at each of a few points of the first.
fn crash_in_replay(base: &World, victim: usize, acts: &[Act]) {
    let mut world = base.copy();
    world.machines[victim].disk.expect(None);
    acts.iter().for_each(|act| world.act(*act));
    let (operations, _) = world.machines[victim].disk.counts();
    let (firsts, all) = wanted(operations);
    let (mut covered, mut points) = (0, 0);
    for first in 0..firsts {
        let mut world = base.copy();
        world.machines[victim].disk.expect(Some(Fault::Crash(1 + (2 * first + 1) * operations / (2 * firsts))));
        acts.iter().for_each(|act| world.act(*act));
        for (turn, loss) in losses(first, false).into_iter().enumerate() {
            let left = world.copy();
            left.machines[victim].disk.restart(loss);
            let mut trial = left.copy();
            trial.machines[victim].disk.expect(None);
            trial.act(Start(victim));
            let (replay, _) = trial.machines[victim].disk.counts();
            let tries = if all { replay.min(8) } else { 1 };
            points += replay;
            for second in 0..tries {
                let turn = turn as u64;
                let point = 1 + (first * 7 + turn * 3 + second * replay / tries) % replay;
                let mut again = left.copy();
                again.machines[victim].disk.expect(Some(Fault::Crash(point)));
                again.act(Start(victim));
                for loss in [loss, Loss::Some(first * 64 + turn * 8 + second)] {
                    let after = again.copy();
                    after.machines[victim].disk.restart(loss);
                    after.finish(&format!("replay: {first} of {firsts}, then {point} of {replay}, {loss:?}"));
                    covered += 1;
                }
            }
        }
    }
    say(&format!("simulated crashes covered: {covered} at {points} points (replay, {})", ["alice", "bob"][victim]));
}

/// Every sync of the victim fails in turn, once, and the next succeeds without having written anything; later the power
/// fails as well.
fn fail_every_sync(name: &str, base: &World, victim: usize, acts: &[Act]) {
    let mut world = base.copy();
    world.machines[victim].disk.expect(None);
    acts.iter().for_each(|act| world.act(*act));
    let (_, syncs) = world.machines[victim].disk.counts();
    let mut covered = 0;
    for number in 1..=syncs {
        let mut world = base.copy();
        world.machines[victim].disk.expect(Some(Fault::FailedSync(number)));
        acts.iter().for_each(|act| world.act(*act));
        for loss in [Loss::Process, Loss::Everything, Loss::Nothing, Loss::Some(number)] {
            let after = world.copy();
            after.machines[victim].disk.restart(loss);
            after.finish(&format!("{name}: sync {number} of {syncs} fails, then {loss:?}"));
            covered += 1;
        }
    }
    say(&format!("failed syncs covered: {covered} at {syncs} syncs ({name}, {})", ["alice", "bob"][victim]));
}

/// Two who have uploaded their prekeys.
fn met() -> World {
    World::new().rest(&[Start(0), Start(1), Run])
}

/// Two who have written to each other.
fn standing() -> World {
    met().rest(&[Start(0), Start(1), drop_by(0, "a", "hello"), Run, drop_by(1, "b", "hello to you"), Run])
}

const UPLOAD: &[Act] = &[Start(0), Start(1), Run];
const FIRST: &[Act] = &[Start(0), Start(1), drop_by(0, "1", "the first"), Run, drop_by(1, "1", "an answer"), Run];
const STANDING: &[Act] = &[
    Start(0),
    Start(1),
    drop_by(0, "1", "one"),
    drop_by(0, "2.txt", "two"),
    drop_by(1, "1", "uno"),
    Run,
    Drop { from: 0, name: "3", content: "three, which nobody synced", synced: false },
    Drop { from: 1, name: "3", content: "tre, which nobody synced", synced: false },
    Run,
];
const CHECKPOINTS: &[Act] = &[
    Start(0),
    Start(1),
    drop_by(0, "1", "one"),
    Run,
    Checkpoint(0),
    Checkpoint(1),
    drop_by(0, "2", "two"),
    drop_by(1, "2", "dos"),
    Run,
    Checkpoint(1),
    Checkpoint(0),
    drop_by(0, "3", "three"),
    Run,
];
const RESTARTS: &[Act] = &[
    Start(0),
    Start(1),
    drop_by(0, "1", "one"),
    drop_by(1, "1", "uno"),
    Run,
    Kill(0),
    Kill(1),
    drop_by(0, "2", "two"),
    Start(1),
    Start(0),
    Run,
];

#[test]
fn a_crash_in_the_upload_of_prekeys_loses_and_doubles_nothing() {
    crash_everywhere("prekey upload", &World::new(), 0, UPLOAD);
}

#[test]
fn a_crash_in_the_first_exchange_loses_and_doubles_nothing() {
    let base = met();
    crash_everywhere("first message", &base, 0, FIRST);
    crash_everywhere("first message", &base, 1, FIRST);
}

#[test]
fn a_crash_in_a_standing_session_loses_and_doubles_nothing() {
    let base = standing();
    crash_everywhere("standing session", &base, 0, STANDING);
    crash_everywhere("standing session", &base, 1, STANDING);
}

#[test]
fn a_crash_around_a_checkpoint_loses_and_doubles_nothing() {
    let base = standing();
    crash_everywhere("checkpoint", &base, 0, CHECKPOINTS);
    crash_everywhere("checkpoint", &base, 1, CHECKPOINTS);
}

#[test]
fn a_crash_after_a_kill_loses_and_doubles_nothing() {
    let base = standing();
    crash_everywhere("restart", &base, 0, RESTARTS);
    crash_everywhere("restart", &base, 1, RESTARTS);
}

#[test]
fn a_crash_in_the_replay_of_a_crash_loses_and_doubles_nothing() {
    let base = standing();
    crash_in_replay(&base, 0, STANDING);
    crash_in_replay(&base, 1, STANDING);
}

#[test]
fn a_sync_that_fails_and_then_seems_to_succeed_loses_and_doubles_nothing() {
    let base = standing();
    fail_every_sync("standing session", &base, 0, STANDING);
    fail_every_sync("checkpoint", &base, 1, CHECKPOINTS);
}
