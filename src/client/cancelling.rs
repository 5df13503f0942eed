//! Taking a message back that has left the outbox: `outbox/.cancel/MESSAGE`, a file of any content whose name is the message's
//! id in hex, made by a person or `chatterbox cancel`. It goes away when what it asks for is done, and after `.delivery/`
//! says so.
//!
//! Whoever has all of the message keeps it. For everybody else it leaves their queue, and counts as failed; who has some of its
//! parts is told that the others will not come. What was on its way in that moment may arrive all the same, and an
//! acknowledgement then says so.
//!
//! A file that asks for what cannot be done stays, with `NAME.error` beside it, until somebody removes it. It asks for nothing
//! more until it is written anew, in later runs neither.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::delivery::{CANCELLED, State};
use super::engine::Engine;
use super::error_file;
use super::letting_go::Because;
use super::root::{CANCEL_DIRECTORY, NO_MESSAGE};
use crate::clock::Timestamp;
use crate::disk::open::FileIdentity;
use crate::limits::CANCEL_ERRORS_MAX;
use crate::name::is_ignored;
use crate::wire::control::{Control, Messages};
use crate::wire::identity::{ConversationId, Fingerprint, MessageId};
use crate::wire::sent::{Fate, SentKey};

/// [`CANCELLED`] where its envelope was handed to the network.
const REASON_DOUBTFUL: &str = "cancelled; it is not known whether it had arrived by then";

/// What is wrong with a name that is no id, and what to do.
const NO_ID: &str = "This is no message's id, which has 32 digits of 0-9 and a-f.\n\
     Give the file the name that stands behind `id:` in the message's file in .delivery/, or remove it.";

/// The same of an id that was perhaps mistyped.
const UNKNOWN: &str = "No message of yours with this id is on its way.\n\
     Compare it with the `id:` in the message's file in .delivery/, and remove this file if that says what became of it.";

/// The same of a message that is no longer here.
const TOO_LATE: &str = "This message cannot be taken back any more: the servers of all recipients have it, or it has failed.\n\
     Its file in .delivery/ says what became of it; remove this file.";

/// Files that ask for what cannot be done. It is not looked for again until somebody writes them anew: a message that is sent
/// once more later is not taken back by a forgotten file.
pub(super) type Uncancelled = BTreeMap<PathBuf, Refused>;

/// A file that asks for what cannot be done.
#[derive(Debug)]
pub(super) struct Refused {
    /// As it was when that was found. Where it is removed and made again within one tick of the file times, with as much in it
    /// and in the same inode, nothing tells it from what it was.
    identity: FileIdentity,
    /// What is to be said beside it once the batch is in place: who reads that finds in `.delivery/` what became of the
    /// message.
    unsaid: Option<&'static str>,
}

/// What one recipient does not have.
#[derive(Default)]
struct Lacking {
    places: Vec<u64>,
    /// Of a large content some parts were sealed.
    has_begun: bool,
    /// And some were not.
    lacks_parts: bool,
    /// It was sent before, and is about to be sent again.
    was_sent: bool,
}

impl Engine {
    /// Does what was asked for since the last look.
    pub(super) fn look_at_cancelled(&mut self, now: Timestamp) {
        if !std::mem::take(&mut self.cancels) {
            return;
        }
        let names = self.root.names(CANCEL_DIRECTORY);
        self.forget_uncancelled(&names);
        for name in names.into_iter().filter(|name| !is_ignored(name)) {
            if self.is_full() {
                self.cancels = true;
                return;
            }
            let path = Path::new(CANCEL_DIRECTORY).join(&name);
            let Ok(found) = self.root.disk().stat(&self.root.join(&path)) else { continue };
            if self.uncancelled.get(&path).is_some_and(|refused| refused.identity == found.identity()) {
                continue;
            }
            let message = name.to_str().and_then(MessageId::from_hex);
            let is_done = message.is_some_and(|message| message == NO_MESSAGE || self.cancel(message, now));
            // One that was written again is answered again, for somebody who waits for that.
            self.uncancelled.remove(&path);
            self.outbox.clear(&self.root, &path);
            if is_done || (!self.refuse_to_cancel(&path, message, found.identity()) && message.is_some()) {
                self.pending.remove(path);
            }
        }
    }

