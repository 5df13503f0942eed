//! What is dropped into dropboxes becomes files of the outbox: copied, recorded, and then removed where it was dropped
//! ([`super::dropped`]). From there on it is a message like any other.
//!
//! Once a second each dropbox is looked at where names came or went, or something waits. It is not watched: anybody may make any
//! number of events there, in the way of all others. Its files are a stranger's: each is
//! opened without following links, and what is checked is checked on the open descriptor. Of the content a private copy is
//! made, synced before the record that tells of it; that record lets the copy appear in `outbox/TO/` and notes which file it was
//! made of. So a crash at any instant sends every file once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::directory::{self, Meaning};
use super::dropbox::{self, Dropbox, place};
use super::dropbox_files::{Copying, Errors, Held, Looked, Tokens, is_unfinished_error, look};
use super::dropbox_room::Backlog;
use super::engine::Engine;
use super::error_file;
use super::root;
use crate::clock::Timestamp;
use crate::disk::open::FileIdentity;
use crate::disk::system::{Disk, Kind};
use crate::limits::{
    DROPBOX_ENTRIES_MAX, DROPBOX_ENTRIES_PER_S, DROPBOX_FILES_PER_S, DROPBOX_LOOK_S, DROPBOX_UNREMOVED_MAX,
    EMPTY_FILE_GRACE_MS, LEASE_RETRY_MS, QUIET_FILE_MS,
};
use crate::name::{self, is_ignored};
use crate::wire::dropped::DroppedFile;
use crate::wire::identity::ConversationId;

/// All dropboxes.
#[derive(Debug, Default)]
pub struct Dropboxes {
    open: BTreeMap<String, Open>,
    /// What is wrong with files in `dropboxes/`.
    faults: BTreeMap<OsString, String>,
    /// `dropboxes/` was read since the start.
    is_read: bool,
    /// They are to be read again.
    pub(super) is_changed: bool,
    /// Large files of theirs that are not sent yet.
    pub(super) backlog: Backlog,
}

/// One dropbox.
#[derive(Debug)]
struct Open {
    settings: Dropbox,
    tokens: Tokens,
    /// Names that the last look found, in the order in which they are taken.
    queue: VecDeque<OsString>,
    /// Files that were written a moment ago, or are empty: as they were first seen, and how many seconds ago.
    quiet: HashMap<OsString, (FileIdentity, u64)>,
    copying: Option<Copying>,
    /// Files that could not be taken yet when they were last looked at, and why. They are in `quiet`, too.
    held: HashMap<OsString, Held>,
    /// Files that were refused when they were last looked at. They may be in `queue` and `quiet`, too, and wait for nothing.
    refused: HashSet<OsString>,
    errors: Errors,
    /// There may be more than the last look has found.
    is_hinted: bool,
    /// When names last came or went, nanoseconds since 1970.
    modified_ns: i64,
    /// Seconds until it may be looked at again, and since it was.
    rest_s: usize,
    since_s: u64,
    /// Files of other users, and files that are passed over by their names.
    others: usize,
    ignored: usize,
    /// Why nothing is taken.
    problem: Option<String>,
}

impl Open {
    fn new(settings: Dropbox) -> Self {
        Self {
            tokens: Tokens::full(settings.rate),
            settings,
            queue: VecDeque::new(),
            quiet: HashMap::new(),
            copying: None,
            held: HashMap::new(),
            refused: HashSet::new(),
            errors: Errors::default(),
            is_hinted: true,
            modified_ns: 0,
            rest_s: 0,
            since_s: 0,
            others: 0,
            ignored: 0,
            problem: None,
        }
    }

