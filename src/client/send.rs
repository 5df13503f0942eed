//! From a file in the outbox to sealed envelopes in the spool (design, section 2, "Sending").

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rand_core::RngCore as _;
use zeroize::Zeroizing;

use super::copying::Copied;
use super::delivery::{self, Delivery, Recipient, State};
use super::directory::{self, ID_FILE, Meaning};
use super::engine::Engine;
use super::taking::{Held, NotSent, Taken, check_leaving, renamed, stray};
use crate::clock::Timestamp;
use crate::crypto::hash::sha256;
use crate::name;
use crate::wire::conversation::ConversationRecord;
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::large::{LargeRecipient, LargeRecord};
use crate::wire::payload::{Content, Payload};
use crate::wire::transcript::Shared;

impl Engine {
    /// Sends a file of the outbox, or says beside it why not. A waiting file holds up no other.
    pub(super) fn look_at_file(&mut self, path: &Path, now: Timestamp) {
        let result = self.send_file(path, now);
        self.note_result(path, result);
    }

    /// What became of a file of the outbox.
    pub(super) fn note_result(&mut self, path: &Path, result: Result<(), NotSent>) {
        let directory = path.parent().unwrap_or(path).to_owned();
        match result {
            Ok(()) => {
                self.outbox.clear(&self.root, path);
                self.outbox.clear(&self.root, &directory);
            }
            Err(NotSent::Gone) => self.outbox.clear(&self.root, path),
            Err(NotSent::Waits(reason)) => self.outbox.wait(path.to_owned(), &reason),
            Err(NotSent::Refused(text)) => self.outbox.refuse(&self.root, path, &text),
            Err(NotSent::Directory(fault)) if fault.is_temporary() => {
                self.outbox.wait(path.to_owned(), "metadata.toml is open for writing");
            }
            Err(NotSent::Directory(fault)) => {
                self.outbox.stop_waiting(path);
                self.outbox.refuse(&self.root, &directory, &fault.to_string());
            }
        }
    }

    fn send_file(&mut self, path: &Path, now: Timestamp) -> Result<(), NotSent> {
        if path.components().count() != 3 {
            return Err(stray(&self.root, path));
        }
        // A directory that became a link since it was found is looked at as such, by its own name.
        if !self.root.is_directory(path.parent().unwrap_or(path)) {
            return Err(NotSent::Gone);
        }
        let (taken, content) = self.read_file(path, now)?;
        let directory = path.parent().unwrap_or(path);
        check_leaving(directory, &taken, &self.root).map_err(NotSent::Directory)?;
        match content {
            Some(content) => self.send_taken(taken, content, now),
            None => self.copy_first(taken, directory),
        }
    }

    /// Sends a file that was read, or copied.
    pub(super) fn send_taken(&mut self, taken: Taken, content: Held, now: Timestamp) -> Result<(), NotSent> {
        let path = taken.path.clone();
        let directory = path.parent().unwrap_or(&path);
        let identity = taken.directory.directory_identity();
        // Where the kernel keeps no time of birth, another may have got the number of one that is gone.
        let is_it = |place: &Path| identity.born_ns.is_some() || place == directory;
        let known = self.meanings.get(&identity).filter(|(place, _)| is_it(place)).map(|(_, id)| *id);
        let id = match known {
            Some(id) if self.is_still(directory, &taken) => id,
            Some(_) => return Err(renamed()),
            None => self.conversation_of(directory, &taken, now)?,
        };
        self.meanings.insert(identity, (directory.to_owned(), id));
        self.send_message(&id, taken, content, now);
        Ok(())
    }

    /// All who take part in the conversation that a directory means, without opening one.
    pub(super) fn participants_of(&self, path: &Path) -> Result<Vec<Fingerprint>, NotSent> {
        let meaning = directory::meaning(&self.root, path, &self.people, &self.conversations);
        Ok(match meaning.map_err(NotSent::Directory)? {
            Meaning::Known { id, .. } => {
                let profiles = self.conversations.get(&id).into_iter().flat_map(|record| &record.profiles);
                profiles.map(|profile| profile.identity().fingerprint()).collect()
            }
            Meaning::New { participants, .. } => participants,
        })
    }