    /// Removes errors whose file is gone, or was written anew while no daemon ran.
    fn forget_uncancelled(&mut self, names: &[OsString]) {
        let there: HashSet<&OsStr> = names.iter().map(OsString::as_os_str).collect();
        let is_there = |path: &Path| path.file_name().is_some_and(|name| there.contains(name));
        let gone: Vec<PathBuf> = self.uncancelled.keys().filter(|path| !is_there(path)).cloned().collect();
        for path in gone {
            self.uncancelled.remove(&path);
            self.outbox.clear(&self.root, &path);
        }
        for path in names.iter().filter(|name| !is_ignored(name)).map(|name| Path::new(CANCEL_DIRECTORY).join(name)) {
            if is_there(&error_file::beside(&path)) && !self.uncancelled.contains_key(&path) {
                self.adopt_uncancelled(path);
            }
        }
        for name in names.iter().filter(|name| name.as_bytes().ends_with(b".error")) {
            let path = Path::new(CANCEL_DIRECTORY).join(name);
            if !self.uncancelled.keys().any(|target| error_file::beside(target) == path) {
                error_file::remove(&self.root, &self.root.join(path));
            }
        }
    }

    /// Counts a file as answered where a former run has said beside it what is wrong, and it was not written since.
    fn adopt_uncancelled(&mut self, path: PathBuf) {
        let error = self.root.join(error_file::beside(&path));
        let disk = self.root.disk();
        let (Ok(found), Ok(said)) = (disk.stat(&self.root.join(&path)), disk.stat(&error)) else { return };
        // A copy may keep the time of what was copied. Where both were copied, with all of the directory, these times tell.
        let is_copy = said.born_ns.is_some_and(|born| born > said.modified_ns);
        let born_ns = found.born_ns.filter(|_| !is_copy).unwrap_or(i64::MIN);
        let written_ns = found.modified_ns.max(born_ns);
        let is_answered = said.modified_ns >= written_ns && error_file::is_ours(&self.root, &error);
        if is_answered && self.uncancelled.len() < CANCEL_ERRORS_MAX {
            self.outbox.adopt(path.clone());
            self.uncancelled.insert(path, Refused { identity: found.identity(), unsaid: None });
        }
    }

    /// Notes what is to be said beside a file for which nothing can be taken back. False if there is no place for that.
    fn refuse_to_cancel(&mut self, path: &Path, message: Option<MessageId>, identity: FileIdentity) -> bool {
        if self.uncancelled.len() >= CANCEL_ERRORS_MAX {
            tracing::warn!("there are too many files in .cancel/ that ask for what cannot be done");
            return false;
        }
        if !error_file::has_place(&self.root, &self.root.join(path)) {
            return false;
        }
        let text = match message {
            None => NO_ID,
            Some(message) if self.sent.knows(&message) => TOO_LATE,
            Some(_) => UNKNOWN,
        };
        self.uncancelled.insert(path.to_owned(), Refused { identity, unsaid: Some(text) });
        true
    }

    /// What the last look found is in place, in `.delivery/` too: says beside files why nothing can be taken back.
    pub(super) fn say_uncancelled(&mut self) {
        let unsaid = |(path, refused): (&PathBuf, &mut Refused)| {
            refused.unsaid.take().map(|text| (path.clone(), refused.identity, text))
        };
        let unsaid: Vec<_> = self.uncancelled.iter_mut().filter_map(unsaid).collect();
        for (path, identity, text) in unsaid {
            // What was written anew meanwhile asks for something that was not looked for.
            let found = self.root.disk().stat(&self.root.join(&path));
            if !found.is_ok_and(|found| found.identity() == identity) {
                self.uncancelled.remove(&path);
                continue;
            }
            self.outbox.refuse(&self.root, &path, text);
            // Where the disk does not take it now it is said with the next commit.
            if let Some(refused) = self.uncancelled.get_mut(&path).filter(|_| !self.outbox.is_refused(&path)) {
                refused.unsaid = Some(text);
            }
        }
    }

