//! A client on a simulated disk, and the server.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand_core::OsRng;

use crate::client::account::Account;
use crate::client::commit::Consequences;
use crate::client::delivery;
use crate::client::engine::Engine;
use crate::client::event::{Errand, Event, Order};
use crate::client::policy::Policy;
use crate::client::root::Root;
use crate::client::ticket::Ticket;
use crate::clock::Timestamp;
use crate::crypto::dh::SecretKey;
use crate::disk::journal::{Journal, JournalError};
use crate::disk::simulated::SimulatedDisk;
use crate::disk::system::{Disk as _, Kind};
use crate::disk::watch::Hint;
use crate::envelope;
use crate::name::is_ignored;
use crate::net::dialer::Way;
use crate::wire::address::ServerAddress;
use crate::wire::envelope::Envelope;
use crate::wire::identity::{AccountId, Fingerprint};
use crate::wire::prekey::{PrekeyKind, SignedPrekey};
use crate::wire::profile::SignedProfile;
use crate::wire::reply::{PrekeyCount, StoredEnvelope};
use crate::wire::sealing::Tag;

const ROOT: &str = "/home/root";

/// The server of both.
#[derive(Clone, Default)]
pub(super) struct Server {
    pub(super) mailboxes: HashMap<AccountId, BTreeMap<u64, Envelope>>,
    seen: HashSet<[u8; 32]>,
    one_time: HashMap<AccountId, VecDeque<SignedPrekey>>,
    last_resort: HashMap<AccountId, SignedPrekey>,
    last_id: u64,
    /// Envelopes that open a session.
    pub(super) openings: HashSet<[u8; 32]>,
    pub(super) counters: HashMap<AccountId, Vec<u8>>,
    /// What becomes of deliveries.
    pub(super) hears: Hears,
    /// Places in a chain may be sealed twice: somebody goes on from an old state, and cannot know it.
    pub(super) allows_reuse: bool,
    /// Each place in a chain has a tag of its own: two envelopes with one tag were sealed under one chain key.
    sealed: HashMap<Tag, [u8; 32]>,
}

/// What becomes of deliveries to the server, and of its answers to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hears {
    #[default]
    Everything,
    /// They come and are kept; the answers are lost.
    AndIsNotHeard,
    /// They come and are kept, and the answers say that they are not.
    AndRefuses,
    /// They are lost.
    Nothing,
}

impl Server {
    pub(super) fn deliver(&mut self, account: AccountId, envelope: &Envelope) {
        let hash = envelope.sha256();
        let first = *self.sealed.entry(envelope::tag(envelope)).or_insert(hash);
        assert!(self.allows_reuse || first == hash, "two envelopes were sealed in one place of a chain");
        if self.seen.insert(hash) {
            self.last_id += 1;
            self.mailboxes.entry(account).or_default().insert(self.last_id, envelope.clone());
        }
    }

    pub(super) fn upload(&mut self, account: AccountId, prekeys: Vec<SignedPrekey>, replaces: bool) {
        if replaces {
            self.one_time.remove(&account);
            self.last_resort.remove(&account);
        }
        for prekey in prekeys {
            match prekey.kind {
                PrekeyKind::OneTime => self.one_time.entry(account).or_default().push_back(prekey),
                PrekeyKind::LastResort => drop(self.last_resort.insert(account, prekey)),
            }
        }
    }

    /// All that it may hand out.
    pub(super) fn prekeys(&self, account: AccountId) -> Vec<SignedPrekey> {
        let one_time = self.one_time.get(&account).into_iter().flatten();
        one_time.chain(self.last_resort.get(&account)).cloned().collect()
    }

    /// One that has not expired, as the real one does.
    pub(super) fn take_prekey(&mut self, account: AccountId, now: Timestamp) -> Option<SignedPrekey> {
        let is_good = |prekey: &SignedPrekey| prekey.expires > now.seconds();
        self.one_time.entry(account).or_default().retain(is_good);
        let one_time = self.one_time.get_mut(&account).and_then(VecDeque::pop_front);
        one_time.or_else(|| self.last_resort.get(&account).cloned())
    }