    /// The conversation that a directory means; opened if need be.
    fn conversation_of(&mut self, path: &Path, taken: &Taken, now: Timestamp) -> Result<ConversationId, NotSent> {
        let meaning = directory::meaning(&self.root, path, &self.people, &self.conversations);
        if !self.is_still(path, taken) {
            return Err(renamed());
        }
        let (id, needs_id) = match meaning.map_err(NotSent::Directory)? {
            Meaning::Known { id, needs_id } => (id, needs_id),
            Meaning::New { id, subject, participants } => {
                let salt = id.is_none().then(|| self.random_16());
                (self.open_conversation(salt, subject, &participants, now), true)
            }
        };
        if needs_id {
            let path = path.join(ID_FILE);
            if self.pending.is_free(&self.root, &path) {
                self.pending.mark(path, &taken.directory, format!("{id}\n").into_bytes());
            }
        }
        Ok(id)
    }

    fn open_conversation(
        &mut self,
        salt: Option<[u8; 16]>,
        subject: String,
        participants: &[Fingerprint],
        now: Timestamp,
    ) -> ConversationId {
        let id = ConversationId::of(salt.as_ref(), participants);
        let own = self.people.own_fingerprint();
        // No two of ours are of the same moment: others tell by it whether they are one, told of in two ways.
        let created = now.max(self.last_time.next());
        self.last_time = created;
        let profiles = participants.iter().filter_map(|participant| self.people.profile(participant).cloned());
        let standing = self.standing_directory(&id);
        let directory =
            standing.clone().unwrap_or_else(|| self.free_directory(&id, &own, participants, &subject, created));
        let record = ConversationRecord {
            id,
            salt,
            subject,
            created,
            profiles: profiles.collect(),
            directory,
            accepted: true,
            incarnation: self.random_16(),
            counter: 0,
            last_time: Timestamp::default(),
            introduced: [own].into(),
            behind: false,
        };
        self.conversations.add(record);
        self.make_directories(&id, standing.is_some());
        id
    }