    /// Reads the directory: what may be taken, the oldest first, and which errors have lost their file.
    fn list(&mut self, disk: &dyn Disk, ours: u32) {
        let directory = &self.settings.directory;
        let entries = disk.some_entries(directory, DROPBOX_ENTRIES_MAX).unwrap_or_default();
        self.rest_s = entries.len() / DROPBOX_ENTRIES_PER_S;
        self.is_hinted = entries.len() >= DROPBOX_ENTRIES_MAX;
        (self.since_s, self.others, self.ignored) = (0, 0, 0);
        let mut found: Vec<(i64, String, OsString)> = Vec::new();
        let mut errors = Vec::new();
        for name in entries.into_iter().map(|entry| entry.name) {
            let Ok(stat) = disk.stat(&directory.join(&name)) else { continue };
            if stat.owner == ours && stat.kind == Kind::File && is_unfinished_error(&name) {
                // A crash left it half written.
                let _ = disk.unlink(&directory.join(&name));
            } else if stat.owner == ours && name.as_bytes().ends_with(b".error") {
                errors.push(name);
            } else if is_ignored(&name) {
                self.ignored += usize::from(stat.owner != ours);
            } else if stat.owner != self.settings.uid {
                self.others += 1;
            } else {
                found.push((stat.modified_ns, name.to_string_lossy().into_owned(), name));
            }
        }
        found.sort_by(|left, right| {
            left.0.cmp(&right.0).then_with(|| name::natural_order(&left.1, &right.1)).then_with(|| left.2.cmp(&right.2))
        });
        self.queue = found.into_iter().map(|(_, _, name)| name).collect();
        self.errors.adopt(disk, directory, errors);
        let queue: HashSet<&OsString> = self.queue.iter().collect();
        self.quiet.retain(|name, _| queue.contains(name));
        self.held.retain(|name, _| queue.contains(name));
        self.refused.retain(|name| queue.contains(name));
    }

    /// For how long a file has not changed, in milliseconds: by its own time, or by how long we have looked at it.
    fn quiet_ms(&mut self, name: &OsString, identity: FileIdentity, now: Timestamp) -> u64 {
        let modified = Timestamp::from_micros(u64::try_from(identity.modified_ns / 1_000).unwrap_or(0));
        let seen = self.quiet.entry(name.clone()).or_insert((identity, 0));
        if seen.0 != identity {
            *seen = (identity, 0);
        }
        now.millis_since(modified).max(seen.1.saturating_sub(1) * LEASE_RETRY_MS)
    }

    /// A file that was looked at stays for now.
    fn hold(&mut self, disk: &dyn Disk, name: OsString, why: Held) {
        // If it was refused before, it is so no more.
        self.errors.clear(disk, &self.settings.directory, &name);
        self.held.insert(name, why);
        self.is_hinted = true;
    }

    /// A file that was looked at is not sent as it is.
    fn refuse(&mut self, disk: &dyn Disk, name: OsString, text: &str) {
        self.errors.write(disk, &self.settings.directory, &name, text);
        self.refused.insert(name);
    }

