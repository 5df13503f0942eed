//! Outbox directories, as `new` and `send` find or make them (design, section 2, "Sending").

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::causes;
use super::context::Context;
use super::conversations::{self, Directory};
use super::output;
use crate::app::failure::{Exit, Failure};
use crate::client::contacts::Contact;
use crate::client::metadata::{self, Metadata};
use crate::disk::real::RealDisk;
use crate::disk::{atomic, open};
use crate::limits::{METADATA_FILE_BYTES_MAX, PARTICIPANTS_MAX, SUBJECT_BYTES_MAX};
use crate::name;
use crate::name::NAME_TRIES_MAX;
use crate::wire::identity::{ConversationId, Fingerprint};

/// A conversation that somebody names on the command line.
#[derive(Debug, clap::Args)]
pub(super) struct Addressed {
    /// Use or open the conversation with this subject; without it, the one that has none
    #[arg(short, long)]
    subject: Option<String>,
    /// Contacts, as `chatterbox contact list` names them, or one conversation, as `chatterbox list` does
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,
}

/// Whom a message goes to: checked, nothing made yet.
#[derive(Debug)]
pub(super) struct Addressees<'a> {
    context: &'a Context,
    contacts: Vec<&'a Contact>,
    subject: String,
    /// The outbox directory of a conversation that was named itself.
    standing: Option<PathBuf>,
}

impl Addressed {
    /// Checks the names and the subject.
    pub(super) fn resolve<'a>(&self, doing: &str, context: &'a Context) -> Result<Addressees<'a>, Failure> {
        let contacts = match context.contacts(doing, &self.names) {
            Ok(_) if self.is_ambiguous(context) => {
                let name = output::safe(&self.names[0]);
                let cause = format!("a contact and a conversation are both called {name}");
                let remedy = "Rename one of the two: `mv` in contacts/, or in conversations/.";
                return Err(Failure::new(Exit::Usage, doing, cause, remedy));
            }
            Ok(contacts) => contacts,
            Err(failure) => {
                let Some(conversation) = self.conversation(context) else { return Err(failure) };
                let name = &conversation.name;
                let Some(directory) = outbox_of(context, &conversation) else {
                    return Err(failure.or(&format!(
                        "If the conversation {} is meant: there is no directory for it in outbox/ any more.",
                        output::safe(name)
                    )));
                };
                if self.subject.is_none() && self.is_name_of(&conversation) {
                    let standing = Some(directory);
                    return Ok(Addressees { context, contacts: Vec::new(), subject: String::new(), standing });
                }
                return Err(failure.or(&format!(
                    "If the conversation is meant: `chatterbox send {}`, or a file in its directory, {}/.",
                    name::shell_word(name),
                    output::shown(directory.strip_prefix(context.root.path()).unwrap_or(&directory))
                )));
            }
        };
        let usage = |cause: String, remedy: &str| Err(Failure::new(Exit::Usage, doing, cause, remedy));
        if contacts.len() >= PARTICIPANTS_MAX {
            let cause = format!("{} participants, you included, are more than {PARTICIPANTS_MAX}", contacts.len() + 1);
            return usage(cause, "Split the conversation.");
        }
        let subject = self.subject.clone().unwrap_or_default();
        if subject.len() > SUBJECT_BYTES_MAX {
            let cause = format!("the subject has {} bytes, {SUBJECT_BYTES_MAX} are allowed", subject.len());
            return usage(cause, "Shorten the subject.");
        }
        if subject.chars().any(char::is_control) {
            return usage("the subject has control characters in it".into(), "Write it on one line, without tabs.");
        }
        Ok(Addressees { context, contacts, subject, standing: None })
    }

    /// The conversation that is meant where not all of the names are contacts': its own name, or that of a conversation with
    /// just these people, as they are called there.
    pub(super) fn conversation(&self, context: &Context) -> Option<Directory> {
        let mut all = conversations::conversations(context).unwrap_or_default();
        // With those alone who are blocked there is no talking.
        let is_blocked = |who: &Option<Fingerprint>| who.is_some_and(|who| context.people.is_blocked(&who));
        all.retain(|directory| !directory.others(&context.people).iter().all(|(_, who)| is_blocked(who)));
        let names: BTreeSet<&str> = self.names.iter().map(String::as_str).collect();
        let has_these = |directory: &Directory| {
            let others = directory.others(&context.people);
            others.iter().map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>() == names
        };
        let by_name = all.iter().position(|directory| self.is_name_of(directory));
        let found = by_name.or_else(|| all.iter().position(has_these))?;
        Some(all.swap_remove(found))
    }

    /// Whether the only name is a conversation's as well as a contact's: which of them is meant nobody can tell.
    ///
    /// One look, however many conversations there are.
    fn is_ambiguous(&self, context: &Context) -> bool {
        let [name] = &self.names[..] else { return false };
        let is_one = !name.contains('/') && ![".", ".."].contains(&name.as_str());
        is_one && context.root.conversations().join(name).join(metadata::FILE).is_file()
    }

    fn is_name_of(&self, directory: &Directory) -> bool {
        matches!(&self.names[..], [name] if name.trim_end_matches('/') == directory.name)
    }
}

