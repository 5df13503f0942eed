//! What the engine does when the directory may have changed: events are hints, the directory is the truth (design,
//! section 9, rule 5).

use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::blocked;
use super::contacts::{self, Contacts};
use super::dropbox;
use super::engine::Engine;
use super::metadata;
use super::requests::{self, Waiting};
use super::root::CANCEL_DIRECTORY;
use crate::clock::Timestamp;
use crate::limits::BATCH_EVENTS_MAX;
use crate::wire::identity::ConversationId;

impl Engine {
    /// Takes files from the outbox, as many as one batch holds. True if more are left.
    pub fn work_outbox(&mut self, now: Timestamp) -> bool {
        if std::mem::take(&mut self.contacts_changed) {
            self.look_at_contacts(now);
        }
        if std::mem::take(&mut self.more_requests) {
            self.accept_requests(&requests::waiting(&self.root), now);
        }
        for recipient in std::mem::take(&mut self.unsealed) {
            // At the start something may wait for everybody, a megabyte for each.
            match self.is_full() {
                true => drop(self.unsealed.insert(recipient)),
                false => self.seal_waiting(&recipient, now),
            }
        }
        if self.more_requests || !self.unsealed.is_empty() {
            return true;
        }
        if self.restore_more() || self.renew_conversations() {
            return true;
        }
        self.look_at_cancelled(now);
        let more = self.copy_on(now) | self.seal_parts(now) | self.sweeping.go_on(&self.root);
        for _ in 0..BATCH_EVENTS_MAX {
            if self.is_full() {
                return true;
            }
            let Some(path) = self.outbox.next() else { return more || self.copying.is_under_way() };
            self.look_at_file(&path, now);
        }
        true
    }

    /// The whole directory: at the start, after lost events, and now and then.
    pub(super) fn rescan(&mut self, now: Timestamp) -> io::Result<()> {
        let waiting = requests::waiting(&self.root);
        self.reload_contacts(&waiting, now)?;
        // Also where no contact is new: a card may have been added while no daemon ran.
        self.accept_requests(&waiting, now);
        self.forget_rejected(&waiting);
        self.dropboxes.is_changed = true;
        self.cancels = true;
        self.directories.extend(self.outbox.scan(&self.root)?);
        self.outbox.forget_gone(&self.root);
        // What goes for its age does not come back when a clock that ran ahead is put right.
        if self.steady.is_trusted() {
            self.received.forget_old(now.seconds(), &mut self.pending);
            self.give_up_arriving(now);
            self.sessions.expire(now.seconds());
            if self.presence.has_drained() {
                // By then what waited for us has told of it, or it was given up.
                self.sent.forget_old(now.seconds(), &mut self.pending);
            }
            let quiet_until = self.recovery.quiet_until();
            let given_up = self.unopened.give_up_old(now.seconds(), quiet_until, &mut self.pending);
            self.alert_given_up(given_up, now);
            self.forget_owed(now);
        }
        if self.presence.has_drained() {
            self.sessions.erase_spent(now.seconds());
        }
        self.look_for_untold(now);
        self.alert_untold_forks(now);
        self.look_at_hooks(now);
        Ok(())
    }

