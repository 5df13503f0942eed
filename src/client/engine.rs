//! The engine: all of the client's state, changed by one event at a time. It knows no sockets and no threads: events
//! go in, one transaction and what may follow it come out.
//!
//! Its caller records the transaction first and lets the rest happen then: nothing leaves this machine, and nothing is
//! deleted at the server, before the state that explains it is on disk (design, section 9, rule 1).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::PathBuf;

use rand_core::OsRng;

use super::account::Account;
use super::acknowledging::Acknowledging;
use super::alerts;
use super::arriving::Arriving;
use super::blocked;
use super::cancelling::Uncancelled;
use super::contacts::Contacts;
use super::conversation::Conversations;
use super::copying::Copying;
use super::counter::Counter;
use super::daily::Daily;
use super::delivery::Delivery;
use super::dropboxes::Dropboxes;
use super::dropped::Dropped;
use super::event::Event;
use super::giving_up::GivingUp;
use super::hooks::Hooks;
use super::known::Known;
use super::large::Large;
use super::letting_go::LettingGo;
use super::missing;
use super::opening::Asked;
use super::outbox::Outbox;
use super::parts_left::PartsLeft;
use super::pending::Pending;
use super::people::People;
use super::policy::Policy;
use super::prekeys::Prekeys;
use super::presence::Presence;
use super::received::Received;
use super::recovery::Recovery;
use super::root::{self, Root};
use super::sent::Sent;
use super::sessions::Sessions;
use super::spool::Spool;
use super::state::StateError;
use super::steady::Steady;
use super::sweeping::Sweeping;
use super::tidying::Tidying;
use super::transcripts::Transcripts;
use super::unconfirmed::Unconfirmed;
use super::unopened::Unopened;
use crate::clock::Timestamp;
use crate::disk::watch::Hint;
use crate::limits::{BATCH_BYTES_MAX, PARTS_BATCH_BYTES};
use crate::wire::identity::{ConversationId, Fingerprint};
use crate::wire::journal::{DirectoryIdentity, FileIdentity};
use crate::wire::prekey::SignedPrekey;
use crate::wire::reply::PrekeyCount;

/// What a `.delivery/` file has, more or less: at their longest, with twenty recipients, four times as much.
const DELIVERY_BYTES: usize = 2_048;

/// All of the client's state.
#[derive(Debug)]
pub struct Engine {
    pub(super) root: Root,
    pub(super) policy: Policy,
    pub(super) account: Account,
    pub(super) people: People,
    pub(super) known: Known,
    pub(super) sessions: Sessions,
    pub(super) prekeys: Prekeys,
    pub(super) conversations: Conversations,
    pub(super) transcripts: Transcripts,
    pub(super) asked_again: missing::Asked,
    pub(super) spool: Spool,
    pub(super) received: Received,
    pub(super) arriving: Arriving,
    pub(super) parts_left: PartsLeft,
    /// Contents that were cancelled of which nothing was here, by author.
    pub(super) unbegun: Daily,
    /// Notes of what will not come, by who asked.
    pub(super) withdrawn_notes: Daily,
    pub(super) unopened: Unopened,
    pub(super) counter: Counter,
    pub(super) sent: Sent,
    pub(super) recovery: Recovery,
    pub(super) large: Large,
    pub(super) copying: Copying,
    pub(super) sweeping: Sweeping,
    pub(super) acknowledging: Acknowledging,
    pub(super) letting_go: LettingGo,
    /// A person may have asked for messages to be taken back.
    pub(super) cancels: bool,
    pub(super) uncancelled: Uncancelled,
    pub(super) giving_up: GivingUp,
    pub(super) unconfirmed: Unconfirmed,
    /// When a recipient's server took something last, in this run.
    pub(super) served: HashMap<Fingerprint, Timestamp>,
    pub(super) steady: Steady,
    pub(super) outbox: Outbox,
    pub(super) dropboxes: Dropboxes,
    pub(super) dropped: Dropped,
    pub(super) pending: Pending,
    pub(super) rng: OsRng,
    /// What outbox directories mean, as far as this batch has looked, and where they stood then. Not by their paths: one
    /// that is renamed within a batch has no `.id` yet that would tie it to the conversation it has opened.
    pub(super) meanings: HashMap<DirectoryIdentity, (PathBuf, ConversationId)>,
    /// `.delivery/` files that this batch changes.
    pub(super) deliveries: BTreeMap<PathBuf, Delivery>,
    /// The time of the last message that we wrote.
    pub(super) last_time: Timestamp,
    /// Something was added that may open what did not open before.
    pub(super) try_unopened: bool,
    /// `.delivery/` files of requests that this batch has moved.
    pub(super) moved: HashSet<PathBuf>,
    /// Those that are still there, because the disk did not let them be removed.
    pub(super) unremoved: HashSet<PathBuf>,
    /// Requests that messages cannot be moved out of.
    pub(super) holding: BTreeSet<PathBuf>,
    /// Outbox files that are sent, and have not left their names yet because their directory does not let them.
    pub(super) untaken: HashSet<FileIdentity>,
    /// Envelopes to delete at our server once this batch is recorded.
    pub(super) deletions: Vec<u64>,
    pub(super) uploads: Vec<SignedPrekey>,
    /// Prekeys are on their way to our server, or about to be.
    pub(super) uploading: bool,
    /// Openings since our server last counted our prekeys.
    pub(super) used_since_count: u32,
    /// It is to count them now.
    pub(super) wants_count: bool,
    pub(super) presence: Presence,
    /// Envelopes were left at our server for want of room.
    pub(super) left: usize,
    pub(super) contacts_changed: bool,
    pub(super) profiles_changed: bool,
    /// Requests that did not fit the last batch.
    pub(super) more_requests: bool,
    /// Recipients with more waiting messages than one batch seals.
    pub(super) unsealed: BTreeSet<Fingerprint>,
    /// What waited for the counter at the start of this run has been released.
    pub(super) has_sealed_before: bool,
    /// Whose prekeys we have asked for.
    pub(super) asked: HashMap<Fingerprint, Asked>,
    pub(super) directories: Vec<PathBuf>,
    /// Conversations whose outbox directories were gone at the start, and are still to be made anew.
    pub(super) unrestored: Vec<ConversationId>,
    /// What was left may have room now: the mailbox is to be pushed again.
    pub(super) reconnect: bool,
    pub(super) trouble: BTreeMap<Fingerprint, String>,
    pub(super) hooks: Hooks,
    pub(super) tidying: Tidying,
    /// How far Tor in this process is, if there is one.
    pub(super) tor: Option<String>,
    pub(super) connection: Result<(), String>,
    pub(super) prekeys_at_server: Option<PrekeyCount>,
}

