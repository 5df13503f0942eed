//! From a file in the outbox to sealed envelopes in the spool (design, section 2, "Sending").

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rand_core::RngCore as _;
use zeroize::Zeroizing;

use super::conversation::Conversations;
use super::delivery::{self, Delivery, Recipient, State};
use super::directory::{self, DirectoryFault, ID_FILE, Meaning};
use super::engine::Engine;
use super::root::Root;
use crate::clock::Timestamp;
use crate::crypto::hash::sha256;
use crate::disk::lease::LeaseRefused;
use crate::disk::open::{OpenError, OtherKind, RegularFile};
use crate::disk::system::{Kind, Stat};
use crate::envelope::PAYLOAD_BYTES_MAX;
use crate::limits::{CONTENT_BYTES_MAX, EMPTY_FILE_GRACE_MS, QUIET_FILE_MS};
use crate::name;
use crate::wire::conversation::ConversationRecord;
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::payload::{Content, Introduction, Payload};
use crate::wire::profile::SignedProfile;
use crate::wire::spool::{Form, Spooled};

/// A file that is about to be sent.
struct Taken {
    path: PathBuf,
    /// Open, for its lease.
    file: RegularFile,
    stat: Stat,
    directory: Stat,
    bytes: Zeroizing<Vec<u8>>,
}