    /// What `status` says of it; nothing where there is nothing to say.
    fn status(&self) -> Option<String> {
        // What is being copied, or waits for more than time, was quiet before.
        let names = self.queue.iter().chain(self.quiet.keys()).chain(self.copying.as_ref().map(Copying::name));
        let waiting = names.filter(|name| !self.refused.contains(*name)).collect::<HashSet<&OsString>>().len();
        let mut parts = Vec::new();
        parts.extend(self.problem.as_ref().map(|problem| format!("nothing is taken: {problem}")));
        let mut others = waiting;
        // Without the rate nothing is looked at, and what was true of them may be so no more.
        for why in Held::ALL.into_iter().filter(|_| !self.tokens.is_empty()) {
            let held = self.held.values().filter(|held| **held == why).count();
            parts.extend((held > 0).then(|| format!("{held} wait {why}")));
            others = others.saturating_sub(held);
        }
        if others > 0 {
            let reason = if self.tokens.is_empty() { " for the rate" } else { "" };
            parts.push(format!("{others} wait{reason}"));
        }
        parts.extend((!self.refused.is_empty()).then(|| format!("{} refused", self.refused.len())));
        parts.extend((self.others > 0).then(|| format!("{} of other users ignored", self.others)));
        parts.extend((self.ignored > 0).then(|| format!("{} ignored", self.ignored)));
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl Dropboxes {
    /// Whether a directory is a dropbox, as far as is known.
    fn may_name(&self, directory: &Path) -> bool {
        let is_named = self.open.values().any(|open| open.settings.directory == directory);
        is_named || !self.is_read || !self.faults.is_empty()
    }

    /// A line for each of which there is something to say.
    pub(super) fn status(&self) -> impl Iterator<Item = (String, String)> {
        let lines = self.open.iter().filter_map(|(name, open)| Some((name.clone(), open.status()?)));
        lines.chain(self.faults.iter().map(|(file, fault)| {
            let first = fault.lines().next().unwrap_or_default();
            (name::escape(file.as_bytes()), first.to_owned())
        }))
    }
}

impl Engine {
    /// Once a second: at what was dropped.
    pub(super) fn look_at_dropboxes(&mut self, now: Timestamp) {
        self.dropboxes.backlog.tick();
        self.dropped.tick();
        self.remove_dropped();
        if std::mem::take(&mut self.dropboxes.is_changed) {
            self.read_dropboxes();
        }
        let names: Vec<String> = self.dropboxes.open.keys().cloned().collect();
        for name in names {
            let Some(mut open) = self.dropboxes.open.remove(&name) else { continue };
            open.problem = self.work_dropbox(&mut open, now).err();
            let file = PathBuf::from(format!("{}/{name}{}", dropbox::DIRECTORY, dropbox::SUFFIX));
            self.say_fault(&file, open.problem.as_deref());
            // The part that a line of `status` has room for.
            open.problem = open.problem.map(|text| text.lines().next().unwrap_or_default().to_owned());
            self.dropboxes.open.insert(name, open);
        }
    }

    fn read_dropboxes(&mut self) {
        self.dropboxes.is_read = true;
        let mut before = std::mem::take(&mut self.dropboxes.open);
        self.dropboxes.faults.clear();
        for (file, result) in dropbox::all(&self.root) {
            match result {
                Ok(settings) => {
                    let known = before.remove(&settings.name).filter(|open| open.settings == settings);
                    let open = known.unwrap_or_else(|| Open::new(settings));
                    self.dropboxes.open.insert(open.settings.name.clone(), open);
                }
                Err(fault) => {
                    let text = fault.to_string();
                    self.say_fault(&Path::new(dropbox::DIRECTORY).join(&file), Some(&text));
                    self.dropboxes.faults.insert(file, text);
                }
            }
        }
        // A half-made copy of one that is gone is nobody's.
        let copying = before.into_values().filter_map(|open| open.copying);
        copying.for_each(|copying| self.sweeping.add(copying.abandon()));
        for name in self.root.names(dropbox::DIRECTORY) {
            let target = name.as_bytes().strip_suffix(b".error").map(|target| OsStr::from_bytes(target).to_owned());
            let path = Path::new(dropbox::DIRECTORY);
            if let Some(target) = target.filter(|target| !self.root.is_taken(&path.join(target))) {
                error_file::remove(&self.root, &error_file::beside(&self.root.join(path.join(target))));
            }
        }
    }

    /// Puts what is wrong beside a file in `dropboxes/`, or takes it away.
    fn say_fault(&self, file: &Path, problem: Option<&str>) {
        let target = self.root.join(file);
        let there = error_file::text(&self.root, &target);
        match (problem, there) {
            (Some(text), Some(there)) if there.starts_with(text) => {}
            (Some(text), _) => drop(error_file::write(&self.root, &target, text)),
            (None, Some(_)) => error_file::remove(&self.root, &error_file::beside(&target)),
            (None, None) => {}
        }
    }

    /// One second's work on one dropbox.
    ///
    /// # Errors
    /// Why nothing is taken from it: what is wrong and what to do.
    fn work_dropbox(&mut self, open: &mut Open, now: Timestamp) -> Result<(), String> {
        open.tokens.tick();
        open.since_s += 1;
        open.rest_s = open.rest_s.saturating_sub(1);
        open.quiet.values_mut().for_each(|(_, seconds)| *seconds += 1);
        let (disk, ours) = (self.root.shared_disk(), rustix::process::geteuid().as_raw());
        let found = place::check(&*disk, &open.settings.directory, self.root.path(), ours);
        let found = found.map_err(|fault| fault.to_string())?;
        // The clock that the kernel gives to files stands still for some milliseconds: what comes in the same moment as a look
        // is found by the next.
        let modified = Timestamp::from_micros(u64::try_from(found.modified_ns / 1_000).unwrap_or(0));
        open.is_hinted |= found.modified_ns != open.modified_ns || now.millis_since(modified) < QUIET_FILE_MS;
        open.modified_ns = found.modified_ns;
        let to = self.outbox_of(&open.settings)?;
        if self.dropped.in_directory(&open.settings.directory) >= DROPBOX_UNREMOVED_MAX {
            return Err(
                "Files that were sent cannot be removed.\nCheck that the directory is yours and writable.".into()
            );
        }
        if open.copying.is_some() {
            self.copy_dropped(open, &to);
            return Ok(());
        }
        if open.queue.is_empty() && open.rest_s == 0 && (open.is_hinted || open.since_s >= DROPBOX_LOOK_S) {
            open.list(&*disk, ours);
        }
        for _ in 0..DROPBOX_FILES_PER_S {
            if open.tokens.is_empty() || open.copying.is_some() || self.is_full() {
                break;
            }
            let Some(name) = open.queue.pop_front() else { break };
            self.take_dropped(open, name, &to, now);
        }
        Ok(())
    }

    /// Looks at one file, and begins to copy it.
    fn take_dropped(&mut self, open: &mut Open, name: OsString, to: &Path, now: Timestamp) {
        let disk = self.root.shared_disk();
        let (directory, path) = (open.settings.directory.clone(), open.settings.directory.join(&name));
        open.held.remove(&name);
        open.refused.remove(&name);
        match look(&*disk, &path, open.settings.uid, self.policy.send_limit) {
            Looked::Gone => {}
            Looked::NotTheirs => open.others += 1,
            Looked::Later(error) => {
                tracing::info!(%error, "a file in a dropbox cannot be read now");
                open.is_hinted = true;
            }
            Looked::Refused(text) => open.refuse(&*disk, name, &text),
            Looked::File { file, stat } => {
                let identity = stat.identity();
                let quiet_ms = open.quiet_ms(&name, identity, now);
                if self.dropped.has(&directory, &identity) {
                    // It is on its way out.
                    open.is_hinted = true;
                } else if stat.size == 0 && quiet_ms >= EMPTY_FILE_GRACE_MS {
                    let text = "This file is empty, and an empty message says nothing.\nWrite something into it, or remove it.";
                    open.refuse(&*disk, name, text);
                } else if stat.size == 0 {
                    open.hold(&*disk, name, Held::Empty);
                } else if quiet_ms < QUIET_FILE_MS {
                    open.is_hinted = true;
                } else if let Some(why) = self.no_room_for_dropped(stat.size, to) {
                    // A smaller one behind it may find room.
                    open.hold(&*disk, name, why);
                } else {
                    open.errors.clear(&*disk, &directory, &name);
                    let random = HEXLOWER.encode(&self.random_16());
                    match Copying::begin(&self.root, name, file, stat, &random) {
                        Ok(copying) => {
                            self.dropboxes.backlog.add(copying.waiting(to));
                            open.tokens.take();
                            open.copying = Some(copying);
                            self.copy_dropped(open, to);
                        }
                        Err(error) => {
                            tracing::warn!(%error, "what is in a dropbox cannot be copied now");
                            open.is_hinted = true;
                        }
                    }
                }
            }
        }
    }

    /// Copies a portion. The last one makes it a file of the outbox with the next record.
    fn copy_dropped(&mut self, open: &mut Open, to: &Path) {
        let Some(mut copying) = open.copying.take() else { return };
        // Others may have taken what there was when it began.
        if !self.has_room_to_copy(copying.left()) {
            open.held.insert(copying.name().clone(), Held::Disk);
            self.abandon_dropped(open, copying);
            return;
        }
        match copying.go_on(&self.root) {
            Ok(false) => open.copying = Some(copying),
            Ok(true) if copying.is_unchanged() => {
                let hidden = OsString::from(format!(".taken-{}", HEXLOWER.encode(&self.random_16())));
                let (directory, identity) = (open.settings.directory.clone(), copying.identity());
                let (name, copy) = copying.finish();
                self.pending.move_in(to.join(&name), copy);
                open.quiet.remove(&name);
                self.dropped.add(DroppedFile {
                    directory,
                    name,
                    hidden,
                    inode: identity.inode,
                    born_ns: identity.born_ns,
                    modified_ns: identity.modified_ns,
                    size: identity.size,
                });
            }
            result => {
                if let Err(error) = result {
                    tracing::warn!(%error, "what is in a dropbox cannot be copied now");
                }
                // Written to meanwhile, or the disk does not take it.
                self.abandon_dropped(open, copying);
            }
        }
    }

    /// Another try later, and no other file in its stead.
    fn abandon_dropped(&mut self, open: &mut Open, copying: Copying) {
        self.sweeping.add(copying.abandon());
        open.tokens.give_back();
        open.is_hinted = true;
    }

    /// The outbox directory of a dropbox's recipients, which need not be there yet, relative to the root.
    ///
    /// # Errors
    /// What is wrong and what to do.
    fn outbox_of(&self, settings: &Dropbox) -> Result<PathBuf, String> {
        let mut names = Vec::new();
        for wanted in &settings.to {
            let fingerprint = self.people.contact(wanted).map_err(|fault| fault.to_string())?;
            names.push(self.people.name(&fingerprint));
        }
        names.sort();
        names.dedup();
        let directory = Path::new("outbox").join(names.join(","));
        if directory.as_os_str().len() > name::NAME_BYTES_MAX {
            return Err("The names of the recipients are too long together.\nGive the contacts shorter names.".into());
        }
        let mut participants = self.people.listed(&names.join(",")).map_err(|fault| fault.to_string())?;
        participants.push(self.people.own_fingerprint());
        let wanted = ConversationId::of_participants(&participants);
        let meaning = directory::meaning(&self.root, &directory, &self.people, &self.conversations);
        let (Meaning::Known { id, .. } | Meaning::New { id: Some(id), .. }) =
            meaning.map_err(|fault| fault.to_string())?
        else {
            return Err(means_another(&directory));
        };
        let outbox = self.root.disk().stat(&self.root.outbox()).map_err(|error| error.to_string())?;
        let takes = match self.root.disk().stat(&self.root.join(&directory)) {
            Ok(found) => {
                let is_here = found.kind == Kind::Directory && found.device == outbox.device;
                is_here && self.root.disk().is_writable(&self.root.join(&directory))
            }
            Err(_) => true,
        };
        if id == wanted && takes { Ok(directory) } else { Err(means_another(&directory)) }
    }

    /// The files that were recorded are in the outbox: they may go where they were dropped.
    pub(super) fn dropped_are_recorded(&mut self) {
        self.dropped.recorded();
        self.remove_dropped();
    }

    /// Removes what is recorded. What cannot be removed now is tried again in a second or later, and not sent again.
    fn remove_dropped(&mut self) {
        let ours = rustix::process::geteuid().as_raw();
        let Self { dropped, dropboxes, root, .. } = self;
        dropped.remove_recorded(root.disk(), root.path(), ours, |directory| dropboxes.may_name(directory));
    }

    /// The state of what is recorded and not removed yet, if it changed.
    pub(super) fn put_dropped(&mut self) {
        match self.dropped.take_dirty() {
            Some(bytes) if bytes.is_empty() => self.pending.remove(root::dropped_file()),
            Some(bytes) => self.pending.put(root::dropped_file(), bytes),
            None => {}
        }
    }
}

fn means_another(directory: &Path) -> String {
    format!(
        "What stands under {} is not the conversation with just these, or takes no files.\nRename it: the dropbox makes its own.",
        name::escape_path(directory)
    )
}

#[cfg(test)]
mod tests;