impl Engine {
    /// Reads all state of a root whose journal was replayed.
    ///
    /// # Errors
    /// [`StateError`]: what cannot be read stops the daemon rather than being guessed.
    pub fn load(root: Root, policy: Policy) -> Result<Self, StateError> {
        let account = Account::load(&root)?;
        let contacts = Contacts::load(&root, &account.profile, &Contacts::default());
        let contacts = contacts.map_err(|source| StateError::io(&root.contacts(), source))?;
        let blocked = blocked::load(&root, &account.profile, &Contacts::default());
        let blocked = blocked.map_err(|source| StateError::io(&root.blocked(), source))?;
        let mut people = People::new(account.profile.clone(), contacts, blocked);
        let conversations = Conversations::load(root.disk(), &root.join("keys/conversations"))?;
        // The first word counts: that of conversations that a person has accepted.
        let (accepted, others): (Vec<_>, Vec<_>) = conversations.iter().partition(|record| record.accepted);
        let profiles = accepted.into_iter().chain(others).flat_map(|record| &record.profiles);
        profiles.for_each(|profile| people.introduce(profile));
        let known = Known::load(&root)?;
        known.profiles().for_each(|profile| people.renew(profile));
        let large = Large::load(root.disk(), &root.join("keys/large"))?;
        let arriving = Arriving::load(root.disk(), &root.join("keys/arriving"))?;
        let mut pending = Pending::default();
        if root.is_taken(&root::unsent_file()) {
            pending.remove(root::unsent_file());
        }
        let mut sweeping = large.strays(&root);
        arriving.set_strays_aside(&root).into_iter().for_each(|content| sweeping.add(content));
        Ok(Self {
            sessions: Sessions::load(root.disk(), &root.join("keys/sessions"))?,
            prekeys: Prekeys::load(root.disk(), &root.join(root::prekeys_file()))?,
            spool: Spool::load(root.disk(), &root.join("journal/spool"))?,
            received: Received::load(root.disk(), &root.keys())?,
            arriving,
            parts_left: PartsLeft::default(),
            unbegun: Daily::default(),
            withdrawn_notes: Daily::default(),
            unopened: Unopened::load(root.disk(), &root.join("journal/unopened"))?,
            sent: Sent::load(root.disk(), &root.keys())?,
            transcripts: Transcripts::load(root.disk(), &root.join("keys/transcripts"))?,
            recovery: Recovery::load(root.disk(), &root.keys())?,
            counter: Counter::load(root.disk(), &root.join(root::counter_file()))?,
            acknowledging: Acknowledging::load(&root)?,
            letting_go: LettingGo::default(),
            giving_up: GivingUp::default(),
            unconfirmed: Unconfirmed::default(),
            served: HashMap::new(),
            steady: Steady::default(),
            last_time: conversations.last_time(),
            asked_again: missing::Asked::default(),
            sweeping,
            large,
            copying: Copying::default(),
            cancels: true,
            uncancelled: Uncancelled::new(),
            outbox: Outbox::default(),
            dropboxes: Dropboxes::default(),
            dropped: Dropped::load(root.disk(), &root.join(root::dropped_file()))?,
            pending,
            rng: OsRng,
            meanings: HashMap::new(),
            deliveries: BTreeMap::new(),
            // A contact may have been added while no daemon ran.
            try_unopened: true,
            moved: HashSet::new(),
            unremoved: HashSet::new(),
            holding: BTreeSet::new(),
            untaken: HashSet::new(),
            deletions: Vec::new(),
            uploads: Vec::new(),
            uploading: false,
            used_since_count: 0,
            wants_count: false,
            presence: Presence::default(),
            left: 0,
            contacts_changed: false,
            profiles_changed: false,
            more_requests: false,
            unsealed: BTreeSet::new(),
            reconnect: false,
            asked: HashMap::new(),
            has_sealed_before: false,
            directories: Vec::new(),
            unrestored: Vec::new(),
            trouble: BTreeMap::new(),
            hooks: Hooks::default(),
            tidying: Tidying::default(),
            tor: None,
            connection: Err("connecting".into()),
            prekeys_at_server: None,
            policy,
            root,
            account,
            people,
            known,
            conversations,
        })
    }