    pub(super) fn look_at(&mut self, path: &Path) -> io::Result<()> {
        let Ok(relative) = path.strip_prefix(self.root.path()) else { return Ok(()) };
        let parts: Vec<_> = relative.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let first = parts.first().map(|part| part.as_os_str());
        match parts.len() {
            2 if first == Some(contacts::DIRECTORY.as_ref()) || first == Some(blocked::DIRECTORY.as_ref()) => {
                // All changes of a batch in one look.
                self.contacts_changed = true;
            }
            2 if first == Some(dropbox::DIRECTORY.as_ref()) => self.dropboxes.is_changed = true,
            3 if relative.starts_with(CANCEL_DIRECTORY) => self.cancels = true,
            // Hidden directories are nobody's business, and what is in them neither.
            2.. if first == Some("outbox".as_ref()) && parts[1].as_os_str().as_bytes().starts_with(b".") => {}
            2 if first == Some("outbox".as_ref()) && self.root.is_directory(relative) => {
                self.outbox.clear(&self.root, relative);
                self.directories.push(relative.to_owned());
                self.outbox.scan_directory(&self.root, relative);
            }
            2 if first == Some("outbox".as_ref()) => {
                self.outbox.forget_gone(&self.root);
                self.outbox.note(relative.to_owned());
            }
            3 if first == Some("outbox".as_ref()) => {
                let directory = relative.parent().unwrap_or(relative).to_owned();
                let name = relative.file_name();
                if name == Some(metadata::FILE.as_ref()) || name == Some(super::directory::ID_FILE.as_ref()) {
                    self.outbox.scan_directory(&self.root, &directory);
                } else {
                    self.outbox.note(relative.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn look_at_contacts(&mut self, now: Timestamp) {
        // Whatever waited for a contact may go now.
        let waiting = requests::waiting(&self.root);
        let looked = self.reload_contacts(&waiting, now).and_then(|()| self.outbox.scan(&self.root));
        match looked {
            Ok(directories) => self.directories.extend(directories),
            Err(error) => tracing::warn!(%error, "looking at the contacts; the next look makes up for it"),
        }
    }

    fn reload_contacts(&mut self, waiting: &[Waiting], now: Timestamp) -> io::Result<()> {
        let contacts = Contacts::load(&self.root, &self.account.profile, self.people.contacts())?;
        let blocked = blocked::load(&self.root, &self.account.profile, self.people.blocked())?;
        let before = self.people.contacts().iter().count();
        let changed = self.people.replace_contacts(contacts, blocked);
        self.people.contacts().write_errors(&self.root, contacts::DIRECTORY);
        self.people.blocked().write_errors(&self.root, blocked::DIRECTORY);
        self.look_at_names(now);
        self.drop_requests_of_blocked(waiting);
        if changed {
            tracing::info!(before, after = self.people.contacts().iter().count(), "contacts changed");
            self.accept_requests(waiting, now);
            self.try_unopened = true;
            if std::mem::take(&mut self.left) > 0 {
                self.presence.reconnects();
                self.reconnect = true;
            }
            // Somebody may have moved to another server.
            self.profiles_changed = true;
        }
        Ok(())
    }

    /// Outbox directories that were found since this was last asked, relative to the root.
    pub fn take_directories(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.directories)
    }

    /// A directory is watched from now on: looks what came before.
    pub fn watched(&mut self, directory: &Path) {
        match directory == Path::new(CANCEL_DIRECTORY) {
            // What stands there is no message.
            true => self.cancels = true,
            false => self.outbox.scan_directory(&self.root, directory),
        }
    }

    /// Makes `outbox/` directories of conversations anew whose directory is gone. At the start only: while we run, a
    /// person who removes one means it. Where both are gone, they mean the conversation.
    pub fn restore_outbox(&mut self, directories: &[PathBuf]) {
        let ids = directories.iter().filter_map(|path| super::conversation::id_in(&self.root, path));
        let there: HashSet<ConversationId> = ids.collect();
        let standing = self.standing_conversations();
        let accepted = self.conversations.iter().filter(|record| record.accepted && standing.contains(&record.id));
        self.unrestored = accepted.map(|record| record.id).filter(|id| !there.contains(id)).collect();
        self.restore_more();
    }

    /// As many of them as one batch takes. True if more are left.
    fn restore_more(&mut self) -> bool {
        while let Some(id) = self.unrestored.pop() {
            if self.is_full() {
                self.unrestored.push(id);
                return true;
            }
            self.conversations.make_outbox_directory(&self.root, &id, &self.people, &mut self.pending);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rand_core::OsRng;

    use super::*;
    use crate::client::assembling::tests::Bench;
    use crate::client::event::Event;
    use crate::crypto::dh::SecretKey;
    use crate::crypto::sign::SigningKey;
    use crate::limits::{BATCH_BYTES_MAX, ENVELOPE_BYTES, SEAL_BATCH_MAX};
    use crate::wire::control::Control;
    use crate::wire::conversation::ConversationRecord;
    use crate::wire::prekey::PrekeyKind;
    use crate::wire::state::{AccountKeys, PrekeySecret};

    #[test]
    fn however_many_outbox_directories_are_gone_at_the_start_they_are_made_anew_in_batches() {
        let mut bob = Bench::new();
        for number in 0..1_000u32 {
            let id = ConversationId(number.to_be_bytes().repeat(4).try_into().unwrap());
            let (directory, subject) = (format!("no-{number}"), "s".repeat(12_000));
            bob.engine.conversations.add(ConversationRecord { id, directory, subject, ..bob.conversation.clone() });
            bob.engine.conversations.make_directories(&id, &bob.engine.people, &mut bob.engine.pending);
        }
        bob.settle();
        fs::remove_dir_all(bob.root.outbox()).unwrap();
        fs::create_dir(bob.root.outbox()).unwrap();
        bob.engine.restore_outbox(&[]);
        let mut made = Vec::new();
        loop {
            let transaction = bob.engine.transaction();
            let bytes = transaction.as_ref().map_or(0, |transaction| transaction.to_bytes().len());
            if bytes == 0 {
                break;
            }
            assert!(bytes < 2 * BATCH_BYTES_MAX, "{bytes}");
            bob.commit(transaction);
            bob.engine.recorded(bob.now);
            bob.engine.applied();
            made.push(bob.root.names("outbox").len());
            bob.engine.work_outbox(bob.now);
        }
        assert!(made[0] < 1_000 && made[1..] == [1_000], "{made:?}");
    }

    #[test]
    fn what_waited_for_everybody_is_sealed_in_batches_however_many_they_are() {
        let mut bob = Bench::new();
        let (ours, now) = (bob.engine.account.keys.clone(), bob.now);
        let envelopes = SEAL_BATCH_MAX * 11;
        assert!(envelopes * ENVELOPE_BYTES > BATCH_BYTES_MAX + 2 * SEAL_BATCH_MAX * ENVELOPE_BYTES);
        for _ in 0..11 {
            let keys = AccountKeys {
                signing: SigningKey::random(&mut OsRng),
                auth: SecretKey::random(&mut OsRng),
                transport: SecretKey::random(&mut OsRng),
            };
            let peer = keys.identity();
            let prekey = PrekeySecret::random(PrekeyKind::OneTime, u64::MAX, &keys, &mut OsRng);
            let sessions = &mut bob.engine.sessions;
            sessions.open_and_seal(&ours, &peer, &prekey.prekey, b"text", now.micros(), &mut OsRng).unwrap();
            let note = Control { lost_since: Some(1), ..Control::default() };
            (0..SEAL_BATCH_MAX).for_each(|_| bob.engine.queue_note(peer.fingerprint(), &note, now));
        }
        bob.settle();
        bob.engine.handle(Event::Counter(None), now).unwrap();
        let mut batches = 0;
        while bob.engine.has_sealed_in_part() {
            bob.engine.work_outbox(now);
            let bytes = bob.engine.transaction().map_or(0, |transaction| transaction.to_bytes().len());
            batches += usize::from(bytes > 0);
            assert!(bytes <= BATCH_BYTES_MAX + 2 * SEAL_BATCH_MAX * ENVELOPE_BYTES, "{bytes}");
            bob.engine.recorded(now);
            bob.engine.applied();
        }
        assert!(batches > 1);
    }
}