    pub(super) fn random_16(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// Puts a message into the queue of every recipient, its copy into the conversation, and takes the file.
    fn send_message(&mut self, id: &ConversationId, taken: Taken, held: Held, now: Timestamp) {
        let Some(place) = self.conversations.place(&self.root, id, &self.people, &mut self.pending) else { return };
        let time = now.max(self.last_time.next());
        self.last_time = time;
        let Some(record) = self.conversations.get_mut(id) else { return };
        record.counter += 1;
        record.last_time = time;
        let record = record.clone();

        let raw_name = taken.path.file_name().unwrap_or_default().as_bytes();
        let has_extension = name::extension(&name::escape(raw_name)).is_some();
        let file_name = if has_extension { raw_name.to_vec() } else { Vec::new() };
        let own = self.people.own_fingerprint();
        let own_name = self.people.name(&own);
        let wanted = name::message(&time.to_string(), &own_name, &file_name);
        let (message, bytes, size, hash) = match &held {
            Held::Bytes(bytes) => {
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                (MessageId(self.random_16()), bytes.clone(), size, sha256(&[bytes]))
            }
            Held::Copied(copied) => (copied.message, Zeroizing::default(), copied.size, copied.sha256),
        };
        let file = self.free_message_name(&place, &wanted, &message);
        let shared = Shared {
            author: own,
            conversation: *id,
            participants: record.participants_hash(),
            id: message,
            incarnation: record.incarnation,
            counter: record.counter,
            time,
            file_name: &file_name,
            size,
            sha256: hash,
        };
        let payload = Payload {
            id: shared.id,
            conversation: *id,
            participants: shared.participants,
            time,
            incarnation: record.incarnation,
            counter: record.counter,
            introduction: None,
            profile: None,
            resent: 0,
            transcript: Some(self.write_transcript(&shared, now)),
            part: None,
            content: Some(Content { file_name, bytes }),
        };

        let mut recipients = Vec::new();
        for recipient in record.participants().into_iter().filter(|participant| *participant != own) {
            let state = match &held {
                Held::Bytes(_) => self.queue_message(&record, recipient, &payload, &file, now),
                Held::Copied(_) => State::Queued,
            };
            recipients.push(Recipient {
                fingerprint: recipient,
                name: self.people.name(&recipient),
                state,
                since: now,
                progress: None,
            });
        }
        let to: Vec<Fingerprint> = recipients.iter().map(|recipient| recipient.fingerprint).collect();
        let delivery = Delivery {
            id: payload.id,
            from: own,
            from_name: own_name,
            counter: payload.counter,
            file: file.clone(),
            outbox: Some(name::escape_path(&taken.path)),
            conversation: None,
            recipients,
        };
        self.deliveries.insert(place.join(delivery::DIRECTORY).join(&file), delivery);
        match held {
            Held::Bytes(bytes) => self.pending.place(place.join(&file), bytes),
            Held::Copied(copied) => {
                self.pending.move_in(place.join(&file), copied.shown());
                self.queue_large(large_record(payload, file, &copied, (to, now)), now);
            }
        }
        self.pending.take(taken.path, taken.file, &taken.stat, &taken.directory, hash);
    }

    /// A name for a message that is free in its conversation's directory.
    pub(super) fn free_message_name(&self, place: &Path, wanted: &str, id: &MessageId) -> String {
        name::free_message(wanted, &id.0, |name| self.pending.is_free(&self.root, &place.join(name)))
    }
}

/// What is to be known of a message whose content was copied.
fn large_record(
    payload: Payload,
    file: String,
    copied: &Copied,
    (recipients, now): (Vec<Fingerprint>, Timestamp),
) -> LargeRecord {
    LargeRecord {
        message: payload.id,
        conversation: payload.conversation,
        participants: payload.participants,
        file,
        file_name: payload.content.map(|content| content.file_name).unwrap_or_default(),
        time: payload.time,
        incarnation: payload.incarnation,
        counter: payload.counter,
        transcript: payload.transcript,
        size: copied.size,
        sha256: copied.sha256,
        recipients: recipients.into_iter().map(|recipient| LargeRecipient::new(recipient, now)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::Account;
    use super::super::contacts;
    use super::super::event::Event;
    use super::super::policy::Policy;
    use super::super::root::Root;
    use super::*;
    use crate::crypto::dh::SecretKey;
    use crate::disk::journal::Journal;
    use crate::disk::watch::Hint;
    use crate::net::dialer::Way;
    use crate::wire::address::ServerAddress;
    use rand_core::OsRng;
    use std::fs;
    use tempfile::TempDir;

    fn account(directory: &Path, name: &str) -> (Root, Account) {
        let root = Root::new(directory.join(name));
        fs::create_dir(root.path()).unwrap();
        let server = ServerAddress::new("localhost", 1, SecretKey::random(&mut OsRng).public()).unwrap();
        let account = Account::create(&root, name, server, "", &mut OsRng).unwrap();
        (root, account)
    }

    #[test]
    fn a_directory_renamed_within_a_batch_opens_one_conversation_and_sends_each_file_once() {
        let scratch = TempDir::new().unwrap();
        let (root, _) = account(scratch.path(), "alice");
        let (_, bob) = account(scratch.path(), "bob");
        let card = root.contacts().join(format!("bob{}", contacts::SUFFIX));
        fs::write(card, format!("{}\n", bob.profile)).unwrap();
        let (mut journal, _) = Journal::open(root.shared_disk(), root.path()).unwrap();
        let mut engine = Engine::load(root.clone(), Policy::by_default(&Way::Direct)).unwrap();
        let look = |engine: &mut Engine| {
            engine.handle(Event::Hint(Hint::Rescan), Timestamp::now()).unwrap();
            while engine.work_outbox(Timestamp::now()) {}
        };
        let [made, renamed] = ["made", "renamed"].map(|name| root.outbox().join(name));
        fs::create_dir(&made).unwrap();
        fs::write(made.join("metadata.toml"), "participants = [\"bob\"]\n").unwrap();
        fs::write(made.join("first"), "first").unwrap();
        look(&mut engine);
        fs::rename(&made, &renamed).unwrap();
        fs::write(renamed.join("second"), "second").unwrap();
        look(&mut engine);
        let transaction = engine.transaction().unwrap();
        journal.commit(&mut vec![transaction]).unwrap();
        engine.recorded(Timestamp::now());
        engine.applied();
        assert!(!renamed.join("first").exists() && !renamed.join("second").exists());
        let place = engine.conversations.iter().next().unwrap().directory.clone();
        let files = fs::read_dir(root.conversations().join(place)).unwrap().map(|entry| entry.unwrap().path());
        let messages = files.filter(|path| path.to_string_lossy().ends_with("Z-alice"));
        let mut sent: Vec<_> = messages.map(|path| fs::read_to_string(path).unwrap()).collect();
        sent.sort();
        assert_eq!(sent, ["first", "second"], "the first stood under its new name too until it was taken");
        fs::write(renamed.join("third"), "third").unwrap();
        look(&mut engine);
        let ids: Vec<_> = engine.conversations.iter().map(|record| record.id).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert_eq!(fs::read_to_string(renamed.join(ID_FILE)).unwrap(), format!("{}\n", ids[0]));
    }
}