    /// Handles one event.
    ///
    /// # Errors
    /// An I/O error of the root's own directories; the event can be handled again.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> io::Result<()> {
        self.counter.pass(now, self.sent.next_place());
        self.presence.pass(self.connection.is_ok(), now);
        self.steady.pass(now);
        match event {
            Event::Hint(Hint::Rescan) => self.rescan(now)?,
            Event::Hint(Hint::Path(path)) => self.look_at(&path)?,
            Event::Tick => {
                self.outbox.tick();
                self.copying.tick();
                self.look_for_unsealed(now);
                self.look_at_holding();
                alerts::raise_waiting(&self.root, &mut self.pending);
                self.look_at_dropboxes(now);
                // At most once a second: a stranger can make what is kept expensive to try.
                self.retry_unopened(now);
                self.recover(now);
                self.look_for_gaps(now);
                self.send_missing(now);
                self.look_at_hooks_when_due(now);
                self.acknowledge_due(now);
                self.send_unconfirmed(now);
                self.give_up_when_due(now);
                self.tidy(now);
                self.look_for_room(now);
                if self.connection.is_ok() {
                    self.counter.write_when_due(now);
                }
            }
            Event::Counter(record) => self.check_counter(record.as_deref(), now),
            Event::CounterWritten(number) => self.counter.answered(number, now, &mut self.rng),
            Event::Tor(text) => self.tor = Some(text),
            Event::Connected => self.connection = Ok(()),
            Event::Disconnected(reason) => {
                self.connection = Err(reason);
                self.prekeys_at_server = None;
                self.uploading = false;
                // The next connection pushes them all again, and they are counted anew.
                self.left = 0;
                self.parts_left.disconnected();
            }
            Event::Prekeys { count, after_upload } => {
                self.uploading &= !after_upload;
                if after_upload {
                    self.recovery.prekeys_replaced();
                }
                self.count_prekeys(count, false, now);
            }
            Event::PrekeysCounted(count) => self.count_prekeys(count, true, now),
            Event::Envelope(stored) => {
                self.presence.heard();
                self.receive(stored, now);
            }
            Event::Accepted { recipient, sequence } => self.accepted(&recipient, sequence, now),
            Event::Prekey { recipient, prekey } => self.take_prekey(recipient, &prekey, now),
            Event::NoPrekey { recipient, reason } => self.ask_again_later(recipient, &reason, now),
            Event::Trouble { recipient, reason } => {
                self.note_trouble(recipient, reason, now);
            }
            Event::HookEnded { hook, problem } => self.hooks.ended(hook, problem),
            Event::HookNotStarted { hook, problem } => self.hook_not_started(hook, &problem, now),
            Event::Stop => {}
        }
        Ok(())
    }

    /// Whether a batch has grown to where it should be committed before more is done.
    pub fn is_full(&self) -> bool {
        let deliveries = self.deliveries.len() * DELIVERY_BYTES;
        let state = self.sessions.dirty_bytes() + self.transcripts.dirty_bytes() + self.conversations.dirty_bytes();
        self.pending.bytes() + state + deliveries > BATCH_BYTES_MAX || self.pending.part_bytes() > PARTS_BATCH_BYTES
    }

    /// Whether more of somebody's messages waited for a session than one batch seals.
    #[cfg(test)]
    pub fn has_sealed_in_part(&self) -> bool {
        !self.unsealed.is_empty()
    }

    /// Whether messages wait for a prekey or for their server.
    #[cfg(test)]
    pub fn has_queue(&self) -> bool {
        let is_sending = self.spool.len() > 0 || self.large.iter().next().is_some();
        is_sending || !self.copying.is_idle() || !self.sweeping.is_done()
    }
}