/// The directory in the outbox that means a conversation, whatever it is called: that of the same name, if there are several.
fn outbox_of(context: &Context, conversation: &Directory) -> Option<PathBuf> {
    let id = conversation.described.as_ref()?.id?;
    let outbox = context.root.outbox();
    let means_it = |name: &OsString| {
        let directory = outbox.join(name);
        // A link, as in every other case, is not followed.
        let stands = fs::symlink_metadata(&directory).is_ok_and(|found| found.is_dir());
        let text = open::read_text(&RealDisk, &directory.join(metadata::FILE), METADATA_FILE_BYTES_MAX);
        let described = text.filter(|_| stands).and_then(|text| Metadata::describe(&text).ok());
        described.is_some_and(|described| described.id == Some(id))
    };
    let own = OsString::from(&conversation.name);
    if means_it(&own) {
        return Some(outbox.join(own));
    }
    let mut names = context.root.names("outbox");
    names.sort_unstable();
    names.into_iter().find(means_it).map(|name| outbox.join(name))
}

impl Addressees<'_> {
    /// The outbox directory of the conversation, made if there is none.
    pub(super) fn directory(&self, doing: &str) -> Result<PathBuf, Failure> {
        if let Some(standing) = &self.standing {
            return Ok(standing.clone());
        }
        let outbox = self.context.root.outbox();
        atomic::make_private_directory(&RealDisk, &outbox).map_err(|error| causes::disk(doing, &error))?;
        if self.subject.is_empty() { self.listed(doing, &outbox) } else { self.with_subject(doing, &outbox) }
    }

    fn names(&self) -> Vec<String> {
        self.contacts.iter().map(|contact| contact.name.clone()).collect()
    }

    /// `outbox/NAME,…`, which always means the same conversation.
    fn listed(&self, doing: &str, outbox: &Path) -> Result<PathBuf, Failure> {
        let directory = self.names().join(",");
        if directory.len() > name::NAME_BYTES_MAX {
            let cause = format!("the names together are longer than {} bytes", name::NAME_BYTES_MAX);
            return Err(Failure::new(Exit::Usage, doing, cause, "Give the conversation a subject with -s SUBJECT."));
        }
        let path = outbox.join(directory);
        atomic::make_private_directory(&RealDisk, &path).map_err(|error| causes::disk(doing, &error))?;
        // chatterboxd does not follow links, so a message behind one would never leave.
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() && self.means_other_people(&path) => {
                let cause = format!("{} means another conversation", output::shown(&path));
                let remedy = "Its metadata.toml says which. Rename that directory, or the contact.";
                Err(Failure::new(Exit::Usage, doing, cause, remedy))
            }
            Ok(found) if found.is_dir() => Ok(path),
            _ => {
                let cause = format!("{} is no directory", output::shown(&path));
                Err(Failure::new(Exit::CannotCreate, doing, cause, "Move away what has its name."))
            }
        }
    }

    /// Whether a directory that is called as `listed` calls it was made for other people than these.
    fn means_other_people(&self, path: &Path) -> bool {
        let text = open::read_text(&RealDisk, &path.join(metadata::FILE), METADATA_FILE_BYTES_MAX);
        let Some(text) = text else { return false };
        let participants = self.participants();
        // Where it has none it names contacts. What cannot be understood is refused by chatterboxd, which says why.
        match Metadata::describe(&text).ok().and_then(|described| described.id) {
            Some(id) => id != ConversationId::of_participants(&participants),
            None => {
                Metadata::parse(&text, &self.context.people).is_ok_and(|metadata| metadata.participants != participants)
            }
        }
    }

    /// Everybody, ourselves included, sorted.
    fn participants(&self) -> Vec<Fingerprint> {
        let theirs = self.contacts.iter().map(|contact| contact.profile.identity().fingerprint());
        let all: BTreeSet<Fingerprint> = theirs.chain([self.context.people.own_fingerprint()]).collect();
        all.into_iter().collect()
    }

    /// The directory whose metadata has this subject and these participants; else a new one, built in scratch with its
    /// metadata, so that the daemon never sees it without.
    fn with_subject(&self, doing: &str, outbox: &Path) -> Result<PathBuf, Failure> {
        let wanted = name::outbox_directory(&self.names(), &self.subject);
        let failed = |error: &io::Error| Failure::io(doing, error, "Check that the directory outbox/ is yours.");
        for number in 1..=NAME_TRIES_MAX {
            // Again before every try: whoever took the name may have opened this very conversation.
            if let Some(found) = self.find(outbox).map_err(|error| failed(&error))? {
                return Ok(found);
            }
            let path = outbox.join(name::numbered_directory(&wanted, number));
            let scratch = self.context.scratch(doing)?;
            let built = tempfile::Builder::new().prefix("new-").tempdir_in(&scratch).map_err(|error| failed(&error))?;
            let text = Metadata::request(&self.names(), &self.subject);
            atomic::create_new(&RealDisk, &scratch, &built.path().join(metadata::FILE), text.as_bytes())
                .map_err(|error| causes::disk(doing, &error))?;
            match rename_directory_new(built.path(), &path) {
                Ok(()) => {
                    // Its scratch name is gone; nothing is to be removed.
                    let _ = built.keep();
                    atomic::sync_directory(&RealDisk, outbox).map_err(|error| causes::disk(doing, &error))?;
                    return Ok(path);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        let cause = format!("{NAME_TRIES_MAX} names like {} are taken", output::safe(&wanted));
        Err(Failure::new(Exit::CannotCreate, doing, cause, "Tidy the directory outbox/ up."))
    }

    fn find(&self, outbox: &Path) -> io::Result<Option<PathBuf>> {
        let participants = self.participants();
        let mut directories: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(outbox)? {
            let entry = entry?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if entry.file_type()?.is_dir() && !hidden {
                directories.push(entry.file_name());
            }
        }
        // Names begin with a date where the daemon made them: the oldest of several, and the same one each time.
        directories.sort_unstable();
        let matches = |path: &PathBuf| {
            let bytes = open::read_regular(&RealDisk, &path.join(metadata::FILE), METADATA_FILE_BYTES_MAX).ok()?;
            let metadata = Metadata::parse(std::str::from_utf8(&bytes).ok()?, &self.context.people).ok()?;
            Some(metadata.subject == self.subject && metadata.participants == participants)
        };
        Ok(directories.into_iter().map(|name| outbox.join(name)).find(|path| matches(path) == Some(true)))
    }
}

/// Renames a directory to a free name; `AlreadyExists` if it is taken.
fn rename_directory_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Where a filesystem lacks it: an empty directory of our own holds the name, and a rename replaces only that.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::create_dir(to)?;
            fs::rename(from, to)
        }
        result => Ok(result?),
    }
}