    pub(super) fn count(&self, account: AccountId) -> PrekeyCount {
        let one_time = self.one_time.get(&account).map_or(0, VecDeque::len);
        let last_resort_expires = self.last_resort.get(&account).map(|prekey| prekey.expires);
        PrekeyCount { one_time: u32::try_from(one_time).unwrap(), last_resort_expires }
    }
}

/// A client that runs.
pub(super) struct Running {
    pub(super) journal: Journal,
    pub(super) engine: Engine,
    events: VecDeque<Event>,
    pushed: HashSet<u64>,
    /// What couriers have in hand, in order.
    in_hand: Vec<(Fingerprint, u64, Envelope, Ticket)>,
}

/// One of the two, running or not.
pub(super) struct Machine {
    pub(super) name: &'static str,
    pub(super) disk: SimulatedDisk,
    pub(super) root: Root,
    pub(super) profile: SignedProfile,
    /// Whether it tells authors that their messages have come.
    pub(super) acknowledges: bool,
    /// The age at which messages are erased, if it is set.
    pub(super) expire: Option<Duration>,
    /// The servers of others take what it sends, and it hears no word of that.
    pub(super) is_unanswered: bool,
    /// How long messages are tried, if it is set.
    pub(super) retry_period: Option<Duration>,
    pub(super) running: Option<Running>,
}

impl Machine {
    pub(super) fn new(name: &'static str) -> Self {
        let disk = SimulatedDisk::with_directory(Path::new(ROOT));
        let root = Root::on(Arc::new(disk.clone()), ROOT);
        let server = ServerAddress::new("localhost", 1, SecretKey::random(&mut OsRng).public()).unwrap();
        let account = Account::create(&root, name, server, "", &mut OsRng).unwrap();
        Self {
            name,
            disk,
            root,
            profile: account.profile,
            acknowledges: true,
            expire: None,
            is_unanswered: false,
            retry_period: None,
            running: None,
        }
    }

    /// Of the same content, not running.
    pub(super) fn copy(&self) -> Self {
        let disk = self.disk.copy();
        let root = Root::on(Arc::new(disk.clone()), ROOT);
        let profile = self.profile.clone();
        let Self { name, acknowledges, expire, is_unanswered, retry_period, .. } = *self;
        Self { name, disk, root, profile, acknowledges, expire, is_unanswered, retry_period, running: None }
    }

    pub(super) fn account(&self) -> AccountId {
        self.profile.profile().account
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        self.profile.identity().fingerprint()
    }

    /// Starts it. False if the power went off meanwhile.
    pub(super) fn start(&mut self, server: &Server, now: Timestamp) -> bool {
        let started = self.start_unheard(now);
        self.hear(server, started);
        started
    }

    /// What its home server says first.
    fn hear(&mut self, server: &Server, started: bool) {
        if let Some(running) = self.running.as_mut().filter(|_| started) {
            let account = self.profile.profile().account;
            let count = Event::Prekeys { count: server.count(account), after_upload: false };
            let counter = Event::Counter(server.counters.get(&account).cloned());
            running.events.extend([counter, Event::Connected, count]);
        }
    }

    /// Starts it without its home server; the servers of others answer.
    pub(super) fn start_unheard(&mut self, now: Timestamp) -> bool {
        self.open(now, true)
    }

