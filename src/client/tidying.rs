//! Looking through conversations for what is to go: messages that have reached the age at which they are erased, and what
//! `.delivery/` says of messages that a person has deleted (docs/filesystem.md, "What goes, and when").
//!
//! A few directories are looked at each second, round and round. A look is two questions to the kernel, for the times at which
//! the directory and its `settings.toml` last changed, unless one of them is new or a message has come of age. So a person's
//! `rm` needs no watch, and a thousand conversations in which nothing happens cost nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::alerts;
use super::conversation;
use super::conversation_settings;
use super::delivery::{self, Delivery, State};
use super::engine::Engine;
use super::places;
use crate::clock::Timestamp;
use crate::disk::system::{Kind, Stat};
use crate::disk::{atomic, open};
use crate::limits::{
    CLOCK_DOUBT_LONG_MS, ERASE_BATCH_BYTES, ERASE_BATCH_MAX, SENT_LIFETIME_S, TIDY_AGAIN_S, TIDY_INTERVAL_S,
    TIDY_LOOKS_MAX, TIDY_SETTLED_MS,
};
use crate::wire::identity::ConversationId;
use crate::wire::journal::{DirectoryIdentity, FileIdentity};

/// What was found at the last looks.
#[derive(Debug, Default)]
pub struct Tidying {
    /// Names under `conversations/` that are still to be looked at in this round.
    round: VecDeque<OsString>,
    looks: HashMap<DirectoryIdentity, Look>,
    /// Directories that this round has come by.
    seen: HashSet<DirectoryIdentity>,
    /// Large messages that this batch sets aside, to be overwritten.
    aside: Vec<PathBuf>,
    /// The last name that has caught up, of conversations that are about to.
    pub(super) caught_up: HashMap<ConversationId, OsString>,
    /// Seconds of this run.
    ticks: u64,
}

/// The last look through a directory.
#[derive(Clone, Debug)]
struct Look {
    conversation: ConversationId,
    /// When it was, in ticks; none if it was broken off.
    tick: Option<u64>,
    /// Time and settings that it was then, if it had settled.
    found: Option<Found>,
    /// When a message comes of age.
    next: Option<Timestamp>,
}

/// What tells that a directory is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    modified_ns: i64,
    settings: Option<FileIdentity>,
}

/// What one second may still erase.
struct Room {
    files: usize,
    bytes: u64,
}