/// Why a file is not sent now.
enum NotSent {
    /// It is gone.
    Gone,
    /// It will be looked at again by itself; why.
    Waits(Cow<'static, str>),
    /// A person must do something about it: what is wrong and what to do.
    Refused(String),
    /// The same for its whole directory.
    Directory(DirectoryFault),
}

impl Engine {
    /// Sends a file of the outbox, or says beside it why not. A waiting file holds up no other.
    pub(super) fn look_at_file(&mut self, path: &Path, now: Timestamp) {
        let directory = path.parent().unwrap_or(path).to_owned();
        match self.send_file(path, now) {
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
        let taken = self.read_file(path, now)?;
        let directory = path.parent().unwrap_or(path);
        check_leaving(directory, &taken, &self.root).map_err(NotSent::Directory)?;
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
        self.send_message(&id, taken, now);
        Ok(())
    }

    /// Whether the directory that stands under this path is the one that was there before the file was opened: what was
    /// read behind that, the file and what says where it goes, is of one directory.
    fn is_still(&self, path: &Path, taken: &Taken) -> bool {
        let identity = taken.directory.directory_identity();
        self.root.disk().stat(&self.root.join(path)).is_ok_and(|found| found.directory_identity() == identity)
    }

    /// Reads a file that nobody is writing.
    fn read_file(&mut self, path: &Path, now: Timestamp) -> Result<Taken, NotSent> {
        let io = |error| refused(OpenError::Io(error));
        let directory = self.root.join(path.parent().unwrap_or(path));
        let directory = self.root.disk().stat(&directory).map_err(io)?;
        let file = RegularFile::open(self.root.disk(), &self.root.join(path)).map_err(refused)?;
        // The lease first: what is read behind it is what stands there until it is let go.
        let lease = file.take_lease();
        let stat = file.stat().map_err(io)?;
        match lease {
            Ok(()) => {}
            Err(LeaseRefused::Busy) => return Err(NotSent::Waits("another program has it open for writing".into())),
            // Another user's file, or a filesystem without leases: a while without a write has to do.
            Err(_) if self.outbox.quiet_ms(path, stat.identity(), now) < QUIET_FILE_MS => {
                return Err(NotSent::Waits("it was written a moment ago, and takes no lease".into()));
            }
            Err(_) => {}
        }
        if stat.links == 1 && self.pending.takes(&stat) {
            // It, or its directory, was renamed since this batch read it.
            return Err(NotSent::Gone);
        }
        if stat.size == 0 {
            if self.outbox.quiet_ms(path, stat.identity(), now) < EMPTY_FILE_GRACE_MS {
                return Err(NotSent::Waits("it is empty".into()));
            }
            let text = "This file is empty, and an empty message says nothing.\nWrite something into it, or remove it.";
            return Err(NotSent::Refused(text.into()));
        }
        let limit = u64::try_from(CONTENT_BYTES_MAX).unwrap_or(u64::MAX);
        let bytes = file.read(limit).map_err(refused)?;
        Ok(Taken { path: path.to_owned(), file, stat, directory, bytes })
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
        let profiles = participants.iter().filter_map(|participant| self.people.profile(participant).cloned());
        let standing = self.standing_directory(&id);
        let directory = standing.clone().unwrap_or_else(|| {
            let (root, people) = (&self.root, &self.people);
            Conversations::free_name(root, &self.pending, people, &own, participants, &subject, now)
        });
        let record = ConversationRecord {
            id,
            salt,
            subject,
            created: now,
            profiles: profiles.collect(),
            directory,
            accepted: true,
            incarnation: self.random_16(),
            counter: 0,
            last_time: Timestamp::default(),
            introduced: [own].into(),
            heard: BTreeMap::new(),
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
    fn send_message(&mut self, id: &ConversationId, taken: Taken, now: Timestamp) {
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
        let file = self.free_message_name(&place, &wanted);
        let message = self.random_16();
        let payload = Payload {
            id: MessageId(message),
            conversation: *id,
            participants: record.participants_hash(),
            time,
            incarnation: record.incarnation,
            counter: record.counter,
            introduction: None,
            profile: None,
            resent: 0,
            content: Some(Content { file_name, bytes: taken.bytes.clone() }),
        };

        let mut recipients = Vec::new();
        for recipient in record.participants().into_iter().filter(|participant| *participant != own) {
            let state = self.queue_message(&record, recipient, &payload, &file, now);
            recipients.push(Recipient {
                fingerprint: recipient,
                name: self.people.name(&recipient),
                state,
                since: now,
            });
        }
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
        let hash = sha256(&[&taken.bytes]);
        self.pending.place(place.join(&file), taken.bytes);
        self.pending.take(taken.path, taken.file, &taken.stat, &taken.directory, hash);
    }

    /// A name for a message that is free in its conversation's directory.
    pub(super) fn free_message_name(&self, place: &Path, wanted: &str) -> String {
        let mut names = (1..).map(|number| name::numbered_message(wanted, number));
        let free = names.find(|name| self.pending.is_free(&self.root, &place.join(name)));
        free.expect("a directory does not hold 2^32 names")
    }

    /// Seals a message for one recipient, or lets it wait for a session. The first one of the conversation introduces
    /// its participants; where both do not fit one envelope, the introduction goes ahead.
    pub(super) fn queue_message(
        &mut self,
        record: &ConversationRecord,
        recipient: Fingerprint,
        payload: &Payload,
        file: &str,
        now: Timestamp,
    ) -> State {
        if record.introduced.contains(&recipient) {
            let payload = self.with_news(&recipient, payload);
            return self.queue_payload(recipient, &payload, file, now);
        }
        if let Some(record) = self.conversations.get_mut(&record.id) {
            record.introduced.insert(recipient);
        }
        let introduction = self.introduction(record, payload);
        self.tell_by(&recipient, &introduction.profiles);
        let both = Payload { introduction: Some(introduction), ..payload.clone() };
        if both.to_bytes().len() <= PAYLOAD_BYTES_MAX {
            return self.queue_payload(recipient, &both, file, now);
        }
        let id = MessageId(self.random_16());
        self.queue_payload(recipient, &Payload { id, content: None, ..both }, "", now);
        let payload = self.with_news(&recipient, payload);
        self.queue_payload(recipient, &payload, file, now)
    }

    /// What somebody must know of a conversation: with everybody's newest profile or, where these have grown and do not
    /// fit one envelope, with those that it began with.
    fn introduction(&self, record: &ConversationRecord, payload: &Payload) -> Introduction {
        let introduction = |profiles: Vec<SignedProfile>| Introduction {
            subject: record.subject.clone(),
            created: record.created,
            profiles,
            salt: record.salt,
        };
        let newest =
            |profile: &SignedProfile| self.people.profile(&profile.identity().fingerprint()).unwrap_or(profile).clone();
        let renewed = introduction(record.profiles.iter().map(newest).collect());
        let alone = Payload { introduction: Some(renewed.clone()), content: None, ..payload.clone() };
        let fits = alone.to_bytes().len() <= PAYLOAD_BYTES_MAX;
        if fits { renewed } else { introduction(record.profiles.clone()) }
    }

    fn queue_payload(&mut self, recipient: Fingerprint, payload: &Payload, file: &str, now: Timestamp) -> State {
        let bytes = payload.to_bytes();
        // What already waits goes first, and all of it behind the check of our counter.
        let sealed = match self.spool.has_waiting(&recipient) || !self.counter.may_seal() {
            true => None,
            false => self
                .sessions
                .seal(&self.account.keys, &recipient, &bytes, now.seconds(), &mut self.rng)
                .expect("content and introduction are bounded so that they fit"),
        };
        let (form, state) = match sealed {
            Some(envelope) => {
                self.note_sent(recipient, payload, file, now);
                (Form::Sealed { envelope, opening: false }, State::Sealed)
            }
            None => (Form::Waiting(bytes), State::Queued),
        };
        // What is sent again leaves for all who lost it at once.
        let (message, conversation) = (payload.id, payload.conversation);
        let is_of_several = self.conversations.get(&conversation).is_some_and(|record| record.profiles.len() > 2);
        let spreads = is_of_several || payload.resent > 0;
        let item = Spooled { message, conversation, file: file.to_owned(), spreads, form };
        self.spool.push(recipient, item, now, &mut self.pending);
        state
    }
}

/// The next look finds it where it is then.
fn renamed() -> NotSent {
    NotSent::Waits("its directory was renamed or replaced a moment ago".into())
}

/// Whether a file can be moved out of its directory once it is recorded: what is recorded must not fail.
fn check_leaving(directory: &Path, taken: &Taken, root: &Root) -> Result<(), DirectoryFault> {
    let ours = rustix::process::geteuid().as_raw();
    let sticky = taken.directory.mode & libc::S_ISVTX != 0 && ours != 0 && taken.directory.owner != ours;
    if !root.disk().is_writable(&root.join(directory)) || (sticky && taken.stat.owner != ours) {
        return Err(DirectoryFault::NotWritable);
    }
    // The outbox as we know it: whatever is below it has been moved there.
    if taken.stat.device != root.disk().stat(&root.outbox()).map_err(|_| DirectoryFault::NotWritable)?.device {
        return Err(DirectoryFault::OtherFilesystem);
    }
    Ok(())
}

/// What stands in `outbox/` itself and is no directory.
fn stray(root: &Root, path: &Path) -> NotSent {
    match root.disk().stat(&root.join(path)) {
        Err(_) => NotSent::Gone,
        Ok(found) if found.kind == Kind::Symlink => NotSent::Refused(
            "This is a symbolic link, and links in the outbox are not followed.\n\
             Make a directory here, and put your files into it."
                .into(),
        ),
        Ok(_) => NotSent::Refused(
            "This file is in no conversation, so nobody would get it.\n\
             Move it into a directory named after its recipients, such as outbox/bob/."
                .into(),
        ),
    }
}

fn refused(error: OpenError) -> NotSent {
    let text = match error {
        OpenError::Absent => return NotSent::Gone,
        OpenError::Symlink => "This is a symbolic link, and links are not followed.\nCopy the file itself here.".into(),
        OpenError::NotRegular(OtherKind::Directory) => {
            "This is a directory, and a message is a file.\nMove its files up, or pack them into one.".into()
        }
        OpenError::NotRegular(_) => "This is no regular file.\nPut a plain file here.".into(),
        OpenError::Unreadable => "The daemon may not read this file.\nGive it read permission: chmod u+r.".into(),
        OpenError::TooLarge { size, limit } => {
            format!("This file has {size} bytes, and a message at most {limit}.\nSplit it, or send less.")
        }
        OpenError::Io(error) => return NotSent::Waits(format!("it cannot be read: {error}").into()),
    };
    NotSent::Refused(text)
}

#[cfg(test)]
mod tests {
    use super::super::account::Account;
    use super::super::contacts;
    use super::super::event::Event;
    use super::*;
    use crate::crypto::dh::SecretKey;
    use crate::disk::journal::Journal;
    use crate::disk::watch::Hint;
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
        let mut engine = Engine::load(root.clone()).unwrap();
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