    fn open(&mut self, now: Timestamp, is_start: bool) -> bool {
        let opened = Journal::open(Arc::new(self.disk.clone()), self.root.path());
        let loaded = opened.map_err(|error| error.to_string()).and_then(|(journal, _)| {
            let policy = Policy::by_default(&Way::Direct);
            let retry_period = self.retry_period.unwrap_or(policy.retry_period);
            let policy = Policy { acknowledge: self.acknowledges, expire: self.expire, retry_period, ..policy };
            let mut engine = Engine::load(self.root.clone(), policy).map_err(|error| error.to_string())?;
            if is_start {
                engine.trust_the_stop().map_err(|error| error.to_string())?;
            }
            Ok((journal, engine))
        });
        let (journal, engine) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                assert!(self.disk.has_fault(), "{} does not start: {error}", self.name);
                return false;
            }
        };
        let mut running =
            Running { journal, engine, events: VecDeque::new(), pushed: HashSet::new(), in_hand: Vec::new() };
        running.engine.handle(Event::Hint(Hint::Rescan), now).ok();
        let found = running.engine.take_directories();
        running.engine.restore_outbox(&found);
        self.running = Some(running);
        true
    }

    /// Everything that is to be done now. True if there was anything; the machine may not run any more afterwards.
    pub(super) fn step(
        &mut self,
        server: &mut Server,
        peers: &HashMap<Fingerprint, AccountId>,
        now: Timestamp,
    ) -> bool {
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
        // A batch at a time, each with a commit of its own, as the daemon does.
        busy |= running.engine.work_outbox(now);
        busy |= running.engine.work_arriving(now);
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
        let Consequences { deletions, uploads, replaces, counter, count, orders, .. } = running.engine.recorded(now);
        if let Some(mailbox) = server.mailboxes.get_mut(&account) {
            deletions.iter().for_each(|id| drop(mailbox.remove(id)));
        }
        if !uploads.is_empty() {
            server.upload(account, uploads, replaces);
            let count = server.count(account);
            running.events.push_back(Event::Prekeys { count, after_upload: true });
        }
        if let Some((number, record)) = counter {
            server.counters.insert(account, record);
            running.events.push_back(Event::CounterWritten(number));
        }
        if count {
            running.events.push_back(Event::PrekeysCounted(server.count(account)));
        }
        for Order { recipient, errand, .. } in orders {
            let recipient = recipient.identity().fingerprint();
            let event = match errand {
                Errand::Deliver { sequence, envelope, alone, ticket } => {
                    if alone {
                        server.openings.insert(envelope.sha256());
                    }
                    running.in_hand.push((recipient, sequence, envelope, ticket));
                    continue;
                }
                Errand::TakePrekey => match server.take_prekey(peers[&recipient], now) {
                    Some(prekey) => Event::Prekey { recipient, prekey },
                    None => Event::NoPrekey { recipient, reason: "none left".into() },
                },
                Errand::LetGo { places, .. } => {
                    running.in_hand.retain(|(of, sequence, ..)| *of != recipient || !places.contains(sequence));
                    continue;
                }
                Errand::NewProfile => continue,
            };
            running.events.push_back(event);
        }
        for (recipient, sequence, envelope, ticket) in std::mem::take(&mut running.in_hand) {
            if server.hears != Hears::Nothing && !ticket.claim() {
                continue;
            }
            if server.hears != Hears::Nothing {
                server.deliver(peers[&recipient], &envelope);
            }
            if self.is_unanswered {
                continue;
            }
            if server.hears == Hears::Everything {
                running.events.push_back(Event::Accepted { recipient, sequence });
                continue;
            }
            if server.hears == Hears::AndRefuses {
                ticket.refused();
            }
            running.in_hand.push((recipient, sequence, envelope, ticket));
        }
        if let Err(error) = running.journal.apply() {
            return self.recover(&error, server, now);
        }
        running.engine.applied();
        busy || !running.events.is_empty() || running.engine.has_arrived()
    }

    /// As the daemon does after a sync that failed: all state anew from the disk. With the power off it ends.
    pub(super) fn recover(&mut self, error: &JournalError, server: &Server, now: Timestamp) -> bool {
        self.running = None;
        if !self.disk.has_crashed() {
            assert!(error.is_temporary(), "{error}");
            self.open_anew(server, now);
        }
        true
    }

    /// All state anew from the disk, in the middle of a run.
    pub(super) fn open_anew(&mut self, server: &Server, now: Timestamp) {
        let opened = self.open(now, false);
        self.hear(server, opened);
    }

    /// It is asked to stop, and does so as the daemon does.
    pub(super) fn stop(&mut self, now: Timestamp) {
        let Some(mut running) = self.running.take() else { return };
        running.engine.stop_sending();
        let mut batch: Vec<_> = running.engine.transaction().into_iter().collect();
        if running.journal.record(&mut batch).is_err() {
            return;
        }
        // Nobody carries these out any more.
        let _ = running.engine.recorded(now);
        if running.journal.apply().is_ok() {
            // The next start finishes it otherwise.
            let _ = running.journal.checkpoint();
        }
    }

    pub(super) fn checkpoint(&mut self, server: &Server, now: Timestamp) {
        let Some(running) = &mut self.running else { return };
        if running.journal.checkpoint().is_err() {
            self.running = None;
            if !self.disk.has_crashed() {
                self.start(server, now);
            }
        }
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Files below a directory, hidden ones left out, with their content.
    pub(super) fn files(&self, directory: &str) -> Vec<(String, String)> {
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

    /// Every file below a directory that is to go does, hidden ones too.
    pub(super) fn delete_all(&self, directory: &str, goes: &dyn Fn(&str) -> bool) {
        for entry in self.disk.entries(&self.path(directory)).unwrap() {
            let name = entry.name.to_str().unwrap();
            let path = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
            match entry.kind {
                Kind::Directory => self.delete_all(&path, goes),
                _ if goes(&path) => self.delete(&self.path(&path)),
                _ => {}
            }
        }
    }

    /// Of one that runs.
    pub(super) fn engine(&mut self) -> &mut Engine {
        &mut self.running.as_mut().unwrap().engine
    }

    /// A file goes, and its name with it.
    pub(super) fn delete(&self, path: &Path) {
        self.disk.unlink(path).unwrap();
        self.disk.open_directory(path.parent().unwrap()).unwrap().sync().unwrap();
    }

    /// All that `.delivery/` says of messages of conversations.
    pub(super) fn deliveries(&self) -> String {
        let mut text = String::new();
        for conversation in self.disk.entries(&self.path("conversations")).unwrap() {
            let place = self.path("conversations").join(conversation.name).join(delivery::DIRECTORY);
            for entry in self.disk.entries(&place).unwrap() {
                text += &String::from_utf8(self.disk.read_file(&place.join(entry.name))).unwrap();
            }
        }
        text
    }

    /// Every recipient has acknowledged every message.
    pub(super) fn check_delivered(&self, told: &str) {
        let deliveries = self.deliveries();
        let mut lines = deliveries.lines().filter(|line| line.starts_with("to: "));
        let undelivered = lines.find(|line| line.split(' ').nth(2) != Some("delivered"));
        assert_eq!(undelivered, None, "{told}: of {}", self.name);
    }

    pub(super) fn messages(&self) -> Vec<String> {
        let files = self.files("conversations").into_iter().filter(|(path, _)| !path.ends_with("metadata.toml"));
        let mut messages: Vec<String> = files.map(|(_, content)| content).collect();
        messages.sort();
        messages
    }

    pub(super) fn outbox(&self) -> Vec<(String, String)> {
        let is_message = |path: &str| !is_ignored(Path::new(path).file_name().unwrap());
        self.files("outbox").into_iter().filter(|(path, _)| is_message(path)).collect()
    }
}

impl Machine {
    /// Of whom something is missing here.
    pub(super) fn lacks(&self) -> Vec<Fingerprint> {
        let engine = self.running.as_ref().map(|running| &running.engine);
        engine.map_or_else(Vec::new, |engine| engine.transcripts.open().into_iter().map(|(_, author)| author).collect())
    }

    /// Whether something is missing here that will be asked for.
    pub(super) fn will_ask(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.engine.will_ask())
    }

    /// What `.gaps` says in all conversations.
    pub(super) fn gaps(&self) -> String {
        let conversations = self.disk.entries(&self.path("conversations")).unwrap();
        let paths = conversations.into_iter().map(|entry| self.path("conversations").join(entry.name).join(".gaps"));
        let there = paths.filter(|path| self.disk.stat(path).is_ok());
        there.map(|path| String::from_utf8(self.disk.read_file(&path)).unwrap()).collect()
    }

    /// Whether something is under way that needs no event but time.
    pub(super) fn waits(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.engine.has_queue() || running.engine.is_recovering())
    }
}