impl Engine {
    /// A second has passed: a few directories more.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        self.tidying.ticks += 1;
        if self.tidying.round.is_empty() {
            self.tidying.begin_round(self.root.names("conversations"));
        }
        let mut room = Room { files: ERASE_BATCH_MAX, bytes: ERASE_BATCH_BYTES };
        for _ in 0..TIDY_LOOKS_MAX {
            if room.files == 0 || self.is_full() {
                return;
            }
            let Some(name) = self.tidying.round.pop_front() else { return };
            self.look_through(&Path::new("conversations").join(name), &mut room, now);
        }
    }

    fn look_through(&mut self, place: &Path, room: &mut Room, now: Timestamp) {
        let Ok(stat) = self.root.disk().stat(&self.root.join(place)) else { return };
        if stat.kind != Kind::Directory {
            return;
        }
        let settings = self.root.disk().stat(&self.root.join(place.join(conversation_settings::FILE)));
        let found = Found { modified_ns: stat.modified_ns, settings: settings.ok().map(|stat| stat.identity()) };
        let identity = stat.directory_identity();
        self.tidying.seen.insert(identity);
        let ticks = self.tidying.ticks;
        let last = self.tidying.looks.get(&identity);
        // A change of its mode or of its name shows in neither of these times.
        let is_wanted = |id: &ConversationId| {
            let name = self.conversations.last_place(id).map(OsStr::new);
            self.conversations.is_behind(id) || name != place.file_name()
        };
        if last.is_some_and(|last| !last.is_due(&found, is_wanted(&last.conversation), ticks, now)) {
            return;
        }
        // Where the kernel keeps no time of birth, another may have got the number of one that is gone.
        let known = last.filter(|_| identity.born_ns.is_some()).map(|last| last.conversation);
        let Some(id) = known.or_else(|| self.conversations.id_at(&self.root, place, identity)) else { return };
        let is_ours = self.conversations.get(&id).is_some_and(|record| record.accepted);
        if is_ours && !places::takes_messages(&self.root, place, &stat) {
            // It may soon. Nothing is looked for in its place meanwhile.
            let look = Look { conversation: id, tick: Some(ticks), found: None, next: None };
            self.tidying.looks.insert(identity, look);
            return;
        }
        // Of two that have the same id one is the conversation's, and the other somebody's copy.
        if !is_ours || self.conversations.current_place(&self.root, &id).as_deref() != Some(place) {
            return;
        }
        if self.conversations.is_behind(&id) {
            self.catch_up(place, &id, now);
        }
        let age = self.settings_of(&id).expire;
        let (next, is_done) = self.go_through((place, &id), &stat, age, room, now);
        let modified = Timestamp::from_micros(u64::try_from(found.modified_ns / 1_000).unwrap_or(0));
        // A change within the same moment may leave the time as it is.
        let has_settled = now.millis_since(modified) > TIDY_SETTLED_MS;
        let tick = is_done.then_some(ticks);
        let look = Look { conversation: id, tick, found: has_settled.then_some(found).filter(|_| is_done), next };
        self.tidying.looks.insert(identity, look);
    }

    /// Looks at all messages of a conversation. When it is to be done again, though nothing changes; and whether it came to
    /// its end.
    fn go_through(
        &mut self,
        (place, id): (&Path, &ConversationId),
        directory: &Stat,
        age: Option<Duration>,
        room: &mut Room,
        now: Timestamp,
    ) -> (Option<Timestamp>, bool) {
        let listed =
            self.listed(place).and_then(|messages| Ok((messages, self.listed(&place.join(delivery::DIRECTORY))?)));
        let (messages, deliveries) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                // What cannot be seen is not gone.
                tracing::warn!(%error, "a conversation cannot be listed: nothing in it is erased or forgotten");
                return (Some(now.after(Duration::from_secs(TIDY_AGAIN_S))), true);
            }
        };
        let mut next: Option<Timestamp> = None;
        let mut look_again_at = |time: Timestamp| next = Some(next.map_or(time, |next| next.min(time)));
        for name in deliveries {
            if !messages.contains(&name) {
                match self.forget_deleted(place, &name, now) {
                    Some(time) => look_again_at(time),
                    None => room.files = room.files.saturating_sub(1),
                }
            } else if let Some(age) = age
                && let Some(time) = name.to_str().and_then(Timestamp::of_name)
            {
                match time.after(age) {
                    due if due > now => look_again_at(due),
                    _ => self
                        .erase_old((place, id), &name, (directory, age), room, now)
                        .into_iter()
                        .for_each(&mut look_again_at),
                }
            }
            if room.files == 0 || self.is_full() {
                return (next, false);
            }
        }
        (next, true)
    }

    /// The names in a directory, relative to the root; none where it does not exist.
    pub(super) fn listed(&self, directory: &Path) -> io::Result<HashSet<OsString>> {
        match self.root.disk().entries(&self.root.join(directory)) {
            Err(error) if atomic::is_absent(&error) => Ok(HashSet::new()),
            entries => Ok(entries?.into_iter().map(|entry| entry.name).collect()),
        }
    }

    /// What is known of a message that a person deleted goes too, once nothing more can become of it. Else when to ask again.
    fn forget_deleted(&mut self, place: &Path, name: &OsString, now: Timestamp) -> Option<Timestamp> {
        let path = place.join(delivery::DIRECTORY).join(name);
        let later = now.after(Duration::from_secs(TIDY_AGAIN_S));
        // One that this batch changes, or that is about to appear.
        if self.deliveries.contains_key(&path) || self.pending.is_reserved(&place.join(name)) {
            return Some(later);
        }
        match self.delivery_of(&path, name) {
            Some(delivery) if is_over(&delivery, now) => {
                self.pending.remove(path);
                None
            }
            // Its state will change, which nothing in the directory shows.
            Some(_) => Some(later),
            // It is not ours to judge.
            None => Some(Timestamp::from_micros(u64::MAX)),
        }
    }

    /// Erases a message that has come of age, with what is known of it. Else when to ask again.
    fn erase_old(
        &mut self,
        (place, id): (&Path, &ConversationId),
        name: &OsString,
        (directory, age): (&Stat, Duration),
        room: &mut Room,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let never = Some(Timestamp::from_micros(u64::MAX));
        let later = Some(now.after(Duration::from_secs(TIDY_AGAIN_S)));
        let (path, delivery_path) = (place.join(name), place.join(delivery::DIRECTORY).join(name));
        let Ok(stat) = self.root.disk().stat(&self.root.join(&path)) else { return later };
        if stat.kind != Kind::File || stat.owner != directory.owner {
            return never;
        }
        // One that was long on its way is not erased before anybody can have read it.
        let written = Timestamp::from_micros(u64::try_from(stat.modified_ns / 1_000).unwrap_or(0));
        let due = written.after(age);
        if due > now {
            return Some(due);
        }
        let Some(delivery) = self.delivery_of(&delivery_path, name) else { return never };
        if self.deliveries.contains_key(&delivery_path) || is_on_its_way(&delivery) {
            return later;
        }
        if !self.steady.is_trusted() {
            self.say_clock_jumped(now);
            return later;
        }
        self.erase_message(path, &stat);
        self.note_erased(id, &delivery, now);
        if is_over(&delivery, now) {
            self.pending.remove(delivery_path);
        }
        room.bytes = room.bytes.saturating_sub(stat.size);
        room.files = if room.bytes == 0 { 0 } else { room.files.saturating_sub(1) };
        None
    }

    /// Says why nothing is erased now.
    fn say_clock_jumped(&mut self, now: Timestamp) {
        let Some(jump_ms) = self.steady.take_untold() else { return };
        let (days, hours) = (jump_ms / 86_400_000, CLOCK_DOUBT_LONG_MS / 3_600_000);
        let text = format!(
            "The clock has jumped ahead by {days} days or more: messages that are of age by it are erased {hours} hours from now.\n\
             If it is wrong, put it right before; if it was put right just now, there is nothing to do."
        );
        alerts::raise(&self.root, &mut self.pending, now, "clock", "", &text);
    }

    /// Erases a message as it was found.
    pub(super) fn erase_message(&mut self, path: PathBuf, found: &Stat) {
        self.tidying.aside.extend(self.pending.expire(path, found));
    }

    /// What was set aside is there now.
    pub(super) fn sweep_set_aside(&mut self) {
        self.tidying.aside.drain(..).for_each(|path| self.sweeping.add(path));
    }

    /// A `.delivery/` file, if it tells of the message of its own name.
    pub(super) fn delivery_of(&self, path: &Path, name: &OsString) -> Option<Delivery> {
        let text = open::read_text(self.root.disk(), &self.root.join(path), delivery::BYTES_MAX)?;
        Delivery::parse(&text).filter(|delivery| Some(delivery.file.as_str()) == name.to_str())
    }

    /// The conversations whose directories stand, by one look at each.
    pub(super) fn standing_conversations(&self) -> HashSet<ConversationId> {
        let places = self.root.names("conversations").into_iter().map(|name| Path::new("conversations").join(name));
        places.filter_map(|place: PathBuf| conversation::id_in(&self.root, &place)).collect()
    }
}

impl Tidying {
    fn begin_round(&mut self, names: Vec<OsString>) {
        let seen = std::mem::take(&mut self.seen);
        self.looks.retain(|identity, _| seen.contains(identity));
        self.round = names.into();
    }
}

impl Look {
    fn is_due(&self, found: &Found, is_wanted: bool, tick: u64, now: Timestamp) -> bool {
        let is_news = is_wanted || self.found.as_ref() != Some(found) || self.next.is_some_and(|next| next <= now);
        is_news && self.tick.is_none_or(|last| tick >= last + TIDY_INTERVAL_S)
    }
}

/// Whether a recipient's server may still get it from us.
fn is_on_its_way(delivery: &Delivery) -> bool {
    delivery.recipients.iter().any(|line| matches!(line.state, State::Queued | State::Sealed))
}

/// Whether nothing more is to be told of a message: of ours none of its recipients' states will change, or none that anybody
/// could still acknowledge.
fn is_over(delivery: &Delivery, now: Timestamp) -> bool {
    delivery.recipients.iter().all(|line| match line.state {
        State::Queued | State::Sealed => false,
        State::Accepted => now.millis_since(line.since) / 1_000 > SENT_LIFETIME_S,
        State::Delivered | State::Failed(_) => true,
    })
}