    /// False if nothing of this message is left to be taken back.
    fn cancel(&mut self, message: MessageId, now: Timestamp) -> bool {
        let mut lacking: BTreeMap<Fingerprint, Lacking> = BTreeMap::new();
        let mut named: Option<(ConversationId, String)> = None;
        for found in self.spool.find(&message) {
            named = Some((found.conversation, found.file));
            let recipient = lacking.entry(found.recipient).or_default();
            recipient.places.push(found.sequence);
        }
        if let Some(large) = self.large.get(&message) {
            named = Some((large.conversation, large.file.clone()));
            for known in &large.recipients {
                let recipient = lacking.entry(known.fingerprint).or_default();
                recipient.has_begun = known.next > 0;
                recipient.lacks_parts = known.next < large.parts();
            }
        }
        if let Some(entry) = self.copying.resent(&message) {
            named = Some((entry.conversation, entry.file.clone()));
            lacking.entry(entry.recipient).or_default().was_sent = true;
        }
        let Some((conversation, file)) = named else { return false };
        for (recipient, Lacking { places, has_begun, lacks_parts, was_sent }) in lacking {
            self.note_unsealed(recipient, &places, now);
            self.note_unsealed_large(recipient, &message, now);
            let gone = self.let_go(recipient, &places, Because::GivenUp, now);
            let left = gone.iter().filter(|removed| removed.may_have_arrived).count();
            // What did not go could not be read just now: it may leave before it can.
            let is_doubtful = left > 0 || gone.len() < places.len();
            let is_held_back = lacks_parts || gone.len() > left;
            let is_large = self.large.end(&message, &recipient);
            let was_sent = was_sent || self.sent.was_sent_again(&SentKey { recipient, conversation, message });
            // A large content of which something was held back is not whole anywhere, where it is sent for the first time.
            let may_be_whole = was_sent || (is_doubtful && !(is_large && is_held_back));
            let reason = if may_be_whole { REASON_DOUBTFUL } else { CANCELLED };
            self.set_state_quietly(&conversation, &file, &recipient, State::Failed(reason.to_owned()), now);
            // Who asks for it again does not get it, and is told so.
            self.sent.decide(&SentKey { recipient, conversation, message }, Fate::Refused, &mut self.pending);
            if !self.spool.has_any(&recipient) {
                self.trouble.remove(&recipient);
            }
            if has_begun {
                let cancelled = vec![Messages { conversation, ids: vec![message] }];
                self.queue_note(recipient, &Control { cancelled, ..Control::default() }, now);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use zeroize::Zeroizing;

    use super::*;
    use crate::client::assembling::tests::Bench;
    use crate::client::event::Event;
    use crate::client::outbox::Outbox;
    use crate::wire::sent::SentEntry;
    use crate::wire::spool::{Form, Spooled};

    fn look(bench: &mut Bench) {
        bench.engine.cancels = true;
        bench.engine.look_at_cancelled(bench.now);
        bench.settle();
    }

    fn path(name: &str) -> PathBuf {
        Path::new(CANCEL_DIRECTORY).join(name)
    }

    fn ask(bench: &mut Bench, names: &[&str]) {
        names.iter().for_each(|name| fs::write(bench.root.join(path(name)), "").unwrap());
        look(bench);
    }

    /// What stands in `.cancel/`.
    fn there(bench: &Bench) -> Vec<String> {
        let mut names: Vec<String> =
            bench.root.names(CANCEL_DIRECTORY).into_iter().map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn says(bench: &Bench, name: &str) -> String {
        error_file::read(&bench.root, &bench.root.join(error_file::beside(&path(name)))).unwrap_or_default()
    }

    fn remember(bench: &mut Bench, message: MessageId) {
        let sealed = bench.now.seconds();
        let entry = SentEntry { message, ..bench.sent_entry(1) };
        bench.engine.sent.add(entry, sealed, &mut bench.engine.pending);
    }

    /// A message to alice waits for a session.
    fn queue(bench: &mut Bench, message: MessageId) {
        let waiting = Spooled {
            message,
            conversation: bench.conversation.id,
            file: "file".to_owned(),
            is_part: false,
            spreads: false,
            form: Form::Waiting(Zeroizing::new(vec![1])),
        };
        bench.engine.spool.push(bench.alice, waiting, bench.now, &mut bench.engine.pending);
        bench.settle();
    }

    #[test]
    fn what_cannot_be_taken_back_is_told_of_beside_it_until_it_is_removed() {
        let mut bench = Bench::new();
        let (late, unknown) = (MessageId([1; 16]), MessageId([2; 16]).to_string());
        remember(&mut bench, late);
        let late = late.to_string();
        fs::write(bench.root.join(path("own.error")), "a log of mine\n").unwrap();
        let left = [".draft", "#draft#", "draft.tmp", "draft~", "own.error"];
        ask(
            &mut bench,
            &[".draft", "#draft#", "draft.tmp", "draft~", &late, &unknown, "plan.pdf", &NO_MESSAGE.to_string()],
        );
        let names = [late.as_str(), &unknown, "plan.pdf"];
        let errors = names.map(|name| format!("{name}.error"));
        let mut expected: Vec<&str> = left.into_iter().chain(names).chain(errors.iter().map(String::as_str)).collect();
        expected.sort_unstable();
        assert_eq!(there(&bench), expected);
        for (name, text) in names.into_iter().zip([TOO_LATE, UNKNOWN, NO_ID]) {
            assert_eq!(says(&bench, name), format!("{text}\n"));
            assert_eq!(text.lines().count(), 2);
        }
        let refused = bench.engine.status(None, std::iter::empty()).refused;
        assert_eq!(refused, names.map(|name| format!("outbox/.cancel/{name}")));
        // Another run finds them, and those whose file went meanwhile.
        bench.engine.outbox = Outbox::default();
        bench.engine.uncancelled.clear();
        fs::remove_file(bench.root.join(path(&late))).unwrap();
        look(&mut bench);
        assert!(says(&bench, &late).is_empty() && says(&bench, &unknown).starts_with("No message"));
        for name in [unknown.as_str(), "plan.pdf"] {
            fs::remove_file(bench.root.join(path(name))).unwrap();
        }
        look(&mut bench);
        assert_eq!(
            there(&bench),
            left.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        );
        assert!(bench.engine.status(None, std::iter::empty()).refused.is_empty());
    }

    #[test]
    fn a_request_is_answered_once_and_again_when_it_is_written_anew() {
        let mut bench = Bench::new();
        let id = MessageId([2; 16]).to_string();
        ask(&mut bench, &[&id]);
        let error = bench.root.join(error_file::beside(&path(&id)));
        fs::remove_file(&error).unwrap();
        look(&mut bench);
        assert!(!error.exists(), "nothing has changed");
        fs::remove_file(bench.root.join(path(&id))).unwrap();
        remember(&mut bench, MessageId([2; 16]));
        // With something in it: all else may be the same, where file times are coarse and inodes are used again.
        fs::write(bench.root.join(path(&id)), "again").unwrap();
        look(&mut bench);
        assert_eq!(says(&bench, &id), format!("{TOO_LATE}\n"));
    }

    /// A request that was refused, its message that is sent again in the next run, and whether it is taken back by what is done
    /// to the request, and the error beside it, while no daemon runs.
    fn is_taken_back_after(done: impl FnOnce(&Path, &Path)) -> bool {
        let mut bench = Bench::new();
        let message = MessageId([2; 16]);
        remember(&mut bench, message);
        let id = message.to_string();
        ask(&mut bench, &[&id]);
        assert_eq!(says(&bench, &id), format!("{TOO_LATE}\n"));
        done(&bench.root.join(path(&id)), &bench.root.join(error_file::beside(&path(&id))));
        bench.restart();
        queue(&mut bench, message);
        let trouble = |bench: &mut Bench| {
            let (recipient, reason) = (bench.alice, "connecting: refused".to_owned());
            bench.engine.handle(Event::Trouble { recipient, reason }, bench.now).unwrap();
        };
        trouble(&mut bench);
        look(&mut bench);
        let is_troubled = |bench: &Bench| !bench.engine.trouble.is_empty();
        let was_troubled = is_troubled(&bench);
        trouble(&mut bench);
        let is_gone = bench.engine.spool.find(&message).is_empty();
        let (says, refused) = (says(&bench, &id), bench.engine.status(None, std::iter::empty()).refused);
        match is_gone {
            true => {
                assert!(there(&bench).is_empty() && refused.is_empty());
                assert!(!was_troubled && !is_troubled(&bench), "nothing waits for them");
            }
            false => assert_eq!((says, refused), (format!("{TOO_LATE}\n"), vec![format!("outbox/.cancel/{id}")])),
        }
        is_gone
    }

    #[test]
    fn what_was_answered_in_a_former_run_asks_for_nothing_until_it_is_written_anew() {
        assert!(!is_taken_back_after(|_, _| {}));
        let later = SystemTime::now() + Duration::from_secs(10);
        assert!(is_taken_back_after(|request, _| fs::File::create(request).unwrap().set_modified(later).unwrap()));
        // The directory was copied as a whole: what is old looks new, but for its times.
        assert!(!is_taken_back_after(|request, error| {
            for path in [request, error] {
                let (bytes, written) = (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap());
                fs::remove_file(path).unwrap();
                fs::write(path, bytes).unwrap();
                fs::File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
            }
        }));
        // As the program does it.
        assert!(is_taken_back_after(|_, error| fs::remove_file(error).unwrap()));
    }

    #[test]
    fn an_error_is_written_when_what_the_batch_says_of_the_message_is_in_place() {
        let mut bench = Bench::new();
        let (late, anew) = (MessageId([2; 16]).to_string(), MessageId([3; 16]).to_string());
        remember(&mut bench, MessageId([2; 16]));
        [&late, &anew].iter().for_each(|name| fs::write(bench.root.join(path(name)), "").unwrap());
        bench.engine.cancels = true;
        bench.engine.look_at_cancelled(bench.now);
        assert_eq!(there(&bench), [late.clone(), anew.clone()]);
        fs::write(bench.root.join(path(&anew)), "again").unwrap();
        bench.settle();
        assert_eq!(says(&bench, &late), format!("{TOO_LATE}\n"));
        // That was not looked for yet.
        assert!(says(&bench, &anew).is_empty());
        look(&mut bench);
        assert_eq!(says(&bench, &anew), format!("{UNKNOWN}\n"));
    }

    #[test]
    fn where_somebodys_own_file_stands_in_the_place_of_an_error_a_request_goes_without_one() {
        let mut bench = Bench::new();
        let id = MessageId([2; 16]).to_string();
        let own = format!("{id}.error");
        fs::write(bench.root.join(path(&own)), "a log of mine\n").unwrap();
        ask(&mut bench, &[&id]);
        assert_eq!(there(&bench), [own.as_str()]);
        assert_eq!(fs::read_to_string(bench.root.join(path(&own))).unwrap(), "a log of mine\n");
    }

    #[test]
    fn beyond_so_many_errors_requests_go_without_one_and_others_wait_for_a_place() {
        let mut bench = Bench::new();
        let ids: Vec<String> = (1..=66).map(|id| MessageId([id; 16]).to_string()).collect();
        for id in &ids {
            ask(&mut bench, &[id]);
        }
        ask(&mut bench, &["plan.pdf"]);
        assert_eq!(there(&bench).len(), 2 * CANCEL_ERRORS_MAX + 1);
        assert!(says(&bench, "plan.pdf").is_empty());
        fs::remove_file(bench.root.join(path(&ids[0]))).unwrap();
        look(&mut bench);
        assert!(!says(&bench, "plan.pdf").is_empty());
        assert_eq!(there(&bench).len(), 2 * CANCEL_ERRORS_MAX);
    }

    #[test]
    fn what_stands_there_is_no_message_also_where_the_directory_cannot_be_watched() {
        let mut bench = Bench::new();
        fs::write(bench.root.join(path("plan.pdf")), "text").unwrap();
        bench.engine.watched(Path::new(CANCEL_DIRECTORY));
        assert!(bench.engine.cancels && bench.engine.outbox.next().is_none());
    }
}
